"""The run folder: parquet data sets that grow as trials end and can be read at any time. No jax here.

`shards.py` says when a flush counts, `locks.py` who may write, `jaxft.folder` where a folder may lie.
"""

import re
import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml

from jaxft.errors import BadInput, line
from jaxft.folder import BEST, CHECKPOINTS, LIVE, Folder, locks, rows, shards
from jaxft.folder.locks import Held, Part
from jaxft.folder.rows import Ended, Evaluation
from jaxft.folder.shards import APART, DATA_SETS
from jaxft.study import config, trials
from jaxft.study.config import Study
from jaxft.study.trials import Trial

if TYPE_CHECKING:
    from jaxft.types import Task  # which imports jax

__all__ = ["DATA_SETS", "Ended", "Evaluation", "Part", "Run", "Store", "load"]

STUDY, RESOLVED = "study.yaml", "resolved.yaml"


class Run(NamedTuple):
    """A run folder, read."""

    folder: Path | str
    """Its path, or its URL where it lies elsewhere."""
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
        return self._frame("losses")

    @property
    def predictions(self) -> pd.DataFrame:
        """trial, split, at, logits [N, C]. Read at each call."""
        frame = self._frame("predictions")
        return frame.assign(logits=[np.stack(logits) for logits in frame["logits"]])

    @property
    def examples(self) -> pd.DataFrame:
        """task, split, index, label, tokens: what the rows of the logits are about. Read at each call."""
        return self._frame("examples")

    @property
    def soups(self) -> pd.DataFrame:
        """kind, members, alpha, split, loss, metrics: what averages of the best trials score. Read at each call.

        Empty where the study asks for none (`eval.soups`).
        """
        return self._frame("soups")

    def _frame(self, kind: str) -> pd.DataFrame:
        folder = Folder.at(self.folder)
        return shards.frame(folder, kind, {} if kind in APART else shards.flushes(folder))


def load(folder: str | Path | Folder) -> Run:
    """The rows of all finished trials of a run folder, also of one that is still being written.

    Args:
        folder: a path, or a URL that fsspec knows, such as gs://bucket/runs/mrpc.

    Raises:
        BadInput: not a run folder, or a file in it that cannot be read.
    """
    folder = Folder.at(folder)
    resolved = Store.peek(folder)
    if resolved is None:
        raise BadInput(f"{folder}: not a run folder, it has no {STUDY}; `jaxft run` makes one")
    whole = shards.flushes(folder)
    frames = (shards.frame(folder, kind, whole) for kind in ("trials", "evals"))
    return Run(folder.local or str(folder), _study(folder), resolved, *frames)


