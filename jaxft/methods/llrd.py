"""Layer-wise decay of the learning rate: lower layers move less."""

import jax.numpy as jnp

from jaxft import tree
from jaxft.types import Ctx, Method, Params, Share, Tx


def llrd(decay: Share = 0.95) -> Method:
    """Each layer's updates are `decay` times those of the layer above; head and pooler keep the full rate.

    Howard and Ruder 2018, "Universal language model fine-tuning for text classification" (arXiv 1801.06146), section
    3.2, as in Zhang et al. 2021 (arXiv 2006.05987), section 4: with L layers, counted from 0,

        lr of layer i = lr * decay^(L - i),   lr of the embeddings = lr * decay^(L + 1)

    applied to what comes out of Adam, its weight decay included.

    Owns: everything, as vanilla.
    Off: decay=1.
    Hazards: with decay=0 only head and pooler move. (In the code of Zhang et al. the head has no weight decay then; here
    it keeps it.) Later formulas begin with decay^0 at the top layer, or give the pooler a step of its own (ELECTRA).
    """

    def tx(inner: Tx) -> Tx:
        def update(grads: Params, state, params: Params, ctx: Ctx):
            updates, state = inner.update(grads, state, params, ctx)
            there, rate = tree.depth(ctx.w0), jnp.asarray(decay, jnp.float32)

            def slowed(name: str, x):
                height = tree.height(name)
                if height is not None:
                    return x * rate ** (there - height)
                return x * rate ** (there + 1) if tree.layer(name) == "embeddings" else x

            return {name: slowed(name, x) for name, x in updates.items()}, state

        return Tx(inner.init, update)

    return Method(tx=tx)
