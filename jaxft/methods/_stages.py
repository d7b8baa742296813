"""What the two methods of Zhang et al. 2022 (DPS) share: stages, and thresholds at the end of each first one."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxft.rare import cond_any, kth
from jaxft.types import Ctx, Params


class Stage(NamedTuple):
    """Where a step lies; a lead-in belongs to none."""

    length: Float[Array, ""]
    """Steps of a stage, us."""
    first: Bool[Array, ""]
    """In a stage I."""
    second: Bool[Array, ""]
    """In a stage II."""
    begins: Bool[Array, ""]
    """The first step of either."""
    ready: Bool[Array, ""]
    """The last step of a stage I: the next one needs a mask."""


def stage(ctx: Ctx, ratio) -> Stage:
    """Stages of us = int(total * ratio) steps, but at least one: I, II, I, II, ..."""
    # A whole number of steps may come out a share of 2**-23 too small in float32.
    length = jnp.maximum(jnp.floor(ctx.total * jnp.float32(ratio) * (1 + 2**-22)), 1)
    us, step = length.astype(jnp.int32), ctx.step
    there, second = step >= 0, step // us % 2 == 1
    begins = there & (step % us == 0)
    return Stage(length, there & ~second, there & second, begins, there & ~second & ((step + 1) % us == 0))


def kept(n: int, p) -> Int[Array, ""]:
    """How many of n numbers the share 1 - p is: ceil(n (1 - p))."""
    return jnp.maximum(jnp.ceil(n * (1 - p) * (1 - 2**-22)), 1).astype(jnp.int32)


def thresholds(ready, score: Params, p, least: Mapping[str, Array]) -> dict[str, Any]:
    """Of each tensor the smallest of its largest numbers that `kept` counts, if `ready`; else those there were."""
    if not score:
        return {}

    def found(score: Params, p, least) -> dict[str, Any]:
        return {name: kth(x, kept(x.size, p)) for name, x in score.items()}

    return cond_any(ready, found, lambda score, p, least: least, score, jnp.float32(p), dict(least))
