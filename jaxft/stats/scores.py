"""The scores that every analysis begins with: of a run folder, of a CSV file, of a matrix, or of the paper's release.

No jax here.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxft import release
from jaxft.errors import BadInput
from jaxft.folder import URL, store
from jaxft.folder.store import Run
from jaxft.release import foreign
from jaxft.stats import named, table
from jaxft.stats.cells import Frame, short
from jaxft.stats.table import Table
from jaxft.study.trials import Seeds, expand


class Scores(NamedTuple):
    """The trials of one study on one task with one setting: they differ in seeds alone."""

    name: str
    """For titles and messages: "runs/mrpc", "scores.csv, task rte", "runs/rates, hp.train.lr 2e-05"."""
    task: str
    metric: str
    setting: dict[str, Any]
    """By column, what tells these trials from others of the same source: {"hp.train.lr": 2e-5}."""
    trials: pd.DataFrame
    """A row per trial: `trial` (its id, text), `score` (its best of training; NaN: never evaluated), `final_score` (NaN
    where not known), `status` (completed, diverged or stopped; completed where not known), `reason`, `steps` (NaN where
    not known), `majority_score` (NaN where not known), and a column of integers per seed.
    """
    factors: tuple[str, ...]
    """Columns of seeds that vary, `init_seed` and `order_seed` first; of streams that follow another, only that one."""
    evals: pd.DataFrame
    """A row per trial and evaluation on dev, in order: trial, step, epoch (NaN where not known), score, loss (NaN where
    not known), and columns `grad_norm.*` where they were recorded. Empty where the source has no curves.
    """
    run: Run | None = None
    """The run folder that they are from, for losses, predictions and examples."""
    places: tuple[str, ...] = ()
    """Factors whose numbers are but places in a matrix: the same number in another source is not the same seed."""
    source: str = ""
    """The path that was read."""


def read(source: str | Path, metric: str | None = None) -> list[Scores]:
    """All that a source has, parted by task and by setting, in its order.

    - A run folder, also of a run that goes on: its finished trials, in the order of the study. Settings are those of
      model, method, n_train and `hp.*` that vary in it.
    - A CSV file with a row per trial: init_seed, order_seed, score. It may have trial, task, metric, final_score,
      majority_score, status, reason and steps; any other column is a factor (whole numbers, its name ends in `_seed`)
      or a setting. With a column `step` the rows are evaluations, whose best is the trial's score; they may have epoch,
      loss, `grad_norm.*` and split (only dev counts).
    - A matrix of scores, rows init, columns order, with or without names of its rows and columns.
    - The paper's release schema as JSON, see `jaxft.release`.

    Args:
        source: a path, or the URL of a run folder.
        metric: the one that scores; what the source says when not given. For a CSV without a column `score` or
            `metric` it names the column of scores.

    Raises:
        BadInput: none of these, a cell without a number, ragged rows, the same seeds twice, several metrics for one
            task of which none is given, or a run folder that cannot be read or has no finished trial.
    """
    if _is_folder(source):
        run = _load(source)
        return list(_parts(str(source), _of_run(str(source), run, metric), run))
    path = Path(source)
    if _is_json(path):
        return list(_parts(str(source), _of_release(path, metric)))
    return list(_parts(str(source), table.read(path, metric)))


def _is_folder(source: str | Path) -> bool:
    return (isinstance(source, str) and bool(URL.match(source))) or os.path.isdir(source)


def _is_json(path: Path) -> bool:
    if path.suffix.lower() in (".json", ".pkl", ".pickle"):
        return True
    try:
        with path.open("rb") as file:
            start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    except (OSError, ValueError):
        return False  # what is wrong is said where it is read
    return start.startswith((b"{", b"\x80"))


def _load(source: str | Path) -> Run:
    try:
        run = store.load(source)
    except BadInput as error:
        if "unknown key" in str(error) or "cannot be read (no column" in str(error):
            raise BadInput(f"{error} (if another version of jaxft wrote it, read it with that one)") from None
        raise
    if run.trials.empty:
        raise BadInput(f"{source}: no trial is finished yet, so there are no scores")
    return run


def _of_run(source: str, run: Run, metric: str | None) -> Table:
    at = {trial.id: place for place, trial in enumerate(expand(run.study))}
    trials: Frame = run.trials.rename(columns={"best_score": "score"})
    places = np.array([at.get(trial, len(at)) for trial in trials["trial"]])
    trials = trials.iloc[np.argsort(places, kind="stable")].reset_index(drop=True)
    dev: Frame = run.evals
    dev = dev[dev["split"] == "dev"].sort_values("step", kind="stable")
    dev = dev.assign(row=dev["trial"].map({trial: row for row, trial in enumerate(trials["trial"])}))
    dev = dev.iloc[np.argsort(dev["row"].to_numpy(), kind="stable")].reset_index(drop=True)
    if metric is not None and (trials["metric"] != metric).any():
        trials = _rescored(source, trials, dev, metric)
    recorded = dev["row"].map(trials["metric"])
    score: Frame = pd.Series(math.nan, dev.index)
    for name in recorded.unique():
        if name not in dev:
            raise BadInput(f"{source}: evals/ has no column {short(name)}, the metric of its trials")
        score = score.where(recorded != name, dev[name])
    norms = [name for name in dev if name.startswith("grad_norm.")]
    evals = dev.assign(score=score)[[*table.EVALS, *norms]]
    settings = [name for name in trials if name in ("model", "method", "n_train") or name.startswith("hp.")]
    return Table(trials, evals, tuple(settings))


def _rescored(source: str, trials: Frame, dev: Frame, metric: str) -> Frame:
    """The trials, with the best and the last of another metric that was reported."""
    known = [n for n in dev if n not in {*table.EVALS, "trial", "split"} and not n.startswith("grad_norm.")]
    if metric not in known:
        raise BadInput(f"{source}: no metric {metric!r} in it; found {', '.join(known) or 'none'}")
    by = dev.dropna(subset=[metric]).groupby("row")[metric]
    last = dev.groupby("row")[metric].last(skipna=False)
    mine = trials["metric"] == metric
    changed = {"score": by.max(), "final_score": last, "majority_score": pd.Series(dtype=float)}
    return trials.assign(
        **{name: trials[name].where(mine, values.reindex(trials.index)) for name, values in changed.items()},
        metric=metric,
    )


def _of_release(path: Path, metric: str | None) -> Table:
    found = release.read(path, metric)
    trials: Frame = found.trials.rename(columns={"best_score": "score"}).assign(majority_score=math.nan)
    evals: Frame = found.evals
    evals = evals.assign(row=evals["trial"].map({trial: row for row, trial in enumerate(trials["trial"])}))
    # The schema's `before` is an evaluation at step 0 of what was not trained: no score counts it.
    before = set()
    if (evals["step"] == 0).any():
        for one, name in zip(foreign.trials(path), trials["metric"], strict=True):
            before |= {one.id} if name not in one.metrics or 0 not in one.metrics[name].during else set()
    evals = evals[(evals["step"] > 0) | ~evals["trial"].isin(before)]
    recorded = evals["row"].map(trials["metric"])
    score: Frame = pd.Series(math.nan, evals.index)
    for name in recorded.unique():
        score = score.where(recorded != name, evals[name])
    evals = evals.assign(score=score, epoch=math.nan)[[*table.EVALS]].sort_values(["row", "step"], ignore_index=True)
    return Table(trials, evals, ())


def _parts(source: str, found: Table, run: Run | None = None) -> Iterator[Scores]:
    """One for each task and setting."""
    trials, tasks = found.trials, found.trials["task"].nunique()
    settings = [name for name in found.settings if trials[name].nunique(dropna=False) > 1]
    unlike = [name for name in settings if trials[name].nunique(dropna=False) == len(trials)]
    if unlike:
        raise BadInput(
            f"{source}: column {short(unlike[0])} differs in every row, so it is neither a seed (whose name ends in "
            "_seed) nor a setting that trials share; leave it out"
        )
    called = {name: named.settings(name, trials[name]) for name in settings}
    for key, rows in trials.groupby(["task", *settings], sort=False, dropna=False):
        task, *values = (value.item() if hasattr(value, "item") else value for value in key)
        # Not a number is what another method's trials have of an argument: it is no setting of these.
        setting = {name: value for name, value in zip(settings, values, strict=True) if value == value}
        said = [f"task {short(task)}"] * (tasks > 1) + [
            f"{name} {called[name][value]}" for name, value in setting.items()
        ]
        name = ", ".join([source, *said])
        metrics = rows["metric"].drop_duplicates().tolist()
        if len(metrics) > 1:
            there = ", ".join(map(short, metrics))
            raise BadInput(f"{name}: several metrics, {there}: say which one scores, in `metric`")
        seeds = _seeds(rows)
        if rows.duplicated(seeds).any():
            again = rows[rows.duplicated(seeds)].iloc[0]
            said = ", ".join(f"{n} {again[n]}" for n in seeds)
            raise BadInput(f"{name}: two trials with the same seeds ({said}); expected one")
        columns = ["trial", "score", "final_score", "status", "reason", "steps", "majority_score", *seeds]
        evals = found.evals[found.evals["row"].isin(rows.index)]
        evals = evals.assign(trial=evals["row"].map(rows["trial"])).drop(columns="row").reset_index(drop=True)
        yield Scores(
            name,
            str(task),
            str(metrics[0]),
            setting,
            rows[columns].reset_index(drop=True),
            tuple(_factors(rows, seeds)),
            evals[["trial", *(column for column in evals if column != "trial")]],
            run,
            found.places,
            source,
        )


def _seeds(rows: Frame) -> list[str]:
    own = [f"{stream}_seed" for stream in Seeds._fields]
    others = [name for name in rows if name.endswith("_seed") and name not in own]
    return [*(name for name in own if name in rows), *others]


def _factors(rows: Frame, seeds: list[str]) -> Iterator[str]:
    """Those that vary, but for streams that follow the order or the init one by one."""
    for name in seeds:
        if rows[name].nunique() < 2:
            continue
        leads = ["order_seed", "init_seed"] if name not in ("init_seed", "order_seed") else []
        if not any(_follows(rows, name, lead) for lead in leads if lead in rows):
            yield name


def _follows(rows: Frame, name: str, lead: str) -> bool:
    pairs = len(rows[[name, lead]].drop_duplicates())
    return pairs == rows[name].nunique() == rows[lead].nunique()
