"""Flat parameter names: between `{"a/b": x}` and nested dicts, and by layer."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from jaxft.errors import BadInput


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": x}}` as `{"a/b": x}`, in the order of iteration."""
    flat = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}/")
        else:
            flat[prefix + name] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *path, leaf = name.split("/")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[leaf] = value
    return nested


def layer(name: str) -> str:
    """The layer of a parameter: "layers/3" of "layers/3/query/kernel", "pooler" of "pooler/bias"."""
    first, *rest = name.split("/")
    return f"{first}/{rest[0]}" if first == "layers" and rest else first


def layers(names: Iterable[str]) -> list[str]:
    """The layers of these parameters, each once: embeddings, layers by their number, pooler, and what else there is."""

    def order_of(layer: str) -> tuple[int, int, str]:
        first, _, number = layer.partition("/")
        order = ("embeddings", "layers", "pooler")
        return order.index(first) if first in order else len(order), int(number) if number.isdecimal() else 0, layer

    return sorted({layer(name) for name in names}, key=order_of)


def depth(names: Iterable[str]) -> int:
    """How many layers an encoder with these parameters has."""
    return sum(layer.startswith("layers/") for layer in layers(names))


def height(name: str) -> int | None:
    """The number of the layer that a parameter lies in, from 0 at the bottom; None for what lies in none."""
    first, _, number = layer(name).partition("/")
    return int(number) if first == "layers" and number else None


def head(name: str) -> bool:
    """Whether a parameter is of the head: of neither embeddings nor layers nor pooler."""
    return layer(name).split("/")[0] not in ("embeddings", "layers", "pooler")


def maps(names: Iterable[str], targets: str, argument: str) -> list[str]:
    """The linear maps in the layers, such as "layers/3/query", that a list of patterns picks.

    Args:
        names: of all parameters.
        targets: patterns of the shell, with commas between them. One with a slash is matched against the whole name
            ("layers/[01]/query"), any other against the last part ("query").
        argument: whose value it is, for the message.

    Raises:
        BadInput: a pattern that matches none.
    """
    there = [name.removesuffix("/kernel") for name in names if name.startswith("layers/") and name.endswith("/kernel")]
    there = [name for name in there if name.count("/") == 2]  # not inside of what a method has added
    patterns = [pattern.strip() for pattern in targets.split(",")]

    def fits(name: str, pattern: str) -> bool:
        return fnmatchcase(name if "/" in pattern else name.rsplit("/", 1)[-1], pattern)

    for pattern in patterns:
        if not any(fits(name, pattern) for name in there):
            known = ", ".join(sorted({name.rsplit("/", 1)[-1] for name in there}))
            raise BadInput(f"{argument}: {pattern!r} matches no linear map of the layers; there are: {known}")
    return sorted(name for name in there if any(fits(name, pattern) for pattern in patterns))
