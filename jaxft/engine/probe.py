"""How well other tasks can be told from a fine-tuned encoder that is frozen: a linear probe of its first token's state.

What Aghajanyan et al. 2020 (R3F, section 4) measure representation collapse by, and Zhang et al. 2022 (DPS) after them.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxft import tasks
from jaxft.data import batch
from jaxft.data.batch import Packed
from jaxft.engine import replica
from jaxft.engine.recipe import Recipe, Replica
from jaxft.errors import BadInput
from jaxft.models import compact
from jaxft.study.others import PROBE, Other
from jaxft.study.trials import size
from jaxft.types import Anywhere, Split

STRENGTH = 1.0
"""Of the penalty on the squared weights, halved, beside the sum of the losses: scikit-learn's default."""


class Probe(NamedTuple):
    """A data set of another task."""

    examples: Split
    """Those that the probe is fitted to, then those that it is scored on."""
    fitted: int
    """How many come first."""
    fingerprint: str
    """A hash of the tokenised content."""


class Ready(NamedTuple):
    """A probe as the model of a group reads it."""

    packed: Packed
    fitted: int


def load(others: Sequence[Other], tokenizer: Any, positions: int, max_length: int) -> dict[str, Probe]:
    """The data of the entries of `eval.probe`, by name.

    Where an entry says `n_train`, so many of its training examples are drawn, the same ones for all trials and studies.

    Raises:
        BadInput: a set cannot be read, or its labels are no classes.
    """
    found = {}
    for other in others:
        try:
            config = other.task(max_length)
            task = tasks.load(config, tokenizer, positions)
            if not task.labels:
                raise BadInput("its labels are numbers; a probe tells classes")
        except BadInput as error:
            raise BadInput(f"{PROBE}: {other.name}: {str(error).removeprefix('task.')}") from None
        train = task.train
        if config.n_train is not None:
            train = drawn(train, size(config.n_train, len(train.labels)))
        found[other.name] = Probe(joined(train, task.evals["dev"]), len(train.labels), task.fingerprint)
    return found


def drawn(split: Split, count: int) -> Split:
    """So many examples at random, always the same, in their order."""
    draw = Random(0).random  # of all that `random` draws, only this stream is the same in every Python
    chosen = sorted(sorted(range(len(split.labels)), key=[draw() for _ in split.labels].__getitem__)[:count])
    pieces = [split.tokens[split.offsets[i] : split.offsets[i + 1]] for i in chosen]
    offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int32)
    return Split(np.concatenate(pieces), offsets, split.second[chosen], split.labels[chosen])


def joined(one: Split, other: Split) -> Split:
    """The examples of both."""
    offsets = np.concatenate([one.offsets, one.offsets[-1] + other.offsets[1:]]).astype(np.int32)
    parts = (np.concatenate(pair) for pair in zip(one, other, strict=True))
    return Split(*parts)._replace(offsets=offsets)


def ready(probes: Mapping[str, Probe], kept: compact.Kept, rows: int) -> dict[str, Ready]:
    """Packed in batches of so many rows, in the tokens of a model that has only the kept rows of its tables."""
    return {
        name: Ready(batch.pack(compact.renumbered(probe.examples, kept), rows, 0), probe.fitted)
        for name, probe in probes.items()
    }


def reader(
    recipe: Recipe, pretrained: Mapping[str, Anywhere], probes: Mapping[str, Ready], precision: str
) -> Callable[[Replica], dict[str, float]]:
    """What gives the accuracy of each probe, for a replica in host memory; NaN where its states are not finite.

    A program of its own, compiled at its first use and run on the first device of this process, for one replica at a
    time: a forward pass over a probe's examples.
    """
    state = jax.jit(partial(states, recipe))

    def read(trained: Replica) -> dict[str, float]:
        found = {}
        for name, (packed, fitted) in probes.items():
            matmuls = jax.default_matmul_precision("highest" if precision == "bfloat16" else precision)
            with matmuls, jax.default_device(jax.local_devices()[0]):
                x = np.asarray(state(pretrained, trained, packed), np.float64)
            found[name] = accuracy(x, packed.labels, fitted) if np.isfinite(x).all() else float("nan")
        return found

    return read


def states(recipe: Recipe, pretrained: Mapping[str, Anywhere], trained: Replica, packed: Packed) -> Float[Array, "N D"]:
    """The encoder's last hidden state at the first token of each example, without dropout."""
    method = recipe.method(trained.hp.__getitem__)
    weights = {**replica.start(recipe, pretrained, trained.seeds, method), **trained.params}
    found = lax.map(lambda one: recipe.model.apply(weights, one).hidden[-1], packed.batches)
    return found.reshape(-1, found.shape[-1])[packed.back].astype(jnp.float32)


def accuracy(x: Float[np.ndarray, "N D"], labels: Int[np.ndarray, " N"], fitted: int) -> float:
    """Of a regression on the first `fitted` examples, on the others whose label is known; NaN if there are none.

    Each feature has mean 0 and standard deviation 1 over the former, unless it is constant.
    """
    spread = x[:fitted].std(axis=0)
    x = (x - x[:fitted].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    weights = fit(x[:fitted], labels[:fitted], int(labels.max()) + 1)
    said = (_with_ones(x[fitted:]) @ weights).argmax(axis=1)
    known = labels[fitted:] >= 0
    return float(np.mean(said[known] == labels[fitted:][known])) if known.any() else float("nan")


def fit(
    x: Float[np.ndarray, "N D"], labels: Int[np.ndarray, " N"], classes: int, strength: float = STRENGTH
) -> Float[np.ndarray, "D+1 C"]:
    """Multinomial logistic regression: minimises sum(cross-entropy) + strength / 2 * sum(weights ** 2).

    The last row holds the intercepts, which are not penalised. By L-BFGS from 0, in float64: always the same result on
    the same machine.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    x = _with_ones(x)
    true = np.eye(classes)[labels]
    penalty = np.full((x.shape[1], 1), strength)
    penalty[-1] = 0.0

    def at(flat: np.ndarray) -> tuple[float, np.ndarray]:
        """The objective, a mean, and its gradient."""
        w = flat.reshape(-1, classes)
        logp = log_softmax(x @ w, axis=1)
        value = 0.5 * np.sum(penalty * w * w) - np.sum(logp * true)
        return float(value / len(x)), ((x.T @ (np.exp(logp) - true) + penalty * w) / len(x)).ravel()

    tight = {"maxiter": 10_000, "maxfun": 20_000, "gtol": 1e-9, "ftol": 0.0, "maxcor": 30}
    start = np.zeros(x.shape[1] * classes)
    return minimize(at, start, jac=True, method="L-BFGS-B", options=tight).x.reshape(-1, classes)


def _with_ones(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)
