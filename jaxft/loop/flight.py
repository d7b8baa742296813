"""Keeping trials in flight safe: they are set down every so many minutes and when the run is asked to stop, and taken
up again by the next.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from warnings import warn

from jaxft.engine import processes
from jaxft.engine.checkpoint import Checkpoints, Found, Parked, Unreadable, read
from jaxft.engine.pool import Pool
from jaxft.engine.recipe import Replica
from jaxft.errors import BadInput, Note, line
from jaxft.folder import CHECKPOINTS
from jaxft.folder.rows import versions
from jaxft.loop.halt import Halt
from jaxft.loop.record import Record


class Stopped(KeyboardInterrupt):
    """The run was asked to stop, and did, between two blocks."""


class Flight:
    """Between the loop and the checkpoints of its run folder."""

    def __init__(
        self, checkpoints: Checkpoints | None = None, minutes: float = 0, found: Mapping[str, Found] | None = None
    ):
        """Of a run without any, by default.

        Args:
            checkpoints: where to set trials down; None for nowhere.
            minutes: from one checkpoint to the next; 0 for none but when the run is asked to stop.
            found: the trials to take up, of which the processes agree.
        """
        self.waiting = dict(found or {})
        """Those that have not entered a slot yet."""
        self.halt = Halt()
        self._checkpoints, self._minutes = checkpoints, minutes
        self._last = time.monotonic()

    @property
    def wishes(self) -> tuple[bool, bool]:
        """What this process would have now: a stop, and a checkpoint."""
        due = self._minutes > 0 and time.monotonic() - self._last >= 60 * self._minutes
        return self.halt.asked, due and processes.index() == 0 and self._checkpoints is not None

    def take_up(self, pool: Pool, new: Mapping[int, str], decided: Mapping) -> dict[int, Parked | None]:
        """Of the trials that enter slots, by slot, those that go on; None where another process has the slot.

        Args:
            pool: to put them in.
            new: the id of the trial that enters each slot.
            decided: what is part of the numerics, as it is now.
        """
        known = {slot: self.waiting.pop(name) for slot, name in new.items() if name in self.waiting}
        if not known:
            return {}
        mine = {slot: _read(found.path, pool.one, decided) for slot, found in known.items() if slot in pool.own}
        agreed = processes.told([slot for slot, parked in mine.items() if parked])
        fine = {slot: mine.get(slot) for slots in agreed for slot in slots}
        pool.put({slot: parked.replica if parked else None for slot, parked in fine.items()})
        return fine

    def set_down(
        self, pool: Pool, slots: Iterable[int], records: Mapping[int, Record],
        outside: Sequence[tuple[Record, Replica]], decided: Mapping,
    ) -> None:  # fmt: skip
        """Writes a checkpoint.

        Args:
            pool: to take trials from.
            slots: in which trials are, of all processes.
            records: of those of this process.
            outside: this process's trials that are in no slot.
            decided: what is part of the numerics.
        """
        if self._checkpoints:
            self._checkpoints.wait()  # before more is taken into host memory
            where = {"decided": dict(decided), **_here(pool)}
            taken = [(records[slot], replica) for slot, replica in pool.taken(slots)]
            # Those outside stand still: what an earlier checkpoint holds of them is not written again.
            still = {one.trial.id for one, _ in outside if self._checkpoints.holds.get(one.trial.id) == one.step}
            taken += [(one, replica) for one, replica in outside if one.trial.id not in still]
            parked = {one.trial.id: _parked(replica, one, where) for one, replica in taken}
            self._checkpoints.save(parked, still | self.waiting.keys())
            self._last = time.monotonic()

    def stop(self) -> None:
        """Ends the run, once what is being written is there, for all processes.

        Raises:
            Stopped: always.
        """
        self.rest()
        processes.meet()  # one that ended while others still write would end them too
        raise Stopped

    def rest(self) -> None:
        """Waits for what is being written."""
        if self._checkpoints:
            self._checkpoints.wait()

    def over(self) -> None:
        """Removes all checkpoints: nothing is in flight any more."""
        self.rest()
        processes.meet()
        if self._checkpoints and processes.index() == 0:
            with _noted(self._checkpoints.root):
                self._checkpoints.clear()


def departing(
    folder: str, shard: tuple[int, int] | None, missing: Collection[str], minutes: float, *, fresh: bool
) -> Flight:
    """The flight of a run, with the trials that go on as process 0 finds them.

    Args:
        folder: of the run.
        shard: of a job array.
        missing: the ids of the trials that are not finished.
        minutes: from one checkpoint to the next.
        fresh: nothing goes on.

    Raises:
        BadInput: what is in the folder cannot be read.
    """
    if not Checkpoints.possible(folder):
        if processes.index() == 0:
            said = "no checkpoints are kept here, only on a disk or gs://: trials in flight start again"
            warn(f"{folder}: {said}", Note, stacklevel=2)
        return Flight()
    try:
        checkpoints = Checkpoints(folder, shard, processes.index())
        found = {} if fresh else {name: at for name, at in checkpoints.found().items() if name in missing}
    except OSError as error:
        raise BadInput(f"{folder}/{CHECKPOINTS}: cannot be read ({line(error)})") from None
    (there, checkpoints.number), *_ = processes.told([found, checkpoints.number])
    found = {name: Found(*at) for name, at in there.items()}
    if processes.index() == 0:
        with _noted(checkpoints.root):
            checkpoints.tidy(found)
    processes.meet()
    return Flight(checkpoints, minutes, found)


def resumed(record: Record, parked: Parked, pool: Pool) -> None:
    """Lets the record of a trial go on with it."""
    record.resumed(parked.told["record"], parked.arrays)
    before, now = parked.told, _here(pool)
    if any(before[name] != now[name] for name in now):
        made = "" if before["versions"] == now["versions"] else f" ({before['versions']})"
        record.earlier = "; ".join(filter(None, [record.earlier, f"{before['width']} to step {record.step}{made}"]))


def _here(pool: Pool) -> dict[str, str]:
    """What may move the last bits of a trial."""
    kind = pool.devices[0].device_kind
    return {
        "width": f"{pool.slots_per_device} slots on each of {len(pool.devices)} devices ({kind})",
        "versions": versions(),
    }


def _parked(replica: Replica, record: Record, where: dict) -> Parked:
    told, arrays = record.saved()
    return Parked(replica, {"record": told, **where}, arrays)


def _read(path: str, like: Replica, decided: Mapping) -> Parked | None:
    """A trial from its file, or None, with a Note."""
    try:
        parked = read(path, like)
        if parked.told["decided"] != dict(decided):
            raise Unreadable("it was made with other data, another model or another program")
        Record.check(parked.told["record"], parked.arrays)
        if not all(isinstance(parked.told[name], str) for name in ("width", "versions")):
            raise Unreadable("it does not say where it was made")
    except (Unreadable, LookupError, TypeError, ValueError) as error:
        warn(f"{path}: cannot go on from here ({error}); the trial starts again", Note, stacklevel=2)
        return None
    return parked


@contextmanager
def _noted(root: object) -> Iterator[None]:
    """What cannot be removed is in nobody's way."""
    try:
        yield
    except OSError as error:
        warn(f"{root}: cannot be removed ({line(error)})", Note, stacklevel=4)
