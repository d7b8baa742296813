"""Runs of the command in processes of their own, which can be killed, and what two run folders have in common."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import toys
import yaml

from jaxft.folder import store

MOVING = ("slot", "device", "seconds")
"""Columns that may differ between two runs of the same trial."""

KEYS = {"evals": ("trial", "step", "split"), "losses": ("trial",), "predictions": ("trial", "split", "at")}


def study(folder: Path, **changes) -> Path:
    """Of 12 trials in some 40 blocks of 2 slots, with a checkpoint after each.

    Of either initialisation three are completed or dropped, whichever the sweep says, and some diverge. Each process
    compiles.
    """
    sections = toys.light(folder)
    sections |= {
        "train": {"lr": 3e-3, "batch_size": 4, "epochs": 3, "dropout": 0.1},
        "seeds": {"init": "1..3", "order": 1},
        "sweep": {
            "train.lr": [3e-3, 1e30],
            "stop.majority": [4, 0],
        },  # the second rate diverges, no limit lets a trial end
        "stop": {"majority": 4},
        "pool": {"slots": 1, "checkpoint_minutes": 1e-4},
    }
    path = folder / "study.yaml"
    path.write_text(
        yaml.safe_dump({k: v | changes.get(k, {}) if isinstance(v, dict) else v for k, v in sections.items()})
    )
    return path


class Job(NamedTuple):
    """Processes of one run."""

    processes: list[subprocess.Popen]
    logs: list[Path]
    out: Path

    def said(self, process: int = 0) -> str:
        return self.logs[process].read_text()

    def alive(self) -> bool:
        return any(process.poll() is None for process in self.processes)

    def wait(self, seconds: float) -> list[int]:
        """Their exit codes, once all have ended; those that have not by then are killed, and the test fails."""
        end = time.monotonic() + seconds
        try:
            return [process.wait(max(0.1, end - time.monotonic())) for process in self.processes]
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"not over after {seconds} s: {[self.said(i) for i in range(len(self.logs))]}"
            ) from None
        finally:
            self.kill()

    def kill(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def start(study: Path, out: Path, *words: str, processes: int = 1, devices: int = 1) -> Job:
    """`python -m jaxft run` so many times, each with its own virtual devices; what they print goes to files."""
    out.parent.mkdir(parents=True, exist_ok=True)
    env = os.environ | {
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    command = [sys.executable, "-m", "jaxft", "run", str(study), "--out", str(out), *words]
    address = f"127.0.0.1:{free_port()}"
    job = Job([], [], out)
    for process in range(processes):
        place = ["--distributed", address, "--processes", str(processes), "--process", str(process)]
        log = out.with_name(f"{out.name}-{process}.log")
        with log.open("w") as file:
            job.processes.append(
                subprocess.Popen([*command, *(place if processes > 1 else [])], env=env, stdout=file, stderr=file)
            )
        job.logs.append(log)
    return job


def free_port() -> int:
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        return there.getsockname()[1]


def until(condition: Callable[[], object], job: Job, seconds: float = 300) -> bool:
    """Waits for it; False where the job ended before."""
    end = time.monotonic() + seconds
    while not condition():
        if not job.alive():
            return bool(condition())
        assert time.monotonic() < end, [job.said(i) for i in range(len(job.logs))]
        time.sleep(0.002)
    return True


def same(one: Path, other: Path, but: Sequence[str] = ()) -> int:
    """Two run folders hold the same trials, evaluations, losses and predictions, bit for bit, each once.

    Returns how many rows were compared.
    """
    a, b = store.load(one), store.load(other)
    count = 0
    for kind, keys in {"trials": ("trial",), **KEYS}.items():
        frames = [getattr(run, kind) for run in (a, b)]
        x, y = (
            f.drop(columns=[*MOVING, *but], errors="ignore").sort_values([*keys], ignore_index=True) for f in frames
        )
        assert not x.duplicated([*keys]).any(), (kind, x[[*keys]])
        assert sorted(x.columns) == sorted(y.columns), kind
        for column in x:
            assert [bits(v) for v in x[column]] == [bits(v) for v in y[column]], (kind, column, x[column], y[column])
        count += len(x)
    return count


def bits(value) -> object:
    return np.asarray(value).tobytes() if isinstance(value, float | np.ndarray) else value
