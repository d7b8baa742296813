"""Flat parameter names: between `{"a/b": x}` and nested dicts, and by layer."""

from collections.abc import Iterable, Mapping
from typing import Any


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

    def height(layer: str) -> tuple[int, int, str]:
        first, _, number = layer.partition("/")
        order = ("embeddings", "layers", "pooler")
        return order.index(first) if first in order else len(order), int(number) if number.isdecimal() else 0, layer

    return sorted({layer(name) for name in names}, key=height)
