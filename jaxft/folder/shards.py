"""The data sets of a run folder: parquet files that are there as a whole or not at all, whatever is killed when.

A flush writes at most one file to each data set, all of one name. The one in `trials/` comes last and is the
mark that the flush is whole: a file without its twin there was left by a kill; it is passed over, and the
next run removes it. No jax here.
"""

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jaxft.errors import BadInput, Note, line
from jaxft.folder import Folder, locks, rows
from jaxft.folder.locks import Part
from jaxft.folder.rows import COLUMNS, LATER, SOUPS
from jaxft.study.trials import Trial

DATA_SETS = ("evals", "losses", "predictions", "trials")
"""Those of a flush, in the order of writing."""

APART = ("examples", SOUPS)
"""Those of no flush: each file counts by itself."""

_OLDEST = [name for name in COLUMNS["trials"] if name not in LATER]

Curve = tuple[list[float], str, str, int]
"""Of a finished trial: its score at every evaluation on dev, in order, its status, the reason and its steps."""

Flushes = Mapping[str, pa.Table]
"""By file name, in order, the rows in trials/ of each flush that is whole; each trial once."""


def files(folder: Folder, kind: str) -> list[str]:
    """The names of a data set's parquet files, in the order they were written; none where there is no folder."""
    return [name for name in folder.list(kind) if name.endswith(".parquet") and not name.startswith(".")]


def flushes(folder: Folder) -> Flushes:
    """What is there as a whole.

    Where two parts of a run both finished a trial, which only a lease that was lost can bring about, the first file by
    name counts for all data sets, and a Note says so.

    Raises:
        BadInput: a file cannot be read, or has trials that another one of the same part, or of none, has too.
    """
    found: dict[str, pa.Table] = {}
    first: dict[str, str] = {}
    with reading(folder):
        for name in files(folder, "trials"):
            table = read(folder, f"trials/{name}", _OLDEST)
            copies: dict[str, str] = {}
            for trial in table["trial"].to_pylist():
                if trial in first:
                    copies[trial] = first[trial]
                else:
                    first[trial] = name
            if copies:
                _say_twice(folder, name, copies)
                table = _only(table, {trial for trial in table["trial"].to_pylist() if trial not in copies})
            found[name] = rows.current(table)
    return found


def frame(folder: Folder, kind: str, whole: Flushes) -> pd.DataFrame:
    """The rows of a data set for the trials of these flushes; of those in APART all.

    Raises:
        BadInput: a file cannot be read.
    """
    found = list(whole.values()) if kind == "trials" else []
    with reading(folder):
        for name in files(folder, kind) if kind != "trials" else ():
            if kind in APART or name in whole:
                table = read(folder, f"{kind}/{name}", list(COLUMNS[kind]))
                if kind not in APART:
                    table = _only(table, set(whole[name]["trial"].to_pylist()))
                found.append(table)
    empty = pa.schema(COLUMNS[kind]).empty_table()
    return pa.concat_tables(found or [empty], promote_options="default").to_pandas()


def curves(folder: Folder) -> dict[str, Curve]:
    """How each finished trial went, by its id.

    Raises:
        BadInput: a file cannot be read.
    """
    whole = flushes(folder)
    evals = frame(folder, "evals", whole).query("split == 'dev'").sort_values("step")
    evals = evals.drop_duplicates(["trial", "step"])  # of trials that were dropped older versions have the last twice
    dev = {str(name): rows for name, rows in evals.groupby("trial")}
    trials = frame(folder, "trials", whole)[["trial", "metric", "status", "reason", "steps"]]
    return {
        name: (dev[name][metric].tolist() if name in dev else [], status, reason, steps)
        for name, metric, status, reason, steps in trials.itertuples(index=False)
    }


