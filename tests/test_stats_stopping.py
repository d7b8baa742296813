"""Early stopping on curves of the past: the simulator against enumeration, closed forms, and the policies themselves.

Where a mean over draws is compared, 5 of its standard errors are allowed: the seeds are fixed, so a test that passes
stays so, and a wrong rule is off by more (each was broken once to see it).
"""

import math
import time
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from jaxft import policies
from jaxft.errors import BadInput
from jaxft.stats import curves, stopping
from jaxft.stats.replay import replay
from jaxft.stats.scores import Scores

TIED = np.array([[0.2, 0.2, 0.5, 0.4], [0.2, 0.3, 0.3, 0.9], [0.1, 0.2, 0.7, 0.7]])
"""Three trials of four evaluations: ties at the first two, and one that falls at the end."""


def walks(count: int, whole: int = 30, seed: int = 0) -> np.ndarray:
    """Curves that rise and cross, on a dev set of 277 examples: with ties."""
    steps = np.random.default_rng(seed).normal(0.01, 0.02, (count, whole))
    return np.round(277 * np.clip(0.5 + np.cumsum(steps, axis=1), 0, 1)) / 277


def as_scores(matrix: np.ndarray, status: str = "completed", reason: str = "", **columns) -> Scores:
    """A row of the matrix is a trial, with evaluations at steps 10, 20, ...; NaN at its end: it has none."""
    names = [f"t{i}" for i in range(len(matrix))]
    rows = [(n, 10 * k + 10, x) for n, row in zip(names, matrix, strict=True) for k, x in enumerate(row) if x == x]
    trials = pd.DataFrame(
        {"trial": names, "status": status, "reason": reason, "init_seed": range(len(names))} | columns
    )
    evals = pd.DataFrame(rows, columns=["trial", "step", "score"])
    return Scores("study", "rte", "accuracy", {}, trials, ("init_seed",), evals)


def played(matrix: np.ndarray, drawn, keep: int, stop: int) -> float:
    """One study, word by word: the best of full runs and of the partial runs of those that were stopped."""
    partial = [max(matrix[i, :stop]) for i in drawn]
    order = sorted(range(len(drawn)), key=lambda at: -partial[at])
    return max([max(matrix[drawn[at]]) for at in order[:keep]] + [partial[at] for at in order[keep:]])


def expected_maximum(values, count: int) -> float:
    """By enumeration of the values' distribution: P(max <= v) = P(x <= v) ** count."""
    points = np.unique(values)
    below = np.array([np.mean(values <= point) for point in points]) ** count
    return float(np.sum(points * np.diff(below, prepend=0)))


def test_settings_are_those_that_meet_the_budget_exactly():
    table = stopping.simulate(walks(20), draws=2)
    found = set(zip(table["budget"], table["start"], table["keep"], table["stop"], strict=True))
    t, p, k = np.meshgrid(np.arange(1, 201), np.arange(1, 31), np.arange(1, 30), indexing="ij")
    spent = t * k + p * (30 - k)
    want = {(b, b, b, 30) for b in range(1, 31)}
    for b in range(1, 31):
        fits = (spent == 30 * b) & (p < t)
        want |= {(b, *setting) for setting in zip(t[fits], p[fits], k[fits], strict=True)}
    assert found == want
    assert len(table) == len(want)
    assert (5, 12, 3, 9) not in found, "12/3/.30 costs 5.7"
    assert {(5, 9, 3, 10), (5, 11, 1, 12)} <= found
    np.testing.assert_allclose(table["start"] * table["fraction"] + table["keep"] * (1 - table["fraction"]),
                               table["budget"], rtol=1e-12)  # fmt: skip


def test_the_simulator_against_all_studies_there_are():
    table = stopping.simulate(TIED, range(1, 4), most=7, draws=40_000)
    for row in table.itertuples():
        studies = list(product(range(3), repeat=row.start))
        want = np.mean([played(TIED, drawn, row.keep, row.stop) for drawn in studies])
        assert row.score == pytest.approx(want, abs=5 * row.error + 1e-12), row
    assert len(table) == 8
    assert table["error"].max() < 0.002


