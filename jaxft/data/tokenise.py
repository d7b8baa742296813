"""Texts to ragged tokens: once, on the host, with the model's own tokenizer."""

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Int

from jaxft.errors import BadInput
from jaxft.types import Split

CHUNK = 4096  # examples in one call: enough for the tokenizer's threads, little enough for memory
LONG = 50_000  # examples whose tokenising a person wants to follow


def tokenise(
    texts: Sequence[tuple[str, str | None]], labels: Sequence[int] | Sequence[float], tokenizer: Any, max_length: int
) -> Split:
    """One split as arrays, special tokens included, each example cut to `max_length` tokens.

    Of two texts the longer one is cut first, token by token, as Hugging Face does. Labels become int32, or float32
    where they are floats. `tokenizer` is a fast one of transformers, which has a thread for each core. Beside the texts
    memory is taken for the arrays, twice for a moment, and for two numbers of Python an example.

    Raises:
        BadInput: an example has no token, or token types other than 0s and then 1s, or all have more tokens together
            than 32 bits can count.
    """
    tokens, second, lengths = [], [], []
    dtype = np.min_scalar_type(max(tokenizer.get_vocab().values()))
    for start in _followed(len(texts)):
        part = texts[start : start + CHUNK]
        pairs = None if part[0][1] is None else [pair for _, pair in part]
        rows = tokenizer([text for text, _ in part], pairs, truncation="longest_first", max_length=max_length)
        for row, ids in enumerate(rows["input_ids"]):
            types = rows["token_type_ids"][row] if "token_type_ids" in rows else [0] * len(ids)
            before = len(types) - sum(types)
            if not ids or types != [0] * before + [1] * (len(ids) - before):
                raise BadInput(f"example {start + row + 1}: the tokenizer gives tokens {ids} of types {types}")
            lengths.append(len(ids))
            second.append(before)
        tokens.append(np.fromiter(chain.from_iterable(rows["input_ids"]), dtype))
    targets = np.asarray(labels)
    targets = targets.astype(np.float32 if targets.dtype.kind == "f" else np.int32)
    return Split(np.concatenate(tokens), offsets(lengths), np.asarray(second, np.int32), targets)


def offsets(lengths: Sequence[int]) -> Int[np.ndarray, " ends"]:
    """[N + 1] where each example begins, and where the last ends. Raises BadInput where 32 bits cannot count so far."""
    ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    if ends[-1] >= 2**31:
        raise BadInput(f"the examples have {ends[-1]:,} tokens, fewer than {2**31:,} are accepted")
    return ends.astype(np.int32)


def _followed(count: int) -> Iterator[int]:
    """Where each chunk begins; with a bar on a terminal, or a line in a log, where it will take a while."""
    starts = range(0, count, CHUNK)
    if count < LONG:
        yield from starts
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        yield from track(starts, "tokenising", console=Console(stderr=True), transient=True)
    else:
        print(f"tokenising {count:,} examples", file=sys.stderr, flush=True)
        yield from starts


def fingerprint(labels: Sequence[str], splits: Mapping[str, Split]) -> str:
    """16 hexadecimal digits of the SHA-256 of all tokenised content and the names of the labels."""
    digest = hashlib.sha256(repr(tuple(labels)).encode())
    for name, split in sorted(splits.items()):
        for field, values in zip(split._fields, split, strict=True):
            array = np.asarray(values)
            digest.update(f"{name} {field} {len(array)}".encode())
            for start in range(0, len(array), 2**20):  # not a copy of all
                part = array[start : start + 2**20]
                # Whatever integer holds the tokens.
                digest.update(part.astype("<f4" if array.dtype.kind == "f" else "<i4").tobytes())
    return digest.hexdigest()[:16]
