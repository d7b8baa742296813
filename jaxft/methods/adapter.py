"""Adapters: small networks between frozen layers."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxft import keys, tree
from jaxft.models.ports import ADAPTERS
from jaxft.types import Count, Method, Params, Positive


def adapter(size: Count = 64, std: Positive = 1e-3) -> Method:
    """Two small networks are added to each layer and trained, after its attention and after its feed-forward.

    Houlsby et al. 2019, "Parameter-efficient transfer learning for NLP" (arXiv 1902.00751), section 2.1 and figure 2: what
    either part gives, after its dropout and before it is added to its input, becomes

        x + gelu(x D + d) U + u,   D [width, size] and U [size, width] from N(0, std^2) cut at 2 std,   d = u = 0

    which is nearly the identity at the start.

    Owns: the adapters, all LayerNorms and the head; pooler, embeddings and the layers' own maps are frozen. Weight decay
    acts on D and U as on any kernel. Adapters cannot be folded into the encoder: writing the weights of such a trial is
    refused (`models.merged`).
    Off: at no setting.
    Hazards: the paper tries sizes of 8, 64 and 256 and rates of 3e-5 to 3e-3. A pooler that the checkpoint lacks stays
    random.
    """

    def start(w0: Params, key: Key[Array, ""]) -> Params:
        ports: Params = {}
        for layer in range(tree.depth(w0)):
            width = w0[f"layers/{layer}/output/kernel"].shape[1]
            for part in ADAPTERS:
                for side, shape in (("down", (width, size)), ("up", (size, width))):
                    name = f"layers/{layer}/{part}/{side}"
                    ports[f"{name}/kernel"] = std * drawn(key, f"{name}/kernel", shape)
                    ports[f"{name}/bias"] = jnp.zeros(shape[1], jnp.float32)
        return {**w0, **ports}

    def own(params: Params, w0: Params, key) -> Params:
        def trained(name: str) -> bool:
            parts = name.split("/")
            return any(part in ADAPTERS or part.endswith("norm") for part in parts) or tree.head(name)

        return {name: x for name, x in params.items() if trained(name)}

    return Method(start=start, own=own)


def drawn(key: Key[Array, ""], name: str, shape: tuple[int, int]) -> Float[Array, "inputs outputs"]:
    """The start of a kernel, of std 1: normal, cut at 2."""
    return jax.random.truncated_normal(keys.named(key, name), -2.0, 2.0, shape, jnp.float32)
