"""What is trained in a checkpoint's place: `model: "CHECKPOINT|lstm(layers=4)"`. The file's name is the network's name.

A network is a function with a type and a default for every argument. It takes nothing else: its result makes a `Made`
of the checkpoint's config. The tokenizer, and so the vocabulary, stays that of the checkpoint.
No jax here.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxft import members
from jaxft.errors import BadInput
from jaxft.members import spec

Config = Mapping[str, Any]


class Made(NamedTuple):
    """A network in place of a checkpoint's."""

    config: Config
    taken: tuple[str, ...]
    """The parameters whose values are still those of the checkpoint, by name; the others are fresh."""
    frozen: tuple[str, ...]
    """Those that no method trains."""


Network = Callable[[Config], Made]


def read(text: str) -> tuple[str, spec.Call | None]:
    """What `model` of a study says: a checkpoint, and the network in its place, with every argument; None for itself.

    Raises:
        BadInput: the network is unknown, an argument does not fit it, or there are two.
    """
    checkpoint, bar, rest = text.partition("|")
    if not bar:
        return text, None
    calls = spec.bind(spec.parse(rest, "model"), "network")
    call, *more = calls
    if more:
        raise BadInput(f"model: one network in a checkpoint's place, found {spec.write(calls)!r}")
    return checkpoint.strip(), call


def load(text: str) -> tuple[str, Network | None]:
    """What `model` of a study stands for: a checkpoint, and what is made of it, if it is not itself meant.

    Raises:
        BadInput: as `read`.
    """
    checkpoint, call = read(text)
    if call is None:
        return checkpoint, None
    return checkpoint, members.member(call.name, "network")(**call.args)
