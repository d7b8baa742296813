"""What the host keeps of a trial: which losses, which evaluations, which is best."""

import numpy as np
import pytest

import jaxft
from jaxft.loop.record import Record
from jaxft.study.trials import Length, Seeds, Trial

LABELS = np.array([0, 1, 1])
RIGHT = np.array([[1, 0], [0, 1], [0, 1]], np.float32)
WRONG = RIGHT[:, ::-1]
ONES = np.array([[0, 1], [0, 1], [0, 1]], np.float32)
NAN = np.full((3, 2), np.nan, np.float32)


def record(step: int = 0, lead: int = 0) -> Record:
    trial = Trial("t", Seeds(0, 0, 0, 0, 0), {}, {})
    return Record(trial, 0, Length(20, 2, 5, lead, 10), "accuracy", ("accuracy",), {"dev": LABELS}, step=step)


def observe(one: Record, step: int, logits, tried: bool = False) -> None:
    """A block of five steps whose losses are those of steps counted from the record's own."""
    losses = np.arange(one.step, one.step + 5, dtype=np.float32)
    one.observe(step, losses, {"dev": logits}, tried=tried)


def end(one: Record):
    return one.ended("completed", "", policy="", slots_per_device=1, device="cpu:0 of 1", precision="highest")


def test_losses_and_scores_of_a_whole_trial():
    one = record()
    for step, logits in ((5, ONES), (10, WRONG)):
        observe(one, step, logits)
    ended = end(one)
    assert ended.losses.tolist() == list(range(10))
    assert [(e.step, e.epoch, round(e.metrics["accuracy"], 3)) for e in ended.evaluations] == [
        (5, 1.0, 0.667),
        (10, 2.0, 0.0),
    ]
    assert (ended.steps, ended.best_step, ended.final_score) == (10, 5, 0.0)
    assert ended.best_score == ended.majority_score == 2 / 3
    assert np.array_equal(ended.predictions["dev", "best"], ONES)
    assert np.array_equal(ended.predictions["dev", "final"], WRONG)


@pytest.mark.parametrize(("step", "tried", "losses"), [(2, True, [0, 1, 2]), (3, False, [0, 1, 2])])
def test_a_step_that_drops_a_trial_has_a_loss_but_is_not_taken(step, tried, losses):
    one = record()
    observe(one, step, RIGHT, tried=tried)
    assert end(one).losses.tolist() == losses
    assert end(one).steps == step


def test_what_is_dropped_before_anything_is_trained_has_no_score():
    one = record()
    observe(one, 0, RIGHT, tried=True)
    ended = end(one)
    assert ended.losses.tolist() == [0]
    assert ended.evaluations == []
    assert np.isnan([ended.best_score, ended.final_score]).all()


def test_a_lead_in_leaves_no_losses_and_no_evaluations():
    one = record(step=-5, lead=3)
    observe(one, 0, RIGHT)
    assert one.left == 10
    observe(one, 5, ONES)
    ended = end(one)
    assert ended.losses.tolist() == [0, 1, 2, 3, 4]
    assert [e.step for e in ended.evaluations] == [5]
    dropped = record(step=-5, lead=3)
    observe(dropped, -2, RIGHT, tried=True)
    assert (end(dropped).steps, len(end(dropped).losses), end(dropped).evaluations) == (0, 0, [])


def test_logits_that_are_not_finite_score_nothing_and_are_never_best():
    one = record()
    observe(one, 5, WRONG)
    observe(one, 7, NAN)
    ended = end(one)
    assert np.isnan(ended.final_score)
    assert np.isnan(ended.evaluations[-1].loss)
    assert (ended.best_score, ended.best_step) == (0.0, 5)
    first = record()
    observe(first, 5, NAN)
    observe(first, 10, ONES)
    assert (end(first).best_score, end(first).best_step) == (2 / 3, 10)


def test_the_score_on_test_is_that_of_the_best_step_on_dev():
    one = record()
    one.labels["test"] = LABELS
    for step, dev, test in ((5, ONES, WRONG), (10, RIGHT, ONES), (15, WRONG, RIGHT)):
        one.observe(step, np.zeros(5, np.float32), {"dev": dev, "test": test}, tried=False)
    ended = end(one)
    assert (ended.best_step, ended.best_score, ended.test_at_best) == (10, 1.0, 2 / 3)
    assert (ended.final_score, ended.test_at_final) == (0.0, 1.0)
    assert {(e.step, e.split) for e in ended.evaluations} == {(s, n) for s in (5, 10, 15) for n in ("dev", "test")}
    assert np.isnan([end(record()).test_at_best, end(record()).test_at_final]).all()


def test_nothing_kept_holds_on_to_the_arrays_of_other_slots():
    everyone = {"dev": np.stack([ONES] * 64)}
    losses = np.zeros((64, 5), np.float32)
    one = record()
    one.observe(5, losses[3], {"dev": everyone["dev"][3]}, tried=False)
    kept = [*one.losses, *one.logits.values()]
    assert all(x.base is None for x in kept)


def test_every_public_name_is_there():
    for name in ("read", "plan", "run", "load"):
        assert callable(getattr(jaxft, name))
    with pytest.raises(AttributeError, match="nothing"):
        _ = jaxft.nothing


def test_time_outside_of_a_slot_is_not_counted(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    one = record()
    one.began = 100.0
    for seconds, then in ((3, one.leave), (50, lambda: one.enter(7)), (2, one.leave), (50, lambda: None)):
        now[0] += seconds
        then()
    assert one.seconds == 5
    assert one.saved()[0]["seconds"] == 5
    assert one.slot == 7
