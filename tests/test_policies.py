"""Policies and the contest that asks them: counts, order of arrival, slots, trials that drop out, bad arguments."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft import policies
from jaxft.contest import Contest
from jaxft.errors import BadInput
from jaxft.policies import GO, STOP, WAIT, Policy, Standing
from jaxft.stats.replay import replay

SYNCHRONOUS = [
    "start_many(fraction=0.3, keep=2)",
    "start_many(start=4, fraction=0.5, keep=3)",
    "successive_halving",
    "successive_halving(factor=3, first=0.2)",
    "successive_halving(start=5, first=0.1)",
]
OTHERS = ["successive_halving(asynchronous=True)", "successive_halving(start=6, factor=3, asynchronous=True)", "median",
          "median(grace=0.0, least=1)"]  # fmt: skip


@st.composite
def studies(draw, most: int = 14):
    """Curves [n, K] with ties and missing scores; some trials end early, at and around every rung."""
    count, whole = draw(st.integers(1, most)), draw(st.integers(1, 12))
    scores = np.array(draw(st.lists(st.integers(0, 6), min_size=count * whole, max_size=count * whole)), float) / 6
    scores = scores.reshape(count, whole)
    lengths = np.array(draw(st.lists(st.one_of(st.just(whole), st.integers(0, whole)), min_size=count, max_size=count)))
    for row, length in zip(scores, lengths, strict=True):
        row[length:] = np.nan
        if length > 1 and draw(st.booleans()):
            row[draw(st.integers(0, length - 2))] = np.nan
    return scores


def lengths(scores: np.ndarray) -> np.ndarray:
    known = ~np.isnan(scores)
    return np.where(known.any(axis=1), scores.shape[1] - known[:, ::-1].argmax(axis=1), 0)


def run(policy: Policy, scores: np.ndarray, order: Callable[[list[str]], str]) -> dict[str, int]:
    """One evaluation at a time, of whichever trial `order` picks of those that may go on; returns how far each came."""
    count, whole = scores.shape
    contest, long = Contest(policy, {str(i): whole for i in range(count)}), lengths(scores)
    done, free = {str(i): 0 for i in range(count)}, [str(i) for i in range(count)]
    judged: set[tuple[str, int]] = set()
    while free:
        name = order(free)
        i = int(name)
        if done[name] < long[i]:
            contest.observe(name, scores[i, done[name]])
            done[name] += 1
        if done[name] == long[i]:
            contest.over(name, dropped=bool(long[i] < whole))
            free.remove(name)
        elif contest.waits(name):
            free.remove(name)
        for told, goes in contest.verdicts().items():
            assert (told, done[told]) not in judged, "nobody is judged twice at the same rung"
            judged.add((told, done[told]))
            assert done[told] < long[int(told)], "who is over is not judged"
            if goes:
                free.append(told)
    assert not any(contest.waits(name) for name in done), "once nobody is coming nobody waits"
    assert contest.verdicts() == {}
    return done


@pytest.mark.parametrize("text", SYNCHRONOUS)
@settings(max_examples=40, deadline=None)
@given(scores=studies(), random=st.randoms(use_true_random=False), slots=st.integers(1, 6))
def test_who_survives_does_not_depend_on_the_order_of_arrival_or_the_slots(text, scores, random, slots):
    policy = policies.load(text)
    first = run(policy, scores, lambda free: free[0])
    assert run(policy, scores, random.choice) == first
    assert run(policy, scores, lambda free: free[-1]) == first
    for width in (slots, None):
        table = replay(policy, scores, width)
        assert dict(zip(table["trial"], table["evaluations"], strict=True)) == first


@pytest.mark.parametrize("text", OTHERS)
@settings(max_examples=40, deadline=None)
@given(scores=studies(), random=st.randoms(use_true_random=False), slots=st.integers(1, 6))
def test_whatever_the_order_everybody_gets_a_verdict(text, scores, random, slots):
    policy = policies.load(text)
    for done in (run(policy, scores, random.choice), replay(policy, scores, slots)["evaluations"]):
        assert len(done) == len(scores)


@settings(max_examples=80, deadline=None)
@given(scores=studies(), start=st.integers(0, 6), keep=st.integers(1, 6), fraction=st.floats(0.01, 0.99))
def test_start_many_goes_on_with_the_best_that_are_fit(scores, start, keep, fraction):
    """Against a transcription: of each cohort min(keep, fit), by the best score so far, the earlier of equal ones."""
    keep = min(keep, start or keep)
    table, whole, long = replay(policies.load(f"start_many({start=}, {fraction=}, {keep=})"), scores, 3), *_of(scores)
    at = max(1, min(whole - 1, round(fraction * whole)))
    want = long.copy()
    for first in range(0, len(scores), start or len(scores)) if whole > 1 else ():
        cohort = range(first, min(first + (start or len(scores)), len(scores)))
        fit = [i for i in cohort if long[i] > at or long[i] == whole]
        best = {i: max((x for x in scores[i, :at] if not math.isnan(x)), default=-math.inf) for i in fit}
        chosen = sorted(fit, key=lambda i: (-best[i], i))[:keep]
        assert len(chosen) == min(keep, len(fit))
        for i in set(fit) - set(chosen):
            want[i] = at
    assert table["evaluations"].tolist() == want.tolist()
    assert table["stopped"].tolist() == (want < long).tolist()


def _of(scores: np.ndarray) -> tuple[int, np.ndarray]:
    return scores.shape[1], lengths(scores)


def distinct(count: int, whole: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permuted(np.arange(count * whole)).reshape(count, whole) / (count * whole)


def test_start_many_costs_what_the_paper_says():
    """t f + p (1 - f) whole trainings, whatever the slots."""
    for slots in (1, 4, None):
        table = replay(policies.load("start_many(fraction=0.3, keep=3)"), distinct(12, 30), slots)
        assert table["cost"].sum() == pytest.approx(12 * 0.3 + 3 * 0.7, abs=1e-12)  # sums of 1/30ths
        assert (table["evaluations"] == 30).sum() == 3


@pytest.mark.parametrize(("count", "factor", "want"), [
    (16, 2, {4: 8, 8: 4, 16: 2, 32: 2}), (27, 3, {4: 18, 12: 6, 32: 3}), (17, 2, {4: 8, 8: 4, 16: 2, 32: 3}),
    (5, 4, {4: 3, 16: 1, 32: 1}), (1, 2, {32: 1}),
])  # fmt: skip
def test_successive_halving_counts(count, factor, want):
    """How many trials end after which of 32 evaluations; of 17, one in two rounded up: 9, 5, 3."""
    policy = policies.load(f"successive_halving(factor={factor}, first=0.125)")
    assert replay(policy, distinct(count, 32))["evaluations"].value_counts().to_dict() == want


def test_successive_halving_goes_on_with_the_best_of_each_rung():
    scores = distinct(20, 8)
    table = replay(policies.load("successive_halving(factor=2, first=0.125)"), scores, 7)
    alive = list(range(20))
    want = np.zeros(20, int)
    for at in (1, 2, 4):
        want[alive] = at
        alive = sorted(alive, key=lambda i: -scores[i, :at].max())[: math.ceil(len(alive) / 2)]
    want[alive] = 8
    assert table["evaluations"].tolist() == want.tolist()


def test_rungs_that_fall_on_one_evaluation_are_one():
    assert policies.load("successive_halving(first=0.125)").rungs(4) == [1, 2]
    assert policies.load("successive_halving(first=0.125)").rungs(32) == [4, 8, 16]
    assert policies.load("start_many(fraction=0.3)").rungs(30) == [9]
    assert policies.load("median(grace=0.2)").rungs(10) == [2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("text", ["start_many", "successive_halving", "median(least=1)"])
def test_trials_of_one_evaluation_need_no_verdict(text):
    table = replay(policies.load(text), distinct(5, 1))
    assert not table["stopped"].any()
    assert (table["evaluations"] == 1).all()


@settings(max_examples=60, deadline=None)
@given(scores=studies(), factor=st.integers(2, 4), random=st.randoms(use_true_random=False))
def test_asha_goes_on_with_all_of_the_final_best(scores, factor, random):
    """Whoever is among the best 1 / factor of a rung in the end has gone on; others only if they came early enough."""
    policy, (whole, long) = (
        policies.load(f"successive_halving(factor={factor}, first=0.2, asynchronous=True)"),
        _of(scores),
    )
    done = run(policy, scores, random.choice)
    for at in policy.rungs(whole) if whole > 1 else ():
        come = [i for i in range(len(scores)) if done[str(i)] >= at and (long[i] > at or long[i] == whole)]
        best = {i: max((x for x in scores[i, :at] if not math.isnan(x)), default=-math.inf) for i in come}
        final = sorted(come, key=lambda i: (-best[i], i))[: math.ceil(len(come) / factor)]
        assert all(done[str(i)] > at for i in final)


def test_asha_lets_go_on_before_all_have_come():
    contest = Contest(policies.load("successive_halving(first=0.5, asynchronous=True)"), dict.fromkeys("abcd", 4))
    for name, score in (("a", 0.5), ("b", 0.7)):
        contest.observe(name, score)
        contest.observe(name, 0.1)
    assert contest.verdicts() == {"b": True}  # one in two
    contest.observe("c", 0.6)
    contest.observe("c", 0.6)
    assert contest.verdicts() == {}
    contest.observe("d", 0.9)
    contest.observe("d", 0.0)
    assert contest.verdicts() == {"a": False, "c": False, "d": True}  # the best so far, and nobody is coming


@settings(max_examples=80, deadline=None)
@given(scores=studies(9), least=st.integers(1, 4), come=st.lists(st.booleans(), min_size=9, max_size=9))
def test_the_median_rule_against_its_words(scores, least, come):
    """Golovin et al. 2017: best so far strictly below the median of the others' running averages."""
    arrived = np.array(come[: len(scores)])
    standing = Standing(scores, arrived, ~arrived)
    verdicts = policies.load(f"median(least={least})").judge(0, standing)
    for i in np.flatnonzero(arrived):
        mine = [x for x in scores[i] if not math.isnan(x)]
        averages = []
        for j in np.flatnonzero(arrived):
            theirs = [x for x in scores[j] if not math.isnan(x)]
            if j != i and theirs:
                averages.append(sum(theirs) / len(theirs))
        below = len(averages) >= least and max(mine, default=-math.inf) < np.median(averages) - 1e-12
        above = len(averages) < least or max(mine, default=-math.inf) > np.median(averages) + 1e-12
        if below or above:  # where both are equal but for the order of a sum, either is right
            assert verdicts[i] == (STOP if below else GO)


