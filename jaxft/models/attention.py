"""Attention, with its gradient by hand: in plain operations, and on GPUs in one kernel (`fused.py`)."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxft.models import fused
from jaxft.models.dropout import Mask


def attend(
    q: Float[Array, "rows Q D"],
    k: Float[Array, "rows T D"],
    v: Float[Array, "rows T D"],
    mask: Bool[Array, "rows Q T"],
    heads: int,
    dropped: Mask | None,
    biases: Sequence[Float[Array, " D"]] | None = None,
    relative: Float[Array, "rows H Q T"] | None = None,
    scores: int = 1,
) -> Float[Array, "rows Q D"]:
    """Attention from each of Q tokens to those that its mask allows; each needs one.

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: what each query may read.
        heads: H; each has D / H of the columns.
        dropped: dropout of the weights, see `shape`.
        biases: what is to be added to q, k and v first.
        relative: added to the products of queries and keys.
        scores: of how many sorts of scores these are the sum; each is divided by sqrt(scores d).
    """
    if relative is None and biases is not None and fused.usable(q, k, heads):
        apart = [x.reshape(*x.shape[:-1], heads, -1) for x in (q, k, v, *biases)]
        scale = 1 / math.sqrt(apart[0].shape[-1])
        mixed: Any = fused.mix(tuple(apart[:3]), tuple(apart[3:]), mask, dropped, scale)
        return mixed.reshape(q.shape)
    if biases is not None:
        q, k, v = (x + bias[None, None, :] for x, bias in zip((q, k, v), biases, strict=True))
    q, k, v = (x.reshape(*x.shape[:2], heads, -1) for x in (q, k, v))
    scale = math.sqrt(scores * q.shape[-1])
    factor = jnp.ones(shape(q, k, heads), jnp.float32)
    factor = factor if dropped is None else dropped(factor)
    mixed = mix(q / scale, k, v, mask, factor, None if relative is None else relative / scale)
    return mixed.reshape(*mixed.shape[:2], -1)


def shape(q: Array, k: Array, heads: int) -> tuple[int, ...]:
    """That of the weights of queries q [rows, Q, ...] and keys k [rows, T, ...]."""
    return q.shape[0], heads, q.shape[1], k.shape[1]


@jax.custom_vjp
def mix(
    q: Float[Array, "rows Q H d"],
    k: Float[Array, "rows T H d"],
    v: Float[Array, "rows T H d"],
    mask: Bool[Array, "rows Q T"],
    factor: Float[Array, "rows H Q T"],
    bias: Float[Array, "rows H Q T"] | None,
) -> Float[Array, "rows Q H d"]:
    """softmax(q k + bias) * factor, times v, in each head.

    In the gradient of the softmax, the sum over keys of weights times their gradients is taken as that of the outcome
    times its gradient, over d instead of T (Dao et al. 2022, "FlashAttention", appendix B.4): a pass less over Q x T.
    Each product has its outcome turned round: XLA's CPU would turn the weights, Q x T numbers where that has Q x d.
    """
    return _mix(q, k, v, mask, factor, bias)[0]


def _mix(q, k, v, mask, factor, bias):
    scores = jnp.einsum("rqhd,rkhd->rhqk", q, k).astype(jnp.float32)
    scores = scores if bias is None else scores + bias
    weights = jax.nn.softmax(jnp.where(mask[:, None], scores, jnp.finfo(scores.dtype).min)).astype(v.dtype)
    mixed = jnp.einsum("rhqk,rkhd->rhqd", (weights * factor).astype(v.dtype), v).transpose(0, 2, 1, 3)
    return mixed, (q, k, v, factor, weights, mixed, None if bias is None else jnp.zeros((), bias.dtype))


def _unmix(saved, g):
    q, k, v, factor, weights, mixed, biased = saved
    total = jnp.sum((g * mixed).astype(jnp.float32), axis=-1).transpose(0, 2, 1)[..., None]
    dv = jnp.einsum("rqhd,rhqk->rhdk", g, (weights * factor).astype(v.dtype)).transpose(0, 3, 1, 2)
    dscores = weights * (jnp.einsum("rqhd,rkhd->rhqk", g, v).astype(jnp.float32) * factor - total)
    dbias = None if biased is None else dscores.astype(biased.dtype)
    dscores = dscores.astype(q.dtype)
    dq = jnp.einsum("rhqk,rkhd->rhqd", dscores, k).transpose(0, 2, 1, 3)
    dk = jnp.einsum("rqhd,rhqk->rhdk", q, dscores).transpose(0, 3, 1, 2)
    return dq, dk, dv, None, None, dbias


mix.defvjp(_mix, _unmix)
