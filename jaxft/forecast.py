"""What a study will take, without training any of it."""

import time
from typing import NamedTuple

from jaxft import train
from jaxft.pool import Memory, Pool, size
from jaxft.progress import duration
from jaxft.store import Store
from jaxft.study import Study
from jaxft.trials import expand


class GroupPlan(NamedTuple):
    """What one compile group will take."""

    trials: int
    done: int
    steps: tuple[int, int]
    """Of the shortest and of the longest trial."""
    every: int
    """Steps between evaluations."""
    rows: int
    """Of a batch."""
    width: int
    """Tokens of a row."""
    slots: int
    """Per device."""
    devices: int
    memory: Memory
    compile_seconds: float
    step_seconds: float
    """One step of all slots, measured on empty ones: the same program, nothing trained."""
    evaluation_seconds: float
    """One evaluation of all slots."""
    seconds: float
    """All that is not done yet, estimated."""


def plan(study: Study) -> list[GroupPlan]:
    """Compiles each group's program, times it on empty slots, and adds up.

    Raises:
        BadInput: as `train.run`.
    """
    trials = expand(study)
    folder = train.folder(study)
    before = Store.decided(folder)
    done = Store.finished(folder)
    return [_forecast(study, group, before, done) for group in train.prepare(study, trials)]


def _forecast(study: Study, group: train.Group, before: dict, done: set[str]) -> GroupPlan:
    pool = train.pooled(group, train.slots(study, group, before), train.devices(study))
    totals = [length.total for length in group.lengths.values()]
    missing = [length.total for trial, length in group.lengths.items() if trial not in done]
    step, evaluation = _timed(pool)
    # Slots are busy until the queue is empty, and the longest trial has to be waited for.
    blocks = max(sum(missing) / pool.slots, *missing, 0) / group.recipe.every
    return GroupPlan(
        trials=len(totals),
        done=len(totals) - len(missing),
        steps=(min(totals), max(totals)),
        every=group.recipe.every,
        rows=group.recipe.layout.rows,
        width=group.recipe.layout.width,
        slots=pool.slots_per_device,
        devices=len(pool.devices),
        memory=pool.memory,
        compile_seconds=pool.compile_seconds,
        step_seconds=step,
        evaluation_seconds=evaluation,
        seconds=blocks * (group.recipe.every * step + evaluation),
    )


def describe(study: Study, plans: list[GroupPlan]) -> str:
    """The plan as lines for a terminal."""
    lines = [
        f"{study.name}: {sum(p.trials for p in plans)} trials in {len(plans)} compile group(s), "
        f"{sum(p.done for p in plans)} done already"
    ]
    for number, p in enumerate(plans, 1):
        low, high = p.steps
        lines += [
            f"group {number}: {p.trials} trials of {low if low == high else f'{low} to {high}'} steps, "
            f"{p.rows} rows of {p.width} tokens, an evaluation every {p.every} steps",
            f"  slots     {p.slots} per device x {p.devices} device(s) = {p.slots * p.devices}",
            f"  memory    {size(p.memory.per_replica)} a replica, {size(p.memory.total)} per device "
            f"of {size(p.memory.limit)} free (from the compiled program)",
            f"  time      {p.compile_seconds:.1f} s to compile, {p.step_seconds:.3g} s a step and "
            f"{p.evaluation_seconds:.3g} s an evaluation of all slots (measured on empty slots)",
            f"  estimate  {duration(p.seconds)} for the {p.trials - p.done} trials that are left",
        ]
    lines.append(f"in all: about {duration(sum(p.seconds + p.compile_seconds for p in plans))}")
    return "\n".join(lines)


def _timed(pool: Pool) -> tuple[float, float]:
    """Seconds of a step and of an evaluation of all slots."""
    count = min(3, pool.recipe.every)
    pool.run(count)  # the first call is slower
    spent = []
    for steps in (0, count):
        began = time.monotonic()
        pool.run(steps)
        spent.append(time.monotonic() - began)
    return max(0.0, spent[1] - spent[0]) / count, spent[0]
