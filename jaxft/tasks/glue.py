"""The nine GLUE tasks in the official TSV layout, or through `datasets` or TFDS.

From a folder with files: plain tabs, no quoting, a byte order mark accepted; CoLA's train and dev files have no header.
From a library: the columns of `nyu-mll/glue`, which TFDS has too. `task.path: hub` or `tfds` is enough.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from jaxft.data import files
from jaxft.data.files import Table
from jaxft.errors import BadInput
from jaxft.study.config import TaskConfig
from jaxft.tasks.source import USUAL, Columns, Name, Source, raw, refuse, tables

HUB = "nyu-mll/glue"
PAIR = Columns("sentence1", "sentence2", "label")
SINGLE = Columns("sentence", None, "label")
DIGITS = ("0", "1", "2")
ENTAILMENT = ("entailment", "not_entailment")
MNLI = ("entailment", "neutral", "contradiction")
BOTH_DEV = {
    "train": USUAL["train"],
    "dev": Name("dev_matched.tsv", "validation_matched"),
    "dev_mismatched": Name("dev_mismatched.tsv", "validation_mismatched"),
}


class Entry(NamedTuple):
    """What tells one GLUE task from another."""

    metric: str
    labels: tuple[str, ...]
    """Names of the classes, in the order of GLUE's numbers; none for a regression."""
    files: Columns
    library: Columns
    codes: tuple[str, ...] = ("0", "1")
    """The labels as the files write them, in the same order."""
    header: tuple[str, ...] = ()
    """The columns where the train and dev files have no header."""
    splits: dict[str, Name] = USUAL
    flawed: bool = False
    """The official files hold rows that lack columns, passed over here, and empty texts, which stay: as on the hub."""


TASKS = {
    "cola": Entry(
        "mcc", ("unacceptable", "acceptable"), SINGLE, SINGLE, header=("source", "label", "mark", "sentence")
    ),
    "sst2": Entry("accuracy", ("negative", "positive"), SINGLE, SINGLE),
    "mrpc": Entry("accuracy_f1", ("not_equivalent", "equivalent"), Columns("#1 String", "#2 String", "Quality"), PAIR),
    "stsb": Entry("pearson_spearman", (), Columns("sentence1", "sentence2", "score"), PAIR, codes=()),
    "qqp": Entry(
        "accuracy_f1",
        ("not_duplicate", "duplicate"),
        Columns("question1", "question2", "is_duplicate"),
        Columns("question1", "question2", "label"),
        flawed=True,
    ),
    "mnli": Entry(
        "accuracy",
        MNLI,
        Columns("sentence1", "sentence2", "gold_label"),
        Columns("premise", "hypothesis", "label"),
        codes=MNLI,
        splits=BOTH_DEV,
    ),
    "qnli": Entry(
        "accuracy",
        ENTAILMENT,
        Columns("question", "sentence", "label"),
        Columns("question", "sentence", "label"),
        codes=ENTAILMENT,
    ),
    "rte": Entry("accuracy", ENTAILMENT, PAIR, PAIR, codes=ENTAILMENT),
    "wnli": Entry("accuracy", ("not_entailment", "entailment"), PAIR, PAIR),
}
NAMES = tuple(TASKS)


def read(config: TaskConfig) -> Source:
    """Reads the GLUE task `config.name`; a test split only where `config.test` names it. Raises BadInput."""
    entry = TASKS[config.name]
    own = f"{config.name} has its own; this key is for task.name: text"
    refuse(config, ("text", "text_pair", "label", "labels", "regression"), own)
    if config.path is None:
        names = " and ".join(name.file for name in entry.splits.values())
        raise BadInput(f"task.path: {config.name} needs the folder with its {names}, or hub, or tfds")
    whole = {"hub": f"hub:{HUB}:{config.name}", "tfds": f"tfds:glue/{config.name}"}
    config = replace(config, path=whole.get(config.path, config.path))
    found, library = tables(config, entry.splits, lambda split, file: _file(entry, split, file))
    columns = entry.library if library else entry.files
    names = entry.labels + DIGITS[: len(entry.labels)] if library else entry.codes
    numbers = {name: number % len(entry.labels) for number, name in enumerate(names)} if entry.labels else None
    if library:
        found = {split: _hidden(table, columns.label) for split, table in found.items()}
    raws = {split: raw(table, columns, numbers, split != "test", entry.flawed) for split, table in found.items()}
    return Source(raws, entry.labels, entry.metric)


def _file(entry: Entry, split: str, file: Path) -> Table:
    header = entry.header
    if split == "test" and header:  # CoLA's own has a header and fewer columns; one cut from its dev file has none
        with file.open("rb") as lines:
            header = header if lines.readline().count(b"\t") + 1 == len(header) else ()
    return files.read(file, header, broken=entry.flawed)


def _hidden(table: Table, label: str) -> Table:
    """Of labels that GLUE keeps to itself the libraries make -1, of STS-B's too, where it is no class's number."""
    known = [None if value == -1 else value for value in table.columns.get(label, [])]
    return table._replace(columns=table.columns | {label: known}) if known else table
