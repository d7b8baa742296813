"""Batches without padding between examples: several to a row, gathered on the device from ragged tokens."""

from collections.abc import Iterable
from random import Random
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxft.types import Anywhere, Batch, Split, Window

DRAWN = 2000  # batches from which the rows of a batch are found
TOGETHER = 16  # replicas on a device, or so: a row more is computed for all where one of them needs it
FURTHER = 1.5  # what such a row costs, in rows: its matmuls are small, and gradients have to be added up
SAVING = 0.1  # what a second program, for such rows, must save at the least
FEWER = 0.05  # what one for batches that need fewer rows must save


class Layout(NamedTuple):
    """The rows in which the examples of a step's batch lie."""

    rows: int
    width: int
    """Tokens of a row, T."""
    most: int
    """The most rows that a batch needs; those that it needs beyond `rows` are trained one by one."""
    fewer: int = 0
    """Rows that do for many a batch, where a step without the others is worth a program of its own; 0 if none is."""

    @property
    def always(self) -> bool:
        """Whether the rows are enough for every batch."""
        return self.rows >= self.most


class Packed(NamedTuple):
    """A split whose batches never change, made once."""

    batches: Batch
    """With a leading axis of batches; each has the same rows, and room for the same number of examples."""
    back: Int[Anywhere, " N"]
    """Where each example's logits are among those of all batches."""
    labels: Int[Anywhere, " N"] | Float[Anywhere, " N"]
    """In the order of the split."""


def width(splits: Iterable[Split]) -> int:
    """The longest example, in tokens, rounded up to a multiple of 8."""
    return _rounded(max(np.diff(np.asarray(split.offsets)).max() for split in splits))


