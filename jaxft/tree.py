"""Flat parameter names: between `{"a/b": x}` and nested dicts."""

from collections.abc import Mapping
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
