"""What a task's file gives: texts and labels, before any tokenizer; and how the data at `task.path` become that."""

import math
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxft.data import files, hub, tfds
from jaxft.data.files import Table
from jaxft.data.library import Library
from jaxft.errors import BadInput
from jaxft.study.config import TaskConfig


class Raw(NamedTuple):
    """One split as it was read."""

    texts: list[tuple[str, str | None]]
    """The first text and the second one; the second is None in every example of a task of single texts."""
    labels: list[int] | list[float]
    """Class numbers, -1 where the label is unknown; or numbers to be predicted, NaN where unknown."""


class Source(NamedTuple):
    """A data set as text. Each `tasks/<name>.py` has `read(config: TaskConfig) -> Source`."""

    splits: dict[str, Raw]
    """"train" and "dev" always, "test" where there is one."""
    labels: tuple[str, ...]
    """Names of the classes, in the order of their numbers; empty where the labels are numbers to be predicted."""
    metric: str
    """What scores a trial when the study does not say."""


class Columns(NamedTuple):
    """Which columns of a table matter."""

    text: str
    pair: str | None
    label: str


class Name(NamedTuple):
    """What a split is called."""

    file: str
    split: str
    """By `datasets` and TFDS."""


USUAL = {"train": Name("train.tsv", "train"), "dev": Name("dev.tsv", "validation")}
"""The splits that are read where the study names none."""
DATA_SETS = {"hub": "hub:OWNER/NAME and hub:OWNER/NAME:CONFIG", "tfds": "tfds:NAME and tfds:NAME/CONFIG"}
"""How `task.path` names a data set of a library."""


def tables(
    config: TaskConfig,
    usual: Mapping[str, Name] = USUAL,
    read: Callable[[str, Path], Table] = lambda split, file: files.read(file),
) -> tuple[dict[str, Table], bool]:
    """The tables of the splits at `task.path`, and whether a library gave them.

    Args:
        config: `path` is a folder with files, or saved by `datasets`, or prepared by TFDS; or a data set as in
            hub:OWNER/NAME, hub:OWNER/NAME:CONFIG, tfds:NAME or tfds:NAME/CONFIG.
        usual: the splits that the task has, a second dev set as "dev_..." among them.
        read: what reads the file of a split.

    Raises:
        BadInput: a folder, data set, file or split that is not there or cannot be read.
    """
    names = _named(config, usual)
    library = _library(config.path or ".")
    if library is None:
        return {split: read(split, file) for split, file in _paths(config, names).items()}, False
    for split, name in names.items():
        if name.split not in library.splits:
            raise _absent(split, f"no split {name.split!r} in {library.name}; it has {', '.join(library.splits)}")
    return {split: library.read(name.split) for split, name in names.items()}, True


def _named(config: TaskConfig, usual: Mapping[str, Name]) -> dict[str, Name]:
    """The usual names, or the study's own; a dev set that the study names is the only one."""
    default = TaskConfig()
    names = dict(usual)
    if config.train != default.train:
        names["train"] = Name(config.train, config.train)
    if config.dev != default.dev:
        names = {"train": names["train"], "dev": Name(config.dev, config.dev)}
    return names if config.test is None else names | {"test": Name(config.test, config.test)}


def _library(path: str) -> Library | None:
    """The data set of a library at `task.path`, if it is one. Raises BadInput."""
    kind, _, name = path.partition(":")
    if kind in DATA_SETS and not name:
        raise BadInput(f"task.path: found {path!r}, accepted are {DATA_SETS[kind]}, and for a GLUE task {kind} alone")
    if kind == "hub":
        repository, _, subset = name.partition(":")
        return hub.fetch(repository, subset or None)
    if kind == "tfds":
        return tfds.prepared(name)
    folder = Path(path).expanduser()
    return hub.saved(folder) if hub.is_saved(folder) else tfds.saved(folder) if tfds.is_prepared(folder) else None


