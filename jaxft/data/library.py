"""What the data set libraries give: named splits, each a table."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxft.data.files import Table
from jaxft.errors import BadInput


class Library(NamedTuple):
    """A data set that a library has opened."""

    name: str
    """How a message names it."""
    splits: tuple[str, ...]
    """The names of its splits."""
    read: Callable[[str], Table]
    """The table of a split that there is. Raises BadInput."""


def table(name: str, columns: Mapping[str, list[Any]], classes: Mapping[str, Sequence[str]]) -> Table:
    """A table whose rows are counted from 1.

    Args:
        name: of the data set and its split.
        columns: values of equal length.
        classes: of each column that holds class numbers, the names; a negative number is an unknown class, None.

    Raises:
        BadInput: no rows.
    """
    count = len(next(iter(columns.values()), ()))
    if not count:
        raise BadInput(f"{name}: no rows")
    named = {
        column: [None if number is None or number < 0 else names[number] for number in columns[column]]
        for column, names in classes.items()
    }
    return Table(name, {**columns, **named}, list(range(1, count + 1)), "row")


def line(error: BaseException) -> str:
    """What a library says is wrong, in one line of bounded length."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
