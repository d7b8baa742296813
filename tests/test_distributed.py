"""Several processes give the rows of one; other numbers of devices go on where a run was; what cannot be is refused."""

import re
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
import runs

from jaxft import cli
from jaxft.errors import Note
from jaxft.folder import store
from jaxft.folder.store import Part, Store
from jaxft.loop import train
from jaxft.loop.flight import Stopped
from jaxft.study import config
from jaxft.study.trials import expand

GREETING = re.compile(r"\[Gloo\] Rank \d+ is connected to \d+ peer ranks.*")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    return runs.study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def whole(study):
    """The study run by one process, from beginning to end, on so many devices, once."""
    done = {}

    def run(devices: int, *words: str) -> Path:
        if (devices, words) not in done:
            done[devices, words] = out = study.with_name(f"whole{len(done)}")
            assert cli.main(["run", str(study), "--out", str(out), *on(devices), *words]) == cli.DONE
        return done[devices, words]

    return run


def on(devices: int) -> list[str]:
    return ["--pool.devices", str(devices), "--pool.checkpoint_minutes", "0"]


PROBED = "--eval.probe", "[{name: own, task: text, path: DATA}]"


@pytest.mark.parametrize(
    ("processes", "words"),
    [(2, (*PROBED, "--pool.tokens", "host")), (4, ("--policy", "successive_halving(first=0.2)"))],
)
def test_processes_give_the_rows_of_one_with_as_many_devices(study, whole, tmp_path, processes, words):
    """With a policy they rank alike, and a trial that waits goes on in a slot of the process that keeps it; with a
    probe each reads its own replicas; of tokens that stay on the host each brings those of its own slots.
    """
    words = tuple(word.replace("DATA", str(study.with_name("data"))) for word in words)
    job = runs.start(study, tmp_path / "run", *words, processes=processes, devices=2)
    try:
        assert job.wait(400) == [cli.DONE] * processes, job.said()
    finally:
        job.kill()
    assert runs.same(whole(2 * processes, *words), tmp_path / "run", but=["versions"]) > 12
    trials = store.load(tmp_path / "run").trials
    assert (trials["reason"] == "successive_halving").any() == ("--policy" in words)
    assert trials.get("probe.own", trials["final_score"] * np.nan).notna().any() == ("--eval.probe" in words)
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


class Stops:
    """Follows a run and asks it to stop after so many blocks."""

    def __init__(self, blocks: int):
        self.left = blocks

    def start(self, begun):
        self.done = begun.done

    def compiled(self, seconds):
        pass

    def block(self, news):
        self.left -= 1
        if not self.left:
            signal.raise_signal(signal.SIGTERM)

    def finish(self, folder):
        pass

    def stop(self):
        pass


@pytest.mark.parametrize(("first", "then"), [((8, 1), (2, 1)), ((2, 1), (8, 1)), ((2, 1), (2, 2))], ids=str)
def test_trials_go_on_at_another_width_and_their_rows_say_so(study, whole, tmp_path, first, then):
    """Widths are different programs to the compiler, so the last bits may differ; over 15 steps that is little."""
    folder = tmp_path / "run"

    def settings(width):
        return config.load(study, ["--out", str(folder), *on(width[0]), "--pool.slots", str(width[1])])

    with pytest.raises(Stopped):
        train.run(settings(first), progress=Stops(2 if first[0] == 8 else 6))
    before = set(store.load(folder).trials["trial"])
    going = {path.name.partition(".")[0] for path in folder.glob("checkpoints/p0/*/*.safetensors")}
    assert going
    assert before
    assert not going & before
    last = Stops(10**6)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", Note)
        train.run(settings(then), progress=last)
    assert [str(note.message).partition(":")[0] for note in notes] == ["pool.slots"] * (then[1] != first[1])
    assert last.done == len(before)
    rows, other = (store.load(place).trials.set_index("trial").sort_index() for place in (folder, whole(4)))
    said = f"{first[1]} slots on each of {first[0]} devices (cpu) to step "
    for name, earlier in rows["earlier"].items():
        assert re.fullmatch(re.escape(said) + r"\d+", earlier) if name in going else earlier == "", (name, earlier)
    assert set(rows["slots_per_device"][[*before]]) <= {first[1]}
    assert set(rows["slots_per_device"].drop([*before])) == {then[1]}
    for column in ("status", "reason", "steps", "best_step", "best_score", "final_score"):
        assert rows[column].equals(other[column]), column
    curves = [store.load(place).losses.set_index("trial")["train_loss"] for place in (folder, whole(4))]
    for name in rows.index[rows["status"] != "diverged"]:
        np.testing.assert_allclose(curves[0][name], curves[1][name], atol=1e-5, err_msg=name)
    assert not (folder / "checkpoints").exists()
