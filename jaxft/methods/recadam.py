"""RecAdam: from recalling what was pretrained to learning the task."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxft import tree
from jaxft.types import Ctx, Method, NotNegative, Params, Tx


def recadam(gamma: NotNegative = 5000.0, k: NotNegative = 0.5, t0: float = 250.0) -> Method:
    """Pulls towards the pretrained weights at first, outside of Adam's moments, and lets go as it learns the task.

    With W0 the replica's start, p before the step, lr the step's rate, and steps t counted from 1:

        s = 1 / (1 + exp(-k (t - t0)))
        p <- p + s * Adam's update - lr * (1 - s) * gamma * (p - W0)

    in all but the head, which trains as it would without.

    Owns: what it would without.
    Off: at k = 1 and t0 = -1000000 it is vanilla: s is 1 from the first step on.
    Hazards: where lr * gamma is above 2 it diverges: 5000 is for rates about 2e-5. In a training much shorter than t0
    all but the head stays where it was. The authors' code takes the terms one after the other, so that it pulls p after
    Adam's update, and leaves weight decay unscaled, which is part of Adam's update here. A pooler that the checkpoint
    lacks is pulled towards its random start.

    Args:
        gamma: how strong the pull is; 5000 in the paper.
        k: how fast s rises; 0.05 to 1 in the paper.
        t0: the step at which s is 1/2; 100 to 1000 in the paper.

    Source:
        Chen, Hou, Cui, Che, Liu and Yu 2020, "Recall and learn" (arXiv 2004.12651), section 3, algorithm 1.
    """

    def tx(inner: Tx) -> Tx:
        def update(grads: Params, state, params: Params, ctx: Ctx):
            updates, state = inner.update(grads, state, params, ctx)
            s = jax.nn.sigmoid(k * (jnp.asarray(ctx.step + 1, jnp.float32) - t0))
            pull = ctx.lr * (1 - s) * gamma

            def recalled(name: str, x: Array) -> Array:
                return x if tree.head(name) else s * x - pull * (params[name] - ctx.w0[name])

            return {name: recalled(name, x) for name, x in updates.items()}, state

        return Tx(inner.init, update)

    return Method(tx=tx)
