"""Trials in flight: set down and taken up again, bit for bit, whatever happened to their files."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import toys
from studies import Quiet, Until, rows, same_bits, study

from jaxft.engine import checkpoint
from jaxft.engine.checkpoint import Checkpoints, Parked, Unreadable
from jaxft.engine.recipe import Replica
from jaxft.errors import Note
from jaxft.folder import store
from jaxft.loop import train
from jaxft.loop.flight import Stopped


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Six trials of ten steps in five blocks, four at a time, so that two wait."""
    return toys.light(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """The study run from beginning to end."""
    watched = Quiet()
    path = train.run(study(base, tmp_path_factory.mktemp("whole")), progress=watched)
    assert watched.blocks == 10
    return path


def stopped(settings, block: int) -> Quiet:
    watched = Until(block)
    with pytest.raises(Stopped):
        train.run(settings, progress=watched)
    return watched


def trials(folder: Path) -> list[Path]:
    return sorted((folder / "run" / "checkpoints").rglob("*.safetensors"))


@pytest.mark.parametrize("blocks", [(4,), (5,), (7, 1, 1)])
def test_what_is_stopped_goes_on_bit_for_bit(base, whole, tmp_path, blocks):
    """Stops after so many blocks, each time; none is taken twice."""
    settings, taken = study(base, tmp_path), 0
    for block in blocks:
        taken += stopped(settings, block).taken
    last = Quiet()
    train.run(settings, progress=last)
    same_bits(tmp_path / "run", whole)
    assert taken + last.taken == 60
    assert not (tmp_path / "run" / "checkpoints").exists(), "nothing is in flight any more"
    assert set(rows(tmp_path / "run")["earlier"]) == {""}


def test_a_stop_in_a_groups_last_block_comes_before_the_next_program(base, tmp_path, monkeypatch):
    """Of two programs: the second, which may take minutes to compile, is not begun."""
    made, pooled = [], train.pooled
    monkeypatch.setattr(train, "pooled", lambda *args: made.append(1) or pooled(*args))
    seeds, sweep = {"init": 1, "order": 1}, {"train.batch_size": [4, 5]}
    settings = study(base, tmp_path, seeds=seeds, sweep=sweep)
    stopped(settings, 5)
    assert (len(made), len(rows(tmp_path / "run"))) == (1, 1)
    assert not trials(tmp_path)
    train.run(settings, progress=Quiet())
    assert len(rows(tmp_path / "run")) == 2


def test_fresh_starts_again(base, whole, tmp_path):
    settings = study(base, tmp_path)
    before = stopped(settings, 3).taken
    assert len(trials(tmp_path)) == 4
    last = Quiet()
    train.run(settings, progress=last, fresh=True)
    assert last.taken == 60 > 60 - before
    same_bits(tmp_path / "run", whole)


@pytest.mark.parametrize(("before", "after"), [((1, 8), (1, 2)), ((1, 2), (1, 8)), ((2, 2), (3, 1))])
def test_it_goes_on_anywhere(base, whole, tmp_path, before, after):
    """At another width and on another number of devices: the rows say so, and are the same but for rounding."""
    (slots, devices), (then, there) = before, after
    one = study(base, tmp_path, pool={"slots": slots, "devices": devices})
    flying = min(slots * devices, 6)
    stopped(one, 3)
    other = study(base, tmp_path, pool={"slots": then, "devices": there})
    stopped(other, 1)
    found = trials(tmp_path)
    assert len({path.name.split(".")[0] for path in found}) >= min(flying, 6), (
        "one that waits for a slot is still there"
    )
    last = Quiet()
    train.run(other, progress=last)
    run, reference = store.load(tmp_path / "run"), store.load(whole)
    moved = run.trials[run.trials["earlier"] != ""]
    assert set(moved["earlier"]) == {f"{slots} slots on each of {devices} devices (cpu) to step 6"}
    assert len(moved) == flying
    for name in ("losses", "predictions"):
        keys = ["trial"] if name == "losses" else ["trial", "split", "at"]
        a, b = (getattr(x, name).set_index(keys).sort_index().iloc[:, 0] for x in (run, reference))
        assert list(a.index) == list(b.index)
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-4)


def test_a_file_that_is_not_whole_lets_its_trial_start_again(base, whole, tmp_path):
    settings = study(base, tmp_path)
    stopped(settings, 3)
    harmed = trials(tmp_path)[0]
    harmed.write_bytes(harmed.read_bytes()[:-7])
    last = Quiet()
    with pytest.warns(Note, match=r"cannot go on from here .*; the trial starts again"):
        train.run(settings, progress=last)
    assert last.taken == 60 - 3 * 6, "three of the four went on from step 6"
    same_bits(tmp_path / "run", whole)


def test_a_checkpoint_that_was_not_finished_is_none(base, whole, tmp_path):
    settings = study(base, tmp_path)
    stopped(settings, 3)
    (at,) = (tmp_path / "run" / "checkpoints" / "p0").iterdir()
    at.rename(at.with_name(f"{at.name}.orbax-checkpoint-tmp"))
    last = Quiet()
    train.run(settings, progress=last)
    assert last.taken == 60
    same_bits(tmp_path / "run", whole)


