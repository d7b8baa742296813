"""Rounds of measurements, in which every side has its turn, and what comes out of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxft import cost
from jaxft.cost import Bound, Chip, Cost

EPOCHS, EVALUATIONS = 3, 30  # of the trials that are counted by the hour
QUIET, PATIENCE = 0.05, 2.0  # the share of a core that is no work, and how many seconds to wait for so little


class Round(NamedTuple):
    """What a side did in its turn."""

    steps: int
    seconds: float
    """Of these steps, without any evaluation."""
    evaluation: float
    """Seconds of one evaluation of all replicas on all evaluation sets."""
    examples: int
    """Of all replicas, like those below."""
    tokens: int
    """Real ones, without padding."""
    squares: int
    """The sum of the squared lengths of the examples."""
    idle: float = 0.0
    """Of a core, what this process used before the turn, when it had nothing to do."""

    @property
    def step(self) -> float:
        """Seconds of a step of all replicas."""
        return self.seconds / self.steps


class Side(Protocol):
    """One of those that are compared."""

    name: str
    replicas: int
    """That it trains at once."""
    settings: dict[str, Any]
    memory: int | None
    """Bytes on all devices at the most; None where it cannot be told."""
    compile_seconds: float | None
    rounds: list[Round]

    def turn(self, number: int) -> Round:
        """Measures it in the round of this number; the batches are that round's."""
        ...


class Spread(NamedTuple):
    """A median, and the least and the most."""

    median: float
    least: float
    most: float


class Figures(NamedTuple):
    """What a row of the table shows; all of it measured, or reckoned from what was."""

    examples: float
    """A second, by all replicas."""
    tokens: float
    """Real ones, a second."""
    step: float
    """Seconds of a step of one replica."""
    evaluation: float
    """Seconds of an evaluation of one replica."""
    trials: float
    """An hour, of 3 epochs, without any evaluation."""
    evaluated: float
    """An hour, of 3 epochs with 30 evaluations."""
    flops: float
    """FLOP/s that the model needs by the formula, for real tokens."""
    roofline: float
    """The least seconds of a step by the measured ceilings, over those that it took."""
    ratio: Spread | None
    """How many times as many examples a second the fastest of ours trained, round by round."""


def quiet(patience: float = PATIENCE) -> float:
    """Waits until this process uses no processor: thread pools spin a while before they sleep.

    Returns the share of a core that it still uses after so many seconds.
    """
    until = time.monotonic() + patience
    while True:
        used, began = time.process_time(), time.monotonic()
        time.sleep(0.1)
        share = (time.process_time() - used) / (time.monotonic() - began)
        if share < QUIET or time.monotonic() > until:
            return share


class Formula(NamedTuple):
    """What a replica-step must do, and what this machine reaches; see `jaxft.cost`."""

    shapes: Mapping[str, tuple[int, ...]]
    """Of what a replica trains."""
    machine: Chip
    """All of its devices, as measured."""
    dtype: str
    """What matmuls compute in."""

    def cost(self, done: Round, replicas: int) -> Cost:
        """One step of one replica, of a round's mean size."""
        layers, width = cost.sizes(self.shapes)
        of = {name: getattr(done, name) / done.steps / replicas for name in ("tokens", "squares", "examples")}
        return cost.step_cost(self.shapes, **of, width=width, layers=layers, dtype=self.dtype)

    def bound(self, done: Round, replicas: int) -> Bound:
        """The least seconds of that, by what they go to."""
        return cost.bound(self.cost(done, replicas), self.machine, self.dtype)


def figures(side: Side, fastest: Side, per_epoch: int, formula: Formula) -> Figures:
    """The figures of a side's rounds, each the median over them.

    Args:
        side: with at least one round.
        fastest: of our sides, the one with which all others are compared.
        per_epoch: steps of an epoch.
        formula: for FLOP/s and the share of the roofline.
    """

    def middle(of: Callable[[Round], float]) -> float:
        return median(of(done) for done in side.rounds)

    training = EPOCHS * per_epoch * step(side)
    evaluation = middle(lambda done: done.evaluation / side.replicas)
    return Figures(
        examples=middle(lambda done: done.examples / done.seconds),
        tokens=middle(lambda done: done.tokens / done.seconds),
        step=step(side),
        evaluation=evaluation,
        trials=3600 / training,
        evaluated=3600 / (training + EVALUATIONS * evaluation),
        flops=middle(lambda done: formula.cost(done, side.replicas).matmul * side.replicas / done.step),
        roofline=middle(lambda done: formula.bound(done, side.replicas).seconds * side.replicas / done.step),
        ratio=None if side is fastest else ratio(fastest.rounds, side.rounds),
    )


def step(side: Side) -> float:
    """Seconds of a step of one replica: those of a step of all, by their number; the median over the rounds."""
    return median(done.step / side.replicas for done in side.rounds)


def ratio(ours: Sequence[Round], theirs: Sequence[Round]) -> Spread:
    """How many times as many examples a second, in the rounds that both have."""
    times = [(a.examples / a.seconds) / (b.examples / b.seconds) for a, b in zip(ours, theirs, strict=False)]
    return Spread(median(times), min(times), max(times))


def counted(lengths: np.ndarray, chosen: np.ndarray) -> dict[str, int]:
    """Examples, tokens and squares of the examples with these numbers; -1 is none.

    Args:
        lengths: of the training set's examples, in tokens.
        chosen: numbers of examples, in any shape.
    """
    of = np.asarray(lengths)[chosen[chosen >= 0]].astype(np.int64)
    return {"examples": len(of), "tokens": int(of.sum()), "squares": int(np.square(of).sum())}


def steps(seconds: float, of_one: float, most: int) -> int:
    """How many steps take so many seconds: from 1 to `most`."""
    return max(1, min(most, round(seconds / max(of_one, 1e-9))))
