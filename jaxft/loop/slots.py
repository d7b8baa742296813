"""The slots of a pool as the host knows them: which trial is where, who waits outside for a verdict, what has ended.

Of a run in several processes each knows the places and steps of all trials, and keeps the records, and the replicas
that wait outside, of its own.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxft import policies
from jaxft.contest import Contest
from jaxft.engine import probe, processes
from jaxft.engine.groups import Group, entry
from jaxft.engine.pool import Pool
from jaxft.engine.recipe import Replica, Report
from jaxft.engine.work import Costs
from jaxft.folder.store import Ended
from jaxft.follow.news import Flying
from jaxft.loop.flight import Flight, resumed
from jaxft.loop.record import Record
from jaxft.loop.scheduler import Scheduler
from jaxft.status import Status
from jaxft.study.trials import Trial
from jaxft.trained.best import Best


class Outside(NamedTuple):
    """A trial that waits for a verdict, or has one and waits for a slot."""

    trial: Trial
    process: int
    """The one that keeps it; it goes on in a slot of the same."""
    step: int
    record: Record | None
    """None in other processes, as the replica."""
    replica: Replica | None


class Over(NamedTuple):
    """What has ended since it was last asked for."""

    trials: list[Trial]
    """In all processes."""
    rows: list[Ended]
    """Those that this process has to write down."""


class Block(NamedTuple):
    """A block in numbers, of all processes."""

    running: int
    """How many slots were training."""
    examples: int
    taken: int
    """Steps that replicas took."""
    stop: bool
    """Whether a process was asked to stop."""
    due: bool
    """Whether it is time for a checkpoint."""


class Slots:
    """The slots of a pool and the trials of its group."""

    def __init__(
        self, group: Group, trials: Sequence[Trial], pool: Pool, flight: Flight, contest: Contest, policy: str = "",
        best: Best | None = None, costs: Costs | None = None,
    ):  # fmt: skip
        """All slots are free at first.

        Args:
            group: of which the trials are.
            trials: to be trained, in this order.
            pool: whose slots these are.
            flight: with trials that go on from a checkpoint.
            contest: decides who goes on; it knows what has ended before.
            policy: of the contest, for the rows.
            best: keeps the parameters of the best trials, if the study asks; for one process.
            costs: what trials cost, if the study asks.
        """
        self._scheduler = Scheduler(trials, pool.slots)
        self._group, self._pool, self._flight, self._contest, self._policy = group, pool, flight, contest, policy
        self._at: dict[int, int] = {}  # the next step, of all slots that have a trial
        self._records: dict[int, Record] = {}  # of the slots of this process
        self._outside: dict[str, Outside] = {}
        self._over = Over([], [])
        self._best, self._costs = best, costs
        self._probe = probe.reader(group.recipe, group.shared.pretrained, group.probes, group.precision)

    @property
    def busy(self) -> bool:
        """Whether anything is left to do."""
        return self._scheduler.busy

    @property
    def queued(self) -> bool:
        """Whether trials wait for a slot."""
        return self._scheduler.queued

    @property
    def left(self) -> int:
        """The steps that the longest of the trials in slots has yet to take; 0 where there are none."""
        totals = {slot: self._group.lengths[trial.id].total for slot, trial in self._scheduler.running.items()}
        return max((totals[slot] - step for slot, step in self._at.items()), default=0)

    def flying(self) -> list[Flying]:
        """Of this process's trials that have begun and are not over."""
        records = [*self._records.values(), *(o.record for o in self._outside.values() if o.record)]
        return [Flying(one.trial, max(0, one.step), one.length.total, one.curve) for one in records]

    def fill(self) -> None:
        """Gives free slots the next trials: new ones, some from a checkpoint, some that waited outside."""
        while self._entered():
            self._judge()

    def _entered(self) -> bool:
        """Fills slots until all are taken, or nobody is left to enter; whether anybody has.

        Those from a checkpoint that have yet to be judged leave their slots again. Nobody is judged before all have
        been seen: who waited when the run was stopped has come to its rung long ago.
        """
        entered = False
        while new := self._scheduler.fill(self._may_enter):
            entered = True
            back = {slot: self._outside.pop(trial.id) for slot, trial in new.items() if trial.id in self._outside}
            self._pool.put({slot: outside.replica for slot, outside in back.items()})
            for slot, outside in back.items():
                self._at[slot] = outside.step
                if outside.record:
                    outside.record.enter(slot)
                    self._records[slot] = outside.record
            self._enter({slot: trial for slot, trial in new.items() if slot not in back})
            self._park()
        return entered

    def look(self, report: Report, steps: int) -> Block:
        """What a block of so many steps has come to."""
        tried = {slot: Status(report.status[slot]).in_step for slot in self._records}
        for slot, record in self._records.items():
            record.observe(
                int(report.step[slot]),
                report.losses[slot, :steps],
                {name: x[slot] for name, x in report.logits.items()},
                {layer: x[slot] for layer, x in report.norms.items()},
                tried=tried[slot],
            )
            if Status(report.status[slot]).over:
                record.leave()  # before others are probed, which takes time
        seen, scores, stop, due = self._agreed(report)
        running, before = dict(self._scheduler.running), self._at
        self._at = {slot: int(seen.step[slot]) for slot in running}
        for slot, trial in running.items():
            status = Status(seen.status[slot])
            if self._at[slot] > max(0, before[slot]):
                self._contest.observe(trial.id, scores[slot])
            if status.over:
                self._contest.over(trial.id, dropped=status != Status.COMPLETED)
                self._end(slot, *status.row)
        self._judge()
        examples, taken = (sum(int(count[slot]) for slot in running) for count in (seen.examples, seen.taken))
        return Block(len(running), examples, taken, stop, due)

    def ended(self) -> Over:
        """What has ended since this was last asked for."""
        over, self._over = self._over, Over([], [])
        return over

    def set_down(self) -> None:
        """Writes a checkpoint of all that is in flight."""
        outside = [(o.record, o.replica) for o in self._outside.values() if o.record and o.replica]
        self._flight.set_down(self._pool, self._at, self._records, outside, self._group.decided)

    def _may_enter(self, trial: Trial, slot: int) -> bool:
        return trial.id not in self._outside or self._outside[trial.id].process == self._pool.process(slot)

    def _enter(self, new: Mapping[int, Trial]) -> None:
        """Starts trials in slots, or lets them go on from a checkpoint."""
        group, pool = self._group, self._pool
        going = self._flight.take_up(pool, {slot: trial.id for slot, trial in new.items()}, group.decided)
        pool.fill({slot: entry(trial, group) for slot, trial in new.items() if slot not in going})
        for slot, trial in new.items():
            self._at[slot] = group.lengths[trial.id].begin(group.recipe.every)
            if slot in pool.own:
                self._records[slot] = _record(trial, slot, group)
                if parked := going.get(slot):
                    resumed(self._records[slot], parked, pool)
        if going:
            mine = {slot: self._records[slot] for slot in going if slot in pool.own}
            for there in processes.told({slot: (record.step, record.curve) for slot, record in mine.items()}):
                for slot, (step, curve) in there.items():
                    self._at[int(slot)] = step
                    for score in curve:
                        self._contest.observe(new[int(slot)].id, score)

    def _judge(self) -> None:
        """Asks for verdicts, and lets those leave their slot that may not go on."""
        slots = {trial.id: slot for slot, trial in self._scheduler.running.items()}
        for name, goes in self._contest.verdicts().items():
            if name in slots and not goes:
                self._end(slots[name], *self._stopped)
            elif name in self._outside and goes:
                self._scheduler.again(self._outside[name].trial)
            elif name in self._outside:
                outside = self._outside.pop(name)
                self._note(outside.trial, outside.record, *self._stopped, dict.fromkeys(self._group.probes))
        self._park()

    @property
    def _stopped(self) -> tuple[str, str]:
        return "stopped", policies.reason(self._policy)

    def _park(self) -> None:
        """Takes those that wait for a verdict out of their slots.

        The replica that stays behind is nobody's, until its slot is filled.
        """
        slots = [slot for slot, trial in self._scheduler.running.items() if self._contest.waits(trial.id)]
        if not slots:
            return
        taken = dict(self._pool.taken(slots))
        for slot, trial in self._scheduler.settle(slots).items():
            record, replica = self._records.pop(slot, None), taken.get(slot)
            if record:
                record.leave()
            self._outside[trial.id] = Outside(trial, self._pool.process(slot), self._at.pop(slot), record, replica)

    def _end(self, slot: int, status: str, reason: str) -> None:
        (trial,) = self._scheduler.settle([slot]).values()
        del self._at[slot]
        record = self._records.pop(slot, None)
        probes: dict[str, float | None] = dict.fromkeys(self._group.probes)
        best = self._best if status == "completed" and record else None
        best = best if best and record and best.wants(trial.id, record.final_score) else None
        if best or (probes and status == "completed"):  # every process takes, whosever the slot is
            for replica in dict(self._pool.taken([slot])).values():
                probes |= self._probe(replica)
                if best and record:
                    best.keep(trial.id, record.final_score, replica)
        self._note(trial, record, status, reason, probes)

    def _note(
        self, trial: Trial, record: Record | None, status: str, reason: str, probes: dict[str, float | None]
    ) -> None:
        """A trial is over."""
        self._over.trials.append(trial)
        if record:
            where = {"slots_per_device": self._pool.slots_per_device, "device": self._pool.device(record.slot)}
            costs = self._costs.of(trial, record.step) if self._costs else {}
            how = {"policy": self._policy, "precision": self._group.precision, "probes": probes, "costs": costs}
            self._over.rows.append(record.ended(status, reason, **how, **where))

    def _agreed(self, report: Report) -> tuple["_Seen", np.ndarray, bool, bool]:
        """What all processes know after a block: where the slots are, their scores, whether to stop, and whether to
        set trials down.
        """
        scores = np.zeros(len(report.step), np.float64)
        for slot, record in self._records.items():
            scores[slot] = record.final_score
        known = np.stack([report.step, report.status, report.taken, report.examples], axis=1).astype(np.int32)
        known = np.concatenate([known, scores.view(np.int32).reshape(-1, 2)], axis=1)  # every bit: all must rank alike
        wishes = np.zeros((1, known.shape[1]), np.int32)
        wishes[0, :2] = self._flight.wishes
        whole = processes.everyone(np.concatenate([known, wishes])).sum(axis=0, dtype=np.int32)
        stop, due = (bool(x) for x in whole[-1, :2])
        scores = np.ascontiguousarray(whole[:-1, 4:]).view(np.float64)[:, 0]
        return _Seen(*whole[:-1, :4].T), scores, stop, due


class _Seen(NamedTuple):
    """Of all slots, those of other processes too."""

    step: np.ndarray
    status: np.ndarray
    taken: np.ndarray
    examples: np.ndarray


def _record(trial: Trial, slot: int, group: Group) -> Record:
    task, long = group.task, group.lengths[trial.id]
    labels = {name: np.asarray(split.labels) for name, split in task.evals.items()}
    return Record(trial, slot, long, task.metric, task.metrics, labels, task.also, step=long.begin(group.recipe.every))
