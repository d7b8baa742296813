"""The best of n: the paper's numbers, brute force, opda's bands and their coverage."""

import itertools

import numpy as np
import pytest
from designs import scores
from opda.nonparametric import EmpiricalDistribution

from jaxft.errors import BadInput
from jaxft.stats.maximum import bands, by_budget, by_schedule, caveat, expected_maximum
from jaxft.stats.scores import read

NS = [1, 2, 5, 10, 50]
PAPER = {"mrpc": [0.8247, 0.8586, 0.8894, 0.8981, 0.9061], "rte": [0.6260, 0.6656, 0.7073, 0.7268, 0.7511]}


@pytest.mark.parametrize(("task", "means", "std"), [("mrpc", PAPER["mrpc"], 0.0608), ("rte", PAPER["rte"], 0.0689)])
def test_the_papers_numbers(dodge2020, task, means, std):
    (study,) = read(dodge2020 / f"digitized_best_val_{task}.csv")
    found = expected_maximum(study, NS)
    assert found["mean"].round(4).tolist() == means
    assert round(found["std"][0], 4) == std
    assert found["n"].tolist() == NS
    assert len(expected_maximum(study)) == 625


@pytest.mark.parametrize("n", [1, 2, 3])
def test_is_every_sample_counted(n):
    """All samples of n with replacement, of scores with ties: to 1e-12."""
    values = np.array([0.2, 0.9, 0.9, 0.5, 0.1])
    best = np.sort([max(each) for each in itertools.product(values, repeat=n)])
    row = expected_maximum(values, [n]).iloc[0]
    np.testing.assert_allclose([row["mean"], row["std"]], [best.mean(), best.std()], rtol=1e-12)
    for name, q in (("low", 0.05), ("median", 0.5), ("high", 0.95)):
        assert row[name] == best[int(np.ceil(q * len(best) - 1e-9)) - 1], name


def test_the_mean_is_dodge_et_al_2019s_sum():
    x = np.sort(np.random.default_rng(0).uniform(size=40))
    i = np.arange(1, 41)
    for n in (1, 3, 17):
        want = (x * ((i / 40) ** n - ((i - 1) / 40) ** n)).sum()
        assert expected_maximum(x, [n])["mean"][0] == pytest.approx(want, rel=1e-12)


def test_bands_are_opdas():
    """The CDF's upper band gives the lower curve; dkw where scores are equal, ks where none are."""
    rng = np.random.default_rng(0)
    for values, method in ((rng.uniform(size=30), "ks"), (rng.integers(0, 9, 30) / 10, "dkw")):
        lower, point, upper = EmpiricalDistribution.confidence_bands(values, 0.8, 0.0, 1.0, method=method)
        found = bands(values, NS, confidence=0.8)
        assert found.attrs["method"] == method
        assert (found["low"] < found["estimate"]).all()
        assert (found["estimate"] < found["high"]).all()
        for name, dist in (("low", upper), ("estimate", point), ("high", lower)):
            np.testing.assert_allclose(found[name], dist.average_tuning_curve(NS), rtol=1e-8)
        found = bands(values, NS, confidence=0.8, curve="median")
        np.testing.assert_allclose(found["high"], lower.quantile_tuning_curve(NS), rtol=1e-8)
        np.testing.assert_allclose(bands(values, NS)["estimate"], expected_maximum(values, NS)["mean"], rtol=1e-12)


@pytest.mark.parametrize("grain", [None, 20])
def test_bands_cover_the_whole_curve(grain):
    """Of independent trials, nominal 80 %: exact for continuous scores, within three standard errors of 400 studies
    (6 %); at least that for scores with ties."""
    rng, times, inside = np.random.default_rng(1), 400, 0
    ns = np.array([1, 2, 3, 5, 8, 13, 21])
    truth = 0.5 ** (1 / ns)  # the median of the best of n uniform ones
    truth = truth if grain is None else np.ceil(truth * grain) / grain
    for _ in range(times):
        values = rng.uniform(size=15)
        values = values if grain is None else np.ceil(values * grain) / grain
        found = bands(values, ns, confidence=0.8, curve="median", support=(0, 1))
        inside += ((found["low"] <= truth) & (truth <= found["high"])).all()
    assert inside / times >= 0.8 - 0.06


def test_supports():
    assert bands([0.1, 0.5]).attrs["support"] == (0, 1)
    assert bands([-0.1, 0.5]).attrs["support"] == (-1, 1)
    assert bands(scores([[0.1, 0.5]])._replace(metric="mcc")).attrs["support"] == (-1, 1)
    assert bands([88.1, 90.5]).attrs["support"] == (0, 100)
    assert bands([881.0, 905.0], support=(0, 1000)).attrs["support"] == (0, 1000)


