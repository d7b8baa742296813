"""Kills between any two writes, files that are not what they were, folders that cannot be written."""

import errno
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import endings
import pandas as pd
import pytest
from endings import ended, study, task

from jaxft.errors import BadInput
from jaxft.folder.store import DATA_SETS, Store, load
from jaxft.study.trials import expand


class Killed(BaseException):
    pass


@pytest.fixture
def calls(monkeypatch):
    """Lets `os.replace` or `os.fsync` raise at the k-th call: calls(name, k, error)."""

    def at(name, k, error):
        real, count = getattr(os, name), iter(range(1, 10**6))

        def call(*args):
            if next(count) == k:
                raise error
            return real(*args)

        monkeypatch.setattr(os, name, call)

    yield at
    monkeypatch.undo()


def read_all(folder: Path) -> None:
    run = load(folder)
    assert len(run.losses) + len(run.predictions) >= 0


def whole(folder: Path, finished: set[str]) -> None:
    """Every data set, as pandas sees it, has these trials' rows once, and nothing is left over."""
    for kind, rows in {"trials": 1, "evals": 2, "losses": 1, "predictions": 2}.items():
        files = {path.name for path in (folder / kind).iterdir()}
        assert files == {path.name for path in (folder / "trials").iterdir()}
        found = pd.read_parquet(folder / kind).trial.value_counts() if files else {}
        assert dict(found) == dict.fromkeys(finished, rows)


@pytest.mark.parametrize("moment", [("replace", k) for k in range(1, 5)] + [("fsync", k) for k in range(1, 9)], ids=str)
@pytest.mark.parametrize("earlier", [0, 2])
def test_a_kill_at_any_moment_of_a_flush_leaves_all_of_it_or_nothing(tmp_path, calls, monkeypatch, moment, earlier):
    trials = expand(study())
    store = Store.open(tmp_path, study(), {}, trials)
    before = {trial.id for trial in trials[:earlier]}
    if earlier:
        store.append([ended(trial) for trial in trials[:earlier]])
    calls(*moment, Killed())
    with pytest.raises(Killed):
        store.append([ended(trial) for trial in trials[2:4]])
    monkeypatch.undo()

    seen = load(tmp_path)  # as a reader meets it, before anybody has tidied up
    done = Store.finished(tmp_path)
    assert set(seen.trials.trial) == set(seen.evals.trial) == set(seen.losses.trial) == done
    assert done in (before, before | {trial.id for trial in trials[2:4]})
    assert (done == before) == (moment != ("fsync", 8))  # only after the last rename is the flush whole

    store = Store.open(tmp_path, study(), {}, trials)
    whole(tmp_path, done)
    store.append([ended(trial) for trial in trials if trial.id not in done])
    whole(tmp_path, {trial.id for trial in trials})


@pytest.mark.parametrize("k", range(1, 6))
def test_a_kill_while_the_folder_is_made_or_extended_can_be_resumed(tmp_path, calls, monkeypatch, k):
    place = tmp_path / "run"
    many = study(sweep={"train.lr": [2e-5, 1e-4]})
    for asked in (study(), many):
        calls("replace", k, Killed())
        with suppress(Killed):
            Store.open(place, asked, {"a": {"width": 48}}, expand(asked))
        monkeypatch.undo()
        store = Store.open(place, asked, {}, expand(asked))
        store.examples(task())
        store.append([ended(trial) for trial in expand(asked) if trial.id not in store.done])
    found = pd.read_parquet(place / "trials").set_index("trial")
    assert found["hp.train.lr"].to_dict() == {trial.id: trial.hp["train.lr"] for trial in expand(many)}
    assert load(place).study == many


