"""Dodge et al.'s release schema: a run folder there and back, files of others, and every refusal."""

import json
import math
import pickle
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import endings
import numpy as np
import pandas as pd
import pytest
from endings import ended, study
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from jaxft import cli, release
from jaxft.errors import BadInput
from jaxft.folder import store
from jaxft.folder.store import Ended, Evaluation, Store
from jaxft.loop.record import Record
from jaxft.study import config
from jaxft.study.trials import Length, expand

NAN = math.nan


def made(folder: Path, asked: config.Study, ends: Iterable[Ended]) -> store.Run:
    """A run folder with these ends."""
    Store.open(folder, asked, {}, expand(asked)).append(list(ends))
    return store.load(folder)


@pytest.fixture
def run(tmp_path) -> store.Run:
    """3 x 2 trials, of which one diverged and one was stopped."""
    return store.load(endings.folder(tmp_path / "run", study(), dropped=(1, 4)))


def strict(path: Path) -> dict:
    """The file, which must be JSON to the letter."""

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def same(found: release.Release, run: store.Run, where: str = "trial == trial") -> None:
    """The file says exactly what the run folder says of these trials, on dev; what is not finite is NaN."""
    trials = run.trials.query(where)
    names = {row["trial"]: "{task}/{init_seed}/{order_seed}".format(**row) for row in trials.to_dict("records")}

    def check(got: pd.DataFrame, ours: pd.DataFrame, *keys: str) -> None:
        ours = ours.assign(trial=ours["trial"].map(names)).dropna(subset="trial")
        ours, got = (frame.sort_values(list(keys), ignore_index=True) for frame in (ours, got))
        pd.testing.assert_frame_equal(got, ours[list(got)], check_exact=True)

    check(found.trials, trials, "trial")
    evals = run.evals.query("split == 'dev'").replace([np.inf, -np.inf], NAN)
    assert {*found.evals} == {*evals} - {"epoch"}
    check(found.evals, evals, "trial", "step")
    kept = run.losses.assign(trial=run.losses["trial"].map(names)).set_index("trial")["train_loss"]
    assert {*found.losses["trial"]} == {*names.values()}
    for name, losses in found.losses.set_index("trial")["train_loss"].items():
        assert losses.dtype == np.float32
        np.testing.assert_array_equal(losses, np.where(np.isfinite(kept[name]), kept[name], np.float32(NAN)))


def test_a_run_folder_comes_back(run, tmp_path):
    assert release.write(run, tmp_path / "a.json") == 6
    found = release.read(tmp_path / "a.json", "accuracy")
    same(found, run)
    assert sorted(found.trials["status"]) == ["completed"] * 4 + ["diverged", "stopped"]


def test_the_file_has_the_schema(run, tmp_path):
    release.write([run], tmp_path / "a.json")
    data = strict(tmp_path / "a.json")
    assert [*data] == ["generated"]
    assert {init: [*orders] for init, orders in data["generated"].items()} == {init: ["1", "2"] for init in "123"}
    evals, losses = run.evals.set_index("trial"), run.losses.set_index("trial")["train_loss"]
    for row in run.trials.to_dict("records"):
        trial = data["generated"][str(row["init_seed"])][str(row["order_seed"])]
        during = trial.pop("train_loss")["during"]
        assert np.array(during, np.float32).tolist() == losses[row["trial"]].tolist()
        digits = [repr(loss).split("e")[0].replace(".", "").lstrip("0") for loss in during]
        assert max(map(len, digits)) <= 9, "more than float32 has"
        dropped = {name: trial.pop(name) for name in ("status", "reason", "steps") if name in trial}
        whole = row["status"] == "completed"
        assert dropped == ({} if whole else {name: row[name] for name in ("status", "reason", "steps")})
        assert [*trial] == ["loss", "accuracy", "f1"]
        for name, curve in trial.items():
            pairs = [] if row["status"] == "diverged" else evals.loc[row["trial"], ["step", name]].to_numpy().tolist()
            assert curve == {"before": None, "during": pairs, "after": pairs[-1][1] if pairs else None}


