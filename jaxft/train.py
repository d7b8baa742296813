"""The loop: fill the slots, run a block on the devices, look at the scores, settle, write rows, refill."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from warnings import warn

import jax
import numpy as np

from jaxft import processes
from jaxft.errors import BadInput, Note
from jaxft.flight import Flight, departing, resumed
from jaxft.groups import Group, entry, pooled, prepare
from jaxft.pool import Pool
from jaxft.progress import End, News, Progress
from jaxft.record import Record
from jaxft.replica import Report
from jaxft.scheduler import Scheduler
from jaxft.stop import Status
from jaxft.store import Ended, Part, Store
from jaxft.study import Study
from jaxft.trials import Trial, expand, share


def run(study: Study, *, progress=None, shard: tuple[int, int] | None = None, fresh: bool = False) -> str:
    """Trains every trial of the study that its run folder does not hold yet. Returns the folder.

    Processes that have met (`processes.join`) share the work: each calls this with the same arguments.

    Args:
        study: what to run.
        progress: told what happens; the console by default.
        shard: only the i-th of n shares of the trials, (i, n); the others may run elsewhere at the same time.
        fresh: trials in flight start again instead of going on from their checkpoints.

    Raises:
        BadInput: something in the study, its files or its folder cannot be used.
        Stopped: it was asked to; the same call goes on.
        Lost: another process is gone.
    """
    progress = progress or Progress.choose(quiet=processes.index() > 0)
    trials = expand(study)
    wanted = share(trials, shard) if shard else trials
    path = folder(study)
    there = devices(study)
    with processes.in_turn():
        groups = prepare(study, trials)
    # The others look for no file that process 0 has yet to make: a network could remember that it was not there.
    before = Store.decided(path) if processes.index() == 0 else {}
    widths = processes.told([slots(study, group, before) for group in groups])[0]
    part = Part(shard, processes.index(), processes.count())
    store = processes.in_order(
        lambda: Store.open(path, study, {group.name: group.decided for group in groups}, trials, part=part)
    )
    flight = Flight()
    try:
        done = set(processes.told(sorted(store.done))[0])
        missing = [trial for trial in wanted if trial.id not in done]
        names = {trial.id for trial in missing}
        flight = departing(path, shard, names, study.pool.checkpoint_minutes, fresh=fresh)
        progress.start(len(wanted), len(wanted) - len(missing))
        for group, width in zip(groups, widths, strict=True):
            names = {trial.id for trial in group.trials}
            # Those in flight come first, wherever their seeds stand.
            here = sorted((t for t in missing if t.id in names), key=lambda trial: trial.id not in flight.waiting)
            if here:
                if any(processes.told(flight.halt.asked)):  # in the last block of the group before
                    flight.stop()
                _run_group(group, here, pooled(group, width, there), store, flight, progress)
        flight.over()
    except Exception:
        flight.rest()  # while the folder is still this process's
        raise
    finally:
        store.close()
    progress.finish(path)
    return path


def _run_group(
    group: Group, trials: Sequence[Trial], pool: Pool, store: Store, flight: Flight, progress: Progress
) -> None:
    """Of a pool that is gone, with its memory, when the next group's is made."""
    kept = store.resolved.get(group.name, {}).get("slots", {})
    if group.recipe.every not in kept:
        store.resolve(group.name, {"slots": {group.recipe.every: pool.slots_per_device}})
    store.examples(group.task)
    progress.compiled(pool.compile_seconds)
    with flight.halt:
        for news in work(group, trials, pool, flight):
            store.append(list(news.rows))
            progress.block(news)


def work(group: Group, trials: Sequence[Trial], pool: Pool, flight: Flight | None = None) -> Iterator[News]:
    """Trains these trials in the pool's slots and tells after each block what came of it.

    Raises:
        Stopped: the flight was asked to stop; what is in flight is set down.
    """
    flight = flight or Flight()
    scheduler = Scheduler(trials, pool.slots)
    every, totals = group.recipe.every, {name: length.total for name, length in group.lengths.items()}
    records: dict[int, Record] = {}  # of the slots of this process
    at: dict[int, int] = {}  # the next step, of all slots
    last = time.monotonic()
    while scheduler.busy:
        new = scheduler.fill()
        _enter(new, pool, group, flight, records, at)
        # The last block of a queue is as long as its longest trial needs.
        steps = min(every, max(totals[trial.id] - at[slot] for slot, trial in scheduler.running.items()))
        began = time.monotonic()
        report = pool.run(steps)
        devices = time.monotonic() - began
        seen, stop, due = _agreed(pool, report, flight)
        status = {slot: Status(seen.status[slot]) for slot in scheduler.running}
        for slot, record in records.items():
            record.observe(
                int(seen.step[slot]),
                report.losses[slot, :steps],
                {name: x[slot] for name, x in report.logits.items()},
                {layer: x[slot] for layer, x in report.norms.items()},
                tried=status[slot].in_step,
            )
        at = {slot: int(seen.step[slot]) for slot in scheduler.running}
        running, waiting = len(at), bool(scheduler.queue)
        examples, taken = (sum(int(count[slot]) for slot in at) for count in (seen.examples, seen.taken))
        rows, by_id = [], {trial.id: trial for trial in scheduler.running.values()}
        for slot in scheduler.settle([slot for slot in at if status[slot].over]):
            del at[slot]
            if slot in records:
                where = {"slots_per_device": pool.slots_per_device, "device": pool.device(slot)}
                rows.append(records.pop(slot).ended(*status[slot].row, precision=group.precision, **where))
        ended = _ends(rows, by_id) if processes.count() > 1 and len(at) < running else rows
        before, last = last, time.monotonic()
        idle = pool.slots * steps - taken
        yield News(running, ended, examples, last - before, devices, taken, idle, waiting, rows)
        stop |= processes.count() == 1 and flight.halt.asked  # while rows were written; several have agreed already
        if due or (stop and scheduler.busy):
            flight.set_down(pool, at, records, group.decided)
        if stop and scheduler.busy:
            flight.stop()


