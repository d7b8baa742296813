"""GLUE tasks in the official TSV layout, or through `datasets`.

From a folder: plain tabs, no quoting, a byte order mark accepted, CoLA's train and dev files have no header.
From the hub (`task.path: hub`) or from a folder that `datasets` saved: the columns of `nyu-mll/glue`.
"""

from pathlib import Path
from typing import NamedTuple

from jaxft.config import TaskConfig
from jaxft.data import files, hub
from jaxft.data.files import Table
from jaxft.errors import BadInput
from jaxft.tasks.source import Columns, Source, hub_splits, paths, raw, refuse, saved

HUB = "nyu-mll/glue"


class Entry(NamedTuple):
    """What tells one GLUE task from another."""

    files: Columns
    hub: Columns
    codes: tuple[str, ...]
    """The labels as the files write them, in the order of GLUE's class numbers."""
    labels: tuple[str, ...]
    """Their names."""
    metric: str
    header: tuple[str, ...] = ()
    """The columns where the train and dev files have no header."""


TASKS = {
    "mrpc": Entry(
        files=Columns("#1 String", "#2 String", "Quality"),
        hub=Columns("sentence1", "sentence2", "label"),
        codes=("0", "1"),
        labels=("not_equivalent", "equivalent"),
        metric="accuracy_f1",
    ),
    "rte": Entry(
        files=Columns("sentence1", "sentence2", "label"),
        hub=Columns("sentence1", "sentence2", "label"),
        codes=("entailment", "not_entailment"),
        labels=("entailment", "not_entailment"),
        metric="accuracy",
    ),
    "cola": Entry(
        files=Columns("sentence", None, "label"),
        hub=Columns("sentence", None, "label"),
        codes=("0", "1"),
        labels=("unacceptable", "acceptable"),
        metric="mcc",
        header=("source", "label", "mark", "sentence"),
    ),
    "sst2": Entry(
        files=Columns("sentence", None, "label"),
        hub=Columns("sentence", None, "label"),
        codes=("0", "1"),
        labels=("negative", "positive"),
        metric="accuracy",
    ),
}
NAMES = tuple(TASKS)


def read(config: TaskConfig) -> Source:
    """Reads the GLUE task `config.name`; a test split only where `config.test` names it. Raises BadInput."""
    entry = TASKS[config.name]
    own = f"{config.name} has its own; this key is for task.name: text"
    refuse(config, ("text", "text_pair", "label", "labels"), own)
    if config.path is None:
        raise BadInput(f"task.path: {config.name} needs the folder with its {config.train} and {config.dev}, or hub")
    splits, columns = _tables(config, entry)
    names = entry.codes if columns is entry.files else entry.labels + entry.codes
    numbers = {name: number % len(entry.labels) for number, name in enumerate(names)}
    raws = {split: raw(table, columns, numbers, split != "test") for split, table in splits.items()}
    return Source(raws, entry.labels, entry.metric)


def _tables(config: TaskConfig, entry: Entry) -> tuple[dict[str, Table], Columns]:
    if config.path == "hub":
        return hub.fetch(HUB, config.name, hub_splits(config)), entry.hub
    splits = saved(config)
    if splits is not None:
        return splits, entry.hub
    return {split: files.read(f, _header(entry, split, f)) for split, f in paths(config).items()}, entry.files


def _header(entry: Entry, split: str, file: Path) -> tuple[str, ...]:
    """CoLA's own test file has a header and fewer columns; one cut from its dev file has none."""
    if split != "test":
        return entry.header
    with file.open("rb") as lines:
        return entry.header if lines.readline().count(b"\t") + 1 == len(entry.header) else ()
