"""Our side: the pools of `jaxft run`, filled with the study's own trials."""

import math
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from statistics import median
from typing import Any

import jax
import numpy as np

from jaxft.bench import rounds
from jaxft.bench.rounds import Round
from jaxft.data import order
from jaxft.engine import groups
from jaxft.engine.groups import Group
from jaxft.engine.memory import DoesNotFit
from jaxft.engine.pool import Pool
from jaxft.errors import BadInput
from jaxft.study.trials import Trial

APART = 10_007  # between the order seeds of a trial in one round and in the next
ATTEMPTS = 3  # at a turn
EVALUATIONS = 3  # in a turn; the median counts


class Ours:
    """A pool of so many slots. Between its turns it leaves the devices' memory to the others."""

    def __init__(self, group: Group, devices: Sequence, width: int, seconds: float):
        """Compiles the pool and finds how many steps take about so many seconds. Narrow pools come before wide ones.

        Args:
            group: of the study.
            devices: to spread the slots over, see `divided`.
            width: slots, on all devices together.
            seconds: for the steps of one turn.

        Raises:
            BadInput: the devices have no memory for it; it says what would fit.
        """
        count, slots = divided(width, len(devices))
        try:
            self.pool = groups.pooled(group, slots, devices[:count])
        except DoesNotFit as error:
            raise BadInput(f"bench: --widths: {width} on {count} device(s): {error}") from None
        self.name, self.replicas, self.group = f"ours x{width}", width, group
        self.settings: dict[str, Any] = {"devices": count, "slots_per_device": slots}
        self.memory: int | None = self.pool.memory.total * count
        self.compile_seconds: float | None = self.pool.programs.seconds
        self.shapes = {name: leaf.shape[1:] for name, leaf in self.pool.state.params.items()}
        self.rounds: list[Round] = []
        self._seconds = seconds
        self._lengths = np.diff(np.asarray(group.task.train.offsets))
        self._wake(0)
        timed(self.pool, 1)
        self.settings |= {"peak_bytes": peak} if (peak := _peak(self.pool.devices)) else {}
        evaluation = timed(self.pool, 0)
        step = timed(self.pool, 1) - evaluation
        self.pool.rest()
        self._adapt(step, evaluation)

    def turn(self, number: int) -> Round:
        """A block of steps, all slots filled, less the evaluation at its end: what a block without any step takes."""
        self._wake(number)
        timed(self.pool, 1)  # memory is new
        idle = rounds.quiet()
        for _ in range(ATTEMPTS):
            evaluation = median(timed(self.pool, 0) for _ in range(EVALUATIONS))
            seconds = timed(self.pool, self.steps) - evaluation
            if seconds > 0:
                break
        else:
            raise BadInput(f"bench: a block of {self.steps} steps took less than one without any: a busy machine")
        self.pool.rest()
        chosen = np.stack([batches(self.group, trial, 1 + self.steps)[1:] for trial in self._trials(number)])
        done = Round(self.steps, seconds, evaluation, **rounds.counted(self._lengths, chosen), idle=idle)
        self._adapt(done.step, evaluation)
        return done

    def profile(self, folder: str) -> None:
        """Writes a profile of one block, as `jax.profiler` has it."""
        self._wake(0)
        with jax.profiler.trace(folder):
            self.pool.run(self.steps)
        self.pool.rest()

    def _trials(self, number: int) -> list[Trial]:
        return [trial_of(self.group, number, slot) for slot in range(self.replicas)]

    def _adapt(self, step: float, evaluation: float) -> None:
        """The steps of the next turn take the time of one, and more than what is subtracted."""
        most = min(self.group.recipe.every, *(long.total for long in self.group.lengths.values()))
        self.steps = rounds.steps(max(self._seconds, 2 * evaluation), step, most - 1)

    def _wake(self, number: int) -> None:
        """Fills all slots with the trials of a round."""
        self.pool.wake(self.group.shared)
        self.pool.fill({slot: groups.entry(trial, self.group) for slot, trial in enumerate(self._trials(number))})
        jax.block_until_ready(self.pool.state)


def timed(pool: Pool, steps: int) -> float:
    """Seconds of a block of so many steps."""
    began = time.perf_counter()
    pool.run(steps)  # which fetches its report
    return time.perf_counter() - began


def divided(width: int, devices: int) -> tuple[int, int]:
    """On how many devices, and how many slots on each: as many devices as `width` can be divided among evenly."""
    count = math.gcd(width, devices)
    return count, width // count


def trial_of(group: Group, number: int, slot: int) -> Trial:
    """The trial that a slot trains in a round: one of the study's, with another order in every round."""
    trial = group.trials[slot % len(group.trials)]
    return trial._replace(seeds=trial.seeds._replace(order=(trial.seeds.order + APART * number) % 2**32))


def batches(group: Group, trial: Trial, steps: int) -> np.ndarray:
    """The examples of a trial's first steps, [steps, B]; -1 is none."""
    recipe, entry, labels = group.recipe, groups.entry(trial, group), np.asarray(group.task.train.labels)
    planned = _planner(len(labels), recipe.batch, recipe.max_epochs, recipe.steps, recipe.strata)
    return np.asarray(planned(entry.seeds, entry.length, labels=labels))[:steps]


@cache
def _planner(examples: int, batch: int, max_epochs: int, rows: int, strata: int) -> Callable:
    """`order.plan`, compiled once: operation by operation it takes an accelerator seconds."""
    sizes = {"examples": examples, "batch": batch, "max_epochs": max_epochs, "before": 0, "rows": rows}
    return jax.jit(partial(order.plan, strata=strata, **sizes))


def _peak(devices: Sequence) -> int:
    """What this process has had of a device's memory at most, if the device can tell."""
    return max((device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in devices)
