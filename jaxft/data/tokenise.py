"""Texts to ragged tokens: once, on the host, with the model's own tokenizer."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxft.errors import BadInput
from jaxft.types import Split

CHUNK = 4096  # examples in one call: enough for the tokenizer's threads, little enough for memory


def tokenise(
    texts: Sequence[tuple[str, str | None]], labels: Sequence[int] | Sequence[float], tokenizer: Any, max_length: int
) -> Split:
    """One split as arrays, special tokens included, each example cut to `max_length` tokens.

    Of two texts the longer one is cut first, token by token, as Hugging Face does. Labels become int32, or float32
    where they are floats. `tokenizer` is a fast one of transformers. Raises BadInput where an example has no token,
    or token types other than 0s and then 1s.
    """
    tokens, second, lengths = [], [], []
    dtype = np.min_scalar_type(max(tokenizer.get_vocab().values()))
    for start in range(0, len(texts), CHUNK):
        part = texts[start : start + CHUNK]
        pairs = None if part[0][1] is None else [pair for _, pair in part]
        rows = tokenizer([text for text, _ in part], pairs, truncation="longest_first", max_length=max_length)
        for row, ids in enumerate(rows["input_ids"]):
            types = rows["token_type_ids"][row] if "token_type_ids" in rows else [0] * len(ids)
            before = len(types) - sum(types)
            if not ids or types != [0] * before + [1] * (len(ids) - before):
                raise BadInput(f"example {start + row + 1}: the tokenizer gives tokens {ids} of types {types}")
            tokens.append(np.asarray(ids, dtype))
            lengths.append(len(ids))
            second.append(before)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    targets = np.asarray(labels)
    targets = targets.astype(np.float32 if targets.dtype.kind == "f" else np.int32)
    return Split(np.concatenate(tokens), offsets, np.asarray(second, np.int32), targets)


def fingerprint(labels: Sequence[str], splits: Mapping[str, Split]) -> str:
    """16 hexadecimal digits of the SHA-256 of all tokenised content and the names of the labels."""
    digest = hashlib.sha256(repr(tuple(labels)).encode())
    for name, split in sorted(splits.items()):
        for field, values in zip(split._fields, split, strict=True):
            array = np.asarray(values)
            array = array.astype("<f4" if array.dtype.kind == "f" else "<i4")  # whatever integer holds the tokens
            digest.update(f"{name} {field} {len(array)}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()[:16]
