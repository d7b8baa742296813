"""How all figures look: colours that the colour-blind can tell apart, text that can be read on a phone, no pyplot."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, YELLOW, PINK, GREY, BLACK = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#8a8a8a", "#1a1a1a",
)  # fmt: skip
"""Okabe and Ito's colours (2008)."""
SERIES = (BLUE, ORANGE, GREEN, PINK, YELLOW, BLACK)
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
"""Beside colours, so that lines differ in print too."""
OUTCOMES = {"converged": BLUE, "failed": ORANGE, "stopped": PINK, "diverged": BLACK}
MAP = "cividis"

WIDTH, HEIGHT = 4.6, 3.1
"""Inches: 331 points, about the pixels that a phone has, so that text keeps its size there."""

RC: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.facecolor": "white",
    "figure.titlesize": 10,
    "font.family": "sans-serif",
    "font.size": 10,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "text.parse_math": False,  # a study may be called "$x"
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
}

Drawn = TypeVar("Drawn", bound=Callable[..., Any])


def styled(draw: Drawn) -> Drawn:
    """Draws in our style, whatever the notebook's is."""

    @wraps(draw)
    def inside(*args: Any, **more: Any) -> Any:
        with matplotlib.rc_context(RC):
            return draw(*args, **more)

    return inside  # pyright: ignore[reportReturnType]


def panel(height: float = HEIGHT, width: float = WIDTH) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes; `width` and `height` in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def panels(rows: int, height: float, columns: int = 1, **shared: Any) -> tuple[Figure, list[Axes]]:
    """An empty figure with several pairs of axes, row by row."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **shared).ravel())


def short(text: object, most: int = 34) -> str:
    """As an axis has room for it: the end says more than the beginning."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in str(text))
    return shown if len(shown) <= most else f"…{shown[1 - most :]}"


def factor(name: str) -> str:
    """ "init_seed" -> "init seed"."""
    return short(name.replace("_", " "))
