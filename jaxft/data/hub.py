"""Data sets of the `datasets` library: from the hub, or from a folder that it saved."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

from jaxft.data.files import Table
from jaxft.data.library import Library, line, table
from jaxft.errors import BadInput

PATIENCE = 5.0
"""Seconds that the hub has for its first answer."""


def is_saved(folder: Path) -> bool:
    """Whether `DatasetDict.save_to_disk` made this folder."""
    return os.path.isfile(folder / "dataset_dict.json")


def saved(folder: Path) -> Library:
    """The data set that was saved in a folder. Raises BadInput."""
    library = _library()
    try:
        data = library.load_from_disk(str(folder))
    except Exception as error:  # a damaged folder fails in many ways
        raise BadInput(f"{folder}: not a readable saved data set ({line(error)})") from None
    return _opened(str(folder), data)


def fetch(repository: str, subset: str | None = None) -> Library:
    """A data set on the hub, or of the hub's cache on this machine; `subset` is what the hub calls a config.

    Where the hub does not answer, only the cache is asked: the library alone would retry for half a minute. Raises
    BadInput.
    """
    library = _library()
    name = f"{repository} ({subset})" if subset else repository
    silent = None if library.config.HF_HUB_OFFLINE or os.path.isdir(repository) else _silence(repository)
    with _offline(library, silent is not None):
        try:
            data = library.load_dataset(repository, subset)
        except Exception as error:  # network, cache, disk and format errors share no base class
            raise BadInput(
                f"task.path: hub: cannot load {name}: {line(error)}{f' ({line(silent)})' if silent else ''}; "
                "a folder with the files is accepted too"
            ) from None
    return _opened(name, data)


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise BadInput("task.path: this needs the package datasets: pip install 'jaxft[hub]'") from None
    return datasets


def _silence(repository: str) -> Exception | None:
    """Why the hub cannot be asked for the data set; None where it answers. In a thread, which can be left waiting:
    no timeout bounds how long the look-up of a name takes.
    """
    from huggingface_hub import HfApi

    said: list[Exception | None] = [TimeoutError(f"no answer within {PATIENCE} seconds")]

    def ask() -> None:
        try:
            HfApi().dataset_info(repository, timeout=PATIENCE)
            said[0] = None
        except Exception as error:
            said[0] = error

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return said[0]


@contextmanager
def _offline(library: Any, silent: bool) -> Iterator[None]:
    before = library.config.HF_HUB_OFFLINE
    library.config.HF_HUB_OFFLINE = before or silent
    try:
        yield
    finally:
        library.config.HF_HUB_OFFLINE = before


def _opened(name: str, data: Any) -> Library:
    return Library(name, tuple(data), partial(_read, name, data))


def _read(name: str, data: Any, split: str) -> Table:
    rows = data[split]
    classes = {column: feature.names for column, feature in rows.features.items() if getattr(feature, "names", None)}
    return table(f"{name}, {split}", {column: list(rows[column]) for column in rows.column_names}, classes)
