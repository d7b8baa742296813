"""One part of the report: what an analysis found, or why it found nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from jaxft.errors import BadInput
from jaxft.report.figures import svg

Found = TypeVar("Found")


class Drawing(NamedTuple):
    """A figure of the page."""

    svg: str
    sentence: str
    """What it shows, with the numbers."""


class Listing(NamedTuple):
    """A table of the page."""

    name: str
    """Of its files: tables/NAME.csv and .json."""
    title: str
    shown: pd.DataFrame
    """What of it stands in the page."""
    open: bool


@dataclass
class Part:
    """Figures, sentences and tables that answer one question."""

    name: str
    """Unique within the page: its anchor."""
    title: str
    subject: str = ""
    """Of whom it is: its reasons need not say so."""
    said: list[str] = field(default_factory=list)
    """Sentences."""
    warned: list[str] = field(default_factory=list)
    """What is to be known before the numbers are believed."""
    drawings: list[Drawing] = field(default_factory=list)
    listings: list[Listing] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    """What could not be done, and why."""
    tiles: list[tuple[str, str]] = field(default_factory=list)
    """Labels and numbers that stand out."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the summary tells of it."""
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    """By name, whole, as the functions of `jaxft.stats` returned them."""

    def attempt(self, what: str, function: Callable[..., Found], *args: Any, **more: Any) -> Found | None:
        """What a function returns; None where it cannot do this input, which the page then says with the reason."""
        try:
            return function(*args, **more)
        except BadInput as error:
            self.refused.append((what, " ".join(str(error).removeprefix(f"{self.subject}: ").split())))
            return None

    def draw(self, figure: Figure, sentence: str) -> None:
        """Adds a figure with the sentence that says what it shows."""
        name = f"{self.name}-{len(self.drawings)}"
        self.drawings.append(Drawing(svg.inline(figure, name, sentence), sentence))

    def table(self, name: str, frame: pd.DataFrame, title: str, *, shown: Any = None, open: bool = False) -> None:
        """Adds a table: whole into the files, `shown` of it into the page."""
        self.tables[name] = frame
        self.listings.append(Listing(name, title, frame if shown is None else shown, open))
