"""Trains everything and the weights with the largest gradients by turns: dynamic selection of a subnetwork."""

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

from jaxft.methods._stages import stage, thresholds
from jaxft.types import BelowOne, Ctx, Method, Params, Share, Tx

CLASHES = {"dps_mix": "they are two variants of one method, and each would mask what the other has chosen"}


class State(NamedTuple):
    """Of each weight matrix what decides its mask, and the optimiser's."""

    gam: Params
    """The sum of squared gradients of this stage I, or of the last one."""
    least: dict[str, Any]
    """The smallest of them that is in the mask."""
    inner: Any


def dps_dense(p: BelowOne = 0.3, update_ratio: Share = 0.05, freeze: Literal["hard", "gradient"] = "hard") -> Method:
    """Alternates between training all weights and only those with the largest gradients so far: DPS Dense.

    Two stages of us = int(steps * update_ratio) steps each, at least one, take turns. Of each weight matrix W
    ("kernel": query, key, value, attention output, both of the feed-forward, pooler, head):

        stage I:   everything trains, and GAM <- GAM + g^2, from 0 at its first step
        stage II:  M = 1 for the ceil((1 - p) n) largest of GAM, ties included; g <- g M

    Biases, norms and embeddings train always.

    Owns: what it would without, and a number for each element of a weight matrix.
    Off: at p = 0 it is vanilla; also at update_ratio = 1, where stage II never comes.
    Hazards: the paper says that masked weights are not updated; the authors' code only zeroes their gradients, so that
    Adam's momentum and weight decay still move them: `freeze` has both. Their code sets dropout to 0: compare with a
    baseline without dropout. g is that before clipping. The gradients of a head with two classes are negatives of each
    other and tie in pairs, and ties stay together.

    Args:
        p: the share of each matrix that stage II masks.
        update_ratio: the length of a stage, as a share of the steps of the trial.
        freeze: "hard" has masked weights not move at all (the paper); "gradient" masks gradients only (the code).

    Source:
        Zhang et al. 2022, "Fine-Tuning Pre-Trained Language Models Effectively by Optimizing Subnetworks Adaptively"
        (arXiv 2211.01642), section 3 (DPS Dense); their repository, ZhangHaojie077/DPS.
    """

    def tx(inner: Tx) -> Tx:
        def init(params: Params) -> State:
            gam = {name: jnp.zeros_like(x) for name, x in params.items() if name.endswith("/kernel")}
            return State(gam, dict.fromkeys(gam, jnp.float32(0)), inner.init(params))

        def update(grads: Params, state: State, params: Params, ctx: Ctx) -> tuple[Params, State]:
            now = stage(ctx, update_ratio)
            gam = {
                name: jnp.where(now.first, jnp.where(now.begins, 0.0, total) + grads[name] * grads[name], total)
                for name, total in state.gam.items()
            }

            def masked(values: Params) -> Params:
                part = {n: jnp.where((gam[n] >= state.least[n]) | ~now.second, values[n], 0.0) for n in gam}
                return {**values, **part}

            updates, after = inner.update(masked(grads), state.inner, params, ctx)
            if freeze == "hard":
                updates = masked(updates)
            return updates, State(gam, thresholds(now.ready, gam, p, state.least), after)

        return Tx(init, update)

    return Method(tx=tx)
