"""Averages of parameters after training: WiSE-FT and model soups.

Wortsman et al. 2022a, "Robust fine-tuning of zero-shot models" (arXiv 2109.01903): on the line from w0 to w1.
Wortsman et al. 2022b, "Model soups" (arXiv 2203.05482): the mean of several models, and the greedy soup (recipe 1).
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import jax
import numpy as np
from jaxtyping import Float

from jaxft import models
from jaxft.engine import replica
from jaxft.engine.recipe import Entry, Recipe, Shared
from jaxft.types import Anywhere, Params

ALPHAS = tuple(tenths / 10 for tenths in range(11))
"""On the line of WiSE-FT: 0 is where a trial started, 1 where it ended."""

Weights = dict[str, np.ndarray]
"""Parameters on the host, flat, float32; all that are averaged have the same names and shapes."""


def wise(w0: Mapping[str, np.ndarray], w1: Mapping[str, np.ndarray], alpha: float) -> Weights:
    """(1 - alpha) w0 + alpha w1 of every parameter (Wortsman et al. 2022a, section 3), rounded once.

    At 0 and 1 it is w0 or w1, bit for bit.
    """
    return {name: ((1 - alpha) * x.astype(np.float64) + alpha * w1[name]).astype(x.dtype) for name, x in w0.items()}


def uniform(members: Iterable[Mapping[str, np.ndarray]]) -> Weights:
    """The mean of every parameter, taken in float64 and rounded once.

    One member is in memory at a time beside their sum, if `members` makes them as they are asked for.

    Raises:
        ValueError: there are none.
    """
    total, count = {}, 0
    for member in members:
        total, count = _added(total, member), count + 1
    if not count:
        raise ValueError("a soup of no members")
    return _mean(total, count)


def greedy(members: Iterable[Mapping[str, np.ndarray]], score: Callable[[Weights], float]) -> tuple[list[int], Weights]:
    """The greedy soup: each member in turn stays if the mean with it scores no less than the mean without it.

    Args:
        members: best first, by what they score alone; made as they are asked for, one is in memory at a time.
        score: of a mean, on the validation set; more is better.

    Returns:
        The places of those that stay, the first always, and their mean.

    Raises:
        ValueError: there are none.
    """
    chosen: list[int] = []
    total, soup, best = {}, {}, float("-inf")
    for place, member in enumerate(members):
        more = _added(total, member)
        mean = _mean(more, len(chosen) + 1)
        found = score(mean)
        if not chosen or found >= best:
            total, soup, best = more, mean, found
            chosen.append(place)
    if not chosen:
        raise ValueError("a soup of no members")
    return chosen, soup


def evaluator(recipe: Recipe, shared: Shared, precision: str) -> Callable[..., dict[str, Float[np.ndarray, "N C"]]]:
    """What gives the logits of whole parameters by evaluation set: `(weights, sets=all of them) -> logits`.

    Programs of their own, compiled at their first use and run on the first device of this process, for one model at a
    time: others than that of a block, so that a trial's own logits come out the same but for the last bits.
    """
    logits = jax.jit(partial(replica.evaluate, recipe))

    def evaluate(weights: Weights, sets: Iterable[str] = tuple(shared.evals)) -> dict[str, np.ndarray]:
        matmuls = jax.default_matmul_precision("highest" if precision == "bfloat16" else precision)
        with matmuls, jax.default_device(jax.local_devices()[0]):
            there = jax.device_put(weights)
            return {name: np.asarray(logits(there, shared.evals[name])) for name in sets}

    return evaluate


def starter(recipe: Recipe, pretrained: Mapping[str, Anywhere]) -> Callable[[Entry], Weights]:
    """What gives the whole parameters that a trial starts from, those of its method's ports included."""

    def start(pretrained: Mapping[str, Anywhere], entry: Entry) -> Params:
        return replica.start(recipe, pretrained, entry.seeds, recipe.method(entry.hp.__getitem__))

    made = jax.jit(start)  # the encoder is an argument: no program has it for a constant

    def found(entry: Entry) -> Weights:
        with jax.default_device(jax.local_devices()[0]):
            return jax.tree.map(np.asarray, made(dict(pretrained), entry))

    return found


def whole(start: Mapping[str, np.ndarray], owned: Mapping[str, np.ndarray]) -> Weights:
    """The model of a trial as averages take it: what it owns over its start, low-rank maps folded in.

    For the mean of two products is not the product of the means. Adapters are parameters like any other.
    """
    return models.folded({**start, **owned})


def _added(total: Weights, member: Mapping[str, np.ndarray]) -> Weights:
    """Float64."""
    return {name: total[name] + x if total else x.astype(np.float64) for name, x in member.items()}


def _mean(total: Weights, count: int) -> Weights:
    return {name: (x / count).astype(np.float32) for name, x in total.items()}
