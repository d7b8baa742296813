"""Failed trials: rates by definition, outcomes, bimodality and norms of gradients, against counts by hand and scipy."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from jaxft import metrics
from jaxft.errors import BadInput
from jaxft.stats import failures
from jaxft.stats.scores import Scores, read

SHARED = Path(__file__).parents[2] / "shared" / "dodge2020"
ROWS = [
    # score, final_score, status, reason
    (0.90, 0.88, "completed", ""),
    (0.80, 0.50, "completed", ""),  # a late collapse
    (0.60, 0.60, "completed", ""),  # the majority's
    (0.60, 0.55, "stopped", "majority"),
    (0.40, 0.40, "stopped", "one_class"),
    (0.70, 0.70, "diverged", "non_finite_loss"),
    (math.nan, math.nan, "diverged", "non_finite_gradient"),
    (0.70, 0.70, "diverged", "loss_above"),
    (0.65, 0.65, "stopped", "start_many"),
]


def trials(rows=ROWS, task="own", metric="accuracy", majority=0.6, run=None, evals=()) -> Scores:
    frame = pd.DataFrame(rows, columns=["score", "final_score", "status", "reason"])
    frame.insert(0, "trial", [f"t{i}" for i in range(len(rows))])
    frame = frame.assign(steps=10, majority_score=majority, init_seed=range(len(rows)))
    return Scores("study", task, metric, {}, frame, ("init_seed",), pd.DataFrame(evals or [], columns=EVALS), run)


EVALS = ["trial", "step", "score", "loss", "grad_norm.embeddings", "grad_norm.layers/0"]


def plain(values, **columns) -> Scores:
    return trials([(value, math.nan, "completed", "") for value in values], **columns)


def test_collapsed_values_of_the_paper():
    """Of the dev sets' labels; to the digits given there."""
    mrpc, rte, sst = (np.repeat([1, 0], counts) for counts in ((279, 129), (131, 146), (444, 428)))
    ones, zeros = [np.tile(row, (408, 1)) for row in ([0.0, 1.0], [1.0, 0.0])]
    found = metrics.score(("accuracy", "f1", "accuracy_f1"), ones, mrpc)
    assert {name: round(x, 5) for name, x in found.items()} == {
        "accuracy": 0.68382,
        "f1": 0.81223,
        "accuracy_f1": 0.74803,
    }
    assert round(metrics.score(("accuracy_f1",), zeros, mrpc)["accuracy_f1"], 5) == 0.15809
    assert [round(np.mean(rte == label), 5) for label in (0, 1)] == [0.52708, 0.47292]
    for task, metric, labels in (("mrpc", "accuracy_f1", mrpc), ("rte", "accuracy", rte), ("sst2", "accuracy", sst),
                                 ("cola", "mcc", np.repeat([1, 0], (721, 322)))):  # fmt: skip
        majority = metrics.majority(metric, labels)
        scores = [round(majority, 4), round(majority, 5), majority, majority + 5e-4]
        at = plain(scores, task=task, metric=metric, majority=math.nan)
        table = failures.rates(at).set_index("definition")
        assert table.loc["majority at the best", "failed"] == 3, task
        assert round(majority, 5) == {"mrpc": 0.74803, "rte": 0.52708, "sst2": 0.50917, "cola": 0.0}[task]


def test_rates_by_each_definition():
    said = [("t0", [[0.0, 1.0], [1.0, 0.0]]), ("t1", [[0.0, 1.0], [0.0, 2.0]]), ("t2", [[2.0, 1.0], [3.0, 1.0]]),
            ("t8", [[0.0, 1.0], [0.0, 1.0]])]  # fmt: skip
    frame = pd.DataFrame(
        [(name, "dev", "final", np.array(x)) for name, x in said], columns=["trial", "split", "at", "logits"]
    )
    others = frame.assign(trial="t0", logits=[np.zeros((2, 2))] * 4)
    frame = pd.concat([frame, others.assign(at="best"), others.assign(split="test")], ignore_index=True)
    evals = [("t0", 10, 0.9, 0.1, 1.0, 1.0), ("t2", 10, math.nan, math.nan, 1.0, 1.0)]
    scores = trials(run=SimpleNamespace(predictions=frame), evals=evals)
    table = failures.rates(scores)
    assert dict(zip(table["definition"], table["failed"], strict=True)) == {
        "majority at the best": 4,  # t2, t3, t4, t6
        "majority at the end": 5,  # and t1
        "constant prediction": 3,  # t1, t2, t4
        "non-finite": 3,  # t2, t5, t6
        "dropped by a rule": 5,
    }
    assert (table["trials"] == 8).all(), "without the one that a policy stopped"
    assert (table["rate"] == table["failed"] / 8).all()
    low, high = proportion_confint(table["failed"], 8, method="wilson")
    np.testing.assert_allclose(table[["low", "high"]].T, [low, high], atol=1e-12)
    low, high = proportion_confint(table["failed"], 8, alpha=0.2, method="wilson")
    np.testing.assert_allclose(failures.rates(scores, confidence=0.8)[["low", "high"]].T, [low, high], atol=1e-12)


