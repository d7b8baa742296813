"""The tasks as a page, `README.md` beside this file: of their tables, docstrings and keys."""

import ast
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from jaxft import metrics, tasks
from jaxft.members.sections import parts
from jaxft.study.config import TaskConfig
from jaxft.tasks.source import DATA_SETS, Columns, Name

PAGE = Path(__file__).with_name("README.md")
BENCH = Path(__file__).parents[1] / "bench" / "inputs.py"
COMMAND = "python -m jaxft.tasks"
OWN = "text"

HEAD = f"""# The tasks

What a study may learn, as its `task.name`. `task.path` says where the data are:

- a folder with the files named below, `.tsv` (split at every tab, no quoting), `.csv` (quoted) or `.jsonl`, in UTF-8;
- a folder that `datasets` saved or that TFDS prepared;
- a data set of theirs: {"; ".join(DATA_SETS.values())}. `hub` and `tfds` alone are short for what stands below.

A test set is read only where `task.test` names it.

This page is made by `{COMMAND}` from the tasks' tables and docstrings: change those, not the page.
"""

EXAMPLES = """A study of single texts in classes, with `data/train.csv` and `data/dev.csv`:

```yaml
name: stars
model: sentence-transformers/all-MiniLM-L6-v2
task: {name: text, path: data, train: train.csv, dev: dev.csv, text: review, label: stars, split_dev: 1}
train: {lr: 1.0e-4}
seeds: {init: 1..5, order: 1..5}
```

A study of pairs with numbers to be predicted, with `pairs/train.jsonl` and `pairs/dev.jsonl`:

```yaml
name: alike
model: sentence-transformers/all-MiniLM-L6-v2
task: {name: text, path: pairs, train: train.jsonl, dev: dev.jsonl, text: one, text_pair: other, label: score,
  regression: true}
train: {lr: 1.0e-4}
seeds: {init: 1..5, order: 1..5}
```

`configs/wang2020/yelp.yaml` is such a study at full size.
"""


class Facts(NamedTuple):
    """What a task's table says of it."""

    metric: str
    labels: tuple[str, ...]
    """None for a regression."""
    codes: tuple[str, ...]
    """The labels as its files write them."""
    files: Columns
    header: tuple[str, ...]
    """The columns of files that have no header."""
    library: Columns
    splits: Mapping[str, Name]
    places: Mapping[str, str]
    """What `hub` and `tfds` stand for as `task.path`."""
    notes: tuple[str, ...]


def page() -> str:
    """The whole page."""
    known = ours()
    rooms = dict.fromkeys(known.values())
    table = _table(("task", "predicts", "scored by", "also measured"), (_row(name, known[name]) for name in known))
    sections = [_section(room, [name for name in known if known[name] is room]) for room in rooms]
    return "\n".join([HEAD, table, "", *sections, _keys()])


def ours() -> dict[str, ModuleType]:
    """Every task's name, with the module that reads it; none that a program added."""
    return {name: module for name, module in tasks.find().items() if isinstance(module, ModuleType)}


def facts(name: str) -> Facts:
    """What the table of a task's file says of it.

    Args:
        name: of a task whose file has `TASKS`.
    """
    module = ours()[name]
    entry = module.TASKS[name]
    glue = {"hub": f"hub:{module.HUB}:{name}", "tfds": f"tfds:glue/{name}"} if hasattr(module, "HUB") else {}
    hub = {"hub": entry.hub} if getattr(entry, "hub", None) else {}
    columns = getattr(entry, "columns", None)
    return Facts(
        metric=getattr(entry, "metric", "accuracy"),
        labels=entry.labels,
        codes=getattr(entry, "codes", entry.labels),
        files=columns or entry.files,
        header=entry.header,
        library=columns or entry.library,
        splits=entry.splits,
        places=glue or hub or getattr(entry, "places", {}),
        notes=tuple(_notes(module, entry)),
    )


def examples() -> dict[str, tuple[int, int]]:
    """How many training and dev examples a task has, where the bench has counted them.

    Its source is read, as it lies above this room.
    """
    for node in ast.parse(BENCH.read_text(encoding="utf-8")).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="LENGTHS")], value=ast.Dict(keys=names, values=calls)):
                return {
                    ast.literal_eval(name): (ast.literal_eval(call.args[1]), ast.literal_eval(call.args[2]))
                    for name, call in zip(names, calls, strict=True)
                    if name and isinstance(call, ast.Call)
                }
    return {}


