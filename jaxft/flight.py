"""Keeping trials in flight safe: they are set down every so many minutes and when the run is asked to stop, and taken
up again by the next.
"""

import time
from collections.abc import Mapping
from warnings import warn

from jaxft import processes
from jaxft.checkpoint import Checkpoints, Found, Parked, Unreadable, read
from jaxft.errors import Note
from jaxft.halt import Halt
from jaxft.pool import Pool
from jaxft.record import Record
from jaxft.replica import Replica


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
        fine = sorted(
            slot for part in processes.told([slot for slot, parked in mine.items() if parked]) for slot in part
        )
        for slot in fine:
            parked = mine.get(slot)
            pool.put({slot: parked.replica if parked else None})
        return {slot: mine.get(slot) for slot in fine}

    def set_down(self, pool: Pool, records: Mapping[int, Record], decided: Mapping, *, stop: bool) -> None:
        """Writes a checkpoint of all slots with a record.

        Raises:
            Stopped: if `stop`, once it is written.
        """
        if self._checkpoints:
            where = {"decided": dict(decided), "slots": pool.slots_per_device, "devices": len(pool.devices)}
            parked = {
                records[slot].trial.id: _parked(replica, records[slot], where) for slot, replica in pool.taken(records)
            }
            self._checkpoints.save(parked, self.waiting)
            self._last = time.monotonic()
            if stop:
                self._checkpoints.wait()
        if stop:
            raise Stopped

    def over(self) -> None:
        """Removes all checkpoints: nothing is in flight any more."""
        if self._checkpoints:
            self._checkpoints.wait()
            processes.meet()
            if processes.index() == 0:
                self._checkpoints.clear()


def resumed(record: Record, parked: Parked, pool: Pool) -> None:
    """Lets the record of a trial go on with it."""
    record.resumed(parked.told["record"], parked.arrays)
    slots, devices = parked.told["slots"], parked.told["devices"]
    if (slots, devices) != (pool.slots_per_device, len(pool.devices)):
        before = f"{slots} slots on each of {devices} devices to step {record.step}"
        record.earlier = "; ".join(filter(None, [record.earlier, before]))


def _parked(replica: Replica, record: Record, where: dict) -> Parked:
    told, arrays = record.saved()
    return Parked(replica, {"record": told, **where}, arrays)


def _read(path: str, like: Replica, decided: Mapping) -> Parked | None:
    """A trial from its file, or None, with a Note."""
    try:
        parked = read(path, like)
        if parked.told["decided"] != dict(decided):
            raise Unreadable("it was made with other data, or another model")
    except (Unreadable, KeyError) as error:
        warn(f"{path}: cannot go on from here ({error}); the trial starts again", Note, stacklevel=2)
        return None
    return parked
