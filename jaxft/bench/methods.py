"""Ways to fine-tune side by side: each method's time of a step and memory against vanilla's."""

import math
from contextlib import suppress
from dataclasses import replace
from typing import Any

import jax

from jaxft.bench import Asked, record, rounds, session, table
from jaxft.bench.ours import Ours
from jaxft.engine import groups
from jaxft.engine.groups import Group
from jaxft.engine.memory import held
from jaxft.errors import BadInput, line
from jaxft.loop import train
from jaxft.study import Study, trials

CANNOT = (BadInput, jax.errors.JaxRuntimeError)
"""What may keep a single method from being measured: it does not fit the model or the task, or there is no memory."""


class Comparison:
    """What has been measured so far."""

    def __init__(self, asked: Asked):
        """Nothing has."""
        self.asked = asked
        self.sides: list[Ours] = []
        self.about: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []

    def measure(self, study: Study) -> None:
        """All rounds. Interrupted, it leaves what was finished.

        Every other round goes backwards, so that a machine that gets slower does so for all.

        Args:
            study: the one asked for, all of its files being there.

        Raises:
            BadInput: it cannot be used with vanilla. What another method objects to stands in its row.
        """
        devices, width = train.devices(study), max(self.asked.widths)
        first = None
        for method in self.asked.methods:
            session.say(f"compiling {method} at width {width}")
            try:
                group = prepared(study, method)
                first = first or group
                self.about = self.about or record.about(devices) | session.settings(self.asked, group)
                # The same arrays for all: a copy for each method would be much on the host.
                side = Ours(group._replace(shared=first.shared), devices, width, self.asked.seconds)
                side.name = method
                self.sides.append(side)
            except CANNOT as error:
                self._absent(method, error)
        for number in range(self.asked.rounds):
            session.say(f"round {number + 1} of {self.asked.rounds}")
            for side in self.sides[:: -1 if number % 2 else 1]:
                try:
                    side.rounds.append(side.turn(number))
                except CANNOT as error:
                    with suppress(AttributeError):  # it may have had none
                        side.pool.rest()
                    self.sides.remove(side)
                    self._absent(side.name, error)

    def finish(self) -> None:
        """Records and prints all that had a turn; nothing, if vanilla had none."""
        sides = [side for side in self.sides if side.rounds]
        if not sides or sides[0].name != self.asked.methods[0]:
            return
        for side in sides:
            self._row(side.name, **figures(side, sides[0]))
        table.methods(self.rows)
        idle = max(done.idle for side in sides for done in side.rounds)
        if idle > session.BUSY:
            session.say(f"doubtful: before a turn this process still used {idle:.0%} of a core, with nothing to do")
        session.say(f"recorded in {self.asked.record}")

    def _absent(self, method: str, error: Exception) -> None:
        """A row that says why there is none; vanilla must be there."""
        if method == self.asked.methods[0]:
            raise error
        self._row(method, absent=line(error))

    def _row(self, method: str, **found: Any) -> None:
        """Adds a finished row to the record at once."""
        about = self.about | {"study": self.about["study"] | {"method": method}}
        row = {"row": method, "method": method, **about, **found}
        record.append(self.asked.record, row)
        self.rows.append(row)


def prepared(study: Study, method: str) -> Group:
    """The program of a study's trials with a method, in its ordinary steps: without the lead-in that comes before.

    Raises:
        BadInput: the study has several programs, or the method does not fit it.
    """
    sweep = {key: values for key, values in study.sweep.items() if key.partition(".")[0] != "method"}
    # A block may be as long as an epoch.
    whole = replace(study, method=method, sweep=sweep, eval=replace(study.eval, per_epoch=1, every=None))
    group = session.only(groups.prepare(whole, trials.expand(whole)))
    return group._replace(lengths={trial: length._replace(lead=0) for trial, length in group.lengths.items()})


def figures(side: Ours, vanilla: Ours) -> dict[str, Any]:
    """What the record has of a method.

    Args:
        side: with at least one round.
        vanilla: the same, in the same rounds; where it is the side itself, there is no ratio.
    """
    one = side.pool.one
    spread = None if side is vanilla else rounds.ratio(vanilla.rounds, side.rounds)
    return {
        "replicas": side.replicas,
        "settings": {name: value for name, value in side.settings.items() if name != "peak_bytes"},
        "figures": {"step": rounds.step(side), "ratio": spread},
        "owned": sum(math.prod(leaf.shape) for leaf in one.params.values()),
        "state_bytes": held(one.opt),
        "memory": side.memory,
        "per_replica": side.pool.memory.per_replica,
        "compile_seconds": side.compile_seconds,
        "rounds": [done._asdict() for done in side.rounds],
    }
