"""Scores in text files that anybody may have made: a row per trial or evaluation, or a bare matrix. No jax here."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from jaxft.errors import BadInput
from jaxft.folder.rows import COLUMNS
from jaxft.stats import matrix
from jaxft.stats.cells import EXPECTED, NOTHING, Frame, Line, is_number, is_whole, lines, number, short, whole
from jaxft.study.trials import Seeds

NEEDED = ("init_seed", "order_seed", "score")
STATUS = ("completed", "diverged", "stopped")
EVALS = {"row": int, "step": int, "epoch": float, "score": float, "loss": float}
_NUMBERS = ("final_score", "majority_score", "steps")
_OF_EVALUATION = ("step", "epoch", "loss")
_TEXTS = ("trial", "task", "metric", "status", "reason")
_PASSED_OVER = {*COLUMNS["trials"], "split"} - {"model", "method", "n_train"}
"""What a run folder says of a trial beyond seeds, settings and scores."""


class Table(NamedTuple):
    """What a source holds, before it is parted by task, metric and setting."""

    trials: Frame
    """A row per trial, by its number `row`: the columns of `Scores.trials`, task, metric, and a column per setting."""
    evals: Frame
    """The columns of `Scores.evals`, with `row` for `trial`."""
    settings: tuple[str, ...]
    """Columns that may tell trials of the same seeds apart."""
    places: tuple[str, ...] = ()
    """Factors whose numbers are but places in a matrix."""


def read(path: Path, metric: str | None = None) -> Table:
    """A CSV file or a matrix; tabs, semicolons or spaces may part the cells too, and lines that begin with # are notes.

    Raises:
        BadInput: anything else, with the line and column.
    """
    found = lines(path)
    names = found[0].cells
    if {*NEEDED, "best_score", "step"} & {*names}:
        return _long(path, names, found[1:], metric)
    scores, places = matrix.read(path, found)
    constant = {"task": path.stem, "metric": metric or "score", "status": "completed", "reason": ""}
    trials = scores.assign(**constant, **dict.fromkeys(_NUMBERS, math.nan))
    return Table(trials.assign(trial=_named(trials, list(NEEDED[:2]))), _no_evals(), (), places)


def _long(path: Path, names: list[str], rows: list[Line], metric: str | None) -> Table:
    if "score" not in names:
        other = metric if metric in names and "metric" not in names else "best_score"
        names = ["score" if name == other else name for name in names]
    _check_names(path, names)
    if not rows:
        raise BadInput(f"{path}: no row below the header; {EXPECTED}")
    frame: Frame = pd.DataFrame([row.cells for row in rows], columns=names, dtype=object)
    frame.index = pd.Index([row.number for row in rows])
    frame = _choose(path, frame, "split", "dev")
    frame = _choose(path, frame, "metric", metric) if metric else frame
    made: Frame = pd.DataFrame(
        {"task": path.stem, "metric": metric or "score", "status": STATUS[0], "reason": ""}, frame.index
    )
    for name in ("trial", "task", "metric"):
        if name in frame:
            _refuse(path, name, frame[name][frame[name] == ""], "expected a name")
    made = made.assign(**frame[[name for name in _TEXTS if name in names]])
    _refuse(path, "status", made["status"][~made["status"].isin(STATUS)], f"expected {', '.join(STATUS)}")
    seeds = _seeds(names)
    curves = ["step"] if "step" in names else []
    for name in (*seeds, *curves):
        made[name] = [whole(text, f"{path}, line {n}, column {name}") for n, text in frame[name].items()]
    norms = [name for name in names if name.startswith("grad_norm.")]
    made["score"] = _numbers(path, frame, "score", made["status"] != STATUS[0])
    for name in (*_NUMBERS, *_OF_EVALUATION[1:], *norms):
        made[name] = _numbers(path, frame, name, pd.Series(True, frame.index)) if name in frame else math.nan
    settings = [name for name in names if name not in {*made, *_TEXTS, *_PASSED_OVER}]
    made = made.assign(**{name: _plain(frame[name]) for name in settings})
    if "trial" not in frame:
        made["trial"] = _named(made, seeds)
    key = ["task", "metric", *settings, *seeds]
    _refuse_twice(path, made, [*key, *curves])
    made["row"] = made.groupby(key, sort=False, dropna=False).ngroup()
    _check_ids(path, made, ["task", "metric", *settings, "trial"])
    if not curves:
        return Table(made.set_index("row"), _no_evals(), tuple(settings))
    made = made.sort_values(["row", "step"], kind="stable")
    last = made.drop_duplicates("row", keep="last").set_index("row")
    filled = {"final_score": last["final_score"].fillna(last["score"]), "steps": last["steps"].fillna(last["step"])}
    trials = last.assign(score=made.groupby("row")["score"].max(), **filled)
    return Table(trials, made[[*EVALS, *norms]], tuple(settings))


def _no_evals() -> Frame:
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in EVALS.items()})


def _check_names(path: Path, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1 or not name:
            raise BadInput(f"{path}: {f'column {short(name)} is there twice' if name else 'a column has no name'}")
    missing = [name for name in NEEDED if name not in names]
    if missing:
        one = "; where only one seed varied, the other has the same number in every row" * (missing != ["score"])
        raise BadInput(
            f"{path}: no column {' and no '.join(missing)}; found {', '.join(map(short, names))}; expected "
            f"{', '.join(NEEDED)}{one}"
        )


def _seeds(names: Sequence[str]) -> list[str]:
    """The columns of seeds, in the order of the streams; others after."""
    own = [f"{stream}_seed" for stream in Seeds._fields]
    others = sorted(name for name in names if name.endswith("_seed") and name not in own)
    return [*(name for name in own if name in names), *others]


def _named(trials: Frame, seeds: list[str]) -> Frame:
    return pd.Series(["/".join(map(str, row)) for row in trials[seeds].itertuples(index=False)], trials.index)


def _choose(path: Path, frame: Frame, column: str, wanted: str) -> Frame:
    """The rows that have this, where there is such a column."""
    kept = frame[frame[column] == wanted] if column in frame else frame
    if kept.empty:
        there = ", ".join(map(short, dict.fromkeys(frame[column])))
        raise BadInput(f"{path}: no row with {column} {short(wanted)}; found {there}")
    return kept


def _refuse(path: Path, name: str, bad: Frame, expected: str) -> None:
    for n, text in bad.items():
        raise BadInput(f"{path}, line {n}, column {name}: {expected}, found {short(text)!r}")


def _refuse_twice(path: Path, made: Frame, key: list[str]) -> None:
    again = made.index[made.duplicated(key)]
    if len(again):
        same = [made.loc[again[0], key].equals(row) for _, row in made[key].iterrows()]
        said = ", ".join(f"{n} {made.loc[again[0], n]}" for n in key if n.endswith("_seed") or n == "step")
        raise BadInput(
            f"{path}, line {again[0]}: the same seeds as in line {made.index[same][0]} ({said}); expected each trial "
            "once: give `step` where the rows are evaluations of one trial, or a column for the setting that differs"
        )


def _check_ids(path: Path, made: Frame, key: list[str]) -> None:
    """One name per trial, and one trial per name."""
    for one, other, said in (("row", "trial", "the same seeds as"), ("trial", "row", "other seeds than")):
        by = "row" if one == "row" else key
        count = made.groupby(by, sort=False, dropna=False)[other].transform("nunique")
        if (count > 1).any():
            n = made.index[count > 1][-1]
            before = made.index[count > 1][0]
            names = [short(made.loc[at, "trial"]) for at in (n, before)]
            raise BadInput(f"{path}, line {n}: trial {names[0]} has {said} line {before}'s trial {names[1]}")


def _numbers(path: Path, frame: Frame, name: str, optional: Frame) -> list[float]:
    """A column; NaN where a cell says nothing and need not."""
    return [
        math.nan if free and text.lower() in NOTHING else number(text, f"{path}, line {n}, column {name}")
        for (n, text), free in zip(frame[name].items(), optional, strict=True)
    ]


def _plain(column: Frame) -> list[Any]:
    """A setting: numbers where all are."""
    texts = column.tolist()
    kind = int if all(map(is_whole, texts)) else float if all(map(is_number, texts)) else str
    return [kind(text) for text in texts]
