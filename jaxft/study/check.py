"""What a study's keys accept: types by jsonargparse, ranges, and the words that say so. No jax here."""

import math
import re
import struct
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from inspect import getdoc
from textwrap import fill
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from jsonargparse import ArgumentError, ArgumentParser

from jaxft.errors import BadInput
from jaxft.members import nearest
from jaxft.study import KEYS, SECTIONS, SeedGrid, Study, flat

FREE = ("name", "out", "seeds.", "sweep", "pool.", "policy")
"""How the keys begin that a study may change and still be the same one."""

WHOLE = ("eval.gradient_norms", "eval.also", "eval.probe", "eval.soups", "eval.costs")
"""Keys that bind a study as a whole, as its data do, and are no setting of a trial: no id depends on them."""

NEWER: dict[str, Any] = {"task.stratified": False, "task.subset": "nested"}
"""Keys that came after the first ids were given, with the value at which they are no part of one."""

_NOUNS = {int: "an integer", float: "a number", str: "text", bool: "true or false", NoneType: "null"}
_PLURALS = {int: "integers", str: "texts"}

_SHARE = ("from 0 to 1", lambda x: 0 <= x <= 1)
_BELOW_1 = ("from 0 to below 1", lambda x: 0 <= x < 1)
_COUNT = ("of at least 1", lambda x: x >= 1)
_NOT_NEGATIVE = ("of at least 0", lambda x: x >= 0)
_POSITIVE = ("above 0", lambda x: x > 0)
_SOME = ("that is not empty", bool)


def _is_share(text: str) -> bool:
    """Whether this is a share above 0 and up to 1, as a percentage."""
    return bool(re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,9})?%", text)) and 0 < float(text[:-1]) <= 100


_LIMITS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "name": _SOME,
    "model": _SOME,
    "out": _SOME,
    "policy": _SOME,
    "task.max_length": _COUNT,
    "task.n_train": ("of at least 1", lambda x: x >= 1 if type(x) is int else _is_share(x)),
    "task.split_dev": _NOT_NEGATIVE,
    "task.labels": ("of at least two that differ", lambda x: len(set(x)) == len(x) > 1),
    "train.lr": _NOT_NEGATIVE,
    "train.batch_size": _COUNT,
    "train.epochs": _COUNT,
    "train.warmup": _SHARE,
    "train.weight_decay": _NOT_NEGATIVE,
    "train.b1": _BELOW_1,
    "train.b2": _BELOW_1,
    "train.eps": _POSITIVE,
    "train.clip": _NOT_NEGATIVE,
    "train.dropout": _BELOW_1,
    "seeds.rows": _SOME,
    "eval.per_epoch": _COUNT,
    "eval.every": _COUNT,
    "eval.batch_size": _COUNT,
    "eval.soups": _COUNT,
    "stop.loss_patience": _NOT_NEGATIVE,
    "stop.one_class": _NOT_NEGATIVE,
    "stop.majority": _NOT_NEGATIVE,
    "pool.slots": _COUNT,
    "pool.devices": _COUNT,
    "pool.checkpoint_minutes": _NOT_NEGATIVE,
}


def check(study: Study) -> None:
    """Checks every leaf, also of a study that was written in Python.

    Raises:
        BadInput: a value of the wrong type or out of its range, or a sweep over what is not known.
    """
    for key, value in flat(study).items():
        if key != "sweep":
            typed(key, value)
    for key, values in study.sweep.items():
        swept(key, values)
    if study.seeds.rows is not None:
        for leaf in fields(SeedGrid):
            if leaf.name != "rows" and getattr(study.seeds, leaf.name) != leaf.default:
                raise BadInput(f"seeds.{leaf.name}: not together with seeds.rows, which name every seed")


def typed(key: str, value: Any) -> Any:
    """The value as the key wants it: 3 for a float is 3.0.

    Raises:
        BadInput: an unknown key, a value of the wrong type, or out of its range.
    """
    if key not in KEYS:
        if key in (*SECTIONS, "sweep"):
            below = next((k for k in KEYS if k.startswith(f"{key}.")), "sweep.train.lr")
            raise BadInput(f"{key}: expected keys below it, such as {below}, found {value!r}")
        raise BadInput(f"{key}: unknown key; {nearest(key, [*KEYS, *SECTIONS, 'sweep'])}")
    hint = KEYS[key]
    kinds = (hint, *get_args(hint)) if get_origin(hint) is not Literal else ()
    within = _LIMITS.get(key, ("", lambda x: True))[1]
    given = value
    try:
        if value is None and NoneType not in kinds:
            raise ValueError
        if not (isinstance(value, str) and str in kinds):  # text stays as it is, also "null" or "3"
            value = _parser().parse_object({key: value}, defaults=False)[key]
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError
        if isinstance(value, str) and b"\0" in value.encode():  # which fails for half a surrogate pair
            raise ValueError
        if value not in (None, "auto") and not within(value):
            raise ValueError
        if value not in (None, "auto") and not within(_held(key, value)):
            raise OverflowError
    except (ArgumentError, OverflowError, ValueError) as error:
        why = ", which 32 bits cannot hold" if isinstance(error, OverflowError) else ""
        raise BadInput(f"{key}: expected {_accepted(key)}, found {given!r}{why}") from None
    return value


