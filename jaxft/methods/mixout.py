"""Weights that are swapped for those of the start at random, as the model sees them."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Key

from jaxft import keys
from jaxft.types import BelowOne, Ctx, Method, Params

CLASHES = {"dps_mix": "each shows the model a mix of its own of the weights and those of the start"}


def mixout(p: BelowOne = 0.9) -> Method:
    """Sees each weight of a linear map as that of the start with probability p, scaled so that its mean stays.

    Of every weight matrix W ("kernel", those of pooler and head included), with nu ~ Bernoulli(1 - p) anew for each
    element and step, and W0 where this replica began (of a new head: its own random start):

        W~ = ((1 - nu) W0 + nu W - p W0) / (1 - p)

    The gradient is that of W~, so it carries nu / (1 - p). Evaluations see W itself.

    Owns: what it would without; only what it owns and W0 has is mixed.
    Off: at p = 0 it is vanilla.
    Hazards: it stands in for dropout, which the paper sets to 0 (`train.dropout`); near p = 1 the factor 1 / (1 - p)
    grows without bound. The code that the authors released differs from the paper: it draws one nu for each input of a
    layer, not for each element, and leaves 1 / (1 - p) out of the gradient (which Adam hardly sees, but clipping does).

    Args:
        p: the share of the weights that are swapped; the paper's 0.9.

    Source:
        Lee, Cho and Kang 2020, "Mixout: Effective Regularization to Finetune Large-scale Pretrained Language Models"
        (arXiv 1909.11299), section 3.
    """

    def view(params: Params, state, ctx: Ctx) -> Params:
        def mixed(name: str, w: Array) -> Array:
            if not name.endswith("/kernel") or name not in ctx.w0:
                return w
            w0 = ctx.w0[name]
            return (jnp.where(kept(ctx.key, name, w.shape, p), w, w0) - p * w0) / (1 - p)

        return {name: mixed(name, w) for name, w in params.items()}

    return Method(view=view)


def kept(key: Key[Array, ""], name: str, shape: tuple[int, ...], p) -> Bool[Array, "..."]:
    """nu: which elements of a parameter keep their own weight in the step that `key` belongs to; a share 1 - p."""
    return keys.uniform(keys.named(keys.named(key, "mixout"), name), shape) >= p
