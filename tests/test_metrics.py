import numpy as np
import pytest
from sklearn import metrics as sk

from jaxft import metrics
from jaxft.errors import BadInput


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
    assert metrics.score(metrics.NAMES, one_hot(predictions), true) == pytest.approx(expected)
    assert expected["mcc"] == 0


def test_perfect_inverted_and_one_class():
    true = np.array([0, 1, 1, 0])
    perfect = metrics.score(metrics.NAMES, one_hot(true), true)
    assert perfect == {"accuracy": 1, "f1": 1, "mcc": 1, "accuracy_f1": 1}
    assert metrics.score(["mcc"], one_hot(1 - true), true) == {"mcc": -1}
    zeros = np.zeros(4, int)
    none = metrics.score(metrics.NAMES, one_hot(zeros), zeros)
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
    assert metrics.NAMES == ("accuracy", "f1", "mcc", "accuracy_f1")
    assert metrics.fitting(2) == metrics.NAMES
    assert metrics.fitting(3) == ("accuracy", "mcc")
    with pytest.raises(BadInput, match=r"'f1' is for two classes, and there are 3; accepted are accuracy, mcc$"):
        metrics.score(["f1"], np.zeros((2, 3)), np.array([0, 1]))
    with pytest.raises(BadInput, match="'acc' is unknown; accepted are accuracy, f1, mcc, accuracy_f1"):
        metrics.score(["acc"], np.zeros((2, 2)), np.array([0, 1]))
