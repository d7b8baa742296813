"""Layer-wise decay of the learning rate: lower layers move less."""

import jax.numpy as jnp
from jaxtyping import Array

from jaxft import tree
from jaxft.types import Ctx, Method, Params, Share, Tx


def llrd(decay: Share = 0.95) -> Method:
    """Moves each layer `decay` times as far as the layer above; head and pooler have the full rate.

    Of L layers, counted from 0, with lr the step's rate:

        lr of layer i = lr * decay^(L - i),   lr of the embeddings = lr * decay^(L + 1)

    It acts on what comes out of Adam, so on its weight decay too.

    Owns: what it would without.
    Off: at decay = 1 it is vanilla.
    Hazards: others count otherwise, with decay^0 at the top layer, or a step of its own for the pooler (ELECTRA). The
    code of the paper takes weight decay from the head; here the head keeps it. At decay = 0 only head and pooler move.

    Args:
        decay: the factor from one layer to the next below; 0.95 in the paper.

    Source:
        Zhang et al. 2021, "Revisiting few-sample BERT fine-tuning" (arXiv 2006.05987), section 4, and its code; after
        Howard and Ruder 2018 (arXiv 1801.06146), section 3.2.
    """

    def tx(inner: Tx) -> Tx:
        def update(grads: Params, state, params: Params, ctx: Ctx):
            updates, state = inner.update(grads, state, params, ctx)
            there, factor = tree.depth(ctx.w0), jnp.asarray(decay, jnp.float32)

            def slowed(name: str, x: Array) -> Array:
                height = tree.height(name)
                if height is not None:
                    return x * factor ** (there - height)
                return x * factor ** (there + 1) if tree.layer(name) == "embeddings" else x

            return {name: slowed(name, x) for name, x in updates.items()}, state

        return Tx(inner.init, update)

    return Method(tx=tx)
