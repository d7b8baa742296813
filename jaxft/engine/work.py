"""What the trials of a group need, by the formula of `jaxft.cost`; and how fast a pool evaluates."""

import time

import jax
import numpy as np

from jaxft import cost
from jaxft.cost.scale import Work, needs
from jaxft.engine import replica
from jaxft.engine.groups import Group, entry
from jaxft.engine.memory import held
from jaxft.engine.pool import Pool
from jaxft.study.trials import Trial
from jaxft.types import Split


class Costs:
    """What `eval.costs` keeps of the trials of a group."""

    def __init__(self, group: Group, pool: Pool):
        """Evaluates the pool's slots four times, empty or not, and takes the fastest but the first."""
        pool.run(0)  # the first call is slower
        times = [time.monotonic()]
        for _ in range(3):
            pool.run(0)
            times.append(time.monotonic())
        seconds = np.diff(times).min()
        examples = sum(len(split.labels) for split in group.task.evals.values())
        self._rate = examples * pool.slots_per_device / seconds
        self._flops = work(group).step.matmul / group.recipe.batch  # of an example, the mean
        self._group = group

    def of(self, trial: Trial, steps: int) -> dict[str, float]:
        """Its columns of trials/, after so many steps."""
        length = self._group.lengths[trial.id]
        examples = length.n_train * length.epochs * steps / length.total
        return {"train_flops": self._flops * examples, "infer_per_second": self._rate}


def work(group: Group) -> Work:
    """What the trials of a group need, from the shapes of what they train and the lengths of their examples."""
    like = entry(group.trials[0], group)
    one = jax.eval_shape(lambda shared, entry: replica.init(group.recipe, shared, entry), group.shared, like)
    w0 = jax.eval_shape(group.recipe.model.init, jax.random.key(0))
    shapes = {name: leaf.shape for name, leaf in {**w0, **one.params}.items()}
    layers, width = cost.sizes(shapes)
    totals = [length.total for length in group.lengths.values()]
    return needs(
        shapes,
        _lengths(group.task.train),
        np.concatenate([_lengths(split) for split in group.task.evals.values()]),
        batch=group.recipe.batch,
        steps=sum(totals) / len(totals),
        evaluations=sum(-(-total // group.recipe.every) for total in totals) / len(totals),
        width=width,
        layers=layers,
        dtype=group.precision,
        shared=held(group.shared),
        trained=one.params.keys(),
    )


def _lengths(split: Split) -> np.ndarray:
    """Tokens of each example."""
    return np.diff(np.asarray(split.offsets))