def observed(trial, *blocks: tuple[int, float, bool]) -> Ended:
    """What the engine's own record makes of blocks of four steps: (step, logits' share that is right, tried)."""
    labels = np.array([0, 1, 1, 0])
    one = Record(trial, 0, Length(16, 2, 4, 0, 8), "accuracy", ("accuracy", "f1"), {"dev": labels})
    for step, right, tried in blocks:
        logits = np.eye(2)[np.where(np.arange(4) < 4 * right, labels, 1 - labels)]
        losses = np.float32([0.1, 1e-30, 3e38, np.inf]) * np.float32(step + 1 if step < 8 else 0.3)
        one.observe(step, losses, {"dev": logits if right == right else np.full((4, 2), NAN)}, tried=tried)
    *_, (step, _, tried) = blocks
    ends = ("diverged", "non_finite_loss") if tried else ("completed", "") if step == 8 else ("stopped", "one_class")
    return one.ended(*ends, policy="", slots_per_device=1, device="cpu:0", precision="highest")


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_what_the_engine_records_comes_back(tmp_path):
    """A step that drops a trial has a loss and is not taken; logits that are not finite score NaN."""
    blocks = [
        [(4, 0.75, False), (8, 0.5, False)],
        [(4, NAN, False), (8, 0.25, False)],
        [(4, 0.5, False), (7, NAN, True)],
        [(0, NAN, True)],
        [(4, NAN, False)],
        [(4, 0.5, False), (8, 0.5, False)],
    ]
    ends = [observed(trial, *what) for trial, what in zip(expand(study()), blocks, strict=True)]
    assert [(end.steps, len(end.losses), end.best_step) for end in ends] == [
        (8, 8, 4), (8, 8, 8), (7, 8, 4), (0, 1, 0), (4, 4, 4), (8, 8, 4),
    ]  # fmt: skip
    run = made(tmp_path / "run", study(), ends)
    release.write(run, tmp_path / "a.json")
    same(release.read(tmp_path / "a.json", "accuracy"), run)


SCORES = st.one_of(st.just(NAN), st.floats(-1, 1))
CURVES = st.dictionaries(st.integers(1, 50), st.tuples(st.floats(), SCORES, SCORES), max_size=4)
LOSSES = st.lists(st.floats(width=32), max_size=60)
SEEDS = st.integers(0, 2**32 - 1)


def drawn_end(trial, curves, losses, dropped) -> Ended:
    """One whose last evaluation, if there is any, is at its last step; dropped, it may have a loss beyond that."""
    curve = {step: score for step, (_, score, _) in sorted(curves.items())}
    numbers = {step: score for step, score in curve.items() if score == score}
    last = max(curve, default=0 if dropped else len(losses))
    best = max(numbers, key=numbers.__getitem__, default=last if curve else 0)  # the first of equals
    return ended(trial, *(("stopped", "one_class") if dropped else ()))._replace(
        steps=last,
        losses=np.array(losses if dropped else losses[:last], np.float32),
        evaluations=[
            Evaluation(step, step / 5, "dev", loss, {"accuracy": score, "f1": other})
            for step, (loss, score, other) in curves.items()
        ],
        best_step=best,
        best_score=numbers.get(best, NAN),
        final_score=curve.get(last, NAN),
    )


