"""Where variance comes from: the paper's numbers, agreement with statsmodels and scipy, coverage and test size."""

import time

import designs
import numpy as np
import pytest
from designs import effects, scores, thinned
from scipy import stats

from jaxft.errors import BadInput
from jaxft.stats import variance
from jaxft.stats.scores import read
from jaxft.stats.variance import anova, best_against_worst, components, permutation

PAPER = {
    "mrpc": {
        "init_seed": {"f": 2.713, "p": 2.50e-5, "share": 0.064, "range": 0.002, "best": (29.25, 2.0e-6)},
        "order_seed": {"f": 1.174, "p": 0.259, "share": 0.006, "range": 0.57, "best": (7.60, 8.2e-3)},
    },
    "rte": {
        "init_seed": {"f": 2.043, "p": 2.57e-3, "share": 0.039, "range": 0.018, "best": (15.34, 2.83e-4), "own": 0.07},
        "order_seed": {"f": 1.428, "p": 0.0861, "share": 0.016, "range": 0.28, "best": (9.64, 3.19e-3), "own": 0.35},
    },
}


def digits(found: float, printed: float) -> None:
    """They agree in all digits that were printed: within half a unit of the last."""
    mantissa, _, power = f"{printed:g}".partition("e")
    places = len(mantissa.partition(".")[2])
    assert abs(found - printed) <= 0.5000001 * 10.0 ** (int(power or 0) - places), (found, printed)


def monte_carlo(found: float, printed: float, draws: int, unit: float) -> None:
    """Both are Monte-Carlo: within three standard errors of their difference, and half the printed unit."""
    assert abs(found - printed) <= 3 * np.sqrt(2 * printed * (1 - printed) / draws) + unit / 2, (found, printed)


@pytest.fixture(scope="module", params=["mrpc", "rte"])
def paper(request, dodge2020):
    (study,) = read(dodge2020 / f"digitized_best_val_{request.param}.csv")
    return study, PAPER[request.param]


def test_the_papers_anova_and_shares(paper):
    study, printed = paper
    table, shares = anova(study).set_index("factor"), components(study).set_index("factor")
    assert list(table.index) == list(shares.index) == ["init_seed", "order_seed", "Residual"]
    for factor, want in printed.items():
        digits(table.loc[factor, "f"], want["f"])
        digits(table.loc[factor, "p"], want["p"])
        digits(shares.loc[factor, "share"], want["share"])
    assert table["df"].tolist() == [24, 24, 576]
    assert shares["share"].sum() == pytest.approx(1, abs=1e-12)


def test_the_papers_tests_of_best_against_worst_and_of_the_range(paper):
    study, printed = paper
    for factor, want in printed.items():
        found = best_against_worst(study, factor)
        digits(found.f, want["best"][0])
        digits(found.p, want["best"][1])
        assert {found.best, found.worst} == {1, 25}
        monte_carlo(permutation(study, factor).p, want["range"], 10_000, 0.001 if want["range"] < 0.1 else 0.01)
        if "own" in want:
            monte_carlo(found.corrected_p, want["own"], 10_000, 0.01)
        assert found.corrected_p > 10 * found.p


def test_best_against_worst_is_inflated(dodge2020):
    """On shuffled scores p is below .05 in 95 % of cases; corrected, in 5 %, each within three standard errors."""
    (study,) = read(dodge2020 / "digitized_best_val_rte.csv")
    rng, times = np.random.default_rng(5), 100
    small, corrected = 0, 0
    for at in range(times):
        shuffled = study._replace(trials=study.trials.assign(score=rng.permutation(study.trials["score"].to_numpy())))
        found = best_against_worst(shuffled, "init_seed", draws=99, seed=at)
        small, corrected = small + (found.p < 0.05), corrected + (found.corrected_p <= 0.05)
    assert abs(small / times - 0.95) <= 3 * np.sqrt(0.95 * 0.05 / times)
    assert abs(corrected / times - 0.05) <= 3 * np.sqrt(0.95 * 0.05 / times)


