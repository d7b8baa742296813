"""Several writers of one run folder: parts that fit together, parts that do not, and what a dead one leaves."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager

import endings
import pandas as pd
import pytest
from endings import ended, study, task
from fsspec.implementations.memory import MemoryFileSystem

from jaxft.errors import BadInput, Note
from jaxft.folder import Folder, locks
from jaxft.folder.locks import Part
from jaxft.folder.store import DATA_SETS, Store, load
from jaxft.study.trials import expand, share

HOLD = """if True:
    import sys
    from jaxft.errors import BadInput
    from jaxft.folder.store import Store, Part
    from jaxft.study.trials import expand, read_shard
    from endings import study
    try:
        shard = read_shard(sys.argv[2]) if sys.argv[2] else None
        store = Store.open(sys.argv[1], study(), {"a": {"slots": 4}}, expand(study()), Part(shard))
    except BadInput as error:
        print(f"refused: {error}", flush=True)
    else:
        print("ready", flush=True)
        sys.stdin.read()
"""


@contextmanager
def processes(place, *shards: str):
    """Other processes, begun at the same moment, that want a part of the folder: [(what it says, itself)]."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    with ExitStack() as stack:
        others = []
        for shard in shards:
            command = [sys.executable, "-c", HOLD, str(place), shard]
            others.append(stack.enter_context(subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=env)))
            stack.callback(others[-1].kill)
        yield [(other.stdout.readline().strip(), other) for other in others]


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path) -> str:
    return str(tmp_path / "run") if request.param == "local" else f"memory://{uuid.uuid4().hex}/run"


@pytest.fixture
def remote() -> Folder:
    return Folder.at(f"memory://{uuid.uuid4().hex}/run")


STORES: list[Store] = []


def opened(place, shard=None, process=0, processes=1, **leaves) -> Store:
    STORES.append(Store.open(place, study(**leaves), {}, expand(study(**leaves)), Part(shard, process, processes)))
    return STORES[-1]


@pytest.fixture(autouse=True)
def _given_back():
    """No thread of a test lives on: fsspec's memory is one for all, and not for several threads."""
    yield
    while STORES:
        STORES.pop().close()
    assert not [thread for thread in threading.enumerate() if thread.name == "jaxft-lease"]


def lease(folder: Folder, name: str, *, age: float = 0.0, host: str = "elsewhere", pid: int = 7) -> None:
    content = {"who": f"host {host}", "host": host, "pid": pid, "token": "theirs", "time": time.time() - age}
    folder.write(name, json.dumps(content).encode())


def read_all(folder) -> None:
    run = load(folder)
    assert len(run.losses) + len(run.predictions)


def test_names_of_parts():
    parts = {
        Part(): "000012.parquet",
        Part((3, 8)): "000012-3of8.parquet",
        Part(None, 0, 2): "000012.parquet",
        Part(None, 1, 2): "000012-p1.parquet",
        Part((3, 8), 1, 2): "000012-3of8-p1.parquet",
    }
    for part, name in parts.items():
        assert part.flush(12) == name
        assert name == f"000012{locks.suffix(name)}.parquet"
    mine = {name for name in parts.values() if Part((3, 8)).may_remove(name)}
    assert mine == set(parts.values())
    assert not Part((2, 8)).may_remove("000012-3of8-p1.parquet")
    assert Part((2, 4)).may_remove("000012-3of8-p1.parquet")
    assert not Part().may_remove("thesis.parquet")


def test_shards_that_fit_together_fill_one_folder(place):
    trials = expand(study())
    stores = [opened(place, (number, 3)) for number in (1, 2, 3)]
    for number, store in enumerate(stores, start=1):
        store.resolve("a", {"slots": 4})
        store.examples(task())
        for trial in share(trials, (number, 3)):
            store.append([ended(trial)])
    run = load(place)
    assert sorted(run.trials.trial) == sorted(trial.id for trial in trials) == sorted(run.losses.trial)
    assert run.resolved == {"a": {"slots": 4}}
    assert len(run.evals) == 12
    assert len(run.predictions) == 12
    assert Folder.at(place).list("trials") == sorted(Part((i, 3)).flush(k) for i in (1, 2, 3) for k in (0, 1))
    for store in stores:
        store.close()
    assert opened(place).done == {trial.id for trial in trials}


