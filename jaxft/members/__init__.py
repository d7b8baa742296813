"""The members of the registries: methods, policies and networks, by name, and what each accepts. No jax here.

A registry is a folder: `methods/`, `policies/` for `policy: "median(grace=0.2)"`, `networks/` for what comes after the
bar in `model: "FOLDER|lstm(layers=4)"`, `tracking/` for `--track`: the file's name is the member's. Its signature is
read from the source, not by importing it, so that a study is checked, and its trials are told apart, before jax is
loaded. `add` adds a function from anywhere, for this process.
"""

import ast
import difflib
import inspect
import math
import struct
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from jaxft.errors import BadInput

Literal = int | float | str | bool
_TYPES = {"int": int, "float": float, "str": str, "bool": bool}
NOUNS = {int: "an integer", float: "a finite number", str: "text in quotes", bool: "True or False"}
RANGES: dict[str, tuple[type, str, Callable[[Any], bool]]] = {
    "Share": (float, "a number from 0 to 1", lambda x: 0 <= x <= 1),
    "BelowOne": (float, "a number from 0 and below 1", lambda x: 0 <= x < 1),
    "NotNegative": (float, "a finite number from 0 on", lambda x: x >= 0),
    "Positive": (float, "a finite number above 0", lambda x: x > 0),
    "Count": (int, "an integer from 1 on", lambda x: x >= 1),
    "Natural": (int, "an integer from 0 on", lambda x: x >= 0),
}
"""What the aliases in `ranges` stand for: a type, its range in words, and whether a value is in it."""


class Argument(NamedTuple):
    """What a member declares of an argument."""

    type: type
    default: Literal
    range: str = ""
    """The name of its range, of those in `ranges`; "" for any value of the type."""
    words: tuple[str, ...] = ()
    """The only texts that it takes; () for any."""


class Own(NamedTuple):
    """A member that a program added."""

    function: Callable[..., Any]
    source: str
    clashes: dict[str, str]

    @property
    def fingerprint(self) -> str:
        """A hash of its source."""
        return sha256(self.source.encode()).hexdigest()[:16]


class _Source(NamedTuple):
    """Where a member is written."""

    name: str
    place: str
    text: str
    clashes: tuple[tuple[str, str], ...] = ()


_ROOMS = {
    "method": "jaxft.methods",
    "policy": "jaxft.policies",
    "network": "jaxft.networks",
    "tracker": "jaxft.tracking",
}
_OWN: dict[tuple[str, str], Own] = {}


def signature(name: str, kind: str = "method") -> dict[str, Argument]:
    """The arguments that the method, or the policy, of this name declares.

    Raises:
        BadInput: there is none.
        TypeError: its author left out a type or a default.
    """
    return _signature(_source(name, kind))


def clashes(name: str, kind: str = "method") -> dict[str, str]:
    """With what others the method of this name does not go, and why: its file's `CLASHES = {"other": "reason"}`.

    Raises:
        BadInput: there is no such method.
    """
    source = _source(name, kind)
    return _clashes(source) | dict(source.clashes)


def add(function: Callable[..., Any], kind: str = "method", clashes: Mapping[str, str] | None = None) -> None:
    """Makes a function a member under its name, for this process; one that was added before is replaced.

    Args:
        function: as a member's file has it: each argument with a type or range and a default. From a file or a cell, so
            that its source can be read.
        kind: "method" or "policy".
        clashes: as a file's `CLASHES`.

    Raises:
        BadInput: the name is taken, or the source cannot be read.
        TypeError: an argument has no type or no default.
    """
    name = function.__name__
    if name in _files(kind):
        raise BadInput(f"{kind}: {name} is there already; give the function another name")
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        raise BadInput(f"{kind}: the source of {name} cannot be read: define it in a file or a notebook") from None
    own = Own(function, source, dict(clashes or {}))
    _signature(_Source(name, name, source))
    _OWN[kind, name] = own