def read(folder: Folder, name: str, columns: Sequence[str]) -> pa.Table:
    """All of a parquet file.

    Raises:
        BadInput: it is truncated, garbled, or lacks one of the columns.
    """
    try:
        with pq.ParquetFile(pa.BufferReader(folder.read(name)), page_checksum_verification=True) as file:
            table = file.read()
        missing = [column for column in columns if column not in table.column_names]
        if missing:
            raise pa.ArrowInvalid(f"no column {missing[0]}")
        return table
    except (OSError, pa.ArrowException) as error:
        raise BadInput(
            f"{folder.place(name)}: cannot be read ({line(error)}); remove every {name.rpartition('/')[2]} below the "
            "run folder, and `jaxft run` makes those rows again"
        ) from None


def write(folder: Folder, name: str, table: pa.Table) -> None:
    """A parquet file."""
    with pa.BufferOutputStream() as buffer:
        pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
        folder.write(name, buffer.getvalue().to_pybytes())


def write_text(folder: Folder, name: str, text: str) -> None:
    """A text file; it is left alone if it says so already."""
    if not folder.exists(name) or folder.read(name) != text.encode():
        folder.write(name, text.encode())


def add_columns(folder: Folder, hp: Mapping[str, pa.DataType], trials: Iterable[Trial]) -> None:
    """Gives older rows the columns that they lack: of settings that vary only since trials were added.

    For pandas and others take the columns of the first file for those of all.
    """
    by_id = {trial.id: trial for trial in trials}
    for name in files(folder, "trials"):
        table = read(folder, f"trials/{name}", _OLDEST)
        if not {*(f"hp.{name}" for name in hp), *LATER} <= set(table.column_names):
            write(folder, f"trials/{name}", rows.with_hp(rows.current(table), hp, by_id))


def tidy(folder: Folder, part: Part) -> None:
    """Makes the data sets' folders and removes what a kill left in them, but for what another shard may be writing."""
    for kind in (*DATA_SETS, "examples"):
        folder.make(kind)
    whole = set(files(folder, "trials"))
    for kind in (*DATA_SETS, "examples"):
        for name in folder.list(kind):
            half = name.startswith(".") and name.endswith(".tmp")
            flush = name[1:-4] if half else name
            if part.may_remove(flush) and (half or name not in whole):
                folder.remove(f"{kind}/{name}")
            elif half and kind == "examples":
                folder.remove(f"{kind}/{name}")  # these are written by one process at a time


@contextmanager
def writing(folder: Folder) -> Iterator[None]:
    """Says in one line, as BadInput, that the folder cannot be written."""
    try:
        yield
    except OSError as error:
        kept = "finished trials are kept, and the same command goes on from them"
        advice = kept if folder.local is None or os.path.isdir(folder.local) else "give another `out`"
        raise BadInput(f"{folder}: cannot be written ({line(error)}); {advice}") from None


@contextmanager
def reading(folder: Folder) -> Iterator[None]:
    """Says in one line, as BadInput, that the folder cannot be read."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"{folder}: cannot be read ({line(error)})") from None


def _only(table: pa.Table, trials: Set[str]) -> pa.Table:
    """The rows of these trials."""
    kept = [trial in trials for trial in table["trial"].to_pylist()]
    return table if all(kept) else table.filter(pa.array(kept, pa.bool_()))


def _say_twice(folder: Folder, name: str, copies: Mapping[str, str]) -> None:
    """Of trials in this file that earlier ones have."""
    place = folder.place(f"trials/{name}")
    for trial, first in copies.items():
        parts = {locks.suffix(first), locks.suffix(name)}
        if len(parts) == 1 or None in parts:  # somebody copied it
            before = folder.place(f"trials/{first}")
            raise BadInput(f"{place}: trial {trial} is in {before} too; remove one of the two files")
    trial, first = next(iter(copies.items()))
    said = f"{len(copies)} of its trials are in earlier files too, whose rows count (the first: {trial} in {first})"
    warnings.warn(Note(f"{place}: {said}"), stacklevel=3)
