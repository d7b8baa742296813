"""What a study will take, without training any of it."""

import json
import time
from collections.abc import Collection, Sequence
from functools import cache
from math import inf
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxft import cost, models, policies
from jaxft.cost import Bound, Chip, ceilings
from jaxft.cost.scale import COUNTS, SLICES, Deal, Prediction, deal, predict
from jaxft.engine.groups import Group, entry, pooled, prepare
from jaxft.engine.memory import Memory, held, size
from jaxft.engine.pool import Pool
from jaxft.engine.work import work
from jaxft.folder.store import Store
from jaxft.follow.news import duration
from jaxft.loop import train
from jaxft.models.known import known
from jaxft.stats.replay import replay
from jaxft.study import Study
from jaxft.study.trials import expand

RECORDS = Path(__file__).parent / "bench" / "records"


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
    checkpoint: int
    """Bytes of the replicas in all slots."""
    compile_seconds: float
    step_seconds: float
    """One step of all slots, measured on empty ones: the same program, nothing trained."""
    evaluation_seconds: float
    """One evaluation of all slots."""
    seconds: float
    """All that is not done yet, estimated."""
    bound: Bound
    """One step of all slots, by formula, at the ceilings of this machine."""
    elsewhere: list[Prediction]
    """Trials per hour by the same formula, at the ceilings of other chips."""
    slices: dict[str, Deal]
    """The hours of all trials on whole slices, by the same formula."""
    records: dict[str, float]
    """Trials per hour that a benchmark has measured on one of these chips."""
    policy: str = ""
    """What the study's policy leaves of the work, in words."""


def plan(study: Study) -> list[GroupPlan]:
    """Compiles each group's program, times it on empty slots, and adds up.

    Raises:
        BadInput: as `train.run`.
    """
    trials = expand(study)
    folder = train.folder(study)
    before = Store.decided(folder)
    done = Store.finished(folder)
    devices = train.devices(study)

    @cache
    def here(precision: str) -> Chip:
        """All devices of the study as one chip; to be measured while no pool has their memory."""
        flops, bandwidth = reached(devices, precision)
        return Chip("this machine", {precision: flops}, bandwidth)

    groups = prepare(study, trials)
    return [_forecast(study, group, before, done, here(group.precision)) for group in groups]


def _forecast(study: Study, group: Group, before: dict, done: set[str], here: Chip) -> GroupPlan:
    pool = pooled(group, train.slots(study, group, before), train.devices(study), study.pool.tokens)
    totals = [length.total for length in group.lengths.values()]
    missing = [length.total for trial, length in group.lengths.items() if trial not in done]
    share = judged(group, study.policy, pool.slots)
    step, evaluation = _timed(pool, group)
    # Slots are busy until the queue is empty, and the longest trial has to be waited for.
    blocks = max(share * sum(missing) / pool.slots, *missing, 0) / group.recipe.every
    needed = work(group)
    load = {"trials": len(totals), **needed.load}
    model = group.trials[0].fixed["model"]
    names = [model, *known(models.open(model).config)]
    records = {chip.name: measured(chip.name, names, group.task.name, group.precision) for chip in cost.CHIPS}
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
        checkpoint=held(pool.state),
        compile_seconds=pool.programs.seconds,
        step_seconds=step,
        evaluation_seconds=evaluation,
        seconds=blocks * (group.recipe.every * step + evaluation),
        bound=Bound(*(pool.slots * seconds for seconds in cost.bound(needed.step, here, group.precision))),
        elsewhere=[predict(chip, group.precision, needed.trial, **load) for chip in cost.CHIPS],
        slices={s.name: deal(s.chip, s.chips, group.precision, needed.trial, **load) for s in SLICES},
        records={name: rate for name, rate in records.items() if rate is not None},
        policy=_policy(study.policy, share, group, pool) if study.policy else "",
    )


