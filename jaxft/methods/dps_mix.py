"""Mixes weights with those of the start, then trains those whose gradients were largest: selection with mixing."""

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Key

from jaxft import keys
from jaxft.methods._stages import stage, thresholds
from jaxft.types import BelowOne, Ctx, Method, Params, Share, Tx

CLASHES = {"sift": "one mixes whole weight matrices, of which the other has only the chosen entries trained"}


class State(NamedTuple):
    """Of each weight matrix what decides its mask and what it is mixed with, and the optimiser's."""

    score: Params
    """GAM in stage I; in stage II what the mask was chosen by."""
    drawn: Params
    """FAM, [inputs, 1]: how often each input was drawn in stage I."""
    least: dict[str, Any]
    """The smallest score that is in the mask."""
    anchor: Params
    """T: the weights at the first step of a stage II; until that is taken, those of the one before."""
    inner: Any


def dps_mix(p: BelowOne = 0.3, update_ratio: Share = 0.05, freeze: Literal["hard", "gradient"] = "hard") -> Method:
    """Alternates between Mixout and training only weights with the largest gradients per draw: DPS Mix.

    Two stages of us = int(steps * update_ratio) steps each, at least one, take turns. Of each weight matrix W
    ("kernel": query, key, value, attention output, both of the feed-forward, pooler, head), with W0 where this replica
    began, of a new head too:

        stage I:   W~ = ((1 - nu) W0 + nu W - p W0) / (1 - p), with nu ~ Bernoulli(1 - p) anew for each input and step
                   GAM <- GAM + g^2 nu and FAM <- FAM + nu, from 0 at its first step
        stage II:  score = GAM / max(FAM, 1), times exp(-FAM / us) where us >= 50
                   M = 1 for the ceil((1 - p) n) largest of score, ties included
                   W~ = ((1 - M) T + M W - p T) / (1 - p), with T = W at its first step;  g <- g M

    The model sees W~ in training, W in evaluations. Biases, norms and embeddings train always.

    Owns: what it would without, and two numbers for each element of a weight matrix. What another method has added is
    not in W0, and trains always.
    Off: at p = 0 it is vanilla.
    Hazards: in the authors' code, unlike in the paper, masked weights are moved by Adam's momentum and weight decay,
    for only their gradients are zeroed, and the backward pass leaves out 1 / (1 - p): `freeze` has both. g in GAM is
    that of W~ in either; a constant factor in GAM would change no mask. Their code sets dropout to 0: compare with a
    baseline without dropout. The gradients of a head with two classes tie in pairs, and ties stay together.

    Args:
        p: the share of weights that are swapped in stage I, and masked in stage II.
        update_ratio: the length of a stage, as a share of the steps of the trial.
        freeze: "hard" has masked weights of stage II not move at all, and the gradient of W~ as it is (the paper);
            "gradient" masks gradients only, and takes them without 1 / (1 - p) (the code).

    Source:
        Zhang et al. 2022, "Fine-Tuning Pre-Trained Language Models Effectively by Optimizing Subnetworks Adaptively"
        (arXiv 2211.01642), section 3 (DPS Mix); their repository, ZhangHaojie077/DPS.
    """

    def view(params: Params, state: State, ctx: Ctx) -> Params:
        now = stage(ctx, update_ratio)

        def mixed(name: str, w: Array) -> Array:
            if name not in state.score or name not in ctx.w0:
                return w
            anchor = jnp.where(now.begins, lax.stop_gradient(w), state.anchor[name])
            target = jnp.where(now.second, anchor, ctx.w0[name])
            own = jnp.where(now.second, state.score[name] >= state.least[name], nu(ctx.key, name, w.shape[0], p))
            return (jnp.where(own, w, target) - p * target) / (1 - p)

        return {name: mixed(name, w) for name, w in params.items()}

    def tx(inner: Tx) -> Tx:
        def init(params: Params) -> State:
            kernels = {name: x for name, x in params.items() if name.endswith("/kernel")}
            zeros = {name: jnp.zeros_like(x) for name, x in kernels.items()}
            drawn = {name: jnp.zeros((x.shape[0], 1)) for name, x in kernels.items()}
            return State(zeros, drawn, dict.fromkeys(kernels, jnp.float32(0)), zeros, inner.init(params))

        def update(grads: Params, state: State, params: Params, ctx: Ctx) -> tuple[Params, State]:
            now = stage(ctx, update_ratio)
            mixed = [name for name in state.score if name in ctx.w0]  # not what another method has added
            seen = {name: (1 - p) * grads[name] for name in mixed}  # nu times the gradient of W~
            score, drawn = dict(state.score), dict(state.drawn)
            for name in mixed:
                draws = nu(ctx.key, name, drawn[name].shape[0], p).astype(jnp.float32)
                drawn[name] = _summed(now, drawn[name], draws)
                total = _summed(now, score[name], seen[name] * seen[name])
                score[name] = jnp.where(now.ready, scored(total, drawn[name], now.length), total)
            least = thresholds(now.ready, score, p, state.least)

            def masked(values: Params) -> Params:
                part = {n: jnp.where((score[n] >= state.least[n]) | ~now.second, values[n], 0.0) for n in mixed}
                return {**values, **part}

            if freeze == "gradient":
                grads = {**grads, **seen}
            updates, after = inner.update(masked(grads), state.inner, params, ctx)
            if freeze == "hard":
                updates = masked(updates)
            taken = now.second & now.begins
            anchor = {name: jnp.where(taken, params[name], old) for name, old in state.anchor.items()}
            return updates, State(score, drawn, least, anchor, after)

        return Tx(init, update)

    return Method(view=view, tx=tx)


def nu(key: Key[Array, ""], name: str, inputs: int, p) -> Bool[Array, "inputs 1"]:
    """Which rows of a kernel [inputs, outputs] keep their own weights in a step of stage I; a share 1 - p."""
    return keys.uniform(keys.named(keys.named(key, "dps_mix"), name), (inputs, 1)) >= p


def scored(gam: Float[Array, "..."], fam: Float[Array, "..."], length) -> Float[Array, "..."]:
    """What stage II chooses by; the factor is there in stages of 50 steps or more."""
    times = jnp.maximum(fam, 1)
    return gam / times * jnp.where(length >= 50, jnp.exp(-times / length), 1.0)


def _summed(now, total: Array, new: Array) -> Array:
    return jnp.where(now.first, jnp.where(now.begins, 0.0, total) + new, total)
