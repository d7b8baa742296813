"""What is learned. A task is a file here with `read(config) -> Source`, named as the file or in its NAMES."""

import difflib
import pkgutil
from collections import Counter
from importlib import import_module
from typing import Any

from jaxft import metrics
from jaxft.data import cache
from jaxft.data.tokenise import fingerprint, tokenise
from jaxft.errors import BadInput
from jaxft.study.config import TaskConfig
from jaxft.study.trials import size
from jaxft.tasks import halves
from jaxft.tasks.own import OWN
from jaxft.tasks.source import Columns, Source
from jaxft.types import Split, Task


def find() -> dict[str, Any]:
    """Every task's name, with what reads it: a module, or what a program added."""
    found: dict[str, Any] = dict(OWN)
    for entry in pkgutil.iter_modules(__path__):
        if entry.name.startswith("_"):
            continue
        module = import_module(f"{__name__}.{entry.name}")
        if hasattr(module, "read"):
            found |= dict.fromkeys(getattr(module, "NAMES", (entry.name,)), module)
    return found


def columns(name: str) -> list[Columns]:
    """The columns of a task that has its own: in files, then as libraries call them; none of others."""
    entry = getattr(find().get(name), "TASKS", {}).get(name)
    found = [getattr(entry, where, None) for where in ("files", "library")]
    if "text" in getattr(entry, "header", ()):
        found.append(Columns("text", None, "label"))
    return [each for each in found if isinstance(each, Columns)]


def load(config: TaskConfig, tokenizer: Any, positions: int) -> Task:
    """The task of a study, tokenised. All of the training set: the engine draws `n_train` by the data seed.

    `tokenizer` is a fast one of transformers; `positions` is the most tokens that the model can read in one
    example. Raises BadInput for anything in the configuration or in the files that cannot be used.
    """
    source = read(config)
    if config.split_dev is not None:
        source = halves.split(source, config.split_dev)
    metric = config.metric or source.metric
    _check_train(config, source)
    metrics.check(metric, len(source.labels))
    check_length(config.max_length, source, tokenizer, positions)
    splits = _tokenised(source, tokenizer, config.max_length)
    return Task(
        name=config.name,
        labels=source.labels,
        train=splits["train"],
        evals={name: split for name, split in splits.items() if name != "train"},
        metric=metric,
        metrics=metrics.fitting(len(source.labels)),
        fingerprint=fingerprint(source.labels, splits),
        pairs=source.splits["train"].texts[0][1] is not None,
    )


def _tokenised(source: Source, tokenizer: Any, length: int) -> dict[str, Split]:
    """All splits; of a large data set from the cache, if it has been there before."""

    def make() -> dict[str, Split]:
        return {name: tokenise(split.texts, split.labels, tokenizer, length) for name, split in source.splits.items()}

    if sum(len(split.labels) for split in source.splits.values()) < cache.LEAST:
        return make()
    name = cache.key({name: (split.texts, split.labels) for name, split in source.splits.items()}, tokenizer, length)
    return cache.kept(name, make, lambda splits: fingerprint(source.labels, splits))


def read(config: TaskConfig) -> Source:
    """The texts and labels of a task. Raises BadInput."""
    known = find()
    if config.name not in known:
        close = difflib.get_close_matches(config.name, known, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise BadInput(f"task.name: {config.name!r} is unknown; accepted are {', '.join(sorted(known))}{hint}")
    return known[config.name].read(config)


def _check_train(config: TaskConfig, source: Source) -> None:
    labels = source.splits["train"].labels
    counts = Counter(labels)
    if len(counts) < 2:
        only, needed = (source.labels[int(labels[0])], "classes") if source.labels else (labels[0], "numbers")
        raise BadInput(f"task.train: all {len(labels)} examples have the label {only!r}; two {needed} are needed")
    size(config.n_train, len(labels))


def check_length(length: int, source: Source, tokenizer: Any, positions: int) -> None:
    """Raises BadInput where examples of so many tokens are more than the model reads, or less than one word."""
    pair = source.splits["train"].texts[0][1] is not None
    least = tokenizer.num_special_tokens_to_add(pair=pair) + 1
    if length > positions:
        raise BadInput(f"task.max_length: {length} is more than the {positions} positions of the model")
    if length < least:
        raise BadInput(f"task.max_length: {length} is too short; {least} is the least, for the special tokens and one")
