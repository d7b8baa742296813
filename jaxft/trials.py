"""Which trials a study consists of. No jax here."""

from typing import Any, NamedTuple


class Seeds(NamedTuple):
    """The five independent random streams of a trial, each a number below 2**32."""

    init: Any
    order: Any
    dropout: Any
    noise: Any
    data: Any


class Trial(NamedTuple):
    """One seed variant with its settings."""

    id: str
    """A hash of all that determines the result: the three fields below."""
    seeds: Seeds
    fixed: dict[str, Any]
    """Every setting that is not a float, by its dotted name: {"model": ..., "train.batch_size": 16, ...}."""
    hp: dict[str, float]
    """Every float, by its dotted name: {"train.lr": 2e-5, ...}; these may differ within one program."""
