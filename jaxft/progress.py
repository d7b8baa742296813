"""What a person follows: lines redrawn on a terminal, plain lines elsewhere, then a table. No jax here."""

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from jaxft.grid import clean, grid
from jaxft.store import Ended, load
from jaxft.trials import Trial

__all__ = ["Progress", "Tally", "duration", "grid"]

REDRAW, EVENT, QUIET = 1.0, 1.0, 5.0  # seconds between two: on a terminal, after a drop, and with nothing new
BAR = 20


class End(NamedTuple):
    """A trial that is over, as all processes know of it."""

    trial: Trial
    reason: str
    seconds: float
    metric: str
    best_score: float
    best_step: int


class News(NamedTuple):
    """What the loop tells after a block."""

    running: int
    """How many slots were training."""
    ended: Sequence[End | Ended]
    examples: int
    seconds: float
    """Since it told of the last block."""
    devices: float
    """Of these, those in which the devices worked."""
    taken: int
    """Steps that replicas took."""
    idle: int
    """Steps that slots did for nothing: their trial was over, or they had none."""
    waiting: bool
    """Whether trials waited for a slot."""
    rows: Sequence[Ended] = ()
    """Of what ended, that which this process has to write down."""


@dataclass
class Tally:
    """The numbers of a study in progress."""

    total: int
    done: int
    """Trials that are over, those of earlier runs among them."""
    slots: int = 0
    """Those that were training in the last block."""
    ended: int = 0
    """Trials that are over, of this run."""
    blocks: int = 0
    examples: int = 0
    seconds: float = 0.0
    """In blocks, so without compilation."""
    dropped: Counter[str] = field(default_factory=Counter)
    """By reason, of this run."""
    best: End | Ended | None = None
    spent: float = 0.0
    """Slot-seconds of the trials that are over."""
    busy: float = 0.0
    """Slot-seconds of all trials of this run."""
    host: float = 0.0
    """Seconds in which the devices waited for the host."""
    taken: int = 0
    """Steps of replicas while others waited for a slot."""
    lost: int = 0
    """Idle steps in that time."""
    idle: int = 0
    """All of them."""

    def add(self, news: News) -> None:
        """Counts a block."""
        self.slots = news.running
        self.done += len(news.ended)
        self.ended += len(news.ended)
        self.blocks += 1
        self.examples += news.examples
        self.seconds += news.seconds
        self.host += news.seconds - news.devices
        self.idle += news.idle
        if news.waiting:
            self.taken += news.taken
            self.lost += news.idle
        self.busy += news.running * news.seconds
        self.spent += sum(end.seconds for end in news.ended)
        self.dropped.update(end.reason for end in news.ended if end.reason)
        for end in news.ended:
            if end.best_score > (self.best.best_score if self.best else -math.inf):
                self.best = end

    @property
    def running(self) -> int:
        """Slots that train now: those of the trials that are over are refilled while there are any."""
        return min(self.slots, self.total - self.done)

    @property
    def left(self) -> float | None:
        """Seconds until all is over, if the trials to come take as long as those that are over did."""
        if not self.ended or not self.running:
            return None
        to_come = self.spent / self.ended * (self.total - self.done)
        return max(0.0, to_come - (self.busy - self.spent)) / self.running

    @property
    def use(self) -> str:
        """How well slots and devices were used."""
        took = self.taken + self.lost
        busy = f"slots busy {self.taken / took:.1%} until the queue was empty, " if took else ""
        host = f", host {self.host / self.seconds:.1%} of the time" if self.seconds else ""
        return f"{busy}{self.idle:,} idle steps{host}"

    def parts(self) -> tuple[list[str], list[str], list[str]]:
        """What there is to say: of the trials, of the speed, and of the scores."""
        trials = [f"{self.done} of {self.total} trials", f"{self.running} running"]
        if self.left is not None:
            trials.append(f"about {duration(self.left)} left")
        reasons = ", ".join(f"{reason.replace('_', ' ')} {n}" for reason, n in self.dropped.most_common())
        speed = [
            f"dropped {self.dropped.total()}" + (f" ({reasons})" if reasons else ""),
            f"block {self.blocks}",
        ]
        if self.seconds:
            speed.append(f"{self.examples / self.seconds:,.0f} examples/s")
        if not self.best:
            return trials, speed, []
        seeds = self.best.trial.seeds
        where = f"init {seeds.init}, order {seeds.order}, step {self.best.best_step}"
        return trials, speed, [f"best {self.best.metric} {self.best.best_score:.4f} ({where})"]


class Progress:
    """Told by the loop what happens; shows it on the console, at most once a second."""

    def __init__(self, console: Console, *, live: bool, clock: Callable[[], float] = time.monotonic):
        """`live` redraws three lines in place; else each is printed once, below the last."""
        self._console = console
        self._live = live
        self._clock = clock
        self._began = self._last = clock()
        self._event = False
        self._height = 0
        self._tally = Tally(0, 0)

    @classmethod
    def choose(cls, *, quiet: bool = False) -> "Progress":
        """Live on a terminal, plain lines elsewhere; nothing at all if `quiet`."""
        return cls(Console(highlight=False, force_jupyter=False, quiet=quiet), live=sys.stdout.isatty() and not quiet)

    def start(self, total: int, done: int) -> None:
        """A study of so many trials, some of which are over already."""
        self._tally = Tally(total, done)
        if done == total:
            self._say(f"all {total} trials are over already")
        else:
            self._say(f"{total} trials, {done} over already; compiling")

    def compiled(self, seconds: float) -> None:
        """A program is ready."""
        self._say(f"compiled in {seconds:.1f} s")

    def block(self, news: News) -> None:
        """A block is over."""
        if not self._tally.blocks:
            self._say(f"first step {self._clock() - self._began - news.devices:.1f} s after the start")
        self._tally.add(news)
        self._event |= any(end.reason for end in news.ended)
        wait = REDRAW if self._live or self._event else QUIET
        if self._clock() - self._last >= wait:
            self._show()

    def finish(self, folder: str | Path) -> None:
        """All is over: the closing table, and where to look next."""
        if self._tally.blocks:
            self._show()
            self._say(self._tally.use)
        table = grid(load(folder), self._console.width)
        self._print(Text("\n").append_text(table))

    def _show(self) -> None:
        self._last, self._event = self._clock(), False
        trials, speed, scores = self._tally.parts()
        if not self._live:
            self._say(", ".join([f"{duration(self._last - self._began)}: {trials[0]}", *trials[1:], *speed, *scores]))
            return
        filled = BAR * self._tally.done // max(1, self._tally.total)
        bar = f"[{'#' * filled}{'.' * (BAR - filled)}]"
        lines = [f"{bar} {', '.join(trials)}", ", ".join(speed), ", ".join(scores)]
        # The cursor rests below the lines: whatever ends the program, the terminal is in order.
        up = [(ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)] * self._height
        self._console.control(Control(*up))
        self._height = 0
        self._say(*lines)
        self._height = len(lines)

    def _say(self, *lines: str) -> None:
        self._height = 0
        width = self._console.width - 1 if self._live else None
        for line in lines:
            self._print(Text(clean(line)[:width]))

    def _print(self, text: Text) -> None:
        """Folds no line, reads no markup, and shows a letter that the console does not have as `?`."""
        encoding = self._console.encoding
        text.plain = text.plain.encode(encoding, "replace").decode(encoding)
        self._console.print(text, soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds for people: 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
