"""Scores in a bare matrix: rows init, columns order, with or without names for them. No jax here."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from jaxft.errors import BadInput
from jaxft.stats.cells import EXPECTED, NOTHING, Line, is_number, is_whole, number, short

_MEASURE = re.compile(r"score|acc|f1|mcc|loss|pearson|spearman|metric|seed$", re.IGNORECASE)


def read(path: Path, lines: list[Line]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The scores of a matrix.

    Seeds are the names of rows and columns where these are whole numbers; else 1, 2, ..., also where the names only
    count from 0.

    Returns:
        init_seed, order_seed, score by trial, row by row; and the factors whose numbers are but places in the matrix.

    Raises:
        BadInput: no score, a cell that is none, or columns that are something else than seeds.
    """
    cells = np.array([found.cells for found in lines], object)
    header, labels = _edges(cells)
    body = cells[header:, labels:]
    if not body.size:
        raise BadInput(f"{path}: no score in it; {EXPECTED}")
    if header:
        _refuse_columns_of_trials(path, list(cells[0, labels:]), body)
    scores = np.zeros(body.shape)
    for (i, j), text in np.ndenumerate(body):
        scores[i, j] = number(text, f"{path}, line {lines[i + header].number}, column {j + labels + 1}")
    inits, unnamed = _axis(cells[header:, 0] if labels else None, len(body))
    orders, nameless = _axis(cells[0, labels:] if header else None, body.shape[1])
    init, order = (axis.ravel() for axis in np.meshgrid(inits, orders, indexing="ij"))
    places = ("init_seed",) * unnamed + ("order_seed",) * nameless
    return pd.DataFrame({"init_seed": init, "order_seed": order, "score": scores.ravel()}), places


def _edges(cells: np.ndarray) -> tuple[int, int]:
    """How many rows of names there are above the scores, and how many columns before them: 0 or 1 each."""
    first, left, corner = list(cells[0]), list(cells[:, 0]), cells[0, 0]
    # Whole numbers are names where the scores are none, or where the corner says that names begin.
    broken = any(is_number(text) and not is_whole(text) for text in cells[1:, 1:].ravel())
    above, before = (_are_names(side[1:], broken or not is_number(corner)) for side in (first, left))
    one_of_them = len(first) > 1 and corner and _stem(corner) == _stem(first[1])
    if above and before and not one_of_them:
        return 1, 1
    below = any(is_number(text) and not is_whole(text) for text in cells[1:].ravel())
    if len(cells) > 1 and _are_names(first, below):
        return 1, 0
    return 0, int(cells.shape[1] > 1 and _are_names(left, broken))


def _are_names(texts: Sequence[str], whole_too: bool) -> bool:
    """Whether these are names of rows or columns, not scores."""
    if not texts or len({*texts}) < len(texts):
        return False
    if not any(is_number(text) or text.lower() in NOTHING for text in texts):
        return True
    return whole_too and all(map(is_whole, texts))


def _axis(names: Sequence[str] | np.ndarray | None, count: int) -> tuple[np.ndarray, bool]:
    """Seeds, and whether they are but places."""
    places = np.arange(1, count + 1)
    if names is None or not all(map(is_whole, names)):
        return places, True
    found = np.array([int(name) for name in names])
    counted = bool((found == places).all() or (found == places - 1).all())
    return (places, True) if counted else (found, False)


def _refuse_columns_of_trials(path: Path, names: list[str], body: np.ndarray) -> None:
    """A table of trials whose columns are called otherwise must not pass for a matrix."""
    asked = f"found {', '.join(map(short, names[:8]))}; {EXPECTED}"
    if len({*map(_stem, names)}) > 1 and any(map(_MEASURE.search, names)):
        raise BadInput(f"{path}: its columns are not all order seeds: {asked}")
    counts = [all(map(is_whole, column)) and max(map(int, column)) > 1 for column in body.T]
    if any(counts) and not all(counts):
        raise BadInput(f"{path}: column {short(names[counts.index(True)])} has whole numbers, others have not: {asked}")


def _stem(name: str) -> str:
    return re.sub(r"[0-9]+", "", name)
