"""Numbers as sentences have them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

MINUS, DASH, TIMES, GLUE = "\N{MINUS SIGN}", "\N{EN DASH}", "\N{MULTIPLICATION SIGN}", "\N{NO-BREAK SPACE}"


def number(value: Any, digits: int = 4) -> str:
    """A score or a statistic: "0.8247"; "-" where there is none."""
    value = float(value)
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if value and (abs(value) >= 10_000 or abs(value) < 10**-digits):
        return f"{value:.3g}".replace("-", MINUS)
    places = digits if abs(value) < 10 else max(0, digits - 2)
    return f"{value:.{places}f}".replace("-", MINUS)


def signed(value: Any, digits: int = 4) -> str:
    """ "+0.0071"."""
    return f"+{number(value, digits)}" if value > 0 else number(value, digits)


def percent(value: Any) -> str:
    """A share: "6.4 %", with a space that does not break."""
    if math.isnan(value):
        return DASH
    return f"{100 * value:.1f}".removesuffix(".0").replace("-", MINUS) + f"{GLUE}%"


def p_value(value: Any) -> str:
    """ "p = 0.023", "p < 0.0001"."""
    if math.isnan(value):
        return "p is not known"
    return f"p{GLUE}<{GLUE}0.0001" if value < 0.0001 else f"p{GLUE}={GLUE}{value:.2g}"


def count(n: Any, one: str, several: str | None = None) -> str:
    """ "1 trial", "2,100 trials"."""
    return f"{n:,} {one if n == 1 else several or one + 's'}"


def between(low: Any, high: Any, word: str = "to") -> str:
    """ "0.52 to 0.77"."""
    return f"{number(low)} {word} {number(high)}"


def listed(items: Sequence[object], most: int = 8) -> str:
    """ "a, b and c"."""
    shown = [str(item) for item in items[:most]]
    if len(items) > most:
        return f"{', '.join(shown)} and {len(items) - most} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def rows(frame: Any) -> list[Any]:
    """The rows of a table, with its columns as attributes."""
    return list(frame.itertuples(index=False))


def factor(name: str) -> str:
    """ "init_seed" -> "init seed"."""
    return name.replace("_", " ")


def cell(value: object, column: str = "") -> str:
    """As a table has it."""
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return str(value) if "seed" in column or column == "step" else f"{value:,}"
    if isinstance(value, float | np.floating):
        if math.isnan(value):
            return ""
        if column in ("p", "corrected_p") or column.endswith("_p"):
            return f"{value:.2g}" if value >= 0.0001 else f"{value:.1e}"
        whole = column in ("df", "n") and abs(value) < 1e6 and value == int(value)
        return str(int(value)) if whole else number(value)
    return str(value)