def test_data_that_changed_before_a_trial_was_finished_start_it_again(base, tmp_path):
    data = tmp_path / "data"
    toys.sentences(data)
    task = {"path": str(data)}
    settings = study(base, tmp_path, task=task)
    stopped(settings, 1)
    lines = (data / "train.tsv").read_text().splitlines()
    (data / "train.tsv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    last = Quiet()
    with pytest.warns(Note, match="it was made with other data, another model or another program"):
        train.run(settings, progress=last)
    assert last.taken == 60


def test_what_cannot_be_written_stops_nothing(base, whole, tmp_path, monkeypatch):
    """A disk that is full for checkpoints: a Note, and the rows are there all the same."""

    def full(parked):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "written", full)
    with pytest.warns(Note, match=r"no checkpoint could be written \(.*No space left on device.*\); finished trials"):
        train.run(study(base, tmp_path, pool={"checkpoint_minutes": 1e-9}), progress=Quiet())
    same_bits(tmp_path / "run", whole)
    assert not trials(tmp_path)


def test_checkpoints_come_by_the_clock_and_only_the_last_stays(base, whole, tmp_path, monkeypatch):
    sizes = []

    class Watching(Quiet):
        def block(self, news):
            super().block(news)
            sizes.append(len({path.parent for path in trials(tmp_path)}))

    train.run(study(base, tmp_path, pool={"checkpoint_minutes": 1e-9}), progress=Watching())
    assert max(sizes) <= 2, "the one that is there, and the one being written"
    assert sum(sizes) >= 5
    same_bits(tmp_path / "run", whole)


def test_a_store_without_files_says_that_it_keeps_none(base, tmp_path):
    out = f"memory://{tmp_path.name}/run"
    with pytest.warns(Note, match="no checkpoints are kept here"):
        train.run(replace(study(base, tmp_path, seeds={"init": 1, "order": 1}), out=out), progress=Quiet())
    assert len(rows(out)) == 1


def test_a_trial_is_read_as_it_was_written(tmp_path):
    replica = Replica(*[np.arange(n, dtype=np.float32) for n in range(10)])
    one = Parked(replica._replace(step=np.int32(-3)), {"a": [1.5, float("nan")]}, {"losses": np.ones(2)})
    Checkpoints(str(tmp_path))._save(checkpoint._path(str(tmp_path)) / "checkpoints/p0/000001", {"x": one}, set())
    found = Checkpoints(str(tmp_path)).found()
    assert {name: here.step for name, here in found.items()} == {"x": -3}

    def same(again: Parked) -> bool:
        leaves = jax.tree.all(jax.tree.map(np.array_equal, again.replica, one.replica))
        return leaves and str(again.told) == str(one.told) and again.arrays["losses"].tolist() == [1, 1]

    assert same(checkpoint.read(found["x"].path, one.replica))
    whole = Path(found["x"].path).read_bytes()
    for number, place in enumerate(range(0, len(whole), 41)):
        torn = bytearray(whole)
        torn[place] ^= 1 << number % 8
        for content in (bytes(torn), whole[:place]):
            Path(found["x"].path).write_bytes(content)
            try:
                assert same(checkpoint.read(found["x"].path, one.replica)), "a blank of the header at most"
            except Unreadable:
                continue
    Path(found["x"].path).write_bytes(whole)
    with pytest.raises(Unreadable, match=r"status is float32 \[1\], expected int32 \[\]"):
        checkpoint.read(found["x"].path, one.replica._replace(status=np.int32(0)))


def one(step: int) -> Parked:
    return Parked(Replica(*[np.zeros(n, np.float32) for n in range(10)])._replace(step=np.int32(step)), {}, {})


def write(folder: Path, part: str, number: int, **trials: int) -> None:
    target = checkpoint._path(str(folder)) / "checkpoints" / part / f"{number:06d}"
    checkpoint._write(target, {name: one(step) for name, step in trials.items()})


def test_a_shard_leaves_to_the_others_what_they_look_for(tmp_path):
    """A whole run was stopped; its shards then take up each its own trials, whoever comes first."""
    write(tmp_path, "p0", 1, a=2, b=2)
    write(tmp_path, "2of3-p0", 1, c=2)
    first, second = (Checkpoints(str(tmp_path), shard) for shard in ((1, 2), (2, 2)))
    first.tidy({"a": first.found()["a"]})
    first.save({"a": one(4)})
    first.clear()
    assert {name: at.step for name, at in Checkpoints(str(tmp_path), (2, 2)).found().items()} == {
        "a": 2,
        "b": 2,
        "c": 2,
    }
    write(tmp_path, "1of2-p0", 3, a=6)
    assert second.found().keys() == {"a", "b", "c"}
    assert Checkpoints(str(tmp_path), (2, 2)).found()["a"].step == 2, "shard 1 may be at work"
    assert Checkpoints(str(tmp_path)).found()["a"].step == 6
    Checkpoints(str(tmp_path)).clear()
    assert not (tmp_path / "checkpoints").exists()


def test_the_newest_counts_not_the_furthest(tmp_path):
    """Which may be of a run that went on with other data, or whose file nobody could read."""
    write(tmp_path, "p1", 1, a=8)
    write(tmp_path, "p0", 2, a=4)
    (tmp_path / "checkpoints" / "note.txt").write_text("not ours")
    there = Checkpoints(str(tmp_path))
    assert (there.found()["a"].step, there.number) == (4, 2)
    there.tidy(there.found())
    assert [path.parent.parent.name for path in (tmp_path / "checkpoints").rglob("a.*")] == ["p0"]
