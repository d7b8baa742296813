"""What a family of encoders is, and finding one: a file here with a `FAMILY`, found by the types that it reads."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from flax import linen as nn
from jaxtyping import Array, Key

from jaxft.errors import BadInput
from jaxft.models import layers
from jaxft.types import Params

Config = Mapping[str, Any]


def drawn(config: Config, key: Key[Array, ""], shapes: Mapping[str, tuple[int, ...]]) -> Params:
    """Fresh values as BERT's: normal, of the standard deviation that the config says."""
    return layers.fresh(key, shapes, config.get("initializer_range", 0.02))


class Family(NamedTuple):
    """One kind of encoder, as functions of its Hugging Face config."""

    types: tuple[str, ...]
    """The `model_type`s of config.json that it reads."""
    network: Callable[..., nn.Module]
    """`(config, classes, dtype="float32")` -> a module that is called as `(batch, drop, edit) -> Out`; see `layers`."""
    names: Callable[[Config], dict[str, str]]
    """Our name of each module that holds parameters -> its name in a checkpoint, with the prefix."""
    positions: Callable[[Config], int]
    """The longest example, in tokens."""
    prefix: str
    """Of the encoder's names in a checkpoint; a checkpoint of the bare encoder may lack it."""
    fresh: tuple[str, ...]
    """Modules, in our names, that are never taken from a checkpoint: the head, logits last."""
    optional: tuple[str, ...]
    """Modules that a checkpoint may lack; they are then fresh too."""
    architectures: tuple[str, str]
    """What Hugging Face calls the bare encoder, and the encoder with a head."""
    draw: Callable[[Config, Key[Array, ""], Mapping[str, tuple[int, ...]]], Params] = drawn
    """`(config, key, shapes)` -> fresh values for parameters of these shapes, each from the key and its name."""
    begin: Callable[[Config], int | None] = lambda config: None
    """The token that the network puts in of itself, whatever the texts; None where it puts in none."""
    last: Callable[[Config], int | None] = lambda config: None
    """The token that every example has to end in, since the head reads there; None where it does not."""
    tied: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    """Our name of a module -> other names, with the prefix, under which a checkpoint may hold the same values."""
    serial: float = 0.0
    """What it costs, in rows, to go through a batch's columns one after the other; 0 where none waits for another."""


def find(config: Config) -> Family:
    """The family of a config.

    Raises:
        BadInput: its `model_type` is not supported.
    """
    files = [f.name for f in pkgutil.iter_modules([str(Path(__file__).parent)]) if not f.name.startswith("_")]
    modules = [importlib.import_module(f"{__package__}.{name}") for name in files]
    families = {kind: module.FAMILY for module in modules if hasattr(module, "FAMILY") for kind in module.FAMILY.types}
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in families:
        raise BadInput(f"config.json: model_type: found {kind!r}, supported: {', '.join(sorted(families))}")
    return families[kind]