def _rounded(length: Any) -> int:
    return -(-int(length) // 8) * 8


def layout(train: Split, evals: Iterable[Split], batch: int, serial: float = 0.0, fewer: bool = False) -> Layout:
    """The rows that are cheapest for random batches of so many examples.

    Batches that need more take further rows, hence a second copy of the step in the program. Where this would save
    little, there are rows for every batch instead. All depends on the data and the batch size, never on seeds.

    Args:
        train: the training set.
        evals: the other sets, whose examples have to fit too.
        batch: examples of a step.
        serial: what it costs, in rows, that a model reads the tokens of a row one after the other.
        fewer: whether a step is so much work that it may be there twice, to do with fewer rows where they are enough.
    """
    least, lengths = width([train, *evals]), np.diff(np.asarray(train.offsets))
    rng = Random(0)
    drawn = lengths[[[int(rng.random() * len(lengths)) for _ in range(batch)] for _ in range(DRAWN)]]
    drawn = -np.sort(-drawn, axis=1)  # from the longest on
    usual, sure = [], []
    for wide in range(least, max(2 * least, 128) + 1, 8):
        needed = filled(drawn, wide)
        # Of a row; attention makes wide ones dearer (measured: by a tenth for each hundred tokens).
        cost = wide * (1 + wide / 1024)
        # A row with room for one more of the longest is filled before another is begun.
        enough = -(-batch // (wide // int(lengths.max())))
        sure.append((cost * (serial + enough), Layout(enough, wide, enough)))
        for rows in range(int(needed.min()), min(int(needed.max()), enough - 1) + 1):
            # The mean of the largest of as many as go together.
            further = sum(1 - np.mean(needed <= most) ** TOGETHER for most in range(rows, int(needed.max())))
            usual.append((cost * (serial + rows + (serial + FURTHER) * further), Layout(rows, wide, enough)))
    best, always = min(usual, default=min(sure)), min(sure)
    found = best[1] if best[0] < (1 - SAVING) * always[0] else always[1]
    if not fewer:
        return found
    needed = filled(drawn, found.width)
    saved = {rows: (found.rows - rows) * np.mean(needed <= rows) for rows in range(int(needed.min()), found.rows + 1)}
    rows = max(saved, key=saved.__getitem__)
    return found._replace(fewer=rows) if saved[rows] >= FEWER * (serial + found.rows) else found


def first_fit(lengths: Int[Array, "S B"], width: int | Int[Array, ""]) -> Int[Array, "S B"]:
    """Where each of B examples lies in rows of `width` tokens, `row * width + offset`; in each of S batches.

    Longest first, each into the first row with room (Johnson 1973: at most 11/9 of the fewest rows, and one).
    """
    number = jnp.arange(lengths.shape[1])[None, :]
    order = jnp.argsort(-lengths, axis=1, stable=True)

    def put(turn, carry):
        used, places = carry
        this = number == lax.dynamic_index_in_dim(order, turn, 1)
        length = jnp.sum(jnp.where(this, lengths, 0), axis=1, keepdims=True)
        row = jnp.argmax(used + length <= width, axis=1, keepdims=True)
        offset = jnp.sum(jnp.where(number == row, used, 0), axis=1, keepdims=True)
        return used + jnp.where(number == row, length, 0), jnp.where(this, row * width + offset, places)

    nothing = jnp.zeros_like(lengths)
    return lax.fori_loop(0, lengths.shape[1], put, (nothing, nothing))[1].astype(jnp.int32)


def gather(
    split: Split, idx: Int[Array, " B"], places: Int[Array, " B"], rows: int, width: int, skip: Any = 0,
    window: Window | None = None,
) -> Batch:  # fmt: skip
    """The examples `idx` (B numbers) in rows of `width` tokens, each at its place, `row * width + offset`; jittable.

    An index of -1 means no example; nor is one there whose row is not among the `rows` rows from `skip` on. Its label
    and weight are 0, and its first token is any. Padding is token 0 of type 0 and segment 0. Unknown labels stay so.
    With a window the tokens are read there, and not in the split; it must have the examples.
    """
    begin = places - skip * width
    there = (idx >= 0) & (begin >= 0) & (begin < rows * width)
    idx = jnp.where(there, idx, 0)
    begin = jnp.where(there, begin, 0)
    start = split.offsets[idx]
    end = begin + jnp.where(there, split.offsets[idx + 1] - start, 0)
    cell = jnp.arange(rows * width, dtype=jnp.int32)
    inside = (begin[:, None] <= cell[None, :]) & (cell[None, :] < end[:, None])
    number = jnp.arange(1, len(idx) + 1, dtype=jnp.int32)
    segment = jnp.sum(jnp.where(inside, number[:, None], 0), axis=0)  # at most one is inside
    owner = jnp.maximum(segment - 1, 0)
    position = jnp.where(segment > 0, cell - begin[owner], 0)
    if window is not None:
        start = window.starts[jnp.searchsorted(window.ids, idx)]
    source = split.tokens if window is None else window.tokens
    tokens = jnp.take(source, start[owner] + position, mode="clip").astype(jnp.int32)
    types = position >= split.second[idx][owner]
    shape = (rows, width)
    return Batch(
        tokens=jnp.where(segment > 0, tokens, 0).reshape(shape),
        types=((segment > 0) & types).astype(jnp.int32).reshape(shape),
        positions=position.reshape(shape),
        segments=segment.reshape(shape),
        first=begin,
        labels=jnp.where(there, split.labels[idx], 0),
        weight=there.astype(jnp.float32),
    )


def pad(split: Split, idx: Int[Array, " B"], width: int) -> Batch:
    """The examples `idx` (B numbers), each in a row of its own."""
    return gather(split, idx, width * jnp.arange(len(idx), dtype=jnp.int32), len(idx), width)


def pack(split: Split, rows: int, width: int) -> Packed:
    """All examples of a split in batches of `rows` rows at most, of `width` tokens or as many as its longest needs."""
    lengths = np.diff(np.asarray(split.offsets))
    width = max(width, _rounded(lengths.max()))
    row, offset = _first_fit(lengths, width)
    count = int(row.max()) + 1
    rows = -(-count // -(-count // rows))  # in as few batches, all about as full
    of = row // rows
    number = np.zeros_like(of)  # within its batch
    for batch in range(of.max() + 1):
        number[of == batch] = np.arange((of == batch).sum())
    shape = (of.max() + 1, number.max() + 1)
    idx, places = np.full(shape, -1, np.int32), np.zeros(shape, np.int32)
    idx[of, number] = np.arange(len(of))
    places[of, number] = row % rows * width + offset
    one = jax.jit(gather, static_argnums=(3, 4))
    batches = [jax.tree.map(np.asarray, one(split, *each, rows, width)) for each in zip(idx, places, strict=True)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
    return Packed(stacked, (of * shape[1] + number).astype(np.int32), np.asarray(split.labels))


def filled(lengths: np.ndarray, width: int) -> np.ndarray:
    """How many rows `first_fit` fills in each of S batches, of lengths [S, B] from the longest on; on the host."""
    used, batch = np.zeros_like(lengths), np.arange(len(lengths))
    for length in lengths.T:
        used[batch, (used + length[:, None] <= width).argmax(axis=1)] += length
    return (used > 0).sum(axis=1)


def _first_fit(lengths: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """`first_fit` of one batch of any size, on the host: rows and offsets."""
    used = np.zeros(len(lengths), np.int64)
    row, offset = np.zeros_like(used), np.zeros_like(used)
    opened = 0
    for number in np.argsort(-lengths, kind="stable"):
        fits = used[: opened + 1] + lengths[number] <= width
        row[number] = here = int(fits.argmax())
        offset[number] = used[here]
        used[here] += lengths[number]
        opened = max(opened, here + 1)
    return row, offset
