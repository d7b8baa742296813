"""Reviews and news in classes: Yelp, Amazon, IMDB and AG News; from files, or through `datasets` or TFDS.

They have a training set and a test set and no other, so the test set is what trials are evaluated on, as dev; with
`task.split_dev` one half of it scores them, and the other is for the unbiased score of the best.

Files: yelp_review, yelp_polarity, amazon_polarity and ag_news as Zhang, Zhao and LeCun 2015 (arXiv 1509.01626)
released them, train.csv and test.csv without a header, classes counted from 1; imdb as train.csv and test.csv with the
columns text and label (neg, pos); amazon_reviews as train.jsonl and dev.jsonl in the manner of the dumps of McAuley's
group ("reviewText", "overall"), of which reviews without a text are passed over. Other files by `task.train` and
`task.dev`.
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
    """In the order of their numbers, as the libraries write them, where they write names."""
    codes: tuple[str, ...]
    """The same as the files write them."""
    places: dict[str, str]
    """What `task.path: hub` and `tfds` stand for."""
    header: tuple[str, ...] = ()
    """The columns of a file that has no header."""
    columns: Columns = Columns("text", None, "label")
    title: str | None = None
    """A column that comes before the text, with a space between them, where the text is not in one."""
    rest: str = "description"
    """The column that comes after it."""
    splits: dict[str, Name] = {"train": Name("train.csv", "train"), "dev": Name("test.csv", "test")}  # noqa: RUF012


STARS = ("1 star", "2 star", "3 stars", "4 stars", "5 stars")
DIGITS = ("1", "2", "3", "4", "5")

TASKS = {
    "yelp_review": Entry(STARS, DIGITS, {"hub": "hub:Yelp/yelp_review_full"}, ("label", "text")),
    "yelp_polarity": Entry(
        ("negative", "positive"),
        DIGITS[:2],
        {"hub": "hub:fancyzhx/yelp_polarity", "tfds": "tfds:yelp_polarity_reviews"},
        ("label", "text"),
    ),
    "amazon_polarity": Entry(
        ("negative", "positive"),
        DIGITS[:2],
        {"hub": "hub:fancyzhx/amazon_polarity"},
        ("label", "title", "content"),
        title="title",
        rest="content",
    ),
    "amazon_reviews": Entry(
        STARS,
        ("1.0", "2.0", "3.0", "4.0", "5.0"),
        {},
        columns=Columns("reviewText", None, "overall"),
        splits={"train": Name("train.jsonl", "train"), "dev": Name("dev.jsonl", "test")},
    ),
    "imdb": Entry(
        ("neg", "pos"), ("neg", "pos"), {"hub": "hub:stanfordnlp/imdb", "tfds": "tfds:imdb_reviews/plain_text"}
    ),
    "ag_news": Entry(
        ("World", "Sports", "Business", "Sci/Tech"),
        DIGITS[:4],
        {"hub": "hub:fancyzhx/ag_news", "tfds": "tfds:ag_news_subset"},
        ("label", "title", "description"),
        title="title",
    ),
}
NAMES = tuple(TASKS)


def read(config: TaskConfig) -> Source:
    """Reads the task `config.name`; a test split of its own only where `config.test` names one. Raises BadInput."""
    entry = TASKS[config.name]
    own = f"{config.name} has its own; this key is for task.name: text"
    refuse(config, ("text", "text_pair", "label", "labels", "regression"), own)
    places = "".join(f", or {place}" for place in entry.places)
    names = " and ".join(name.file for name in entry.splits.values())
    if config.path is None or (config.path in ("hub", "tfds") and config.path not in entry.places):
        where = f"found {config.path!r}, but " if config.path else ""
        raise BadInput(f"task.path: {where}{config.name} needs the folder with its {names}{places}")
    path = entry.places.get(config.path, config.path)
    found, library = tables(replace(config, path=path), entry.splits, lambda split, file: _file(entry, file))
    found = {split: _texts(entry, table) for split, table in found.items()}
    # A library has the names, or numbers from 0; Yelp's two classes are called "1" and "2" there too.
    called = {str(number): number for number in range(len(entry.labels))} if library else {}
    called |= {code: number for number, code in enumerate(entry.codes)} if not library or _named(entry, found) else {}
    numbers = called | {name: number for number, name in enumerate(entry.labels)}
    columns = entry.columns
    return Source(
        {split: raw(table, columns, numbers, split != "test") for split, table in found.items()},
        entry.labels,
        "accuracy",
    )


def _file(entry: Entry, file: Path) -> Table:
    return files.read(file, entry.header if file.suffix == ".csv" else ())


def _named(entry: Entry, found: dict[str, Table]) -> bool:
    """Whether a library's class names are the codes of the files: counted from 1, none of them is "0"."""
    seen = {str(value) for table in found.values() for value in table.columns.get(entry.columns.label, [])}
    return "0" not in seen and seen <= set(entry.codes)


def _texts(entry: Entry, table: Table) -> Table:
    """With the text in one column, where there is one. Raises BadInput."""
    columns, name = table.columns, entry.columns.text
    if entry.title and name not in columns:
        joined = zip(table.column(entry.title), table.column(entry.rest), strict=True)
        return table._replace(columns=columns | {name: [f"{title} {text}" for title, text in joined]})
    if entry.columns.text != "reviewText":
        return table
    kept = [row for row, text in enumerate(table.column(name)) if text is not None and str(text).strip()]
    lacking = len(table.places) - len(kept)
    if not lacking:
        return table
    if not kept:
        raise BadInput(f"{table.name}: no row has a text in column {name!r}")
    warnings.warn(
        Note(f"{table.name}: {lacking} of {len(table.places)} reviews have no text and are passed over"), stacklevel=2
    )
    return table._replace(
        columns={column: [values[row] for row in kept] for column, values in columns.items()},
        places=[table.places[row] for row in kept],
    )
