"""The run folder: parquet data sets that grow as trials end and can be read at any time. No jax here.

A flush writes at most one file to each data set, all of one name. The one in `trials/` comes last and is the
mark that the flush is whole: a file without its twin there was left by a kill; `load` passes it over, and the
next run removes it.
"""

import os
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml

from jaxft import config, rows, shards, trials
from jaxft.config import Study
from jaxft.errors import BadInput
from jaxft.rows import COLUMNS, Ended, Evaluation
from jaxft.trials import Trial

if TYPE_CHECKING:
    from jaxft.types import Task  # which imports jax

__all__ = ["Ended", "Evaluation", "Run", "Store", "load"]

STUDY, RESOLVED = "study.yaml", "resolved.yaml"
DATA_SETS = ("evals", "losses", "predictions", "trials")
"""In the order of writing."""


class Run(NamedTuple):
    """A run folder, read."""

    folder: Path
    study: Study
    resolved: dict[str, Any]
    """What was decided when the study started."""
    trials: pd.DataFrame
    """One row per finished trial."""
    evals: pd.DataFrame
    """One row per trial, step and split."""

    @property
    def losses(self) -> pd.DataFrame:
        """trial, train_loss [steps]. Read at each call."""
        return _frame(self.folder, "losses")

    @property
    def predictions(self) -> pd.DataFrame:
        """trial, split, at, logits [N, C]. Read at each call."""
        frame = _frame(self.folder, "predictions")
        return frame.assign(logits=[np.stack(logits) for logits in frame["logits"]])

    @property
    def examples(self) -> pd.DataFrame:
        """task, split, index, label, tokens: what the rows of the logits are about. Read at each call."""
        return _frame(self.folder, "examples")


def load(folder: str | Path) -> Run:
    """The rows of all finished trials of a run folder, also of one that is still being written.

    Raises:
        BadInput: not a run folder, or a file in it that cannot be read.
    """
    folder = Path(folder)
    resolved = Store.peek(folder)
    if resolved is None:
        raise BadInput(f"{folder}: not a run folder, it has no {STUDY}; `jaxft run` makes one")
    study = config.load(folder / STUDY)
    return Run(folder, study, resolved, _frame(folder, "trials"), _frame(folder, "evals"))


class Store:
    """A run folder that this process alone writes to, made by `open`."""

    def __init__(self, folder: Path, resolved: dict[str, Any], hp: Mapping[str, pa.DataType], done: set[str]):
        """Of a folder that is in order; `hp` are the settings that have a column, `done` the finished trials."""
        self.folder = folder
        self.resolved = resolved
        self.done = done
        self._hp = hp
        flushes = [path.stem for path in shards.files(folder / "trials")]
        self._next = max((int(name) for name in flushes if name.isdecimal()), default=-1) + 1

    @classmethod
    def open(cls, folder: Path, study: Study, resolved: dict[str, Any], trials: list[Trial]) -> "Store":
        """Makes the folder, or takes up an existing one; trials may have been added since.

        Args:
            folder: the run folder.
            study: what is to be run.
            resolved: what was decided for it: nested mappings. What the folder has beyond it stays.
            trials: all trials of the study.

        Raises:
            BadInput: the folder cannot be written, is in use, is no run folder, or holds trials of another study.
        """
        folder = Path(folder)
        with shards.writing(folder):
            _refuse_others(folder)
            folder.mkdir(parents=True, exist_ok=True)
            lock = shards.lock(folder)
            try:
                done = cls.finished(folder)
                if done:
                    _refuse_differences(folder, study, trials, done)
                    resolved = _merged(cls.peek(folder) or {}, resolved, folder)
                _tidy(folder)
                hp = rows.varying(trials)
                _add_columns(folder, hp, trials)
                shards.write_text(folder / RESOLVED, yaml.safe_dump(resolved, sort_keys=False))
                shards.write_text(folder / STUDY, config.dump(study))  # the last: it makes this a run folder
                store = cls(folder, resolved, hp, done)
            except BaseException:
                os.close(lock)
                raise
        weakref.finalize(store, os.close, lock)
        return store

    @staticmethod
    def peek(folder: Path) -> dict[str, Any] | None:
        """What was decided for the study of a folder; None where there is no study yet.

        Raises:
            BadInput: it cannot be read.
        """
        if not os.path.isfile(Path(folder) / STUDY):  # unlike pathlib's, False for a name that no file can have
            return None
        path = Path(folder) / RESOLVED
        try:
            resolved = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, RecursionError, yaml.YAMLError) as error:  # PyYAML has all of these
            raise BadInput(f"{path}: cannot be read ({shards.line(error)}); give another `out`") from None
        if not isinstance(resolved, dict) or not all(isinstance(value, dict) for value in resolved.values()):
            raise BadInput(f"{path}: expected a mapping of mappings, found {resolved!r}; give another `out`")
        return resolved

    @staticmethod
    def decided(folder: Path) -> dict[str, Any]:
        """What was decided for the study of a folder and binds it: nothing, as long as no trial is finished.

        Raises:
            BadInput: it cannot be read.
        """
        before = Store.peek(folder)
        return before if before and Store.finished(folder) else {}

    @staticmethod
    def finished(folder: Path) -> set[str]:
        """The ids of the finished trials; none where there is no folder.

        Raises:
            BadInput: a file cannot be read, or a trial is there twice.
        """
        found: dict[str, Path] = {}
        for path in shards.files(Path(folder) / "trials"):
            for name in shards.read(path, ["trial"])["trial"].to_pylist():
                if name in found:
                    raise BadInput(f"{path}: trial {name} is in {found[name]} too; remove one of the two files")
                found[name] = path
        return set(found)

    def resolve(self, name: str, values: dict[str, Any]) -> None:
        """Adds to what was decided, under one name.

        Raises:
            BadInput: something else was decided before, or the folder cannot be written.
        """
        resolved = _merged(self.resolved, {name: values}, self.folder)
        with shards.writing(self.folder):
            shards.write_text(self.folder / RESOLVED, yaml.safe_dump(resolved, sort_keys=False))
        self.resolved = resolved

    def examples(self, task: "Task") -> None:
        """Writes what the task's predictions are about, once.

        Raises:
            BadInput: the folder cannot be written.
        """
        path = self.folder / "examples" / f"{task.fingerprint}.parquet"
        if not path.exists():
            with shards.writing(self.folder):
                shards.write(path, rows.examples(task))

    def append(self, ended: list[Ended]) -> None:
        """Writes all rows of these trials, or none.

        Raises:
            BadInput: the folder cannot be written.
            ValueError: a trial that has its rows already.
        """
        if not ended:
            return
        names = [end.trial.id for end in ended]
        if len(set(names) - self.done) < len(names):
            raise ValueError(f"among {', '.join(names)} is a trial that has its rows already")
        tables = rows.tables(ended, self._hp)
        name = f"{self._next:06d}.parquet"
        self._next += 1  # even if it fails: what a failed flush leaves must never get a twin
        with shards.writing(self.folder):
            for kind in DATA_SETS:
                if tables[kind].num_rows:  # an empty file would lack columns: the metrics are not known
                    shards.write(self.folder / kind / name, tables[kind])
        self.done.update(names)


