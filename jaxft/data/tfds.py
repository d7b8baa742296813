"""Data sets that TFDS (TensorFlow Datasets) has prepared, as array_record or TFRecord, read without TensorFlow."""

import difflib
import json
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from jaxft.data import tfrecord
from jaxft.data.files import Table
from jaxft.data.library import Library, line, table
from jaxft.errors import BadInput

# Neither a namespace nor arguments, which TFDS takes too: for some namespaces it asks the network, for half a minute.
NAME = re.compile(r"(\w+)(?:/([\w.+-]+))?")
FORMATS = ("array_record", "tfrecord")
VERSION = re.compile(r"\d+\.\d+\.\d+")


def is_prepared(folder: Path) -> bool:
    """Whether TFDS prepared a data set in this very folder."""
    return all(os.path.isfile(folder / name) for name in ("dataset_info.json", "features.json"))


def saved(folder: Path) -> Library:
    """The data set that was prepared in a folder. Raises BadInput."""
    library = _library()
    try:
        kind = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8")).get("fileFormat") or "tfrecord"
        if kind not in FORMATS:
            raise ValueError(f"its format is {kind}")
        builder = library.builder_from_directory(str(folder), file_format=kind)
        splits = tuple(builder.info.splits)
    except Exception as error:  # a damaged folder fails in many ways
        raise BadInput(
            f"task.path: {folder}: cannot be read ({line(error)}); accepted is what TFDS prepared as "
            f"{' or '.join(FORMATS)}"
        ) from None
    return Library(str(folder), splits, partial(_read, library, builder, str(folder), kind))


def prepared(name: str) -> Library:
    """`NAME` or `NAME/CONFIG` where TFDS keeps its data sets: TFDS_DATA_DIR, or tensorflow_datasets in the home folder.

    Of several versions the highest. Nothing is downloaded, and no network is asked. Raises BadInput.
    """
    found = NAME.fullmatch(name)
    if not found:
        raise BadInput(f"task.path: found {f'tfds:{name}'!r}, accepted are tfds:NAME and tfds:NAME/CONFIG")
    library = _library()
    folder = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser() / name
    versions = [path for path in folder.glob("*.*.*") if VERSION.fullmatch(path.name) and is_prepared(path)]
    if not versions:
        raise BadInput(f"task.path: tfds:{name}: {_why(library, folder, *found.groups())}")
    return saved(max(versions, key=lambda path: [int(number) for number in path.name.split(".")]))


def _why(library: Any, folder: Path, name: str, config: str | None) -> str:
    """Why there is no such data set in the folder."""
    import tensorflow_datasets.text  # noqa: F401  (GLUE is known only after this)

    try:
        configs = list(library.builder_cls(name).builder_configs)
    except Exception:
        alike = difflib.get_close_matches(name, library.list_builders(with_community_datasets=False), 1)
        hint = f"; did you mean {alike[0]}?" if alike else ""
        return f"nothing prepared in {folder}, and TFDS knows no data set {name!r}{hint}"
    if configs and config not in configs:
        wrong = f"no config {config!r}" if config else "a config is missing"
        return f"{wrong}; accepted are {', '.join(f'tfds:{name}/{known}' for known in configs)}"
    return f"nothing prepared in {folder}; accepted is what TFDS has prepared there"


def _library() -> Any:
    try:
        import array_record  # noqa: F401  (TFDS itself would miss it only when it reads)
        import tensorflow_datasets
    except ImportError:
        raise BadInput("task.path: this needs the package tensorflow-datasets: pip install 'jaxft[tfds]'") from None
    return tensorflow_datasets


def _read(library: Any, builder: Any, name: str, kind: str, split: str) -> Table:
    try:
        if kind == "tfrecord":
            rows = list(_records(builder, split))
        else:
            source = builder.as_data_source(split)
            rows = source.__getitems__(range(len(source)))  # four times as fast as one by one
    except Exception as error:
        raise BadInput(f"{name}, {split}: cannot be read ({line(error)})") from None
    # TFDS writes examples in the order of a hash; where they are numbered, as in GLUE, they come as they were.
    if rows and isinstance(_plain(rows[0].get("idx")), int):
        rows = sorted(rows, key=lambda row: row["idx"])
    features = builder.info.features
    columns = {column: [_plain(row[column]) for row in rows] for column in features}
    labels = {c: f.names for c, f in features.items() if isinstance(f, library.features.ClassLabel)}
    return table(f"{name}, {split}", columns, labels)


def _records(builder: Any, split: str) -> Iterator[Any]:
    """Examples from TFRecord files, in the order in which they were written, as array_record has them."""
    info = builder.info.splits[split]
    for path, count in zip(info.filepaths, info.shard_lengths, strict=True):
        records = list(tfrecord.read(Path(path)))
        if len(records) != count:
            raise ValueError(f"{Path(path).name} has {len(records)} records, expected {count}")
        yield from map(builder.info.features.deserialize_example_np, records)


def _plain(value: Any) -> Any:
    """Text and numbers as Python has them. Bytes that are no UTF-8 become half characters, which `texts` refuses."""
    if isinstance(value, bytes):
        return value.decode(errors="surrogateescape")
    return value.tolist() if hasattr(value, "tolist") else value
