"""RecAdam: from recalling what was pretrained to learning the task."""

import jax
import jax.numpy as jnp

from jaxft import tree
from jaxft.types import Ctx, Method, NotNegative, Params, Tx


def recadam(gamma: NotNegative = 5000.0, k: NotNegative = 0.5, t0: float = 250.0) -> Method:
    """A pull towards the pretrained weights that is annealed, beside Adam and outside of its moments.

    Chen, Hou, Cui, Che, Liu and Yu 2020, "Recall and learn: fine-tuning deep pretrained language models with less
    forgetting" (arXiv 2004.12651), equations 6 to 8 and algorithm 1: at step t, from 1,

        s(t) = 1 / (1 + exp(-k (t - t0)))
        p <- p + s(t) * Adam's update - lr * (1 - s(t)) * gamma * (p - w0),   p before the step

    for what was pretrained; the head trains as it would. (The released code adds one term after the other, so that its
    pull acts on p after Adam's update, and does not scale weight decay, which is part of Adam's update here.)

    Owns: everything, as vanilla.
    Off: t0=-1e6, k=0.5 (s is 1 at every step).
    Hazards: lr * gamma above 2 diverges: 5000 is for rates about 2e-5. The paper tries k of 0.05 to 1 and t0 of 100 to
    1000, in trainings of many thousand steps: in a short one s may never rise, and all but the head stays where it was.
    A part that the checkpoint lacks, such as a pooler, is pulled towards its random start, since no one knows that here.
    """

    def tx(inner: Tx) -> Tx:
        def update(grads: Params, state, params: Params, ctx: Ctx):
            updates, state = inner.update(grads, state, params, ctx)
            step = jnp.asarray(ctx.step + 1, jnp.float32)
            learn = jax.nn.sigmoid(k * (step - t0))
            pull = ctx.lr * (1 - learn) * gamma

            def recalled(name: str, x):
                return x if tree.head(name) else learn * x - pull * (params[name] - ctx.w0[name])

            return {name: recalled(name, x) for name, x in updates.items()}, state

        return Tx(inner.init, update)

    return Method(tx=tx)