def _row(name: str, module: ModuleType) -> tuple[str, ...]:
    if name == OWN:
        return (_link(name, module), "classes or numbers of your own", "accuracy; of numbers pearson_spearman", "")
    if hasattr(module, "TASKS"):
        told = facts(name)
        labels, metric = told.labels, told.metric
    else:
        source = module.read(TaskConfig(name=name))
        labels, metric = source.labels, source.metric
    also = ", ".join(each for each in metrics.fitting(len(labels)) if each != metric)
    return (_link(name, module), ", ".join(labels) or "a number", metric, also)


def _section(module: ModuleType, names: list[str]) -> str:
    room = _room(module)
    lines = [f"## {room}", "", _said(module), ""]
    if hasattr(module, "TASKS"):
        found = {name: facts(name) for name in names}
        own = [_from_files(name, each) for name, each in found.items()]
        lines += ["From files:", ""]
        lines += [_table(("task", "files", "texts", "label", "written as", "header", "examples"), own), ""]
        theirs = [_from_library(name, each) for name, each in found.items()]
        lines += ["From a library:", ""]
        lines += [_table(("task", "`task.path`", "splits", "texts", "label"), theirs), ""]
        notes = [f"- `{name}`{note}" for name, each in found.items() for note in each.notes]
        lines += [*notes, ""] if notes else []
    elif room == OWN:
        lines += [_sentences(module.read), "", EXAMPLES]
    else:
        splits = module.read(TaskConfig(name=room)).splits
        lines += ["; ".join(f"{name}: {len(each.texts)} examples" for name, each in splits.items()) + ".", ""]
        lines += [f"`task: {{name: {room}}}`, without any file; `configs/quickstart.yaml` learns it.", ""]
    return "\n".join(lines)


def _from_files(name: str, told: Facts) -> tuple[str, ...]:
    counted = examples().get(name)
    return (
        f"`{name}`",
        _listed(each.file for each in told.splits.values()),
        _texts(told.files),
        f"`{told.files.label}`",
        _listed(told.codes) if told.labels else "a number",
        f"none; the columns are {_listed(told.header)}" if told.header else "",
        f"{counted[0]:,} and {counted[1]:,}" if counted else "",
    )


def _from_library(name: str, told: Facts) -> tuple[str, ...]:
    places = ", ".join(f"`{short}`: `{whole}`" for short, whole in told.places.items())
    splits = _listed(each.split for each in told.splits.values())
    return (f"`{name}`", places or "no short name", splits, _texts(told.library), f"`{told.library.label}`")


def _notes(module: ModuleType, entry: Any) -> Iterator[str]:
    """What is not usual of a task, in the words of its table's fields."""
    shown = {"metric", "labels", "codes", "files", "library", "columns", "header", "splits", "hub", "places"}
    about = _fields(module)
    for field in entry._fields:
        value = getattr(entry, field)
        if field in shown or value == entry._field_defaults.get(field):
            continue
        if isinstance(value, Mapping):
            value = [f"{other}` for `{name}" for other, name in value.items()]
        named = "" if value is True else f", {field} {_listed([value] if isinstance(value, str) else value)}"
        yield f"{named}: {about[field]}" if field in about else f"{named}."


def _fields(module: ModuleType) -> dict[str, str]:
    """The docstrings of the fields of `Entry`."""
    (body,) = (
        node.body
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.ClassDef) and node.name == "Entry"
    )
    found = {}
    for field, text in pairwise(body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                found[name] = " ".join(said.split())
    return found


def _keys() -> str:
    about = parts(inspect.getdoc(TaskConfig) or "").arguments
    rows = [
        (f"`task.{field.name}`", "" if field.default is None else f"`{field.default}`", about[field.name])
        for field in fields(TaskConfig)
    ]
    table = _table(("key", "default", ""), rows)
    own = "`text`, `text_pair`, `label`, `labels` and `regression` are for `task.name: text` alone."
    return f"## keys\n\n{own}\n\n{table}\n"


def _said(module: ModuleType) -> str:
    """Its docstring, with the values of the constants in it."""
    text = inspect.getdoc(module) or ""
    return re.sub(r"`([A-Z]+)`", lambda found: f"`{found[1]}` ({getattr(module, found[1])})", text)


def _sentences(function: Any) -> str:
    """Its docstring, without what it says of errors, for which the messages are enough."""
    return re.sub(r"\s*Raises BadInput.*", "", inspect.getdoc(function) or "", flags=re.DOTALL)


def _texts(columns: Columns) -> str:
    return _listed(name for name in (columns.text, columns.pair) if name is not None)


def _room(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def _link(name: str, module: ModuleType) -> str:
    return f"[`{name}`](#{_room(module)})"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    every = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in every)
