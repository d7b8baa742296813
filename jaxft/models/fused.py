"""Attention as one kernel for GPUs, in bfloat16: weights stay in the registers, and are made again for the gradient.

In plain operations each of the weights goes through memory some ten times a step. Rows of packed examples are short:
all keys of a row are there at once.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxft.models.dropout import Mask

LONGEST = 128
"""Tokens of a row, at most."""

DEPTHS = (16, 32, 64)
"""Columns of a head, d."""

QUERIES = 64
"""Of a program of the forward kernel, at most; that of the gradient has all. Measured, like the warps."""

WARPS, BACKWARD_WARPS = 4, 8


def usable(q: Float[Array, "rows Q D"], k: Float[Array, "rows T D"], heads: int) -> bool:
    """Whether there is a kernel for these, where jax computes."""
    length, depth = q.shape[1], q.shape[2] // heads
    fits = q.shape == k.shape and 16 <= length <= LONGEST and depth in DEPTHS and q.dtype == jnp.bfloat16
    return fits and works(length, depth)


@cache
def works(length: int = LONGEST, depth: int = DEPTHS[-1]) -> bool:
    """Whether jax computes on a GPU, and can compile the kernel for it: it may be too old, too small, or not NVIDIA's.

    Args:
        length: tokens of a row, T.
        depth: columns of a head, d.
    """

    def attempt():
        q, square = jnp.zeros((1, length, 1, depth), jnp.bfloat16), (1, length, length)
        dropped = Mask(jnp.zeros((1, *square), jnp.uint16), jnp.int32(0))
        back: Any = jax.vjp(lambda q: mix((q, q, q), (q[0, 0],) * 3, jnp.ones(square, bool), dropped, 1.0), q)[1]
        return jax.block_until_ready(back(q))

    try:
        with ThreadPoolExecutor(1) as apart:  # from whatever is being traced in this thread
            return jax.default_backend() == "gpu" and bool(apart.submit(attempt).result())
    except Exception:  # whatever it is, the plain operations are there
        return False


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def mix(
    tokens: Sequence[Float[Array, "rows T H d"]],
    biases: Sequence[Float[Array, "H d"]],
    mask: Bool[Array, "rows T T"],
    dropped: Mask | None,
    scale: float,
) -> Float[Array, "rows T H d"]:
    """softmax(scale q k) after dropout, times v, in each head: as `attention.mix`, but scores are never rounded.

    The gradient is that of Dao et al. 2022 ("FlashAttention", algorithm 4), of a row at once.

    Args:
        tokens: queries q, keys k and values v, bfloat16.
        biases: what is to be added to each of them first; here it costs nothing.
        mask: what each query may read; each needs one.
        dropped: dropout of the weights, which are [rows, H, T, T].
        scale: of the products of queries and keys.
    """
    return _forward(tokens, biases, mask, dropped, scale)[0]


def _forward(tokens, biases, mask, dropped, scale):
    mask = mask.astype(jnp.int8)
    rows, length, heads, _ = tokens[0].shape
    sums = jax.ShapeDtypeStruct((rows, heads, length), jnp.float32)
    mixed, sums = _called(_mix, QUERIES, WARPS, tokens, biases, (mask, dropped), (), (tokens[0], sums), scale)
    return mixed, (tokens, biases, mask, dropped, mixed, sums)


def _backward(scale, saved, g):
    tokens, biases, mask, dropped, mixed, sums = saved
    given = (*tokens, mixed, g)
    back = _called(_unmix, LONGEST, BACKWARD_WARPS, given, biases, (mask, dropped), (sums,), tokens, scale)
    shifts = tuple(jnp.sum(d.astype(jnp.float32), axis=(0, 1)).astype(d.dtype) for d in back)
    return tuple(back), shifts, None, None


mix.defvjp(_forward, _backward)


def _called(
    kernel: Any, most: int, warps: int, tokens: Sequence[Array], biases: Sequence[Array],
    masks: tuple[Array, Mask | None], sums: Sequence[Array], like: Sequence[Any], scale: float,
) -> Sequence[Array]:  # fmt: skip
    """Runs a kernel on `most` queries at most of one row and one head, and on all of its keys.

    Args:
        kernel: gets a reference to its part of each of the following, then of the results.
        most: queries.
        warps: of 32 threads.
        tokens: [rows, T, H, d]. The first one is cut as the queries are.
        biases: [H, d].
        masks: [rows, T, T], and dropout's.
        sums: [rows, H, T].
        like: the shapes of the results, as tokens or as sums.
        scale: for the kernel.
    """
    from jax.experimental import pallas
    from jax.experimental.pallas import triton

    mask, dropped = masks
    length, heads, depth = tokens[0].shape[1:]
    padded = 1 << (length - 1).bit_length()
    some = min(most, padded)
    row, head = lambda i: i // heads, lambda i: i % heads
    whole = pallas.BlockSpec((None, padded, None, depth), lambda i, j: (row(i), 0, head(i), 0))
    cut = pallas.BlockSpec((None, some, None, depth), lambda i, j: (row(i), j, head(i), 0))
    sum_ = pallas.BlockSpec((None, None, some), lambda i, j: (row(i), head(i), j))
    specs = [cut] + [whole] * (len(tokens) - 1)
    specs += [pallas.BlockSpec((None, depth), lambda i, j: (head(i), 0))] * len(biases) + [sum_] * len(sums)
    specs += [pallas.BlockSpec((None, some, padded), lambda i, j: (row(i), j, 0))]
    given = [*tokens, *biases, *sums, mask]
    if dropped is not None:
        number = pallas.BlockSpec((1,), lambda i, j: (0,))
        specs += [pallas.BlockSpec((None, None, some, padded), lambda i, j: (row(i), head(i), j, 0)), number, number]
        given += [dropped.bits, dropped.least[None], dropped.scale[None]]
    return pallas.pallas_call(
        partial(kernel, length=length, scale=scale),
        grid=(mask.shape[0] * heads, -(-length // some)),
        in_specs=specs,
        out_specs=[sum_ if len(each.shape) == 3 else cut for each in like],
        out_shape=[jax.ShapeDtypeStruct(each.shape, each.dtype) for each in like],
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=1),
        interpret=jax.default_backend() == "cpu",  # for tests
        name=kernel.__name__.strip("_"),
    )(*given)


def _mix(q, k, v, bq, bk, bv, mask, *rest, length: int, scale: float):
    """Some queries of a row and a head: refs [Q, d], [T, d], [d], [Q, T]; and the logarithms of the sums of weights."""
    *dropped, out, sums = rest
    inside = _inside(q, k, length)
    scores = _scores(q, k, bq, bk, mask, inside, scale)
    most = jnp.max(scores, axis=1)
    weights = jnp.exp(scores - most[:, None])
    total = jnp.sum(weights, axis=1)
    _store(sums, most + jnp.log(total), inside[0])
    mixed = _dot(_kept(weights, dropped, inside).astype(q.dtype), _biased(v, bv, inside[1]))
    _store(out, mixed * (_scale(dropped) / total)[:, None], inside[0])


def _unmix(q, k, v, mixed, g, bq, bk, bv, sums, mask, *rest, length: int, scale: float):
    """The gradients of q, k and v from that of what `_mix` gives, in an order that leaves little in the registers."""
    *dropped, dq, dk, dv = rest
    inside = _inside(q, k, length)
    rows = inside[0]
    total = jnp.sum(_load(g, rows).astype(jnp.float32) * _load(mixed, rows).astype(jnp.float32), axis=1)
    scores = _scores(q, k, bq, bk, mask, inside, scale)
    weights = jnp.exp(scores - _load(sums, rows)[:, None]).astype(q.dtype)
    back = _load(g, rows)
    _store(dv, _dot(_kept(weights, dropped, inside).T, back) * _scale(dropped), rows)
    dweights = _kept(_dot(back, _biased(v, bv, rows).T), dropped, inside)
    centred = dweights * (_scale(dropped) * scale) - (total * scale)[:, None]
    dscores = (weights.astype(jnp.float32) * centred).astype(q.dtype)
    _store(dk, _dot(dscores.T, _biased(q, bq, rows)), rows)
    _store(dq, _dot(dscores, _biased(k, bk, rows)), rows)


def _scores(q, k, bq, bk, mask, inside, scale: float) -> Array:
    """Of these queries with all keys, [Q, T]; where the mask says no, the least there is."""
    scores = _dot(_biased(q, bq, inside[0]), _biased(k, bk, inside[1]).T)
    return jnp.where(_load(mask, *inside) != 0, scores * scale, jnp.finfo(jnp.float32).min)


def _kept(x: Array, dropped: Sequence[Any], inside) -> Array:
    """x [Q, T] without what is dropped; the bits are read anew each time, which is cheaper than to keep them."""
    if not dropped:
        return x
    bits, least, _ = dropped
    return jnp.where(_load(bits, *inside).astype(jnp.int32) >= least[0], x, 0.0)


def _scale(dropped: Sequence[Any]) -> Any:
    """What dropout multiplies the others with."""
    return dropped[2][0] if dropped else 1.0


def _dot(a: Array, b: Array) -> Array:
    return jnp.dot(a, b, preferred_element_type=jnp.float32)


def _inside(q: Any, k: Any, length: int) -> tuple[Array | None, Array | None]:
    """Which of the queries and of the keys are tokens of the row; None if all are. Blocks have a power of 2 of them."""
    from jax.experimental import pallas

    if k.shape[0] == length:
        return None, None
    queries = pallas.program_id(1) * q.shape[0] + jnp.arange(q.shape[0])
    return queries < length, jnp.arange(k.shape[0]) < length


def _load(ref: Any, *inside: Array | None) -> Array:
    """What a reference holds; 0 outside of the row along the axes that are given."""
    from jax.experimental.pallas import triton

    mask = _mask(ref, inside)
    return triton.load(ref) if mask is None else triton.load(ref, mask=mask, other=0)


def _biased(ref: Any, bias: Any, inside: Array | None) -> Array:
    """The tokens that a reference holds, with their bias."""
    return _load(ref, inside) + bias[...][None, :]


def _store(ref: Any, x: Array, *inside: Array | None) -> None:
    """Writes what is inside of the row."""
    from jax.experimental.pallas import triton

    triton.store(ref, x.astype(ref.dtype), mask=_mask(ref, inside))


def _mask(ref: Any, inside: Sequence[Array | None]) -> Array | None:
    """For an array of the reference's shape."""
    found = None
    for axis, each in enumerate(inside):
        if each is not None:
            each = each.reshape([-1 if i == axis else 1 for i in range(len(ref.shape))])
            found = each if found is None else found & each
    return None if found is None else jnp.broadcast_to(found, ref.shape)
