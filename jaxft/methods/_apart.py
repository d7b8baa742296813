"""How far two outcomes of a model are apart, and noise for its activations: what penalties of roughness share."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxft import keys
from jaxft.types import Batch, Edit

LONGEST = 1024
"""More positions than an example has: the numbers of a token's words depend on no shape."""


def apart(one: Float[Array, "B C"], other: Float[Array, "B C"], batch: Batch) -> Float[Array, ""]:
    """The mean over the examples that are there of KL(p || q) + KL(q || p), with p and q the softmax of the logits.

    In nats, and with the gradient of both. Where the labels are numbers, it is the mean of (one - other)^2.
    """
    if jnp.issubdtype(batch.labels.dtype, jnp.floating):
        each = jnp.square(one[:, 0] - other[:, 0])
    else:
        p, q = jax.nn.log_softmax(one), jax.nn.log_softmax(other)
        # The sum of both; each alone would be a small difference of large numbers.
        each = jnp.sum((jnp.exp(p) - jnp.exp(q)) * (p - q), axis=-1)
    return jnp.sum(each * batch.weight) / jnp.maximum(batch.weight.sum(), 1.0)


def named(key: Key[Array, ""] | None, name: str) -> Key[Array, ""] | None:
    """The key of `name` below one of dropout; None, which is no dropout, stays so."""
    return None if key is None else keys.named(key, name)


def shifted(edit: Edit, site: str, shift: Float[Array, "rows T D"]) -> Edit:
    """The edit that adds `shift` to what comes out of `edit` at a site."""

    def inside(name: str, x: Array) -> Array:
        x = edit(name, x)
        return x + shift.astype(x.dtype) if name == site else x

    return inside


def noise(
    key: Key[Array, ""],
    segments: Int[Array, "rows T"],
    positions: Int[Array, "rows T"],
    width: int,
    kind: Literal["uniform", "normal"],
) -> Float[Array, "rows T D"]:
    """`width` random numbers for each token: uniform between -1 and 1, or of the standard normal distribution.

    Those of a token depend on its example's number in the batch and its position there, not on where it lies: rows that
    are trained one by one have noise of their own, and the same as together with the others.
    """
    first = (segments * LONGEST + positions).astype(jnp.uint32)[..., None] * np.uint32(width)
    words = keys.words(key, first + lax.broadcasted_iota(jnp.uint32, (*segments.shape, width), 2))
    # The middles of 2**24 equal parts of the range: symmetric, and never its ends.
    x = 2 * (words >> np.uint32(8)).astype(jnp.float32) * np.float32(2**-24) - 1 + np.float32(2**-24)
    return math.sqrt(2) * lax.erf_inv(x) if kind == "normal" else x
