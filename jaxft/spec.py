"""The language of `method: "reinit(layers=5)|mixout(p=0.1)"`, and what each name in it accepts. No jax here.

The registry is the folder `methods/`, `policies/` for `policy: "median(grace=0.2)"`, and `networks/` for what comes
after the bar in `model: "FOLDER|lstm(layers=4)"`: the file's name is the member's. Its signature is read from the
source, not by importing it, so that a study is checked, and its trials are told apart, before jax is loaded.
"""

import ast
import difflib
import math
import struct
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

from jaxft.errors import BadInput

Literal = int | float | str | bool
_TYPES = {"int": int, "float": float, "str": str, "bool": bool}
_NOUNS = {int: "an integer", float: "a finite number", str: "text in quotes", bool: "True or False"}
_RANGES: dict[str, tuple[type, str, Callable[[Any], bool]]] = {
    "Share": (float, "a number from 0 to 1", lambda x: 0 <= x <= 1),
    "BelowOne": (float, "a number from 0 and below 1", lambda x: 0 <= x < 1),
    "NotNegative": (float, "a finite number from 0 on", lambda x: x >= 0),
    "Positive": (float, "a finite number above 0", lambda x: x > 0),
    "Count": (int, "an integer from 1 on", lambda x: x >= 1),
    "Natural": (int, "an integer from 0 on", lambda x: x >= 0),
}
"""What the aliases in `ranges` stand for: a type, its range in words, and whether a value is in it."""
_EXAMPLE = "expected names with keyword arguments, such as `a|b(x=1, y='s')`"


class Call(NamedTuple):
    """One part of a spec: a name and its arguments."""

    name: str
    args: dict[str, Literal]


class _Wrong(Exception):
    """At this character of a spec."""


class Argument(NamedTuple):
    """What a member declares of an argument."""

    type: type
    default: Literal
    range: str = ""
    """The name of its range, of those in `ranges`; "" for any value of the type."""
    words: tuple[str, ...] = ()
    """The only texts that it takes; () for any."""


def parse(text: str, kind: str = "method") -> tuple[Call, ...]:
    """The calls of a spec, from left to right: "a|b(x=1)" is `(Call("a", {}), Call("b", {"x": 1}))`.

    `kind` is for messages.

    Raises:
        BadInput: anything else than names with keyword arguments that are numbers, texts or True and False.
    """
    text = text.strip()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python about Python: an odd backslash is none of ours
            return tuple(_calls(ast.parse(text, mode="eval").body, text))
    except _Wrong as error:
        at = error.args[0]
    except SyntaxError as error:
        at = (error.offset or 1) - 1
    except (ValueError, RecursionError, MemoryError):  # a null byte, or thousands of parentheses
        at = 0
    found = repr(text[at : at + 20]) if text[at:] else "the end"
    raise BadInput(f"{kind}: {text!r} at position {at + 1}: {_EXAMPLE}, found {found}")


def write(calls: Iterable[Call]) -> str:
    """The text of these calls; `parse` reads it back."""
    parts = ((call.name, ", ".join(f"{name}={value!r}" for name, value in call.args.items())) for call in calls)
    return "|".join(f"{name}({args})" if args else name for name, args in parts)


def bind(calls: Iterable[Call], kind: str = "method") -> tuple[Call, ...]:
    """The calls with every argument filled in, of the declared type and in the declared order.

    Args:
        calls: what `parse` gave.
        kind: "method", "policy" or "network".

    Raises:
        BadInput: an unknown name or argument, a value of the wrong type or out of its range, a name that is there
            twice, or methods that do not go together.
    """
    bound: list[Call] = []
    for name, args in calls:
        if name in (call.name for call in bound):
            raise BadInput(f"{kind}: {name} is there twice, expected once")
        declared = signature(name, kind)
        for arg in args:
            if arg not in declared:
                raise BadInput(f"{kind}: {name} has no argument {arg!r}; {nearest(arg, declared)}")
        bound.append(Call(name, {a: _typed(f"{kind}.{name}.{a}", d, args) for a, d in declared.items()}))
    for one, other in permutations((call.name for call in bound), 2):
        if reason := clashes(one, kind).get(other):
            first, second = sorted((one, other))
            raise BadInput(f"{kind}: {first} and {second} do not go together: {reason}")
    return tuple(bound)