@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    st.dictionaries(st.tuples(SEEDS, SEEDS), st.tuples(CURVES, LOSSES, st.booleans()), min_size=1, max_size=3),
)
def test_any_run_folder_comes_back(drawn):
    """Losses of any kind, curves with holes and in any order, seeds of any size."""
    rows = [{"init": init, "order": order} for init, order in drawn]
    asked = study(**{"seeds.rows": rows, "seeds.init": "1..4", "seeds.order": "1..4"})
    ends = [drawn_end(trial, *what) for trial, what in zip(expand(asked), drawn.values(), strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        run, path = made(Path(folder) / "run", asked, ends), Path(folder) / "a.json"
        release.write(run, path)
        strict(path)
        found = release.read(path, "accuracy")
        if run.evals.empty:  # and has no columns for metrics, while the file has one for that which scores
            assert found.evals.pop("accuracy").empty
        same(found, run)


def test_each_task_has_its_own_metrics_and_dev_alone_is_written(tmp_path):
    asked = study(sweep={"task.name": ["mrpc", "rte"]})

    def end(trial):
        names = ("f1", "accuracy") if trial.fixed["task.name"] == "mrpc" else ("accuracy",)
        rows = [Evaluation(8, 2.0, split, x, dict.fromkeys(names, x)) for split, x in (("dev", 0.25), ("test", 0.75))]
        return ended(trial)._replace(evaluations=rows, metric=names[0], best_step=8, best_score=0.25, final_score=0.25)

    run = made(tmp_path / "run", asked, map(end, expand(asked)))
    assert release.write(run, tmp_path / "a.json") == 12
    data = strict(tmp_path / "a.json")
    assert {task: [*data[task]["1"]["1"]] for task in data} == {
        "mrpc": ["train_loss", "loss", "f1", "accuracy"],
        "rte": ["train_loss", "loss", "accuracy"],
    }
    assert data["mrpc"]["3"]["2"]["f1"] == {"before": None, "during": [[8, 0.25]], "after": 0.25}
    same(release.read(tmp_path / "a.json", "f1"), run)
    same(release.read(tmp_path / "a.json", ["mcc_of_another", "f1"][1:]), run)


def test_several_folders_and_a_choice_among_settings(tmp_path):
    """A setting that varies between the folders, and in neither."""
    runs = [
        store.load(endings.folder(tmp_path / name, study(**{"train.lr": lr, "seeds.init": init})))
        for name, lr, init in (("a", 1e-5, "1..2"), ("b", 2e-5, "1..2"), ("c", 2e-5, "3..4"))
    ]
    path = tmp_path / "a.json"
    assert release.write([runs[2], runs[0]], path) == 8
    assert [*strict(path)["generated"]] == ["1", "2", "3", "4"]
    for where in ({"hp.train.lr": 1e-5}, {"hp.train.lr": "1e-5"}, {"hp.train.lr": "0.00001", "status": "completed"}):
        assert release.write(runs, path, where) == 4
        same(release.read(path, "accuracy"), runs[0])
    assert release.write(runs, path, {"hp.train.lr": 2e-5, "order_seed": 2, "hp.eval.every": None}) == 4
    trials = release.read(path, "f1").trials
    assert (*trials["init_seed"], *trials["order_seed"]) == (1, 2, 3, 4, 2, 2, 2, 2)


def test_a_text_that_looks_like_a_number_can_be_chosen(tmp_path):
    runs = [store.load(endings.folder(tmp_path / name, study(model=name))) for name in ("007", "7")]
    assert release.write(runs, tmp_path / "a.json", {"model": "007"}) == 6
    same(release.read(tmp_path / "a.json", "accuracy"), runs[0])


def clash(tmp_path, first: dict, second: dict) -> str:
    runs = [store.load(endings.folder(tmp_path / n, study(**x))) for n, x in (("a", first), ("b", second))]
    with pytest.raises(BadInput) as error:
        release.write(runs, tmp_path / "a.json")
    assert not (tmp_path / "a.json").exists()
    return str(error.value)


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"train.lr": 1e-5}, "hp.train.lr (2e-05, 1e-05); choose, such as --where hp.train.lr=2e-05"),
        ({"model": "a b"}, "model (embedded, a b); choose, such as --where model=embedded"),
        ({"task.n_train": 5}, "hp.task.n_train"),
        ({"seeds.data": 7}, "data_seed (0, 7); choose, such as --where data_seed=0"),
        (
            {"train.epochs": 9, "train.schedule": "cosine"},
            "hp.train.epochs (3, 9); hp.train.schedule (linear, cosine); choose, such as "
            "--where hp.train.epochs=3 --where hp.train.schedule=linear",
        ),
    ],
)
def test_what_the_schema_cannot_tell_apart_is_named(tmp_path, second, said):
    place = "generated, init 1, order 1: 2 trials, and the schema has room for one: they differ in "
    line = clash(tmp_path, {}, second)
    assert line.startswith(place)
    assert said in line


def test_the_same_trial_in_two_folders_is_refused(tmp_path):
    line = clash(tmp_path, {}, {"seeds.init": "3..4"})
    assert line == f"generated, init 3, order 1: {tmp_path}/a and {tmp_path}/b hold the same trial; give one of the two"