def test_the_median_rule_stops_the_hopeless_and_nobody_waits():
    scores = np.array([[0.5, 0.6, 0.7, 0.8]] * 4 + [[0.1, 0.1, 0.1, 0.9]])
    table = replay(policies.load("median(grace=0.5)"), scores)
    assert table["evaluations"].tolist() == [4, 4, 4, 4, 2]
    assert table["stopped"].tolist() == [False] * 4 + [True]
    assert table["score"].tolist() == [0.8] * 4 + [0.1]
    equal = np.full((5, 4), 0.5)
    assert not replay(policies.load("median(grace=0.5)"), equal)["stopped"].any(), "strictly below"
    assert replay(policies.load("median(grace=0.5)"), scores, 1)["evaluations"].tolist() == [4, 4, 4, 4, 2]
    assert replay(policies.load("median(grace=0.5)"), scores[::-1], 1)["evaluations"].tolist() == [4] * 5, (
        "it came first"
    )


@pytest.mark.parametrize("length", [2, 3, 4])
def test_a_trial_dropped_before_at_and_after_the_rung(length):
    """A rung at 3 of 6 and one place: the best takes it from the second only if it is dropped after the rung."""
    scores = np.full((3, 6), 0.5)
    scores[0], scores[0, length:] = 0.9, np.nan
    scores[1] = 0.7
    table = replay(policies.load("start_many(fraction=0.5, keep=1)"), scores, 1)
    rest = [6, 3] if length < 4 else [3, 3]
    assert table["evaluations"].tolist() == [length, *rest]
    assert table["stopped"].tolist() == [False, *(n == 3 for n in rest)]


