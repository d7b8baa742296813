"""A run followed from outside, by its folder: here, on a shared disk or on an object store. No jax here."""

import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from jaxft.folder import Folder, shards
from jaxft.folder.store import load
from jaxft.follow import live
from jaxft.follow.grid import clean, grid
from jaxft.follow.live import Heard
from jaxft.follow.news import best_of, duration, said
from jaxft.follow.progress import Screen, bar
from jaxft.follow.view import Shown
from jaxft.study.trials import Trial, expand

EVERY, AFAR = 1.0, 15.0
"""Seconds from one look to the next, on this machine's disks and on an object store."""
SILENT = 900.0
"""Seconds without a word after which a process counts as gone."""


class Seen(NamedTuple):
    """A run at one moment."""

    trials: list[Trial]
    """Of its study, and those that are finished but no longer in it."""
    known: dict[str, Shown]
    """Those that have begun."""
    heard: Heard
    best: str
    """The best so far, in words."""

    @property
    def done(self) -> int:
        """How many trials are over."""
        return sum(shown.over for shown in self.known.values())

    @property
    def dropped(self) -> Counter[str]:
        """By reason."""
        return Counter(shown.reason for shown in self.known.values() if shown.reason)


class Reader:
    """Reads a run folder again and again, each file of rows once."""

    def __init__(self, folder: str):
        """Raises BadInput where it is no run folder."""
        self.run = load(folder)
        self.folder = Folder.at(folder)
        self.trials = expand(self.run.study)
        self._read: set[str] = set()
        self._over: dict[str, Shown] = {}
        self._best: tuple[float, str] = (-1e300, "")

    def look(self, now: float) -> Seen:
        """What there is now.

        Raises:
            BadInput: a file cannot be read.
        """
        heard = live.hear(self.folder, SILENT, now)  # first: who ends in between has its rows then
        for name in shards.files(self.folder, "trials"):
            if name not in self._read:
                self._take(name)
                self._read.add(name)
        flying = {name: Shown(False, "", step, scores) for name, step, _, scores in heard.flying}
        return Seen(self.trials, {**flying, **self._over}, heard, self._best[1])

    def _take(self, name: str) -> None:
        """The rows of a file, which are there as a whole; of a trial that two have, the first's."""
        with shards.reading(self.folder):
            rows = shards.read(self.folder, f"trials/{name}", ["trial"]).to_pylist()
            scores = self._scores(name, {row["trial"]: row["metric"] for row in rows})
        by_id = {trial.id: trial for trial in self.trials}
        for row in rows:
            trial = row["trial"]
            if trial in self._over:
                continue
            self._over[trial] = Shown(True, row["reason"], row["steps"], scores.get(trial, []))
            if trial in by_id and row["best_score"] > self._best[0]:
                words = best_of(row["metric"], row["best_score"], by_id[trial], row["best_step"])
                self._best = (row["best_score"], words)

    def _scores(self, name: str, metrics: dict[str, str]) -> dict[str, list[float]]:
        if name not in shards.files(self.folder, "evals"):  # nothing in it was evaluated
            return {}
        table = shards.read(self.folder, f"evals/{name}", ["trial", "step", "split"])
        found: dict[str, dict[int, float]] = {}
        for row in table.to_pylist():
            if row["split"] == "dev" and row["trial"] in metrics:
                found.setdefault(row["trial"], {})[row["step"]] = row[metrics[row["trial"]]]
        return {trial: [score for _, score in sorted(by_step.items())] for trial, by_step in found.items()}


def lines(seen: Seen) -> list[str]:
    """What there is to say of it, as `jaxft run` says it, in three lines."""
    parts = seen.heard.parts
    left = max((part.left for part in parts if part.left is not None), default=None)
    running, rate = sum(part.running for part in parts), sum(part.rate for part in parts)
    blocks = max((part.blocks for part in parts), default=0)
    total = max(len(seen.trials), seen.done)
    trials, speed, scores = said(total, seen.done, running, left, seen.dropped, blocks, rate, seen.best)
    if seen.done == total:
        trials[1:] = ["all are over"]
    elif not parts:
        trials[1:] = ["no process is running; jaxft run goes on"]
    elif not blocks:
        trials[1:] = ["compiling"]
    if parts:
        speed.append(f"host {max(part.host for part in parts):.1%} of the time")
        trials.append(f"{duration(max(part.seconds for part in parts))} since the start")
    return [", ".join(trials), ", ".join(speed), ", ".join(scores)]


def watch(
    folder: str, *, plain: bool | None = None, once: bool = False, console: Console | None = None,
    sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.time,
) -> None:  # fmt: skip
    """Shows a run until its trials are over.

    Args:
        folder: of the run, a path or a URL.
        plain: a line whenever something is over, instead of a screen; where there is no terminal, if not given.
        once: one look only.
        console: where to; standard output if not given.
        sleep: waits so many seconds.
        clock: seconds since 1970.

    Raises:
        BadInput: not a run folder, or a file in it that cannot be read.
    """
    reader = Reader(folder)
    console = console or Console(highlight=False, force_jupyter=False)
    plain = not sys.stdout.isatty() if plain is None else plain
    screen = Screen(console, live=not plain and not once)
    every, last = EVERY if reader.folder.local else AFAR, (-1, -1)
    title = f"{clean(reader.run.study.name)}  {clean(str(reader.run.folder))}"
    if not plain:
        screen.say(title)
    while True:
        seen = reader.look(clock())
        said = lines(seen)
        if plain:
            now = (seen.done, len(seen.heard.parts))
            if now != last:
                screen.say(", ".join(filter(None, said)))
            last = now
        else:
            head = [f"{bar(seen.done, max(len(seen.trials), seen.done))} {said[0]}", *said[1:]]
            body = screen.body(seen.trials, seen.known, len(head) + 1)
            screen.draw([*(Text(clean(each)) for each in head), *body])
        over = seen.done >= len(seen.trials) and not seen.heard.parts
        if once or over:
            break
        sleep(every)
    screen.keep()
    if over:
        screen.print(Text("\n").append_text(grid(load(reader.folder), console.width)))
