"""Texts of your own with classes or numbers: TSV, CSV, JSON lines, or a data set of `datasets` or TFDS."""

from jaxft.data.files import Table
from jaxft.errors import BadInput
from jaxft.study.config import TaskConfig
from jaxft.tasks.source import Columns, Source, label_names, raw, tables


def read(config: TaskConfig) -> Source:
    """Reads the splits that the study names; classes are `task.labels`, or the training set's, sorted.

    Labels that are all whole numbers are sorted as numbers. Test labels may be missing. Raises BadInput.
    """
    found, _ = tables(config)
    return made(config, found, Columns(config.text, config.text_pair, config.label))


def made(config: TaskConfig, found: dict[str, Table], columns: Columns) -> Source:
    """The same of tables by split. Raises BadInput."""
    if config.regression and config.labels is not None:
        raise BadInput("task.labels: not together with task.regression: the labels are numbers then, and have no names")
    labels = () if config.regression else _classes(config, found["train"], columns.label)
    numbers = None if config.regression else {name: number for number, name in enumerate(labels)}
    raws = {split: raw(table, columns, numbers, split != "test") for split, table in found.items()}
    return Source(raws, labels, "pearson_spearman" if config.regression else "accuracy")


def _classes(config: TaskConfig, train: Table, column: str) -> tuple[str, ...]:
    labels = tuple(map(str, config.labels)) if config.labels is not None else _found(train, column)
    if config.labels is not None and len(labels) < 2:
        raise BadInput(f"task.labels: two or more are needed, found {len(labels)}")
    twice = sorted({name for name in labels if labels.count(name) > 1})
    if twice:
        raise BadInput(f"task.labels: {twice[0]!r} appears twice")
    return labels


def _found(table: Table, column: str) -> tuple[str, ...]:
    labels = label_names(table, column)
    names = {name for name in labels if name is not None}  # `raw` says where one is missing
    if len(names) == 1 and None not in labels:
        raise BadInput(f"{table.name}: all labels are {names.pop()!r}; two classes are needed")
    try:
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    except ValueError:
        return tuple(sorted(names))
