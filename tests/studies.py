"""Whole studies as tests run them: quietly, in a folder of their own, and how to read what came of them."""

import os
import signal

import numpy as np
import pandas as pd
import yaml

from jaxft.folder import store
from jaxft.study import config

MOVING = ["slot", "device", "seconds", "versions"]
"""Columns that may differ between two runs of the same trial."""


class Quiet:
    """Counts instead of printing."""

    def __init__(self):
        self.ended, self.examples, self.taken, self.blocks = [], 0, 0, 0

    def start(self, begun):
        pass

    def compiled(self, seconds):
        pass

    def block(self, news):
        self.ended += news.ended
        self.examples += news.examples
        self.taken += news.taken
        assert 0 <= news.taken <= news.taken + news.idle
        assert 0 < news.devices <= news.seconds
        self.blocks += 1

    def finish(self, folder):
        pass

    def stop(self):
        pass


class Until(Quiet):
    """Asks the run to stop in a block, as a scheduler that preempts it would."""

    def __init__(self, block: int):
        super().__init__()
        self.last = block

    def block(self, news):
        super().block(news)
        if self.blocks == self.last:
            os.kill(os.getpid(), signal.SIGTERM)


def study(base, folder, **changes):
    """The study with some sections changed, in a run folder of its own."""
    merged = {k: {**v, **changes.pop(k)} if isinstance(v, dict) and k in changes else v for k, v in base.items()}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(merged | changes | {"out": str(folder / "run")}))
    return config.load(path)


def rows(folder) -> pd.DataFrame:
    """The trials of a run folder in an order that no scheduler decides."""
    return store.load(folder).trials.sort_values("trial", ignore_index=True)


def same_bits(one, other) -> None:
    """Two run folders hold the same trials, curves, losses and predictions, bit for bit."""
    pd.testing.assert_frame_equal(rows(one).drop(columns=MOVING), rows(other).drop(columns=MOVING), check_exact=True)
    a, b = store.load(one), store.load(other)
    for part, keys in (
        ("evals", ["trial", "step", "split"]),
        ("losses", ["trial"]),
        ("predictions", ["trial", "split", "at"]),
    ):
        x, y = (getattr(run, part).sort_values(keys, ignore_index=True) for run in (a, b))
        for column in x:
            bits = [[np.asarray(v).tobytes() if v is not None else None for v in f[column]] for f in (x, y)]
            assert bits[0] == bits[1], (part, column)
