"""A rare branch that stays rare under vmap."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool


def cond_any(predicate: Bool[Array, ""], rare: Callable, usual: Callable, *operands: Any) -> Any:
    """`lax.cond(predicate, rare, usual, *operands)` that under vmap runs `rare` only in steps where a replica needs it.

    vmap alone would make a select of the cond, and run both branches always. Arrays must come in as operands, not by
    closure. There is no gradient through it.
    """

    @custom_vmap
    def call(predicate, operands):
        return lax.cond(predicate, rare, usual, *operands)

    @call.def_vmap
    def many(size, batched, predicate, operands):
        axes = [jax.tree.map(lambda is_batched: 0 if is_batched else None, tree) for tree in batched]
        predicate = jnp.broadcast_to(predicate, (size,))

        def both(predicate, operands):
            pick = lambda p, x: jax.tree.map(lambda a, b: jnp.where(p, a, b), rare(*x), usual(*x))  # noqa: E731
            return jax.vmap(pick, (0, axes[1]), axis_size=size)(predicate, operands)

        def one(predicate, operands):
            return jax.vmap(lambda x: usual(*x), (axes[1],), axis_size=size)(operands)

        out = lax.cond(predicate.any(), both, one, predicate, operands)
        return out, jax.tree.map(lambda _: True, out)

    return call(predicate, operands)
