"""Text classification in files of your own: TSV, CSV, JSON lines, or a folder that `datasets` saved."""

from jaxft.config import TaskConfig
from jaxft.data import files
from jaxft.data.files import Table
from jaxft.errors import BadInput
from jaxft.tasks.source import Columns, Source, label_names, paths, raw, saved


def read(config: TaskConfig) -> Source:
    """Reads the files that the study names; labels are `config.labels`, or the training file's, sorted.

    Labels that are all whole numbers are sorted as numbers. Test labels may be missing. Raises BadInput.
    """
    splits = saved(config) or {split: files.read(file) for split, file in paths(config).items()}
    columns = Columns(config.text, config.text_pair, config.label)
    labels = tuple(map(str, config.labels)) if config.labels is not None else _found(splits["train"], config.label)
    if config.labels is not None and len(labels) < 2:
        raise BadInput(f"task.labels: two or more are needed, found {len(labels)}")
    twice = sorted({name for name in labels if labels.count(name) > 1})
    if twice:
        raise BadInput(f"task.labels: {twice[0]!r} appears twice")
    numbers = {name: number for number, name in enumerate(labels)}
    raws = {split: raw(table, columns, numbers, split != "test") for split, table in splits.items()}
    return Source(raws, labels, "accuracy")


def _found(table: Table, column: str) -> tuple[str, ...]:
    labels = label_names(table, column)
    names = {name for name in labels if name is not None}  # `raw` says where one is missing
    if len(names) == 1 and None not in labels:
        raise BadInput(f"{table.name}: all labels are {names.pop()!r}; two classes are needed")
    try:
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    except ValueError:
        return tuple(sorted(names))
