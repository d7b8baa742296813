"""Every source of scores is read exactly, and whatever is none is refused in one line."""

import json
import shutil
from pathlib import Path

import endings
import numpy as np
import pandas as pd
import pytest
from endings import study

from jaxft import release
from jaxft.errors import BadInput
from jaxft.folder import store
from jaxft.stats.scores import Scores, read

HEAD = "init_seed,order_seed,score\n"
ROWS = "1,1,.5\n1,2,.6\n2,1,.7\n2,2,.8\n"


@pytest.fixture
def given(tmp_path):
    """Writes a file and reads it."""

    def made(text: str | bytes, name: str = "a.csv", metric: str | None = None) -> list[Scores]:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return read(tmp_path / name, metric)

    return made


def table(scores: Scores, *columns: str) -> list[list]:
    return scores.trials[list(columns or ("init_seed", "order_seed", "score"))].to_numpy().tolist()


def test_the_papers_matrices(dodge2020):
    for task, mean in (("mrpc", 0.8247), ("rte", 0.6260)):
        path = dodge2020 / f"digitized_best_val_{task}.csv"
        (found,) = read(str(path))
        want = pd.read_csv(path, index_col=0).to_numpy()
        pivot = found.trials.pivot(index="init_seed", columns="order_seed", values="score")
        np.testing.assert_array_equal(pivot, want)
        assert pivot.index.tolist() == pivot.columns.tolist() == list(range(1, 26))
        assert found.factors == ("init_seed", "order_seed") == found.places
        assert round(found.trials["score"].mean(), 4) == mean
        assert (found.task, found.name, found.setting) == (path.stem, str(path), {})


MATRIX = [[0.8, 0.7, 0.5], [0.6, 1.0, 0.25]]
BARE = "0.8,0.7,0.5\n0.6,1.0,0.25\n"


@pytest.mark.parametrize(
    "text",
    [
        BARE,
        BARE.replace(",", "\t"),
        BARE.replace(",", ";"),
        BARE.replace(",", " "),
        BARE.replace("\n", "\r\n"),
        "\ufeff" + BARE,
        "# made by hand\n\n" + BARE + "\n",
        "8e-1,7e-1,5e-1\n6e-1,1,2.5e-1\n",
        "do_1,do_2,do_3\n" + BARE,
        "1,2,3\n" + BARE,
        "a,0.8,0.7,0.5\nb,0.6,1.0,0.25\n",
        "1,0.8,0.7,0.5\n2,0.6,1.0,0.25\n",
        ",1,2,3\n1,0.8,0.7,0.5\n2,0.6,1.0,0.25\n",
        ",0,1,2\n0,0.8,0.7,0.5\n1,0.6,1.0,0.25\n",
        "init,first,second,third\nx,0.8,0.7,0.5\ny,0.6,1.0,0.25\n",
        '"wi","do 1","do 2","do 3"\n"1",0.8,0.7,0.5\n"2",0.6,1.0,0.25\n',
    ],
)
def test_matrices(given, text):
    (found,) = given(text)
    assert table(found) == [[i + 1, o + 1, MATRIX[i][o]] for i in range(2) for o in range(3)]
    assert found.factors == found.places == ("init_seed", "order_seed")
    assert found.evals.empty
    assert {"trial", "step", "score", "loss"} <= {*found.evals}
    assert set(found.trials["status"]) == {"completed"}
    assert found.trials["trial"].is_unique


def test_names_that_are_seeds_are_kept(given):
    (found,) = given("init,11,12\n5,0.8,0.7\n9,0.6,0.5\n")
    assert table(found) == [[5, 11, 0.8], [5, 12, 0.7], [9, 11, 0.6], [9, 12, 0.5]]
    assert found.places == ()


def test_whole_numbers_may_be_scores(given):
    assert table(given("85,86\n87,88\n")[0]) == [[1, 1, 85], [1, 2, 86], [2, 1, 87], [2, 2, 88]]
    assert table(given(",1,2\n1,85,86\n2,87,88\n")[0]) == [[1, 1, 85], [1, 2, 86], [2, 1, 87], [2, 2, 88]]
    assert table(given("0.8\n0.7\n")[0]) == [[1, 1, 0.8], [2, 1, 0.7]]