def by_statsmodels(study, formula):
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    return anova_lm(ols(formula, study.trials).fit(), typ=2)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_anova_is_statsmodels_on_grids_with_gaps(seed):
    """To 1e-8, relative; far from 0 too, where sums of squares lose digits."""
    rng = np.random.default_rng(seed)
    study = scores(50 + effects(rng, (4, 5, 3), (1, 0.5, 0)))
    study = thinned(study, rng.uniform(size=60) < 0.9)
    for interactions in (False, True):
        formula = "score ~ " + " + ".join(f"C({f})" for f in study.factors)
        if interactions:
            formula = formula.replace("score ~ ", "score ~ (") + ") ** 2"
        want, found = by_statsmodels(study, formula), anova(study, interactions=interactions)
        np.testing.assert_allclose(found[["sum_sq", "df", "f", "p"]], want[["sum_sq", "df", "F", "PR(>F)"]], rtol=1e-8)
        assert not found.attrs["balanced"]
        assert set(found["type"]) == {"II"}
    assert found["factor"].tolist() == [
        *study.factors, "init_seed:order_seed", "init_seed:dropout_seed", "order_seed:dropout_seed", "Residual"
    ]  # fmt: skip


def test_anova_of_one_factor_is_scipys():
    study = scores(effects(np.random.default_rng(1)))
    f, p = stats.f_oneway(*study.trials["score"].to_numpy().reshape(6, 8))
    np.testing.assert_allclose(anova(study, ["init_seed"]).loc[0, ["f", "p"]].astype(float), [f, p], rtol=1e-8)


def test_components_are_expected_mean_squares_and_henderson_equals_them():
    """(MS - MS residual) / trials per seed, from statsmodels' mean squares; 1e-8 relative."""
    study = scores(3 + effects(np.random.default_rng(0), (7, 9), (1, 1)))
    table = by_statsmodels(study, "score ~ C(init_seed) + C(order_seed)")
    means = (table["sum_sq"] / table["df"]).to_numpy()
    want = [(means[0] - means[2]) / 9, (means[1] - means[2]) / 7, means[2]]
    found = components(study)
    np.testing.assert_allclose(found["variance"], want, rtol=1e-8)
    # The residual's interval is that of chi-squared: 10,000 draws give its quantiles within 2 %.
    want = means[2] * 48 / stats.chi2(48).ppf([0.975, 0.025])
    np.testing.assert_allclose(found.loc[2, ["low", "high"]].astype(float), want, rtol=0.02)


def test_components_of_grids_with_gaps_are_unbiased(monkeypatch):
    """Means over 200 studies within three standard errors of the truth, 4, 2.25 and 1; 0 is too far to cut any off."""
    monkeypatch.setattr(variance, "_DRAWS", 10)  # estimates have none
    rng = np.random.default_rng(3)
    keep = rng.uniform(size=12 * 12) < 0.7
    found = np.array([
        components(thinned(scores(effects(rng, (12, 12), (2, 1.5))), keep))["variance"] for _ in range(200)
    ])  # fmt: skip
    error = found.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - [4, 2.25, 1]) < 3 * error).all()
    assert (error < 0.2).all()


def coverage(monkeypatch, times, keep=None, levels=(8, 10), confidence=0.9):
    """How often the intervals of variances and shares hold the truth."""
    monkeypatch.setattr(variance, "_DRAWS", 1000)  # the quantiles' own error is small beside that of `times`
    rng, truth = np.random.default_rng(7), np.array([0.5, 0.2, 1.0])
    hits = np.zeros((2, 3))
    for at in range(times):
        study = scores(effects(rng, levels, np.sqrt(truth[:2])))
        table = components(thinned(study, keep) if keep is not None else study, confidence=confidence, seed=at)
        hits[0] += (table["low"] <= truth) & (truth <= table["high"])
        share = truth / truth.sum()
        hits[1] += (table["share_low"] <= share) & (share <= table["share_high"])
    return hits / times


def test_intervals_cover(monkeypatch):
    """Nominal 90 %, within three standard errors of 200 studies (6.4 %); they may cover a little more."""
    found = coverage(monkeypatch, 200)
    assert (found >= 0.9 - 0.064).all(), found
    assert (found <= 0.9 + 0.07).all(), found