def test_what_cannot_be_written_leaves_the_file_as_it_was(run, tmp_path):
    path = tmp_path / "a.json"
    path.write_text("before")
    empty = made(tmp_path / "empty", study(), [])
    cases = [
        (empty, path, {}, f"{tmp_path}/empty: no trial is finished yet"),
        ([], path, {}, "no run folder: no trial is finished yet"),
        (run, path, {"hp.train.lr": 1}, "where hp.train.lr=1: no finished trial has that; found 2e-05"),
        (run, path, {"init_seed": 9}, "where init_seed=9: no finished trial has that; found 1, 2, 3"),
        (run, path, {"train.lr": 1}, "where train.lr: no such column; did you mean hp.train.lr?"),
        (run, tmp_path / "no" / "a.json", {}, f"{tmp_path}/no/a.json: cannot be written (No such file or directory)"),
        (run, tmp_path, {}, f"{tmp_path}: cannot be written (Is a directory)"),
        (run, "a\0b", {}, "cannot be written (embedded null byte)"),
        (run, "", {}, "cannot be written"),
    ]
    for runs, where_to, where, said in cases:
        with pytest.raises(BadInput) as error:
            release.write(runs, where_to, where)
        assert said in str(error.value)
        assert str(error.value).count("\n") == 0
        assert path.read_text() == "before"
    assert {file.name for file in tmp_path.iterdir()} == {"run", "empty", "a.json"}


PAPER = {
    "mrpc": {
        3: {
            7: {
                "train_loss": {"during": [0.7, 0.6, NAN, 0.5, 0.25]},
                "loss": {"before": 0.9, "during": [(0, 0.8), (2, 0.7), (4, 0.75)], "after": 0.65},
                "acc": {"before": 0.99, "during": [(4, 0.5), (0, 0.25), (2, NAN)], "after": 0.625},
                "seconds": 12.5,
                "arguments": {"lr": 2e-5},
            },
            12: {"train_loss": {"during": [0.5, 0.5]}, "acc": {"during": [(1, 0.75), (0, 0.5)]}, "loss": {"after": 1}},
        }
    },
    "cola": {0: {10**12: {"mcc": {"before": 0.5, "during": [], "after": None}, "train_loss": {}}}},
}
"""As the paper's pickle has it: numbers for seeds, pairs, evaluations from step 0, one before and one after."""


def test_a_file_as_others_make_it(tmp_path):
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(PAPER))
    found = release.read(str(path))
    trials = pd.DataFrame(
        [
            ("mrpc/3/7", "mrpc", 3, 7, "completed", "", 5, "acc", 0.625, 5, 0.625),
            ("mrpc/3/12", "mrpc", 3, 12, "completed", "", 2, "acc", 0.75, 1, 0.75),
            (f"cola/0/{10**12}", "cola", 0, 10**12, "completed", "", 0, "mcc", NAN, 0, NAN),
        ],
        columns=list(found.trials),
    )
    evals = pd.DataFrame(
        [
            ("mrpc/3/7", 0, "dev", 0.8, 0.25, NAN),
            ("mrpc/3/7", 2, "dev", 0.7, NAN, NAN),
            ("mrpc/3/7", 4, "dev", 0.75, 0.5, NAN),
            ("mrpc/3/7", 5, "dev", 0.65, 0.625, NAN),
            ("mrpc/3/12", 0, "dev", NAN, 0.5, NAN),
            ("mrpc/3/12", 1, "dev", NAN, 0.75, NAN),
            ("mrpc/3/12", 2, "dev", 1.0, NAN, NAN),
            (f"cola/0/{10**12}", 0, "dev", NAN, NAN, 0.5),
        ],
        columns=["trial", "step", "split", "loss", "acc", "mcc"],
    )
    pd.testing.assert_frame_equal(found.trials, trials)
    pd.testing.assert_frame_equal(found.evals, evals)
    losses = [one.tolist() for one in found.losses["train_loss"]]
    np.testing.assert_equal(losses, [np.float32([0.7, 0.6, NAN, 0.5, 0.25]).tolist(), [0.5, 0.5], []])