def test_trials_with_tasks_settings_and_factors(given):
    rows = [
        f"{task},{lr},{init},{order},{order},{data},{score / 100},{score / 200},m_{task}"
        for score, (task, lr, init, order, data) in enumerate(
            (t, lr, i, o, d)
            for t in ("rte", "mrpc")
            for lr in (1e-5, 2e-5)
            for i in (1, 2)
            for o in (1, 2)
            for d in (3, 4)
        )
    ]
    found = given("task,lr,init_seed,order_seed,dropout_seed,data_seed,score,final_score,metric\n" + "\n".join(rows))
    assert [(s.task, s.metric, s.setting) for s in found] == [
        (task, f"m_{task}", {"lr": lr}) for task in ("rte", "mrpc") for lr in (1e-5, 2e-5)
    ]
    assert [s.name.rpartition("/")[2] for s in found][:2] == ["a.csv, task rte, lr 1e-05", "a.csv, task rte, lr 2e-05"]
    for at, scores in enumerate(found):
        assert scores.factors == ("init_seed", "order_seed", "data_seed")  # dropout follows order
        assert scores.trials["score"].tolist() == [(8 * at + k) / 100 for k in range(8)]
        assert scores.trials["final_score"].tolist() == [(8 * at + k) / 200 for k in range(8)]


def test_columns_in_any_order_and_other_settings(given):
    (found,) = given("score, order_seed ,init_seed,method\n0.5,1,7.0,a\n0.6,2,7,a\n")
    assert table(found) == [[7, 1, 0.5], [7, 2, 0.6]]
    assert found.factors == ("order_seed",)
    assert found.setting == {}
    (found,) = given("init_seed,order_seed,accuracy\n1,1,.5\n1,2,.6\n", metric="accuracy")
    assert (found.metric, table(found)) == ("accuracy", [[1, 1, 0.5], [1, 2, 0.6]])
    assert [s.metric for s in given("metric," + HEAD + "f1,1,1,.5\nf1,2,1,.7\nacc,1,1,.6\n", metric="f1")] == ["f1"]


def test_rows_with_steps_are_curves(given):
    rows = "t1,1,1,20,.4,2.0\nt1,1,1,10,.5,1.0\nt2,1,2,10,.3,1.0\nt2,1,2,20,.6,2.0\n"
    (found,) = given("trial,init_seed,order_seed,step,score,epoch\n" + rows)
    assert table(found, "trial", "score", "final_score", "steps") == [["t1", 0.5, 0.4, 20], ["t2", 0.6, 0.6, 20]]
    assert found.evals[["trial", "step", "epoch", "score"]].to_numpy().tolist() == [
        ["t1", 10, 1.0, 0.5], ["t1", 20, 2.0, 0.4], ["t2", 10, 1.0, 0.3], ["t2", 20, 2.0, 0.6]
    ]  # fmt: skip


def test_a_trial_that_did_not_end_well_may_lack_a_score(given):
    (found,) = given("init_seed,order_seed,score,status,reason\n1,1,,diverged,non_finite_loss\n1,2,.6,completed,\n")
    assert np.isnan(found.trials["score"]).tolist() == [True, False]
    assert table(found, "status", "reason") == [["diverged", "non_finite_loss"], ["completed", ""]]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A run folder of two rates, 3 x 2 seeds each; of the first rate's one diverged and one was stopped."""
    folder = tmp_path_factory.mktemp("stats") / "place"
    endings.folder(folder / "run", study(sweep={"train.lr": [1e-5, 2e-5]}), dropped=(1, 4))
    return folder


def test_run_folders(here):
    found = read("run")
    run = store.load("run")
    assert [s.name for s in found] == ["run, hp.train.lr 1e-05", "run, hp.train.lr 2e-05"]
    for scores in found:
        assert (scores.task, scores.metric, scores.factors) == ("generated", "accuracy", ("init_seed", "order_seed"))
        assert table(scores, "init_seed", "order_seed") == [[i, o] for i in (1, 2, 3) for o in (1, 2)]
        for row in scores.trials.to_dict("records"):
            own = run.trials.set_index("trial").loc[row["trial"]]
            assert own["hp.train.lr"] == scores.setting["hp.train.lr"]
            np.testing.assert_equal([row["score"], row["final_score"]], [own["best_score"], own["final_score"]])
            curve = run.evals[(run.evals["trial"] == row["trial"]) & (run.evals["split"] == "dev")].sort_values("step")
            mine = scores.evals[scores.evals["trial"] == row["trial"]]
            np.testing.assert_array_equal(mine["score"], curve["accuracy"])
            np.testing.assert_array_equal(mine[["step", "epoch", "loss"]], curve[["step", "epoch", "loss"]])
        assert scores.run is not None
        assert len(scores.run.losses) == 12
    assert found[0].trials["status"].tolist().count("completed") == 4
    assert np.isnan(found[0].trials["score"]).sum() == 1


