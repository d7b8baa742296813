"""Ten thousand trials in 512 slots: what the host adds to each is small, and stays the same to the last."""

from pathlib import Path

import numpy as np
import pytest
import toys
from studies import Quiet, study

from jaxft.folder import store
from jaxft.loop import train

TRIALS, SLOTS = 10_000, 64  # on each of 8 devices
PAGE = 4096


class Clock(Quiet):
    """Notes, of each block, what the host took and how much memory the process has."""

    def __init__(self):
        super().__init__()
        self.host, self.memory, self.numbers = [], [], []

    def block(self, news):
        super().block(news)
        self.ended.clear()
        self.numbers.append(len(news.rows))
        self.host.append(news.seconds - news.devices)
        self.memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * PAGE)


@pytest.mark.slow
def test_host_time_and_memory_per_trial_are_flat(tmp_path):
    base = toys.settings(tmp_path)
    changes = {
        "task": {"n_train": 8},
        "train": {"epochs": 1},
        "seeds": {"init": f"1..{TRIALS // 10}", "order": "1..10"},
        "eval": {"per_epoch": 1},
        "pool": {"slots": SLOTS, "devices": 8},
    }
    clock = Clock()
    train.run(study(base, tmp_path, **changes), progress=clock)
    assert sum(clock.numbers) == len(store.load(tmp_path / "run").trials) == TRIALS
    each = 1000 * np.array(clock.host) / np.array(clock.numbers)
    grown = (clock.memory[-1] - clock.memory[4]) / sum(clock.numbers[5:])
    first, last = np.median(each[2:7]), np.median(each[-6:-1])
    print(
        f"\n{TRIALS:,} trials in {8 * SLOTS} slots: {len(each)} blocks; host {np.median(each):.2f} ms a trial "
        f"({first:.2f} at first, {last:.2f} at last), {grown:,.0f} bytes of memory a trial after the fourth block"
    )
    assert last < 1.5 * first
    assert grown < 10_000  # a replica's parameters alone are 1 MB
