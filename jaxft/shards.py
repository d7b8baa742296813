"""Files that are there as a whole or not at all, whatever is killed when. No jax here."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jaxft.errors import BadInput


def files(folder: Path) -> list[Path]:
    """The parquet files of a data set, in the order they were written; none where there is no folder."""
    return sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))


def read(path: Path, columns: Sequence[str]) -> pa.Table:
    """All of a parquet file.

    Raises:
        BadInput: it is truncated, garbled, or lacks one of the columns.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        missing = [name for name in columns if name not in table.column_names]
        if missing:
            raise pa.ArrowInvalid(f"no column {missing[0]}")
        return table
    except (OSError, pa.ArrowException) as error:
        raise BadInput(
            f"{path}: cannot be read ({line(error)}); remove every {path.name} below the run folder, and "
            "`jaxft run` makes those rows again"
        ) from None


def write(path: Path, table: pa.Table) -> None:
    """A parquet file, beside and then renamed into place."""
    with _beside(path) as beside, beside.open("wb") as file:
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)
        _sync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """A text file, likewise; it is left alone if it says so already."""
    if path.is_file() and path.read_bytes() == text.encode():
        return
    with _beside(path) as beside, beside.open("wb") as file:
        file.write(text.encode())
        file.flush()
        _sync(file.fileno())


def remove_unfinished(folder: Path) -> None:
    """What a kill left half-written."""
    for path in folder.glob(".*.tmp"):
        path.unlink()


def lock(folder: Path) -> int:
    """A file descriptor: until it is closed, at the latest by its end, this process alone has the folder.

    Raises:
        BadInput: another process has it.
    """
    import fcntl  # of POSIX alone, while reading a run folder works anywhere

    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise BadInput(f"{folder}: another process writes to it; wait for it, or give another `out`") from None
        raise
    return descriptor


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Says in one line, as BadInput, that the folder cannot be written."""
    try:
        yield
    except OSError as error:
        kept = "finished trials are kept, and the same command goes on from them"
        advice = kept if os.path.isdir(folder) else "give another `out`"
        raise BadInput(f"{folder}: cannot be written ({line(error)}); {advice}") from None


def line(error: Exception) -> str:
    """An error in one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200]


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Where to write what shall stand at `path`. Readers of data sets pass over names with a dot in front."""
    beside = path.with_name(f".{path.name}.tmp")
    try:
        yield beside
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)  # on a full disk the space is needed
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        _sync(directory)  # the new name too must survive a power cut
    finally:
        os.close(directory)


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)