def test_a_run_without_any_evaluation(tmp_path):
    endings.folder(tmp_path / "run", study(**{"seeds.init": 1}), dropped=(0, 2))
    for file in (tmp_path / "run" / "trials").glob("000001*"):
        file.unlink()  # the one that was evaluated
    (found,) = read(tmp_path / "run")
    assert found.trials["status"].tolist() == ["diverged"]
    assert (found.factors, len(found.evals)) == ((), 0)


def test_another_metric_of_a_run_folder(here):
    for scores in read("run", "f1"):
        assert scores.metric == "f1"
        best = scores.evals.groupby("trial")["score"].max()
        np.testing.assert_array_equal(scores.trials["score"], best.reindex(scores.trials["trial"]))
    with pytest.raises(BadInput, match="no metric 'mcc' in it; found accuracy, f1"):
        read("run", "mcc")


def test_the_release_schema_and_its_before(here):
    release.write(store.load("run"), "a.json", where={"hp.train.lr": 2e-5})
    (found,) = read("a.json", "accuracy")
    (want,) = (s for s in read("run") if s.setting["hp.train.lr"] == 2e-5)
    pd.testing.assert_frame_equal(
        found.trials[["init_seed", "order_seed", "score", "final_score"]],
        want.trials[["init_seed", "order_seed", "score", "final_score"]],
    )
    assert found.evals["score"].tolist() == want.evals["score"].tolist()
    with pytest.raises(BadInput, match="several metrics, accuracy, f1"):
        read("a.json")
    curves = {
        "1": {"acc": {"before": 0.9, "during": [[1, 0.5], [2, 0.6]], "after": None}},
        "2": {
            "acc": {"before": 0.9, "during": [[0, 0.7], [2, 0.6]], "after": 0.65},
            "train_loss": {"during": [1, 2, 3]},
        },
    }
    Path("b.json").write_text(json.dumps({"rte": {"1": curves}, "cola": {"1": {"1": curves["1"]}}}))
    rte, cola = read("b.json")
    assert (rte.task, cola.task, rte.name) == ("rte", "cola", "b.json, task rte")
    assert rte.trials["score"].tolist() == [0.6, 0.7]
    assert rte.evals["score"].tolist() == [0.5, 0.6, 0.7, 0.6, 0.65]  # `before` is of what was not trained


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        (" \n\n", "empty"),
        ("# a note\n", "empty"),
        (b"\xff\xfe0\x00", "not text (not UTF-8 at byte 0)"),
        (b"PAR1\x00\x00", "not text (a zero byte in it)"),
        ("0.8,0.7\n0.6,x\n", "line 2, column 2: expected a number, found 'x'"),
        ("0.8,0.7\n0.6,\n", "line 2, column 2: no number (found '')"),
        ("0.8,NaN\n0.6,0.5\n", "line 1, column 2: no number (found 'NaN')"),
        ("0.8,0.7\n0.6,-inf\n", "line 2, column 2: expected a finite number, found '-inf'"),
        ("0.8,0.7\n0.6\n", "line 2: 1 cells, expected 2 as in line 1"),
        ("0.8,0.7\n0.6,0.5,0.4\n", "line 2: 3 cells, expected 2 as in line 1"),
        ("0,8;0,7\n0,6;0,5\n", "write a point, not a comma"),
        ("1_0.5,0.7\n0.6,0.5\n", "found '1_0.5'"),
        ('0.8,"0.7\n0.6,0.5\n', "line 2: unexpected end of data"),
        ("a,b\nc,d\n", "expected a number"),
        ("wi,do,acc\n1,1,0.8\n1,2,0.7\n2,1,0.7\n", "its columns are not all order seeds: found wi, do, acc"),
        ("w,d,s\n1,1,0.8\n1,2,0.7\n2,1,0.7\n", "column w has whole numbers, others have not"),
        (HEAD, "no row below the header"),
        (HEAD + "1,1,.5\n1,1,.6\n", "line 3: the same seeds as in line 2 (init_seed 1, order_seed 1)"),
        (HEAD + "1,1,.5\n1,2,nan\n", "line 3, column score: no number (found 'nan')"),
        (HEAD + "1,1,.5\n1,2,high\n", "line 3, column score: expected a number, found 'high'"),
        (HEAD + "1,1,.5\n1,2.5,.6\n", "line 3, column order_seed: expected a whole number from 0, found '2.5'"),
        (HEAD + "1,1,.5\n-1,2,.6\n", "line 3, column init_seed: expected a whole number from 0, found '-1'"),
        (HEAD + "1,1,.5\n1,2\n", "line 3: 2 cells, expected 3"),
        ("init_seed,score\n1,.5\n", "no column order_seed; found init_seed, score"),
        ("init_seed,order_seed,acc\n1,1,.5\n", "no column score; found init_seed, order_seed, acc"),
        ("init_seed,order_seed,score,score\n1,1,.5,.5\n", "column score is there twice"),
        ("init_seed,order_seed,score,\n1,1,.5,.5\n", "a column has no name"),
        ("metric," + HEAD + "acc,1,1,.5\nf1,1,1,.6\n", "several metrics, acc, f1: say which one scores"),
        ("metric," + HEAD + "acc,1,1,.5\nf1,1,2,.6\n", "several metrics, acc, f1"),
        ("task," + HEAD + "rte,1,1,.5\n,1,2,.6\n", "line 3, column task: expected a name, found ''"),
        (
            "status," + HEAD + "done,1,1,.5\n",
            "line 2, column status: expected completed, diverged, stopped, found 'done'",
        ),
        ("trial," + HEAD + "a,1,1,.5\na,1,2,.6\n", "trial a has other seeds than"),
        ("step,trial," + HEAD + "1,a,1,1,.5\n2,b,1,1,.6\n", "trial b has the same seeds as line 2's trial a"),
        ("step," + HEAD + "5,1,1,.5\n5,1,1,.6\n", "(init_seed 1, order_seed 1, step 5)"),
        ("wall_time," + HEAD + "1.5,1,1,.5\n2.5,1,2,.6\n", "column wall_time differs in every row"),
    ],
)
def test_bad_files(given, text, said):
    with pytest.raises(BadInput) as error:
        given(text)
    assert said in str(error.value)
    assert "a.csv" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '{"rte": {"a": {}}}', b"\x80\x04."])
