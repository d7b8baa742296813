"""What the loop tells those that follow a run, and the numbers that they make of it. No jax here."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from jaxft.folder.store import Ended
from jaxft.study import Study
from jaxft.study.trials import Trial


class Begun(NamedTuple):
    """What a run begins with."""

    study: Study
    folder: str
    total: int
    """Trials that it wants, those of its shard."""
    done: int
    """Those of them that were over before."""
    key: str = ""
    """Which part of a run this process is, as its files are called: "-3of8-p1"."""


class Flying(NamedTuple):
    """A trial in training."""

    trial: Trial
    step: int
    total: int
    """Its steps in all."""
    scores: list[float]
    """On dev, one for each evaluation so far."""


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
    flying: Callable[[], Sequence[Flying]] = tuple
    """The trials of this process in training; made when it is asked for, before the next block."""


class Listener(Protocol):
    """Follows a run: the console, the file that `jaxft watch` reads, TensorBoard. Called by the loop, so be quick."""

    def start(self, begun: Begun) -> None:
        """Before anything is compiled."""

    def compiled(self, seconds: float) -> None:
        """A program is ready; a run may have several, one after the other."""

    def block(self, news: News) -> None:
        """A block is over, its rows are written."""

    def finish(self, folder: str) -> None:
        """All trials are over."""

    def stop(self) -> None:
        """The run ends before that: it was asked to, or failed."""


class Several(NamedTuple):
    """Listeners as one."""

    listeners: Sequence[Listener]

    def start(self, begun: Begun) -> None:
        """To each of them, as all below."""
        for one in self.listeners:
            one.start(begun)

    def compiled(self, seconds: float) -> None:
        """A program is ready."""
        for one in self.listeners:
            one.compiled(seconds)

    def block(self, news: News) -> None:
        """A block is over."""
        for one in self.listeners:
            one.block(news)

    def finish(self, folder: str) -> None:
        """All trials are over."""
        for one in self.listeners:
            one.finish(folder)

    def stop(self) -> None:
        """The run ends early."""
        for one in self.listeners:
            one.stop()


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
    def rate(self) -> float:
        """Examples per second; 0 before the first block."""
        return self.examples / self.seconds if self.seconds else 0.0

    @property
    def waited(self) -> float:
        """The share of the time in which the devices waited for the host; 0 before the first block."""
        return self.host / self.seconds if self.seconds else 0.0

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
        host = f", host {self.waited:.1%} of the time" if self.seconds else ""
        return f"{busy}{self.idle:,} idle steps{host}"

    def parts(self) -> tuple[list[str], list[str], list[str]]:
        """What there is to say: of the trials, of the speed, and of the scores."""
        best = ""
        if self.best:
            best = best_of(self.best.metric, self.best.best_score, self.best.trial, self.best.best_step)
        return said(self.total, self.done, self.running, self.left, self.dropped, self.blocks, self.rate, best)


def said(
    total: int, done: int, running: int, left: float | None, dropped: Counter[str], blocks: int, rate: float, best: str
) -> tuple[list[str], list[str], list[str]]:
    """These numbers in words: of the trials, of the speed, and of the scores."""
    trials = [f"{done} of {total} trials", f"{running} running"]
    if left is not None:
        trials.append(f"about {duration(left)} left")
    reasons = ", ".join(f"{reason.replace('_', ' ')} {n}" for reason, n in dropped.most_common())
    speed = [f"dropped {dropped.total()}" + (f" ({reasons})" if reasons else "")]
    if blocks:
        speed.append(f"block {blocks}")
    if rate:
        speed.append(f"{rate:,.0f} examples/s")
    return trials, speed, [best] if best else []


def best_of(metric: str, score: float, trial: Trial, step: int) -> str:
    """The best so far, in words."""
    return f"best {metric} {score:.4f} (init {trial.seeds.init}, order {trial.seeds.order}, step {step})"


def duration(seconds: float) -> str:
    """Seconds for people: 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