def test_the_simulator_against_a_slow_one():
    """Trials drawn one by one and sorted, with 40 of them whose scores go up and down."""
    matrix, rng = np.round(np.random.default_rng(3).random((40, 10)), 2), np.random.default_rng(7)
    table = stopping.simulate(matrix, (3, 6), most=40, draws=20_000)
    early = table[table["stop"] < 10].iloc[::2]
    assert len(early) >= 10
    for row in early.itertuples():
        drawn = rng.integers(40, size=(20_000, row.start))
        partial, final = matrix[drawn, : row.stop].max(axis=2), matrix[drawn].max(axis=2)
        order = np.argsort(-partial, axis=1, kind="stable")
        kept = np.take_along_axis(final, order[:, : row.keep], axis=1).max(axis=1)
        rest = np.take_along_axis(partial, order[:, row.keep :], axis=1).max(axis=1)
        scores = np.maximum(kept, rest)
        error = math.hypot(scores.std() / math.sqrt(20_000), row.error)
        assert row.score == pytest.approx(scores.mean(), abs=4.5 * error), row


def test_the_last_that_is_kept_against_its_distribution():
    """The final order is the reverse of that at the stop: the last kept scores, the p-th smallest of t ranks."""
    n = 30
    matrix = np.full((n, 6), 0.0)
    matrix[:, 0] = np.linspace(0.1, 0, n)
    matrix[:, -1] = np.linspace(0.2, 1, n)
    table = stopping.simulate(matrix, range(2, 9), draws=40_000)
    for row in table[table["stop"] < 6].itertuples():
        reached = stats.binom.sf(row.keep - 1, row.start, np.arange(1, n + 1) / n)  # P(p-th smallest <= rank)
        want = np.sum(matrix[:, -1] * np.diff(reached, prepend=0))
        assert row.score == pytest.approx(want, abs=5 * row.error), row


@pytest.mark.parametrize("made", [stopping.simulate, stopping.halving])
def test_the_error_is_that_of_the_mean(made):
    """The spread over 80 seeds: its own relative error is 8 %; 3 of these for the median of settings."""
    tables = [made(walks(30, 8), (3,), draws=100, seed=seed) for seed in range(80)]
    spread = np.std([table["score"] for table in tables], axis=0, ddof=1)
    error = np.mean([table["error"] for table in tables], axis=0)
    assert np.median(spread[error > 0] / error[error > 0]) == pytest.approx(1, abs=0.24)


def test_training_all_to_the_end_is_the_baseline():
    table = stopping.simulate(walks(50), range(1, 31), draws=10)
    whole = table[table["stop"] == 30]
    want = [expected_maximum(walks(50).max(axis=1), b) for b in whole["budget"]]
    np.testing.assert_allclose(whole["score"], want, rtol=1e-12)
    assert (whole["gain"] == 0).all()
    assert (whole["error"] == 0).all()
    assert (table["gain"] == table["score"] - table["baseline"]).all()


def test_a_stop_that_tells_nothing_is_worth_the_trials_that_are_kept():
    """All are equal at the stop: the best of `keep` draws, whoever stands first."""
    matrix = np.full((6, 6), 0.5)
    matrix[:, -1] = [0.9, 0.8, 0.7, 0.6, 0.95, 0.55]
    table = stopping.simulate(matrix, range(1, 6), draws=20_000)
    for row in table.itertuples():
        want = expected_maximum(matrix[:, -1], row.keep)
        assert row.score == pytest.approx(want, abs=5 * row.error + 1e-12), row


def test_a_stop_that_tells_all_is_worth_all_trials():
    """The final order is there from the first evaluation on: the best of `start` draws, even if one is kept."""
    matrix = np.linspace(0, 1, 25)[:, None] * [0.5, 0.7, 1.0, 0.9]
    table = stopping.simulate(matrix, range(1, 9), draws=20_000)
    for row in table.itertuples():
        want = expected_maximum(matrix[:, 2], row.start)
        assert row.score == pytest.approx(want, abs=5 * row.error + 1e-12), row


