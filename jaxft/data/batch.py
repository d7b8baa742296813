"""Batches, gathered on the device from ragged tokens."""

from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxft.types import Batch, Split


def width(splits: Iterable[Split], limit: int) -> int:
    """The static width of padded rows: the longest example, rounded up to a multiple of 8, `limit` at most.

    Raises ValueError where an example is longer than `limit`, since `gather` would cut it.
    """
    longest = max(int(np.diff(np.asarray(split.offsets)).max()) for split in splits)
    if longest > limit:
        raise ValueError(f"an example has {longest} tokens, more than the limit of {limit}")
    return min(-(-longest // 8) * 8, limit)


def gather(split: Split, idx: Int[Array, " B"], width: int) -> Batch:
    """The examples `idx` (B numbers) as B rows of `width` tokens, one example to a row; jittable.

    An index of -1 means no example: its row is all padding, its label and weight are 0. Padding is token 0
    of type 0 and segment 0. Unknown labels stay -1.
    """
    there = idx >= 0
    idx = jnp.where(there, idx, 0)
    start = split.offsets[idx]
    length = jnp.where(there, split.offsets[idx + 1] - start, 0)
    position = jnp.arange(width, dtype=jnp.int32)[None, :]
    inside = position < length[:, None]
    tokens = jnp.take(split.tokens, start[:, None] + position, mode="clip")
    return Batch(
        tokens=jnp.where(inside, tokens, 0).astype(jnp.int32),
        types=(inside & (position >= split.second[idx][:, None])).astype(jnp.int32),
        positions=jnp.broadcast_to(position, inside.shape),
        segments=inside.astype(jnp.int32),
        first=jnp.arange(len(idx), dtype=jnp.int32) * width,
        labels=jnp.where(there, split.labels[idx], 0),
        weight=there.astype(jnp.float32),
    )
