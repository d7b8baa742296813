"""Studies from YAML and the command line, and back: typed, with one line for what is wrong. No jax here."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxft import yaml12
from jaxft.check import FREE, check, swept, typed
from jaxft.errors import BadInput
from jaxft.study import (
    KEYS,
    SECTIONS,
    EvalConfig,
    Numbers,
    PoolConfig,
    SeedGrid,
    StopConfig,
    Study,
    TaskConfig,
    TrainConfig,
    build,
    flat,
)

__all__ = [
    "EvalConfig",
    "Numbers",
    "PoolConfig",
    "SeedGrid",
    "StopConfig",
    "Study",
    "TaskConfig",
    "TrainConfig",
    "differences",
    "dump",
    "flat",
    "load",
]


def load(path: str | Path | None, overrides: Sequence[str] = ()) -> Study:
    """The study in a YAML file, changed by what the command line says.

    Args:
        path: the file, or None to begin with the defaults.
        overrides: words such as `--train.lr 3e-5` or `--sweep.train.lr=[1e-5, 2e-5]`; the last one holds.

    Raises:
        BadInput: the file cannot be read, or a key or value in it or in the overrides is not known.
    """
    leaves: dict[str, Any] = {}
    sweep: dict[str, list] = {}

    def take(key: str, value: Any, read: Callable[[str, Any], Any]) -> None:
        if key.startswith("sweep."):
            name = key.removeprefix("sweep.")
            sweep[name] = swept(name, value)
        else:
            leaves[key] = read(key, value)

    for key, value, line in _entries(path) if path is not None else []:
        try:
            if key == "seeds" and isinstance(value, list):
                key = "seeds.rows"
            if key in (*SECTIONS, "sweep") and value is None:
                continue  # a heading whose keys are all commented out
            take(key, value, typed)
        except BadInput as error:
            raise BadInput(f"{path}, line {line}: {error}") from None
    for key, text in _pairs(overrides):
        take(key, _plain(text) if key.startswith("sweep.") else text, _typed_text)
    study = build({**leaves, "sweep": sweep})
    check(study)
    return study


def dump(study: Study) -> str:
    """The study as YAML, every key with its value; `load` reads it back."""
    nested: dict[str, Any] = {}
    for key, value in flat(study).items():
        section, _, leaf = key.rpartition(".")
        if section == "seeds" and (study.seeds.rows is None) == (leaf == "rows"):
            continue  # a grid, or rows
        (nested.setdefault(section, {}) if section else nested)[leaf] = value
    return yaml12.write(nested)


def differences(old: Study, new: Study) -> list[str]:
    """What makes another study of one: a line per key, seeds, sweep, name, folder and pool aside.

    Args:
        old: the study in the run folder.
        new: the study that is asked for now.
    """
    before, now = flat(old), flat(new)
    return [
        f"{key}: {before[key]} in the run folder, {now[key]} now"
        for key in now
        if not key.startswith(FREE) and before[key] != now[key]
    ]


def _entries(path: str | Path) -> list[yaml12.Entry]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{path}: cannot be read: {reason}; expected a study in YAML") from None
    return yaml12.entries(text, str(path), lambda key: key in SECTIONS or f"{key}.".startswith("sweep."))


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    """`--key value` and `--key=value` as pairs."""
    pairs = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or not word.strip("-").partition("=")[0]:
            raise BadInput(f"{word}: expected --key value, such as --train.lr 3e-5")
        key, equals, value = word.removeprefix("--").partition("=")
        if not key.startswith("sweep.") and key not in KEYS:
            typed(key, value if equals else " ".join(rest[:1]))  # says what is wrong with the key
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise BadInput(f"{key}: a value is missing, expected --{key} value")
            value = rest.pop(0)
        pairs.append((key, value))
    return pairs


def _plain(text: str) -> Any:
    """What a word of the command line stands for: text, unless it is a number, a list or the like."""
    try:
        value = yaml12.value(text)
    except BadInput:
        return text
    return text if isinstance(value, str) else value


def _typed_text(key: str, text: str) -> Any:
    try:
        return typed(key, _plain(text))
    except BadInput as error:
        try:
            return typed(key, text)  # a name may look like a number
        except BadInput:
            raise error from None
