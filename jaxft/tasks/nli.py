"""SNLI, SciTail and SICK: from the files as they were released, or through `datasets`.

Files: snli_1.0_train.jsonl, scitail_1.0_train.tsv (without a header) and SICK_train.tsv (.txt renamed), or what
`task.train` and `task.dev` name. SNLI's pairs on which its annotators did not agree, which have no label, are passed
over, as is usual.
"""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from jaxft.data import files
from jaxft.data.files import Table
from jaxft.errors import BadInput, Note
from jaxft.study.config import TaskConfig
from jaxft.tasks.source import Columns, Name, Source, raw, refuse, tables


class Entry(NamedTuple):
    """What tells one from another."""

    labels: tuple[str, ...]
    """As most distributions write them, in the order of their numbers."""
    files: Columns
    library: Columns
    splits: dict[str, Name]
    hub: str | None
    """Where `task.path: hub` finds it."""
    header: tuple[str, ...] = ()
    """The columns of a file that has no header."""
    unlabelled: tuple[str, ...] = ()
    """How a pair without a label is marked; None is one in any case."""
    aliases: dict[str, str] = {}  # noqa: RUF012


NLI = ("entailment", "neutral", "contradiction")

TASKS = {
    "snli": Entry(
        NLI,
        Columns("sentence1", "sentence2", "gold_label"),
        Columns("premise", "hypothesis", "label"),
        {"train": Name("snli_1.0_train.jsonl", "train"), "dev": Name("snli_1.0_dev.jsonl", "validation")},
        "hub:stanfordnlp/snli",
        unlabelled=("-", "-1"),
    ),
    "scitail": Entry(
        ("entails", "neutral"),
        Columns("premise", "hypothesis", "label"),
        Columns("premise", "hypothesis", "label"),
        {"train": Name("scitail_1.0_train.tsv", "train"), "dev": Name("scitail_1.0_dev.tsv", "validation")},
        "hub:allenai/scitail:tsv_format",
        header=("premise", "hypothesis", "label"),
        aliases={"entailment": "entails"},
    ),
    "sick": Entry(
        NLI,
        Columns("sentence_A", "sentence_B", "entailment_judgment"),
        Columns("sentence_A", "sentence_B", "label"),
        {"train": Name("SICK_train.tsv", "train"), "dev": Name("SICK_trial.tsv", "validation")},
        None,
    ),
}
NAMES = tuple(TASKS)


def read(config: TaskConfig) -> Source:
    """Reads the task `config.name`; a test split only where `config.test` names it. Raises BadInput."""
    entry = TASKS[config.name]
    own = f"{config.name} has its own; this key is for task.name: text"
    refuse(config, ("text", "text_pair", "label", "labels", "regression"), own)
    names = " and ".join(name.file for name in entry.splits.values())
    if config.path is None:
        raise BadInput(f"task.path: {config.name} needs the folder with its {names}{', or hub' if entry.hub else ''}")
    if config.path == "hub" and entry.hub is None:
        raise BadInput(
            f"task.path: {config.name} has no one place on the hub: hub:OWNER/NAME, or a folder with {names}"
        )
    path = entry.hub if config.path == "hub" else config.path
    found, library = tables(replace(config, path=path), entry.splits, lambda split, file: _file(entry, file))
    columns = entry.library if library else entry.files
    numbers = {name: number for number, name in enumerate(entry.labels)}
    numbers |= {alias: numbers[name] for alias, name in entry.aliases.items()}
    numbers |= {name.upper(): number for name, number in numbers.items()}
    numbers |= {str(number): number for number in range(len(entry.labels))} if library else {}
    labelled = {split: _labelled(entry, table, columns.label) for split, table in found.items()}
    raws = {split: raw(table, columns, numbers, split != "test", empty=True) for split, table in labelled.items()}
    return Source(raws, entry.labels, "accuracy")


def _file(entry: Entry, file: Path) -> Table:
    return files.read(file, entry.header if file.suffix == ".tsv" else ())


def _labelled(entry: Entry, table: Table, label: str) -> Table:
    """The rows that have a label, where some of the data set have none by design. Raises BadInput."""
    if not entry.unlabelled:
        return table
    kept = [row for row, value in enumerate(table.column(label)) if not _none(entry, value)]
    lacking = len(table.places) - len(kept)
    if not lacking:
        return table
    if not kept:
        raise BadInput(f"{table.name}: no row has a label in column {label!r}")
    warnings.warn(
        Note(f"{table.name}: {lacking} of {len(table.places)} pairs have no label and are passed over"), stacklevel=2
    )
    columns = {name: [values[row] for row in kept] for name, values in table.columns.items()}
    return table._replace(columns=columns, places=[table.places[row] for row in kept])


def _none(entry: Entry, value: object) -> bool:
    return value is None or str(value) in entry.unlabelled
