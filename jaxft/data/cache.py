"""Tokenised splits kept on disk by what they were made of, so that a large data set is tokenised once.

In the folder that JAXFT_CACHE names, else in `jaxft/data` below XDG_CACHE_HOME or ~/.cache; nothing is ever removed
from it but what is damaged, and what a killed process left half-made a day ago. Small data sets are not kept: they are
tokenised faster than they would be found.
"""

import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np

from jaxft.errors import Note, line
from jaxft.types import Split

FORMAT = 1  # of what lies in the cache: another one is another key
OLD = 24 * 3600
"""Seconds after which nobody still writes what has not changed since."""
LEAST = 50_000
"""Examples, of all splits together, from which on they are kept."""

Splits = dict[str, Split]


def folder() -> Path:
    """Where tokenised data are kept."""
    named = os.environ.get("JAXFT_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxft" / "data"


Texts = tuple[Iterable[tuple[str, str | None]], Iterable[Any]]
"""Of a split the first and the second text of each example, and the labels."""


def key(texts: Mapping[str, Texts], tokenizer: Any, length: int) -> str:
    """64 hexadecimal digits that depend on all that a tokenised data set is made of.

    Args:
        texts: by split.
        tokenizer: a fast one of transformers.
        length: to which examples are cut, in tokens.
    """
    digest = hashlib.sha256(f"{FORMAT} {length} {type(tokenizer).__name__}".encode())
    told = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {name: value for name, value in told.items() if name not in ("truncation", "padding")}  # of the last call
    digest.update(json.dumps(kept, sort_keys=True).encode())
    for name, (pairs, labels) in sorted(texts.items()):
        digest.update(f"\0\0{name}".encode())
        for (first, second), label in zip(pairs, labels, strict=True):
            parts = (first, "\2" if second is None else f"\1{second}", repr(label))
            digest.update("\0".join(parts).encode())
            digest.update(b"\0\0")
    return digest.hexdigest()


def kept(name: str, make: Callable[[], Splits], fingerprint: Callable[[Splits], str]) -> Splits:
    """The splits of this key, memory-mapped from the cache, or made and put there.

    A cache that is damaged is made again, and one that cannot be written is left; a Note says so.

    Args:
        name: what `key` gave.
        make: tokenises.
        fingerprint: of tokenised splits, by which a damaged cache is known.
    """
    place = folder() / name
    if os.path.isdir(place):
        try:
            return _read(place, fingerprint)
        except (OSError, ValueError, LookupError, TypeError, EOFError) as error:
            _tell(f"{place}: damaged ({line(error)}); the data are tokenised again")
            shutil.rmtree(place, ignore_errors=True)
    made = make()
    try:
        _write(place, made, fingerprint(made))
        return _read(place, fingerprint)
    except (OSError, ValueError, LookupError) as error:
        _tell(f"{place}: the tokenised data cannot be kept ({line(error)}); they are made anew at each start")
        return made


def _read(place: Path, fingerprint: Callable[[Splits], str]) -> Splits:
    told = json.loads((place / "splits.json").read_text())
    found = {
        split: Split(*(np.load(place / f"{split}.{field}.npy", mmap_mode="r") for field in Split._fields))
        for split in told["splits"]
    }
    for split, arrays in found.items():
        sizes = len(arrays.offsets) - 1, len(arrays.second), len(arrays.labels)
        if len(set(sizes)) > 1 or arrays.offsets[-1] != len(arrays.tokens):
            raise ValueError(f"{split}: arrays of unequal length")
    if fingerprint(found) != told["fingerprint"]:
        raise ValueError("its content has changed")
    return found


def _write(place: Path, splits: Splits, fingerprint: str) -> None:
    """All of it or nothing: made beside its place and renamed. If another process was faster, its own stays."""
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f"{place.name[:12]}-{os.getpid()}-{token_hex(4)}.part")
    beside.mkdir()  # with the rights that the user's files have; a kill leaves it behind
    _sweep(place.parent)
    try:
        for split, arrays in splits.items():
            for field, values in zip(Split._fields, arrays, strict=True):
                np.save(beside / f"{split}.{field}.npy", np.asarray(values), allow_pickle=False)
        (beside / "splits.json").write_text(json.dumps({"splits": list(splits), "fingerprint": fingerprint}))
        try:
            os.rename(beside, place)
        except OSError:
            if not os.path.isdir(place):
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Removes what killed processes have left, as far as one may."""
    for left in folder.glob("*.part"):
        try:
            changed = max(path.stat().st_mtime for path in (left, *left.iterdir()))
            if time.time() - changed > OLD:
                shutil.rmtree(left)
        except OSError:  # another process was faster, or it is another user's
            continue


def _tell(said: str) -> None:
    warnings.warn(Note(said), stacklevel=4)
