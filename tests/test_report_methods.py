"""The chapter that compares the methods of a study, on run folders that nobody trained."""

import json
from pathlib import Path

import endings
import numpy as np
import pandas as pd
import pytest
from pages import numbers, scores
from pages import read as parse
from scipy import stats

from jaxft import report
from jaxft.folder.store import Store
from jaxft.report import about_methods, about_training
from jaxft.stats.compare import holm
from jaxft.stats.scores import read
from jaxft.study.trials import expand

SEEDS = 8
BETTER = {
    ("vanilla", 1e-4): 0.80,
    ("vanilla", 1e-3): 0.75,
    ("mixout", 1e-4): 0.84,
    ("mixout", 1e-3): 0.70,
    ("bitfit", 1e-4): 0.76,
    ("bitfit", 1e-3): 0.81,
}
"""The mean on dev, by method and rate; on test it is 0.1 less."""


def a_run(folder: Path, test: bool = True) -> Path:
    """Of three methods at two rates, mixout listed before vanilla; one trial of bitfit's better rate diverges."""
    study = endings.study(
        **{"seeds.init": f"1..{SEEDS}", "seeds.order": 1},
        sweep={"method": ["mixout(p=0.1)", "vanilla", "bitfit"], "train.lr": [1e-4, 1e-3]},
    )
    trials, rng = expand(study), np.random.default_rng(3)
    store = Store.open(folder, study, {}, trials)
    store.examples(endings.task())
    for trial in trials:
        key = trial.fixed["method"], trial.hp["train.lr"]
        if key == ("bitfit", 1e-3) and trial.seeds.init == 1:
            store.append([endings.ended(trial, "diverged", "non_finite_loss")])
            continue
        dev, held_out = BETTER[key] + rng.normal(0, (0.02, 0.002)[key[0] == "bitfit"], 2)
        end = endings.ended(trial, score=dev)
        store.append([end._replace(test_at_best=held_out - 0.1, test_at_final=held_out - 0.1) if test else end])
    store.close()
    return folder


@pytest.fixture(scope="module", autouse=True)
def few_draws():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(about_training, "DRAWS", 20)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return a_run(tmp_path_factory.mktemp("methods") / "run")


@pytest.fixture(scope="module")
def out(run) -> Path:
    report.build([run], run.parent / "out")
    return run.parent / "out"


def table(out: Path, name: str) -> pd.DataFrame:
    return pd.DataFrame(json.loads((out / "tables" / f"{name}.json").read_text()))


def test_the_setting_is_chosen_on_dev_and_judged_on_test(run, out):
    tried = table(out, "method_settings")
    chosen = tried[tried["chosen"]].set_index("method")["setting"].to_dict()
    assert chosen == {
        "vanilla": "train.lr 0.0001",
        "mixout": "method.mixout.p 0.1, train.lr 0.0001",
        "bitfit": "train.lr 0.001",
    }
    assert tried["trials"].tolist() == [SEEDS] * 6
    found = table(out, "methods").set_index("method")
    assert found.index.tolist() == ["vanilla", "mixout", "bitfit"], "vanilla is the first, wherever it is listed"
    assert set(found["judged_on"]) == {"test"}
    rows = pd.read_parquet(run / "trials")
    rows = rows[(rows["method"] != "bitfit") & (rows["hp.train.lr"] == 1e-4)].sort_values("init_seed")
    vanilla, mixout = (rows[rows["method"] == name] for name in ("vanilla", "mixout"))
    assert found.at["vanilla", "mean"] == pytest.approx(vanilla["test_at_best"].mean())
    assert found.at["mixout", "sd"] == pytest.approx(mixout["test_at_best"].std())
    best = mixout.loc[mixout["best_score"].idxmax(), "test_at_best"]
    assert found.at["mixout", "best"] == best != mixout["test_at_best"].max()
    tested = stats.ttest_rel(mixout["test_at_best"], vanilla["test_at_best"])
    assert found.at["mixout", "paired"]
    assert found.at["mixout", "mean_p"] == pytest.approx(tested.pvalue)
    low, high = tested.confidence_interval()
    assert found.loc["mixout", ["difference", "low", "high"]].tolist() == pytest.approx(
        [mixout["test_at_best"].mean() - vanilla["test_at_best"].mean(), low, high]
    )
    for test in ("mean", "spread"):
        corrected = holm(found[f"{test}_p"].to_numpy(float))
        np.testing.assert_allclose(found[f"{test}_p_holm"].to_numpy(float), corrected)
    apart = [(each - each.median()).abs().to_numpy() for each in (mixout["test_at_best"], vanilla["test_at_best"])]
    assert found.at["mixout", "spread_p"] == pytest.approx(stats.ttest_rel(*apart).pvalue)


