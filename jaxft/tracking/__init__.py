"""A run as others' dashboards show it, one file each: `jaxft run study.yaml --track tensorboard`. No jax here.

Hundreds of trials as hundreds of runs tell nobody anything: a run is one run there, with its totals as it goes on, and
at its end how good the best of n trials is, and the curves of a few: the best, the middle one, the worst.

A tracker is a function with a type and a default for every argument, in a file of its name. It returns what is called
for each study with it, and makes a `Writer`. What else follows a run is a `jaxft.follow.news.Listener`.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from jaxft import members
from jaxft.errors import BadInput
from jaxft.folder.store import Run, load
from jaxft.follow.news import Begun, Listener, News, Tally
from jaxft.members import spec
from jaxft.stats.cells import Frame
from jaxft.stats.draws import expected_maximum
from jaxft.study import Study

EVERY = 10.0
"""Seconds between two points of a curve."""
BEST = 3


class Writer(Protocol):
    """Where the numbers of one run go."""

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by name, at a step; steps ascend."""

    def curve(self, name: str, points: Sequence[tuple[int, float]]) -> None:
        """Steps with a number each, all at once."""

    def close(self) -> None:
        """Nothing more comes."""


class Tracker:
    """Follows a run and writes what a dashboard should have of it."""

    def __init__(self, open: Callable[[Study, str], Writer], clock: Callable[[], float] = time.monotonic):
        """`open` makes the writer, of a study and its run folder, at the run's start."""
        self._open, self._clock = open, clock
        self._writer: Writer | None = None
        self._tally = Tally(0, 0)
        self._last = -math.inf

    def start(self, begun: Begun) -> None:
        """Opens the writer."""
        self._tally = Tally(begun.total, begun.done)
        self._writer = self._open(begun.study, begun.folder)

    def compiled(self, seconds: float) -> None:
        """Nothing to tell."""

    def block(self, news: News) -> None:
        """A block is over."""
        self._tally.add(news)
        if self._clock() - self._last >= EVERY:
            self._last = self._clock()
            self._write()

    def finish(self, folder: str) -> None:
        """All trials are over."""
        if self._tally.blocks:
            self._write()
        if self._writer:
            for name, points in summary(load(folder)).items():
                self._writer.curve(name, points)
        self.stop()

    def stop(self) -> None:
        """Closes the writer."""
        if self._writer:
            self._writer.close()
        self._writer = None

    def _write(self) -> None:
        tally = self._tally
        values: dict[str, float] = {
            "trials/over": tally.done,
            "trials/in training": tally.running,
            "trials/dropped": tally.dropped.total(),
            "speed/examples per second": tally.rate,
            "speed/host share": tally.waited,
        }
        values |= {f"dropped/{reason}": count for reason, count in tally.dropped.items()}
        if tally.left is not None:
            values["speed/seconds left"] = tally.left
        if tally.best:
            values[f"best/{tally.best.metric}"] = tally.best.best_score
        if self._writer:
            self._writer.numbers(values, tally.blocks)


def load_all(texts: Sequence[str]) -> list[Listener]:
    """The trackers that specs such as "tensorboard" or "wandb(project='seeds')" describe.

    Raises:
        BadInput: an unknown tracker or argument, or a package that is not installed.
    """
    found: list[Listener] = []
    for text in texts:
        for name, args in spec.bind(spec.parse(text, "track"), "tracker"):
            found.append(members.member(name, "tracker")(**args))
    return found


def absent(package: str, error: ImportError) -> BadInput:
    """What to say where a tracker's package is missing."""
    return BadInput(f"track: needs {package} ({error}): pip install 'jaxft[tracking]'")


def summary(run: Run) -> dict[str, list[tuple[int, float]]]:
    """The curves that are worth keeping of a run, by name: for each metric that scores its trials

    - `expected best METRIC of n trials`, over n: the mean over all draws of n of the trials' scores, with replacement
      (Dodge et al. 2019, eq. 3);
    - of the best trials, the middle one and the worst, by their best score, the scores on dev over steps.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    trials: Frame = run.trials
    evals: Frame = run.evals
    for metric, rows in trials[trials["best_score"].notna()].groupby("metric"):
        ranked = rows.sort_values("best_score", ascending=False, kind="stable")
        scores = ranked["best_score"].to_numpy(float)
        found[f"expected best {metric} of n trials"] = [
            (n, expected_maximum(scores, n)) for n in range(1, len(scores) + 1)
        ]
        places = {f"best {rank + 1}": rank for rank in range(min(BEST, len(ranked)))}
        places |= {"middle": len(ranked) // 2, "worst": len(ranked) - 1} if len(ranked) > BEST else {}
        dev = evals[evals["split"] == "dev"]
        for name, place in places.items():
            row = ranked.iloc[place]
            curve = dev[dev["trial"] == row["trial"]].sort_values("step")
            about = f"{name}: init {row['init_seed']}, order {row['order_seed']} ({row['trial']})"
            found[f"{metric}/{about}"] = list(zip(curve["step"].tolist(), curve[metric].tolist(), strict=True))
    return found
