"""What vmap alone would make dear: a rare branch, which stays rare; thresholds, which are worth one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float, UInt


def cond_any(predicate: Bool[Array, ""], rare: Callable, usual: Callable, *operands: Any) -> Any:
    """`lax.cond(predicate, rare, usual, *operands)` that under vmap runs `rare` only in steps where a replica needs it.

    vmap alone would make a select of the cond, and run both branches always. Arrays must come in as operands, not by
    closure. There is no gradient through it. Outside of any program it is a plain `if`, and compiles nothing.
    """
    if not isinstance(predicate, Tracer):
        return rare(*operands) if predicate else usual(*operands)

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


@jax.jit
def kth(x: Any, k: Any) -> Float[Array, ""]:
    """The k-th largest number of an array, exactly, without sorting it: `jnp.sort(x.ravel())[-k]`, ties included.

    It is built bit by bit, from the top: with a bit set it stays if at least k numbers are not below. So 32 counts take
    the place of a sort, which is dear on every platform.

    Args:
        x: float32, no NaN; or a tree of such arrays, which are taken together.
        k: from 1 to how many there are; may be traced.
    """
    ranks = [_rank(leaf) for leaf in jax.tree.leaves(x)]

    def settle(turn, found):
        tried = found | (np.uint32(1) << (np.uint32(31) - turn.astype(jnp.uint32)))
        count = sum(jnp.sum(rank >= tried, dtype=jnp.int32) for rank in ranks)
        return jnp.where(count >= k, tried, found)

    found = lax.fori_loop(0, 32, settle, jnp.uint32(0))
    return lax.bitcast_convert_type(jnp.where(found >= _HALF, found ^ _HALF, ~found), jnp.float32)


_HALF = np.uint32(1 << 31)


def _rank(x: Float[Array, "..."]) -> UInt[Array, "..."]:
    """The bits of floats, as integers that are in the same order."""
    bits = lax.bitcast_convert_type(x, jnp.uint32)
    return jnp.where(bits >= _HALF, ~bits, bits | _HALF)