def test_a_trial_dropped_in_the_first_step_after_the_rung_has_taken_its_place():
    """It has no evaluation more than one that was dropped at the rung."""
    contest = Contest(policies.load("successive_halving(first=0.5, asynchronous=True)"), dict.fromkeys("abcd", 4))
    for name, score in (("a", 0.9), ("b", 0.5)):
        contest.observe(name, score)
        contest.observe(name, score)
    assert contest.verdicts() == {"a": True}
    contest.over("a", dropped=True)
    contest.observe("c", 0.7)
    contest.observe("c", 0.7)
    assert contest.verdicts() == {}, "one of three, which was a"
    contest.over("d", dropped=True)  # before the rung
    assert contest.verdicts() == {"b": False, "c": True}


def test_a_contest_that_is_taken_up_again_says_the_same():
    """From the scores alone, as after a restart: who has gone past a rung, or was stopped, needs no new verdict."""
    scores, policy = distinct(6, 8), policies.load("successive_halving(first=0.25)")
    table = replay(policy, scores)
    contest = Contest(policy, {str(i): 8 for i in range(6)})
    for i, count in enumerate(table["evaluations"]):
        for score in scores[i, :count]:
            contest.observe(str(i), score)
        contest.over(str(i), dropped=False)
    assert contest.verdicts() == {}
    half = Contest(policy, {str(i): 8 for i in range(6)})
    for i in range(6):
        half.observe(str(i), scores[i, 0])
        half.observe(str(i), scores[i, 1])
    said = half.verdicts()
    assert {int(name) for name, goes in said.items() if goes} == set(np.flatnonzero(table["evaluations"] > 2))


