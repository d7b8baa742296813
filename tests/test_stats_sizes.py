"""Scores by the size of the training set, against plain numpy and scipy; the chapter of the report."""

import numpy as np
import pandas as pd
import pytest
from handmade import scores
from scipy import stats

from jaxft.errors import BadInput
from jaxft.report import about_sizes
from jaxft.stats import sizes
from jaxft.stats.scores import Scores

SIZES = (100, 300, 1000, 3000)


def study(values, model: str, size: int, first: int = 1, **setting) -> Scores:
    """Trials of one model with so many examples."""
    made = scores(np.asarray(values, float).reshape(-1, 1), f"{model} {size}", first)
    return made._replace(setting={"model": model, "n_train": size, **setting})


def grown(means: dict[str, list[float]], sd: float = 0.01, trials: int = 6, seed: int = 0) -> list[Scores]:
    rng = np.random.default_rng(seed)
    return [
        study(mean + sd * rng.normal(size=trials), model, size)
        for model, every in means.items()
        for size, mean in zip(SIZES, every, strict=True)
    ]


MEANS = {"runs/a": [0.6, 0.7, 0.75, 0.76], "runs/a|lstm(hidden=64)": [0.5, 0.65, 0.8, 0.85]}
A, B = "a", "a | lstm(hidden=64)"


def test_a_curve_has_means_with_students_intervals():
    every = grown(MEANS)
    table = sizes.curve(every)
    assert list(table["arm"].unique()) == [A, B]
    assert list(table["n_train"]) == list(SIZES) * 2
    for row, each in zip(table.itertuples(), every, strict=True):
        x = each.trials["score"].to_numpy()
        low, high = stats.ttest_1samp(x, 0).confidence_interval(0.95)
        np.testing.assert_allclose([row.mean, row.sd, row.low, row.high], [x.mean(), x.std(ddof=1), low, high])
        assert (row.trials, row.best, row.judged_on, row.setting) == (6, x.max(), "dev", "")


def test_of_several_settings_the_best_on_dev():
    low, high = ([study(x + np.array([0, 0.01, 0.02]), "m", n, **{"hp.lr": lr}) for n in SIZES]
                 for x, lr in ((0.5, 1e-5), (0.6, 1e-4)))  # fmt: skip
    table = sizes.curve([*low, *high])
    assert set(table["setting"]) == {"hp.lr 0.0001"}
    assert table["mean"].min() > 0.6


def test_a_gap_is_paired_where_the_seeds_are_the_same():
    every = grown(MEANS)
    table = sizes.gap(every, B, A)
    assert table["paired"].all()
    for row, one, other in zip(table.itertuples(), every[4:], every[:4], strict=True):
        x, y = (each.trials["score"].to_numpy() for each in (one, other))
        wanted = stats.ttest_rel(x, y).confidence_interval(0.95)
        np.testing.assert_allclose([row.difference, row.low, row.high], [(x - y).mean(), *wanted])
        np.testing.assert_allclose(row.error_reduction, (x - y).mean() / (1 - y.mean()))
    apart = [study(s.trials["score"], s.setting["model"], s.setting["n_train"], 50) for s in every[4:]]
    table = sizes.gap([*every[:4], *apart], B, A)
    assert not table["paired"].any()
    x, y = (each.trials["score"].to_numpy() for each in (apart[2], every[2]))
    wanted = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose([table["low"][2], table["high"][2]], wanted)


def test_a_crossing_is_linear_in_the_logarithm():
    every = grown(MEANS, sd=1e-9)
    table = sizes.crossing(every, A, B)
    (row,) = table.itertuples()
    # The gap goes from .05 at 300 to -.05 at 1,000: half way.
    assert row.n_train == pytest.approx(np.sqrt(300 * 1000), rel=1e-4)
    assert row.ahead == B
    assert row.share == 1
    assert row.low == pytest.approx(row.high, rel=1e-4)
    assert sizes.crossing(every, B, A)["ahead"].tolist() == [B]
    assert sizes.crossing(grown({"a": [0.5, 0.6, 0.7, 0.8], "b": [0.4, 0.5, 0.6, 0.7]}, sd=1e-9), "a", "b").empty