def test_a_failed_flush_may_be_tried_again(tmp_path, calls, monkeypatch):
    trials = expand(study())
    store = Store.open(tmp_path, study(), {}, trials)
    store.append([ended(trials[0])])
    calls("replace", 3, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(BadInput, match=r"cannot be written .No space left on device.; finished trials are kept") as bad:
        store.append([ended(trials[1])])
    assert "\n" not in str(bad.value)
    monkeypatch.undo()
    assert not list(tmp_path.glob("*/.*"))  # nothing half-written takes up space
    store.append([ended(trials[1], "diverged", "non_finite_loss")])  # without evals: no twin for what was left
    found = load(tmp_path)
    assert set(found.trials.trial) == {trials[0].id, trials[1].id}
    assert set(found.evals.trial) == {trials[0].id}


@pytest.mark.parametrize("moment", [("replace", k) for k in range(1, 5)] + [("fsync", k) for k in range(1, 9)], ids=str)
def test_a_full_disk_at_any_moment_of_a_flush_loses_nothing(tmp_path, calls, monkeypatch, moment):
    trials = expand(study())
    store = Store.open(tmp_path, study(), {}, trials)
    store.append([ended(trials[0])])
    calls(*moment, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(BadInput, match=r"cannot be written .No space left on device.; finished trials are kept") as bad:
        store.append([ended(trial) for trial in trials[1:3]])
    assert "\n" not in str(bad.value)
    monkeypatch.undo()
    whole(tmp_path, {trials[0].id})
    store.append([ended(trial) for trial in trials[1:3]])
    whole(tmp_path, {trial.id for trial in trials[:3]})
    assert load(tmp_path).trials.trial.to_list() == [trial.id for trial in trials[:3]]


@pytest.mark.parametrize("kind", DATA_SETS)
@pytest.mark.parametrize("damage", ["cut", "empty", "garbled", "text", "other"])
def test_a_damaged_file_is_named(tmp_path, kind, damage):
    endings.folder(tmp_path, study())
    path = tmp_path / kind / "000001.parquet"
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "empty":
        content = b""
    elif damage == "garbled":
        content[40] ^= 255  # within a page: without a checksum this may pass for another number
    elif damage == "text":
        content = b"trial,score\n1,2\n"
    else:
        content = (tmp_path / "examples").glob("*.parquet").__next__().read_bytes()
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"000001.parquet: cannot be read") as bad:
        read_all(tmp_path)
    assert "\n" not in str(bad.value)
    assert "remove every 000001.parquet below the run folder" in str(bad.value)

    # What the message says helps: the trial is missing, and nothing else is.
    for other in tmp_path.glob("*/000001.parquet"):
        other.unlink()
    store = Store.open(tmp_path, study(), {}, expand(study()))
    missing = [trial for trial in expand(study()) if trial.id not in store.done]
    assert len(missing) == 1
    store.append([ended(missing[0])])
    whole(tmp_path, {trial.id for trial in expand(study())})


@pytest.mark.parametrize("name", ["000009.parquet", "copy.parquet"])
def test_a_copied_file_is_found(tmp_path, name):
    endings.folder(tmp_path, study())
    path = tmp_path / "trials" / "000001.parquet"
    path.with_name(name).write_bytes(path.read_bytes())
    for read in (Store.finished, load):
        with pytest.raises(BadInput, match=rf"{name}: trial \w+ is in .*000001.parquet too"):
            read(tmp_path)


def test_another_study_is_refused_and_nothing_is_touched(tmp_path):
    endings.folder(tmp_path, study())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for other, said in [
        (study(**{"train.lr": 1e-3}), "holds another study: train.lr: 2e-05 in the run folder, 0.001 now"),
        (study(**{"task.max_length": 64, "model": "elsewhere"}), "model.*; task.max_length"),
        (study(**{"seeds.init": "2..4"}), r"2 of its trials are missing now \(the first: init 1, order 1\)"),
    ]:
        with pytest.raises(BadInput, match=said) as bad:
            Store.open(tmp_path, other, {}, expand(other))
        assert "\n" not in str(bad.value)
        assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(BadInput, match=r"not a run folder: it holds thesis.tex and no study.yaml"):
        Store.open(tmp_path, study(), {}, expand(study()))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(BadInput, match="cannot be written"):
        Store.open(tmp_path / "thesis.tex", study(), {}, expand(study()))
    with pytest.raises(BadInput, match=r"not a run folder, it has no study.yaml"):
        load(tmp_path)
    assert Store.finished(tmp_path / "nowhere") == set()


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "\xff"])
def test_unreadable_resolved_values_are_named(tmp_path, text):
    endings.folder(tmp_path, study())
    (tmp_path / "resolved.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput, match=r"resolved.yaml: (cannot be read|expected a mapping)") as bad:
        Store.peek(tmp_path)
    assert "\n" not in str(bad.value)


def test_a_read_only_folder_is_one_clear_line(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system", str(args[0]))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(BadInput, match=r"run: cannot be written .Read-only file system.") as bad:
        Store.open(tmp_path / "run", study(), {}, expand(study()))
    assert "\n" not in str(bad.value)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_has_become_read_only_can_still_be_read(tmp_path, monkeypatch, code):
    endings.folder(tmp_path, study())
    real = os.open

    def refuse(path, flags, *mode):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(code, os.strerror(code), str(path))
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BadInput, match=rf"cannot be written .{os.strerror(code)}.; finished trials are kept") as bad:
        Store.open(tmp_path, study(), {}, expand(study()))
    assert "\n" not in str(bad.value)
    assert len(load(tmp_path).trials) == 6
    assert Store.decided(tmp_path) == {}


def test_two_processes_do_not_write_to_one_folder(tmp_path):
    store = Store.open(tmp_path, study(), {}, expand(study()))
    code = """if True:
        import sys
        from jaxft.errors import BadInput
        from jaxft.study.config import load
        from jaxft.folder.store import Store
        from jaxft.study.trials import expand
        study = load(sys.argv[1] + "/study.yaml")
        try:
            Store.open(sys.argv[1], study, {}, expand(study))
        except BadInput as error:
            sys.exit(str(error))
    """
    command = [sys.executable, "-c", code, str(tmp_path)]
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "another process writes to it" in second.stderr
    del store
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode == 0
