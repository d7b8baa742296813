"""Averages of a run's trials, as it has scored them (`eval.soups`), made again from what it kept."""

from typing import Any, NamedTuple

import numpy as np

from jaxft import metrics
from jaxft.engine.groups import Group, entry, weights
from jaxft.errors import BadInput
from jaxft.folder import Folder
from jaxft.folder.store import Run
from jaxft.stats.cells import Frame
from jaxft.study.trials import Trial
from jaxft.trained import best, soups
from jaxft.trained.replay import keeper, programs

KINDS = ("greedy", "uniform")


class Soup(NamedTuple):
    """The mean of several trials."""

    kind: str
    group: Group
    members: list[Trial]
    """Best first."""
    of: int
    """Among how many they were chosen."""
    init: int | None
    """The init seed that they share, if they do."""
    weights: dict[str, np.ndarray]
    """Of the whole model."""
    metric: str
    score: float
    """On dev, as recorded."""
    test: float | None
    """On test, likewise, where there is one."""
    off: float
    """How far its loss on dev is from the recorded one, in this program's last bits."""


def mixed(run: Run, kind: str) -> Soup:
    """The best on dev of the averages of this kind that the run has scored.

    Args:
        run: from `jaxft.load`; relative paths in its study are relative to the current directory, as they were.
        kind: "greedy" or "uniform".

    Raises:
        BadInput: the run scored none, or does not have its members any more; or as `replay`.
    """
    table: Frame = run.soups
    scored = [row for row in table.to_dict("records") if row["kind"] == kind]
    dev = [row for row in scored if row["split"] == "dev"]
    if not dev:
        raise BadInput(f"{run.folder}: --soup {kind}: the run scored none; a study asks for them with eval.soups")
    row = max(dev, key=_score)
    names = list(row["members"])
    folder = Folder.at(run.folder)
    if gone := [name for name in names if best.kept(folder, name) is None]:
        raise BadInput(f"{run.folder}: --soup {kind}: best/ lacks some of its members, or they are damaged: {gone[0]}")
    ((group, members),) = programs(run, names)
    members = sorted(members, key=lambda trial: names.index(trial.id))
    trials: Frame = run.trials
    steps = trials.set_index("trial")["steps"]
    start = soups.starter(group.recipe, group.shared.pretrained)
    make = keeper(group)

    def owned(trial: Trial) -> soups.Weights:
        """Read again at each call: one member is in memory at a time."""
        return best.kept(folder, trial.id) or {}

    mean = soups.uniform(soups.whole(start(entry(trial, group)), owned(trial)) for trial in members)
    logits = soups.evaluator(group.recipe, group.shared, group.precision)(mean, ["dev"])["dev"]
    loss, *_ = metrics.judged(group.task.metrics, logits, np.asarray(group.task.evals["dev"].labels))
    test = [_score(other) for other in scored if other["split"] == "test" and list(other["members"]) == names]
    return Soup(
        kind=kind,
        group=group,
        members=members,
        of=int(row["of"]),
        init=int(row["init_seed"]) if row["init_seed"] == row["init_seed"] else None,
        weights=soups.uniform(weights(group, make(trial, owned(trial), int(steps[trial.id]))) for trial in members),
        metric=row["metric"],
        score=_score(row),
        test=test[0] if test else None,
        off=abs(loss - row["loss"]),
    )


def _score(row: Any) -> float:
    return float(row[row["metric"]])