def test_the_simulator_is_the_policy_over_many_studies():
    """Cohorts drawn with replacement, judged by the policy itself in a replay."""
    matrix, rng = walks(60, 10, seed=1), np.random.default_rng(5)
    drawn = matrix[rng.integers(60, size=400 * 9)]
    table = replay(policies.load("start_many(start=9, fraction=0.2, keep=4)"), drawn)
    scores = table["score"].to_numpy().reshape(400, 9).max(axis=1)
    assert table["cost"].sum() == pytest.approx(400 * 5)
    found = stopping.simulate(matrix, (5,), draws=20_000).set_index(["start", "keep", "stop"]).loc[(9, 4, 2)]
    assert found["score"] == pytest.approx(scores.mean(), abs=4.5 * math.hypot(scores.std() / 20, found["error"]))


def test_halving_is_the_policy_trial_by_trial():
    matrix, rng = walks(30, 16, seed=2), np.random.default_rng(11)
    ranks = np.stack([stats.rankdata(-best, method="dense") - 1 for best in np.maximum.accumulate(matrix, 1).T], axis=1)
    for factor, first, start in ((2, 2, 13), (3, 1, 20), (2, 1, 2), (4, 3, 9)):
        policy = policies.load(f"successive_halving(factor={factor}, first={first / 16})")
        rungs = policy.rungs(16)
        counts = [math.ceil(start / factor)]
        while len(counts) < len(rungs):
            counts.append(math.ceil(counts[-1] / factor))
        drawn = rng.integers(30, size=(20, start))
        alive = stopping.survivors(ranks.astype(int), drawn, rungs, counts)
        for study, found in zip(drawn, alive, strict=True):
            table = replay(policy, matrix[study])
            assert sorted(study[table["evaluations"] == 16]) == sorted(found)


def test_halving_spends_what_the_budget_allows():
    matrix = walks(40, 16, seed=4)
    table = stopping.halving(matrix, range(1, 7), most=60, draws=50)
    assert (table["cost"] <= table["budget"]).all()
    for row in table.iloc[::5].itertuples():
        policy = policies.load(f"successive_halving(first={row.first / 16})")
        run = replay(policy, np.resize(matrix, (row.start, 16)))
        assert run["cost"].sum() == pytest.approx(row.cost)
        assert (run["evaluations"] == 16).sum() == row.keep
        more = replay(policy, np.resize(matrix, (row.start + 1, 16)))["cost"].sum()
        assert row.start == 60 or more > row.budget


def test_halving_against_all_studies_there_are():
    """Of four evaluations two rungs are at 1 and 2, after which one in two goes on."""
    table = stopping.halving(TIED, range(1, 4), most=6, draws=40_000)
    assert (table["first"] == 1).all()
    for row in table.itertuples():
        scores = []
        for drawn in product(range(3), repeat=row.start):
            alive = list(range(row.start))
            for rung in (1, 2):
                alive.sort(key=lambda at: (-max(TIED[drawn[at], :rung]), at))
                alive = alive[: math.ceil(len(alive) / 2)]
            assert len(alive) == row.keep
            scores.append(max(max(TIED[drawn[at]]) for at in alive))
        assert row.score == pytest.approx(np.mean(scores), abs=5 * row.error)


