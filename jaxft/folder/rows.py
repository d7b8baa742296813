"""The columns of the run folder, and the rows of a trial in them. No jax here."""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

import jaxft
from jaxft import tree
from jaxft.study.trials import Seeds, Trial

if TYPE_CHECKING:
    from jaxft.types import Task  # which imports jax

TEXT, COUNT, NUMBER = pa.string(), pa.int64(), pa.float64()
FLOATS = pa.list_(pa.float32())

SOUPS = "soups"
"""The data set of averages of trials, which has a file per group, and none of a flush."""

COLUMNS: dict[str, dict[str, pa.DataType]] = {
    "trials": {
        **dict.fromkeys(("trial", "model", "task", "method"), TEXT),
        **dict.fromkeys((f"{stream}_seed" for stream in Seeds._fields), COUNT),
        "n_train": COUNT,  # the hp.* columns stand before it
        "status": TEXT,
        "reason": TEXT,
        "policy": TEXT,
        "steps": COUNT,
        "metric": TEXT,
        "best_score": NUMBER,
        "best_step": COUNT,
        "final_score": NUMBER,
        "test_at_best": NUMBER,
        "test_at_final": NUMBER,
        "majority_score": NUMBER,
        "slots_per_device": COUNT,
        "slot": COUNT,
        "device": TEXT,
        "earlier": TEXT,
        "precision": TEXT,
        "seconds": NUMBER,
        "versions": TEXT,
    },
    "evals": {"trial": TEXT, "step": COUNT, "epoch": NUMBER, "split": TEXT, "loss": NUMBER},
    "losses": {"trial": TEXT, "train_loss": FLOATS},
    "predictions": {"trial": TEXT, "split": TEXT, "at": TEXT, "logits": pa.list_(FLOATS)},
    SOUPS: {
        **dict.fromkeys(("group", "model", "task", "method", "kind"), TEXT),
        "members": pa.list_(TEXT),
        "of": COUNT,
        "init_seed": COUNT,
        "alpha": NUMBER,
        "metric": TEXT,
        "split": TEXT,
        "loss": NUMBER,
    },
    "examples": {
        "task": TEXT,
        "split": TEXT,
        "index": COUNT,
        "label": NUMBER,
        "tokens": pa.list_(pa.int32()),
    },
}
"""Those that every file of a data set has."""

GRADIENT = "grad_norm."
"""How the columns of evals begin that hold a layer's gradient norm."""

PROBE = "probe."
"""How the columns of trials begin that hold a probe's accuracy."""

LATER = {"earlier": "", "policy": ""}
"""Columns of trials that files of older versions lack, with what they then say."""

_OWN = {"model", "task.name", "method", "task.n_train"}  # settings that have a column without being swept
_TYPES = {float: NUMBER, int: COUNT, bool: pa.bool_()}


class Evaluation(NamedTuple):
    """One split at one step."""

    step: int
    epoch: float
    split: str
    loss: float
    metrics: dict[str, float]
    norms: dict[str, float] = {}  # noqa: RUF012
    """Of the gradient, by layer; on dev only, and only if the study asks."""


def curve(evaluations: Iterable[Evaluation], metric: str) -> list[float]:
    """The scores on dev, in order."""
    return [each.metrics[metric] for each in evaluations if each.split == "dev"]


class Ended(NamedTuple):
    """A trial that is over: all that its rows need, as numpy. Scores are NaN where it was never evaluated."""

    trial: Trial
    status: str
    """completed, diverged or stopped."""
    reason: str
    """Why it was dropped; empty where it was not."""
    steps: int
    n_train: int
    evaluations: list[Evaluation]
    losses: np.ndarray
    """[steps] float32: the training loss of each step."""
    metric: str
    """The one that scores it."""
    best_step: int
    best_score: float
    final_score: float
    test_at_best: float
    """The score on the test set at `best_step`; NaN where there is no test set, or no label in it."""
    test_at_final: float
    majority_score: float
    """What the best constant prediction scores on the dev set, such as its largest class."""
    predictions: dict[tuple[str, str], np.ndarray]
    """(split, "best" or "final") -> logits [N, C] float32."""
    slots_per_device: int
    slot: int
    device: str
    precision: str
    seconds: float
    policy: str = ""
    """The study's, when it ended; empty where there was none."""
    earlier: str = ""
    """Where it began, if that was at another width: "4 slots on each of 8 devices to step 120"."""
    probes: Mapping[str, float | None] = {}
    """The accuracy of each linear probe of its encoder; None where the trial was not completed."""
    costs: Mapping[str, float] = {}
    """By column, what it cost; only if the study asks."""


