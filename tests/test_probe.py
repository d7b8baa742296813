"""The linear probe: its regression beside scikit-learn's, its states by hand, and what of it the run folder has."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import toys
from studies import Quiet, same_bits, study
from test_flight import stopped

from jaxft import models
from jaxft.data.batch import pad
from jaxft.engine import groups, probe
from jaxft.errors import BadInput
from jaxft.folder import store
from jaxft.loop import train
from jaxft.study import EvalConfig, SeedGrid, Study
from jaxft.study.others import Other
from jaxft.study.trials import expand


def clouds(classes: int, n: int = 200, width: int = 12, seed: int = 0):
    """Points about centres that overlap."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return rng.normal(size=(n, width)) + rng.normal(size=(classes, width))[labels], labels


@pytest.mark.parametrize("strength", [1.0, 0.01, 30.0])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_weights_are_those_of_scikit_learn(classes, strength):
    linear = pytest.importorskip("sklearn.linear_model")
    x, labels = clouds(classes)
    found = probe.fit(x, labels, classes, strength)
    # Of two classes it has one weight, the difference of ours, whose square is penalised half as much.
    theirs = linear.LogisticRegression(C=(2 if classes == 2 else 1) / strength, tol=1e-12, max_iter=10_000).fit(
        x, labels
    )
    weights, intercepts = theirs.coef_.T, theirs.intercept_
    if classes == 2:
        weights, intercepts = np.concatenate([-weights, weights], axis=1) / 2, np.array([-1, 1]) * intercepts / 2
    near = {"rtol": 1e-4, "atol": 2e-5}
    np.testing.assert_allclose(found[:-1], weights, **near)
    np.testing.assert_allclose(found[-1] - found[-1].mean(), intercepts - intercepts.mean(), **near)
    assert found.sum(axis=1) == pytest.approx(np.zeros(13), abs=1e-9)


def test_classes_that_can_be_parted_and_features_that_say_nothing():
    x = np.stack([np.linspace(-1, 1, 40), np.ones(40)], axis=1)
    labels = (x[:, 0] > 0).astype(int)
    weights = probe.fit(x, labels, 2)
    assert np.isfinite(weights).all()
    assert (np.concatenate([x, np.ones((40, 1))], axis=1) @ weights).argmax(axis=1).tolist() == labels.tolist()
    order = np.random.default_rng(0).permutation(40)
    assert probe.accuracy(x[order], labels[order], 30) == 1.0
    said = probe.accuracy(np.ones((40, 3)), np.array([0] * 20 + [1] * 10 + [0] * 4 + [1] * 6), 30)
    assert said == 0.4, "with no feature the larger class is predicted"
    unknown = np.array([0, 1] * 15 + [-1] * 10)
    assert np.isnan(probe.accuracy(np.ones((40, 3)), unknown, 30))


def test_scores_do_not_depend_on_the_scale_of_a_state():
    x, labels = clouds(3, 300)
    assert probe.accuracy(x, labels, 200) == probe.accuracy(x * np.logspace(-3, 3, 12) + 7, labels, 200) > 0.6


def tsv(folder, name: str, count: int, seed: int) -> None:
    """Whether most words are even; of words up to w24, which the trained task has not."""
    rng = np.random.default_rng(seed)
    lines = ["sentence\tlabel"]
    for _ in range(count):
        words = 2 * rng.integers(0, 12, 5) + (even := rng.integers(2))
        lines.append(" ".join(f"w{w}" for w in words) + f"\t{['odd', 'even', 'odd'][even + 1]}")
    (folder / name).write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probed")
    tsv(folder, "train.tsv", 30, 1)
    tsv(folder, "dev.tsv", 21, 2)
    entry = {"name": "parity", "task": "text", "path": str(folder)}
    few = entry | {"name": "few", "n_train": 9}
    settings = toys.light(tmp_path_factory.mktemp("study"))
    settings["eval"] = settings["eval"] | {"probe": [entry, few]}
    return settings | {"seeds": {"init": "1..2", "order": "1..2"}, "sweep": {"train.lr": [3e-3, 1e30]}}


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    return train.run(study(base, tmp_path_factory.mktemp("whole")), progress=Quiet())


