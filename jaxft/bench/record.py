"""The record of a bench: a line of JSON for each finished row."""

import json
import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxft import __version__
from jaxft.cost import CHIPS
from jaxft.errors import BadInput
from jaxft.machine import cores, processor, vectors


def check(path: Path) -> None:
    """Raises BadInput if no line can be added to the file."""
    try:
        path.open("a").close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"bench: --record: {path}: cannot be written ({reason})") from None


def append(path: Path, row: dict[str, Any]) -> None:
    """Adds a row, which is on the disk when this returns."""
    check(path)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a record; a last line that was not finished is passed over."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def about(devices: list) -> dict[str, Any]:
    """When, where and with what: part of every row.

    `chip` is the name that `jaxft.cost` has for the kind of accelerator, else the kind itself.
    """
    kind = devices[0].device_kind
    machine = {
        "platform": devices[0].platform,
        "devices": len(devices),
        "kind": kind,
        "cpu": processor("model name"),
        "vectors": vectors(),
        "cores": cores(),
    }
    versions = {"jaxft": __version__, "python": platform.python_version()}
    versions |= {name: _version(name) for name in ("jax", "jaxlib", "torch", "transformers")}
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "chip": next((chip.name for chip in CHIPS if chip.name in kind), kind),
        "machine": machine,
        "versions": versions,
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
