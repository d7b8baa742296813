"""Studies from YAML to rows: a grid, a resume, added seeds, a sweep, a plan, and what is refused."""

import subprocess
import sys
import weakref
from functools import partial

import jax
import numpy as np
import pandas as pd
import pytest
import toys
import yaml
from studies import Quiet, rows, same_bits, study

from jaxft import cli, forecast
from jaxft.bench import ours
from jaxft.engine import groups, memory
from jaxft.engine.pool import Pool
from jaxft.errors import BadInput, Note
from jaxft.folder import store
from jaxft.loop import train
from jaxft.study.trials import expand


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A study of 2 x 3 trials on files of our own, as YAML would give it."""
    return toys.light(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def bert(base):
    """The same of the encoder, for what an LSTM has not, or too small."""
    return base | {"model": base["model"].partition("|")[0]}


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """The study run from beginning to end."""
    return train.run(study(base, tmp_path_factory.mktemp("whole")), progress=Quiet())


def test_every_trial_gets_its_row_its_curves_and_its_predictions(whole):
    run = store.load(whole)
    assert len(run.trials) == 6
    assert set(run.trials["status"]) == {"completed"}
    assert set(run.trials["steps"]) == {10}
    assert set(zip(run.trials["init_seed"], run.trials["order_seed"], strict=True)) == {
        (i, o) for i in (1, 2) for o in (1, 2, 3)
    }
    assert sorted(run.evals[run.evals["trial"] == run.trials["trial"][0]]["step"]) == [2, 4, 6, 8, 10]
    losses = run.losses
    assert {len(x) for x in losses["train_loss"]} == {10}
    assert np.isfinite(np.stack(list(losses["train_loss"]))).all()
    assert len({x.tobytes() for x in losses["train_loss"]}) == 6, "two trials have the same losses"
    final = run.predictions.query("at == 'final'").set_index("trial")["logits"]
    truth = run.examples.query("split == 'dev'").sort_values("index")["label"].to_numpy()
    for row in run.trials.itertuples():
        assert row.final_score == np.mean(final[row.trial].argmax(axis=1) == truth)
        curve = run.evals[run.evals["trial"] == row.trial]
        assert row.best_score == curve["accuracy"].max()
        assert row.majority_score == max(np.mean(truth), 1 - np.mean(truth))


def test_an_interrupted_study_goes_on_to_the_same_rows(base, whole, tmp_path):
    class Stop(Quiet):
        def block(self, *args):
            super().block(*args)
            if self.blocks == 6:
                raise KeyboardInterrupt

    settings = study(base, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train.run(settings, progress=Stop())
    before = rows(tmp_path / "run")
    assert 0 < len(before) < 6
    again = Quiet()
    train.run(settings, progress=again)
    assert len(again.ended) == 6 - len(before), "a finished trial was run again"
    same_bits(tmp_path / "run", whole)
    nothing = Quiet()
    train.run(settings, progress=nothing)
    assert nothing.blocks == 0


def test_added_seeds_add_only_their_trials_and_change_no_other(base, whole, tmp_path):
    train.run(study(base, tmp_path, seeds={"order": "2..3"}), progress=Quiet())
    added = Quiet()
    train.run(study(base, tmp_path), progress=added)
    assert {end.trial.seeds.order for end in added.ended} == {1}
    same_bits(tmp_path / "run", whole)


def test_a_sweep_runs_in_one_pool_with_trials_of_unequal_length(base, tmp_path):
    """Floats, epochs and training sizes side by side; only the batch size takes another program."""
    sweep = {"train.lr": [1e-3, 1e30], "train.epochs": [2, 3], "task.n_train": [8, None]}
    settings = study(base, tmp_path, seeds={"init": 1, "order": "1..2"}, sweep=sweep, eval={"every": 2})
    watched = Quiet()
    train.run(settings, progress=watched)
    run = rows(tmp_path / "run")
    assert len(run) == 16
    assert len(store.load(tmp_path / "run").resolved) == 1, "more than one compile group"
    wild = run["hp.train.lr"] > 1
    assert set(run[wild]["status"]) == {"diverged"}
    assert set(run[wild]["reason"]) <= {"non_finite_loss", "non_finite_gradient", "non_finite_logits"}
    calm = run[~wild]
    assert sorted(zip(calm["n_train"], calm["steps"], strict=True)) == sorted(2 * [(8, 4), (8, 6), (20, 10), (20, 15)])
    seen = sum(end.n_train * end.trial.fixed["train.epochs"] for end in watched.ended if end.status == "completed")
    tried = sum(4 * len(end.losses) for end in watched.ended if end.status == "diverged")
    assert watched.examples == seen + tried  # 20 and 8 are whole batches of 4
    assert watched.taken == sum(len(end.losses) for end in watched.ended)


def test_a_stratified_subset_is_another_program_of_the_same_study(base, tmp_path):
    """Its batches are those that the host reckons, and its classes are in proportion."""
    sweep = {"task.stratified": [False, True], "task.n_train": [8, 12]}
    settings = study(base, tmp_path, seeds={"init": 1, "order": 1, "data": "1..3"}, sweep=sweep, eval={"every": 2})
    found = groups.prepare(settings, expand(settings))
    assert [group.recipe.strata for group in found] == [0, 2]
    assert found[0].name == groups.prepare(settings, expand(settings)[:1])[0].name
    group = found[1]
    labels = np.asarray(group.task.train.labels)
    share = labels.mean()
    pool = groups.pooled(group, 6, jax.devices()[:1])
    pool.fill({slot: groups.entry(trial, group) for slot, trial in enumerate(group.trials)})
    for slot, trial in enumerate(group.trials):
        plan = pool.take(slot).plan
        chosen = sorted(set(plan.ravel()) - {-1})
        assert len(chosen) == trial.fixed["task.n_train"]
        assert labels[chosen].sum() == pytest.approx(share * len(chosen), abs=0.5)
        assert np.array_equal(plan, ours.batches(group, trial, len(plan)))


def test_sizes_evaluated_per_epoch_have_pools_of_their_own(base, tmp_path):
    """Their intervals differ, so their blocks do; one fingerprint of the data binds them all the same."""
    sweep = {"task.n_train": [8, None]}
    settings = study(base, tmp_path, seeds={"init": 1, "order": 1}, sweep=sweep)
    train.run(settings, progress=Quiet())
    (decided,) = store.load(tmp_path / "run").resolved.values()
    assert decided["slots"] == {1: 2, 2: 2}
    steps = store.load(tmp_path / "run").evals.groupby("trial")["step"].apply(list)
    assert sorted(steps) == [[1, 2, 3, 4], [2, 4, 6, 8, 10]]
    again = Quiet()
    train.run(settings, progress=again)
    assert again.blocks == 0


def test_an_interval_longer_than_the_trial_means_one_evaluation_at_its_end(base, tmp_path):
    settings = study(base, tmp_path, seeds={"init": 1, "order": 1}, eval={"every": 10**9})
    train.run(settings, progress=Quiet())
    run = store.load(tmp_path / "run")
    assert run.evals["step"].tolist() == [10]
    assert len(run.losses["train_loss"][0]) == 10


def test_a_group_leaves_no_memory_to_the_next(base, tmp_path, monkeypatch):
    """Two batch sizes, two programs: the pool of the first is gone when that of the second is made."""
    alive, made = weakref.WeakSet(), []

    def watched(*args):
        made.append(len(alive))
        pool_ = pooled(*args)
        alive.add(pool_)
        return pool_

    pooled = train.pooled
    monkeypatch.setattr(train, "pooled", watched)
    sweep = {"train.batch_size": [4, 5]}
    train.run(study(base, tmp_path, seeds={"init": 1, "order": 1}, sweep=sweep), progress=Quiet())
    assert made == [0, 0]
    assert len(store.load(tmp_path / "run").resolved) == 2


def test_collapse_rules_stop_a_trial_and_say_so(base, tmp_path):
    settings = study(base, tmp_path, seeds={"init": 1, "order": 1}, train={"lr": 0.0}, stop={"majority": 2})
    train.run(settings, progress=Quiet())
    (row,) = rows(tmp_path / "run").itertuples()
    assert (row.status, row.reason, row.steps) == ("stopped", "majority", 4)


def test_a_plan_trains_nothing_and_knows_what_is_done(bert, whole, tmp_path):
    settings = study(bert, tmp_path, policy="start_many(fraction=0.4, keep=2)")
    (fresh,) = forecast.plan(settings)
    assert not (tmp_path / "run").exists()
    assert (fresh.trials, fresh.done, fresh.steps, fresh.every, fresh.slots) == (6, 0, (10, 10), 2, 2)
    (group,) = groups.prepare(settings, expand(settings))
    weights = memory.held(jax.eval_shape(group.recipe.model.init, jax.random.key(0)))
    assert fresh.memory.per_replica > 3 * weights > 200_000  # two moments besides
    assert fresh.seconds > 0
    text = forecast.describe(settings, [fresh])
    assert "6 trials" in text
    assert "a replica" in text
    # Six trials of two of five evaluations, and two of the other three.
    assert "policy    start_many(fraction=0.4, keep=2): 60% of all steps if scores were equal" in text


REFUSED = {
    "a batch above the training set": ({"train": {"batch_size": 64}}, "train.batch_size: 64", "20"),
    "a subset above the training set": ({"task": {"n_train": 21}}, "task.n_train: 21", "20"),
    "a length beyond the positions": ({"task": {"max_length": 99}}, "max_length", "16"),
    "more devices than there are": ({"pool": {"devices": 99}}, "pool.devices: 99", "8"),
    "an unknown metric": ({"task": {"metric": "bleu"}}, "bleu", "accuracy"),
    "a folder that is not there": ({"model": "./nowhere/at all"}, "nowhere", "folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_line_that_names_what_was_found_and_accepted(bert, tmp_path, case):
    changes, *words = REFUSED[case]
    with pytest.raises(BadInput) as error:
        train.run(study(bert, tmp_path, **changes), progress=Quiet())
    line = str(error.value)
    assert "\n" not in line
    assert all(word in line for word in words), line


def test_a_width_that_does_not_fit_says_what_would(base, tmp_path, monkeypatch):
    (fits,) = forecast.plan(study(base, tmp_path))
    bound = fits.memory.shared + int(3.5 * fits.memory.per_replica)
    monkeypatch.setattr(memory, "limit", lambda devices: bound)
    with pytest.raises(BadInput, match=r"pool.slots: 6 replicas .* pool.slots: [23] would fit"):
        train.run(study(base, tmp_path, pool={"slots": 6}), progress=Quiet())
    (auto,) = forecast.plan(study(base, tmp_path, pool={"slots": "auto"}))
    assert auto.slots == 2, "4 do not fit, 2 do"


def test_the_width_stays_with_the_study_unless_another_is_asked_for(base, whole, tmp_path):
    train.run(study(base, tmp_path, seeds={"init": 1, "order": 1}), progress=Quiet())
    train.run(study(base, tmp_path, seeds={"init": 1, "order": "1..2"}, pool={"slots": "auto"}), progress=Quiet())
    assert set(rows(tmp_path / "run")["slots_per_device"]) == {2}
    with pytest.warns(Note, match=r"pool.slots: 3, .* started with 2"):
        train.run(study(base, tmp_path, pool={"slots": 3}), progress=Quiet())
    assert rows(tmp_path / "run")["slots_per_device"].value_counts().to_dict() == {3: 4, 2: 2}
    train.run(study(base, tmp_path, seeds={"init": "1..3", "order": "1..3"}, pool={"slots": "auto"}), progress=Quiet())
    assert rows(tmp_path / "run")["slots_per_device"].value_counts().to_dict() == {2: 5, 3: 4}


def test_finished_trials_survive_what_is_refused(base, tmp_path):
    settings = study(base, tmp_path, seeds={"init": 1, "order": 1})
    train.run(settings, progress=Quiet())
    before = rows(tmp_path / "run")
    for changes in ({"train": {"lr": 1.0}}, {"seeds": {"init": 2, "order": 1}}, {"train": {"batch_size": 99}}):
        with pytest.raises(BadInput):
            train.run(study(base, tmp_path, **changes), progress=Quiet())
    pd.testing.assert_frame_equal(rows(tmp_path / "run"), before, check_exact=True)


def test_the_command_runs_in_a_process_of_its_own(base, tmp_path):
    """Exit codes, one line on stderr, plain progress where there is no terminal."""
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(base | {"out": str(tmp_path / "run"), "seeds": {"init": 1, "order": "1..2"}}))

    def command(*words):
        return subprocess.run(
            [sys.executable, "-m", "jaxft", *words], capture_output=True, text=True, timeout=300, check=False
        )

    ran = command("run", str(path))
    assert ran.returncode == 0, ran.stderr
    assert str(tmp_path / "run") in ran.stdout
    refused = command("run", str(path), "--train.lrr", "1")
    assert refused.returncode == cli.BAD_INPUT
    assert refused.stderr.startswith("jaxft: ")
    assert refused.stderr.count("\n") == 1
    assert "train.lr" in refused.stderr
    assert len(rows(tmp_path / "run")) == 2


def test_a_regression_with_halves_is_scored_on_both(base, tmp_path):
    """Numbers for labels, dev in two halves: the rows hold the correlation on each, and one chooses nothing."""
    data = tmp_path / "data"
    toys.sentences(data)
    for file in data.glob("*.tsv"):  # the label of a sentence becomes the mean of its words' numbers
        head, *lines = file.read_text().splitlines()
        words = [line.split("\t")[0] for line in lines]
        means = [np.mean([int(word[1:]) for word in text.split()]) / 25 for text in words]
        file.write_text("\n".join([head, *(f"{t}\t{m:.3f}" for t, m in zip(words, means, strict=True))]) + "\n")
    task = {"path": str(data), "regression": True, "split_dev": 3}
    settings = study(base, tmp_path, task=task, seeds={"init": 1, "order": "1..2"}, train={"epochs": 6, "lr": 1e-2})
    train.run(settings, progress=Quiet())
    run = store.load(tmp_path / "run")
    assert set(run.trials["metric"]) == {"pearson_spearman"}
    assert set(run.trials["majority_score"]) == {0.0}
    assert {"pearson", "spearman", "pearson_spearman", "loss"} <= set(run.evals)
    truth = {name: part.sort_values("index")["label"].to_numpy() for name, part in run.examples.groupby("split")}
    assert (len(truth["dev"]), len(truth["test"])) == (7, 6)
    for row in run.trials.itertuples():
        curves = run.evals[run.evals["trial"] == row.trial].pivot(index="step", columns="split")
        assert row.best_score == curves["pearson_spearman"]["dev"].max()
        assert row.test_at_best == curves["pearson_spearman"]["test"][row.best_step]
        assert row.test_at_final == curves["pearson_spearman"]["test"].iloc[-1]
        for split, labels in truth.items():
            logits = run.predictions.query("trial == @row.trial and split == @split and at == 'final'")["logits"].item()
            assert logits.shape == (len(labels), 1)
            assert curves["loss"][split].iloc[-1] == pytest.approx(np.mean((logits[:, 0] - labels) ** 2), rel=1e-6)
        losses = run.losses.set_index("trial")["train_loss"][row.trial]
        assert losses[-5:].mean() < losses[:5].mean()


def test_what_trials_cost_and_the_longest_first(base, tmp_path):
    """Costs are columns of trials/, in proportion to the examples; the results are those without."""
    sizes = {"sweep": {"task.n_train": [8, 20]}, "seeds": {"init": 1, "order": "1..2"}, "eval": {"every": 2}}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with_costs = sizes | {"eval": {"every": 2, "costs": True}}
    one, other = (study(base, tmp_path / name, **how) for name, how in (("a", with_costs), ("b", sizes)))
    found, plain = rows(train.run(one, progress=Quiet())), rows(train.run(other, progress=Quiet()))
    assert (found["infer_per_second"] > 0).all()
    assert found["infer_per_second"].nunique() == 1
    flops = found.groupby("n_train")["train_flops"].unique()
    assert flops[20][0] / flops[8][0] == pytest.approx(20 / 8)
    assert not {"train_flops", "infer_per_second"} & set(plain)
    np.testing.assert_array_equal(found["final_score"], plain["final_score"])
    order = store.load(tmp_path / "b" / "run").trials
    first = order[order["n_train"] == 20]["slot"]
    assert sorted(first) == [0, 1], "those with more steps were the first to have a slot"


def _close(one, other):
    """Whether two runs have the same trials, with the same losses up to rounding."""
    found = [store.load(path).losses.set_index("trial")["train_loss"].sort_index() for path in (one, other)]
    assert list(found[0].index) == list(found[1].index)
    np.testing.assert_allclose(*(np.stack(list(losses)) for losses in found), rtol=0, atol=1e-5)


def test_slots_together_as_on_an_accelerator_and_in_turn_as_on_a_cpu_are_the_same(base, whole, tmp_path, monkeypatch):
    """Up to rounding."""
    monkeypatch.setattr(groups, "Pool", partial(Pool, together=True))
    _close(whole, train.run(study(base, tmp_path), progress=Quiet()))


def test_a_large_model_takes_fewer_rows_where_they_do(bert, tmp_path, monkeypatch):
    """Which are part of the numerics, and kept with the study; the same up to rounding."""
    for name in ("plain", "fewer"):
        (tmp_path / name).mkdir()
    plain = study(bert, tmp_path / "plain")
    monkeypatch.setattr(groups, "TWICE", 0)
    found = study(bert, tmp_path / "fewer")
    (group,) = groups.prepare(found, expand(found))
    assert 0 < group.recipe.layout.fewer == group.decided["fewer"] < group.recipe.layout.rows
    train.run(found, progress=Quiet())
    monkeypatch.undo()
    (small,) = groups.prepare(plain, expand(plain))
    assert small.recipe.layout == group.recipe.layout._replace(fewer=0)
    _close(train.run(plain, progress=Quiet()), tmp_path / "fewer" / "run")
