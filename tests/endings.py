"""Synthetic trials for tests: numbers that nobody trained, in the shape of those that somebody did."""

import math

import numpy as np

from jaxft.folder.store import Ended, Evaluation, Store
from jaxft.study import Study, build
from jaxft.study.trials import Trial, expand
from jaxft.types import Split, Task

EXAMPLES = 6


def study(**leaves) -> Study:
    """Of 3 x 2 seeds, unless other keys are given: study(**{"train.lr": 1e-4})."""
    return build({"seeds.init": "1..3", "seeds.order": "1..2", **leaves})


def task() -> Task:
    labels = np.array([0, 1, 1, 0, 1, 1], np.int32)
    offsets = np.array([0, 2, 5, 6, 8, 9, 11], np.int32)
    split = Split(np.arange(11, dtype=np.uint8), offsets, np.full(6, 1, np.int32), labels)
    return Task("generated", ("no", "yes"), split, {"dev": split}, "accuracy", ("accuracy", "f1"), "0a1b2c")


def ended(trial: Trial, status: str = "completed", reason: str = "", score: float | None = None) -> Ended:
    """One that took 8 steps with an evaluation every 4, or that stopped after 3 without any."""
    draw = np.random.default_rng(int(trial.id, 16))
    steps, evaluated = (8, [4, 8]) if status != "diverged" else (3, [])
    scores = {step: draw.uniform() if score is None else score for step in evaluated}
    best = max(scores, key=scores.__getitem__, default=0)
    return Ended(
        trial=trial,
        status=status,
        reason=reason,
        steps=steps,
        n_train=EXAMPLES,
        evaluations=[
            Evaluation(step, step / 2, "dev", draw.uniform(), {"accuracy": scores[step], "f1": draw.uniform()})
            for step in evaluated
        ],
        losses=draw.uniform(size=steps).astype(np.float32),
        metric="accuracy",
        best_step=best,
        best_score=scores.get(best, math.nan),
        final_score=scores.get(8, math.nan),
        test_at_best=math.nan,
        test_at_final=math.nan,
        majority_score=2 / 3,
        predictions={
            ("dev", at): draw.normal(size=(EXAMPLES, 2)).astype(np.float32) for at in ("best", "final") if evaluated
        },
        slots_per_device=2,
        slot=0,
        device="cpu:0",
        precision="highest",
        seconds=0.1,
    )


def folder(path, study: Study, dropped: tuple[int, ...] = ()):
    """A run folder in which all trials of the study are over; some of them, by number, did not end well."""
    trials = expand(study)
    store = Store.open(path, study, {}, trials)
    store.examples(task())
    ends = [("diverged", "non_finite_loss"), ("stopped", "one_class")]
    for number, trial in enumerate(trials):
        bad = ends[dropped.index(number) % 2] if number in dropped else ()
        store.append([ended(trial, *bad)])
    store.close()
    return path