def _paths(config: TaskConfig, names: Mapping[str, Name]) -> dict[str, Path]:
    """The files of the splits, each there. Raises BadInput for a missing folder or file."""
    folder = Path(config.path or ".").expanduser()
    if not os.path.isdir(folder):  # unlike pathlib's, False for a name that no file can have
        raise BadInput(f"task.path: no folder {folder}")
    found = {split: folder / Path(name.file).expanduser() for split, name in names.items()}
    for split, file in found.items():
        if not os.path.isfile(file):
            beside = sorted(os.listdir(file.parent)) if os.path.isdir(file.parent) else []
            raise _absent(split, f"no file {file}; its folder has {', '.join(beside[:10]) or 'nothing'}")
    return found


def _absent(split: str, said: str) -> BadInput:
    key, _, second = split.partition("_")
    return BadInput(
        f"task.{key}: {said}{f'; without a second dev set, name the first in task.{key}' if second else ''}"
    )


def raw(
    table: Table, columns: Columns, numbers: Mapping[str, int] | None, labelled: bool = True, empty: bool = False
) -> Raw:
    """The texts and labels of a table, checked.

    Args:
        table: of one split.
        columns: of the texts and the label.
        numbers: each label as written with its class number; None where the labels are numbers to be predicted.
        labelled: where false, labels may be missing, one by one or as a column, and are -1 or NaN.
        empty: whether a text may be empty.

    Raises:
        BadInput: an empty text, a missing label, or one that is not in the set or not a finite number.
    """
    first = texts(table, columns.text, empty)
    second = texts(table, columns.pair, empty) if columns.pair is not None else [None] * len(first)
    absent = not labelled and columns.label not in table.columns
    names = [None] * len(first) if absent else label_names(table, columns.label)
    labels = []
    for row, name in enumerate(names):
        if name is not None:
            labels.append(_target(table, row, name) if numbers is None else _class(table, row, name, numbers))
        elif not labelled:
            labels.append(math.nan if numbers is None else -1)
        else:
            raise BadInput(f"{table.where(row)}: no label in column {columns.label!r}")
    return Raw(list(zip(first, second, strict=True)), labels)


def _class(table: Table, row: int, name: str, numbers: Mapping[str, int]) -> int:
    if name not in numbers:
        shown = ", ".join(list(numbers)[:20]) + (", ..." if len(numbers) > 20 else "")
        raise BadInput(f"{table.where(row)}: label {name!r} is not in the set; accepted are {shown}")
    return numbers[name]


def _target(table: Table, row: int, name: str) -> float:
    """The number as 32 bits hold it."""
    try:
        (number,) = struct.unpack("<f", struct.pack("<f", float(name)))
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or "_" in name:  # Python reads 1_0 as ten
        raise BadInput(f"{table.where(row)}: found the label {name!r}, a finite number of 32 bits is accepted")
    return number


def texts(table: Table, column: str, empty: bool = False) -> list[str]:
    """A column of texts, none of them empty unless `empty`. Raises BadInput."""
    values = table.column(column)
    for row, value in enumerate(values):
        if value is None or (isinstance(value, str) and not value.strip() and not empty):
            raise BadInput(f"{table.where(row)}: empty text in column {column!r}")
        if not isinstance(value, str):
            raise BadInput(f"{table.where(row)}: {column!r} is not a text ({type(value).__name__})")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:  # JSON can spell half of a surrogate pair, which no tokenizer takes
                raise BadInput(f"{table.where(row)}: {column!r} is not valid Unicode") from None
    return values


def label_names(table: Table, column: str) -> list[str | None]:
    """A column of labels as text; None where it is empty. Raises BadInput for a list or an object of JSON."""
    return [_label(table, row, value) for row, value in enumerate(table.column(column))]


def _label(table: Table, row: int, value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise BadInput(f"{table.where(row)}: a label is a text or a number, found {type(value).__name__}")


def refuse(config: TaskConfig, keys: Iterable[str], why: str) -> None:
    """Raises BadInput for the first of these keys that is set, with why the task does not take it."""
    usual = TaskConfig()
    for key in keys:
        if getattr(config, key) != getattr(usual, key):
            raise BadInput(f"task.{key}: {why}")
