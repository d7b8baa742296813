"""Trials in the schema that Dodge et al. released theirs in (2020, arXiv 2002.06305), as JSON. No jax here.

    {TASK: {INIT SEED: {ORDER SEED: {
        "train_loss": {"during": [the loss of each step]},
        "loss": {"before": null, "during": [[step, value], ...], "after": value},
        METRIC: likewise, for each metric on the dev set}}}}

The paper's own is a pickle with numbers for the seeds; JSON has text. In a notebook: `from jaxft import release`, then
`release.write(jaxft.load("runs/mrpc"), "mrpc.json")` for others' analyses of our trials, and
`release.read("mrpc.json")` for ours of theirs. The schema knows no settings, no other seeds, no other splits and no
predictions: these stay in the run folder.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from jaxft import folder
from jaxft.errors import BadInput, line
from jaxft.folder.rows import COLUMNS, GRADIENT, NUMBER
from jaxft.folder.store import Run
from jaxft.release import foreign, selection
from jaxft.release.foreign import Foreign
from jaxft.release.selection import Row

_TRIALS = ("trial", "task", "init_seed", "order_seed", "status", "reason", "steps", "metric", "best_score",
           "best_step", "final_score")  # fmt: skip
_EVALS = ("trial", "step", "split", "loss")


class Release(NamedTuple):
    """Such a file, read: frames with the columns of a run folder, as far as the schema knows them."""

    trials: pd.DataFrame
    """trial ("TASK/INIT/ORDER"), task, init_seed, order_seed, status, reason, steps, metric, best_score, best_step,
    final_score.
    """
    evals: pd.DataFrame
    """trial, step, split ("dev"), loss, a column per metric; NaN where a trial or an evaluation has none."""
    losses: pd.DataFrame
    """trial, train_loss [steps] float32."""


def write(runs: Run | Iterable[Run], path: str | Path, where: Mapping[str, Any] | None = None) -> int:
    """Writes the finished trials of run folders to one file.

    Steps are steps taken. `before` is null: jaxft does not evaluate what is not trained. `during` holds every
    evaluation, `after` the last. What is not finite is null. A trial that was dropped also says "status", "reason" and
    "steps"; one that was completed does not.

    Args:
        runs: one, or several, from `jaxft.load`.
        path: the file; one that is there is replaced.
        where: what the trials must have, by column, such as {"hp.train.lr": 2e-5}; also by a setting that does not
            vary within a folder.

    Returns:
        How many trials.

    Raises:
        BadInput: no trial to write, two of the same task, init and order, or a file that cannot be written.
    """
    runs = [runs] if isinstance(runs, Run) else list(runs)
    found = selection.rows(runs)
    if not found:
        names = ", ".join(str(run.folder) for run in runs) or "no run folder"
        raise BadInput(f"{names}: no trial is finished yet, so there is nothing to write")
    chosen = selection.one_each(selection.select(found, where or {}))
    metrics = _metrics(runs)
    curves = {str(run.folder): _curves(run) for run in runs}
    data: dict[str, dict[str, dict[str, Row]]] = {}
    for row in chosen:
        made = _made(row, *curves[row["folder"]][row["trial"]], metrics[row["task"]])
        data.setdefault(row["task"], {}).setdefault(str(row["init_seed"]), {})[str(row["order_seed"])] = made
    try:
        place, name = folder.split(path)
        place.write(name, json.dumps(data, allow_nan=False).encode() + b"\n")
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({line(error)}); give another file") from None
    return len(chosen)


def read(path: str | Path, metric: str | Sequence[str] | None = None) -> Release:
    """The trials in such a file, also in one that others made from the paper's own with json.dump.

    A seed may be any number from 0. `before`, `after`, `loss` and `train_loss` may be absent, null is NaN, and other
    keys are passed over. `before` is an evaluation at step 0, unless `during` has one there; `after` is one at the
    last step. A trial's score is the best of its evaluations, as in the paper, without `before`.

    Args:
        path: the file.
        metric: the one that scores, where a task has several; of a list the first that the task has.

    Raises:
        BadInput: not such a file, or a task with several metrics of which none is given.
    """
    found = list(foreign.trials(Path(path)))
    if not found:
        raise BadInput(f"{path}: no trial in it")
    scoring = _scoring(found, [metric] if isinstance(metric, str) else list(metric or ()), path)
    metrics = dict.fromkeys((name for one in found for name in one.metrics), NUMBER)
    return Release(
        _frame((_row(one, scoring[one.task]) for one in found), {n: COLUMNS["trials"][n] for n in _TRIALS}),
        _frame((row for one in found for row in _evaluations(one)), {n: COLUMNS["evals"][n] for n in _EVALS} | metrics),
        _frame(({"trial": one.id, "train_loss": _float32(one.losses)} for one in found), COLUMNS["losses"]),
    )


def _metrics(runs: Iterable[Run]) -> dict[str, list[str]]:
    """What each task reports: a column of a folder may be another task's."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        dev = run.evals.loc[lambda evals: evals["split"] == "dev"]
        used = set(dev.dropna(axis="columns", how="all"))
        elsewhere = set(run.evals.dropna(axis="columns", how="all")) - used  # what sets of other tasks alone have
        for task, trials in run.trials.groupby("task"):
            mine = dev[dev["trial"].isin(trials["trial"])].dropna(axis="columns", how="all")
            other = {*COLUMNS["evals"], *elsewhere}
            known = [name for name in run.evals if name not in other and not name.startswith(GRADIENT)]
            names = [name for name in known if name in mine or name not in used]
            found.setdefault(str(task), {}).update(dict.fromkeys([*names, *trials["metric"]]))
    return {task: list(names) for task, names in found.items()}