def judged(group: Group, policy: str | None, slots: int) -> float:
    """The share of all steps that a policy leaves where all scores are equal.

    1 for trials of unequal length, for which it is not reckoned.
    """
    lengths = {-(-length.total // group.recipe.every) for length in group.lengths.values()}
    if len(lengths) > 1:
        return 1.0
    equal = np.zeros((len(group.lengths), *lengths))
    return float(np.mean(replay(policies.load(policy), equal, slots)["cost"].to_numpy()))


def _policy(text: str, share: float, group: Group, pool: Pool) -> str:
    """With what waits outside of the slots, at most: a cohort, and what shares the slots with its last trials."""
    waiting = min(len(group.trials), (policies.load(text).cohort or len(group.trials)) + pool.slots)
    each = held(pool.one)
    return (
        f"{text}: {share:.0%} of all steps if scores were equal; trials that wait for a verdict lie in host memory, "
        f"{size(each)} each, {waiting} at most"
    )


def reached(devices: Sequence, precision: str) -> tuple[float, float]:
    """FLOP/s of a large matmul and bytes/s of a copy on all devices; `jaxft bench` looks for the best of several."""
    lowered, across = precision == "bfloat16", 1024 if devices[0].platform == "cpu" else 8192
    dtype, exact = ("bfloat16", "default") if lowered else ("float32", precision)
    flops = ceilings.matmul(devices, (across, across, across), dtype, exact)
    return flops, ceilings.copy(devices, size=max(2**24, 2**29 // len(devices)))


def measured(chip: str, names: Collection[str], lengths: str, precision: str) -> float | None:
    """Trials per hour on one such chip, by the benchmark's latest record of it; None where there is none.

    A record is a line of a .jsonl file: an object with chip, model (one of `names`), lengths, the study with its
    precision, and `trials_per_hour`. Others are passed over.
    """
    wanted, found = {"chip": chip, "lengths": lengths}, None
    for path in sorted(RECORDS.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # a benchmark was interrupted
            if not isinstance(record, dict) or record.get("model") not in names:
                continue
            if wanted.items() <= record.items() and record["study"]["train.precision"] == precision:
                rate = record.get("trials_per_hour")
                found = float(rate) if isinstance(rate, int | float) else found
    return found


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
            *([f"  policy    {p.policy}"] if p.policy else []),
            f"  saved     {size(p.checkpoint)} by a checkpoint: parameters, optimiser and data order of all slots",
            f"  time      {p.compile_seconds:.1f} s to compile, {p.step_seconds:.3g} s a step and "
            f"{p.evaluation_seconds:.3g} s an evaluation of all slots (measured on empty slots)",
            f"  estimate  {duration(p.seconds)} for the {p.trials - p.done} trials that are left",
            *_bounds(p),
        ]
    if len(plans) > 1:
        hours = {name: sum(p.slices[name].hours for p in plans) for name in plans[0].slices}
        at_best = ", ".join(f"{name} {duration(3600 * h)}" for name, h in hours.items() if h < inf)
        lines.append(f"predicted for all groups, not measured: {at_best or 'no slice has room'}")
    lines.append(f"in all: about {duration(sum(p.seconds + p.compile_seconds for p in plans))}")
    return "\n".join(lines)


def _bounds(p: GroupPlan) -> list[str]:
    """How near this machine is to its bound, and what others could do by theirs.

    More than all of it: something else kept the machine busy while its ceilings were measured, or caches held it all.
    """
    share = getattr(p.bound, p.bound.binds) / p.bound.seconds
    reached = f": {p.bound.seconds / p.step_seconds:.0%} of it is reached" if p.step_seconds else ""
    heads = ("chip", "holds", "needs", *(f"{count:,}" for count in COUNTS))
    rows = [(c.chip, str(c.fits), str(c.enough), *map(_rate, c.rates)) for c in p.elsewhere]
    wide = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [
        "  ".join([f"{row[0]:<{wide[0]}}", *(f"{cell:>{w}}" for cell, w in zip(row[1:], wide[1:], strict=True))])
        for row in (heads, *rows)
    ]
    ends = ["binds", *(_binds(c) for c in p.elsewhere)]
    return [
        f"  bound     this machine: {p.bound.seconds:.3g} s a step of all slots ({p.bound.binds} {share:.0%}); "
        f"measured {p.step_seconds:.3g} s{reached}",
        "  predicted by the same formula, not measured: how many replicas such a chip holds, and needs to be busy;",
        "  trials per hour at best, evaluations included, on so many chips; and what binds",
        *(f"    {line}  {end}" for line, end in zip(lines, ends, strict=True)),
        *(_whole(name, p.trials, p.slices[name]) for name in p.slices),
        *(f"  measured  {rate:,.0f} trials per hour on one {chip}" for chip, rate in p.records.items()),
    ]


def _whole(name: str, trials: int, deal: Deal) -> str:
    """What a slice would take for all trials."""
    if not deal.held:
        return f"  predicted {name}: a chip has no room for a replica"
    return (
        f"  predicted {name}: {duration(3600 * deal.hours)} at best for all {trials:,} trials, "
        f"{deal.at_once:,} at once; {deal.binds} binds"
    )


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _binds(prediction: Prediction) -> str:
    """What binds on one chip, and from how many chips on what else does."""
    words = list(prediction.binds[:1])
    for count, before, now in zip(COUNTS[1:], prediction.binds, prediction.binds[1:], strict=False):
        words += [f"{now} from {count:,}"] if now != before else []
    return ", ".join(words)


def _timed(pool: Pool, group: Group) -> tuple[float, float]:
    """Seconds of a step and of an evaluation of all slots, each with a trial."""
    count = min(3, pool.recipe.every)
    pool.fill({slot: entry(group.trials[slot % len(group.trials)], group) for slot in range(pool.slots)})
    pool.run(count)  # the first call is slower
    spent = []
    for steps in (0, count):
        began = time.monotonic()
        pool.run(steps)
        spent.append(time.monotonic() - began)
    return max(0.0, spent[1] - spent[0]) / count, spent[0]
