"""What a task's file gives: texts and labels, before any tokenizer; and how files become that."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxft.config import TaskConfig
from jaxft.data import hub
from jaxft.data.files import Table
from jaxft.errors import BadInput


class Raw(NamedTuple):
    """One split as it was read."""

    texts: list[tuple[str, str | None]]
    """The first text and the second one; the second is None in every example of a task of single texts."""
    labels: list[int]
    """Class numbers; -1 where the label is unknown."""


class Source(NamedTuple):
    """A data set as text. Each `tasks/<name>.py` has `read(config: TaskConfig) -> Source`."""

    splits: dict[str, Raw]
    """"train" and "dev" always, "test" where there is one."""
    labels: tuple[str, ...]
    """Names of the classes, in the order of their numbers."""
    metric: str
    """What scores a trial when the study does not say."""


class Columns(NamedTuple):
    """Which columns of a table matter."""

    text: str
    pair: str | None
    label: str


def paths(config: TaskConfig) -> dict[str, Path]:
    """The files of the splits, each there. Raises BadInput for a missing folder or file."""
    folder = Path(config.path or ".").expanduser()
    if not os.path.isdir(folder):  # unlike pathlib's, False for a name that no file can have
        raise BadInput(f"task.path: no folder {folder}")
    names = {"train": config.train, "dev": config.dev, "test": config.test}
    found = {split: folder / Path(name).expanduser() for split, name in names.items() if name is not None}
    for split, file in found.items():
        if not os.path.isfile(file):
            beside = sorted(os.listdir(file.parent)) if os.path.isdir(file.parent) else []
            shown = ", ".join(beside[:10]) or "nothing"
            raise BadInput(f"task.{split}: no file {file}; its folder has {shown}")
    return found


def saved(config: TaskConfig) -> dict[str, Table] | None:
    """The splits at `task.path` where that is a folder saved by `datasets`, else None. Raises BadInput."""
    folder = Path(config.path or ".").expanduser()
    return hub.saved(folder, hub_splits(config)) if hub.is_saved(folder) else None


def hub_splits(config: TaskConfig) -> dict[str, str]:
    """Our names of the splits with the names that a data set of `datasets` has for them.

    They are train and validation unless the study names others, as in `task.dev: validation_matched`.
    """
    usual = TaskConfig()
    train = "train" if config.train == usual.train else config.train
    dev = "validation" if config.dev == usual.dev else config.dev
    return {"train": train, "dev": dev} | ({"test": config.test} if config.test else {})


def raw(table: Table, columns: Columns, numbers: Mapping[str, int], labelled: bool = True) -> Raw:
    """The texts and labels of a table, checked; `numbers` maps each label as written to its class number.

    Where `labelled` is false, labels may be missing, one by one or as a column, and are -1. Raises BadInput
    for an empty text and for a label outside the set.
    """
    first = texts(table, columns.text)
    second = texts(table, columns.pair) if columns.pair is not None else [None] * len(first)
    if not labelled and columns.label not in table.columns:
        return Raw(list(zip(first, second, strict=True)), [-1] * len(first))
    labels = []
    for row, name in enumerate(label_names(table, columns.label)):
        if name is None and labelled:
            raise BadInput(f"{table.where(row)}: no label in column {columns.label!r}")
        if name is not None and name not in numbers:
            shown = ", ".join(list(numbers)[:20]) + (", ..." if len(numbers) > 20 else "")
            raise BadInput(f"{table.where(row)}: label {name!r} is not in the set; accepted are {shown}")
        labels.append(-1 if name is None else numbers[name])
    return Raw(list(zip(first, second, strict=True)), labels)


def texts(table: Table, column: str) -> list[str]:
    """A column of texts, none of them empty. Raises BadInput."""
    values = table.column(column)
    for row, value in enumerate(values):
        if value is None or (isinstance(value, str) and not value.strip()):
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
