"""Tasks that a program adds: texts and labels from memory."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from jaxft.data.files import Table
from jaxft.errors import BadInput
from jaxft.study.config import TaskConfig
from jaxft.tasks import text
from jaxft.tasks.source import Columns, Source, refuse

Examples = tuple[Iterable[Any], Iterable[Any]]
"""Texts and labels, as many of each: lists, arrays or columns of a data frame. A text is one, or a pair of two."""

OWN: dict[str, "Own"] = {}
"""By name."""


class Own(NamedTuple):
    """A task that was added."""

    read: Callable[[TaskConfig], Source]


def add(name: str, train: Examples, dev: Examples, test: Examples | None = None) -> None:
    """Makes a task of examples in memory, for this process; one of this name that was added before is replaced.

    What else a study may say of its task holds as for `text`: `labels`, `regression`, `metric`, `n_train` and so on.

    Args:
        name: what a study calls it, as `task.name`.
        train: texts and labels.
        dev: likewise.
        test: likewise; a label may be None there.

    Raises:
        BadInput: not as many texts as labels, something that is neither a text nor a pair of texts, or both.
    """
    given = {"train": train, "dev": dev} | ({"test": test} if test is not None else {})
    tables = {split: _table(f"{name}.{split}", *examples) for split, examples in given.items()}
    if len({"pair" in table.columns for table in tables.values()}) > 1:
        raise BadInput(f"{name}: the texts of some splits are pairs, those of others are not")
    pair = "pair" if "pair" in tables["train"].columns else None

    def read(config: TaskConfig) -> Source:
        refuse(config, ("path", "train", "dev", "test", "text", "text_pair", "label"), f"{name} is in memory already")
        return text.made(config, tables, Columns("text", pair, "label"))

    OWN[name] = Own(read)


def _table(name: str, texts: Iterable[Any], labels: Iterable[Any]) -> Table:
    found, values = _plain(texts), _plain(labels)
    if not found or len(found) != len(values):
        raise BadInput(f"{name}: {len(found)} texts and {len(values)} labels, expected as many of each")
    pairs = [each for each in found if not isinstance(each, str)]
    if pairs and len(pairs) < len(found):
        raise BadInput(f"{name}: some of its texts are pairs, others are not")
    for each in pairs:
        if not (isinstance(each, tuple | list) and len(each) == 2 and all(isinstance(one, str) for one in each)):
            raise BadInput(f"{name}: expected a text or a pair of two, found {each!r}")
    halves = {"text": [one for one, _ in pairs], "pair": [other for _, other in pairs]} if pairs else {"text": found}
    return Table(name, {**halves, "label": values}, list(range(len(found))), "example")


def _plain(values: Iterable[Any]) -> list[Any]:
    """Texts and numbers of numpy as Python's own."""
    return [value.item() if hasattr(value, "item") else value for value in values]
