"""Our side: the pools of `jaxft run`, filled with the study's own trials."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft import train
from jaxft.bench import rounds
from jaxft.bench.rounds import Round
from jaxft.data import order
from jaxft.errors import BadInput
from jaxft.pool import DoesNotFit
from jaxft.train import Group
from jaxft.trials import Trial

APART = 10_007  # between the order seeds of a trial in one round and in the next
ATTEMPTS = 3  # at a turn


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
            self.pool = train.pooled(group, slots, devices[:count])
        except DoesNotFit as error:
            raise BadInput(f"bench: --widths: {width} on {count} device(s): {error}") from None
        self.name, self.replicas, self.group = f"ours x{width}", width, group
        self.settings: dict[str, Any] = {"devices": count, "slots_per_device": slots}
        self.memory: int | None = self.pool.memory.total * count
        self.compile_seconds: float | None = self.pool.compile_seconds
        self.shapes = {name: leaf.shape[1:] for name, leaf in self.pool.state.params.items()}
        self.rounds: list[Round] = []
        self._seconds = seconds
        self._empty, self._where = _zeros(self.pool.state), jax.tree.map(lambda x: x.sharding, self.pool.shared)
        self._lengths = np.diff(np.asarray(group.task.train.offsets))
        self._wake(0)
        self._timed(0)
        self.settings |= {"peak_bytes": peak} if (peak := _peak(self.pool.devices)) else {}
        evaluation = self._timed(0)
        self._rest()
        # Backward is about two forwards.
        there = sum(len(split.labels) for split in group.task.evals.values())
        self._adapt(evaluation, 3 * evaluation * group.recipe.batch / there)

    def turn(self, number: int) -> Round:
        """A block without steps and a block of steps, all slots just filled; the difference is the steps'."""
        self._wake(number)
        idle = rounds.quiet()
        for _ in range(ATTEMPTS):
            block = self._timed(self.steps)
            evaluation = self._timed(0)
            if block > evaluation:
                break
        else:
            raise BadInput(f"bench: {self.steps} steps and an evaluation took less than an evaluation: a busy machine")
        self._rest()
        chosen = np.stack([batches(self.group, trial, self.steps) for trial in self._trials(number)])
        done = Round(self.steps, block - evaluation, evaluation, **rounds.counted(self._lengths, chosen), idle=idle)
        self._adapt(evaluation, done.step)
        return done

    def profile(self, folder: str) -> None:
        """Writes a profile of one block, as `jax.profiler` has it."""
        self._wake(0)
        with jax.profiler.trace(folder):
            self.pool.run(self.steps)
        self._rest()

    def _trials(self, number: int) -> list[Trial]:
        return [trial_of(self.group, number, slot) for slot in range(self.replicas)]

    def _adapt(self, evaluation: float, step: float) -> None:
        """The steps of the next turn take the time of one, and outweigh the evaluation, which is subtracted."""
        most = min(self.group.recipe.every, *(long.total for long in self.group.lengths.values()))
        self.steps = rounds.steps(max(self._seconds, 2 * evaluation), step, most)

    def _timed(self, steps: int) -> float:
        began = time.perf_counter()
        self.pool.run(steps)  # which fetches its report
        return time.perf_counter() - began

    def _wake(self, number: int) -> None:
        """Fills all slots with the trials of a round."""
        self.pool.shared = jax.device_put(self.group.shared, self._where)
        self.pool.state = self._empty()
        self.pool.fill({slot: train.entry(trial, self.group) for slot, trial in enumerate(self._trials(number))})
        jax.block_until_ready(self.pool.state)

    def _rest(self) -> None:
        del self.pool.state, self.pool.shared


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
    recipe, length = group.recipe, group.lengths[trial.id]
    chosen = order.plan(
        trial.seeds,
        length,
        examples=len(group.task.train.labels),
        batch=recipe.batch,
        max_epochs=recipe.max_epochs,
        before=0,
        rows=steps,
    )
    return np.asarray(chosen)


def _peak(devices: Sequence) -> int:
    """What this process has had of a device's memory at most, if the device can tell."""
    return max((device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in devices)


def _zeros(like: Any) -> Callable[[], Any]:
    """Makes zeros in place of arrays that may be gone by then."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
    sharding = jax.tree.map(lambda x: x.sharding, shapes)
    return jax.jit(lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes), out_shardings=sharding)