def test_a_pickle_is_refused_and_the_message_converts_it(tmp_path):
    """Also numpy's own numbers and arrays; whatever the file is called."""
    trial = {"train_loss": {"during": np.float32([0.5])}, "acc": {"during": [(np.int64(1), np.float32(0.75))]}}
    for name, protocol in (("a file.pkl", 0), ("b", 4), ("c.pickle", 2)):
        path = tmp_path / name
        path.write_bytes(pickle.dumps({"rte": {1: {2: trial}}}, protocol))
        with pytest.raises(BadInput, match="a pickle, which is not read, since reading one runs") as error:
            release.read(path)
        _, command = str(error.value).split("make JSON of it first: ")
        python, *words = shlex.split(command)
        assert python == "python"
        subprocess.run([sys.executable, *words], check=True)
        found = release.read(path.with_suffix(".json")).trials
        assert found[["trial", "best_score", "best_step"]].to_numpy().tolist() == [["rte/1/2", 0.75, 1]]
    path.unlink()
    with pytest.raises(BadInput, match=r"c\.pickle: a pickle"):
        release.read(path)


def changed(**parts: Any) -> dict:
    """A file of one trial, some of whose parts are others."""
    trial = {"train_loss": {"during": [0.5] * 4}, "acc": {"during": [[2, 0.5], [4, 0.75]]}}
    return {"mrpc": {"3": {"7": trial | parts}}}


def curve(pairs: Any) -> dict:
    return changed(acc={"during": pairs})


