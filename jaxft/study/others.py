"""The other data sets that a study's trials are evaluated on: entries of `eval.also` and `eval.probe`. No jax here."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from jaxft.errors import BadInput
from jaxft.members import nearest
from jaxft.study import TaskConfig
from jaxft.study.check import typed

ALSO, PROBE = "eval.also", "eval.probe"
_KEYS = ("path", "dev", "text", "text_pair", "label", "regression", "max_length")
_PROBED = ("path", "train", "dev", "text", "text_pair", "label", "labels", "max_length", "n_train")
_TAKEN = ("train", "dev", "dev_mismatched", "test")


class Other(NamedTuple):
    """One of them."""

    name: str
    config: dict[str, Any]
    """What of a TaskConfig it sets."""
    labels: dict[str, tuple[str, ...]] | None
    """Of each of its labels, the classes of the training task that count as it; None where all have the same names."""

    def task(self, max_length: int) -> TaskConfig:
        """How it is read; examples are cut to so many tokens, unless it says otherwise."""
        return replace(TaskConfig(max_length=max_length), **self.config)


def also(entries: Sequence[Mapping[str, Any]] | None) -> list[Other]:
    """The entries of `eval.also`, each checked as far as this can be done without its data.

    Raises:
        BadInput: a key that is unknown, a value of the wrong type, no name, or one that is there twice.
    """
    return [_also(name, entry) for name, entry in _named(ALSO, entries)]


def probe(entries: Sequence[Mapping[str, Any]] | None) -> list[Other]:
    """The entries of `eval.probe`, likewise. Raises BadInput."""
    return [Other(name, _config(PROBE, name, entry, _PROBED, ()), None) for name, entry in _named(PROBE, entries)]


READ = {ALSO: also, PROBE: probe}
"""By key."""


def _also(name: str, entry: Mapping[str, Any]) -> Other:
    config = _config(ALSO, name, entry, _KEYS, ("labels",))
    labels = _mapping(f"{ALSO}: {name}: labels", entry["labels"]) if entry.get("labels") is not None else None
    if labels and config.get("regression"):
        raise BadInput(f"{ALSO}: {name}: labels: not together with regression: the labels are numbers then")
    if labels and config["name"] == "text":
        config["labels"] = list(labels)
    if "dev" in config:
        config["train"] = config["dev"]  # which a reader asks for, and nothing here does
    return Other(name, config, labels)


def _named(key: str, entries: Sequence[Mapping[str, Any]] | None) -> list[tuple[str, Mapping[str, Any]]]:
    found: dict[str, Mapping[str, Any]] = {}
    for number, entry in enumerate(entries or (), start=1):
        name = entry.get("name")
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
            raise BadInput(f"{key}: entry {number}: name: expected a word such as rte, found {name!r}")
        if name in _TAKEN and key == ALSO:
            raise BadInput(f"{key}: entry {number}: name: {name} is a split of the task itself; expected another word")
        if name in found:
            raise BadInput(f"{key}: {name} is there twice")
        found[name] = entry
    return list(found.items())


def _config(
    key: str, name: str, entry: Mapping[str, Any], keys: Sequence[str], further: Sequence[str]
) -> dict[str, Any]:
    """What of a TaskConfig an entry sets: these keys, and `task` as its name."""
    known = ("name", "task", *keys, *further)
    config = {"name": name}
    for leaf, value in entry.items():
        if leaf not in known:
            raise BadInput(f"{key}: {name}: unknown key {leaf!r}; {nearest(str(leaf), known)}")
        if leaf in ("task", *keys) and value is not None:
            field = "name" if leaf == "task" else leaf
            try:
                config[field] = typed(f"task.{field}", value)
            except BadInput as error:
                said = str(error).removeprefix(f"task.{field}")
                raise BadInput(f"{key}: {name}: {leaf}{said}") from None
    return config


def _mapping(place: str, value: Any) -> dict[str, tuple[str, ...]]:
    """Each label with the classes that count as it; numbers are text, as in the files."""
    if not isinstance(value, dict) or not value:
        raise BadInput(f"{place}: expected a mapping such as {{no: [neutral, contradiction]}}, found {value!r}")
    found = {}
    for theirs, ours in value.items():
        names = ours if isinstance(ours, list) else [ours]
        if not names or not all(isinstance(name, str | int) and not isinstance(name, bool) for name in names):
            raise BadInput(f"{place}: {theirs}: expected a class or a list of classes of the task, found {ours!r}")
        found[str(theirs)] = tuple(map(str, names))
    return found
