"""Tables in files: TSV, CSV and JSON lines, read strictly and with the line of every fault."""

import csv
import io
import json
import warnings
from codecs import BOM_UTF8
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxft.errors import BadInput, Note


class Table(NamedTuple):
    """Named columns of equal length."""

    name: str
    """The file, or the split of a data set."""
    columns: dict[str, list[Any]]
    """Text in TSV and CSV; any JSON value in JSON lines, None where an object lacks the key."""
    places: list[int]
    """The line on which each row begins, from 1."""
    unit: str = "line"
    """What `places` counts."""

    def where(self, row: int) -> str:
        """How a message names a row, counted from 0."""
        return f"{self.name}, {self.unit} {self.places[row]}"

    def column(self, name: str) -> list[Any]:
        """The values of one column; BadInput names the columns present."""
        if name not in self.columns:
            raise BadInput(f"{self.name}: no column {name!r}; the columns are {', '.join(self.columns)}")
        return self.columns[name]


Rows = Iterable[tuple[int, list[str]]]


def read(file: Path, header: Sequence[str] = (), *, broken: bool = False) -> Table:
    """Reads a .tsv, .csv or .jsonl file in UTF-8, with or without a byte order mark.

    TSV is split at every tab: quotes mean nothing, as in GLUE. CSV is quoted. `header` names the columns of a
    file that has no header line. Where `broken` is true, rows that lack columns are passed over, and a Note says how
    many. Raises BadInput, with the line, for what is not such a table or has no rows.
    """
    readers = {".tsv": _tsv, ".csv": _csv, ".jsonl": _jsonl}
    if file.suffix not in readers:
        raise BadInput(f"{file}: the file's name ends in none of {', '.join(readers)}")
    text = _decode(file)
    if not text.strip():
        raise BadInput(f"{file}: the file is empty")
    return readers[file.suffix](str(file), text, header, broken)


def _decode(file: Path) -> str:
    try:
        data = file.read_bytes().removeprefix(BOM_UTF8)
    except OSError as error:
        raise BadInput(f"{file}: cannot be read ({error.strerror})") from None
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{file}, line {line}: not valid UTF-8 (byte 0x{data[error.start]:02x})") from None
    if "\0" in text:  # UTF-16 as a rule, of which ASCII passes for UTF-8
        line = text.count("\n", 0, text.index("\0")) + 1
        raise BadInput(f"{file}, line {line}: a null byte; expected a text in UTF-8")
    return text


def _lines(text: str) -> list[str]:
    # not splitlines(), which also splits at characters that may stand inside a text
    return [line.removesuffix("\r") for line in text.rstrip("\r\n").split("\n")]


def _tsv(name: str, text: str, header: Sequence[str], broken: bool) -> Table:
    return _table(name, ((n, line.split("\t")) for n, line in enumerate(_lines(text), 1)), header, broken)


def _csv(name: str, text: str, header: Sequence[str], broken: bool) -> Table:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)

    def rows() -> Rows:
        line = 1
        try:
            for cells in reader:
                if cells:  # blank lines mean nothing in CSV
                    yield line, cells
                line = reader.line_num + 1
        except csv.Error as error:
            raise BadInput(f"{name}, line {line}: broken CSV ({error})") from None

    return _table(name, rows(), header, broken)


def _table(name: str, rows: Rows, header: Sequence[str], broken: bool) -> Table:
    rows = iter(rows)
    names = list(header) or next(rows)[1]
    twice = sorted({column for column in names if names.count(column) > 1})
    if twice:
        raise BadInput(f"{name}: the column {twice[0]!r} appears twice in the header")
    places, values, lacking = [], [], 0
    for line, cells in rows:
        if broken and len(cells) < len(names):
            lacking += 1
            continue
        if len(cells) != len(names):
            raise BadInput(f"{name}, line {line}: {len(cells)} columns; {len(names)} are expected: {', '.join(names)}")
        places.append(line)
        values.append(cells)
    if not values:
        raise BadInput(f"{name}: a header and no rows{' with all of its columns' if lacking else ''}")
    if lacking:
        said = f"{name}: {lacking} of {lacking + len(values)} rows lack columns and are passed over"
        warnings.warn(Note(said), stacklevel=2)
    return Table(name, dict(zip(names, map(list, zip(*values, strict=True)), strict=True)), places)


def _jsonl(name: str, text: str, header: Sequence[str], broken: bool) -> Table:
    places, objects = [], []
    for line, content in enumerate(_lines(text), 1):
        if not content.strip():
            continue
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{name}, line {line}: broken JSON ({error})") from None
        if not isinstance(value, dict):
            raise BadInput(f"{name}, line {line}: a JSON object is expected, found {type(value).__name__}")
        places.append(line)
        objects.append(value)
    keys = dict.fromkeys(key for value in objects for key in value)
    return Table(name, {key: [value.get(key) for value in objects] for key in keys}, places)
