"""The others as they are compared with us: each at its fastest setting, on batches of our trials."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxft.bench import rounds
from jaxft.bench.loop import Job, Loop, Setting
from jaxft.bench.ours import batches, trial_of
from jaxft.bench.rounds import Round
from jaxft.machine import cores
from jaxft.types import Split

TORCH = ("padded", "longest", "compiled", "ensemble")
TRIED = 4  # settings are tried for a quarter of a turn each
TRAINED = 40  # on so many batches, again and again


class Absent(Exception):
    """A peer that cannot be measured here, and why."""


class Peer:
    """A loop that takes its turns."""

    def __init__(self, name: str, loop: Loop, compile_seconds: float | None = None):
        """Finds how many steps take about as long as a turn.

        Args:
            name: of the row.
            loop: at its fastest setting.
            compile_seconds: what its first step took longer than its second.
        """
        self.name, self.loop, self.compile_seconds = name, loop, compile_seconds
        self.replicas = loop.setting.replicas
        self.settings: dict[str, Any] = {k: v for k, v in loop.setting._asdict().items() if k != "replicas"}
        self.memory: int | None = None
        self.rounds: list[Round] = []
        group = loop.job.group
        self._dev = [batch for split in group.task.evals.values() for batch in _evaluated(loop, split)]
        self._lengths = np.diff(np.asarray(group.task.train.offsets))
        loop.evaluate(self._dev)
        most = group.lengths[group.trials[0].id].total
        self.steps = rounds.steps(loop.job.seconds, trial_time(loop) * self.replicas, most)
        loop.free()

    def turn(self, number: int) -> Round:
        """The steps of the first of the trials that our slots train in this round, and an evaluation."""
        loop, group = self.loop, self.loop.job.group
        chosen = _chosen(loop, number, self.steps)
        cuda = loop.torch.cuda if loop.job.device == "cuda" else None
        before = cuda.memory_allocated() if cuda else 0
        if cuda:
            cuda.reset_peak_memory_stats()
        data = loop.batches(group.task.train, chosen)
        loop.train(data[:1])
        idle = rounds.quiet()
        loop.done()
        began = time.perf_counter()
        loop.train(data)
        loop.done()
        seconds = time.perf_counter() - began
        evaluation = self.rounds[0].evaluation if self.rounds else 0.0
        if not self.rounds:
            began = time.perf_counter()
            loop.evaluate(self._dev)
            evaluation = time.perf_counter() - began
        if cuda:
            # The other peers' models are there too.
            self.memory = max(self.memory or 0, loop.held() + cuda.max_memory_allocated() - before)
            loop.free()
        return Round(self.steps, seconds, evaluation, **rounds.counted(self._lengths, chosen), idle=idle)


def device(devices: Sequence) -> str:
    """Where torch has to run to be compared with jax on these devices.

    Raises:
        Absent: torch is not installed, or has no such device, or would use one of several.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports] (an extra)
    except ImportError:
        raise Absent("torch is not installed: pip install 'jaxft[bench]'") from None
    platform = devices[0].platform
    if platform == "cpu":
        return "cpu"
    if platform != "gpu" or not torch.cuda.is_available():
        raise Absent(f"torch {torch.__version__} has no {platform} here")
    if len(devices) > 1:
        raise Absent(f"torch would use one of {len(devices)} devices: compare with --pool.devices 1")
    return "cuda"