def test_a_trial_that_diverged_counts_as_failed(out):
    found = table(out, "methods").set_index("method")
    assert found["failure_rate"].tolist() == [0, 0, 1 / SEEDS]
    rows = pd.read_parquet(out.parent / "run" / "trials")
    chosen = rows[(rows["method"] == "vanilla") & (rows["hp.train.lr"] == 1e-4)]
    assert (chosen["test_at_best"] < chosen["majority_score"]).any(), "by the test set some of vanilla's would fail"
    assert found["left_out"].tolist() == [0, 0, 1]


def test_the_chapter_says_what_was_done(out):
    page = parse(out / "report.html")
    (part,) = page.all("section", id="methods-1-compared")
    assert page.all("h2")[0].attributes["id"] == "methods-1"
    assert page.all("nav")[0].all("a")[0].text == "Methods"
    assert "How do methods compare with vanilla?" in part.text
    said = "Of each method the setting with the best mean on dev was chosen (vanilla: train.lr 0.0001; mixout: "
    assert said in part.text
    assert "compared by its scores on the test set" in part.text
    assert "Brown and Forsythe" in part.text
    assert about_methods.OPTIMISTIC not in part.text
    captions = [figure.all("figcaption")[0].text for figure in part.all("figure")]
    assert len(captions) == 2
    assert all(numbers(caption) for caption in captions)
    assert "bitfit" in captions[0]
    assert "12.5 % failed" in captions[0].replace("\N{NO-BREAK SPACE}", " ")
    (shown,) = [each for each in part.all("details") if "Each against vanilla, on the test set" in each.text]
    assert shown.all("tbody")[0].all("tr")[1].all("td")[0].text == "mixout"


def test_without_a_test_set_the_choice_is_said_to_flatter(tmp_path):
    folder = a_run(tmp_path / "run", test=False)
    (chapter,) = about_methods.chapters(read(folder))
    (part,) = chapter.parts
    assert about_methods.OPTIMISTIC in part.warned
    found = part.tables["methods"].set_index("method")
    assert set(found["judged_on"]) == {"dev"}
    rows = pd.read_parquet(folder / "trials")
    mine = rows[(rows["method"] == "mixout") & (rows["hp.train.lr"] == 1e-4)]
    assert found.at["mixout", "best"] == mine["best_score"].max()
    assert found.at["mixout", "failure_rate"] == 0


def test_a_trial_that_was_never_evaluated_counts_in_the_choice_of_a_setting(run):
    arms = {arm.name: arm for arm in about_methods.arms(read(run))}
    rows = pd.read_parquet(run / "trials")
    mine = rows[(rows["method"] == "bitfit") & (rows["hp.train.lr"] == 1e-3)]
    assert mine["best_score"].isna().sum() == 1
    expected = mine["best_score"].fillna(mine["majority_score"]).mean()
    assert about_methods._dev(arms["bitfit"].chosen) == pytest.approx(expected)


def test_settings_of_one_method_are_compared_each_with_the_first(tmp_path):
    frames = [scores("rte", 4, 3, 3, seed=i).assign(**{"hp.train.lr": rate}) for i, rate in enumerate((2e-5, 5e-5))]
    pd.concat(frames).to_csv(tmp_path / "rates.csv", index=False)
    (chapter,) = about_methods.chapters(read(tmp_path / "rates.csv"))
    assert chapter.title == "Settings"
    (part,) = chapter.parts
    assert part.tables["methods"]["method"].tolist() == ["train.lr 2e-05", "train.lr 5e-05"]
    assert "method_settings" not in part.tables
    scores("rte", 4, 3, 3).to_csv(tmp_path / "one.csv", index=False)
    assert about_methods.chapters(read(tmp_path / "one.csv")) == []


def test_numbers_of_examples_are_not_compared_with_each_other(tmp_path):
    frames = [
        scores("rte", 4, 1, 3, seed=n + i).assign(method=method, n_train=n)
        for n in (100, 500)
        for i, method in enumerate(("lora(rank=2)", "vanilla", "lora(rank=4)"))
    ]
    pd.concat(frames).to_csv(tmp_path / "few.csv", index=False)
    first, second = about_methods.chapters(read(tmp_path / "few.csv"))
    assert ("n_train 100" in first.about, "n_train 500" in second.about) == (True, True)
    assert first.name != second.name
    for chapter in (first, second):
        names = chapter.parts[0].tables["methods"]["method"].tolist()
        assert names == ["vanilla", "lora(rank=2)", "lora(rank=4)"], "arguments tell them apart"