@pytest.mark.slow
def test_intervals_cover_where_there_are_gaps(monkeypatch):
    keep = np.random.default_rng(0).uniform(size=80) < 0.75
    found = coverage(monkeypatch, 300, keep)
    assert (found >= 0.9 - 0.052).all(), found
    assert (found <= 0.9 + 0.07).all(), found


def test_test_sizes_and_power():
    """Under the hypothesis p <= .05 in 5 % of 300 studies, within three standard errors (3.8 %); effects are found."""
    rng = np.random.default_rng(11)
    null, inside, f, strong = [], [], [], []
    for at in range(300):
        study = scores(effects(rng, (6, 8), (0, 1)))
        inside.append(permutation(study, "init_seed", draws=99, seed=at, within=True).p)
        f.append(anova(study)["p"][0] if at < 60 else np.nan)
        null.append(permutation(scores(effects(rng, (6, 8), (0, 0))), "init_seed", draws=99, seed=at).p)
        if at < 50:
            strong.append(permutation(scores(effects(rng, (6, 8), (2, 0))), "init_seed", draws=99, seed=at).p)
    for found in (null, inside):
        assert abs(np.mean(np.array(found) <= 0.05) - 0.05) <= 0.038
    assert np.mean(np.array(f[:60]) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)
    assert np.mean(np.array(strong) <= 0.05) > 0.9


def test_permutation_is_scipys():
    """scipy's own permutation test with the same statistic: two Monte-Carlo p's, within three standard errors."""
    study = scores(effects(np.random.default_rng(2), (3, 10), (0.3, 0)))
    rows = study.trials["score"].to_numpy().reshape(3, 10)

    def reach(*groups, axis):
        return np.ptp([group.mean(axis=axis) for group in groups], axis=0)

    want = stats.permutation_test(
        rows, reach, vectorized=True, n_resamples=5000, permutation_type="independent", alternative="greater",
        rng=np.random.default_rng(0),
    )  # fmt: skip
    found = permutation(study, "init_seed", draws=5000)
    assert found.statistic == pytest.approx(want.statistic, rel=1e-10)
    assert abs(found.p - want.pvalue) <= 3 * np.sqrt(2 * want.pvalue * (1 - want.pvalue) / 5000)
    assert found.draws == 5000


def test_within_deals_among_trials_that_share_the_other_seeds():
    """Two inits, an order effect that swamps all: only within orders is init seen. Of 16 patterns p is 2 / 16."""
    y = np.array([[0.0, 10, 20, 30], [1, 11, 21, 31]])
    assert permutation(scores(y), "init_seed", 4000).p > 0.7
    found = permutation(scores(y), "init_seed", 4000, within=True)
    assert abs(found.p - 2 / 16) <= 3 * np.sqrt(0.125 * 0.875 / 4000)


def test_best_against_worst_is_scipys_and_handles_seeds_of_equal_scores():
    rng = np.random.default_rng(4)
    y = rng.normal(size=(5, 6))
    found = best_against_worst(scores(y), "init_seed", draws=200)
    best, worst = y.mean(axis=1).argmax(), y.mean(axis=1).argmin()
    np.testing.assert_allclose([found.f, found.p], stats.f_oneway(y[best], y[worst]), rtol=1e-10)
    assert (found.best, found.worst) == (best + 1, worst + 1)
    hits, shuffles = 0, 1000  # by hand: choose and test again, of scores dealt out anew
    for _ in range(shuffles):
        dealt = sorted(rng.permuted(y.ravel()).reshape(y.shape), key=np.mean)
        hits += stats.f_oneway(dealt[-1], dealt[0])[0] >= found.f
    p = best_against_worst(scores(y), "init_seed", draws=4000).corrected_p
    assert abs(p - hits / shuffles) <= 3 * np.sqrt(p * (1 - p) * (1 / shuffles + 1 / 4000))
    assert 0.2 < p < 0.99  # or it would say little
    y[2] = -5  # collapsed, all the same
    found = best_against_worst(scores(y), "init_seed", draws=200)
    assert found.worst == 3
    assert found.corrected_p < 0.05
    few = scores([0.1, 0.1, 0.2, 0.1, 0.1, 0.2], init_seed=[1, 1, 2, 2, 3, 3], order_seed=[1, 2] * 3)
    assert best_against_worst(few, "init_seed", draws=200).f >= 0