def test_processes_write_under_their_own_names(place):
    trials = expand(study())
    first = opened(place, process=0, processes=2)
    first.resolve("a", {"slots": 4})
    before = Folder.at(place).list()
    second = opened(place, process=1, processes=2)
    second.resolve("a", {"slots": 4})
    second.examples(task())
    assert Folder.at(place).list() == before
    assert not Folder.at(place).list("examples")
    with pytest.raises(BadInput, match=r"a.slots is 4 there, but 8 now"):
        second.resolve("a", {"slots": 8})
    with pytest.raises(BadInput, match=r"a.slots is 4 there, but 8 now"):
        Store.open(place, study(), {"a": {"slots": 8}}, trials, Part(None, 1, 2))
    with pytest.raises(BadInput, match="another study"):
        opened(place, process=1, processes=2, **{"train.lr": 1.0})
    first.append([ended(trials[0])])
    second.append([ended(trials[1])])
    assert Folder.at(place).list("trials") == ["000000-p1.parquet", "000000.parquet"]
    assert Store.finished(place) == {trials[0].id, trials[1].id}
    first.close()
    again = opened(place, process=0, processes=2)
    again.append([ended(trials[2])])
    assert "000001.parquet" in Folder.at(place).list("trials")


def test_a_second_process_finds_no_study_before_the_first_has_opened(place):
    with pytest.raises(BadInput, match=r"cannot be read \(No such file or directory\)"):
        opened(place, process=1, processes=2)
    assert Folder.at(place).list() == []


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        ("", None, r"another process writes to it \(host .*, process \d+, since 20..-"),
        ("", (1, 2), r"another process writes to it \(host"),
        ("1/2", None, r"another process writes shard 1/2 of it \(host .*, process \d+"),
        ("1/2", (1, 2), r"another process writes shard 1/2 of it"),
        ("1/2", (3, 8), r"shards that run at the same time are of one number, not of 8 and 2"),
        ("1/2", (2, 2), None),
    ],
)
def test_locks(tmp_path, theirs, ours, said):
    with processes(tmp_path, theirs) as [(line, other)]:
        assert line == "ready"
        if said is None:
            opened(tmp_path, ours)
            return
        with pytest.raises(BadInput, match=said) as caught:
            opened(tmp_path, ours)
        assert "\n" not in str(caught.value)
        assert f"process {other.pid}," in str(caught.value)
        other.kill()
        other.wait()
        opened(tmp_path, ours)  # the lock went with its process


def test_a_live_shard_binds_the_others_before_any_trial_is_finished(tmp_path):
    with processes(tmp_path, "1/2") as [(line, _)]:
        assert line == "ready"
        with pytest.raises(BadInput, match=r"a.slots is 4 there, but 8 now"):
            Store.open(tmp_path, study(), {"a": {"slots": 8}}, expand(study()), Part((2, 2)))
        with pytest.raises(BadInput, match="holds another study"):
            opened(tmp_path, (2, 2), **{"train.lr": 1.0})
        assert opened(tmp_path, (2, 2)).resolved == {"a": {"slots": 4}}


def test_what_shards_decide_is_kept_together(place):
    first, second = opened(place, (1, 2)), opened(place, (2, 2))
    first.resolve("a", {"slots": 4})
    second.resolve("b", {"slots": 8})
    assert load(place).resolved == {"a": {"slots": 4}, "b": {"slots": 8}} == second.resolved
    with pytest.raises(BadInput, match=r"b.slots is 8 there, but 2 now"):
        first.resolve("b", {"slots": 2})


def test_one_waits_for_another_that_reads_and_writes(tmp_path):
    code = """if True:
        import sys, time
        from jaxft.folder import Folder
        from jaxft.folder.locks import alone
        folder = Folder.at(sys.argv[1])
        with alone(folder):
            print("in", flush=True)
            time.sleep(0.5)
            folder.write("written", b"")
    """
    command = [sys.executable, "-c", code, str(tmp_path)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=-1, text=True, env=env) as other:
        assert other.stdout.readline() == "in\n"
        with locks.alone(Folder.at(tmp_path)):
            assert (tmp_path / "written").exists()


def test_shards_that_start_at_the_same_moment(tmp_path):
    with processes(tmp_path, "1/4", "2/4", "3/4") as others:
        assert [line for line, _ in others] == ["ready"] * 3
    assert load(tmp_path).study == study()
    assert load(tmp_path).resolved == {"a": {"slots": 4}}


def test_of_several_runs_that_start_at_the_same_moment_one_goes_on(tmp_path):
    with processes(tmp_path, "", "", "1/2") as others:
        lines = sorted(line for line, _ in others)
        assert lines.count("ready") == 1
        winner = next(other.pid for line, other in others if line == "ready")
        refused = [line for line in lines if line != "ready"]
        assert all(line.startswith(f"refused: {tmp_path}: another process writes ") for line in refused)
        assert all(f"process {winner}, since 20" in line for line in refused)


