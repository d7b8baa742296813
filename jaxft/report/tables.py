"""The report's tables as files: CSV and JSON with the same values. No jax here."""

import csv
import io
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def plain(value: Any) -> Any:
    """As JSON has it: numbers in full, None for what is no finite number."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int | str) else str(value)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A row each, by column."""
    columns = [[plain(value) for value in frame[name].tolist()] for name in frame]
    return [dict(zip(frame.columns, row, strict=True)) for row in zip(*columns, strict=True)]


def stack(parts: Iterable[tuple[str, pd.DataFrame]]) -> tuple[list[str], list[dict[str, Any]]]:
    """One table of the tables of several studies: its columns, `study` first, and its rows.

    Args:
        parts: the names of studies, with their tables.
    """
    columns, rows = ["study"], []
    for study, frame in parts:
        columns += [name for name in frame if name not in columns]
        rows += [{**dict.fromkeys(frame.columns), "study": study, **row} for row in records(frame)]
    return columns, [{name: row.get(name) for name in columns} for row in rows]


def write(folder: Path, name: str, columns: list[str], rows: list[dict[str, Any]]) -> None:
    """Writes NAME.csv and NAME.json; a file that is there is replaced in one step.

    Raises:
        OSError: the folder cannot be written.
    """
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(row.values() for row in rows)
    replace(folder / f"{name}.csv", file.getvalue())
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    replace(folder / f"{name}.json", f"[\n{lines}\n]\n")


def replace(path: Path, text: str) -> None:
    """Writes a text file, or leaves what was there: never half of it.

    Raises:
        OSError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.tmp")
    try:
        with beside.open("w", encoding="utf-8", newline="") as file:
            file.write(text.encode("utf-8", "replace").decode())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