def _held(key: str, value: Any) -> Any:
    """The value as a replica holds it, in 32 bits; OverflowError if it is too large for them."""
    if isinstance(value, float):
        return struct.unpack("<f", struct.pack("<f", value))[0]
    if type(value) is int and not key.startswith("seeds.") and value >= 2**31:  # seeds have a range of their own
        raise OverflowError
    return value


def swept(key: str, values: Any) -> list:
    """The values of a sweep, each as the key wants it. What a method's argument wants, `expand` finds out.

    Of several keys, with commas between them, each value is a list with one for each key.

    Raises:
        BadInput: a key that cannot be swept, no list, or a value that the key does not take.
    """
    if "," in key:
        names = [name.strip() for name in key.split(",")]
        if not isinstance(values, list | tuple) or not values:
            raise BadInput(f"sweep.{key}: expected a list of lists of values, found {values!r}")
        for row in values:
            if not isinstance(row, list | tuple) or len(row) != len(names):
                raise BadInput(f"sweep.{key}: expected lists of {len(names)} values, one for each key, found {row!r}")
        columns = [swept(name, [row[at] for row in values]) for at, name in enumerate(names)]
        return [list(row) for row in zip(*columns, strict=True)]
    known = [k for k, hint in KEYS.items() if not k.startswith((*FREE, *WHOLE)) and list[str] not in get_args(hint)]
    if key not in known and not key.startswith("method."):
        below = [k for k in known if k.startswith(f"{key}.")]
        hint = f"known: {', '.join(below)}" if below else nearest(key, known)
        if key in KEYS:
            hint = "a sweep takes method, model and the keys of task, train, eval and stop"
        if key in WHOLE:
            hint = "it is the same for all trials of a study"
        raise BadInput(f"sweep.{key}: not a key to sweep over; {hint}")
    if not isinstance(values, list | tuple) or not values:
        raise BadInput(f"sweep.{key}: expected a list of values, found {values!r}")
    if key.startswith("method."):
        return list(values)
    try:
        return [typed(key, value) for value in values]
    except BadInput as error:
        raise BadInput(f"sweep.{error}") from None


def explain() -> str:
    """The help on every key: what it is, what it accepts, and its default."""
    about, defaults = _about(Study), flat(Study())
    blocks = [about[""]]
    blocks += [_key(key, about[key], defaults[key]) for key in about if key in KEYS]
    blocks += [fill(f"  --sweep.KEY  {about['sweep']}", 110, subsequent_indent="      ")]
    for section, part in SECTIONS.items():
        of = _about(part)
        blocks += [f"\n{section}: {of.pop('')}"]
        blocks += [_key(f"{section}.{leaf}", text, defaults[f"{section}.{leaf}"]) for leaf, text in of.items()]
    return "\n".join(blocks) + "\n"


def _key(key: str, about: str, default: Any) -> str:
    shown = "null" if default is None else str(default).lower() if isinstance(default, bool) else default
    text = f"--{key}  {about} [{_accepted(key)}; {shown}]"
    return fill(text, 110, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)


@cache
def _parser() -> ArgumentParser:
    made = ArgumentParser(exit_on_error=False, allow_abbrev=False, add_help=False)
    for key, hint in KEYS.items():
        made.add_argument(f"--{key}", type=hint)
    return made


def _about(part: type) -> dict[str, str]:
    """What the docstring of a part says of it, under "", and of each field."""
    summary, _, args = (getdoc(part) or "").partition("\n\nArgs:\n")
    about, name = {"": summary}, ""
    for line in args.splitlines():
        if line.startswith("        "):
            about[name] += f" {line.strip()}"
        else:
            name, _, text = line.strip().partition(": ")
            about[name] = text
    return about


def _accepted(key: str) -> str:
    """Type and range of a key, in words: "an integer of at least 1 or null"."""
    hint = KEYS[key]
    if get_origin(hint) is Literal:
        return " or ".join(get_args(hint))
    kinds = [hint] if hint in _NOUNS else get_args(hint)
    text = "a share such as 10%" if key == "task.n_train" else "a range such as 1..25" if int in kinds else "text"
    nouns = [noun for kind in kinds for noun in _nouns(kind, text)]
    if key in _LIMITS:
        nouns[0] += f" {_LIMITS[key][0]}"
    return " or ".join(nouns)


def _nouns(kind: Any, text: str) -> list[str]:
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    if get_origin(kind) is list:
        return [f"a list of {_PLURALS.get(get_args(kind)[0], 'mappings')}"]
    return [text if kind is str else _NOUNS[kind]]
