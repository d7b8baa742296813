"""The parameters of finished trials: those that a run kept, or others' by training them once more from their seeds."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxft.engine import replica
from jaxft.engine.groups import Group, entry, pooled, prepare
from jaxft.engine.memory import DoesNotFit
from jaxft.engine.pool import Pool
from jaxft.engine.recipe import Entry, Replica
from jaxft.errors import BadInput
from jaxft.folder import Folder, rows
from jaxft.folder.store import Run
from jaxft.study.trials import Trial, expand
from jaxft.study.trials import group as alike
from jaxft.trained import best, soups

AT = {"end": "final", "best": "best"}
"""When a replay ends, and what predictions/ calls that."""


class Again(NamedTuple):
    """A trial, trained again."""

    trial: Trial
    group: Group
    step: int
    """How many steps it took."""
    replica: Replica
    off: float
    """The largest absolute difference of its logits on dev from those recorded; 0 where they are the same bit for
    bit.
    """
    unlike: list[str]
    """In what this training differs from the recorded one: "jax 0.11.2 (then 0.10.2)"."""
    kept: bool = False
    """Whether nothing was trained: the run had kept its parameters (`eval.soups`). Its logits are then those of a
    program of their own, which has other last bits.
    """


def replay(run: Run, names: Sequence[str], at: str = "end") -> Iterator[Again]:
    """The parameters of completed trials of a run. At their end, of those that it kept (`eval.soups`), they are taken
    from its folder; the others are trained again, as many at once as the run did.

    Where the study's data and model, the width of the pool, the kind and number of devices and the versions are as
    they were, every bit is.

    Args:
        run: from `jaxft.load`; relative paths in its study are relative to the current directory, as they were.
        names: ids of completed trials.
        at: "end", or "best": after the step at which its score on dev was best.

    Raises:
        BadInput: the study's model or data are not there, or are others than the run had.
    """
    recorded = run.trials.set_index("trial")
    predictions = run.predictions
    predictions = predictions[(predictions["split"] == "dev") & (predictions["at"] == AT[at])].set_index("trial")

    def then(trial: Trial) -> np.ndarray:
        return np.asarray(predictions.loc[trial.id, "logits"], np.float32)

    for group, here in programs(run, names):
        make, judge, again = keeper(group), _judge(group), []
        for trial in here:
            owned = best.kept(Folder.at(run.folder), trial.id) if at == "end" else None
            if owned is None:
                again.append(trial)
                continue
            made = make(trial, owned, int(recorded.loc[trial.id, "steps"]))
            yield Again(trial, group, int(made.step), made, _off(judge(made), then(trial)), [], kept=True)
        here = again
        widths = recorded.loc[[trial.id for trial in here], "slots_per_device"]
        for width in widths.unique():
            pool = _pool(group, int(width), run)
            members = [trial for trial in here if widths[trial.id] == width]
            for first in range(0, len(members), pool.slots):
                column = "steps" if at == "end" else "best_step"
                turn = [(trial, int(recorded.loc[trial.id, column])) for trial in members[first : first + pool.slots]]
                for trial, step, made, logits in _trained(group, pool, turn):
                    unlike = _unlike(recorded.loc[trial.id], pool)
                    yield Again(trial, group, step, made, _off(logits, then(trial)), unlike)


def programs(run: Run, names: Sequence[str]) -> Iterator[tuple[Group, list[Trial]]]:
    """The programs that have these trials, with those of them. Only their models and data are loaded.

    Raises:
        BadInput: as `replay`.
    """
    sets = [same for same in alike(expand(run.study)) if any(trial.id in names for trial in same)]
    for group in prepare(run.study, [trial for same in sets for trial in same]):
        if here := [trial for trial in group.trials if trial.id in names]:
            _same(run, group)
            yield group, here


def keeper(group: Group) -> Callable[[Trial, soups.Weights, int], Replica]:
    """What gives a replica that owns these parameters after so many steps, its optimiser's state aside."""
    begin = jax.jit(lambda shared, entry: replica.init(group.recipe, shared, entry))

    def make(trial: Trial, owned: soups.Weights, steps: int) -> Replica:
        return begin(group.shared, entry(trial, group))._replace(params=owned, step=np.int32(steps))

    return make


def _judge(group: Group) -> Callable[[Replica], np.ndarray]:
    """What gives the logits of a replica on dev."""
    start = soups.starter(group.recipe, group.shared.pretrained)
    evaluate = soups.evaluator(group.recipe, group.shared, group.precision)

    def logits(made: Replica) -> np.ndarray:
        w0 = start(Entry(made.seeds, made.hp, made.length))
        return evaluate(soups.whole(w0, jax.tree.map(np.asarray, made.params)), ["dev"])["dev"]

    return logits


def _off(found: np.ndarray, then: np.ndarray) -> float:
    return 0.0 if np.array_equal(then, found, equal_nan=True) else float(np.abs(then - found).max())


def _same(run: Run, group: Group) -> None:
    there = run.resolved.get(group.name, {})
    for name, value in group.decided.items():
        if there.get(name, value) != value:
            raise BadInput(
                f"{run.folder}: {name} is {value!r} now, but was {there[name]!r} when the run was made: "
                "its model and data have to be as they were"
            )


def _pool(group: Group, width: int, run: Run) -> Pool:
    there = jax.devices()
    wanted = run.study.pool.devices
    devices = there if wanted == "auto" else there[: int(wanted)]
    try:
        return pooled(group, width, devices)
    except DoesNotFit:
        return pooled(group, "auto", devices)


def _trained(
    group: Group, pool: Pool, turn: Sequence[tuple[Trial, int]]
) -> Iterator[tuple[Trial, int, Replica, np.ndarray]]:
    """Each trial with the steps it is to take, then its replica and its logits on dev; as they get there."""
    slots = dict(enumerate(turn))
    pool.fill({slot: entry(trial, group) for slot, (trial, _) in slots.items()})
    at = {slot: int(group.lengths[trial.id].begin(group.recipe.every)) for slot, (trial, _) in slots.items()}
    while slots:
        steps = min(group.recipe.every, max(goal - at[slot] for slot, (_, goal) in slots.items()))
        report = pool.run(steps)
        for slot, (trial, goal) in list(slots.items()):
            at[slot] += steps
            if at[slot] >= goal:
                yield trial, goal, pool.take(slot), np.asarray(report.logits["dev"][slot])
                del slots[slot]


def _unlike(row: Any, pool: Pool) -> list[str]:
    kind, _, among = str(row["device"]).partition(":")
    mine, _, now = pool.device(0).partition(":")
    devices, there = now.split(" of ")[-1], among.split(" of ")[-1]
    pairs = [
        ("", f"{mine}", kind),
        ("number of devices ", devices, there),
        ("slots per device ", str(pool.slots_per_device), str(row["slots_per_device"])),
        *(
            (f"{new.split(' ')[0]} ", new.split(" ")[-1], old.split(" ")[-1])
            for new, old in zip(rows.versions().split(", "), str(row["versions"]).split(", "), strict=False)
        ),
    ]
    found = [f"{name}{new} (then {old})" for name, new, old in pairs if new != old]
    return [*found, *([f"it had begun elsewhere: {row['earlier']}"] if row["earlier"] else [])]
