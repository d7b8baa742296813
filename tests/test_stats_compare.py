"""Two studies compared: agreement with scipy and statsmodels, sizes and coverage by simulation, every refusal."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from handmade import NAN, scores
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower, TTestPower
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from jaxft.errors import BadInput
from jaxft.stats import compare as comparing
from jaxft.stats import measures, pairs, power
from jaxft.stats.compare import compare, holm, table

EXACT = {"rtol": 1e-8, "atol": 1e-12}
"""The same formula in another order of additions."""


def draw(seed: int = 0, n: int = 12, m: int = 15) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0.85, 0.02, n), rng.normal(0.83, 0.04, m)


def rows(a, b, **how) -> pd.DataFrame:
    return compare(a, b, **{"draws": 50, **how}).set_index("measure")


def three_errors(rate: float, repeats: int) -> float:
    return 3 * math.sqrt(rate * (1 - rate) / repeats)


@pytest.mark.parametrize("seed", range(5))
def test_unpaired_measures_are_those_of_scipy_and_statsmodels(seed):
    x, y = draw(seed)
    found = rows(scores(x), scores(y), confidence=0.9)
    assert not found["paired"].any()
    welch = stats.ttest_ind(x, y, equal_var=False)
    interval = welch.confidence_interval(0.9)
    mean = found.loc["mean"]
    got = [mean[name] for name in ("estimate", "low", "high", "statistic", "df", "p")]
    want = [x.mean() - y.mean(), interval.low, interval.high, welch.statistic, welch.df, welch.pvalue]
    np.testing.assert_allclose(got, want, **EXACT)
    tests = {
        "shift": stats.mannwhitneyu(x, y),
        "spread": stats.levene(x, y, center="median"),
    }
    for name, test in tests.items():
        np.testing.assert_allclose(found.loc[name, ["statistic", "p"]].astype(float), [*test], **EXACT)
    pooled = CompareMeans(DescrStatsW(x), DescrStatsW(y)).std_meandiff_pooledvar / math.sqrt(1 / len(x) + 1 / len(y))
    d = (x.mean() - y.mean()) / pooled
    g = d * (1 - 3 / (4 * (len(x) + len(y) - 2) - 1))
    np.testing.assert_allclose(found.loc["cohen_d", "estimate"], d, **EXACT)
    # statsmodels takes the gamma functions where the textbooks have 1 - 3 / (4 df - 1): 1e-4 apart here
    assert found.loc["hedges_g", "estimate"] == pytest.approx(g, rel=1e-3)
    wins = np.mean([[(p > q) + (p == q) / 2 for q in y] for p in x])
    np.testing.assert_allclose(found.loc["superiority", "estimate"], wins, **EXACT)
    np.testing.assert_allclose(
        found.loc["superiority", "estimate"], tests["shift"].statistic / len(x) / len(y), **EXACT
    )


@pytest.mark.parametrize("seed", range(5))
def test_paired_measures_are_those_of_scipy_and_statsmodels(seed):
    x, y = draw(seed, 12, 12)
    shuffled = scores(y).trials.sample(frac=1, random_state=seed)
    found = rows(scores(x), scores(y)._replace(trials=shuffled))
    assert found["paired"].all(), "the same seeds, in whatever order"
    assert set(found["n_a"]) == {12}
    paired = stats.ttest_rel(x, y)
    interval = paired.confidence_interval()
    mean = found.loc["mean"]
    got = [mean[name] for name in ("estimate", "low", "high", "statistic", "df", "p")]
    want = [(x - y).mean(), interval.low, interval.high, paired.statistic, paired.df, paired.pvalue]
    np.testing.assert_allclose(got, want, **EXACT)
    deviations = stats.ttest_rel(abs(x - np.median(x)), abs(y - np.median(y)))
    for name, test in {"shift": stats.wilcoxon(x, y), "spread": deviations}.items():
        np.testing.assert_allclose(found.loc[name, ["statistic", "p"]].astype(float), [*test][:2], **EXACT)
    assert found.loc["superiority", "estimate"] == np.mean(x > y)
    assert found.loc["superiority", "p"] == stats.binomtest(int(np.sum(x > y)), 12).pvalue


def test_the_interval_of_ranks_inverts_its_test():
    """Moving one side to an end of the interval takes the p value through alpha."""
    x, y = draw(3, 25, 30)
    for a, b in ((scores(x), scores(y)), (scores(x), scores(y[:25]))):
        low, high = rows(a, b).loc["shift", ["low", "high"]]
        for end, inside in ((low, 1), (high, -1)):
            values = {}
            for step in (-1, 1):  # a step is as large as the steps between differences, about
                moved = a._replace(trials=a.trials.assign(score=a.trials["score"] - end - step * inside * 2e-3))
                values[step] = rows(moved, b).loc["shift", "p"]
            assert values[-1] < 0.05 < values[1]


def test_failures_are_compared():
    x = np.array([0.6, 0.6, 0.9, 0.9, 0.91, 0.92])
    y = np.array([0.9, 0.91, 0.9, 0.6, 0.92, 0.93, 0.94])
    known = {"majority_score": 0.6}
    a, b = scores(x, **known), scores(y, "b", **known)
    found = rows(a, b).loc["failures"]
    assert found["estimate"] == pytest.approx(2 / 6 - 1 / 7)
    assert found["p"] == pytest.approx(stats.fisher_exact([[2, 4], [1, 6]])[1])
    found = rows(a, scores(y[:6], "b", **known)).loc["failures"]
    assert found["p"] == pytest.approx(stats.binomtest(2, 3).pvalue), "seeds 1, 2 fail in a alone, seed 4 in b alone"
    assert found["low"] < found["estimate"] < found["high"]
    assert rows(a, b, failed_below=0.9).loc["failures", "estimate"] == pytest.approx(4 / 6 - 3 / 7)
    assert np.isnan(rows(scores(x), scores(y)).loc["failures", "p"]), "nothing says what a failure is"
    mrpc = [study._replace(task="mrpc", metric="accuracy_f1") for study in (scores(x), scores(y))]
    assert rows(*mrpc).loc["failures", "estimate"] == pytest.approx(2 / 6 - 1 / 7), "those at .6 are below MRPC's .748"


def test_what_a_failure_is():
    made = scores([0.6, 0.61, NAN, 0.9], majority_score=0.6, status=["completed"] * 3 + ["diverged"])
    assert comparing.failed(made).tolist() == [True, False, True, True]
    assert comparing.failed(made, 0.7).tolist() == [True, True, True, True]
    with pytest.raises(BadInput, match="a: no majority score is known for its task; give failed_below"):
        comparing.failed(scores([0.1, 0.2]))


def test_the_expected_best_is_the_mean_over_all_draws():
    values = np.array([0.1, 0.4, 0.4, 0.9])
    every = np.array(np.meshgrid(values, values, values)).reshape(3, -1).max(axis=0)
    assert measures.expected_best(values[None], 3)[0] == pytest.approx(every.mean(), abs=1e-14)
    x, y = draw()
    found = rows(scores(x), scores(y), best_of=3)
    assert found.loc["best_of_3", "estimate"] == pytest.approx(
        measures.expected_best(x[None], 3)[0] - measures.expected_best(y[None], 3)[0]
    )


def test_the_crossed_error_is_that_of_the_expected_mean_squares():
    grid = np.random.default_rng(4).normal(size=(4, 5)) + np.arange(4)[:, None] + np.arange(5)
    variance, df = measures._grid_error(grid)
    ms_row, ms_column = 5 * grid.mean(axis=1).var(ddof=1), 4 * grid.mean(axis=0).var(ddof=1)
    total = grid.var() * 20
    ms_rest = (total - 3 * ms_row - 4 * ms_column) / 12
    assert variance == pytest.approx((ms_row + ms_column - ms_rest) / 20)
    want = (ms_row + ms_column - ms_rest) ** 2 / (ms_row**2 / 3 + ms_column**2 / 4 + ms_rest**2 / 12)
    assert df == pytest.approx(want)
    grid -= grid.mean(axis=0)  # columns that differ less than chance allows: their variance counts as 0
    ms_row = 5 * grid.mean(axis=1).var(ddof=1)
    assert measures._grid_error(grid) == pytest.approx((ms_row / 20, 3))


def test_seeds_that_cross_are_not_independent():
    """With a strong factor the t tests reject far too often where nothing differs; the crossed one does not."""
    rng, repeats = np.random.default_rng(1), 800
    wrong = {"mean": 0, "mean_crossed": 0}
    for _ in range(repeats):
        a, b = (rng.normal(size=(6, 1)) + 0.5 * rng.normal(size=(1, 6)) + rng.normal(size=(6, 6)) for _ in range(2))
        wrong["mean"] += measures.mean(a.ravel(), b.ravel(), False, 0.05).p < 0.05
        wrong["mean_crossed"] += measures.crossed_mean(a, b, False, 0.05).p < 0.05
    assert wrong["mean"] / repeats > 0.2
    assert wrong["mean_crossed"] / repeats < 0.05 + three_errors(0.05, repeats)
    assert wrong["mean_crossed"] / repeats > 0.02, "Satterthwaite errs to the safe side, by little"


def test_crossed_seeds_have_a_row_of_their_own():
    rng = np.random.default_rng(0)
    a, b = scores(rng.normal(size=(4, 5))), scores(rng.normal(size=(4, 5)), "b")
    assert "mean_crossed" not in rows(scores(rng.normal(size=9)), scores(rng.normal(size=9))).index
    for paired in (True, False):
        found = rows(a, b, paired=paired)
        assert found.loc["mean_crossed", "estimate"] == pytest.approx(found.loc["mean", "estimate"])
        assert 0 < found.loc["mean_crossed", "p"] < 1
    turned = b._replace(factors=b.factors[::-1])
    pd.testing.assert_frame_equal(rows(a, turned), rows(a, b))
    short = b._replace(trials=b.trials[:-1])
    found = rows(a, short).loc["mean_crossed"]
    assert "incomplete grid" in found["test"]
    assert np.isnan(found["p"])


@pytest.mark.parametrize("repeats", [500, pytest.param(5000, marks=pytest.mark.slow)])
def test_sizes_and_coverage(repeats):
    """Where nothing differs, tests reject in 5 % of cases (on counts in fewer), and 95 % intervals hold the truth."""
    rng, n, m = np.random.default_rng(0), 12, 18
    rejected, covered = {}, {}

    def add(row: measures.Row, truth: float, where: str) -> None:
        name = f"{row.measure} {where}"
        rejected.setdefault(name, []).append(row.p < 0.05)
        covered.setdefault(name, []).append(row.low <= truth <= row.high)

    for _ in range(repeats):
        x, y = rng.normal(size=n), rng.normal(size=m)
        seed = rng.normal(size=(m, 1))
        p, q = (seed + rng.normal(size=(m, 2))).T
        for one, two, paired, where in ((x, y, False, "unpaired"), (p, q, True, "paired")):
            for measure in (measures.mean, measures.shift):
                add(measure(one, two, paired, 0.05), 0, where)
            add(measures.superiority(one, two, paired, 0.05), 0.5, where)
            add(measures.effects(one, two, paired, 0.05)[1], 0, where)
            add(measures.spread(one, two, paired, 200, 0.05, rng), 0, where)
            add(measures.failures(one < 0, two < 0, paired, 0.05), 0, where)
    error = three_errors(0.05, repeats)  # .029, or .009
    size = {name: np.mean(values) for name, values in rejected.items()}
    cover = {name: np.mean(values) for name, values in covered.items()}
    print(size, cover)
    for name in ("mean unpaired", "mean paired", "shift unpaired", "shift paired"):
        assert abs(size[name] - 0.05) < error, name
        assert abs(cover[name] - 0.95) < error, name
    for name in ("failures unpaired", "failures paired", "superiority paired", "spread unpaired", "spread paired"):
        assert size[name] < 0.05 + error, name
    for name in ("failures unpaired", "failures paired", "superiority unpaired", "superiority paired"):
        assert cover[name] > 0.95 - error, name
    for name in ("hedges_g unpaired", "hedges_g paired"):
        assert abs(cover[name] - 0.95) < 0.01 + error, f"{name}: a normal interval"
    for name in ("spread unpaired", "spread paired"):
        assert cover[name] > 0.9 - error, f"{name}: a percentile bootstrap of a dozen is narrow"


def test_coverage_where_there_is_a_difference():
    """Effect sizes, superiority, the difference of spreads and of the expected best, against their true values."""
    rng, repeats, n, m = np.random.default_rng(5), 400, 25, 30
    big = rng.normal(size=(2, 400_000))
    best = big[:, :399_999].reshape(2, -1, 3).max(axis=2).mean(axis=1)
    found = {"hedges_g": [], "superiority": [], "spread": [], "best_of_3": [], "failures": []}
    for _ in range(repeats):
        x, y = 0.8 + rng.normal(size=n), rng.normal(size=m)
        made = [
            (measures.effects(x, y, False, 0.05)[1], 0.8),
            (measures.superiority(x, y, False, 0.05), stats.norm.cdf(0.8 / math.sqrt(2))),
            (measures.spread(2 * x, y, False, 200, 0.05, rng), 1),
            (measures.best_of(3, 2 * x, y, False, 200, 0.05, rng), 1.6 + best[0]),
            (measures.failures(x < 0, y < 0, False, 0.05), stats.norm.cdf(-0.8) - 0.5),
        ]
        for row, truth in made:
            found[row.measure].append(row.low <= truth <= row.high)
    cover = {name: np.mean(values) for name, values in found.items()}
    print(cover)
    error = three_errors(0.05, repeats)  # .033
    for name in ("hedges_g", "superiority", "failures"):
        assert abs(cover[name] - 0.95) < error, name
    for name in ("spread", "best_of_3"):  # percentile bootstraps of 25: a few percent narrow
        assert 0.88 < cover[name] < 0.95 + error, name


def test_the_seed_fixes_and_changes_the_bootstrap():
    x, y = draw()
    one, again, other = (rows(scores(x), scores(y), seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, again)
    for name in ("spread", "best_of_5"):
        assert one.loc[name, "low"] != other.loc[name, "low"]
    assert one.loc["mean"].equals(other.loc["mean"])


def test_pairs_are_by_seeds():
    x, y = draw(0, 6, 6)
    a, b, later = scores(x), scores(y, "b"), scores(y, "b", first=3)
    assert pairs.sides(a, b).paired
    assert not pairs.sides(a, b, False).paired
    assert not pairs.sides(a, later).paired, "other seeds"
    some = pairs.sides(a, later, True)
    assert some.a["init_seed"].tolist() == some.b["init_seed"].tolist() == [3, 4, 5, 6]
    assert some.b["score"].tolist() == y[:4].tolist()
    assert set(rows(a, later, paired=True)["left_out"]) == {4}
    with pytest.raises(BadInput, match=r"a and b: 0 pair\(s\) of the same init_seed; at least 2 are needed"):
        compare(a, scores(y, "b", first=100), paired=True)
    with pytest.raises(BadInput, match="no column of seeds is in both"):
        compare(a, b._replace(factors=("data_seed",)), paired=True)
    twice = b._replace(trials=b.trials.assign(init_seed=1))
    assert not pairs.sides(a, twice).paired
    with pytest.raises(BadInput, match="init_seed alone do not tell its trials apart"):
        compare(a, twice, paired=True)


@pytest.mark.parametrize(
    ("a", "b", "how", "message"),
    [
        ([0.5], [0.5, 0.6], {}, r"a: 1 trial\(s\) with a score; at least 2 are needed"),
        ([0.5, 0.6], [], {}, r"b: 0 trial\(s\) with a score"),
        ([0.5, NAN, 0.6], [0.5, 0.6], {}, r"a: 1 of 3 trials have no score .*drop=True"),
        ([0.5, math.inf, 0.6], [0.5, 0.6], {}, "a: 1 of 3 trials have no score"),
        ([0.5, NAN], [0.5, 0.6], {"drop": True}, r"a: 1 trial\(s\) with a score"),
        ([0.68382] * 3, [0.7] * 4, {}, r"a and b: all scores of each are equal \(0.6838 and 0.7\)"),
        ([0.1, 0.2, 0.3], [0.2, 0.3, 0.4], {}, "all pairs differ by the same -0.1"),
        ([0.1, 0.2], [0.2, 0.4], {"confidence": 95}, "confidence: 95 is not between 0 and 1"),
        ([0.1, 0.2], [0.2, 0.4], {"draws": 1}, "draws: 1 is too few"),
        ([0.1, 0.2], [0.2, 0.4], {"best_of": 0}, "best_of: 0 is not a number of trials"),
    ],
)
def test_refusals(a, b, how, message):
    with pytest.raises(BadInput, match=message) as caught:
        compare(scores(a), scores(b, "b"), **how)
    assert "\n" not in str(caught.value)


def test_only_like_is_compared_with_like():
    a, b = scores([0.1, 0.2]), scores([0.1, 0.3], "b")
    with pytest.raises(BadInput, match=r"different metrics: 'accuracy' \(a\), 'mcc' \(b\)"):
        compare(a, b._replace(metric="mcc"))
    with pytest.raises(BadInput, match=r"different tasks: '' \(a\), 'rte' \(b\)"):
        table([a, b._replace(task="rte")])


def test_trials_without_a_score_are_left_out_when_asked_and_failed():
    x, y = draw(0, 6, 6)
    x[2] = NAN
    a, b = scores(x, majority_score=0.6), scores(y, "b", majority_score=0.6)
    found = rows(a, b, drop=True)
    assert found["paired"].all()
    assert found.loc["mean", ["n_a", "n_b", "left_out"]].tolist() == [5, 5, 2]
    found = rows(a, b, drop=True, paired=False)
    assert found.loc["mean", ["n_a", "n_b", "left_out"]].tolist() == [5, 6, 1]
    assert found.loc["failures", ["n_a", "n_b", "left_out"]].tolist() == [6, 6, 0]
    assert found.loc["failures", "estimate"] == pytest.approx(1 / 6)


FEW = st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.68382, 0.7, 1.0]), min_size=1, max_size=7)


@settings(max_examples=80, deadline=None)
@given(a=FEW, b=FEW, paired=st.sampled_from([None, False, True]))
def test_any_scores_give_a_table_or_one_line(a, b, paired):
    """Ties, constants, twos and separations: no warning (they are errors), no infinity, no interval inside out."""
    try:
        found = compare(scores(a, majority_score=0.3), scores(b, "b", majority_score=0.3), paired, draws=20)
    except BadInput:
        return
    numbers = found[["estimate", "low", "high", "statistic", "df", "p"]]
    assert not np.isinf(numbers.to_numpy(float)).any()
    assert found["estimate"].notna().all()
    assert (found["low"].isna() | (found["low"] <= found["high"])).all()
    assert (found["p"].isna() | found["p"].between(0, 1 + 1e-12)).all()
    json.loads(found.to_json(orient="records"))


def test_the_table_of_a_paper():
    rng = np.random.default_rng(0)
    studies = [
        scores(rng.normal(centre, 0.02, 12), name, majority_score=0.6)
        for name, centre in (("vanilla", 0.8), ("mixout", 0.83), ("re-init", 0.81), ("llrd", 0.8))
    ]
    found = table(studies, draws=50)
    assert found["study"].tolist() == ["vanilla", "mixout", "re-init", "llrd"]
    first = studies[0].trials["score"]
    np.testing.assert_allclose(found.loc[0, ["mean", "sd", "median", "best"]].astype(float),
                               [first.mean(), first.std(), first.median(), first.max()], **EXACT)  # fmt: skip
    assert found.loc[0, ["mean_p", "mean_p_holm", "difference"]].isna().all()
    assert pd.isna(found.loc[0, "paired"])
    for number in (1, 2, 3):
        alone = rows(studies[number], studies[0])
        np.testing.assert_allclose(
            found.loc[number, ["difference", "low", "high", "mean_p"]].astype(float),
            alone.loc["mean", ["estimate", "low", "high", "p"]].astype(float), **EXACT
        )  # fmt: skip
        assert found.loc[number, "spread_p"] == alone.loc["spread", "p"]
    corrected = multipletests(found["mean_p"][1:], method="holm")[1]
    np.testing.assert_allclose(found["mean_p_holm"][1:], corrected, **EXACT)
    assert found["failed"].tolist() == [0] * 4
    assert (found["failure_low"] <= found["failure_rate"]).all()
    assert set(found["note"]) == {""}
    json.loads(found.to_json(orient="records"))
    alone = table(studies[:1], against=None)
    assert alone["mean"].tolist() == [first.mean()]
    assert alone["against"].isna().all()
    last = table(studies, against=-1, draws=50)
    assert last["against"].tolist()[:3] == ["llrd"] * 3


def test_a_study_that_cannot_be_tested_says_why():
    collapsed = scores([0.7] * 3, "collapsed", majority_score=0.7)
    found = table([collapsed, scores([0.7] * 3, "too", first=9), scores([0.7, 0.8, 0.9], "fine", first=9)], draws=50)
    assert "all scores of each are equal" in found.loc[1, "note"]
    assert np.isnan(found.loc[1, "mean_p_holm"])
    assert found.loc[2, "mean_p_holm"] == found.loc[2, "mean_p"], "one test is left"
    assert found["failed"].isna().tolist() == [False, True, True]
    for studies, against, message in (([], 0, "no studies"), ([collapsed], 1, "against: 1 is none of the 1 studies")):
        with pytest.raises(BadInput, match=message):
            table(studies, against)


def test_holm_keeps_the_rate_of_any_false_alarm():
    rng, repeats = np.random.default_rng(0), 1000
    wrong = 0
    x = rng.normal(size=(repeats, 6, 10))
    for p in stats.ttest_ind(x[:, 1:], x[:, :1], axis=2).pvalue:
        wrong += np.any(holm(np.array([np.nan, *p])) < 0.05)
        np.testing.assert_array_equal(holm(p)[p.argsort()], holm(np.sort(p)))
    assert 0.01 < wrong / repeats < 0.05 + three_errors(0.05, repeats)
    assert np.isnan(holm(np.array([np.nan]))).all()


@pytest.mark.parametrize("difference", [0.002, 0.01, 0.05, 0.5, 5.0])
def test_seeds_needed_are_the_least(difference):
    for paired, tests in ((False, TTestIndPower()), (True, TTestPower())):
        n = power.seeds_needed(0.02, difference, paired=paired)
        effect = difference / 0.02 / (math.sqrt(2) if paired else 1)
        if n < 1000 and effect < 20:  # past that statsmodels is out of its range
            assert tests.power(effect, n, 0.05) >= 0.8
            assert n == 2 or tests.power(effect, n - 1, 0.05) < 0.8
        assert n >= 2


def test_seeds_needed_by_the_book():
    """Cohen (1988): 64 per group for a medium effect, 26 for a large one; 34 pairs for a medium one."""
    assert power.seeds_needed(1, 0.5) == 64
    assert power.seeds_needed(1, -0.8) == 26
    assert power.seeds_needed(1, 0.5, paired=True, correlation=0.5) == 34
    x, _ = draw()
    assert power.seeds_needed(scores(x), 0.01) == power.seeds_needed(x.std(ddof=1), 0.01)
    found = power.needed(0.02)
    assert found["difference"].tolist() == list(power.POINTS)
    assert found["seeds"].tolist() == [power.seeds_needed(0.02, d) for d in power.POINTS]
    assert power.needed(1.0, [1e-5, 1.0])["seeds"].isna().tolist() == [True, False]


def test_that_many_seeds_do_find_it():
    n, repeats, rng = power.seeds_needed(0.02, 0.03), 3000, np.random.default_rng(0)
    x, y = rng.normal(0.03, 0.02, (repeats, n)), rng.normal(0, 0.02, (repeats, n))
    found = np.mean(stats.ttest_ind(x, y, axis=1).pvalue < 0.05)
    truth = power.power_of(0.02, 0.03, n)
    assert 0.8 <= truth < 0.9
    assert abs(found - truth) < three_errors(truth, repeats)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"sd": 0}, "sd: 0 is not a number above 0"),
        ({"sd": NAN}, "sd: nan is not a number above 0"),
        ({"sd": scores([0.5, 0.5])}, "a: all scores are equal"),
        ({"difference": 0}, "difference: 0 is found by no number of seeds"),
        ({"difference": 1e-9}, "needs more than 1,000,000 seeds"),
        ({"difference": NAN}, "difference: nan is not a number"),
        ({"power": 1}, "alpha: 0.05 and power: 1 must be between"),
        ({"alpha": 0.9}, "must be between 0 and 1, and power above alpha"),
        ({"correlation": 0.5}, "so paired=True is needed"),
        ({"correlation": 1, "paired": True}, "correlation: 1 is not between -1 and 1"),
    ],
)
def test_refusals_of_power(how, message):
    with pytest.raises(BadInput, match=message):
        power.seeds_needed(**{"sd": 0.02, "difference": 0.01, **how})


@pytest.mark.parametrize(("task", "score"), [("mrpc", 0.74803), ("RTE", 0.52708), ("cola", 0), ("SST-2", 0.50917)])
def test_collapsed_trials_of_the_paper_are_failures(task, score):
    """As the digitised matrices have them, with five digits."""
    metric = {"mrpc": "accuracy_f1", "cola": "mcc"}.get(task, "accuracy")
    made = scores([score, score + 0.002, 0.9])._replace(task=task, metric=metric)
    assert comparing.failed(made).tolist() == [True, False, False]
