"""A bench in progress: who takes part, the rounds, and the rows that come out."""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax

from jaxft import models, study
from jaxft.bench import Asked, peers, record, rounds, table
from jaxft.bench.loop import Job
from jaxft.bench.ours import Ours
from jaxft.bench.peers import Absent, Peer
from jaxft.bench.rounds import Formula
from jaxft.cost import Chip, ceilings
from jaxft.cost.ceilings import Ceilings
from jaxft.engine import groups
from jaxft.engine.groups import Group
from jaxft.errors import BadInput
from jaxft.loop import train
from jaxft.networks.lstm import TYPE
from jaxft.study import Study, trials

BUSY = 0.1  # of a core: more than a process may use that has nothing to do


class Session:
    """What has been measured so far."""

    def __init__(self, asked: Asked):
        """Nothing has."""
        self.asked = asked
        self.ours: list[Ours] = []
        self.peers: list[Peer] = []
        self.reached: Ceilings | None = None
        self.about: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []

    def measure(self, study: Study) -> None:
        """All rounds. Interrupted, it leaves what was finished.

        Args:
            study: the one asked for, all of its files being there.

        Raises:
            BadInput: it cannot be used, or a width does not fit.
        """
        # A block may be as long as an epoch: the evaluations that are counted are the bench's own.
        study = replace(study, eval=replace(study.eval, per_epoch=1, every=None))
        group = only(groups.prepare(study, trials.expand(study)))
        devices = train.devices(study)
        self.about = record.about(devices) | settings(self.asked, group)
        say("measuring what this machine can do")
        self._reach(devices, group)
        for width in self.asked.widths:
            say(f"compiling ours at width {width}")
            self.ours.append(Ours(group, devices, width, self.asked.seconds))
        self._enter(study, group, devices)
        for number in range(self.asked.rounds):
            say(f"round {number + 1} of {self.asked.rounds}")
            for side in self.ours:
                side.rounds.append(side.turn(number))
            for peer in list(self.peers):
                self._turn(peer, number)
        self._reach(devices, group)  # again: what counts is the best that it did
        if self.asked.profile:
            self.ours[-1].profile(self.asked.profile)

    def finish(self) -> None:
        """Records and prints all that had a turn; nothing, if none of ours had."""
        ours, theirs = [side for side in self.ours if side.rounds], [peer for peer in self.peers if peer.rounds]
        if not ours:
            return
        best = min(ours, key=rounds.step)
        formula = self._formula()
        per_epoch = best.group.lengths[best.group.trials[0].id].per_epoch
        for side in (*ours, *theirs):
            figures = rounds.figures(side, best, per_epoch, formula)
            # `trials_per_hour` is what `jaxft plan` shows.
            more = {"trials_per_hour": figures.trials} if side is best else {}
            self._row(
                side.name,
                **more,
                replicas=side.replicas,
                settings=side.settings,
                figures=figures._asdict(),
                memory=side.memory,
                compile_seconds=side.compile_seconds,
                ceilings=self.reached._asdict() if self.reached else None,
                rounds=[done._asdict() for done in side.rounds],
            )
        table.show(self.rows, best.name)
        print(table.bound(best.name, formula.bound(best.rounds[0], best.replicas), rounds.step(best)))
        idle = max(done.idle for side in (*ours, *theirs) for done in side.rounds)
        if idle > BUSY:
            say(f"doubtful: before a turn this process still used {idle:.0%} of a core, with nothing to do")
        say(f"recorded in {self.asked.record}")

    def _reach(self, devices: Sequence, group: Group) -> None:
        """The ceilings, or better ones than before."""
        if self.reached is None:
            self.reached = ceilings.measure(devices, _matmuls(group), group.precision)
        else:
            self.reached = ceilings.best(self.reached, ceilings.again(devices, self.reached, group.precision))

    def _formula(self) -> Formula:
        assert self.reached is not None  # before any side is there
        machine = Chip("this machine", self.reached.matmul, self.reached.copy)
        lowered = self.asked.study.train.precision == "bfloat16"
        return Formula(self.ours[-1].shapes, machine, "bfloat16" if lowered else "float32")

    def _enter(self, study: Study, group: Group, devices: Sequence) -> None:
        """The peers that can be measured, each at its fastest setting; rows for those that cannot."""
        settings = []
        for name in self.asked.peers:
            if name not in peers.TORCH:
                continue
            try:
                where = peers.device(devices)
                found, seconds = models.open(study.model), self.asked.seconds
                if found.family == TYPE:
                    raise Absent("it would train the checkpoint, and not the LSTM in its place")
                job = Job(
                    group, found.folder, study.train, study.eval.batch_size, study.task.max_length, seconds, where
                )
                say(f"looking for the fastest setting of {name}")
                if name == "compiled":
                    peer = peers.compiled(job, settings or [peers.fastest(job, "longest").setting])
                elif name == "ensemble":
                    peer = peers.ensemble(job, max(self.asked.widths))
                else:
                    peer = Peer(name, peers.fastest(job, name))
                    settings.append(peer.loop.setting)
                self.peers.append(peer)
            except Absent as error:
                self._row(name, absent=str(error))
            # torch raises what it likes, of memory above all.
            except Exception as error:
                self._row(name, absent=f"failed: {_line(error)}")

    def _turn(self, peer: Peer, number: int) -> None:
        """A peer that fails has a row that says so; the rest goes on."""
        try:
            peer.rounds.append(peer.turn(number))
        except Exception as error:
            self.peers.remove(peer)
            self._row(peer.name, absent=f"failed in round {number + 1}: {_line(error)}")

    def _row(self, name: str, **found: Any) -> None:
        """Adds a finished row to the record at once."""
        row = {"row": name, **self.about, **found}
        record.append(self.asked.record, row)
        self.rows.append(row)


def only(groups: list[Group]) -> Group:
    """The program of a study that must have no more.

    Raises:
        BadInput: it has several.
    """
    if len(groups) > 1:
        raise BadInput(f"bench: the study has {len(groups)} programs, expected one: sweep over no more than floats")
    return groups[0]


def settings(asked: Asked, group: Group) -> dict[str, Any]:
    """What was measured, in the words of who asked; part of every row."""
    leaves = {k: v for k, v in study.flat(asked.study).items() if k.startswith(("task.", "train.", "eval."))}
    layout = {name: size for name, size in group.recipe.layout._asdict().items() if name != "most"}
    return {
        "model": asked.study.model,
        "lengths": asked.lengths or group.task.name,
        "study": {"method": asked.study.method, **leaves, "layout": layout},
        "bench": {"rounds": asked.rounds, "seconds": asked.seconds},
    }


def _matmuls(group: Group) -> list[tuple[int, int, int]]:
    """The largest matmuls of the model, for one replica and for eight at a time."""
    shapes = jax.eval_shape(group.recipe.model.init, jax.random.key(0))
    largest = max((leaf.shape for name, leaf in shapes.items() if name.endswith("/kernel")), key=math.prod)
    tokens = group.recipe.layout.rows * group.recipe.layout.width
    return [(tokens * many, *largest) for many in (1, 8)]


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def say(what: str) -> None:
    """Tells who waits."""
    print(f"bench: {what}", file=sys.stderr, flush=True)