def numbers(text: str, changes: Mapping[str, Any] | None = None) -> tuple[str, dict[str, float]]:
    """What of a spec shapes the program, and what are the replica's own numbers.

    Args:
        text: a spec.
        changes: values to use instead of those in the spec: `{"method.mixout.p": 0.1}`.

    Returns:
        The spec without its floats and with all else filled in ("mixout|reinit(layers=5)"), and the floats by
        name (`{"method.mixout.p": 0.1}`).

    Raises:
        BadInput: the spec or a change does not fit the methods' signatures.
    """
    calls = bind(parse(text))
    names = [f"method.{call.name}.{arg}" for call in calls for arg in call.args]
    for name in changes or {}:
        if name not in names:
            raise BadInput(f"{name}: not an argument of {text!r}; {nearest(name, names)}")
    changed = {
        call.name: {arg: (changes or {}).get(f"method.{call.name}.{arg}", x) for arg, x in call.args.items()}
        for call in calls
    }
    calls = bind(Call(name, args) for name, args in changed.items())
    rest = (Call(name, {arg: x for arg, x in args.items() if not isinstance(x, float)}) for name, args in calls)
    floats = {f"method.{c.name}.{arg}": x for c in calls for arg, x in c.args.items() if isinstance(x, float)}
    return write(rest), floats


def signature(name: str, kind: str = "method") -> dict[str, Argument]:
    """The arguments that the method, or the policy, of this name declares.

    Raises:
        BadInput: there is none.
        TypeError: its author left out a type or a default.
    """
    return _signature(_file(name, kind))


def clashes(name: str, kind: str = "method") -> dict[str, str]:
    """With what others the method of this name does not go, and why: its file's `CLASHES = {"other": "reason"}`.

    Raises:
        BadInput: there is no such method.
    """
    return _clashes(_file(name, kind))


def names(kind: str = "method") -> list[str]:
    """All that there are, in alphabetical order."""
    return sorted(_files(kind))


def accepted(declared: Argument) -> str:
    """Type and range of an argument, in words."""
    if declared.words:
        return " or ".join(repr(word) for word in declared.words)
    return _RANGES[declared.range][1] if declared.range else _NOUNS[declared.type]


def docstring(name: str, kind: str = "method") -> str:
    """What the member's function says of itself, without its indentation."""
    path = _file(name, kind)
    body = ast.parse(path.read_text(encoding="utf-8")).body
    (function,) = (node for node in body if isinstance(node, ast.FunctionDef) and node.name == path.stem)
    return ast.get_docstring(function) or ""


def nearest(word: str, known: Iterable[str]) -> str:
    """What to say of an unknown word: the known one that ends in it or is most like it, or all beside it."""
    known = sorted(known)
    alike = [k for k in known if k.endswith(f".{word}")] or difflib.get_close_matches(word, known, n=1)
    if alike:
        return f"did you mean {alike[0]}?"
    section = word.rpartition(".")[0]
    beside = [k for k in known if k.rpartition(".")[0] == section] or [k for k in known if "." not in k] or known
    return f"known: {', '.join(beside)}" if beside else "there are none"


def _file(name: str, kind: str) -> Path:
    files = _files(kind)
    if name not in files:
        raise BadInput(f"{kind}: unknown {kind} {name!r}; {nearest(name, files)}")
    return files[name]


def _files(kind: str) -> dict[str, Path]:
    return {path.stem: path for folder in _folders(kind) for path in sorted(Path(folder).glob("[!_]*.py"))}


