"""Numbers of the notebooks on methods, pretraining and throughput, reckoned here without what they call."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats
from test_notebook import NOTEBOOKS, drawn, ran

import jaxft

RECORDS = Path(jaxft.__file__).parent / "bench" / "records"
FOLDERS = ["minilm_methods", "minilm_sizes"]
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def texts(outputs: list) -> list[str]:
    return [output.get("data", {}).get("text/plain", "") for output in outputs]


def printed(outputs: list) -> str:
    return "\n".join(output.get("text", "") for output in outputs)


def row(text: str, name: str) -> list[list[str]]:
    """The lines of a printed table that tell of a name, in cells; a wide one is broken into several."""
    return [line.split() for line in text.splitlines() if name in line.split()]


def judged(trials, method: str, rate: float) -> np.ndarray:
    """The scores of a method at a rate on the half that judges, by seed."""
    chosen = trials[(trials["method"] == method) & (trials["hp.train.lr"] == rate)]
    return chosen.sort_values("init_seed")["test_at_best"].to_numpy()


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_is_small_and_tells_of_no_machine(name):
    files = [path for path in (NOTEBOOKS / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 300_000
    assert {path.parent.name for path in files} == {name, "trials", "evals"}, "no losses, predictions and examples"
    run = jaxft.load(NOTEBOOKS / name)
    assert set(run.trials["model"].str.partition("|")[0]) == {MINILM}
    assert yaml.safe_load((NOTEBOOKS / name / "study.yaml").read_text())["task"]["path"] == "hub"
    for path in files:
        assert not [word for word in (b"/tmp/", b"/home/", b"site-packages") if word in path.read_bytes()], path


@pytest.mark.parametrize(("name", "trials"), [("minilm_methods", 128), ("minilm_sizes", 48)])
def test_a_folder_has_every_trial_of_its_study(name, trials):
    run = jaxft.load(NOTEBOOKS / name)
    assert len(run.trials) == trials
    assert set(run.trials["status"]) == {"completed"}
    dev = run.evals[run.evals["split"] == "dev"]
    best = dev.groupby("trial")["accuracy"].max()
    np.testing.assert_allclose(run.trials.set_index("trial")["best_score"], best.loc[run.trials["trial"]])


@pytest.mark.filterwarnings("default")  # what jupyter's parts deprecate is theirs
def test_differences_of_methods_and_who_failed(monkeypatch):
    outputs = ran(NOTEBOOKS / "methods.ipynb", NOTEBOOKS, monkeypatch)
    assert drawn(outputs) == 3
    said = texts(outputs)
    trials = jaxft.load(NOTEBOOKS / "minilm_methods").trials

    vanilla = judged(trials, "vanilla", 1e-4)
    tests, rates = {}, {"mixout": 1e-4, "child_tuning_d": 1e-4, "dps_dense": 1e-4, "dps_mix": 1e-4}
    for method, rate in (rates | {"bitfit": 1e-3, "lora": 1e-3}).items():
        (full,) = [name for name in trials["method"].unique() if name.partition("(")[0] == method]
        tests[method] = stats.ttest_rel(judged(trials, full, rate), vanilla)
    compared = next(text for text in said if "mean_p_holm" in text)
    bounds = tests["dps_mix"].confidence_interval()
    mean = judged(trials, next(m for m in trials["method"].unique() if m.startswith("dps_mix")), 1e-4).mean()
    found = row(compared, "dps_mix")[0]
    assert found[3] == f"{mean:.4f}"
    assert found[-3:] == [f"{x:.4f}" for x in (mean - vanilla.mean(), bounds.low, bounds.high)]
    ordered = sorted(tests, key=lambda method: tests[method].pvalue)
    holm, least = {}, 0.0
    for place, method in enumerate(ordered):
        holm[method] = least = min(1, max(least, (len(tests) - place) * tests[method].pvalue))
    tail = compared[compared.index("mean_p_holm") :].splitlines()[1:]  # r3f cannot be tested: its scores are vanilla's
    assert [line.split()[-1] for line in tail] == ["NaN", *(f"{holm[method]:.4f}" for method in tests), "NaN"]
    assert "worse than the first, after correction: dps_mix, bitfit, lora" in printed(outputs)

    rows = record("cpu_1_core_minilm_cola_methods.jsonl", "method")
    memory = rows["dps_mix"]["per_replica"] / rows["vanilla"]["per_replica"]
    time = np.median(seconds_a_step(rows["dps_mix"]) / seconds_a_step(rows["vanilla"]))
    (cells,) = row(next(text for text in said if "memory" in text), "dps_mix")
    assert [cells[2], *cells[-2:]] == [f"{x:.3f}" for x in (time, memory, mean)]

    failed = trials[trials["best_score"] <= trials["majority_score"] + 1e-4]
    counts = failed.groupby(["method", "hp.train.lr"]).size()
    by_rate = next(text for text in said if text.startswith("rate"))
    assert row(by_rate, "bitfit") == [["bitfit", str(counts["bitfit", 1e-4]), str(counts["bitfit", 1e-3])]]
    assert row(by_rate, "vanilla") == [["vanilla", "0", str(counts["vanilla", 1e-3])]]
    assert sum(int(cell) for line in by_rate.splitlines()[2:] for cell in line.split()[1:]) == len(failed)


@pytest.mark.filterwarnings("default")
def test_the_gap_of_pretraining_and_what_it_saves(monkeypatch):
    outputs = ran(NOTEBOOKS / "pretraining.ipynb", NOTEBOOKS, monkeypatch)
    assert drawn(outputs) == 3
    said = texts(outputs)
    trials = jaxft.load(NOTEBOOKS / "minilm_sizes").trials
    score = trials.pivot_table("test_at_best", ["model", "n_train"], "init_seed")
    (lstm,) = [name for name in trials["model"].unique() if "random" in name]
    (warm,) = [name for name in trials["model"].unique() if "'trained'" in name]
    scratch = f"{MINILM}|scratch"

    gap = stats.ttest_rel(score.loc[MINILM, 3000], score.loc[warm, 3000])
    difference = (score.loc[MINILM, 3000] - score.loc[warm, 3000]).mean()
    gaps = next(text for text in said if "error_reduction" in text).splitlines()
    narrow = [line for line in gaps if "embeddings" in line and "3000" in line]
    assert f"{difference:.3f}" in narrow[0]
    bounds = gap.confidence_interval()
    assert [f"{bounds.low:.3f}", f"{bounds.high:.3f}"] == gaps[-1].split()[1:3]

    mean = score.mean(axis=1)
    ahead = (mean[scratch] - mean[lstm]).to_numpy()  # behind with 100 examples, ahead from 300 on
    assert ahead[0] < 0 < ahead[1]
    crossing = np.exp(np.log(100) + ahead[0] / (ahead[0] - ahead[1]) * np.log(3))
    assert f"{crossing:.6f}" in next(text for text in said if "share" in text)

    needed = np.exp(np.interp(mean[MINILM][100], mean[scratch], np.log(mean[scratch].index)))
    assert f"{needed:.3f}" in next(text for text in said if "other_n_train" in text)

    speed = trials.groupby("model")["infer_per_second"].first()
    costs = next(text for text in said if "examples_per_second" in text)
    assert f"{speed[lstm]:.1f}" in costs
    assert f"{speed[lstm] / speed[MINILM]:.1f}" in costs


@pytest.mark.filterwarnings("default")
def test_ratios_shares_and_chips(monkeypatch):
    outputs = ran(NOTEBOOKS / "throughput.ipynb", NOTEBOOKS, monkeypatch)
    assert drawn(outputs) == 3
    said = texts(outputs)

    rows = record("h200_bert_base_mrpc.jsonl", "row")
    ours, peer = (speeds(rows[name]) for name in ("ours x32", "compiled"))
    ratios = ours[: len(peer)] / peer
    first = said[0].splitlines()
    behind = [line.split() for line in first if line.startswith("3 ")][-1]  # the second half of the table
    assert behind[1:4] == [f"{x:.2f}" for x in (np.median(ratios), ratios.min(), ratios.max())]
    hour = 3600 * np.median(ours) / (3 * 16 * 230)  # MRPC's 3,668 examples are 230 steps of 16
    assert f"{hour:.2f}" in said[0]

    rows = record("cpu_1_core_minilm_cola_methods.jsonl", "method")
    (_, *figures) = row(next(text for text in said if "vanilla = 1" in text), "mixout")[0]
    times = seconds_a_step(rows["mixout"]) / seconds_a_step(rows["vanilla"])
    assert figures[:3] == [f"{x:.2f}" for x in (np.median(times), times.min(), times.max())]
    memory = rows["mixout"]["per_replica"] / rows["vanilla"]["per_replica"]
    assert row(next(text for text in said if "vanilla = 1" in text), "mixout")[1] == ["mixout", f"{memory:.2f}"]

    chips = next(text for text in said if "enough" in text)
    v5p = [float(x) for x in row(chips, "v5p")[0][2:7]]
    assert v5p[0] / v5p[1] == pytest.approx(625 / 79, rel=0.02), "whole waves of at most 79 trials a chip"
    h200 = [float(x) for x in row(chips, "H200")[0][1:6]]
    assert h200[2] == h200[4] == pytest.approx(h200[0] * 13 / 625, rel=0.03), "as long as with 13, which keep it busy"
    # At the record's ceilings, 695e12 and 3.74e12, a step needs at least the share of its time that the record tells;
    # here they are 790e12 and 4.8e12. An evaluation is two FLOPs a weight of the layers and token, and a little more.
    figures = record("h200_bert_base_mrpc.jsonl", "row")["ours x32"]["figures"]
    steps = 625 * 690 * figures["step"] * figures["roofline"] / 3600
    evaluations = 625 * 30 * 2 * 85e6 * 408 * 53 / 790e12 / 3600
    assert steps * 3.74 / 4.8 + evaluations < h200[0] < steps * 695 / 790 + 1.5 * evaluations


def record(name: str, key: str) -> dict[str, dict]:
    return {row[key]: row for row in map(json.loads, (RECORDS / name).read_text().splitlines())}


def seconds_a_step(row: dict) -> np.ndarray:
    """[rounds]: of one replica."""
    return np.array([each["seconds"] / each["steps"] / row["replicas"] for each in row["rounds"]])


def speeds(row: dict) -> np.ndarray:
    """[rounds]: examples a second."""
    return np.array([each["examples"] / each["seconds"] for each in row["rounds"]])
