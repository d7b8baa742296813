"""What is the same to the last bit, and how far apart is what is not: `python -m jaxft.bench.exact` trains a small
study in several ways and compares the trials that two of them share. Its table stands in jaxft/EXACT.md.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.folder import store
from jaxft.follow.news import Begun, News

BASE = {
    "task": {"n_train": 320},
    "train": {"epochs": 2, "lr": 6e-4},
    "seeds": {"init": "1..2", "order": "1..4"},
    "eval": {"per_epoch": 4, "batch_size": 256},
    "stop": {"enabled": False},
    "pool": {"slots": 2, "devices": 2, "checkpoint_minutes": 0},
}
WAYS: dict[str, dict[str, Any]] = {
    "the same again": {},
    "other trials beside them, in other slots": {"seeds": {"init": "2..3", "order": "3..7"}},
    "a neighbour whose loss turns NaN": {"sweep": {"train.lr": [6e-4, 1e30]}},
    "stopped in the middle, and gone on": {"stops": 3},
    "4 virtual devices of the CPU, not 2": {"pool": {"devices": 4}},
    "1 device, not 2": {"pool": {"devices": 1}},
    "4 slots on each device, not 2": {"pool": {"slots": 4}},
    "1 slot on each device, not 2": {"pool": {"slots": 1}},
    "half as many evaluations": {"eval": {"per_epoch": 2}},
    "with gradient norms": {"eval": {"gradient_norms": True}},
    "precision bfloat16": {"train": {"precision": "bfloat16"}},
}
"""What is changed of BASE, in each way."""
HEAD = ("against the same study", "trials", "equal in every bit", "losses", "logits", "scores")


class _Stops:
    """Asks the run to stop after so many blocks."""

    def __init__(self, blocks: int):
        self.left = blocks

    def start(self, begun: Begun) -> None:
        pass

    def compiled(self, seconds: float) -> None:
        pass

    def block(self, news: News) -> None:
        self.left -= 1
        if not self.left:
            signal.raise_signal(signal.SIGTERM)

    def finish(self, folder: str) -> None:
        pass

    def stop(self) -> None:
        pass


def one(out: str, changes: dict[str, Any]) -> None:
    """Trains the study in one way, in this process."""
    import jaxft

    changes = dict(changes)
    stops = changes.pop("stops", None)
    merged = {name: {**BASE.get(name, {}), **value} for name, value in changes.items()}
    study = jaxft.make(**{**BASE, **merged}, name="exact", out=out)
    quiet = _Stops(-1)
    if stops:
        try:
            jaxft.run(study, progress=_Stops(stops))
            raise RuntimeError("it was to stop, and did not")
        except KeyboardInterrupt:
            pass
    jaxft.run(study, progress=quiet)


def compared(one: Path, other: Path) -> tuple[int, int, float, float, float]:
    """Of the trials, by seeds and rate, that both folders have: how many, how many equal in every bit of losses and
    logits, and the largest difference of a loss, of a logit at the end, and of a score at the end.
    """
    first, second = _ends(one), _ends(other)
    pairs = [(first[key], second[key]) for key in first.keys() & second.keys()]
    same = sum(all(np.array_equal(a, b) for a, b in zip(x, y, strict=True)) for x, y in pairs)
    losses, logits, scores = (max(float(np.abs(x[part] - y[part]).max()) for x, y in pairs) for part in range(3))
    return len(pairs), same, losses, logits, scores


def _ends(folder: Path) -> dict[Any, tuple[np.ndarray, ...]]:
    run = store.load(folder)
    losses = run.losses.set_index("trial")["train_loss"]
    logits = run.predictions.query("split == 'dev' and at == 'final'").set_index("trial")["logits"]
    return {
        (row["init_seed"], row["order_seed"]): (
            np.asarray(losses[row["trial"]]), np.asarray(logits[row["trial"]]), np.asarray([row["final_score"]]),
        )
        for row in run.trials.to_dict("records")
        if row.get("hp.train.lr", 6e-4) == 6e-4
    }  # fmt: skip


def table(rows: list[tuple[str, tuple[int, int, float, float, float]]]) -> str:
    """In Markdown."""
    lines = [HEAD, ("---",) * len(HEAD)]
    for name, (count, same, *far) in rows:
        lines.append((name, str(count), str(same), *(f"{x:.1e}" if x else "0" for x in far)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Each way in a process of its own, since virtual devices are a process's."""
    with tempfile.TemporaryDirectory() as there:
        folders = {name: Path(there) / str(number) for number, name in enumerate(["", *WAYS])}
        for name, folder in folders.items():
            words = [sys.executable, "-m", "jaxft.bench.exact", str(folder), json.dumps(WAYS.get(name, {}))]
            subprocess.run(words, check=True, env=os.environ | {"PYTHONWARNINGS": "ignore"})
        print(table([(name, compared(folders[""], folders[name])) for name in WAYS]))
        row = store.load(folders[""]).trials.iloc[0]
        print(f"\n{row['device']}; {row['versions']}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        one(sys.argv[1], json.loads(sys.argv[2]))
    else:
        main()
