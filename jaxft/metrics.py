"""The metrics of the field, from logits, in float64 on the host; each equals scikit-learn's."""

from collections.abc import Sequence

import numpy as np

from jaxft.errors import BadInput


def _accuracy(said: np.ndarray, true: np.ndarray) -> float:
    return float(np.mean(said == true))


def _f1(said: np.ndarray, true: np.ndarray) -> float:
    """F1 of class 1; 0 where neither side has it."""
    hits = np.sum((said == 1) & (true == 1))
    either = np.sum(said == 1) + np.sum(true == 1)
    return float(2 * hits / either) if either else 0.0


def _mcc(said: np.ndarray, true: np.ndarray) -> float:
    """Matthews correlation over any number of classes (Gorodkin 2004); 0 where either side is constant."""
    classes = int(max(said.max(), true.max())) + 1
    p, t = (np.bincount(side, minlength=classes).astype(np.float64) for side in (said, true))
    n = float(len(true))
    spread = (n * n - np.dot(p, p)) * (n * n - np.dot(t, t))
    return float((np.sum(said == true) * n - np.dot(p, t)) / np.sqrt(spread)) if spread else 0.0


def _accuracy_f1(said: np.ndarray, true: np.ndarray) -> float:
    return (_accuracy(said, true) + _f1(said, true)) / 2


_METRICS = {"accuracy": _accuracy, "f1": _f1, "mcc": _mcc, "accuracy_f1": _accuracy_f1}
_BINARY = ("f1", "accuracy_f1")
NAMES: tuple[str, ...] = tuple(_METRICS)
"""accuracy; f1 of class 1 of two; mcc (Matthews); accuracy_f1, the first two's mean (GLUE's for MRPC)."""


def fitting(classes: int) -> tuple[str, ...]:
    """The metrics that so many classes have."""
    return tuple(name for name in NAMES if classes == 2 or name not in _BINARY)


def check(name: str, classes: int) -> None:
    """Raises BadInput for an unknown metric, or one that does not fit the number of classes."""
    if name not in fitting(classes):
        why = f"is for two classes, and there are {classes}" if name in NAMES else "is unknown"
        raise BadInput(f"task.metric: {name!r} {why}; accepted are {', '.join(fitting(classes))}")


def score(names: Sequence[str], logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The named metrics of the argmax predictions.

    `logits` is [N, C], `labels` [N] class numbers. Examples with label -1 are left out; with no label known
    every metric is NaN. A row with a NaN predicts the class of its first NaN, as argmax does. Raises BadInput
    for a name that is unknown or does not fit C classes.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    for name in names:
        check(name, logits.shape[1])
    known = labels >= 0
    said, true = logits.argmax(axis=1)[known], labels[known]
    return {name: _METRICS[name](said, true) if len(true) else float("nan") for name in names}


def majority(metric: str, labels: np.ndarray) -> float:
    """The score of the best constant prediction; `labels` as in `score`."""
    labels = np.asarray(labels)
    classes = max(2, int(labels.max(initial=-1)) + 1)
    constants = np.eye(classes)
    return max(score((metric,), np.tile(row, (len(labels), 1)), labels)[metric] for row in constants)


def loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean cross-entropy in nats; labels as in `score`. Not finite where the logits are not."""
    labels = np.asarray(labels)
    known = labels >= 0
    if not known.any():
        return float("nan")
    with np.errstate(invalid="ignore"):  # inf - inf: a diverged replica's loss is NaN
        logits = np.asarray(logits, np.float64)[known]
        logits = logits - logits.max(axis=1, keepdims=True)
        picked = np.take_along_axis(logits, labels[known][:, None], axis=1)[:, 0]
        return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - picked))
