"""The metrics of the field, from logits, in float64 on the host; each equals scikit-learn's or scipy's.

Labels are class numbers (integers), or numbers to be predicted (floats): a regression, whose logits are [N, 1].
"""

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


def _pearson(said: np.ndarray, true: np.ndarray) -> float:
    """0 where either side is constant, for which it is not defined."""
    if np.ptp(said) == 0 or np.ptp(true) == 0:
        return 0.0
    p, t = (side - side.mean() for side in (said, true))
    # Each by its own size first: the product of both might underflow.
    return float(np.clip(np.dot(p / np.linalg.norm(p), t / np.linalg.norm(t)), -1, 1))


def _spearman(said: np.ndarray, true: np.ndarray) -> float:
    return _pearson(_ranks(said), _ranks(true))


def _ranks(values: np.ndarray) -> np.ndarray:
    """From 1; equal values share the mean of their ranks."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def _pearson_spearman(said: np.ndarray, true: np.ndarray) -> float:
    return (_pearson(said, true) + _spearman(said, true)) / 2


_BINARY = {"f1": _f1, "accuracy_f1": _accuracy_f1}
_CLASSES = {"accuracy": _accuracy, "f1": _f1, "mcc": _mcc, "accuracy_f1": _accuracy_f1}
_NUMBERS = {"pearson": _pearson, "spearman": _spearman, "pearson_spearman": _pearson_spearman}
_METRICS = _CLASSES | _NUMBERS
NAMES: tuple[str, ...] = tuple(_METRICS)
"""Of classes: accuracy; f1 of class 1 of two; mcc (Matthews); accuracy_f1, the first two's mean (GLUE's for MRPC and
QQP). Of numbers: pearson and spearman, correlations with the labels; pearson_spearman, their mean (GLUE's for STS-B).
"""


def fitting(classes: int) -> tuple[str, ...]:
    """The metrics that so many classes have; 0 for a regression."""
    if not classes:
        return tuple(_NUMBERS)
    return tuple(name for name in _CLASSES if classes == 2 or name not in _BINARY)


def check(name: str, classes: int) -> None:
    """Raises BadInput for an unknown metric, or one that does not fit the number of classes (0 for a regression)."""
    if name in fitting(classes):
        return
    if name not in NAMES:
        why = "is unknown"
    elif name in _NUMBERS:
        why = "is for labels that are numbers to be predicted (task.regression), and these are classes"
    elif not classes:
        why = "is for classes, and the labels are numbers to be predicted"
    else:
        why = f"is for two classes, and there are {classes}"
    raise BadInput(f"task.metric: {name!r} {why}; accepted are {', '.join(fitting(classes))}")


def score(names: Sequence[str], logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The named metrics, of the argmax predictions where the labels are classes.

    `logits` is [N, C], `labels` [N]. Examples with label -1 or NaN are left out; with no label known every metric is
    NaN. A row with a NaN predicts the class of its first NaN, as argmax does. Constant predictions, or labels, have a
    correlation of 0. Raises BadInput for a name that is unknown or does not fit C classes.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    numbers = _are_numbers(labels)
    for name in names:
        check(name, 0 if numbers else logits.shape[1])
    known = _known(labels)
    said = logits[known, 0].astype(np.float64) if numbers else logits[known].argmax(axis=1)
    true = labels[known].astype(np.float64) if numbers else labels[known]
    return {name: _METRICS[name](said, true) if len(true) else float("nan") for name in names}


def merged(logits: np.ndarray, into: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Logits [N, C] of classes that count as others, `into` [C], twice as logits of those: [N, max(into) + 1].

    First the largest of each, of which the largest is where the largest of all counts: a prediction of any of the
    classes is one of what it counts as (Zhang et al. 2022, out of domain). Then the logarithm of the sum of their
    exponentials, whose softmax adds up their probabilities.
    """
    columns = [[c for c, other in enumerate(into) if other == number] for number in range(max(into) + 1)]
    with np.errstate(invalid="ignore"):
        largest, summed = (np.stack([f.reduce(logits[:, c], axis=1) for c in columns], axis=1)
                           for f in (np.maximum, np.logaddexp))  # fmt: skip
    return largest, summed


def judged(
    names: Sequence[str], logits: np.ndarray, labels: np.ndarray, into: Sequence[int] | None = None
) -> tuple[float, dict[str, float], np.ndarray]:
    """The loss of a split and the named metrics, all NaN where the logits are not finite; and the logits.

    `into` is as in `merged`, for the set of another task: metrics and logits are then those of its classes.
    """
    summed = logits
    if into:
        names = fitting(max(into) + 1)
        logits, summed = merged(logits, into)
    if not np.isfinite(logits).all():
        return float("nan"), dict.fromkeys(names, float("nan")), logits
    return loss(summed, labels), score(names, logits, labels), logits


def majority(metric: str, labels: np.ndarray) -> float:
    """The score of the best constant prediction; `labels` as in `score`."""
    labels = np.asarray(labels)
    classes = max(2, int(labels.max(initial=-1)) + 1) if not _are_numbers(labels) else 1
    constants = np.eye(classes)
    return max(score((metric,), np.tile(row, (len(labels), 1)), labels)[metric] for row in constants)


def loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean cross-entropy in nats, or the mean squared error; labels as in `score`.

    Not finite where the logits are not.
    """
    labels = np.asarray(labels)
    known = _known(labels)
    if not known.any():
        return float("nan")
    with np.errstate(invalid="ignore"):  # inf - inf: a diverged replica's loss is NaN
        logits = np.asarray(logits, np.float64)[known]
        if _are_numbers(labels):
            return float(np.mean((logits[:, 0] - labels[known]) ** 2))
        logits = logits - logits.max(axis=1, keepdims=True)
        picked = np.take_along_axis(logits, labels[known][:, None], axis=1)[:, 0]
        return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - picked))


def _are_numbers(labels: np.ndarray) -> bool:
    return labels.dtype.kind == "f"


def _known(labels: np.ndarray) -> np.ndarray:
    return ~np.isnan(labels) if _are_numbers(labels) else labels >= 0