def _frame(folder: Path, kind: str) -> pd.DataFrame:
    whole = {path.name for path in shards.files(folder / "trials")}
    paths = [path for path in shards.files(folder / kind) if kind == "examples" or path.name in whole]
    found = [shards.read(path, list(COLUMNS[kind])) for path in paths]
    empty = pa.schema(COLUMNS[kind]).empty_table()
    return pa.concat_tables(found or [empty], promote_options="default").to_pandas()


def _tidy(folder: Path) -> None:
    """Makes the data sets' folders and removes what a kill left in them."""
    for kind in (*DATA_SETS, "examples"):
        (folder / kind).mkdir(exist_ok=True)
        shards.remove_unfinished(folder / kind)
    whole = {path.name for path in shards.files(folder / "trials")}
    for path in (path for kind in DATA_SETS for path in shards.files(folder / kind)):
        if path.name not in whole and path.stem.isdecimal():  # others are not ours
            path.unlink()


def _add_columns(folder: Path, hp: Mapping[str, pa.DataType], trials: Iterable[Trial]) -> None:
    """Gives older rows the columns of settings that vary only since trials were added.

    For pandas and others take the columns of the first file for those of all.
    """
    by_id = {trial.id: trial for trial in trials}
    for path in shards.files(folder / "trials"):
        table = shards.read(path, list(COLUMNS["trials"]))
        if not {f"hp.{name}" for name in hp} <= set(table.column_names):
            shards.write(path, rows.with_hp(table, hp, by_id))


def _merged(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path, prefix: str = "") -> dict[str, Any]:
    """Both; what both have must be equal, since it determines the results."""
    merged = dict(old)
    for name, value in new.items():
        before = old.get(name, value)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            value = _merged(before, value, folder, f"{prefix}{name}.")
        elif before != value:
            raise BadInput(
                f"{folder / RESOLVED}: {prefix}{name} is {before!r} there, but {value!r} now; it determines "
                "the results and stays with the study: put it back, or give another `out`"
            )
        merged[name] = value
    return merged


def _refuse_differences(folder: Path, study: Study, wanted: Iterable[Trial], done: set[str]) -> None:
    before = config.load(folder / STUDY)
    other = config.differences(before, study)
    if other:
        raise BadInput(f"{folder}: holds another study: {'; '.join(other)}; put it back, or give another `out`")
    there = {trial.id: f"init {trial.seeds.init}, order {trial.seeds.order}" for trial in trials.expand(before)}
    there |= {name: f"{name}, which is finished" for name in done - there.keys()}
    gone = there.keys() - {trial.id for trial in wanted}
    if gone:
        first = next(text for name, text in there.items() if name in gone)
        raise BadInput(
            f"{folder}: {len(gone)} of its trials are missing now (the first: {first}); trials may be added "
            "to a study, not taken away: keep them, or give another `out`"
        )


def _refuse_others(folder: Path) -> None:
    """A folder that holds something else is not ours to write to."""
    if folder.is_dir() and not (folder / STUDY).is_file():
        other = sorted({path.name for path in folder.iterdir()} - {RESOLVED, *DATA_SETS, "examples"})
        other = [name for name in other if not name.startswith(".")]
        other += [f"trials/{path.name}" for path in shards.files(folder / "trials")]
        if other:
            raise BadInput(f"{folder}: not a run folder: it holds {other[0]} and no {STUDY}; give another `out`")
