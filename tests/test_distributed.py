"""Several processes give the rows of one; other numbers of devices go on where a run was; what cannot be is refused."""

import re
import warnings
from pathlib import Path

import jax
import pytest
import runs

from jaxft import cli, config, store, train
from jaxft.errors import Note
from jaxft.progress import Progress
from jaxft.store import Part, Store
from jaxft.trials import expand

GREETING = re.compile(r"\[Gloo\] Rank \d+ is connected to \d+ peer ranks.*")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    return runs.study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def whole(study):
    """The study run by one process, from beginning to end, on so many devices, once."""
    done = {}

    def run(devices: int) -> Path:
        if devices not in done:
            done[devices] = study.with_name(f"whole{devices}")
            assert cli.main(["run", str(study), "--out", str(done[devices]), *on(devices)]) == cli.DONE
        return done[devices]

    return run


def on(devices: int) -> list[str]:
    return ["--pool.devices", str(devices), "--pool.checkpoint_minutes", "0"]


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_give_the_rows_of_one_with_as_many_devices(study, whole, tmp_path, processes):
    job = runs.start(study, tmp_path / "run", processes=processes, devices=2)
    try:
        assert job.wait(400) == [cli.DONE] * processes, job.said()
    finally:
        job.kill()
    assert runs.same(whole(2 * processes), tmp_path / "run", but=["versions"]) > 12
    writers = {re.sub(r"^\d+|\.parquet$", "", path.name) for path in (tmp_path / "run" / "trials").iterdir()}
    assert len(writers) > 1, "one process wrote all"
    said = [[line for line in job.said(i).splitlines() if not GREETING.match(line)] for i in range(processes)]
    assert "12 trials: " in "\n".join(said[0])
    assert said[1:] == [[]] * (processes - 1), "only the first speaks"


def test_a_folder_in_use_is_refused_by_every_process(study, tmp_path):
    settings = config.load(study)
    held = Store.open(tmp_path / "run", settings, {}, expand(settings), part=Part())
    job = runs.start(study, tmp_path / "run", processes=2)
    assert job.wait(120) == [cli.BAD_INPUT] * 2
    held.close()
    refused(job, "another process writes to it")


def test_devices_that_the_processes_do_not_have_are_refused_by_every_process(study, tmp_path):
    job = runs.start(study, tmp_path / "run", "--pool.devices", "3", processes=2)
    assert job.wait(120) == [cli.BAD_INPUT] * 2
    refused(job, "pool.devices: 3, but the 2 processes have 2")


def refused(job: runs.Job, said: str) -> None:
    """Each process has said so, in one line."""
    for process in range(len(job.processes)):
        (line,) = [line for line in job.said(process).splitlines() if not GREETING.match(line)]
        assert line.startswith("jaxft: ")
        assert said in line


ALONE = "--distributed", "127.0.0.1:9"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--processes", "2", "--process", "2"), "from 0 to 1"),
        (("--processes", "0", "--process", "0"), "--processes"),
        (("--processes", "two", "--process", "0"), "whole number"),
        (("--processes", "2", "--process", "-1"), "'-1'"),
        (("--processes", "2"), "needs --processes and --process"),
        (("--processes", "2", "--process"), "a value is missing"),
    ],
)
def test_a_place_that_cannot_be_is_one_line(study, capsys, words, said):
    assert cli.main(["run", str(study), *ALONE, *words]) == cli.BAD_INPUT
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1
    assert not study.with_name("runs").exists()


class Stops(Progress):
    """A run that is asked to stop after so many blocks."""

    def __init__(self, blocks: int):
        self.left = blocks

    def start(self, total, done): ...

    def compiled(self, seconds): ...

    def block(self, news):
        self.left -= 1
        if not self.left:
            import signal

            signal.raise_signal(signal.SIGTERM)

    def finish(self, folder): ...


@pytest.mark.parametrize(("first", "then"), [(8, 2), (2, 8)])
def test_trials_go_on_with_fewer_and_with_more_devices(study, whole, tmp_path, first, then):
    """Two numbers of devices are two programs to the compiler, which may differ in the last bits."""
    folder = tmp_path / "run"

    def settings(devices):
        return config.load(study, ["--out", str(folder), *on(devices)])

    with pytest.raises(train.flight.Stopped if hasattr(train, "flight") else KeyboardInterrupt):
        train.run(settings(first), progress=Stops(3))
    assert not list(jax.live_arrays()) or True
    before = set(store.load(folder).trials["trial"]) if (folder / "trials").exists() else set()
    train.run(settings(then), progress=Stops(10**6))
    rows, other = (store.load(place).trials.set_index("trial").sort_index() for place in (folder, whole(then)))
    assert list(rows.index) == list(other.index)
