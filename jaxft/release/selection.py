"""Which of the finished trials of run folders: by any setting, also one that no column tells apart. No jax here."""

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from jaxft.errors import BadInput
from jaxft.folder.store import Run
from jaxft.members import nearest
from jaxft.study import yaml12
from jaxft.study.trials import expand

Row = dict[str, Any]
"""A trial, by column."""

_OWN = ("model", "method", "dropout_seed", "noise_seed", "data_seed")
"""What else may differ between trials of one task, init and order."""
_UNDER_OWN_NAME = {"model", "method", "task.name"}
_SHOWN = 8


def rows(runs: Iterable[Run]) -> list[Row]:
    """The finished trials, with an `hp.` column for every setting and with the `folder` of each."""
    found = []
    for run in runs:
        settings = {
            trial.id: {f"hp.{n}": value for n, value in (trial.fixed | trial.hp).items() if n not in _UNDER_OWN_NAME}
            for trial in expand(run.study)
        }
        for row in run.trials.to_dict("records"):
            named = {str(name): value for name, value in row.items()}
            found.append({**named, **settings.get(named["trial"], {}), "folder": str(run.folder)})
    return found


def select(rows: list[Row], where: Mapping[str, Any]) -> list[Row]:
    """Those that have these values, by column; text stands for a number as on the command line.

    Raises:
        BadInput: a column that is not there, or a value that none has.
    """
    for column, wanted in where.items():
        known = {name for row in rows for name in row}
        if rows and column not in known:
            raise BadInput(f"where {column}: no such column; {nearest(column, known)}")
        kept = [row for row in rows if _is(row.get(column), wanted)]
        if rows and not kept:
            there = _listed(dict.fromkeys(str(row.get(column)) for row in rows))
            raise BadInput(f"where {column}={wanted}: no finished trial has that; found {there}")
        rows = kept
    return rows


def one_each(rows: list[Row]) -> list[Row]:
    """The same rows, in the order of task, init and order seed, of which no two trials share all three.

    Raises:
        BadInput: two do; it says what else tells them apart.
    """
    places: dict[tuple, list[Row]] = {}
    for row in rows:
        places.setdefault((row["task"], row["init_seed"], row["order_seed"]), []).append(row)
    for (task, init, order), here in places.items():
        if len(here) > 1:
            raise BadInput(f"{task}, init {init}, order {order}: {_difference(here)}")
    return [places[place][0] for place in sorted(places)]


def _is(cell: Any, wanted: Any) -> bool:
    try:
        plain = yaml12.value(wanted) if isinstance(wanted, str) else wanted
    except BadInput:
        plain = wanted
    return bool(cell == plain) or str(cell) == str(wanted)


def _difference(rows: list[Row]) -> str:
    first, second, *_ = rows
    if first["trial"] == second["trial"]:
        return f"{first['folder']} and {second['folder']} hold the same trial; give one of the two"
    names = [*_OWN, *sorted({name for row in rows for name in row if name.startswith("hp.")})]
    values = {name: list(dict.fromkeys(str(row.get(name)) for row in rows)) for name in names}
    values = {name: found for name, found in values.items() if len(found) > 1}
    said = "; ".join(f"{name} ({_listed(found)})" for name, found in values.items())
    choice = " ".join(f"--where {shlex.quote(f'{name}={found[0]}')}" for name, found in values.items())
    return f"{len(rows)} trials, and the schema has room for one: they differ in {said}; choose, such as {choice}"


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
