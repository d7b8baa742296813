"""How long so many chips of a kind would take for a study's trials, by the formula of `jaxft.cost`. No jax here."""

from collections.abc import Collection
from math import ceil, inf
from typing import Any, NamedTuple

import numpy as np

from jaxft import cost
from jaxft.cost import CHIPS, Chip, Cost, Shapes, bound

COUNTS = (1, 8, 64, 256, 1024)  # chips
USABLE = 0.9  # of a chip's memory


class Work(NamedTuple):
    """What trials need, by the formula of `jaxft.cost`."""

    step: Cost
    trial: Cost
    """With its evaluations; the mean over trials."""
    tokens: float
    """Of a step's batch, the mean."""
    width: int
    """Of the model."""
    memory: float
    """Bytes of a replica in training."""
    shared: float
    """Bytes on each chip that all of its replicas read."""

    @property
    def load(self) -> dict[str, Any]:
        """What `deal` asks of it."""
        return {"tokens": self.tokens, "width": self.width, "memory": self.memory, "shared": self.shared}


class Slice(NamedTuple):
    """Chips that are had together."""

    name: str
    chip: Chip
    chips: int


_CHIP = {chip.name: chip for chip in CHIPS}

SLICES = (Slice("TPU v4-32", _CHIP["TPU v4"], 16), Slice("TPU v5e-256", _CHIP["TPU v5e"], 256))
"""Named as their maker does: v4 by cores, two to a chip; v5e by chips."""


class Deal(NamedTuple):
    """What chips of a kind would do for a study."""

    hours: float
    """For all trials; infinite where a chip has no room for a replica."""
    held: int
    """How many replicas each chip holds at once, at most."""
    at_once: int
    """How many are in training at once, on all chips."""
    binds: str
    """What keeps it from being faster: a field of `Cost`, "memory" or "trials"."""
    fits: int
    """How many replicas have room on a chip."""
    enough: int
    """How many keep it busy."""


class Prediction(NamedTuple):
    """What one chip of a kind, and more of them, would do for a study."""

    chip: str
    fits: int
    """How many replicas have room on a chip."""
    enough: int
    """How many keep it busy."""
    rates: tuple[float, ...]
    """Trials per hour, on each of `COUNTS` chips."""
    binds: tuple[str, ...]
    """What keeps each rate from being higher: a field of `Cost`, "memory" or "trials"."""


def needs(
    shapes: Shapes,
    train: np.ndarray,
    evals: np.ndarray,
    *,
    batch: int,
    steps: float,
    evaluations: float,
    width: int,
    layers: int,
    dtype: str,
    shared: float,
    trained: Collection[str] | None = None,
) -> Work:
    """What a trial needs that is known by its sizes alone: no checkpoint and no data are read.

    Args:
        shapes: of the parameters.
        train: tokens of each training example, special ones included.
        evals: tokens of each example of an evaluation, which may be on several sets.
        batch: examples of a step.
        steps: of a trial.
        evaluations: of a trial.
        width: of the model.
        layers: of the model.
        dtype: what matmuls compute in.
        shared: bytes of what all replicas of a chip read: pretrained weights and data.
        trained: the names of the parameters that are; all if None.
    """
    model = {"width": width, "layers": layers, "dtype": dtype}
    share = {name: batch / len(train) * total for name, total in _sums(train).items()}
    step = cost.step_cost(shapes, **share, **model, trained=trained)
    evaluation = cost.evaluation_cost(shapes, **_sums(evals), **model)
    trial = Cost(*(steps * a + evaluations * b for a, b in zip(step, evaluation, strict=True)))
    tokens = share["tokens"]
    held = cost.memory(shapes, tokens=tokens, **model, trained=trained)
    return Work(step, trial, tokens, width, held, shared)


def deal(
    chip: Chip,
    chips: int,
    dtype: str,
    trial: Cost,
    *,
    trials: int,
    tokens: float,
    width: int,
    memory: float,
    shared: float = 0,
) -> Deal:
    """What so many chips would take that share nothing but the queue of a study's trials.

    Replicas are independent, so time falls with the chips, until there are too few trials: all are dealt out evenly, in
    as few waves as have room, and a chip with fewer replicas than keep it busy takes as long as with enough. How many
    that are is a rule of thumb: the smallest matmul of a layer, [tokens, width] in tiles of 128 x 256, is to have two
    tiles for each core.

    Args:
        chip: the kind.
        chips: how many.
        dtype: the precision of its matmuls, one of `chip.flops`.
        trial: what one trial costs.
        trials: of the study.
        tokens: of a step's batch.
        width: of the model.
        memory: bytes of a replica.
        shared: bytes on each chip that all of its replicas read.
    """
    least = bound(trial, chip, dtype)
    enough = ceil(2 * chip.cores / (ceil(tokens / 128) * ceil(width / 256)))
    fits = max(0, int((USABLE * chip.memory - shared) / memory))
    if not fits:
        return Deal(inf, 0, 0, "memory", fits, enough)
    waves = ceil(trials / (chips * fits))
    held = ceil(trials / (chips * waves))
    hours = waves * max(held, enough) * least.seconds / 3600
    starved = "memory" if fits < enough and waves > 1 else "trials"
    busy = held >= enough and trials >= chips
    return Deal(hours, held, min(trials, chips * held), least.binds if busy else starved, fits, enough)


def predict(chip: Chip, dtype: str, trial: Cost, *, trials: int, **load) -> Prediction:
    """The rates of one chip and of more; the arguments are those of `deal`."""
    deals = [deal(chip, count, dtype, trial, trials=trials, **load) for count in COUNTS]
    rates = tuple(trials / each.hours for each in deals)
    return Prediction(chip.name, deals[0].fits, deals[0].enough, rates, tuple(each.binds for each in deals))


def _sums(lengths: np.ndarray) -> dict[str, float]:
    """What the formula asks of the lengths of some examples."""
    lengths = lengths.astype(np.float64)
    return {"tokens": float(lengths.sum()), "squares": float(np.square(lengths).sum()), "examples": len(lengths)}