def _curves(run: Run) -> dict[str, tuple[pd.DataFrame, np.ndarray]]:
    """The evaluations on dev, and the training losses, of each trial by its id."""
    dev = run.evals.sort_values("step").loc[lambda evals: evals["split"] == "dev"]
    evals, none = {str(trial): rows for trial, rows in dev.groupby("trial")}, dev.iloc[:0]
    frame = run.losses
    losses = dict(zip(frame["trial"], frame["train_loss"], strict=True))
    return {trial: (evals.get(trial, none), losses.get(trial, np.zeros(0))) for trial in run.trials["trial"]}


def _made(row: Row, evals: pd.DataFrame, losses: np.ndarray, metrics: Sequence[str]) -> Row:
    """A trial as the schema has it."""
    # By way of text: the shortest number that is the same float32 takes half the room.
    made: Row = {"train_loss": {"during": _finite(losses.astype(np.float32).astype(str).astype(float))}}
    columns = evals.reindex(columns=["step", "loss", *metrics])
    for name in ("loss", *metrics):
        pairs = [list(pair) for pair in zip(columns["step"].tolist(), _finite(columns[name]), strict=True)]
        made[name] = {"before": None, "during": pairs, "after": pairs[-1][1] if pairs else None}
    if row["status"] != "completed":
        made |= {name: row[name] for name in ("status", "reason", "steps")}
    return made


def _finite(values: Iterable[float]) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]


def _scoring(found: list[Foreign], wanted: list[str], path: str | Path) -> dict[str, str]:
    """The metric that scores, by task."""
    tasks: dict[str, dict[str, None]] = {}
    for one in found:
        tasks.setdefault(one.task, {}).update(dict.fromkeys(one.metrics))
    known = dict.fromkeys(name for there in tasks.values() for name in there)
    for name in wanted:
        if name not in known:
            raise BadInput(f"{path}: no metric {name!r} in it; found {_names(known) or 'none'}")
    scoring = {}
    for task, there in tasks.items():
        place = f"{path}: {foreign.named(task)}"
        if not there:
            raise BadInput(f"{place}: no metric; expected one such as acc: {{during: [[step, value], ...]}}")
        fitting = [name for name in wanted if name in there]
        if not fitting and len(there) > 1:
            raise BadInput(f"{place}: several metrics, {_names(there)}: say which one scores, in `metric`")
        scoring[task] = (fitting or list(there))[0]
    return scoring


def _names(metrics: Iterable[str]) -> str:
    return ", ".join(map(foreign.named, metrics))


def _row(one: Foreign, metric: str) -> Row:
    best, at, final = math.nan, 0, math.nan
    for step, score in one.metrics[metric].trained(one.steps).items() if metric in one.metrics else ():
        final = score
        if math.isnan(best) or score > best:
            best, at = score, step
    scores = {"metric": metric, "best_score": best, "best_step": at, "final_score": final}
    return {**one._asdict(), "trial": one.id, "init_seed": one.init, "order_seed": one.order, **scores}


def _evaluations(one: Foreign) -> list[Row]:
    """A row per step, with every curve's value there."""
    rows: dict[int, Row] = {}
    for name, curve in {"loss": one.loss, **one.metrics}.items():
        for step, value in curve.all(one.steps).items():
            rows.setdefault(step, {"trial": one.id, "step": step, "split": "dev"})[name] = value
    return [rows[step] for step in sorted(rows)]


def _float32(values: list[float]) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.array(values, np.float64).astype(np.float32)


def _frame(rows: Iterable[Row], columns: Mapping[str, pa.DataType]) -> pd.DataFrame:
    """With the types of a run folder."""
    return pa.Table.from_pylist(list(rows), schema=pa.schema(columns)).to_pandas()
