"""Gradients of a fixed part of the encoder, which the task's Fisher information has chosen before training."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxft.rare import cond_any, kth
from jaxft.types import Ctx, Method, Params, Share, Tx


class State(NamedTuple):
    """What was found in the lead-in, and the optimiser's."""

    fisher: Params
    """The sum of squared gradients of each step of the lead-in; of the encoder's layers."""
    least: Float[Array, ""]
    """The smallest that belongs to the child network, once the lead-in is over."""
    inner: Any


def child_tuning_d(p: Share = 0.3) -> Method:
    """Trains the share p of the encoder's layers that has the largest Fisher information: Child-Tuning-D, task-driven.

    One epoch of gradients at the start W0 comes before step 0, in an order of its own:

        F = sum over its batches of (gradient of the batch's mean loss)^2

    M = 1 for the 1 + floor(p (n - 1)) largest of all n numbers of F, over all parameters of the layers together (names
    under "layers/": matrices, biases and norms), ties included. From then on, in every step,

        g <- g M

    before the optimiser. Embeddings, pooler and head train as they would.

    Owns: what it would without, and a number for each parameter of the layers.
    Off: at p = 1 it is vanilla, after an epoch of gradients that change nothing.
    Hazards: as in the authors' code, of which the paper says less: the mask is global, not per layer; F squares the
    gradient of a batch, not of an example; dropout stays on; only gradients are masked, so weight decay still moves
    what is not in M (momentum does not: there is none). The trainer that they released ignores its own warm-up
    setting. In encoders of 10^8 parameters the count is right to some units only, since p is a float32.

    Args:
        p: the share of the layers' parameters that train.

    Source:
        Xu et al. 2021, "Raise a Child in Large Language Model: Towards Effective and Generalizable Fine-tuning"
        (arXiv 2109.05687), section 2, the task-driven variant; the mask as in the code that they released.
    """

    def tx(inner: Tx) -> Tx:
        def init(params: Params) -> State:
            fisher = {name: jnp.zeros_like(x) for name, x in params.items() if name.startswith("layers/")}
            return State(fisher, jnp.float32(0), inner.init(params))

        def update(grads: Params, state: State, params: Params, ctx: Ctx) -> tuple[Params, State]:
            leads = ctx.step < 0
            fisher = {name: f + jnp.where(leads, grads[name] * grads[name], 0.0) for name, f in state.fisher.items()}
            least = state.least
            if fisher:
                least = cond_any(
                    ctx.step == -1, _threshold, lambda fisher, p, least: least, fisher, jnp.float32(p), least
                )
            part = {
                name: jnp.where(fisher[name] >= least, g, 0.0) if name in fisher else g for name, g in grads.items()
            }
            updates, after = inner.update(part, state.inner, params, ctx)
            return updates, State(fisher, least, after)

        return Tx(init, update)

    return Method(tx=tx, lead=lambda steps_per_epoch: steps_per_epoch)


def _threshold(fisher: Params, p, least) -> Float[Array, ""]:
    """The smallest number of a share p of all."""
    n = sum(x.size for x in fisher.values())
    return kth(fisher, 1 + jnp.floor(p * (n - 1) * (1 + 2**-22)).astype(jnp.int32))
