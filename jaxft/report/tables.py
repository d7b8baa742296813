"""The report's tables as files: CSV and JSON with the same values. No jax here."""

import json
import math
import os
from collections.abc import Mapping
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


def write(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Writes NAME.csv and NAME.json for each; a file that is there is replaced in one step.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in tables.items():
        rows = records(frame)
        replace(folder / f"{name}.csv", pd.DataFrame(rows, columns=frame.columns, dtype=object).to_csv(index=False))
        replace(folder / f"{name}.json", json.dumps(rows, indent=0, ensure_ascii=False, allow_nan=False) + "\n")


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
