"""Adapters: small networks between frozen layers."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxft import keys, tree
from jaxft.errors import BadInput
from jaxft.models.ports import ADAPTERS
from jaxft.types import Count, Method, Params, Positive


def adapter(size: Count = 64, std: Positive = 1e-3) -> Method:
    """Adds two small networks to each layer, after its attention and after its feed-forward, and trains these.

    What either part gives, after its dropout and before it is added to the part's input, becomes

        x + gelu(x D + d) U + u
        at the start  D [width, size] and U [size, width] from N(0, std^2) cut at 2 std,   d = u = 0

    which is nearly x. The draws come from the trial's init seed and the names.

    Owns: the adapters, all LayerNorms and the head; pooler, embeddings and the layers' own maps stay. Weight decay acts
    on D and U as on any kernel. Adapters cannot be folded into the encoder: to write its weights is refused
    (`models.merged`).
    Off: at no setting is it vanilla.
    Hazards: a pooler that the checkpoint lacks stays random. Rates of 3e-5 to 3e-3 in the paper.

    Args:
        size: the inner width; 8, 64 and 256 in the paper.
        std: of the first kernels; from 1e-2 on a larger one harms, says the paper.

    Raises:
        BadInput: the model is no transformer (when the method is traced).

    Source:
        Houlsby et al. 2019, "Parameter-efficient transfer learning for NLP" (arXiv 1902.00751), section 2.1, figure 2.
    """

    def start(w0: Params, key: Key[Array, ""]) -> Params:
        ports: Params = {}
        if "layers/0/output/kernel" not in w0:
            raise BadInput("method.adapter: its places are the layers of a transformer, and the model has none")
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
    """The start of a kernel, before its scale: N(0, 1) cut at 2."""
    return jax.random.truncated_normal(keys.named(key, name), -2.0, 2.0, shape, jnp.float32)