def test_one_shard_removes_nothing_that_another_may_be_writing(place):
    trials = expand(study())
    opened(place, (1, 2)).append([ended(trials[0])])
    folder = Folder.at(place)
    whole = folder.read("trials/000000-1of2.parquet")
    kept = ["evals/000001-2of2.parquet", "losses/000001-2of2-p1.parquet", "evals/.000001-2of2.parquet.tmp"]
    left = ["evals/000001-1of2.parquet", "evals/000001.parquet", "evals/000001-3of8.parquet", "evals/000001-p1.parquet"]
    left += ["evals/000001-1of2-p1.parquet", "losses/.000001-1of2.parquet.tmp", "examples/.0a1b2c.parquet.tmp"]
    for name in kept + left:
        folder.write(name, whole)
    opened(place, (1, 2)).close()
    assert [name for name in kept + left if folder.exists(name)] == kept
    assert len(load(place).evals) == 2
    opened(place)
    assert [name for name in kept if folder.exists(name)] == []
    assert Store.finished(place) == {trials[0].id}


def test_a_trial_that_two_parts_finished_counts_once(place):
    """As after a lease that was lost: the first file by name is the one that counts, in every data set."""
    trials = expand(study())
    first, second = opened(place, (1, 2)), opened(place, (2, 2))
    first.append([ended(trials[0], score=0.25), ended(trials[1])])
    second.append([ended(trials[0], "diverged", "non_finite_loss"), ended(trials[2])])
    note = r"000000-2of2.parquet: 1 of its trials are in earlier files too, whose rows count"
    with pytest.warns(Note, match=note):
        run = load(place)
    assert run.trials.trial.to_list() == [trials[0].id, trials[1].id, trials[2].id]
    assert run.trials.best_score[0] == 0.25
    with pytest.warns(Note, match=note):
        assert run.losses.trial.to_list() == run.trials.trial.to_list()
    with pytest.warns(Note, match=note):
        assert not run.predictions.duplicated(["trial", "split", "at"]).any()
    assert not run.evals.duplicated(["trial", "step", "split"]).any()
    with pytest.warns(Note, match=note):
        assert Store.finished(place) == {trial.id for trial in trials[:3]}


@pytest.mark.parametrize(
    ("name", "ours", "said"),
    [
        (
            ".lease",
            None,
            r"another process writes to it \(host elsewhere; its lease memory://.*/.lease ends 10 minutes",
        ),
        (".lease", (1, 2), "another process writes to it"),
        (".lease-1of2", None, "another process writes shard 1/2 of it"),
        (".lease-1of2", (1, 2), "another process writes shard 1/2 of it"),
        (".lease-1of2", (3, 8), "shards that run at the same time are of one number"),
        (".lease-1of2", (2, 2), None),
    ],
)
def test_leases(remote, name, ours, said):
    lease(remote, name)
    if said is None:
        opened(remote, ours)
        return
    with pytest.raises(BadInput, match=said):
        opened(remote, ours)
    assert remote.list() == [name]
    lease(remote, name, age=locks.STALE + 60)
    with pytest.warns(Note, match=r"not renewed for 11 minutes \(host elsewhere\): its process is taken for dead"):
        store = opened(remote, ours)
    store.append([ended(expand(study())[0])])
    mine = f".lease{Part(ours).key}"
    assert [name for name in remote.list() if name.startswith(".")] == [mine]
    store.close()
    assert mine not in remote.list()


def test_a_lease_of_this_machine_ends_with_its_process(remote):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lease(remote, ".lease", host=socket.gethostname(), pid=gone.pid)
    opened(remote).append([ended(expand(study())[0])])
    lease(remote, ".lease", host=socket.gethostname(), pid=os.getppid())
    with pytest.raises(BadInput, match="another process writes to it"):
        opened(remote)


def test_a_lease_is_renewed_and_removed(remote, monkeypatch):
    monkeypatch.setattr(locks, "RENEWED", 0.01)
    store = opened(remote)
    before = json.loads(remote.read(".lease"))
    end = time.monotonic() + 20
    while json.loads(remote.read(".lease"))["time"] <= before["time"] and time.monotonic() < end:
        time.sleep(0.01)
    now = json.loads(remote.read(".lease"))
    assert now["time"] > before["time"]
    assert now | {"time": 0} == before | {"time": 0}
    store.close()
    assert ".lease" not in remote.list()


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_who_lost_its_lease_writes_nothing_more(remote, how):
    trials = expand(study())
    store = opened(remote)
    store.append([ended(trials[0])])
    if how == "replaced":
        lease(remote, ".lease")
    else:
        remote.remove(".lease")
    before = {kind: remote.list(kind) for kind in DATA_SETS}
    with pytest.raises(BadInput, match="another process has taken it from this one"):
        store.append([ended(trials[1])])
    assert before == {kind: remote.list(kind) for kind in DATA_SETS}
    store.close()
    assert remote.exists(".lease") == (how == "replaced")