def test_bad_release_files(given, text):
    for name in ("a.json", "a.txt" if not str(text).startswith("[") else "b.json"):
        with pytest.raises(BadInput, match=name):
            given(text, name)


def broken(change) -> str:
    change(Path("run"))
    with pytest.raises(BadInput) as error:
        read("run")
    assert "\n" not in str(error.value)
    return str(error.value)


def parquet(folder: Path, kind: str) -> Path:
    return sorted((folder / kind).glob("*.parquet"))[0]


def test_bad_run_folders(here):
    with pytest.raises(BadInput, match="nowhere: cannot be read"):
        read("nowhere")
    Path("empty").mkdir()
    with pytest.raises(BadInput, match="empty: not a run folder, it has no study"):
        read("empty")
    whole = Path("whole")
    shutil.copytree("run", whole)

    def again() -> None:
        shutil.rmtree("run")
        shutil.copytree(whole, "run")

    assert "cannot be read" in broken(lambda run: parquet(run, "trials").write_bytes(b"PAR1"))
    again()
    path = parquet(Path("run"), "evals")
    assert f"{path}: cannot be read" in broken(lambda run: path.write_bytes(path.read_bytes()[:-40]))
    again()
    said = broken(lambda run: (run / "study.yaml").write_text((run / "study.yaml").read_text() + "warp: 9\n"))
    assert "unknown key" in said
    assert "another version of jaxft" in said
    again()
    file = parquet(Path("run"), "trials")
    said = broken(lambda run: pd.read_parquet(file).drop(columns="best_score").to_parquet(file))
    assert "no column best_score" in said
    assert "another version of jaxft" in said
    again()
    assert "no trial is finished yet" in broken(lambda run: [p.unlink() for p in (run / "trials").glob("*.parquet")])
