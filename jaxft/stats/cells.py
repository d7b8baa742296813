"""The cells of text files that anybody may have made, and what is in one. No jax here."""

import csv
import io
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from jaxft.errors import BadInput, line

Frame = Any
"""A frame or a column of pandas, whose own types say that nearly every call may return either."""
EXPECTED = "expected a CSV with columns init_seed, order_seed, score, or a matrix of scores (rows init, columns order)"
NOTHING = {"", "nan", "na", "n/a", "null", "none", "-", "?"}
"""What a cell without a number says."""
_SHOWN = 40


class Line(NamedTuple):
    """One that is not empty."""

    number: int
    """From 1."""
    cells: list[str]
    """Without spaces around them."""


def lines(path: Path) -> list[Line]:
    """All lines, with equally many cells; those that begin with # are left out.

    What parts the cells is found in the first line: tabs, semicolons, commas, or else spaces.

    Raises:
        BadInput: not text, nothing in it, or lines with more cells or fewer.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not text (not UTF-8 at byte {error.start}); {EXPECTED}") from None
    except (OSError, ValueError) as error:  # the latter of a name that no file can have
        raise BadInput(f"{path}: cannot be read ({line(error)}); {EXPECTED}") from None
    if "\0" in text:
        raise BadInput(f"{path}: not text (a zero byte in it); {EXPECTED}")
    first = next((t for t in text.splitlines() if t.strip() and not t.lstrip().startswith("#")), None)
    if first is None:
        raise BadInput(f"{path}: empty; {EXPECTED}")
    mark = next((mark for mark in "\t;," if mark in first), None)
    if mark is None and '"' not in first:  # as numpy's savetxt writes, or a single column
        found = [Line(n, t.split()) for n, t in enumerate(text.splitlines(), 1)]
    else:
        found = list(_parted(path, text, mark or ","))
    found = [each for each in found if any(each.cells) and not each.cells[0].startswith("#")]
    for each in found:
        if len(each.cells) != len(found[0].cells):
            raise BadInput(
                f"{path}, line {each.number}: {len(each.cells)} cells, expected {len(found[0].cells)} as in "
                f"line {found[0].number}"
            )
    return found


def _parted(path: Path, text: str, mark: str) -> Iterable[Line]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True, skipinitialspace=mark != "\t")
    try:
        for cells in reader:
            yield Line(reader.line_num, [cell.strip() for cell in cells])
    except csv.Error as error:
        raise BadInput(f"{path}, line {reader.line_num}: {error}; {EXPECTED}") from None


def is_whole(text: str) -> bool:
    """Whether it is a whole number from 0, written without a point."""
    return bool(re.fullmatch(r"[0-9]{1,18}", text))


def is_number(text: str) -> bool:
    """Whether it is a number, also an infinite one."""
    try:
        return "_" not in text and not math.isnan(float(text))
    except ValueError:
        return False


def number(text: str, place: str) -> float:
    """What a cell says.

    Raises:
        BadInput: nothing, something else, or a number that is not finite.
    """
    if text.lower() in NOTHING:
        raise BadInput(
            f"{place}: no number (found {text!r}), and each is needed; a trial may be left out in a CSV with columns "
            "init_seed, order_seed, score"
        )
    if not is_number(text):
        point = "; write a point, not a comma, in numbers" if re.fullmatch(r"-?\d*,\d+", text) else ""
        raise BadInput(f"{place}: expected a number, found {short(text)!r}{point}")
    if math.isinf(float(text)):
        raise BadInput(f"{place}: expected a finite number, found {short(text)!r}")
    return float(text)


def whole(text: str, place: str) -> int:
    """What a cell with a seed or a step says.

    Raises:
        BadInput: anything but a whole number from 0.
    """
    if not re.fullmatch(r"[0-9]{1,18}(\.0*)?", text):
        raise BadInput(f"{place}: expected a whole number from 0, found {short(text)!r}")
    return int(text.partition(".")[0])


def short(text: object) -> str:
    """As a message of one line has it."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in str(text))
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
