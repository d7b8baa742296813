"""Tables out of the `datasets` library: from the hub, or from a folder that it saved."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxft.data.files import Table
from jaxft.errors import BadInput


def is_saved(folder: Path) -> bool:
    """Whether `DatasetDict.save_to_disk` made this folder."""
    return os.path.isfile(folder / "dataset_dict.json")


def saved(folder: Path, splits: Mapping[str, str]) -> dict[str, Table]:
    """The splits of a saved data set; `splits` maps our names to its own. Raises BadInput."""
    library = _library()
    try:
        data = library.load_from_disk(str(folder))
    except Exception as error:  # a damaged folder fails in many ways
        raise BadInput(f"{folder}: not a readable saved data set ({_line(error)})") from None
    return _tables(str(folder), data, splits)


def fetch(repository: str, subset: str, splits: Mapping[str, str]) -> dict[str, Table]:
    """The splits of a data set on the hub, or from the hub's cache on this machine. Raises BadInput.

    Without a network only the cache is asked, at once: the library alone would retry for half a minute.
    """
    library = _library()
    with _offline(library, repository):
        try:
            data = library.load_dataset(repository, subset)
        except Exception as error:  # network, cache, disk and format errors share no base class
            raise BadInput(
                f"task.path: hub: cannot load {repository} ({subset}): {_line(error)}; "
                "a folder with the files is accepted too"
            ) from None
    return _tables(f"{repository} ({subset})", data, splits)


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise BadInput("task.path: this needs the package datasets: pip install 'jaxft[hub]'") from None
    return datasets


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


@contextmanager
def _offline(library: Any, repository: str) -> Iterator[None]:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    before = library.config.HF_HUB_OFFLINE
    if not before and not Path(repository).is_dir():
        try:
            HfApi().dataset_info(repository, timeout=5)
        except HfHubHTTPError:
            pass  # the hub answered; load_dataset says what is wrong
        except Exception:
            library.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        library.config.HF_HUB_OFFLINE = before


def _tables(name: str, data: Any, splits: Mapping[str, str]) -> dict[str, Table]:
    tables = {}
    for ours, theirs in splits.items():
        if theirs not in data:
            raise BadInput(f"task.{ours}: no split {theirs!r} in {name}; it has {', '.join(data)}")
        split = data[theirs]
        if not len(split):
            raise BadInput(f"{name}, {theirs}: no rows")
        columns = {column: list(split[column]) for column in split.column_names}
        for column, feature in split.features.items():
            names = getattr(feature, "names", None)  # a ClassLabel: numbers with names, -1 for unknown
            if names:
                columns[column] = [
                    names[number] if number is not None and number >= 0 else None for number in columns[column]
                ]
        tables[ours] = Table(f"{name}, {theirs}", columns, list(range(1, len(split) + 1)), "row")
    return tables
