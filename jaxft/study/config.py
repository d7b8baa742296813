"""Studies from YAML and the command line, and back: typed, with one line for what is wrong. No jax here."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
    others,
    yaml12,
)
from jaxft.study.check import FREE, check, swept, typed

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
    "make",
    "parse",
]


def load(path: str | Path | None, overrides: Sequence[str] = ()) -> Study:
    """The study in a YAML file, changed by what the command line says.

    `base: other.yaml` in a file begins with the keys of another one, relative to it, which its own then change.

    Args:
        path: the file, or None to begin with the defaults.
        overrides: words such as `--train.lr 3e-5` or `--sweep.train.lr=[1e-5, 2e-5]`; the last one holds.

    Raises:
        BadInput: the file cannot be read, or a key or value in it or in the overrides is not known.
    """
    return _study(_with_bases(Path(path)) if path is not None else [], overrides)


def make(base: str | Path | None = None, **keys: Any) -> Study:
    """The study with these keys, nested as in YAML, over those of a file, or over the defaults.

    ```python
    make("configs/quickstart.yaml", seeds={"init": "1..8"}, train={"lr": 3e-4})
    ```

    Raises:
        BadInput: the file cannot be read, or a key or value is not known.
    """
    files = _with_bases(Path(base)) if base is not None else []
    return _study([*files, _File(None, _parsed(yaml12.write(_simple(keys)), "the study"))], ())


def _simple(value: Any) -> Any:
    """Mappings, ranges, tuples and arrays as what YAML has for them."""
    if isinstance(value, Mapping):
        return {str(key): _simple(each) for key, each in value.items()}
    if isinstance(value, range | tuple | list):
        return [_simple(each) for each in value]
    return value.tolist() if hasattr(value, "tolist") else value


def parse(content: bytes, place: str) -> Study:
    """The study in YAML that `dump` wrote.

    Args:
        content: UTF-8.
        place: where it was found, for messages.

    Raises:
        BadInput: it cannot be read, or a key or value in it is not known.
    """
    try:
        return _study([_File(place, _parsed(content.decode("utf-8-sig"), place))], ())
    except UnicodeDecodeError as error:
        raise BadInput(f"{place}: not UTF-8 at byte {error.start}") from None


def _study(files: Sequence["_File"], overrides: Sequence[str]) -> Study:
    leaves: dict[str, Any] = {}
    sweep: dict[str, list] = {}

    def take(key: str, value: Any, read: Callable[[str, Any], Any]) -> None:
        if key.startswith("sweep."):
            name = key.removeprefix("sweep.")
            sweep[name] = swept(name, value)
        else:
            leaves[key] = read(key, value)
            if key in others.READ:
                others.READ[key](leaves[key])

    for file in files:
        for key, value, line in file.entries:
            try:
                if key == "seeds" and isinstance(value, list):
                    key = "seeds.rows"
                if key in (*SECTIONS, "sweep") and value is None:
                    continue  # a heading whose keys are all commented out
                take(key, value, typed)
            except BadInput as error:
                place = "" if file.path is None else f"{file.path}, line {line}: "
                raise BadInput(f"{place}{error}") from None
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


class _File(NamedTuple):
    path: str | Path | None
    """None: the keys are from a program, not from a file."""
    entries: list[yaml12.Entry]


def _with_bases(path: Path, above: tuple[Path, ...] = ()) -> list[_File]:
    """A file after those that it is based on."""
    found = _entries(path)
    base = next((entry for entry in found if entry.key == "base"), None)
    own = _File(path, [entry for entry in found if entry.key != "base"])
    if base is None:
        return [own]
    place = f"{path}, line {base.line}: base"
    if not isinstance(base.value, str) or not base.value:
        raise BadInput(f"{place}: expected the name of a study's file, found {base.value!r}")
    below = path.parent / base.value
    if below.resolve() in (here.resolve() for here in (path, *above)):
        raise BadInput(f"{place}: {below} is based on this file")
    if not os.path.isfile(below):  # unlike pathlib's, False for a name that no file can have
        raise BadInput(f"{place}: no file {below}")
    return [*_with_bases(below, (path, *above)), own]


def _entries(path: Path) -> list[yaml12.Entry]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{path}: cannot be read: {reason}; expected a study in YAML") from None
    return _parsed(text, str(path))


def _parsed(text: str, place: str) -> list[yaml12.Entry]:
    return yaml12.entries(text, place, lambda key: key in SECTIONS or f"{key}.".startswith("sweep."))


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