def test_completed_trials_have_a_score_and_others_none(whole):
    run = store.load(whole).trials
    assert set(run["status"]) == {"completed", "diverged"}
    for name in ("probe.parity", "probe.few"):
        assert (run[name].notna() == (run["status"] == "completed")).all()
        assert run[name].between(0, 1).sum() == 4
    assert run["probe.parity"].mean() > 0.6
    assert set(pd.read_parquet(f"{whole}/trials")) == set(run)


def test_a_stopped_study_goes_on_bit_for_bit(base, whole, tmp_path):
    settings = study(base, tmp_path)
    stopped(settings, 3)
    train.run(settings, progress=Quiet())
    same_bits(tmp_path / "run", whole)
    with pytest.raises(BadInput, match=r"holds another study: eval\.probe: "):
        train.run(study(base, tmp_path, eval={"probe": None}), progress=Quiet())


def test_scores_are_those_of_states_taken_by_hand(base, tmp_path):
    """Of the whole model, with rows for words that neither training nor dev have."""
    settings = study(base, tmp_path, sweep={"train.lr": [3e-3]})
    (group,) = groups.prepare(settings, expand(settings))
    pool = groups.pooled(group, 1, jax.devices()[:1])
    pool.fill({0: groups.entry(group.trials[0], group)})
    total = group.lengths[group.trials[0].id].total
    for step in range(0, total, group.recipe.every):
        pool.run(min(group.recipe.every, total - step))
    trained = pool.take(0)
    found = probe.reader(group.recipe, group.shared.pretrained, group.probes, group.precision)(trained)
    again = probe.reader(group.recipe, group.shared.pretrained, group.probes, group.precision)(trained)
    assert found == again
    model, _ = group.whole()
    params = {name: jnp.asarray(value) for name, value in groups.weights(group, trained).items()}
    opened = models.open(settings.model)
    entries = [Other("x", {"name": "text", "path": base["eval"]["probe"][0]["path"]}, None)]
    split = jax.tree.map(jnp.asarray, probe.load(entries, opened.tokenizer, 16, 16)["x"].examples)
    with jax.default_matmul_precision("highest"):
        states = model.apply(params, pad(split, jnp.arange(51), 16)).hidden[-1]
    assert found["parity"] == probe.accuracy(np.asarray(states, np.float64), np.asarray(split.labels), 30)
    ours = jax.jit(partial(probe.states, group.recipe))
    packed = group.probes["parity"].packed
    np.testing.assert_allclose(ours(group.shared.pretrained, trained, packed), states, atol=1e-5)


def test_a_study_of_probes_gives_its_trials_no_other_name():
    grid = SeedGrid(init=1, order=1)
    entries = [{"name": "rte", "path": "hub"}]
    assert expand(Study(seeds=grid)) == expand(Study(seeds=grid, eval=EvalConfig(probe=entries)))


def test_examples_are_drawn_the_same_everywhere():
    split = toys.split(20)
    few = probe.drawn(split, 7)
    assert len(few.labels) == 7
    sentences = [split.tokens[a:b].tolist() for a, b in zip(split.offsets, split.offsets[1:], strict=False)]
    chosen = [few.tokens[a:b].tolist() for a, b in zip(few.offsets, few.offsets[1:], strict=False)]
    places = [sentences.index(each) for each in chosen]
    assert places == sorted(places)
    assert places == [i for i in range(20) if i in places]
    assert [split.labels[i] for i in places] == few.labels.tolist()
    both = probe.joined(few, split)
    assert both.labels.tolist() == [*few.labels, *split.labels]
    assert both.tokens[both.offsets[7] :].tolist() == split.tokens.tolist()
    assert both.offsets[-1] == len(both.tokens)
