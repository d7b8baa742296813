"""Good and bad seeds: densities by scipy, rank correlations over tasks with their correction."""

import numpy as np
import pytest
from designs import effects, scores, thinned
from scipy import stats

from jaxft.errors import BadInput
from jaxft.stats.scores import read
from jaxft.stats.seeds import across_tasks, densities


def test_densities_are_scipys_of_the_best_and_the_worst():
    y = effects(np.random.default_rng(0), (5, 12))
    found = densities(scores(y), "init_seed", points=300)
    means = y.mean(axis=1)
    for which, at in (("best", means.argmax()), ("worst", means.argmin())):
        part = found[found["which"] == which]
        assert len(part) == 300
        assert set(part["seed"]) == {at + 1}
        assert set(part["factor"]) == {"init_seed"}
        np.testing.assert_allclose(part["density"], stats.gaussian_kde(y[at])(part["x"]), rtol=1e-10)
        # Three bandwidths beyond the scores leave out less than .2 % of the mass.
        assert np.trapezoid(part["density"], part["x"]) == pytest.approx(1, abs=2e-3)


def test_densities_of_the_papers_scores(dodge2020):
    (study,) = read(dodge2020 / "digitized_best_val_mrpc.csv")
    found = densities(study, "init_seed")
    assert found.groupby("which")["seed"].first().to_dict() == {"best": 1, "worst": 25}  # best mean first
    assert densities(study, "order_seed").groupby("which")["seed"].first().to_dict() == {"best": 25, "worst": 1}


def tasks(rng, shared=1.0, count=3, seeds=12):
    """Studies of one set of inits: what an init is worth is partly the same on every task."""
    common = rng.normal(size=(seeds, 1)) * shared
    made = [common + rng.normal(size=(seeds, 1)) + 0.1 * rng.normal(size=(seeds, 4)) for _ in range(count)]
    return [scores(y, name=f"runs/{at}")._replace(task=f"task{at}") for at, y in enumerate(made)]


def test_across_tasks_is_scipys_spearman_and_holms_correction():
    studies = tasks(np.random.default_rng(0))
    found = across_tasks(studies, "init_seed")
    means = [study.trials.groupby("init_seed")["score"].mean() for study in studies]
    want = [stats.spearmanr(means[a], means[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    np.testing.assert_allclose(found["rho"], [each.statistic for each in want], rtol=1e-8)
    np.testing.assert_allclose(found["p"], [each.pvalue for each in want], rtol=1e-8)
    p = np.sort(found["p"].to_numpy())
    holm = np.minimum(1, np.maximum.accumulate(p * [3, 2, 1]))
    np.testing.assert_allclose(np.sort(found["corrected_p"]), holm, rtol=1e-8)
    assert found[["task_a", "task_b"]].to_numpy().tolist() == [
        ["task0", "task1"],
        ["task0", "task2"],
        ["task1", "task2"],
    ]
    assert set(found["seeds"]) == {12}


def test_only_seeds_in_common_count_and_alike_tasks_go_by_name():
    a, b = tasks(np.random.default_rng(1), count=2)
    b = b._replace(trials=b.trials.assign(init_seed=b.trials["init_seed"] + 5), task=a.task)
    found = across_tasks([a, b], "init_seed").iloc[0]
    assert found["seeds"] == 7
    assert (found["task_a"], found["task_b"]) == ("runs/0", "runs/1")
    x = a.trials.groupby("init_seed")["score"].mean().loc[6:]
    y = b.trials.groupby("init_seed")["score"].mean().loc[:12]
    assert found["rho"] == pytest.approx(stats.spearmanr(x, y).statistic, rel=1e-10)


def test_the_correction_holds_the_size(monkeypatch):
    """Three tasks without anything in common: a corrected p <= .05 in at most 5 % of 80, and three standard errors."""
    monkeypatch.setattr("gc.collect", lambda *_: 0)  # statsmodels' correction collects garbage each time
    rng, studies = np.random.default_rng(3), tasks(np.random.default_rng(0), 0.0)
    any_of = []
    for _ in range(80):
        drawn = [
            study._replace(trials=study.trials.assign(score=np.repeat(rng.normal(size=12), 4))) for study in studies
        ]
        any_of.append((across_tasks(drawn, "init_seed")["corrected_p"] <= 0.05).any())
    assert np.mean(any_of) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 80)
    assert (across_tasks(tasks(rng, 5.0, seeds=20), "init_seed")["corrected_p"] < 0.01).all()


def test_a_matrix_that_is_sorted_by_its_means_has_ranks_not_seeds(dodge2020, tmp_path):
    studies = [read(dodge2020 / f"digitized_best_val_{task}.csv")[0] for task in ("mrpc", "rte")]
    with pytest.raises(BadInput, match="are ranks and not seeds"):
        across_tasks(studies, "init_seed")
    rng, made = np.random.default_rng(0), []
    for name in ("a", "b"):
        np.savetxt(tmp_path / f"{name}.csv", rng.uniform(size=(8, 3)), delimiter=",")
        made += read(tmp_path / f"{name}.csv")
    assert across_tasks(made, "init_seed")["seeds"].tolist() == [8]


A, B, C = tasks(np.random.default_rng(2))
FLAT = scores(np.tile([0.1, 0.2, 0.3], (12, 1)))


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (lambda: densities(scores([[0.1, 0.1, 0.1], [0.2, 0.3, 0.4]]), "init_seed"), "worst, has 3 equal scores (0.1)"),
        (lambda: densities(scores([[0.1], [0.2]]), "init_seed"), "init_seed 2, the best, has one trial only"),
        (lambda: densities(scores([[0.1, 0.2]]), "init_seed"), "init_seed is 1 in all 2 trials"),
        (lambda: densities(A, "x_seed"), "no factor 'x_seed'"),
        (lambda: densities(A, "init_seed", points=1), "points: expected at least 2, found 1"),
        (lambda: across_tasks([A], "init_seed"), "expected at least two studies to compare init_seed over, found 1"),
        (lambda: across_tasks([A, B, thinned(C, np.arange(48) != 7)], "init_seed"),
         "runs/2: 1 of 48 combinations of seeds have no trial (the first: init_seed 2, order_seed 4)"),
        (lambda: across_tasks([A, thinned(B, np.arange(48) < 12)], "init_seed"),
         "runs/0 and runs/1: 3 values of init_seed in common, expected at least 4"),
        (lambda: across_tasks([A, FLAT], "init_seed"), "made: all 12 values of init_seed have the mean 0.2"),
        (lambda: across_tasks([A, scores(np.ones((12, 4)))], "init_seed"), "all 48 scores are 1"),
    ],
)  # fmt: skip
def test_refusals(run, said):
    with pytest.raises(BadInput) as error:
        run()
    assert said in str(error.value)
    assert "\n" not in str(error.value)