def test_trials_of_unequal_length_meet_at_their_rungs():
    contest = Contest(policies.load("start_many(fraction=0.5)"), {"short": 2, "long": 6})
    contest.observe("short", 0.4)
    assert contest.waits("short")
    for score in (0.1, 0.2, 0.3):
        assert contest.verdicts() == {}
        contest.observe("long", score)
    assert contest.verdicts() == {"short": True, "long": False}
    for _ in range(3):
        contest.observe("long", 0.3)
    with pytest.raises(ValueError, match="long has more than its 6"):
        contest.observe("long", 0.3)


def test_a_contest_of_nobody():
    assert Contest(policies.load("median"), {}).verdicts() == {}


def test_a_policy_that_waits_for_ever_is_found_out():
    policy = Policy(lambda evaluations: [1], lambda rung, standing: np.full(len(standing.arrived), WAIT))
    with pytest.raises(RuntimeError, match="trials wait though nobody is coming"):
        replay(policy, distinct(3, 2), 2)


@pytest.mark.parametrize(("text", "message"), [
    ("start_many(start=3, keep=4)", "policy: keep: expected a number from 1 to 3, found 4"),
    ("start_many(keep=0)", "policy: keep: expected a number from 1 on, found 0"),
    ("start_many(start=-1)", "policy: start: expected a number from 0 on, found -1"),
    ("start_many(fraction=1.0)", "policy: fraction: expected a number from 0.001 to 0.999, found 1.0"),
    ("successive_halving(factor=1)", "policy: factor: expected a number from 2 to 1000, found 1"),
    ("successive_halving(first=0.0)", "policy: first: expected a number from 0.001 to 0.999, found 0.0"),
    ("median(grace=-0.1)", "policy: grace: expected a number from 0 to 0.999, found -0.1"),
    ("median(least=0)", "policy: least: expected a number from 1 on, found 0"),
    ("median(least=2.5)", "policy.median.least: expected an integer, found 2.5"),
    ("medium", "policy: unknown policy 'medium'; did you mean median?"),
    ("median(grce=0.1)", "policy: median has no argument 'grce'; did you mean grace?"),
    ("median|start_many", "policy: expected one, found 'median|start_many'"),
    ("", "policy: '' at position 1"),
])  # fmt: skip
def test_bad_arguments(text, message):
    with pytest.raises(BadInput) as raised:
        policies.load(text)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_bad_slots():
    with pytest.raises(BadInput, match="slots: expected at least 1, found 0"):
        replay(policies.load("median"), distinct(3, 4), 0)