def own(name: str, kind: str = "method") -> Own | None:
    """The member of this name that was added; None where it is one of ours, or none."""
    return _OWN.get((kind, name))


def member(name: str, kind: str = "method") -> Callable[..., Any]:
    """The function of this name; the file that has it is imported.

    Raises:
        BadInput: there is none.
    """
    if found := own(name, kind):
        return found.function
    _source(name, kind)
    return getattr(import_module(f"{_ROOMS[kind]}.{name}"), name)


def names(kind: str = "method") -> list[str]:
    """All that there are, in alphabetical order."""
    return sorted([*_files(kind), *(name for room, name in _OWN if room == kind)])


def accepted(declared: Argument) -> str:
    """Type and range of an argument, in words."""
    if declared.words:
        return " or ".join(repr(word) for word in declared.words)
    return RANGES[declared.range][1] if declared.range else NOUNS[declared.type]


def docstring(name: str, kind: str = "method") -> str:
    """What the member's function says of itself, without its indentation."""
    source = _source(name, kind)
    body = ast.parse(source.text).body
    (function,) = (node for node in body if isinstance(node, ast.FunctionDef) and node.name == name)
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


def _source(name: str, kind: str) -> _Source:
    if found := own(name, kind):
        return _Source(name, name, found.source, tuple(found.clashes.items()))
    files = _files(kind)
    if name not in files:
        raise BadInput(f"{kind}: unknown {kind} {name!r}; {nearest(name, names(kind))}")
    return _Source(name, str(files[name]), _text(files[name]))


@lru_cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _files(kind: str) -> dict[str, Path]:
    return {path.stem: path for folder in _folders(kind) for path in sorted(Path(folder).glob("[!_]*.py"))}


def _folders(kind: str) -> Sequence[str]:
    found = find_spec(_ROOMS[kind])  # without importing it
    return found.submodule_search_locations or () if found else ()


@lru_cache
def _signature(source: _Source) -> dict[str, Argument]:
    tree, name, place = ast.parse(source.text), source.name, source.place
    functions = {node.name: node.args for node in tree.body if isinstance(node, ast.FunctionDef)}
    if name not in functions:
        raise TypeError(f"{place}: no function {name}")
    args = functions[name]
    declared = [*zip(args.args[::-1], args.defaults[::-1], strict=False)][::-1]
    declared += [(arg, default) for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True) if default]
    if len(declared) < len(args.args) + len(args.kwonlyargs):
        raise TypeError(f"{place}: an argument of {name} has no default")
    return {arg.arg: _argument(place, arg, default) for arg, default in declared}


def _argument(path: str, arg: ast.arg, default: ast.expr) -> Argument:
    value: Any = ast.literal_eval(default)
    match arg.annotation:
        case ast.Name(id=name) if name in _TYPES:
            found = Argument(_TYPES[name], _TYPES[name](value))
        case ast.Name(id=name) if name in RANGES:
            kind = RANGES[name][0]
            found = Argument(kind, kind(value), name)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inside):
            words = ast.literal_eval(inside)
            found = Argument(str, value, words=words if isinstance(words, tuple) else (words,))
        case _:
            known = ", ".join([*_TYPES, *RANGES])
            raise TypeError(f"{path}: argument {arg.arg} must be annotated with Literal[...] or one of {known}")
    if not fits(found, found.default):
        raise TypeError(f"{path}: the default of {arg.arg} is none of what it takes")
    return found


@lru_cache
def _clashes(source: _Source) -> dict[str, str]:
    for node in ast.parse(source.text).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="CLASHES")], value=value):
                return ast.literal_eval(value)
    return {}


def fits(declared: Argument, value: Any) -> bool:
    """Whether it is of the type, and in the range."""
    if type(value) is not declared.type or (declared.type is float and not math.isfinite(value)):
        return False
    if declared.words:
        return value in declared.words
    return not declared.range or RANGES[declared.range][2](value)


def held(value: float) -> float:
    """The number as a replica holds it, in 32 bits."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.inf