def test_a_seed_fixes_and_changes_simulated_bands():
    x = np.random.default_rng(0).uniform(size=5)
    found = [bands(x, [1, 3], method="ld_equal_tailed", seed=seed)["low"].tolist() for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


CURVES = """init_seed,order_seed,step,epoch,score
1,1,5,0.5,0.3
1,1,10,1.0,0.2
1,1,15,1.5,0.9
1,1,20,2.0,0.4
1,2,5,0.5,0.1
1,2,10,1.0,0.6
1,2,15,1.5,0.2
1,2,20,2.0,0.5
"""


def test_schedules(tmp_path):
    (tmp_path / "a.csv").write_text(CURVES)
    (study,) = read(tmp_path / "a.csv")
    table = by_schedule(study, [1, 2])
    want = {"end": [0.45, 0.475], "epoch": [0.5, 0.55], "all": [0.75, 0.825]}  # of {.4 .5}, {.4 .6}, {.9 .6}
    for schedule, means in want.items():
        np.testing.assert_allclose(table[table["schedule"] == schedule]["mean"], means, rtol=1e-12)
    untold = study._replace(evals=study.evals.assign(epoch=np.nan))
    assert by_schedule(untold, [1])["schedule"].tolist() == ["end", "all"]
    np.testing.assert_allclose(by_schedule(untold, [1, 2], epochs=2)["mean"], table["mean"], rtol=1e-12)


def test_budgets_count_what_was_spent():
    study = scores([[0.1, 0.4, 0.6, 0.7]])
    trials = study.trials.assign(steps=[100, 100, 25, 25], status=["completed", "completed", "stopped", "diverged"])
    found = by_budget(study._replace(trials=trials), [1, 2, 4])
    assert found["budget"].tolist() == [0.625, 1.25, 2.5]
    assert found["mean"].tolist() == expected_maximum(study, [1, 2, 4])["mean"].tolist()


def test_the_caveat_is_for_seeds_that_are_shared():
    said = caveat(scores(np.eye(3)))
    assert "9 trials combine 3 values of init_seed with 3 values of order_seed" in said
    assert "not independent" in said
    assert caveat(scores([0.1, 0.2], init_seed=[1, 2], order_seed=[1, 2])) == ""
    assert caveat(scores([[0.1], [0.2]])) == ""


ONE = scores([[0.1, 0.2]])


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (lambda: expected_maximum([0.1]), "scores: expected at least 2 trials, found 1"),
        (lambda: expected_maximum([0.1, np.nan, 0.2]), "1 of 3 trials have no finite score"),
        (lambda: expected_maximum([0.1, np.inf]), "1 of 2 trials have no finite score"),
        (lambda: expected_maximum([[0.1, 0.2]]), "one score per trial, found an array of shape (1, 2)"),
        (lambda: expected_maximum([0.1, 0.2], [0]), "ns: expected whole numbers of trials from 1, found 0"),
        (lambda: expected_maximum([0.1, 0.2], [1.5]), "found 1.5"),
        (lambda: expected_maximum([0.1, 0.2], []), "at least one number of trials"),
        (lambda: bands([0.1, 0.2], confidence=1.0), "confidence: expected a number between 0 and 1"),
        (lambda: bands([0.1, 0.2], curve="best"), "curve: expected 'mean' or 'median', found 'best'"),
        (lambda: bands([0.1, 0.2], method="x"), "method: expected one of dkw, ks"),
        (lambda: bands([0.1, 0.1], method="ks"), "expected dkw"),
        (lambda: bands([0.1, 0.2], support=(0.15, 1)), "support: scores from 0.1 to 0.2 are not within 0.15 and 1"),
        (lambda: bands([-300.0, 0.2]), "neither shares nor per cent"),
        (lambda: by_schedule(ONE), "made: no curves in it"),
        (lambda: by_budget(ONE._replace(trials=ONE.trials.assign(steps=np.nan))), "how many steps"),
        (lambda: by_budget(ONE._replace(trials=ONE.trials.assign(status="stopped"))), "at least one completed trial"),
        (
            lambda: by_budget(ONE._replace(trials=ONE.trials.assign(steps=[1.0, 2.0]))),
            "completed trials of equal length",
        ),
    ],
)
def test_refusals(run, said):
    with pytest.raises(BadInput) as error:
        run()
    assert said in str(error.value)
    assert "\n" not in str(error.value)