def test_a_margin_above_the_majority():
    found = [
        failures.rates(plain([0.6, 0.61, 0.63, 0.9]), margin=m).set_index("definition")["failed"] for m in (0, 0.02)
    ]
    assert [series["majority at the best"] for series in found] == [1, 2]
    assert "majority at the end" not in found[0], "the final scores are not known"


def test_numbers_that_are_predicted_are_constant_where_all_are_the_same():
    logits = [np.full((3, 1), 2.5), np.array([[1.0], [1.0], [1.5]])]
    frame = pd.DataFrame({"trial": ["t0", "t1"], "split": "dev", "at": "final", "logits": logits})
    table = failures.rates(plain([0.5, 0.6], run=SimpleNamespace(predictions=frame)))
    assert table.set_index("definition").loc["constant prediction", "failed"] == 1


@pytest.mark.parametrize(("task", "metric", "threshold"), [
    ("mrpc", "accuracy_f1", 0.75), ("MRPC", "acc_and_f1", 0.75), ("cola", "mcc", 0.1), ("rte", "accuracy", 0.5),
    ("sst-2", "acc", 0.0), ("rte", "score", 0.5), ("rte", "f1", None), ("own", "accuracy", None),
])  # fmt: skip
def test_the_thresholds_of_the_paper(task, metric, threshold):
    values = [-0.1, 0.0, 0.1, 0.3, 0.5, 0.6, 0.75, 0.8]
    table = failures.rates(plain(values, task=task, metric=metric)).set_index("definition")
    if threshold is None:
        assert "Dodge et al. 2020" not in table.index
    else:
        assert table.loc["Dodge et al. 2020", "failed"] == sum(value <= threshold for value in values)


@pytest.mark.parametrize("task", ["mrpc", "rte"])
def test_the_papers_own_scores(task):
    path = SHARED / f"digitized_best_val_{task}.csv"
    if not path.exists():
        pytest.skip("no digitised scores: put them into ../shared/dodge2020")
    (scores,) = read(path)
    scores = scores._replace(task=task)
    values = scores.trials["score"].to_numpy()
    table = failures.rates(scores).set_index("definition")
    assert table.loc["Dodge et al. 2020", "failed"] == (values <= {"mrpc": 0.75, "rte": 0.5}[task]).sum()
    assert table.loc["Dodge et al. 2020", "trials"] == 625
    failed = {"mrpc": (values == 0.748).sum(), "rte": 42}[task]  # .52708, which is rounded up
    assert (failures.outcomes(scores) == "failed").sum() == failed
    assert table.loc["majority at the best", "failed"] == failed > 40
    assert failures.bimodality(scores).trials == 625


def test_outcomes():
    found = failures.outcomes(trials())
    assert found.tolist() == ["converged", "failed", "failed", "failed", "failed", *["diverged"] * 3, "stopped"]
    assert found.index.tolist() == [f"t{i}" for i in range(9)]
    assert failures.outcomes(plain([0.59, 0.6, 0.61])).tolist() == ["failed", "failed", "converged"], "by the best"
    dropped = [(0.65, 0.65, "stopped", "one_class"), (0.65, 0.65, "stopped", "majority"), (0.65, 0.65, "completed", "")]
    assert failures.outcomes(trials(dropped)).tolist() == ["failed", "failed", "converged"]
    known = plain([0.52, 0.53], task="rte", majority=math.nan)
    assert failures.outcomes(known).tolist() == ["failed", "converged"]
    with pytest.raises(BadInput, match="study: the majority's score is not known; give it in a column majority_score"):
        failures.outcomes(plain([0.5, 0.6], majority=math.nan))


