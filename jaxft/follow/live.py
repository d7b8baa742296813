"""What a run tells of itself while it goes on: a small file in its folder, for `jaxft watch`. No jax here.

Each process has its own, `live/now-3of8-p1.json`, written at most once a second, without waiting for the disk, and
removed at the run's end. What cannot be written is no harm to the run.
"""

import json
import math
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from jaxft.folder import LIVE, Folder
from jaxft.follow.news import Begun, Flying, News, Tally

EVERY, AFAR = 1.0, 15.0
"""Seconds from one writing to the next, on this machine and on an object store."""
_NAME = re.compile(r"now(?P<shard>-\d+of\d+)?(?P<process>-p\d+)?\.json")


class Pulse(NamedTuple):
    """What a process told of its run, at one moment."""

    written: float
    """When, in seconds since 1970 by its own clock."""
    seconds: float
    """Since its start."""
    total: int
    """Trials that its part of the run wants."""
    running: int
    left: float | None
    """Seconds until all are over, as far as it can say."""
    rate: float
    """Examples per second, all slots together, compilation aside; 0 before the first block."""
    blocks: int
    """0 while the first program is compiled."""
    host: float
    """The share of the time in which the devices waited for the host."""
    flying: list[tuple[str, int, int, list[float]]]
    """Of its trials in training: id, step, steps in all, and scores on dev so far."""


class Live:
    """Follows a run and keeps its file."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        """`clock` gives seconds."""
        self._clock = clock
        self._began = clock()
        self._last = -math.inf
        self._tally = Tally(0, 0)
        self._flying: list[Flying] = []
        self._folder: Folder | None = None

    def start(self, begun: Begun) -> None:
        """The folder is there, and this process's."""
        self._folder = Folder.at(begun.folder)
        self._every = EVERY if self._folder.local else AFAR
        self._name = f"{LIVE}/now{begun.key}.json"
        self._tally = Tally(begun.total, begun.done)
        with suppress(OSError):
            self._folder.make(LIVE)
        self._write()

    def compiled(self, seconds: float) -> None:
        """Nothing to tell."""

    def block(self, news: News) -> None:
        """A block is over."""
        self._tally.add(news)
        if self._clock() - self._last >= self._every:
            self._flying = list(news.flying())
            self._write()

    def finish(self, folder: str) -> None:
        """Removes the file."""
        if self._folder:
            with suppress(OSError):
                self._folder.remove(self._name)

    def stop(self) -> None:
        """Likewise."""
        self.finish(str(self._folder))

    def _write(self) -> None:
        if not self._folder:
            return
        self._last, tally = self._clock(), self._tally
        told = Pulse(
            time.time(), self._last - self._began, tally.total, tally.running, tally.left, tally.rate, tally.blocks,
            tally.waited, [(one.trial.id, one.step, one.total, one.scores) for one in self._flying],
        )  # fmt: skip
        with suppress(OSError):
            self._folder.write(self._name, json.dumps(told._asdict()).encode(), durable=False)


class Heard(NamedTuple):
    """What the processes of a run told last."""

    parts: list[Pulse]
    """Of each part of the run the first process's, which knows of the others' slots."""
    flying: list[tuple[str, int, int, list[float]]]
    """Of all processes."""


def hear(folder: Folder, within: float, now: float) -> Heard:
    """What was told in the last seconds before now; what cannot be read is passed over, for it may be half written."""
    parts, flying = [], []
    for name in folder.list(LIVE):
        found = _NAME.fullmatch(name)
        pulse = _read(folder, f"{LIVE}/{name}") if found else None
        if found and pulse and now - pulse.written <= within:
            flying += pulse.flying
            parts += [] if found["process"] else [pulse]
    return Heard(parts, flying)


def _read(folder: Folder, name: str) -> Pulse | None:
    try:
        told: Any = json.loads(folder.read(name))
        pulse = Pulse(**told)
        flying = [(str(i), int(s), int(t), [float(x) for x in scores]) for i, s, t, scores in pulse.flying]
        numbers = (float(pulse.written), float(pulse.seconds), int(pulse.total), int(pulse.running))
        left = None if pulse.left is None else float(pulse.left)
        return Pulse(*numbers, left, float(pulse.rate), int(pulse.blocks), float(pulse.host), flying)
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None
