"""The loop: fill the slots, run a block on the devices, look at the scores, settle, write rows, refill."""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from warnings import warn

import jax

from jaxft import policies
from jaxft.contest import Contest
from jaxft.engine import processes
from jaxft.engine.groups import Group, pooled, prepare
from jaxft.engine.pool import Pool
from jaxft.engine.work import Costs
from jaxft.errors import BadInput, Note
from jaxft.folder import shards
from jaxft.folder.store import Ended, Part, Store
from jaxft.follow.live import Live
from jaxft.follow.news import Begun, End, Listener, News, Several
from jaxft.follow.progress import Progress
from jaxft.loop.flight import Flight, departing
from jaxft.loop.slots import Slots
from jaxft.status import IN_STEP
from jaxft.study import Study
from jaxft.study.trials import Trial, expand, share
from jaxft.trained.best import Best


def run(
    study: Study, *, progress: Listener | None = None, track: Sequence[Listener] = (),
    shard: tuple[int, int] | None = None, fresh: bool = False,
) -> str:  # fmt: skip
    """Trains every trial of the study that its run folder does not hold yet. Returns the folder.

    Processes that have met (`processes.join`) share the work: each calls this with the same arguments.

    Args:
        study: what to run.
        progress: told what happens; the console by default.
        track: told too; of several processes in the first only.
        shard: only the i-th of n shares of the trials, (i, n); the others may run elsewhere at the same time.
        fresh: trials in flight start again instead of going on from their checkpoints.

    Raises:
        BadInput: something in the study, its files or its folder cannot be used.
        Stopped: it was asked to; the same call goes on.
        Lost: another process is gone.
    """
    if shard and study.policy:
        raise BadInput(
            f"policy: {study.policy} ranks all trials of a program, and a shard has only its own; run without --shard"
        )
    progress = progress or Progress.choose(quiet=processes.index() > 0)
    told = Several([progress, *(track if processes.index() == 0 else ()), Live()])
    _refuse_soups(study, shard)
    trials = expand(study)
    wanted = share(trials, shard) if shard else trials
    path = folder(study)
    there = processes.in_order(lambda: devices(study))  # all refuse alike, before one that is quicker is gone
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
        # One reads for all, before the pools take memory.
        known = shards.curves(store.folder) if study.policy and processes.index() == 0 else {}
        past = processes.told(known)[0]
        told.start(Begun(study, path, len(wanted), len(wanted) - len(missing), part.name))
        for group, width in zip(groups, widths, strict=True):
            names = {trial.id for trial in group.trials}
            here = sorted((t for t in missing if t.id in names), key=lambda t: _turn(t, group, flight, study.policy))
            best = Best(store.folder, group, study.eval.soups) if study.eval.soups else None
            if here:
                if any(processes.told(flight.halt.asked)):  # in the last block of the group before
                    flight.stop()
                contest = _contest(group, study.policy, past)
                make = partial(pooled, group, width, there, study.pool.tokens)
                _run_group(group, here, make(), store, flight, contest, study, best, told)
            if best:
                best.serve()
        flight.over()
    except BaseException as error:
        if isinstance(error, Exception):
            flight.rest()  # while the folder is still this process's
        told.stop()
        raise
    finally:
        store.close()
    told.finish(path)
    return path


def _run_group(
    group: Group, trials: Sequence[Trial], pool: Pool, store: Store, flight: Flight, contest: Contest,
    study: Study, best: Best | None, told: Listener,
) -> None:  # fmt: skip
    """Of a pool that is gone, with its memory, when the next group's is made."""
    kept = store.resolved.get(group.name, {}).get("slots", {})
    if group.recipe.every not in kept:
        store.resolve(group.name, {"slots": {group.recipe.every: pool.slots_per_device}})
    store.examples(group.task)
    told.compiled(pool.compile_seconds)
    costs = Costs(group, pool) if study.eval.costs else None
    slots = Slots(group, trials, pool, flight, contest, study.policy or "", best, costs)
    with flight.halt:
        for news in work(slots, pool, flight):
            store.append(list(news.rows))
            if best:
                best.settle()
            told.block(news)


def _turn(trial: Trial, group: Group, flight: Flight, policy: str | None) -> tuple[bool, int]:
    """When a trial has its turn: those in flight first, wherever their seeds stand; then the longest, so that none is
    left when the queue is empty. A policy's cohorts stay as they are.
    """
    return trial.id not in flight.waiting, 0 if policy else -group.lengths[trial.id].total


def _refuse_soups(study: Study, shard: tuple[int, int] | None) -> None:
    if study.eval.soups and shard:
        raise BadInput(
            "eval.soups: averages are of all trials of a program, and a shard has only its own; run without --shard"
        )
    if study.eval.soups and processes.count() > 1:
        raise BadInput("eval.soups: not with several processes, of which each has only its own replicas; run in one")


def _contest(group: Group, policy: str | None, past: Mapping[str, shards.Curve]) -> Contest:
    """Of all trials of a group, with what is known of those that are finished."""
    every = group.recipe.every
    contest = Contest(policies.load(policy), {t.id: -(-group.lengths[t.id].total // every) for t in group.trials})
    if policy:
        own = policies.reason(policy)
        for trial in (trial.id for trial in group.trials if trial.id in past):
            curve, status, reason, steps = past[trial]
            for score in curve:
                contest.observe(trial, score)
            late = steps == len(curve) * every and reason in IN_STEP
            contest.over(trial, dropped=status != "completed" and reason != own, late=late)
    return contest


def work(slots: Slots, pool: Pool, flight: Flight) -> Iterator[News]:
    """Trains the trials in the pool's slots and tells after each block what came of it.

    Raises:
        Stopped: the flight was asked to stop; what is in flight is set down.
    """
    last = time.monotonic()
    while slots.busy:
        slots.fill()
        # The last block of a queue is as long as its longest trial needs.
        steps = min(pool.recipe.every, slots.left)
        queued = slots.queued
        began = time.monotonic()
        report = pool.run(steps)
        devices = time.monotonic() - began
        block = slots.look(report, steps)
        over = slots.ended()
        ended = _ends(over.rows, over.trials) if processes.count() > 1 and over.trials else over.rows
        before, last = last, time.monotonic()
        idle = pool.slots * steps - block.taken
        yield News(
            block.running, ended, block.examples, last - before, devices, block.taken, idle, queued, over.rows,
            slots.flying,
        )  # fmt: skip
        # Also one asked for while rows were written; several processes have agreed already.
        stop = block.stop | (processes.count() == 1 and flight.halt.asked)
        if block.due or (stop and slots.busy):
            slots.set_down()
        if stop and slots.busy:
            flight.stop()


def _ends(rows: Sequence[Ended], trials: Sequence[Trial]) -> list[End]:
    """What ended in all processes, of these trials, from the rows of each."""
    by_id = {trial.id: trial for trial in trials}
    mine = [[row.trial.id, *(getattr(row, name) for name in End._fields[1:])] for row in rows]
    return [End(by_id[name], *rest) for ends in processes.told(mine) for name, *rest in ends]


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