class Store:
    """A run folder to which this process writes its part, made by `open`."""

    def __init__(
        self, folder: Folder, part: Part, resolved: dict[str, Any], hp: Mapping[str, pa.DataType], done: set[str],
        held: Held,
    ):  # fmt: skip
        """Of a folder that is in order; `hp` are the settings that have a column, `done` the finished trials."""
        self.folder = folder
        self.part = part
        self.resolved = resolved
        self.done = done
        self._hp = hp
        self._check = held.check
        self.close = weakref.finalize(self, held.release)
        """Gives the folder back, at the latest when the process ends."""
        names = shards.files(folder, "trials")
        self._next = max((int(number[0]) for name in names if (number := re.match(r"[0-9]+", name))), default=-1) + 1

    @classmethod
    def open(
        cls, folder: str | Path | Folder, study: Study, resolved: dict[str, Any], trials: list[Trial],
        part: Part = Part(),  # noqa: B008
    ) -> "Store":  # fmt: skip
        """Makes the folder, or takes up an existing one; trials may have been added since.

        Of several processes that train together the first opens it before the others, which then only check and append.

        Args:
            folder: the run folder: a path or a URL.
            study: what is to be run.
            resolved: what was decided for it: nested mappings. What the folder has beyond it stays.
            trials: all trials of the study, also those of other shards.
            part: which part of the run this process is.

        Raises:
            BadInput: the folder cannot be written, is in use, is no run folder, or holds trials of another study.
        """
        folder = Folder.at(folder)
        hp = rows.varying(trials)
        if part.process:
            done = cls.finished(folder)
            resolved = _agreed(folder, study, resolved, trials, done)
            with shards.reading(folder):
                return cls(folder, part, resolved, hp, done, locks.UNHELD)
        with shards.writing(folder):
            _refuse_others(folder)
            folder.make()
            with locks.alone(folder):
                shared = locks.others(folder, part)
                done = cls.finished(folder)
                if done or (shared and cls.peek(folder) is not None):
                    resolved = _agreed(folder, study, resolved, trials, done)
                held = locks.take(folder, part)
                try:
                    shards.tidy(folder, part)
                    shards.add_columns(folder, hp, trials)
                    shards.write_text(folder, RESOLVED, yaml.safe_dump(resolved, sort_keys=False))
                    shards.write_text(folder, STUDY, config.dump(study))  # the last: it makes this a run folder
                    return cls(folder, part, resolved, hp, done, held)
                except BaseException:
                    held.release()
                    raise

    @staticmethod
    def peek(folder: str | Path | Folder) -> dict[str, Any] | None:
        """What was decided for the study of a folder; None where there is no study yet.

        Raises:
            BadInput: it cannot be read.
        """
        folder = Folder.at(folder)
        with shards.reading(folder):
            if not folder.exists(STUDY):
                return None
        place = folder.place(RESOLVED)
        try:
            resolved = yaml.safe_load(folder.read(RESOLVED).decode())
        except (OSError, ValueError, KeyError, RecursionError, yaml.YAMLError) as error:  # PyYAML has all of these
            raise BadInput(f"{place}: cannot be read ({line(error)}); give another `out`") from None
        if not isinstance(resolved, dict) or not all(isinstance(value, dict) for value in resolved.values()):
            raise BadInput(f"{place}: expected a mapping of mappings, found {resolved!r}; give another `out`")
        return resolved

    @staticmethod
    def decided(folder: str | Path | Folder) -> dict[str, Any]:
        """What was decided for the study of a folder and binds it: nothing, as long as no trial is finished.

        Raises:
            BadInput: it cannot be read.
        """
        before = Store.peek(folder)
        return before if before and Store.finished(folder) else {}

    @staticmethod
    def finished(folder: str | Path | Folder) -> set[str]:
        """The ids of the finished trials; none where there is no folder.

        Raises:
            BadInput: a file cannot be read, or a trial is there twice.
        """
        whole = shards.flushes(Folder.at(folder))
        return {name for table in whole.values() for name in table["trial"].to_pylist()}

    def resolve(self, name: str, values: dict[str, Any]) -> None:
        """Adds to what was decided, under one name. Of several processes the first writes it, the others check it.

        Raises:
            BadInput: something else was decided before, or the folder cannot be written.
        """
        with shards.writing(self.folder):
            if self.part.process:
                self.resolved = _merged(self.peek(self.folder) or {}, {name: values}, self.folder)
                return
            with locks.alone(self.folder):
                resolved = _merged(self.peek(self.folder) or {}, {name: values}, self.folder)
                shards.write_text(self.folder, RESOLVED, yaml.safe_dump(resolved, sort_keys=False))
        self.resolved = resolved

    def examples(self, task: "Task") -> None:
        """Writes what the task's predictions are about, once; of several processes the first does.

        Raises:
            BadInput: the folder cannot be written.
        """
        name = f"examples/{task.fingerprint}.parquet"
        if self.part.process:
            return
        with shards.writing(self.folder), locks.alone(self.folder):
            if not self.folder.exists(name):
                shards.write(self.folder, name, rows.examples(task))

    def append(self, ended: list[Ended]) -> None:
        """Writes all rows of these trials, or none.

        Raises:
            BadInput: the folder cannot be written, or another process has taken it.
            ValueError: a trial that has its rows already.
        """
        if not ended:
            return
        names = [end.trial.id for end in ended]
        if len(set(names) - self.done) < len(names):
            raise ValueError(f"among {', '.join(names)} is a trial that has its rows already")
        tables = rows.tables(ended, self._hp)
        name = self.part.flush(self._next)
        self._next += 1  # even if it fails: what a failed flush leaves must never get a twin
        with shards.writing(self.folder):
            self._check()
            try:
                for kind in DATA_SETS:
                    if tables[kind].num_rows:  # an empty file would lack columns: the metrics are not known
                        shards.write(self.folder, f"{kind}/{name}", tables[kind])
            except OSError:
                with suppress(OSError):  # first the mark: an error may come after the file is there
                    for kind in reversed(DATA_SETS):
                        self.folder.remove(f"{kind}/{name}")
                raise
        self.done.update(names)


def _study(folder: Folder) -> Study:
    with shards.reading(folder):
        return config.parse(folder.read(STUDY), folder.place(STUDY))


def _agreed(
    folder: Folder, study: Study, resolved: dict[str, Any], trials: Iterable[Trial], done: set[str]
) -> dict[str, Any]:
    """What was decided before and now, of a study that goes on."""
    _refuse_differences(folder, study, trials, done)
    return _merged(Store.peek(folder) or {}, resolved, folder)


def _merged(old: Mapping[str, Any], new: Mapping[str, Any], folder: Folder, prefix: str = "") -> dict[str, Any]:
    """Both; what both have must be equal, since it determines the results."""
    merged = dict(old)
    for name, value in new.items():
        before = old.get(name, value)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            value = _merged(before, value, folder, f"{prefix}{name}.")
        elif before != value:
            raise BadInput(
                f"{folder.place(RESOLVED)}: {prefix}{name} is {before!r} there, but {value!r} now; it determines "
                "the results and stays with the study: put it back, or give another `out`"
            )
        merged[name] = value
    return merged


def _refuse_differences(folder: Folder, study: Study, wanted: Iterable[Trial], done: set[str]) -> None:
    before = _study(folder)
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


def _refuse_others(folder: Folder) -> None:
    """A folder that holds something else is not ours to write to."""
    known = {STUDY, RESOLVED, CHECKPOINTS, BEST, LIVE, "tensorboard", *DATA_SETS, *APART}
    other = [name for name in folder.list() if name not in known and not name.startswith(".")]
    other += [f"trials/{name}" for name in shards.files(folder, "trials")]
    if other and not folder.exists(STUDY):  # looked for last: another shard may be about to write it
        raise BadInput(f"{folder}: not a run folder: it holds {other[0]} and no {STUDY}; give another `out`")