@pytest.mark.parametrize("made", [stopping.simulate, stopping.halving])
def test_the_seed_fixes_and_changes_the_draws(made):
    first, again, other = (made(walks(20, 8), (3,), draws=100, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    moved = first["score"] != other["score"]
    assert moved[first["cost"] < 3 if "cost" in first else first["stop"] < 8].mean() > 0.9


def test_draws_come_in_chunks_and_all_count():
    few, many = (stopping.simulate(walks(20, 8), (4,), draws=draws) for draws in (1_000, 9_000))
    early = few["stop"] < 8
    ratio = (few["error"] / many["error"])[early]
    assert ratio.median() == pytest.approx(3, rel=0.1)  # 1 / sqrt(draws)
    assert (np.abs(few["score"] - many["score"]) < 5 * few["error"])[early].all()


def test_optimum_and_error_reduction():
    table = stopping.simulate(walks(100), (1, 5, 10), draws=500)
    best = stopping.optimum(table).set_index("budget")
    assert best.index.tolist() == [1, 5, 10]
    assert best.loc[5, "score"] == table.loc[table["budget"] == 5, "score"].max()
    assert best.loc[5, "error_reduction"] == best.loc[5, "gain"] / (1 - best.loc[5, "baseline"])
    assert best.loc[1, "start"] == 1, "with one training there is nothing to stop"
    assert best.loc[1, "gain"] == 0
    full = table.assign(baseline=1.0)
    assert stopping.optimum(full)["error_reduction"].isna().all()


def test_correlations_are_scipys():
    matrix = walks(80, 12)
    matrix[:, 0] = 0.5  # all begin equal
    matrix[3, 7:], matrix[4, 4] = np.nan, np.nan  # one was dropped, one evaluation gave no score
    table = stopping.correlation(matrix)
    best = np.fmax.accumulate(matrix, axis=1)
    assert table["evaluation"].tolist() == list(range(1, 13))
    assert table.loc[0, ["pearson", "spearman", "current_pearson", "current_spearman"]].isna().all()
    for i in range(1, 12):
        row, there = table.loc[i], ~np.isnan(matrix[:, i])
        assert row["pearson"] == pytest.approx(stats.pearsonr(best[:, i], best[:, -1])[0], abs=1e-12)
        assert row["spearman"] == pytest.approx(stats.spearmanr(best[:, i], best[:, -1])[0], abs=1e-12)
        assert row["trials"] == there.sum()
        current = stats.pearsonr(matrix[there, i], best[there, -1])[0]
        assert row["current_pearson"] == pytest.approx(current, abs=1e-12)
    assert table.loc[11, "pearson"] == pytest.approx(1, abs=1e-12)


def test_dropped_trials_keep_their_best_score():
    matrix = walks(10, 6)
    matrix[2, 3:] = np.nan
    held = matrix.copy()
    held[2, 3:] = matrix[2, 2]
    pd.testing.assert_frame_equal(stopping.simulate(matrix, (3,), draws=50), stopping.simulate(held, (3,), draws=50))


def test_curves_of_scores():
    matrix = walks(6, 5)
    matrix[1, 3:], matrix[4, :] = np.nan, np.nan
    status = ["completed", "stopped", "completed", "completed", "diverged", "completed"]
    found = curves.of(as_scores(matrix, status, ["", "one_class", "", "", "non_finite_loss", ""]))
    np.testing.assert_array_equal(found.scores, matrix)
    assert found.trials == [f"t{i}" for i in range(6)]
    assert found.steps.tolist() == [10, 20, 30, 40, 50]
    assert found.lengths.tolist() == [5, 3, 5, 5, 0, 5]
    assert found.dropped.tolist() == [False, True, False, False, True, False]
    table = replay(policies.load("start_many(fraction=0.5, keep=1)"), found, 2)
    assert table["evaluations"].tolist()[4] == 0
    assert np.isnan(table["score"][4])
    assert not table["stopped"][4]
    pd.testing.assert_frame_equal(table, replay(policies.load("start_many(fraction=0.5, keep=1)"), found))


def test_a_trial_dropped_in_the_first_step_after_a_rung_is_judged_there():
    """The best at the rung is dropped after two evaluations of four: at the second, or in a step before the third."""
    matrix = np.array([[0.9, 0.9, np.nan, np.nan], [0.7, 0.7, 0.7, 0.7], [0.5, 0.5, 0.5, 0.8]])
    policy, status = policies.load("start_many(fraction=0.5)"), ["diverged", "completed", "completed"]
    for reason, want in (("non_finite_logits", [2, 4, 2]), ("non_finite_loss", [2, 2, 2])):
        scores = as_scores(matrix, status, [reason, "", ""])
        for slots in (1, 2, None):
            table = replay(policy, scores, slots)
            assert table["evaluations"].tolist() == want
            assert table["stopped"].tolist() == [False, want[1] < 4, True]
    # In a later step: it was evaluated there once more, at a step that is not the others'.
    matrix[0, 2] = 0.9
    scores = as_scores(matrix, status, ["non_finite_loss", "", ""])
    scores.evals.loc[scores.evals.index[2], "step"] = 27
    assert replay(policy, scores)["evaluations"].tolist() == [3, 2, 2]
    assert not curves.of(scores).late.any()
    twice = pd.concat([scores.evals.iloc[[2]], scores.evals])  # as older versions wrote them
    assert curves.of(scores._replace(evals=twice.sort_values(["trial", "step"]))).lengths.tolist() == [3, 4, 4]


@pytest.mark.parametrize(("source", "message"), [
    (walks(1), "curves: expected at least two trials with two evaluations, found 1 with 30"),
    (walks(9, 1), "curves: expected at least two trials with two evaluations, found 9 with 1"),
    (np.full((4, 5), 0.75), "curves: all 4 trials have the same best score, 0.75"),
    (np.where(np.arange(4)[:, None] == 2, np.nan, walks(4, 5)), "curves: 1 of 4 trials have no score at any"),
    (np.where(np.arange(4)[:, None] == 2, np.inf, walks(4, 5)), "curves: expected finite scores"),
    (np.zeros(5), "curves: expected a matrix of numbers, rows trials and columns evaluations; found float64 of"),
    (np.zeros((0, 5)), "curves: expected a matrix of numbers"),
    (np.array([["a"]]), "curves: expected a matrix of numbers"),
    (as_scores(np.full((3, 4), np.nan)), "study: no training curves, which this needs"),
    (as_scores(walks(4, 5), "stopped", "start_many"), "study: 4 of 4 trials were stopped by a policy"),
    (as_scores(walks(4, 5), "diverged", "loss_above"), "study: no trial was completed"),
    (as_scores(np.where(np.arange(5) + np.arange(4)[:, None] > 6, np.nan, walks(4, 5))),
     "study: trial t0 has 5 evaluations to step 50, trial t3 4 evaluations to step 40; expected the same of all"),
])  # fmt: skip
def test_bad_curves(source, message):
    for made in (stopping.simulate, stopping.halving, stopping.correlation):
        with pytest.raises(BadInput) as raised:
            made(source)
        assert str(raised.value).startswith(message)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("args", "message"), [
    ({"budgets": ()}, "budgets: expected whole trainings, integers from 1 on, found none"),
    ({"budgets": (0, 1)}, "budgets: expected whole trainings, integers from 1 on, found [0, 1]"),
    ({"budgets": (1.5,)}, "budgets: expected whole trainings, integers from 1 on, found [1.5]"),
    ({"budgets": (5,), "most": 4}, "budgets: expected at most 4"),
    ({"draws": 1}, "draws: expected at least 2, found 1"),
])  # fmt: skip
def test_bad_arguments(args, message):
    for made in (stopping.simulate, stopping.halving):
        with pytest.raises(BadInput) as raised:
            made(walks(5, 6), **args)
        assert str(raised.value).startswith(message)


def test_bad_arguments_of_halving():
    with pytest.raises(BadInput, match="factor: expected at least 2, found 1"):
        stopping.halving(walks(5, 6), factor=1)
    with pytest.raises(BadInput, match="3 evaluations are too few for two rungs with factor 4"):
        stopping.halving(walks(5, 3), factor=4)


def test_2100_trials_take_seconds():
    """About 3 s of processor time; the limit leaves room for a slow machine."""
    began = time.process_time()
    stopping.simulate(walks(2100))
    stopping.halving(walks(2100))
    assert time.process_time() - began < 20
