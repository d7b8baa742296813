"""Averages of trials: the mathematics beside brute force, what is kept, and what of it the run folder has."""

import os
from itertools import combinations
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
import toys
from studies import Quiet, rows, same_bits, study
from test_flight import stopped

from jaxft import metrics
from jaxft.data.batch import pad
from jaxft.engine import groups
from jaxft.errors import BadInput, Note
from jaxft.folder import Folder, shards, store
from jaxft.loop import train
from jaxft.study import EvalConfig, SeedGrid, Study
from jaxft.study.trials import expand
from jaxft.trained import best as files
from jaxft.trained import soups
from jaxft.trained.best import Best

KEYS = ["kind", "alpha", "init_seed", "of", "split"]


def drawn(count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [
        {"a": rng.normal(size=(3, 2)).astype(np.float32), "b": rng.normal(size=4).astype(np.float32)}
        for _ in range(count)
    ]


def test_wise_is_the_line_with_both_ends():
    w0, w1 = drawn(2)
    for alpha in soups.ALPHAS:
        for name, x in soups.wise(w0, w1, alpha).items():
            assert x.dtype == np.float32
            np.testing.assert_allclose(x, (1 - alpha) * w0[name] + alpha * w1[name], atol=1e-6)
    for alpha, end in ((0.0, w0), (1.0, w1)):
        assert all(np.array_equal(x, end[name]) for name, x in soups.wise(w0, w1, alpha).items())


def test_uniform_is_the_mean_and_of_the_same_model_that_model():
    members = drawn(5)
    for name, x in soups.uniform(iter(members)).items():
        np.testing.assert_allclose(x, np.mean([each[name] for each in members], axis=0), atol=1e-6)
    (one,) = drawn(1)
    assert all(np.array_equal(x, one[name]) for name, x in soups.uniform([one] * 3).items())
    with pytest.raises(ValueError, match="no members"):
        soups.uniform([])


@pytest.mark.parametrize("seed", range(8))
def test_greedy_is_the_recipe_written_out(seed):
    """With a score that has ties, of which each lets its member stay."""
    members = drawn(6, seed)

    def score(weights) -> float:
        return round(-float(np.abs(weights["a"]).sum() + np.abs(weights["b"] - 0.3).sum()), 1)

    def mean(places):
        return {name: np.mean([members[place][name] for place in places], axis=0) for name in members[0]}

    members.sort(key=score, reverse=True)
    members.insert(1, members[0])  # the same again: exactly a tie
    expected = []
    for place in range(7):
        if not expected or score(mean([*expected, place])) >= score(mean(expected)):
            expected.append(place)
    chosen, soup = soups.greedy(iter(members), score)
    assert chosen == expected
    assert chosen[:2] == [0, 1]
    for name, x in soup.items():
        np.testing.assert_allclose(x, mean(expected)[name], atol=1e-6)
    assert score(soup) >= score(members[0])
    with pytest.raises(ValueError, match="no members"):
        soups.greedy([], score)


@pytest.mark.parametrize("seed", range(3))
def test_each_member_of_a_greedy_soup_had_to_earn_its_place(seed):
    """Of all subsets that keep the order and begin with the best, it is the one in which nobody harms."""
    members, rng = drawn(5, seed), np.random.default_rng(seed)
    worth = {places: rng.random() for n in range(1, 6) for places in combinations(range(5), n)}
    means = {places: soups.uniform([members[p] for p in places])["a"].tobytes() for places in worth}
    known = {content: worth[places] for places, content in means.items()}
    assert len(known) == len(worth)
    chosen, _ = soups.greedy(members, lambda weights: known[weights["a"].tobytes()])
    for place in range(1, 5):
        before = tuple(p for p in chosen if p < place)
        assert (place in chosen) == (worth[*before, place] >= worth[before])


def test_low_rank_maps_are_folded_before_they_are_averaged():
    rng = np.random.default_rng(0)
    start = {"q/kernel": rng.normal(size=(4, 3)).astype(np.float32), "q/lora_scale": np.float32(2)}
    start |= {"q/lora_a": np.zeros((4, 2), np.float32), "q/lora_b": np.zeros((2, 3), np.float32)}
    ends = [
        {f"q/lora_{side}": rng.normal(size=start[f"q/lora_{side}"].shape).astype(np.float32) for side in "ab"}
        for _ in range(2)
    ]
    mean = soups.uniform([soups.whole(start, owned) for owned in ends])
    assert set(mean) == {"q/kernel"}
    products = [2 * owned["q/lora_a"] @ owned["q/lora_b"] for owned in ends]
    np.testing.assert_allclose(mean["q/kernel"], start["q/kernel"] + sum(products) / 2, atol=1e-5)
    adapters = {"layers/0/output_adapter/up/kernel": np.ones((2, 2), np.float32)}
    assert soups.whole(adapters, {}).keys() == adapters.keys(), "adapters are parameters like any other"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Ten trials, of which five diverge; the dev set is cut into two halves.

    Three of the five others have one start, two the other: whichever four are the best, at least two share theirs.
    """
    settings = toys.light(tmp_path_factory.mktemp("study"))
    settings["task"] = settings["task"] | {"split_dev": 1}
    settings["eval"] = settings["eval"] | {"soups": 4}
    seeds = [{"init": 1 + n % 2, "order": n} for n in range(5)]
    return settings | {"seeds": {"rows": seeds}, "sweep": {"train.lr": [3e-3, 1e30]}}


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    return train.run(study(base, tmp_path_factory.mktemp("whole")), progress=Quiet())


def kept(folder) -> list[str]:
    return sorted(name.partition(".")[0] for name in os.listdir(f"{folder}/best"))


def top(folder, most: int = 4) -> list[str]:
    done = rows(folder).query("status == 'completed'")
    ranked = done.assign(worse=-done["final_score"]).sort_values(["worse", "trial"])
    return ranked["trial"].head(most).tolist()


def test_the_best_are_kept_and_averaged(whole):
    best, found = top(whole), store.load(whole).soups
    assert kept(whole) == sorted(best)
    assert set(rows(whole)["status"]) == {"completed", "diverged"}
    wise = found.query("kind == 'wise'")
    assert [(*m,) for m in wise["members"]][:: 2 * len(soups.ALPHAS)] == [(name,) for name in best]
    assert wise["alpha"].tolist() == [alpha for _ in best for alpha in soups.ALPHAS for _ in range(2)]
    mixed = found.query("kind != 'wise'")
    assert mixed["alpha"].isna().all()
    inits = rows(whole).set_index("trial").loc[best, "init_seed"]
    sets = [sorted(best), *(sorted(group.index) for _, group in inits.groupby(inits) if len(group) > 1)]
    assert inits.nunique() == 2
    assert len(sets) in {2, 3}, "there is a soup of all, and one of those that share their start"
    uniform = [sorted(members) for members in mixed.query("kind == 'uniform'")["members"]]
    assert sorted(uniform) == sorted(sets * 2)
    for _, row in mixed.query("kind == 'greedy'").iterrows():
        assert {*row["members"]} <= {*best}
        assert row["of"] == (4 if np.isnan(row["init_seed"]) else (inits == row["init_seed"]).sum())
    assert set(found["split"]) == {"dev", "test"}
    assert found["loss"].notna().all()
    assert set(pd.read_parquet(f"{whole}/soups")) == set(found)
    dev = found.query("split == 'dev'")
    alone = wise.query("split == 'dev' and alpha == 1")["accuracy"].max()
    assert (dev.query("kind == 'greedy'")["accuracy"].max() >= alone).all()


def test_the_end_of_the_line_is_the_trial_itself(whole):
    run = store.load(whole)
    ends = run.soups.query("kind == 'wise' and alpha == 1").assign(trial=lambda x: x["members"].str[0])
    last = run.evals.sort_values("step").groupby(["trial", "split"]).last()
    for row in ends.itertuples():
        expected = last.loc[(row.trial, row.split)]
        assert row.loss == pytest.approx(expected["loss"], abs=1e-5)
        assert row.accuracy == expected["accuracy"]


def test_scores_are_those_of_averages_taken_by_hand(base, whole, tmp_path):
    """Of models that were trained again, with rows for all words."""
    settings = study(base, tmp_path)
    (group,) = groups.prepare(settings, expand(settings))
    best = set(top(whole))
    pool = groups.pooled(group, 4, jax.devices()[:1])
    members = [trial for trial in group.trials if trial.id in best]
    pool.fill({slot: groups.entry(trial, group) for slot, trial in enumerate(members)})
    total = group.lengths[members[0].id].total
    for step in range(0, total, group.recipe.every):
        pool.run(min(group.recipe.every, total - step))
    ends = [groups.weights(group, pool.take(slot)) for slot in range(4)]
    mean = {name: np.mean([end[name] for end in ends], axis=0) for name in ends[0]}
    model, _ = group.whole()
    split = group.task.evals["test"]
    with jax.default_matmul_precision("highest"):
        rows = pad(jax.tree.map(jax.numpy.asarray, split), jax.numpy.arange(len(split.labels)), 16)
        logits = np.asarray(model.apply(jax.tree.map(jax.numpy.asarray, mean), rows).logits)
    found = store.load(whole).soups.query("kind == 'uniform' and of == 4 and split == 'test'").iloc[0]
    assert found["loss"] == pytest.approx(metrics.loss(logits, split.labels), abs=1e-4)
    assert found["accuracy"] == metrics.score(("accuracy",), logits, split.labels)["accuracy"]


def test_of_any_method_the_end_of_the_line_is_the_trial(base, tmp_path):
    """Of what owns all, a part, low-rank maps, or adapters; each is a program of its own."""
    methods = ["lora(rank=2)", "adapter(size=2)", "bitfit"]
    seeds = {"rows": [{"init": 1, "order": order} for order in (1, 2)]}
    changes = {"eval": {"soups": 2}, "seeds": seeds, "sweep": {"method": methods}, "train": {"epochs": 1, "lr": 0.03}}
    encoder = base["model"].partition("|")[0]  # an LSTM has no place for adapters
    run = store.load(train.run(study(base, tmp_path, model=encoder, **changes), progress=Quiet()))
    line = run.soups.query("kind == 'wise'").assign(trial=lambda x: x["members"].str[0])
    last = run.evals.sort_values("step").groupby(["trial", "split"]).last()
    for row in line.query("alpha == 1").itertuples():
        assert row.loss == pytest.approx(last.loc[(row.trial, row.split)]["loss"], abs=1e-5)
    found = line.set_index(["method", "trial", "split", "alpha"])["loss"].unstack()
    assert len(found) == 3 * 2 * 2
    assert (found[0.0] != found[1.0]).all()
    mixed = run.soups.query("kind == 'uniform' and split == 'dev'")
    assert sorted(mixed["method"].str.partition("(")[0]) == ["adapter", "bitfit", "lora"]
    assert mixed["init_seed"].tolist() == [1, 1, 1], "all share their start: there is one soup, not two"


@pytest.mark.parametrize("blocks", [(4,), (5, 4)])
def test_a_stopped_study_goes_on_bit_for_bit(base, whole, tmp_path, blocks):
    settings = study(base, tmp_path)
    for block in blocks:
        stopped(settings, block)
    assert not os.listdir(tmp_path / "run" / "soups")
    train.run(settings, progress=Quiet())
    same_bits(tmp_path / "run", whole)
    same(tmp_path / "run", whole)


def same(one, other) -> None:
    pd.testing.assert_frame_equal(*(store.load(each).soups for each in (one, other)), check_exact=True)
    assert kept(one) == kept(other)
    for name in kept(one):
        a, b = (Path(folder) / "best" / f"{name}.safetensors" for folder in (one, other))
        assert a.read_bytes() == b.read_bytes()


class Killed(Exception):
    pass


@pytest.mark.parametrize("where", ["append", "settle", "serve", "write"])
def test_a_killed_study_ends_with_the_same(base, whole, tmp_path, monkeypatch, where):
    """Whatever it is that did not happen any more."""
    settings, times = study(base, tmp_path), []

    def die(*args, **kwargs):
        times.append(1)
        if len(times) == (1 if where == "serve" else 2):
            raise Killed
        return real(*args, **kwargs)

    owner, name = {
        "append": (store.Store, "append"),
        "settle": (Best, "settle"),
        "serve": (Best, "serve"),
        "write": (files, "save"),
    }[where]
    real = getattr(owner, name)
    monkeypatch.setattr(owner, name, die)
    with pytest.raises(Killed):
        train.run(settings, progress=Quiet())
    monkeypatch.setattr(owner, name, real)
    train.run(settings, progress=Quiet())
    same_bits(tmp_path / "run", whole)
    same(tmp_path / "run", whole)


def test_added_trials_compete_and_what_is_complete_is_left_alone(base, whole, tmp_path):
    few = study(base, tmp_path, seeds={"rows": base["seeds"]["rows"][:3]})
    train.run(few, progress=Quiet())
    (file,) = (tmp_path / "run" / "soups").iterdir()
    before = file.stat().st_mtime_ns
    train.run(few, progress=Quiet())
    assert file.stat().st_mtime_ns == before
    train.run(study(base, tmp_path), progress=Quiet())
    assert [file] == list((tmp_path / "run" / "soups").iterdir())
    same(tmp_path / "run", whole)
    with pytest.raises(BadInput, match=r"holds another study: eval\.soups: 4 in the run folder, None now"):
        train.run(study(base, tmp_path, eval={"soups": None}), progress=Quiet())


def test_a_file_that_is_gone_or_garbled_only_leaves_its_trial_out(base, tmp_path):
    settings = study(base, tmp_path, eval={"soups": 3})
    train.run(settings, progress=Quiet())
    first, second, third = (tmp_path / "run" / "best" / f"{name}.safetensors" for name in top(tmp_path / "run", 3))
    first.unlink()
    content = bytearray(second.read_bytes())
    content[-1] ^= 1
    second.write_bytes(content)
    with pytest.warns(Note) as said:
        train.run(settings, progress=Quiet())
    assert sorted(str(note.message).partition(": ")[0] for note in said) == sorted(map(str, (first, second)))
    assert any("its sum is another" in str(note.message) for note in said)
    found = store.load(tmp_path / "run").soups
    assert {name for members in found["members"] for name in members} == {third.name.partition(".")[0]}
    assert set(found["kind"]) == {"wise"}, "of one trial there is no soup"


def test_never_more_files_than_so_many_and_those_of_a_block(base, tmp_path, monkeypatch):
    seen, settle = [], Best.settle

    def count(self):
        seen.append(len(kept(tmp_path / "run")))
        settle(self)
        seen.append(len(kept(tmp_path / "run")))

    monkeypatch.setattr(Best, "settle", count)
    train.run(study(base, tmp_path, eval={"soups": 1}), progress=Quiet())
    assert max(seen[::2]) <= 2
    assert max(seen[1::2]) == 1


def test_it_is_refused_where_no_process_has_all_trials(base, tmp_path, monkeypatch):
    settings = study(base, tmp_path)
    with pytest.raises(BadInput, match=r"eval\.soups: averages are of all trials .* run without --shard"):
        train.run(settings, progress=Quiet(), shard=(1, 2))
    monkeypatch.setattr(train.processes, "count", lambda: 2)
    with pytest.raises(BadInput, match=r"eval\.soups: not with several processes"):
        train.run(settings, progress=Quiet())


def test_a_study_of_soups_gives_its_trials_no_other_name():
    grid = SeedGrid(init=1, order=1)
    assert expand(Study(seeds=grid)) == expand(Study(seeds=grid, eval=EvalConfig(soups=4)))


def test_a_run_without_has_neither_folder_and_no_rows(base, tmp_path):
    path = train.run(
        study(base, tmp_path, eval={"soups": None}, seeds={"rows": base["seeds"]["rows"][:1]}), progress=Quiet()
    )
    assert not {"best", "soups"} & set(os.listdir(path))
    assert store.load(path).soups.empty
    assert shards.files(Folder.at(path), "soups") == []