def tables(ended: list[Ended], hp: Mapping[str, pa.DataType]) -> dict[str, pa.Table]:
    """The rows of these trials by data set; `hp` are the settings that have a column, with its type."""
    losses = [{"trial": end.trial.id, "train_loss": end.losses} for end in ended]
    evals = [{"trial": end.trial.id, **_evaluation(e)} for end in ended for e in end.evaluations]
    metrics = dict.fromkeys((name for end in ended for e in end.evaluations for name in e.metrics), NUMBER)
    layers = tree.layers({name for end in ended for e in end.evaluations for name in e.norms})
    norms = dict.fromkeys((GRADIENT + layer for layer in layers), NUMBER)
    probes = dict.fromkeys((PROBE + name for end in ended for name in end.probes), NUMBER)
    costs = dict.fromkeys((name for end in ended for name in end.costs), NUMBER)
    trials = _table([_trial(end) for end in ended], COLUMNS["trials"] | probes | costs)
    return {
        "evals": _table(evals, COLUMNS["evals"] | metrics | norms),
        "losses": _table(losses, COLUMNS["losses"]),
        "predictions": _predictions(ended),
        "trials": with_hp(trials, hp, {end.trial.id: end.trial for end in ended}),
    }


def soups(averages: Iterable[Mapping[str, Any]]) -> pa.Table:
    """The rows of averages: by column, what each was made of and what it scores on a split."""
    found = [dict(each) for each in averages]
    metrics = dict.fromkeys((name for each in found for name in each if name not in COLUMNS[SOUPS]), NUMBER)
    return _table(found, COLUMNS[SOUPS] | metrics)


def examples(task: "Task") -> pa.Table:
    """The examples of all evaluation splits: label as a class number or a target, tokens without padding."""
    found = []
    for name, split in task.evals.items():
        count = len(split.labels)
        tokens = np.asarray(split.tokens, np.int32)
        columns = {
            "task": [task.name] * count,
            "split": [name] * count,
            "index": np.arange(count),
            "label": np.asarray(split.labels, np.float64),
            "tokens": pa.ListArray.from_arrays(np.asarray(split.offsets, np.int32), tokens),
        }
        found.append(pa.table(columns, schema=pa.schema(COLUMNS["examples"])))
    return pa.concat_tables(found)


def varying(trials: Iterable[Trial]) -> dict[str, pa.DataType]:
    """The settings that differ among the trials and have no column of their own, with the type of theirs."""
    settings = [trial.fixed | trial.hp for trial in trials]
    found = {}
    for name in sorted(set().union(*settings) - _OWN):
        values = {repr(value): value for each in settings for value in [each.get(name)]}
        types = {type(value) for value in values.values() if value is not None}
        if len(values) > 1:
            found[name] = _TYPES.get(types.pop(), TEXT) if len(types) == 1 else TEXT
    return found


def with_hp(table: pa.Table, hp: Mapping[str, pa.DataType], trials: Mapping[str, Trial]) -> pa.Table:
    """Rows of the trials, with each `hp.*` column that they do not have yet; `trials` are by id."""
    settings = [trials[name].fixed | trials[name].hp for name in table["trial"].to_pylist()]
    for name, kind in hp.items():
        if f"hp.{name}" not in table.column_names:
            values = [each.get(name) for each in settings]
            if kind == TEXT:
                values = [value if value is None else str(value) for value in values]
            table = table.append_column(f"hp.{name}", pa.array(values, kind))
    own = list(COLUMNS["trials"])
    at = own.index("n_train")
    return table.select([*own[:at], *sorted(set(table.column_names) - set(own)), *own[at:]])


def current(trials: pa.Table) -> pa.Table:
    """Rows of trials with every column of today."""
    for name, value in LATER.items():
        if name not in trials.column_names:
            trials = trials.append_column(name, pa.array([value] * trials.num_rows, COLUMNS["trials"][name]))
    return trials


@cache
def versions() -> str:
    """What computes the results: "jaxft 0.1.0, jax 0.10.2, ..."."""
    packages = ("jax", "jaxlib", "flax", "numpy")
    return ", ".join([f"jaxft {jaxft.__version__}", *(f"{name} {version(name)}" for name in packages)])


def _trial(end: Ended) -> dict[str, Any]:
    fixed = end.trial.fixed
    return {
        **{name: value for name, value in end._asdict().items() if name in COLUMNS["trials"]},
        "trial": end.trial.id,
        "model": fixed["model"],
        "task": fixed["task.name"],
        "method": fixed["method"],
        **{f"{stream}_seed": seed for stream, seed in end.trial.seeds._asdict().items()},
        "versions": versions(),
        **{PROBE + name: value for name, value in end.probes.items()},
        **end.costs,
    }


def _evaluation(seen: Evaluation) -> dict[str, Any]:
    return seen._asdict() | seen.metrics | {GRADIENT + layer: norm for layer, norm in seen.norms.items()}


def _predictions(ended: list[Ended]) -> pa.Table:
    kept = [(end.trial.id, *place, logits) for end in ended for place, logits in end.predictions.items()]
    arrays = [np.asarray(logits, np.float32) for *_, logits in kept]
    rows = [_lists([x.shape[1]] * len(x), pa.array(x.ravel())) for x in arrays]
    logits = _lists([len(x) for x in arrays], pa.concat_arrays(rows) if rows else pa.array([], FLOATS))
    names = [[row[column] for row in kept] for column in range(3)]
    return pa.Table.from_arrays([*names, logits], schema=pa.schema(COLUMNS["predictions"]))


def _lists(lengths: list[int], values: pa.Array) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def _table(rows: list[dict[str, Any]], columns: Mapping[str, pa.DataType]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=pa.schema(columns))