def _enter(
    new: dict[int, Trial], pool: Pool, group: Group, flight: Flight, records: dict[int, Record], at: dict[int, int]
) -> None:
    """Starts trials in slots, or lets them go on."""
    going = flight.take_up(pool, {slot: trial.id for slot, trial in new.items()}, group.decided)
    pool.fill({slot: entry(trial, group) for slot, trial in new.items() if slot not in going})
    for slot, trial in new.items():
        at[slot] = group.lengths[trial.id].begin(group.recipe.every)
        if slot in pool.own:
            records[slot] = _record(trial, slot, group)
            if parked := going.get(slot):
                resumed(records[slot], parked, pool)
                at[slot] = records[slot].step
    if going:
        for there in processes.told({slot: at[slot] for slot in going if slot in pool.own}):
            at.update({int(slot): step for slot, step in there.items()})


def _ends(rows: Sequence[Ended], trials: Mapping[str, Trial]) -> list[End]:
    """What ended in all processes, of these trials, from the rows of each."""
    mine = [[row.trial.id, *(getattr(row, name) for name in End._fields[1:])] for row in rows]
    return [End(trials[name], *rest) for ends in processes.told(mine) for name, *rest in ends]


class _Seen(NamedTuple):
    """Of all slots, those of other processes too."""

    step: np.ndarray
    status: np.ndarray
    taken: np.ndarray
    examples: np.ndarray


def _agreed(pool: Pool, report: Report, flight: Flight) -> tuple[_Seen, bool, bool]:
    """What all processes know after a block: where the slots are, whether to stop, and whether to set trials down."""
    known = np.stack([report.step, report.status, report.taken, report.examples], axis=1)
    wishes = np.array([*flight.wishes, 0, 0], np.int32)
    whole = processes.everyone(np.concatenate([known, wishes[None]]).astype(np.int32)).sum(axis=0)
    stop, due = (bool(x) for x in whole[-1, :2])
    return _Seen(*whole[:-1].T), stop, due


def folder(study: Study) -> str:
    """The run folder of a study, a path or an address such as gs://bucket/runs/mrpc."""
    return study.out or f"runs/{study.name}"


def slots(study: Study, group: Group, before: dict) -> int | str:
    """Slots per device: as the study says, or as the run folder has them.

    Raises:
        BadInput: the folder has something else than a number.
    """
    kept = before.get(group.name, {}).get("slots", {}).get(group.recipe.every, study.pool.slots)
    if kept != "auto" and (type(kept) is not int or kept < 1):
        raise BadInput(f"{folder(study)}/resolved.yaml: slots: expected an integer of at least 1, found {kept!r}")
    if study.pool.slots == "auto":
        return kept
    if study.pool.slots != kept:
        warn(
            f"pool.slots: {study.pool.slots}, but {folder(study)} was started with {kept}: "
            "the last bits may differ between the two; each row says its width",
            Note,
            stacklevel=2,
        )
    return study.pool.slots


def devices(study: Study) -> list:
    """The devices that the study runs on, of all processes.

    Raises:
        BadInput: more than there are, or not all where several processes share them.
    """
    there = jax.devices()
    wanted = len(there) if study.pool.devices == "auto" else study.pool.devices
    if processes.count() > 1 and wanted != len(there):
        raise BadInput(f"pool.devices: {wanted}, but the {processes.count()} processes have {len(there)}: all are used")
    if wanted > len(there):
        raise BadInput(f"pool.devices: {wanted}, but this machine has {len(there)}")
    return there[:wanted]


def _record(trial: Trial, slot: int, group: Group) -> Record:
    task, long = group.task, group.lengths[trial.id]
    labels = {name: np.asarray(split.labels) for name, split in task.evals.items()}
    return Record(trial, slot, long, task.metric, task.metrics, labels, step=long.begin(group.recipe.every))