def test_several_crossings_and_a_gap_of_nothing():
    found = list(sizes._changes(np.array([1.0, 10, 100, 1000, 10000]), np.array([1.0, 0, -1, -1, 3])))
    assert [sign for _, sign in found] == [-1, 1]
    np.testing.assert_allclose([at for at, _ in found], [10, 10**3.25])
    assert not list(sizes._changes(np.array([1.0, 10, 100]), np.array([1.0, 0, 1])))


def test_the_interval_of_a_crossing_covers_it():
    """In 120 studies of 8 trials a size the true crossing is within the 90 % interval about as often."""
    truth, covered = np.sqrt(300 * 1000), 0
    for seed in range(120):
        table = sizes.crossing(grown(MEANS, 0.03, 8, seed), A, B, draws=300, seed=seed, confidence=0.9)
        covered += bool(len(table)) and table["low"][0] <= truth <= table["high"][0]
    assert 0.78 < covered / 120 < 0.97


def test_how_many_examples_one_needs_for_the_others_score():
    table = sizes.needed(sizes.curve(grown(MEANS, sd=1e-9)), B, A)
    # .6 lies two thirds of the way from .5 to .65, .76 a fifth of the way from .75 at 467.. to .8; .5 is no goal.
    np.testing.assert_allclose(table["n_train"][0], 100 * 3 ** (2 / 3), rtol=1e-4)
    np.testing.assert_allclose(table["n_train"][1], 300 * (10 / 3) ** (1 / 3), rtol=1e-4)
    np.testing.assert_allclose(table["times"], table["n_train"] / table["other_n_train"])
    back = sizes.needed(sizes.curve(grown(MEANS, sd=1e-9)), A, B)
    assert np.isnan(back["n_train"]).tolist() == [True, False, True, True]  # has more with 100; never so good


def test_costs_and_their_front():
    table = pd.DataFrame(
        {
            "arm": ["a", "a", "b", "b"],
            "n_train": [1, 2, 1, 2],
            "mean": [0.5, 0.8, 0.6, 0.7],
            "train_flops": [10.0, 20, 5, 12],
            "infer_per_second": [100.0, 100, 400, 400],
        }
    )
    found = sizes.costs(table)
    assert found["front"].tolist() == [False, True, True, True]
    assert found["faster"].tolist() == [1, 1, 4, 4]
    with pytest.raises(BadInput, match=r"eval\.costs: true has it"):
        sizes.costs(table.assign(train_flops=np.nan))


def test_what_is_refused():
    every = grown(MEANS)
    with pytest.raises(BadInput, match="one size of the training set; a learning curve needs two"):
        sizes.curve([every[0], every[4]])
    with pytest.raises(BadInput, match=r"no model 'c'; there are: a, a \| lstm"):
        sizes.gap(every, "c", A)
    with pytest.raises(BadInput, match="no size of the training set in common"):
        sizes.gap([every[0], every[1], every[6]], A, B)
    with pytest.raises(BadInput, match="n_train does not vary"):
        sizes.curve([scores([[0.5, 0.6]])])


def test_the_chapter():
    every = grown(MEANS)
    (chapter,) = about_sizes.chapters(every)
    assert chapter.title == "Training size"
    tables = {name for part in chapter.parts for name in part.tables}
    assert tables == {"learning_curve", "size_gap", "size_crossing", "size_needed"}
    said = " ".join(line for part in chapter.parts for line in [*part.said, *(d.sentence for d in part.drawings)])
    assert f"{B} leads {A} from about 5" in said
    assert f"For what {A} has with 100 examples, {B} needs 2" in said
    assert [what for part in chapter.parts for what, _ in part.refused] == ["Costs"]
    assert not about_sizes.chapters([every[0], every[4]]), "one size"
