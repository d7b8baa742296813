"""Ports: where a method may add parameters to an encoder. One is there if its parameters are, and else costs nothing.

Any linear map takes a low-rank one beside it (Hu et al. 2022): "layers/0/query/lora_a" [inputs, rank], ".../lora_b"
[rank, outputs] and ".../lora_scale" []. A layer takes an adapter after its attention and one after its feed-forward
(Houlsby et al. 2019): "layers/0/attention_adapter/down/kernel" [D, size], ".../up/kernel" [size, D] and biases, and the
same of "output_adapter". `methods/` adds them; `layers.py` reads them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array

from jaxft.errors import BadInput
from jaxft.types import Anywhere

ADAPTERS = ("attention_adapter", "output_adapter")
"""Of a layer, in the order in which it comes to them."""

LOW = ("lora_a", "lora_b", "lora_scale")
"""Of a linear map."""


class Low(NamedTuple):
    """A low-rank map: x -> scale (x a) b."""

    a: Array
    b: Array
    scale: Array


def low(module: Any) -> Low | None:
    """The low-rank map beside a linear one, if there is one; `module` is the linen module of the linear one."""
    if not module.has_variable("params", LOW[0]):
        return None
    return Low(*(module.get_variable("params", leaf) for leaf in LOW))


def added(name: str) -> bool:
    """Whether a parameter is of a port, and none of the encoder's own."""
    *path, leaf = name.split("/")
    return leaf in LOW or any(part in ADAPTERS for part in path)


def merged(params: Mapping[str, Anywhere]) -> dict[str, np.ndarray]:
    """The same model without ports, on the host: W + scale a b for each W with a low-rank map beside it.

    Folded in float64 and rounded once. What has no ports comes back as it is.

    Raises:
        BadInput: there are adapters, which no weights of the plain encoder can stand for.
    """
    adapters = sorted({name.rsplit("/", 2)[0] for name in params if added(name) and name.rsplit("/", 1)[-1] not in LOW})
    if adapters:
        raise BadInput(
            f"method.adapter: {adapters[0]} and {len(adapters) - 1} more cannot be folded into the encoder's weights, "
            "and no checkpoint of its kind can hold them; the weights of any other method can be written"
        )
    return folded(params)


def folded(params: Mapping[str, Anywhere]) -> dict[str, np.ndarray]:
    """The same model without low-rank maps, likewise; adapters stay."""
    found = {name: np.asarray(value) for name, value in params.items() if name.rsplit("/", 1)[-1] not in LOW}
    for name in params:
        module, _, leaf = name.rpartition("/")
        if leaf == LOW[0]:
            a, b, scale = (np.asarray(params[f"{module}/{leaf}"], np.float64) for leaf in LOW)
            kernel = found[f"{module}/kernel"]
            found[f"{module}/kernel"] = (kernel + scale * (a @ b)).astype(kernel.dtype)
    return found
