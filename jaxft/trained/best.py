"""The best trials of a group: their parameters as files in the run folder, and what averages of them score.

A trial's file is written before its rows, and a worse trial's is removed after them: whatever is killed when, the files
of the best finished trials are there, and the next run removes those of trials that it has yet to finish.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from warnings import warn

import numpy as np
from safetensors.numpy import load, save

from jaxft import metrics
from jaxft.engine.checkpoint import summed
from jaxft.engine.groups import Group, entry
from jaxft.engine.recipe import Replica
from jaxft.errors import BadInput, Note, line
from jaxft.folder import BEST, Folder, rows, shards
from jaxft.folder.rows import SOUPS
from jaxft.study.trials import Trial
from jaxft.trained import soups


class Best:
    """Those that are kept of a group: so many at most, by their dev score at their end.

    Of equal ones those with the lower ids, so that neither slots nor stops matter.
    """

    def __init__(self, folder: Folder, group: Group, most: int):
        """Takes up what the folder has.

        Args:
            folder: of the run, which this process alone writes to.
            group: of which the trials are.
            most: how many are kept.

        Raises:
            BadInput: the folder cannot be read or written.
        """
        self._folder, self._group, self._most = folder, group, most
        self._trials = {trial.id: trial for trial in group.trials}
        done = shards.frame(folder, "trials", shards.flushes(folder)).query("status == 'completed'")
        scores = dict(zip(done["trial"], done["final_score"], strict=True))
        self._kept = self._top({name: score for name, score in scores.items() if name in self._trials})
        self._new: dict[str, float] = {}  # whose rows have yet to be written
        with shards.writing(folder):
            for kind in (BEST, SOUPS):
                folder.make(kind)
            for file in folder.list(BEST):
                name = file.partition(".")[0]
                if file.startswith(".") or (name in self._trials and name not in self._kept):
                    folder.remove(f"{BEST}/{file}")

    def wants(self, trial: str, score: float) -> bool:
        """Whether a trial with this score at its end is among the best so far."""
        return trial in self._top(self._kept | self._new | {trial: score})

    def keep(self, trial: str, score: float, replica: Replica) -> None:
        """Writes what a completed trial owns; `settle` has to follow once its rows are there.

        Raises:
            BadInput: the folder cannot be written.
        """
        owned = {name: np.asarray(value, order="C") for name, value in replica.params.items()}
        with shards.writing(self._folder):
            self._folder.write(_file(trial), save(owned, {"crc32": str(summed(owned, trial))}))
            self._new[trial] = score
            top = self._top(self._kept | self._new)
            for name in self._new.keys() - top.keys():  # beaten by another of the same block
                del self._new[name]
                self._folder.remove(_file(name))

    def settle(self) -> None:
        """The rows of all that was kept are written: what is no longer among the best goes.

        Raises:
            BadInput: the folder cannot be written.
        """
        before, self._kept = self._kept | self._new, self._top(self._kept | self._new)
        self._new = {}
        with shards.writing(self._folder):
            for name in before.keys() - self._kept.keys():
                self._folder.remove(_file(name))

    def serve(self) -> None:
        """Writes the group's file of soups/, of what is kept, unless it is there.

        To be called once all trials of the group are over. A trial whose file cannot be read is left out, with a Note.

        Raises:
            BadInput: the folder cannot be written.
        """
        name = f"{SOUPS}/{self._group.name}-{self._group.recipe.every}.parquet"
        found = [self._trials[trial] for trial in self._kept if self._readable(trial)]
        if found and self._served(name) != {trial.id for trial in found}:
            table = rows.soups(self._rows(found))
            with shards.writing(self._folder):
                shards.write(self._folder, name, table)

    def _rows(self, trials: Sequence[Trial]) -> Iterator[dict[str, Any]]:
        """Of these, best first."""
        recipe, shared = self._group.recipe, self._group.shared
        start = soups.starter(recipe, shared.pretrained)
        evaluate = soups.evaluator(recipe, shared, self._group.precision)

        def ended(trial: Trial) -> soups.Weights:
            return soups.whole(start(entry(trial, self._group)), self._read(trial.id))

        def mixed(trials: Iterable[Trial]) -> Iterator[soups.Weights]:
            return map(ended, trials)

        def dev(weights: soups.Weights) -> float:
            return self._judged("dev", evaluate(weights, ["dev"])["dev"])[1][self._group.task.metric]

        def row(kind: str, members: Sequence[Trial], of: Sequence[Trial], alpha: float | None, weights: soups.Weights):
            inits = {trial.seeds.init for trial in of}
            about = {"kind": kind, "members": [trial.id for trial in members], "of": len(of), "alpha": alpha}
            about |= {"init_seed": inits.pop() if len(inits) == 1 else None, **self._about}
            for split, logits in evaluate(weights).items():
                loss, scores, _ = self._judged(split, logits)
                yield about | {"split": split, "loss": loss, **scores}

        for trial in trials:
            w0, w1 = soups.whole(start(entry(trial, self._group)), {}), ended(trial)
            for alpha in soups.ALPHAS:
                yield from row("wise", [trial], [trial], alpha, soups.wise(w0, w1, alpha))
        for of in _alike(trials):
            yield from row("uniform", of, of, None, soups.uniform(mixed(of)))
            chosen, soup = soups.greedy(mixed(of), dev)
            yield from row("greedy", [of[place] for place in chosen], of, None, soup)

    @property
    def _about(self) -> dict[str, Any]:
        fixed = self._group.trials[0].fixed
        named = {"model": fixed["model"], "task": fixed["task.name"], "method": fixed["method"]}
        return {"group": self._group.name, **named, "metric": self._group.task.metric}

    def _judged(self, split: str, logits: np.ndarray) -> tuple[float, dict[str, float], np.ndarray]:
        task = self._group.task
        return metrics.judged(task.metrics, logits, np.asarray(task.evals[split].labels), task.also.get(split))

    def _top(self, scores: Mapping[str, float]) -> dict[str, float]:
        """The best of these, in order."""
        ranked = sorted((-score, name) for name, score in scores.items() if not math.isnan(score))
        return {name: -score for score, name in ranked[: self._most]}

    def _read(self, trial: str) -> soups.Weights:
        return _read(self._folder, trial)

    def _readable(self, trial: str) -> bool:
        try:
            self._read(trial)
        except (OSError, LookupError, ValueError) as error:
            place = self._folder.place(_file(trial))
            warn(f"{place}: cannot be read ({line(error)}); no average has this trial", Note, stacklevel=2)
            return False
        return True

    def _served(self, name: str) -> set[str]:
        """The trials that a file of soups/ is about; none where it cannot be read."""
        try:
            if self._folder.exists(name):
                table = shards.read(self._folder, name, list(rows.COLUMNS[SOUPS]))
                return {trial for members in table["members"].to_pylist() for trial in members}
        except (BadInput, OSError):
            pass
        return set()


def kept(folder: Folder, trial: str) -> soups.Weights | None:
    """What the run kept of a trial: what it owned at its end; None where it kept nothing, or not what it wrote."""
    try:
        return _read(folder, trial)
    except (OSError, LookupError, ValueError):
        return None


def _read(folder: Folder, trial: str) -> soups.Weights:
    """Raises OSError, LookupError or ValueError where it is not what was written."""
    content = folder.read(_file(trial))
    about = content[8 : 8 + int.from_bytes(content[:8], "little")]
    try:
        owned = load(content)
    except Exception as error:  # safetensors has its own
        raise ValueError(line(error)) from None
    if f'"crc32":"{summed(owned, trial)}"'.encode() not in about:
        raise ValueError("its sum is another")
    return owned


def _alike(trials: Sequence[Trial]) -> list[list[Trial]]:
    """What soups are made of: all trials, and those of each init seed, where there are several."""
    inits = dict.fromkeys(trial.seeds.init for trial in trials)
    sets = [list(trials), *([trial for trial in trials if trial.seeds.init == init] for init in inits)]
    return [each for each in (sets if len(inits) > 1 else sets[:1]) if len(each) > 1]


def _file(trial: str) -> str:
    return f"{BEST}/{trial}.safetensors"