def _folders(kind: str) -> Sequence[str]:
    rooms = {"method": "jaxft.methods", "policy": "jaxft.policies", "network": "jaxft.networks"}
    found = find_spec(rooms[kind])  # without importing it
    return found.submodule_search_locations or () if found else ()


@lru_cache
def _signature(path: Path) -> dict[str, Argument]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = {node.name: node.args for node in tree.body if isinstance(node, ast.FunctionDef)}
    if path.stem not in functions:
        raise TypeError(f"{path}: no function {path.stem}")
    args = functions[path.stem]
    declared = [*zip(args.args[::-1], args.defaults[::-1], strict=False)][::-1]
    declared += [(arg, default) for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True) if default]
    if len(declared) < len(args.args) + len(args.kwonlyargs):
        raise TypeError(f"{path}: an argument of {path.stem} has no default")
    return {arg.arg: _argument(path, arg, default) for arg, default in declared}


def _argument(path: Path, arg: ast.arg, default: ast.expr) -> Argument:
    value: Any = ast.literal_eval(default)
    match arg.annotation:
        case ast.Name(id=name) if name in _TYPES:
            found = Argument(_TYPES[name], _TYPES[name](value))
        case ast.Name(id=name) if name in _RANGES:
            kind = _RANGES[name][0]
            found = Argument(kind, kind(value), name)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inside):
            words = ast.literal_eval(inside)
            found = Argument(str, value, words=words if isinstance(words, tuple) else (words,))
        case _:
            known = ", ".join([*_TYPES, *_RANGES])
            raise TypeError(f"{path}: argument {arg.arg} must be annotated with Literal[...] or one of {known}")
    if not _fits(found, found.default):
        raise TypeError(f"{path}: the default of {arg.arg} is none of what it takes")
    return found


@lru_cache
def _clashes(path: Path) -> dict[str, str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="CLASHES")], value=value):
                return ast.literal_eval(value)
    return {}


def _typed(name: str, declared: Argument, args: Mapping[str, Any]) -> Literal:
    arg = name.rpartition(".")[2]
    value = args.get(arg, declared.default)
    if declared.type is float and type(value) is int and abs(value) < 2**1000:
        value = float(value)
    if not _fits(declared, value):
        raise BadInput(f"{name}: expected {accepted(declared)}, found {value!r}")
    if declared.type is float and not _fits(declared, _held(value)):
        raise BadInput(f"{name}: expected {accepted(declared)}, found {value!r}, which 32 bits cannot hold")
    return value


def _fits(declared: Argument, value: Any) -> bool:
    if type(value) is not declared.type or (declared.type is float and not math.isfinite(value)):
        return False
    if declared.words:
        return value in declared.words
    return not declared.range or _RANGES[declared.range][2](value)


def _held(value: float) -> float:
    """The number as a replica holds it, in 32 bits."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.inf


def _calls(node: ast.expr, text: str) -> list[Call]:
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _calls(left, text) + _calls(right, text)
        case ast.Name(id=name):
            return [Call(name, {})]
        case ast.Call(func=ast.Name(id=name), args=[], keywords=keywords):
            args = {word.arg or "": _literal(word, text) for word in keywords}
            if len(args) == len(keywords):
                return [Call(name, args)]
        case ast.Call(func=ast.Name(), args=[first, *_]):
            raise _Wrong(_column(first, text))
    raise _Wrong(_column(node, text))


def _literal(word: ast.keyword, text: str) -> Literal:
    value: Any
    try:
        value = ast.literal_eval(word.value)
    except (ValueError, TypeError):
        value = None
    if word.arg is None or type(value) not in _NOUNS or (isinstance(value, float) and not math.isfinite(value)):
        raise _Wrong(_column(word.value, text))
    return value


def _column(node: ast.expr, text: str) -> int:
    """The character that a node begins at; Python counts bytes."""
    return len(text.encode()[: node.col_offset].decode(errors="ignore"))
