"""The language of `method: "reinit(layers=5)|mixout(p=0.1)"`. No jax here."""

import ast
import math
import warnings
from collections.abc import Iterable, Mapping
from itertools import permutations
from typing import Any, NamedTuple

from jaxft.errors import BadInput
from jaxft.members import NOUNS, Argument, Literal, accepted, clashes, fits, held, nearest, signature

_EXAMPLE = "expected names with keyword arguments, such as `a|b(x=1, y='s')`"


class Call(NamedTuple):
    """One part of a spec: a name and its arguments."""

    name: str
    args: dict[str, Literal]


class _Wrong(Exception):
    """At this character of a spec."""


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


def _typed(name: str, declared: Argument, args: Mapping[str, Any]) -> Literal:
    arg = name.rpartition(".")[2]
    value = args.get(arg, declared.default)
    if declared.type is float and type(value) is int and abs(value) < 2**1000:
        value = float(value)
    if not fits(declared, value):
        raise BadInput(f"{name}: expected {accepted(declared)}, found {value!r}")
    if declared.type is float and not fits(declared, held(value)):
        raise BadInput(f"{name}: expected {accepted(declared)}, found {value!r}, which 32 bits cannot hold")
    return value


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
    if word.arg is None or type(value) not in NOUNS or (isinstance(value, float) and not math.isfinite(value)):
        raise _Wrong(_column(word.value, text))
    return value


def _column(node: ast.expr, text: str) -> int:
    """The character that a node begins at; Python counts bytes."""
    return len(text.encode()[: node.col_offset].decode(errors="ignore"))
