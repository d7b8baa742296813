"""Scores that nobody trained, of crossed seeds, for tests of statistics."""

import numpy as np
import pandas as pd

from jaxft.stats.scores import Scores


def scores(values, name="made", **columns) -> Scores:
    """Of a matrix (rows init, columns order), an array with an axis per seed, or a list with its columns of seeds."""
    values = np.asarray(values, float)
    if not columns:
        names = ["init_seed", "order_seed", "dropout_seed", "data_seed"][: values.ndim]
        places = np.indices(values.shape).reshape(values.ndim, -1) + 1
        columns = dict(zip(names, places, strict=True))
    seeds = pd.DataFrame({column: np.asarray(found) for column, found in columns.items()})
    trials = seeds.assign(
        trial=["/".join(map(str, row)) for row in seeds.itertuples(index=False)],
        score=values.ravel(), final_score=np.nan, status="completed", reason="", steps=100.0, majority_score=np.nan,
    )  # fmt: skip
    factors = tuple(column for column in seeds if seeds[column].nunique() > 1)
    evals = pd.DataFrame({"trial": pd.Series(dtype=str), "step": 0, "epoch": 0.0, "score": 0.0, "loss": 0.0})
    return Scores(name, "made", "accuracy", {}, trials, factors, evals)


def thinned(study: Scores, keep: np.ndarray) -> Scores:
    """Some of its trials."""
    return study._replace(trials=study.trials[keep].reset_index(drop=True))


def effects(rng, levels=(6, 8), deviations=(1.0, 0.5), noise=1.0, copies=1) -> np.ndarray:
    """An additive random model: an axis per factor, and one of copies if there are several."""
    y = rng.normal(scale=noise, size=(*levels, copies))
    for axis, (count, deviation) in enumerate(zip(levels, deviations, strict=True)):
        y = y + rng.normal(scale=deviation, size=count).reshape([-1 if i == axis else 1 for i in range(y.ndim)])
    return y if copies > 1 else y[..., 0]