MRPC = "a.json: mrpc, init 3, order 7: "
BROKEN = {
    "not JSON": ("{", "a.json: not valid JSON: Expecting property name"),
    "empty": ("", "a.json: not valid JSON: Expecting value"),
    "a key twice": ('{"mrpc": {}, "mrpc": {}}', "a.json: not valid JSON: the key 'mrpc' is twice in one place"),
    "thousands of digits": ("1" * 5000, "a.json: not valid JSON: Exceeds the limit"),
    "nested too deeply": ("[" * 10**5, "a.json: nested too deeply"),
    "not UTF-8": (b'{"\xff": 1}', "a.json: not UTF-8 at byte 2"),
    "a list": ([1], "a.json: expected trials by task, init seed and order seed, found [1]"),
    "nothing": ({}, "a.json: no trial in it"),
    "no trial": ({"mrpc": {"1": {}}}, "a.json: no trial in it"),
    "a task that is a number": ({"mrpc": 1}, "a.json: mrpc: expected init seeds, found 1"),
    "a task that is no text": ({"\ud800": {}}, "a.json: a task: expected text, found '\\ud800'"),
    "a task of two lines": ({"a\nb": 1}, r"a.json: 'a\nb': expected init seeds, found 1"),
    "no task": (curve([])["mrpc"], "a.json: 3, init 7: expected order seeds, which are whole numbers, found 'train"),
    "an init of letters": ({"mrpc": {"x": {}}}, "a.json: mrpc: expected init seeds, which are whole numbers, found"),
    "a negative init": ({"mrpc": {"-1": {}}}, "which are whole numbers, found '-1'"),
    "a fractional order": ({"mrpc": {"1": {"2.0": {}}}}, "a.json: mrpc, init 1: expected order seeds"),
    "a seed of other digits": ({"mrpc": {"\u0663": {}}}, "expected init seeds, which are whole numbers"),
    "a seed that int64 cannot hold": ({"mrpc": {"1" * 19: {}}}, "expected init seeds, which are whole numbers"),
    "a seed twice": ({"mrpc": {"1": {}, "01": {}}}, "a.json: mrpc: init seed 1 is there twice"),
    "a trial that is a list": ({"mrpc": {"3": {"7": []}}}, MRPC + "expected curves by name, found []"),
    "no metric": ({"mrpc": {"3": {"7": {"loss": {}}}}}, "a.json: mrpc: no metric; expected one such as acc: "),
    "two metrics": (changed(f1={"after": 1}), "a.json: mrpc: several metrics, acc, f1: say which one scores"),
    "losses without during": (changed(train_loss=[0.5]), MRPC + "train_loss: expected during, found [0.5]"),
    "losses as text": (changed(train_loss={"during": "x"}), MRPC + "train_loss.during: expected the loss of each step"),
    "losses as pairs": (
        changed(train_loss={"during": [[0, 0.5]]}),
        MRPC + "train_loss.during: expected a number or null, found [0, 0.5]",
    ),
    "loss as a list": (changed(loss=[0.5]), MRPC + "loss: expected before, during and after, found [0.5]"),
    "loss as numbers": (changed(loss={"during": [0.5]}), MRPC + "loss.during: expected pairs [step, value], found 0.5"),
    "a number for pairs": (curve(0.5), MRPC + "acc.during: expected pairs [step, value], found 0.5"),
    "numbers for pairs": (curve([0.5, 0.6]), MRPC + "acc.during: expected pairs [step, value], found 0.5"),
    "a triple": (curve([[1, 2, 3]]), MRPC + "acc.during: expected pairs [step, value], found [1, 2, 3]"),
    "a step as text": (curve([["1", 2]]), MRPC + "acc.during: expected pairs [step, value] with whole"),
    "a fractional step": (curve([[0.5, 2]]), "with whole steps, found 0.5"),
    "a negative step": (curve([[-1, 2]]), "with whole steps, found -1"),
    "an infinite step": (curve([[math.inf, 2]]), "with whole steps, found inf"),
    "a step that is NaN": (curve([[NAN, 2]]), "with whole steps, found nan"),
    "a huge step": (curve([[2**53, 2]]), f"with whole steps, found {2**53}"),
    "a step that is true": (curve([[True, 2]]), "with whole steps, found True"),
    "a step twice": (curve([[1, 0.5], [1.0, 0.5]]), MRPC + "acc.during: step 1 is there twice"),
    "a value as text": (curve([[1, "x"]]), MRPC + "acc.during: expected a number or null, found 'x'"),
    "a value that is true": (curve([[1, True]]), MRPC + "acc.during: expected a number or null, found True"),
    "a value beyond float64": (curve([[1, 10**400]]), MRPC + "acc.during: expected a number or null, found 1000"),
    "before as text": (changed(acc={"before": "x"}), MRPC + "acc.before: expected a number or null, found 'x'"),
    "after as pairs": (changed(acc={"after": [[1, 2]]}), MRPC + "acc.after: expected a number or null, found [[1, 2]]"),
    "a metric called step": (changed(step={"after": 1}), MRPC + "step: not a name for a metric"),
    "a status that is a number": (changed(status=1), MRPC + "status: expected text, found 1"),
    "a reason that is null": (changed(reason=None), MRPC + "reason: expected text, found None"),
    "steps as text": (changed(status="stopped", steps="x"), MRPC + "steps: expected a number of steps, found 'x'"),
    "too few steps": (changed(status="stopped", steps=3), MRPC + "steps: 3, but there is an evaluation at step 4"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_in_one_line_with_the_place(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    content, said = BROKEN[name]
    content = content if isinstance(content, str | bytes) else json.dumps(content)
    Path("a.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadInput) as error:
        release.read("a.json")
    line = str(error.value)
    assert said in line
    assert line.isprintable()
    assert len(line) < 200


@pytest.mark.parametrize("path", ["missing.json", ".", "", "a\0b", "x" * 300])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"cannot be read \(.*\); expected trials by task, init seed and order seed"):
        release.read(path)


def test_the_metric_that_scores(tmp_path):
    path = tmp_path / "a.json"
    two = {"acc": {"during": [[1, 0.5], [2, 0.75]]}, "f1": {"during": [[1, 1.0], [2, 0.0]]}}
    mrpc = {"0": {"0": two, "1": {"f1": {}, "acc": {"after": 1}}}}
    path.write_text(json.dumps({"mrpc": mrpc, "cola": {"0": {"0": {"mcc": {"after": 0.5}}}}}))
    for metric, expected in (
        ("acc", [("acc", 0.75, 2, 0.75), ("acc", 1.0, 0, 1.0), ("mcc", 0.5, 0, 0.5)]),
        (["mcc", "f1"], [("f1", 1.0, 1, 0.0), ("f1", NAN, 0, NAN), ("mcc", 0.5, 0, 0.5)]),
    ):
        found = release.read(path, metric).trials[["metric", "best_score", "best_step", "final_score"]]
        np.testing.assert_equal([tuple(row) for row in found.to_numpy()], expected)
    for metric, said in (
        (None, "mrpc: several metrics, acc, f1: say which"),
        ("mcc", "mrpc: several metrics, acc, f1: say which"),
        ("loss", "no metric 'loss' in it; found acc, f1, mcc"),
        (["f1", "accuracy"], "no metric 'accuracy' in it; found acc, f1, mcc"),
    ):
        with pytest.raises(BadInput, match=said):
            release.read(path, metric)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Three run folders; `swept` has the trials of `a` among its own."""
    folder = tmp_path_factory.mktemp("place")
    endings.folder(folder / "a", study())
    endings.folder(folder / "b", study(**{"seeds.init": "4..5"}))
    endings.folder(folder / "swept", study(sweep={"train.lr": [1e-5, 2e-5]}))
    return folder


@pytest.mark.parametrize(
    ("words", "trials"),
    [
        (["a", "--json", "x.json"], 6),
        (["--json=x.json", "a", "b"], 10),
        (["swept", "--where", "hp.train.lr=1e-5", "--json", "x.json", "--where=order_seed=2"], 3),
    ],
)
def test_the_command_writes_the_file(here, capsys, words, trials):
    assert cli.main(["export", *words]) == cli.DONE
    assert capsys.readouterr() == (f"x.json: {trials} trials\n", "")
    assert len(release.read("x.json", "accuracy").trials) == trials


EXAMPLE = (
    "export: expected run folders and one file, such as jaxft export runs/mrpc --json mrpc.json; or --best 1 "
    "--out model"
)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], EXAMPLE),
        (["a"], EXAMPLE),
        (["--json", "x.json"], EXAMPLE),
        (["a", "--json", "x.json", "--json", "y.json"], EXAMPLE),
        (["a", "--json"], "export: --json: a value is missing"),
        (["a", "--json", "--where", "x=1"], "export: --json: a value is missing"),
        (["a", "--jsn", "x.json"], "export: unknown option '--jsn'; did you mean --json?"),
        (["a", "-j", "x.json"], "export: unknown option '-j'; "),
        (["a", "--json", "x.json", "--where", "lr"], "expected COLUMN=VALUE, such as hp.train.lr=2e-5, found 'lr'"),
        (["a", "--json", "x.json", "--where", "=1"], "expected COLUMN=VALUE, such as hp.train.lr=2e-5, found '=1'"),
        (["a", "--json", "x.json", "--where", "x=1", "--where", "x=2"], "such as hp.train.lr=2e-5, found x twice"),
        (["a", "--json", "x.json", "--where", "hp.lr=1"], "where hp.lr: no such column; did you mean hp.train.lr?"),
        (["a", "--json", "x.json", "--where", "hp.train.lr=1"], "no finished trial has that; found 2e-05"),
        (["swept", "--json", "x.json"], "they differ in hp.train.lr (1e-05, 2e-05); choose, such as --where hp.train."),
        (["a", "swept", "--json", "x.json", "--where", "init_seed=1"], "generated, init 1, order 1: 3 trials"),
        (["a", "./a", "--json", "x.json"], "a and a hold the same trial; give one of the two"),
        (["missing", "--json", "x.json"], "missing: not a run folder"),
        (["a", "--json", "no/x.json"], "no/x.json: cannot be written (No such file or directory); give another file"),
        (["a", "--json", "b"], "b: cannot be written (Is a directory); give another file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(here, capsys, words, said):
    assert cli.main(["export", *words]) == cli.BAD_INPUT
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("jaxft: ")
    assert err.count("\n") == 1
    assert said in err
    assert {path.name for path in here.iterdir()} == {"a", "b", "swept"}


def test_help_says_what_export_takes(capsys):
    assert cli.main(["export", "--help"]) == cli.DONE
    text = capsys.readouterr().out
    assert text.startswith("usage: jaxft export RUN --trial ID ")
    assert "jaxft export RUN [RUN ...] --json FILE [--where COLUMN=VALUE ...]\n" in text
    assert max(map(len, text.splitlines())) <= 110
    assert cli.main(["--help"]) == cli.DONE
    assert "  export " in capsys.readouterr().out


def test_an_interruption_says_how_to_go_on(here, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(release, "write", interrupted)
    assert cli.main(["export", "a", "--json", "an x.json"]) == cli.STOPPED
    assert capsys.readouterr().err == "jaxft: stopped; again with: jaxft export a --json 'an x.json'\n"


def test_jax_is_not_loaded(here):
    seen = "{'jax', 'flax', 'torch'} & {*sys.modules}"
    code = f"import sys; from jaxft.cli import main; print(main(sys.argv[1:]), {seen})"
    words = [sys.executable, "-c", code, "export", "a", "--json", "x.json"]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    assert found.stdout == "x.json: 6 trials\n0 set()\n"