def test_a_lease_that_is_none_is_named(remote):
    remote.write(".lease", b"{")
    with pytest.raises(BadInput, match=r"memory://.*/.lease: not a lease; remove it"):
        opened(remote)


def test_two_that_begin_at_the_same_moment_do_not_both_go_on(remote, monkeypatch):
    """The other's lease appears after we have looked, and before ours is there."""
    real = locks.take

    def late(folder, part):
        lease(folder, ".lease-1of2")
        return real(folder, part)

    monkeypatch.setattr(locks, "take", late)
    with pytest.raises(BadInput, match="another process writes shard 1/2 of it"):
        opened(remote)
    assert remote.list() == [".lease-1of2"]


@pytest.mark.parametrize("kind", DATA_SETS)
@pytest.mark.parametrize("content", [b"", b"PAR1", b"trial,score\n"])
def test_a_damaged_object_is_named(remote, kind, content):
    opened(remote, (2, 3)).append([ended(expand(study())[1])])
    remote.write(f"{kind}/000000-2of3.parquet", content)
    with pytest.raises(BadInput, match=rf"{remote}/{kind}/000000-2of3.parquet: cannot be read") as caught:
        read_all(remote)
    assert "\n" not in str(caught.value)
    assert "remove every 000000-2of3.parquet below the run folder" in str(caught.value)
    for data_set in DATA_SETS:
        remote.remove(f"{data_set}/000000-2of3.parquet")
    opened(remote, (2, 3)).append([ended(expand(study())[1])])
    assert len(load(remote).trials) == 1


@pytest.mark.parametrize("failing", range(1, 5))
def test_a_put_that_fails_leaves_nothing_that_counts(remote, monkeypatch, failing):
    """Also one that was there all the same, as after a lost answer."""
    first, second, *_ = expand(study())
    store = opened(remote)
    store.append([ended(first)])
    real, count = MemoryFileSystem.pipe_file, iter(range(1, 100))

    def put(self, path, value, **how):
        real(self, path, value, **how)
        if next(count) == failing:
            raise TimeoutError("no answer")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", put)
    with pytest.raises(BadInput, match=r"cannot be written \(no answer\); finished trials are kept"):
        store.append([ended(second)])
    assert Store.finished(remote) == {first.id}
    store.append([ended(second)])
    assert load(remote).trials.trial.to_list() == [first.id, second.id]
    assert remote.list("evals") == remote.list("trials") == ["000000.parquet", "000002.parquet"]


def test_trials_without_their_study_are_refused(place):
    endings.folder(place, study())
    folder = Folder.at(place)
    before = {kind: folder.list(kind) for kind in DATA_SETS}
    folder.remove("study.yaml")
    with pytest.raises(BadInput, match=r"not a run folder: it holds trials/000000.parquet and no study.yaml"):
        opened(place)
    with pytest.raises(BadInput, match=r"not a run folder, it has no study.yaml"):
        load(place)
    assert before == {kind: folder.list(kind) for kind in DATA_SETS}


def test_checkpoints_are_left_alone(place):
    folder = Folder.at(place)
    folder.make("checkpoints")
    folder.write("checkpoints/000012.parquet", b"theirs")
    opened(place)
    opened(place)
    assert folder.read("checkpoints/000012.parquet") == b"theirs"


def test_a_run_on_an_object_store_goes_on(remote):
    endings.folder(str(remote), study())
    many = study(**{"seeds.init": "1..4"}, sweep={"train.lr": [2e-5, 1e-4]})
    trials = expand(many)
    store = Store.open(str(remote), many, {}, trials)
    assert len(store.done) == 6
    store.append([ended(trial) for trial in trials if trial.id not in store.done])
    store.close()
    run = load(str(remote))
    assert run.folder == str(remote)
    assert run.study == many
    assert run.trials.set_index("trial")["hp.train.lr"].to_dict() == {t.id: t.hp["train.lr"] for t in trials}
    assert len(run.examples) == 6
    assert isinstance(run.losses, pd.DataFrame)
