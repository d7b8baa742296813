import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from jaxft import metrics
from jaxft.errors import BadInput

BINARY = metrics.fitting(2)


def one_hot(predictions, classes=2):
    return np.eye(classes)[np.asarray(predictions)]


def by_sklearn(said, true, classes):
    values = {"accuracy": sk.accuracy_score(true, said), "mcc": sk.matthews_corrcoef(true, said)}
    if classes == 2:
        values["f1"] = sk.f1_score(true, said, zero_division=0)
        values["accuracy_f1"] = (values["accuracy"] + values["f1"]) / 2
    return values


@pytest.mark.filterwarnings("ignore:A single label was found")  # of scikit-learn
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_equal_to_sklearn_on_random_predictions(classes):
    rng = np.random.default_rng(classes)
    for n in (1, 2, 3, 10, 200):
        for _ in range(10):
            logits = rng.normal(size=(n, classes)).astype(np.float32)
            true = rng.integers(0, classes, n)
            expected = by_sklearn(logits.argmax(1), true, classes)
            assert metrics.score(metrics.fitting(classes), logits, true) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("said", ["zeros", "ones"])
def test_equal_to_sklearn_on_constant_predictions(said):
    true = np.array([1, 1, 1, 0, 0])
    predictions = np.full(5, int(said == "ones"))
    expected = by_sklearn(predictions, true, 2)
    assert metrics.score(BINARY, one_hot(predictions), true) == pytest.approx(expected)
    assert expected["mcc"] == 0


def test_perfect_inverted_and_one_class():
    true = np.array([0, 1, 1, 0])
    perfect = metrics.score(BINARY, one_hot(true), true)
    assert perfect == {"accuracy": 1, "f1": 1, "mcc": 1, "accuracy_f1": 1}
    assert metrics.score(["mcc"], one_hot(1 - true), true) == {"mcc": -1}
    zeros = np.zeros(4, int)
    none = metrics.score(BINARY, one_hot(zeros), zeros)
    assert none == {"accuracy": 1, "f1": 0, "mcc": 0, "accuracy_f1": 0.5}


def test_unknown_labels_are_left_out():
    logits = one_hot([0, 1, 1, 0])
    assert metrics.score(["accuracy"], logits, np.array([0, -1, 0, -1])) == {"accuracy": 0.5}
    assert metrics.loss(logits, np.array([0, -1, 1, -1])) == pytest.approx(np.log(1 + np.exp(-1)))
    unknown = np.full(4, -1)
    assert np.isnan(metrics.score(["accuracy"], logits, unknown)["accuracy"])
    assert np.isnan(metrics.loss(logits, unknown))
    assert np.isnan(metrics.majority("accuracy", unknown))


@pytest.mark.filterwarnings("error")
def test_logits_of_a_diverged_replica_do_not_crash():
    true = np.array([0, 1, 1])
    for bad in (np.nan, np.inf, -np.inf):
        logits = np.full((3, 2), bad, np.float32)
        assert metrics.score(["accuracy"], logits, true)["accuracy"] == pytest.approx(1 / 3)
        assert np.isnan(metrics.loss(logits, true))
    assert metrics.loss(np.array([[0.0, -np.inf]]), np.array([1])) == np.inf


def test_loss_equals_sklearn_and_does_not_overflow():
    rng = np.random.default_rng(0)
    logits, true = rng.normal(size=(50, 3)), rng.integers(0, 3, 50)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert metrics.loss(logits, true) == pytest.approx(sk.log_loss(true, shares, labels=[0, 1, 2]))
    assert metrics.loss(np.array([[1e4, 0.0]]), np.array([1])) == 1e4


def test_majority_is_the_best_constant_prediction():
    labels = np.array([0, 0, 0, 1, 2, 2])
    assert metrics.majority("accuracy", labels) == 0.5
    assert metrics.majority("mcc", labels) == 0
    two = np.array([0, 0, 0, 1])
    assert metrics.majority("f1", two) == pytest.approx(0.4)
    # all negative: (.75 + 0) / 2; all positive: (.25 + .4) / 2
    assert metrics.majority("accuracy_f1", two) == pytest.approx(0.375)
    assert metrics.majority("f1", np.array([0, 0])) == 0


def test_a_metric_must_be_known_and_fit_the_classes():
    assert metrics.fitting(2) == ("accuracy", "f1", "mcc", "accuracy_f1")
    assert metrics.fitting(0) == ("pearson", "spearman", "pearson_spearman")
    assert metrics.fitting(2) + metrics.fitting(0) == metrics.NAMES
    assert metrics.fitting(3) == ("accuracy", "mcc")
    with pytest.raises(BadInput, match=r"'f1' is for two classes, and there are 3; accepted are accuracy, mcc$"):
        metrics.score(["f1"], np.zeros((2, 3)), np.array([0, 1]))
    with pytest.raises(BadInput, match="'acc' is unknown; accepted are accuracy, f1, mcc, accuracy_f1"):
        metrics.score(["acc"], np.zeros((2, 2)), np.array([0, 1]))
    with pytest.raises(BadInput, match=r"'pearson' is for labels that are numbers .*, and these are classes; accepted"):
        metrics.score(["pearson"], np.zeros((2, 2)), np.array([0, 1]))
    with pytest.raises(BadInput, match=r"'f1' is for classes, and the labels are numbers .*; accepted are pearson, sp"):
        metrics.score(["f1"], np.zeros((2, 1)), np.array([0.5, 1.5]))


NUMBERS = st.floats(-5, 5, width=32) | st.sampled_from([0.0, 1.0, 2.5])  # with ties


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=40))
def test_correlations_equal_scipy_with_ties_and_tiny_spreads(pairs):
    said, true = np.array(pairs, np.float32).T
    found = metrics.score(metrics.fitting(0), said[:, None], true)
    if np.ptp(said) == 0 or np.ptp(true) == 0:
        assert set(found.values()) == {0.0}
        return
    ranks = stats.spearmanr(said, true).statistic
    assert found["spearman"] == pytest.approx(ranks, abs=1e-12)
    wide = all(np.ptp(side) > 1e-9 * np.abs(side).max() and np.ptp(side) > 1e-30 for side in (said, true))
    if wide:  # scipy warns of near-constant input, whose value is rounding
        linear = stats.pearsonr(said.astype(np.float64), true.astype(np.float64)).statistic
        assert found["pearson"] == pytest.approx(linear, abs=1e-9)
    assert found["pearson_spearman"] == pytest.approx((found["pearson"] + found["spearman"]) / 2)


def test_numbers_on_the_scale_of_stsb_equal_scipy():
    rng = np.random.default_rng(1)
    true = np.round(rng.uniform(0, 5, 1500) * 5) / 5  # many ties, as in STS-B
    said = (true + rng.normal(size=1500)).astype(np.float32)
    found = metrics.score(metrics.fitting(0), said[:, None], np.append(true[:-1], np.nan))  # one is not known
    assert found["pearson"] == pytest.approx(stats.pearsonr(said[:-1].astype(float), true[:-1])[0], abs=1e-13)
    assert found["spearman"] == pytest.approx(stats.spearmanr(said[:-1], true[:-1])[0], abs=1e-13)
    assert metrics.loss(said[:, None], true) == pytest.approx(np.mean((said - true) ** 2))
    assert metrics.majority("pearson_spearman", true) == 0
    assert np.isnan(metrics.majority("pearson", np.full(3, np.nan)))
    assert np.isnan(metrics.loss(said[:3, None], np.full(3, np.nan)))