@pytest.mark.parametrize(
    "run",
    [
        lambda study, seed: (
            components(study, seed=seed)[["low", "high", "share_low", "share_high"]].to_numpy().tolist()
        ),
        lambda study, seed: permutation(study, "init_seed", 500, seed),
        lambda study, seed: permutation(study, "init_seed", 500, seed, within=True),
        lambda study, seed: best_against_worst(study, "init_seed", 500, seed),
    ],
)
def test_a_seed_fixes_and_changes(run):
    study = scores(effects(np.random.default_rng(9), (6, 7), (0.2, 0.2)))
    assert run(study, 1) == run(study, 1)
    assert run(study, 1) != run(study, 2)


def test_a_grid_of_the_papers_size_is_fast():
    """A second each on two idle cores; four times that here, since others compute beside the tests."""
    study = scores(effects(np.random.default_rng(0), (25, 25), (0.1, 0.1)))
    begin = time.process_time()
    permutation(study, "init_seed")
    best_against_worst(study, "init_seed")
    assert time.process_time() - begin < 8


FLAT = scores(np.full((3, 4), 0.527))
HOLE = scores([[0.1, 0.2, 0.4], [0.5, np.nan, 0.3]])


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (lambda: anova(FLAT), "made: all 12 scores are 0.527, so there is no variance to explain"),
        (lambda: components(FLAT), "all 12 scores are 0.527"),
        (lambda: permutation(FLAT, "init_seed"), "all 12 scores are 0.527"),
        (lambda: best_against_worst(FLAT, "order_seed"), "all 12 scores are 0.527"),
        (lambda: anova(HOLE), "made: 1 of 6 trials have no finite score"),
        (lambda: anova(scores([[0.1, 0.2, 0.3]]), ["init_seed"]), "init_seed is 1 in all 3 trials, expected at least"),
        (lambda: permutation(scores([[0.1, 0.2, 0.3]]), "init_seed"), "init_seed is 1 in all 3 trials"),
        (lambda: anova(scores([[0.1]])), "no seed varies"),
        (lambda: anova(scores([[0.1, 0.4], [0.3, 0.3]]), interactions=True), "nothing is left for the residual"),
        (lambda: anova(scores([[0.1, 0.4, 0.2]])), "nothing is left for the residual"),
        (lambda: anova(scores([1, 2, 3], init_seed=[1, 2, 3], order_seed=[1, 2, 3])), "cannot be told apart"),
        (lambda: components(scores([1, 2, 3.5, 3, 4], init_seed=[1, 1, 2, 2, 2], order_seed=[1, 2, 3, 4, 4])),
         "4 of 8 combinations of seeds have no trial (the first: init_seed 1, order_seed 3)"),
        (lambda: anova(scores(np.add.outer([0.0, 1, 3], [0.0, 5, 2]))), "explain the scores without rest"),
        (lambda: permutation(scores(np.eye(3)), "drop_seed"), "no factor 'drop_seed'; those that vary: init_seed"),
        (lambda: permutation(scores(np.eye(3)), "score"), "no factor 'score'"),
        (lambda: permutation(scores(np.eye(3)), "init_seed", draws=0), "draws: expected a whole number from 1"),
        (lambda: components(scores(np.eye(3)), confidence=95), "confidence: expected a number between 0 and 1"),
        (lambda: anova(scores(np.eye(3)), ["init_seed", "init_seed"]), "a factor is there twice"),
        (lambda: best_against_worst(scores([[0.1], [0.3]]), "init_seed"), "init_seed 1 has one trial only"),
        (lambda: best_against_worst(scores([[0.1, 0.1], [0.3, 0.3]]), "init_seed"), "no variance to test against"),
        (lambda: best_against_worst(scores([[0.1, 0.2], [0.2, 0.1]]), "init_seed"), "so none is best"),
    ],
)  # fmt: skip
def test_refusals(run, said):
    with pytest.raises(BadInput) as error:
        run()
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_one_missing_trial_is_handled_and_said():
    y = effects(np.random.default_rng(0), (4, 4))
    table = anova(thinned(designs.scores(y), np.arange(16) != 5))
    assert not table.attrs["balanced"]
    assert table["df"].tolist() == [3, 3, 8]