def test_bimodality_finds_the_two_groups_with_the_least_variance():
    rng = np.random.default_rng(0)
    for _ in range(30):
        values = np.round(rng.normal(size=rng.integers(4, 30)), 1) * rng.choice([1e-6, 1.0, 1e5]) + 3
        if np.ptp(values) == 0:
            continue
        modes, ordered = failures.bimodality(plain(values)), np.sort(values)
        splits = [i for i in range(1, len(ordered)) if ordered[i] > ordered[i - 1]]
        within = {i: i * ordered[:i].var() + (len(ordered) - i) * ordered[i:].var() for i in splits}
        assert within[modes.below] <= min(within.values()) * (1 + 1e-6)  # sums in another order
        low, high = ordered[: modes.below], ordered[modes.below :]
        assert (modes.low, modes.high) == (low.mean(), high.mean())
        assert low[-1] <= modes.threshold <= high[0]
        n, g, k = len(values), stats.skew(values, bias=False), stats.kurtosis(values, bias=False)
        assert modes.coefficient == pytest.approx((g**2 + 1) / (k + 3 * (n - 1) ** 2 / ((n - 2) * (n - 3))), rel=1e-6)


def test_bimodality_tells_one_group_from_two():
    """On 2,000 draws the coefficient is within 0.03 of its value for the distribution: 1/3 normal, 5/9 uniform."""
    rng = np.random.default_rng(1)
    one, flat = failures.bimodality(plain(rng.normal(size=2000))), failures.bimodality(plain(rng.random(2000)))
    assert one.coefficient == pytest.approx(1 / 3, abs=0.03)
    assert not one.bimodal
    assert flat.coefficient == pytest.approx(5 / 9, abs=0.03)
    two = failures.bimodality(plain(np.concatenate([rng.normal(0.5, 0.01, 30), rng.normal(0.8, 0.02, 70), [math.nan]])))
    assert two.bimodal
    assert (two.below, two.trials) == (30, 100)
    assert two.low == pytest.approx(0.5, abs=0.01)
    assert two.high == pytest.approx(0.8, abs=0.01)
    twice = failures.bimodality(plain([0.5, 0.5, 0.8, 0.8, 0.8]))
    assert (twice.separation, twice.below, twice.threshold) == (math.inf, 2, 0.65)


def test_gradients_are_quartiles_by_outcome_layer_and_step():
    names = {"t0": 1.0, "t1": 0.01, "t2": 0.02, "t9": 3.0, "t10": 5.0}
    rows = (
        [(0.9, 0.9, "completed", "")]
        + [(0.5, 0.5, "completed", "")] * 2
        + ROWS[3:9]
        + [(0.9, 0.9, "completed", "")] * 2
    )
    evals = [(name, step, 0.5, 0.1, x * step, x) for name, x in names.items() for step in (10, 20)]
    evals += [("t5", 10, 0.5, 0.1, 7.0, math.inf), ("t5", 17, 0.5, 0.1, 9.0, 9.0)]  # diverged between evaluations
    table = failures.gradients(trials(rows, evals=evals))
    assert list(table) == ["outcome", "layer", "step", "trials", "median", "low", "high"]
    assert table["layer"].unique().tolist() == ["embeddings", "layers/0"]
    by = table.set_index(["outcome", "layer", "step"])
    assert by.loc[("converged", "embeddings", 20)].tolist() == [3, 60.0, 40.0, 80.0]
    assert by.loc[("failed", "layers/0", 10), "median"] == pytest.approx(0.015)
    assert by.loc[("diverged", "embeddings", 10), "median"] == 7.0
    assert ("diverged", "layers/0", 10) not in by.index
    assert set(table["step"]) == {10, 20}


@pytest.mark.parametrize(("made", "scores", "message"), [
    (failures.gradients, trials(), "study: no norms of gradients in it"),
    (failures.gradients, trials(evals=[("t0", 10, 0.5, 0.1, *[math.nan] * 2)]), "study: no norms of gradients in it"),
    (failures.bimodality, plain([0.1, 0.2, 0.3]), "study: bimodality needs at least four trials with a score, found 3"),
    (failures.bimodality, plain([0.1] * 9), "study: all 9 trials have the same score, 0.1"),
    (failures.bimodality, plain([math.nan] * 9), "study: bimodality needs at least four trials"),
    (failures.rates, trials(ROWS[8:]), "study: all 1 trials were stopped by a policy"),
    (failures.rates, plain([0.1, 0.2], majority=math.nan), "study: nothing says which trials failed"),
    (lambda scores: failures.rates(scores, confidence=1.0), plain([0.1]), "confidence: expected a number between"),
])  # fmt: skip
def test_bad_input(made, scores, message):
    with pytest.raises(BadInput) as raised:
        made(scores)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)