def fastest(job: Job, padding: str, replicas: Sequence[int] = (1,)) -> Loop:
    """The loop at the fastest setting, one thing changed after the other; a change that does not run is none.

    Args:
        job: what is trained.
        padding: of its batches.
        replicas: how many at once, to choose from; the first is what the rest is tried with.
    """
    on_cpu, bfloat16, all_cores = job.device == "cpu", job.train.precision == "bfloat16", cores()
    best = Setting(padding, all_cores if on_cpu else 1, autocast=bfloat16, replicas=replicas[0])
    loop = Loop(job, best)
    spent = trial_time(loop)
    for field, values in (
        ("threads", [2**i for i in range(all_cores.bit_length()) if 2**i < all_cores] if on_cpu else []),
        ("attention", ["eager"]),
        ("optimizer", ["foreach"]),
        ("autocast", [False] if bfloat16 and on_cpu else []),
        ("onednn", [True] if on_cpu and not bfloat16 else []),
        ("replicas", replicas[1:]),
    ):
        for value in values:
            try:
                other = Loop(job, best._replace(**{field: value}))
                took = trial_time(other)
                if other.setting.onednn and not other.exact():
                    continue
            except Exception:  # torch raises what it likes, of memory above all
                continue
            if took < spent:
                loop, spent, best = other, took, other.setting
    return loop


def ensemble(job: Job, most: int) -> Peer:
    """Several replicas at once by torch.func, 2, 4, ... up to `most`, whichever is fastest. One alone is `longest`.

    Raises:
        Absent: no two batches are sure to have as many examples.
    """
    if len({length.n_train for length in job.group.lengths.values()}) > 1:
        raise Absent("its replicas' batches would differ in size: the trials differ in task.n_train")
    loop = fastest(job, "longest", [2**i for i in range(1, max(2, most).bit_length())])
    return Peer(f"ensemble x{loop.setting.replicas}", loop)


def compiled(job: Job, settings: Sequence[Setting]) -> Peer:
    """The fastest of these settings once they are compiled.

    Raises:
        Absent: none compiles here.
    """
    found, failed = [], ""
    for setting in settings:
        try:
            loop = Loop(job, setting._replace(compiled=True))
            took = _warm(loop)
            found.append((trial_time(loop), took, loop))
        # torch.compile raises what it likes where no compiler is, or where it does not know an operation.
        except Exception as error:
            failed = f"torch.compile: {' '.join(str(error).split())[:200] or type(error).__name__}"
    if not found:
        raise Absent(failed)
    _, took, loop = min(found, key=lambda each: each[0])
    return Peer("compiled", loop, took)


def trial_time(loop: Loop) -> float:
    """Seconds of a step of one replica, from as many as a trial has time for, after two that warm up."""
    _warm(loop)
    data, count = _data(loop), 0
    began = time.perf_counter()
    while count < 2 or time.perf_counter() - began < loop.job.seconds / TRIED:
        loop.train([data[count % len(data)]])
        count += 1
        if count % 10 == 0:
            loop.done()
    loop.done()
    return (time.perf_counter() - began) / count / loop.setting.replicas


def _warm(loop: Loop) -> float:
    """Two steps, of two widths where batches have their own. Returns the seconds."""
    data = _data(loop)
    loop.done()
    began = time.perf_counter()
    loop.train(data[:2])
    loop.done()
    return time.perf_counter() - began


def _data(loop: Loop) -> list[dict[str, Any]]:
    group = loop.job.group
    return loop.batches(group.task.train, _chosen(loop, 0, min(TRAINED, group.lengths[group.trials[0].id].total)))


def _chosen(loop: Loop, number: int, steps: int) -> np.ndarray:
    """The examples of the trials that are trained in a round, [steps, B], or [steps, R, B] of R replicas."""
    group, replicas = loop.job.group, loop.setting.replicas
    each = [batches(group, trial_of(group, number, slot), steps) for slot in range(replicas)]
    return np.stack(each, axis=1) if replicas > 1 else each[0]


def _evaluated(loop: Loop, split: Split) -> list[dict[str, Any]]:
    """Evaluation batches; those that are padded to their longest hold examples of like lengths."""
    count = len(split.labels)
    chosen = np.arange(count)
    if loop.setting.padding == "longest":
        chosen = np.argsort(-np.diff(np.asarray(split.offsets)), kind="stable")
    return loop.batches(split, [chosen[i : i + loop.job.rows] for i in range(0, count, loop.job.rows)])
