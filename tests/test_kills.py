"""kill -9 and SIGTERM at any moment of a run of one process and of two: nothing lost, nothing twice, no bit changed.

JAXFT_SOAK_SEED draws other moments.
"""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import runs

from jaxft import cli
from jaxft.engine import processes
from jaxft.folder import store

SEED = int(os.environ.get("JAXFT_SOAK_SEED", "1"))
ALONE = processes.HEARTBEAT + 30
"""Seconds in which a process ends when another one is gone; the 30 are for two cores that others use too."""


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    return runs.study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def whole(study) -> Path:
    """What an uninterrupted run leaves, of one process on two devices."""
    out = study.with_name("whole")
    assert cli.main(["run", str(study), "--out", str(out), "--pool.devices", "2"]) == cli.DONE
    return out


def begun(study: Path, out: Path, processes: int) -> runs.Job:
    """A run on two devices in all."""
    return runs.start(study, out, processes=processes, devices=2 // processes)


def stopped(job: runs.Job, process: int) -> None:
    """The process has said how to go on, and nothing of Python's or C++'s own."""
    said = job.said(process)
    assert "jaxft: stopped; go on with: jaxft run " in said.splitlines()[-1], said
    assert "Traceback" not in said
    assert "stack trace" not in said


def kept(out: Path) -> set[str]:
    return store.Store.finished(out) if (out / "study.yaml").exists() else set()


AIMS = ("compile", "block", "write", "checkpoint")


def moment(job: runs.Job, aim: str, draw: random.Random) -> None:
    """Waits for some moment in which the run may be at this; at a file that is being written, right then."""
    runs.until(lambda: ("compiling" if aim == "compile" else "compiled in") in job.said(), job)
    end = time.monotonic() + draw.uniform(0, 1)
    runs.until(lambda: time.monotonic() > end, job)
    if aim == "write":
        runs.until(lambda: list(job.out.glob("*/.*.parquet.tmp")) or halves(job.out), job)
    elif aim == "checkpoint":
        runs.until(lambda: list(job.out.glob("checkpoints/p*/*orbax*")), job)


def left(job: runs.Job) -> str:
    """At what the kill met it, by the log and by what lies about in the folder."""
    if "compiled in" not in job.said():
        return "compile"
    if list(job.out.glob("*/.*.parquet.tmp")) or halves(job.out):
        return "write"
    return "checkpoint" if list(job.out.glob("checkpoints/p*/*orbax*")) else "block"


def halves(out: Path) -> set[str]:
    """Files without their twin in trials/, which comes last."""
    names = ({path.name for path in (out / kind).glob("*.parquet")} for kind in ("predictions", "losses", "trials"))
    predictions, losses, trials = names
    return (predictions | losses) - trials


def kill(job: runs.Job, draw: random.Random) -> None:
    """kill -9 of one process; the others end by themselves, and say how to go on."""
    number = draw.randrange(len(job.processes))
    job.processes[number].kill()
    codes = job.wait(ALONE)
    for process, code in enumerate(codes):
        if process != number and code != cli.DONE:  # it was done, and the other about to end
            assert code == cli.STOPPED, job.said(process)
            stopped(job, process)


def soak(study: Path, whole: Path, folder: Path, processes: int, aims: list[str], draw: random.Random) -> Counter:
    """Kills runs at these, starts them again until they are done, and compares; begins anew as often as needed."""
    counts = Counter()
    aims = list(aims)
    while aims or counts["open"]:
        out = folder / str(counts["runs"])
        before = kept(out)
        job = begun(study, out, processes)
        try:
            counts["starts"] += 1
            if aims:
                moment(job, aims[0], draw)
            if job.alive() and aims:
                aims.pop(0)
                kill(job, draw)
                counts["kills"] += 1
                counts[f"at {left(job)}"] += 1
                counts["open"] = 1
                assert before <= kept(out), "finished trials are gone"
            else:
                assert job.wait(300) == [cli.DONE] * processes, job.said()
                counts["rows"] += runs.same(whole, out)
                assert not (out / "checkpoints").exists()
                counts["runs"] += 1
                counts["open"] = 0
        finally:
            job.kill()
    return counts


def test_one_process_is_stopped_and_killed_and_goes_on(study, whole, tmp_path, capsys):
    out = tmp_path / "0"
    for at, seconds in (("compiling", 60), ("first step", 60)):
        job = begun(study, out, 1)
        runs.until(lambda at=at, job=job: at in job.said(), job)
        job.processes[0].send_signal(signal.SIGTERM)
        assert job.wait(seconds) == [cli.STOPPED], job.said()
        stopped(job, 0)
    assert list(out.glob("checkpoints/p0/*/*.safetensors"))
    counts = soak(study, whole, tmp_path, 1, ["block", "write", "checkpoint"], random.Random(SEED))
    with capsys.disabled():
        print(f"\nseed {SEED}, one process: {dict(counts)}")
    assert counts["kills"] == 3


def test_two_processes_are_stopped_and_killed_and_go_on(study, whole, tmp_path, capsys):
    """A signal to one of them stops both between the same two blocks."""
    job = begun(study, tmp_path / "0", 2)
    runs.until(lambda: "first step" in job.said(), job)
    job.processes[1].send_signal(signal.SIGTERM)
    assert job.wait(60) == [cli.STOPPED] * 2, job.said()
    stopped(job, 0)
    stopped(job, 1)
    assert len({path.parent.name for path in (tmp_path / "0").glob("checkpoints/*/*/*.safetensors")}) == 1
    counts = soak(study, whole, tmp_path, 2, ["block"], random.Random(SEED))
    with capsys.disabled():
        print(f"\nseed {SEED}, two processes: {dict(counts)}")
    assert counts["kills"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_soak(study, whole, tmp_path, capsys, processes):
    """25 kills each."""
    draw = random.Random(SEED + processes)
    aims = draw.choices(AIMS, k=int(os.environ.get("JAXFT_SOAK_KILLS", "25")))
    counts = soak(study, whole, tmp_path, processes, aims, draw)
    with capsys.disabled():
        print(f"\nseed {SEED}, {processes} processes: {dict(counts)}; aimed at {dict(Counter(aims))}")
    assert counts["kills"] == len(aims)
