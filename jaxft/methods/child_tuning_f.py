"""Gradients of which a random part is dropped in each step."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Key

from jaxft import keys
from jaxft.types import Ctx, Method, Params, Share, Tx


class State(NamedTuple):
    """The optimiser's, and nothing else."""

    inner: Any


def child_tuning_f(p: Share = 0.3) -> Method:
    """Keeps each element of the gradient with probability p, scaled up, in each step anew: Child-Tuning-F, task-free.

    Of every parameter, with b ~ Bernoulli(p):

        g <- g b / p

    and then the optimiser, so that its moments, clipping and weight decay go on for elements that were dropped.

    Owns: what it would without.
    Off: at p = 1 it is vanilla.
    Hazards: p is the share that is kept, not that which is dropped; at p = 0 only weight decay moves anything. As the
    variance of g grows with 1 / p, clipping by a global norm bites more often. The trainer that the authors released
    ignores its own warm-up setting.

    Args:
        p: the share of the elements that are kept.

    Source:
        Xu et al. 2021, "Raise a Child in Large Language Model: Towards Effective and Generalizable Fine-tuning"
        (arXiv 2109.05687), section 2, the task-free variant.
    """

    def tx(inner: Tx) -> Tx:
        def update(grads: Params, state: State, params: Params, ctx: Ctx) -> tuple[Params, State]:
            part = {name: jnp.where(kept(ctx.key, name, g.shape, p), g / p, 0.0) for name, g in grads.items()}
            updates, after = inner.update(part, state.inner, params, ctx)
            return updates, State(after)

        return Tx(lambda params: State(inner.init(params)), update)

    return Method(tx=tx)


def kept(key: Key[Array, ""], name: str, shape: tuple[int, ...], p) -> Bool[Array, "..."]:
    """b: which elements of a parameter's gradient are kept in the step that `key` belongs to; a share p."""
    return keys.uniform(keys.named(keys.named(key, "child_tuning_f"), name), shape) < p
