"""What stored predictions tell: weighted metrics, the multi-bootstrap, ensembles; every refusal."""

import itertools
import math
import time

import endings
import numpy as np
import pandas as pd
import pytest
from handmade import predicting, scores
from scipy import stats

from jaxft import metrics
from jaxft.errors import BadInput
from jaxft.folder import store
from jaxft.stats import measures, predictions
from jaxft.stats.ensembles import ensemble
from jaxft.stats.multibootstrap import multibootstrap
from jaxft.stats.scores import Scores

NUMBERS = ("pearson", "spearman", "pearson_spearman")


def right(correct: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[S, N] booleans -> [S, N, 2] logits that are right there."""
    return np.eye(2)[np.where(correct, labels, 1 - labels)]


def drawn(rng, trials: int, examples: int, mean=0.8, of_seeds=0.0, of_examples=0.0, own=0.0) -> np.ndarray:
    """[S, N] booleans: right with a probability that seeds, examples and their pairs move."""
    chance = mean + of_seeds * rng.normal(size=(trials, 1)) + of_examples * rng.normal(size=(1, examples))
    return rng.uniform(size=(trials, examples)) < chance + own


@pytest.mark.parametrize("name", metrics.NAMES)
def test_weights_are_repetitions(name):
    rng = np.random.default_rng(0)
    said, true = rng.integers(0, 2, (4, 30)), rng.integers(0, 2, 30)
    if name in NUMBERS:
        said, true = rng.normal(size=(4, 30)).round(1), rng.normal(size=30).round(1)  # with ties
        said[3] = 0.7  # constant: 0 by definition
    elif name not in ("f1", "accuracy_f1"):
        said, true = rng.integers(0, 3, (4, 30)), rng.integers(0, 3, 30)
    said[2] = said[2, 0]
    weights = rng.multinomial(30, np.full(30, 1 / 30), size=20)
    weights[0] = 1
    weights[1] = np.eye(30, dtype=int)[4] * 30  # one example alone
    found = predictions.weighted(name, said, true, weights)
    for row, column in itertools.product(range(20), range(4)):
        index = np.repeat(np.arange(30), weights[row])
        logits = said[column][index]
        logits = logits[:, None] if name in NUMBERS else np.eye(3)[logits][:, : 2 if "f1" in name else 3]
        want = metrics.score([name], logits, true[index])[name]
        assert found[row, column] == pytest.approx(want, abs=1e-12), "sums in another order"


def test_a_function_of_logits_gives_what_a_named_metric_does():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 40)
    a = predicting(right(drawn(rng, 5, 40), labels), labels, metric="mcc")
    b = predicting(right(drawn(rng, 5, 40, 0.6), labels), labels, "b", metric="mcc")

    def matthews(logits, labels):
        return metrics.score(["mcc"], logits, labels)["mcc"]

    fast, slow = (multibootstrap(a, b, statistic, draws=50) for statistic in (None, matthews))
    assert (fast.statistic, slow.statistic) == ("mcc", "matthews")
    np.testing.assert_allclose(np.array(fast[1:], float), np.array(slow[1:], float), atol=1e-12)


def test_the_draws_are_those_of_the_definition():
    """The variance over draws of a mean of a matrix has a closed form, which the draws must have."""
    rng = np.random.default_rng(3)
    correct = drawn(rng, 8, 60, 0.7, 0.1, 0.2)
    labels = rng.integers(0, 2, 60)
    draws = 20_000
    found = multibootstrap(predicting(right(correct, labels), labels), draws=draws)
    assert found.estimate == pytest.approx(correct.mean())
    assert math.isnan(found.p)
    rows, columns, rest = correct.mean(axis=1).var(), correct.mean(axis=0).var(), correct.var()
    rest -= rows + columns
    s, n = correct.shape
    # Owen (2007): weights of a row and of a column have variance 1 - 1/S and 1 - 1/N, whose parts multiply.
    want = rows / s + columns / n + rest / (s * n)
    tolerance = 3 / math.sqrt(2 * draws)  # of a standard deviation, relative
    assert found.error == pytest.approx(math.sqrt(want), rel=1.1 * tolerance)
    assert found.error_of_seeds == pytest.approx(math.sqrt(rows / s), rel=tolerance)
    assert found.error_of_examples == pytest.approx(math.sqrt(columns / n), rel=tolerance)
    # Counted once, it is what expected mean squares say: 4 % less, here; that N is not N - 1 in it is under 1 %.
    counted_once = math.sqrt(measures._grid_error(correct)[0])
    assert found.corrected_error == pytest.approx(counted_once, rel=0.02)
    assert found.error > 1.03 * counted_once
    normal = stats.norm(found.estimate, found.error)
    assert found.low == pytest.approx(normal.ppf(0.025), abs=0.2 * found.error)
    assert found.high == pytest.approx(normal.ppf(0.975), abs=0.2 * found.error)


@pytest.mark.parametrize("repeats", [150, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("paired", [True, False])
def test_size_and_coverage(repeats, paired):
    """New seeds and new examples each time, and no difference: how often 95 % intervals hold 0, and p < .05.

    Half of the variance is of trials and examples together, which the percentile interval counts threefold: it is too
    wide by sqrt(2) and holds 0 in 99.4 % of cases. The corrected one is right.
    """
    rng = np.random.default_rng(0)
    held, rejected, right_held, right_rejected = [], [], [], []
    for number in range(repeats):
        labels = rng.integers(0, 2, 80)
        hard = 0.15 * rng.normal(size=80)
        a, b = (predicting(right(drawn(rng, 20, 80, 0.75 + hard, 0.05), labels), labels, name) for name in ("a", "b"))
        found = multibootstrap(a, b, draws=300, seed=number, paired=paired)
        held.append(found.low <= 0 <= found.high)
        rejected.append(found.p < 0.05)
        right_held.append(found.corrected_low <= 0 <= found.corrected_high)
        right_rejected.append(found.corrected_p < 0.05)
    error = 3 * math.sqrt(0.05 * 0.95 / repeats)
    print(np.mean(held), np.mean(rejected), np.mean(right_held), np.mean(right_rejected))
    assert np.mean(held) > 0.97
    assert np.mean(rejected) < 0.03
    assert abs(np.mean(right_held) - 0.95) < error
    assert abs(np.mean(right_rejected) - 0.05) < error


def test_pairs_cancel_what_seeds_share():
    rng = np.random.default_rng(0)
    labels, chance = rng.integers(0, 2, 200), rng.uniform(0.5, 0.9, (15, 1))
    same = rng.uniform(size=(15, 200))
    a = predicting(right(same < chance + 0.03, labels), labels)
    b = predicting(right(same < chance, labels), labels, "b")
    pair, apart = multibootstrap(a, b), multibootstrap(a, b, paired=False)
    assert pair.paired
    assert not apart.paired
    assert pair.estimate == pytest.approx(apart.estimate)
    assert pair.error_of_seeds < apart.error_of_seeds / 3
    assert pair.error_of_examples == pytest.approx(apart.error_of_examples, rel=0.2), "examples are shared in both"
    assert pair.p < 0.01 < apart.p
    turned = b._replace(trials=b.trials.iloc[::-1])
    assert multibootstrap(a, turned) == pair, "by seeds, not by place"
    other = multibootstrap(a, predicting(right(same[:9] < chance[:9], labels), labels, "b", first=50))
    assert not other.paired


def test_crossed_seeds_are_drawn_by_themselves():
    """A factor of 4 levels, each 6 times: drawn as 24 trials its variance is lost, drawn as levels it is there."""
    labels = np.random.default_rng(0).integers(0, 2, 50)
    share = np.repeat([0.5, 0.6, 0.8, 0.9], 6)
    correct = np.arange(50) < 50 * share[:, None]
    made = predicting(right(correct, labels), labels)
    seeds = scores(np.zeros((4, 6)))
    made = made._replace(trials=seeds.trials, factors=seeds.factors)
    trials, levels = (multibootstrap(made, resample=how, draws=2000) for how in ("trials", "seeds"))
    assert trials.error_of_seeds == pytest.approx(share.std() / math.sqrt(24), rel=0.05)
    assert levels.error_of_seeds == pytest.approx(share.std() / math.sqrt(4), rel=0.05)
    assert math.isnan(levels.corrected_error)
    diagonal = made._replace(trials=made.trials.assign(order_seed=made.trials["init_seed"]))
    with pytest.raises(BadInput, match="resample='seeds' needs a full grid of seeds"):
        multibootstrap(diagonal, resample="seeds")


def test_seeds_fix_and_change_what_is_drawn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 50)
    made = predicting(right(drawn(rng, 12, 50), labels) + rng.normal(size=(12, 50, 2)), labels)
    one, again, other = (multibootstrap(made, draws=100, seed=seed) for seed in (1, 1, 2))
    assert one[:4] == again[:4]
    assert one.low != other.low
    one, again, other = (ensemble(made, [5], draws=20, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, again)
    assert one.loc[0, "mean"] != other.loc[0, "mean"]


def test_fifty_trials_take_seconds():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    for metric in ("accuracy", "accuracy_f1", "mcc"):
        a, b = (predicting(right(drawn(rng, 50, 400), labels), labels, name, metric) for name in ("a", "b"))
        start = time.process_time()
        multibootstrap(a, b, draws=1000)
        assert time.process_time() - start < 5


def test_ensembles_are_means_over_all_subsets():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 40)
    logits = (np.eye(3)[labels] + 1.5 * rng.normal(size=(5, 40, 3))).astype(np.float32)
    found = ensemble(predicting(logits, labels)).set_index("size")
    assert found.index.tolist() == [1, 2, 3, 4, 5]
    assert found["subsets"].tolist() == [5, 10, 10, 5, 1]
    alone = [metrics.score(["accuracy"], one, labels)["accuracy"] for one in logits]
    assert found.loc[1, ["mean", "single", "best_single"]].tolist() == pytest.approx([np.mean(alone)] * 3)
    every = [
        metrics.score(["accuracy"], logits[[*pair]].mean(axis=0), labels)["accuracy"]
        for pair in itertools.combinations(range(5), 2)
    ]
    best = np.mean([max(pair) for pair in itertools.combinations(alone, 2)])
    assert found.loc[2].tolist()[1:] == pytest.approx(
        [np.mean(every), *np.quantile(every, [0.05, 0.95]), np.mean(alone), best]
    )
    whole = metrics.score(["accuracy"], logits.mean(axis=0), labels)["accuracy"]
    assert found.loc[5, ["mean", "low", "high"]].tolist() == pytest.approx([whole] * 3)
    assert found.loc[5, "mean"] > found.loc[1, "mean"], "errors of their own cancel"


def test_probabilities_bound_what_one_trial_can_say():
    labels = np.array([0, 0, 1])
    sure = np.array([[-50.0, 50], [50, -50], [-50, 50]])
    others = np.array([[[1.0, -1], [1, -1], [-1, 1]]] * 2)
    made = predicting([sure, *others], labels)
    assert ensemble(made, [3])["mean"].tolist() == pytest.approx([2 / 3])
    assert ensemble(made, [3], average="probabilities")["mean"].tolist() == [1]


def test_numbers_are_averaged_too():
    rng = np.random.default_rng(0)
    labels = rng.normal(size=60)
    made = predicting((labels + rng.normal(size=(6, 60)))[..., None], labels, metric="pearson_spearman")
    found = ensemble(made, average="probabilities").set_index("size")["mean"]
    assert found.is_monotonic_increasing
    boot = multibootstrap(made, draws=100)
    assert boot.statistic == "pearson_spearman"
    assert found[1] == pytest.approx(boot.estimate)
    assert boot.low < boot.estimate < boot.high


def of(run: store.Run) -> Scores:
    """As read from the run folder."""
    trials = run.trials.rename(columns={"best_score": "score"})
    return Scores("runs/a", "generated", "accuracy", {}, trials, ("init_seed", "order_seed"), run.evals, run)


def test_a_real_run_folder(tmp_path):
    made = of(store.load(endings.folder(tmp_path / "run", endings.study())))
    got = predictions.read(made)
    assert got.labels.tolist() == [0, 1, 1, 0, 1, 1]
    kept = made.run.predictions.set_index(["trial", "at"])["logits"]
    for name, logits in zip(got.trials["trial"], got.logits, strict=True):
        np.testing.assert_array_equal(logits, kept[name, "best"])
    labels = np.array(got.labels)
    each = {
        at: np.mean([metrics.score(["f1"], kept[name, at], labels)["f1"] for name in made.trials["trial"]])
        for at in ("best", "final")
    }
    for at, mean in each.items():
        assert multibootstrap(made, None, "f1", at=at, draws=10).estimate == pytest.approx(mean)
        assert ensemble(made, [1], metric="f1", at=at)["mean"][0] == pytest.approx(mean)
    same = multibootstrap(made, made, draws=10)
    assert (same.paired, same.estimate, same.p) == (True, 0, 1)


def test_trials_without_predictions_are_named_or_left_out(tmp_path):
    made = of(store.load(endings.folder(tmp_path / "run", endings.study(), dropped=(0,))))
    for asked in (lambda: multibootstrap(made), lambda: ensemble(made)):
        with pytest.raises(BadInput, match=r"runs/a: 1 of 6 trials have no predictions .*drop=True"):
            asked()
    assert ensemble(made, drop=True)["size"].max() == 5
    assert multibootstrap(made, drop=True, draws=10).trials == 5
    pair = multibootstrap(made, made, drop=True, draws=10)
    assert (pair.paired, pair.trials) == (True, 5)


def test_refusals(tmp_path):
    made = of(store.load(endings.folder(tmp_path / "run", endings.study())))
    one = made._replace(trials=made.trials[:1])
    labels = np.array([0, 1, 1, 0])
    logits = np.zeros((3, 4, 2))
    fine = predicting(logits, labels)
    broken = predicting(np.where(np.arange(3)[:, None, None] == 1, np.nan, logits), labels)
    cases = [
        (lambda: ensemble(made._replace(run=None)), "scores alone; predictions of the examples are in run folders"),
        (lambda: ensemble(made, split="test"), "no predictions on test at best; there are dev at best, dev at final"),
        (lambda: ensemble(made, at="last"), "no predictions on dev at last"),
        (lambda: ensemble(one), r"1 trial\(s\) with predictions; an ensemble needs at least 2"),
        (lambda: ensemble(made, [7]), "sizes: 7 is not between 1 and the 6 trials of runs/a"),
        (lambda: ensemble(made, average="votes"), "average: 'votes' is unknown"),
        (lambda: ensemble(made, draws=0), "draws: 0 is too few"),
        (lambda: ensemble(made, metric="pearson"), "'pearson' is for labels that are numbers"),
        (lambda: ensemble(broken), "a: 1 of 3 trials have logits that are not finite"),
        (lambda: multibootstrap(one), r"1 trial\(s\) with predictions; at least 2 are needed"),
        (lambda: multibootstrap(made, statistic="bleu"), "'bleu' is unknown"),
        (lambda: multibootstrap(made, draws=1), "draws: 1 is too few"),
        (lambda: multibootstrap(made, confidence=95), "confidence: 95 is not"),
        (lambda: multibootstrap(made, resample="rows"), "resample: 'rows' is unknown"),
        (lambda: multibootstrap(fine._replace(factors=()), resample="seeds"), "needs a column of seeds"),
        (lambda: multibootstrap(fine, predicting(logits, 1 - labels, "b")), "a and b: their labels on dev differ"),
        (lambda: multibootstrap(fine, fine._replace(metric="mcc")), "different metrics"),
        (lambda: multibootstrap(predicting(logits, labels[:3])), "logits are 4 x 2 and dev has 3 examples"),
        (lambda: multibootstrap(predicting(logits, -np.ones(4))), "no example of dev has a label"),
        (lambda: multibootstrap(fine, statistic=lambda logits, labels: math.nan), "of some trial is not a finite"),
    ]  # fmt: skip
    for asked, message in cases:
        with pytest.raises(BadInput, match=message) as caught:
            asked()
        assert "\n" not in str(caught.value)
    assert ensemble(broken, drop=True)["size"].tolist() == [1, 2]


def test_examples_without_a_label_are_left_out():
    labels = np.array([0, 1, -1, 0])
    got = predictions.read(predicting(np.zeros((2, 4, 2)), labels))
    assert got.logits.shape == (2, 3, 2)
    assert got.labels.tolist() == [0, 1, 0]
