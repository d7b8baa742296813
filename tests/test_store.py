import math
import subprocess
import sys

import endings
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from endings import ended, study, task

from jaxft.errors import BadInput
from jaxft.folder import rows
from jaxft.folder.store import DATA_SETS, Store, load
from jaxft.study import config
from jaxft.study.trials import expand


def test_the_run_folder_needs_no_jax():
    code = (
        "import sys, jaxft.folder.store, jaxft.follow.progress; sys.exit('jax' in sys.modules or 'flax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_columns_are_those_of_the_contract(tmp_path):
    endings.folder(tmp_path / "run", study(sweep={"train.lr": [1e-5, 2e-5]}))
    names = ["trial", "model", "task", "method"]
    seeds = ["init_seed", "order_seed", "dropout_seed", "noise_seed", "data_seed"]
    scores = ["metric", "best_score", "best_step", "final_score", "test_at_best", "test_at_final", "majority_score"]
    where = ["slots_per_device", "slot", "device", "earlier", "precision", "seconds", "versions"]
    expected = {
        "trials": [*names, *seeds, "hp.train.lr", "n_train", "status", "reason", "policy", "steps", *scores, *where],
        "evals": ["trial", "step", "epoch", "split", "loss", "accuracy", "f1"],
        "losses": ["trial", "train_loss"],
        "predictions": ["trial", "split", "at", "logits"],
        "examples": ["task", "split", "index", "label", "tokens"],
    }
    for kind, columns in expected.items():
        assert list(pd.read_parquet(tmp_path / "run" / kind).columns) == columns


def test_every_number_comes_back_exactly(tmp_path):
    trials = expand(study())
    ends = [ended(trial) for trial in trials[:2]]
    odd = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 0.1], np.float32)
    ends[0] = ends[0]._replace(losses=odd, steps=6, best_score=0.1 + 0.2, final_score=math.nan)
    ends[1].evaluations[0].metrics["f1"] = math.nan
    store = Store.open(tmp_path / "run", study(), {}, trials)
    store.append(ends)
    run = load(tmp_path / "run")

    rows = run.trials.set_index("trial")
    for end in ends:
        row = rows.loc[end.trial.id]
        for name in set(end._fields) & set(rows.columns):
            np.testing.assert_equal(row[name], getattr(end, name), name)
        for name, seed in end.trial.seeds._asdict().items():
            assert row[f"{name}_seed"] == seed
        kept = run.losses.set_index("trial").train_loss[end.trial.id]
        assert kept.dtype == np.float32
        assert kept.tobytes() == end.losses.tobytes()
        evals = run.evals[run.evals.trial == end.trial.id]
        assert len(evals) == len(end.evaluations)
        for (_, row), evaluation in zip(evals.iterrows(), end.evaluations, strict=True):
            np.testing.assert_equal(row[["accuracy", "f1"]].to_dict(), evaluation.metrics)
            np.testing.assert_equal(row[["step", "epoch", "split", "loss"]].to_list(), list(evaluation[:4]))
    kept = run.predictions.set_index(["trial", "split", "at"]).logits
    expected = {(end.trial.id, *at): logits for end in ends for at, logits in end.predictions.items()}
    assert set(kept.index) == set(expected)
    for place, logits in expected.items():
        assert kept[place].tobytes() == logits.tobytes()
        assert kept[place].shape == logits.shape


def test_examples_are_what_the_logits_are_about(tmp_path):
    store = Store.open(tmp_path / "run", study(), {}, expand(study()))
    store.examples(task())
    store.examples(task())
    found = load(tmp_path / "run").examples
    assert found["index"].to_list() == list(range(6))
    assert found.label.to_list() == [0, 1, 1, 0, 1, 1]
    assert [list(tokens) for tokens in found.tokens] == [[0, 1], [2, 3, 4], [5], [6, 7], [8], [9, 10]]


def test_the_study_comes_back_and_can_be_run_again(tmp_path):
    asked = study(**{"train.lr": 3e-5}, sweep={"train.batch_size": [8, 16]})
    Store.open(tmp_path / "run", asked, {"a1": {"slots": 4}}, expand(asked))
    run = load(tmp_path / "run")
    assert run.study == asked
    assert run.resolved == {"a1": {"slots": 4}}
    assert config.load(tmp_path / "run" / "study.yaml") == asked
    assert len(run.trials) == len(run.evals) == len(run.losses) == len(run.predictions) == 0


def test_a_trial_is_never_written_twice(tmp_path):
    first, second, *_ = trials = expand(study())
    store = Store.open(tmp_path / "run", study(), {}, trials)
    store.append([ended(first)])
    for again in ([ended(first)], [ended(second), ended(second)]):
        with pytest.raises(ValueError, match="has its rows already"):
            store.append(again)
    store = Store.open(tmp_path / "run", study(), {}, trials)
    assert store.done == {first.id} == Store.finished(tmp_path / "run")
    with pytest.raises(ValueError, match="has its rows already"):
        store.append([ended(first)])
    store.append([ended(second)])
    assert load(tmp_path / "run").trials.trial.to_list() == [first.id, second.id]


def test_trials_that_never_saw_an_evaluation_hide_no_column(tmp_path):
    first, second, *_ = trials = expand(study())
    store = Store.open(tmp_path / "run", study(), {}, trials)
    store.append([ended(first, "diverged", "non_finite_loss")])
    store.append([ended(second)])
    assert "accuracy" in pd.read_parquet(tmp_path / "run" / "evals").columns
    run = load(tmp_path / "run")
    assert set(run.evals.trial) == {second.id}
    assert run.trials.set_index("trial").best_score.isna()[first.id]
    assert run.trials.set_index("trial").reason[first.id] == "non_finite_loss"


def test_added_seeds_are_accepted(tmp_path):
    few, many = study(), study(**{"seeds.init": "1..4"})
    endings.folder(tmp_path / "run", few)
    before = load(tmp_path / "run")
    store = Store.open(tmp_path / "run", many, {}, expand(many))
    assert load(tmp_path / "run").study == many
    assert store.done == {trial.id for trial in expand(few)}
    missing = [trial for trial in expand(many) if trial.id not in store.done]
    assert len(missing) == 2
    store.append([ended(trial) for trial in missing])
    pd.testing.assert_frame_equal(load(tmp_path / "run").trials.iloc[:6], before.trials)


def test_older_rows_get_the_column_of_what_varies_only_now(tmp_path):
    endings.folder(tmp_path / "run", study())
    asked = study(sweep={"train.lr": [2e-5, 1e-4], "train.batch_size": [16, 8]})
    trials = expand(asked)
    store = Store.open(tmp_path / "run", asked, {}, trials)
    assert len(store.done) == 6
    store.append([ended(trial) for trial in trials if trial.id not in store.done])
    found = pd.read_parquet(tmp_path / "run" / "trials").set_index("trial")
    assert len(found) == 24
    for trial in trials:
        assert found["hp.train.lr"][trial.id] == trial.hp["train.lr"]
        assert found["hp.train.batch_size"][trial.id] == trial.fixed["train.batch_size"]


def test_settings_of_every_type_have_a_column():
    sweep = {"train.schedule": ["linear", "cosine"], "eval.every": [None, 5], "train.dropout": [0.0, 0.1]}
    trials = expand(study(sweep=sweep))
    kinds = rows.varying(trials)
    assert {name: str(kind) for name, kind in kinds.items()} == {
        "eval.every": "int64",
        "train.dropout": "double",
        "train.schedule": "string",
    }
    found = rows.tables([ended(trial) for trial in trials], kinds)["trials"].to_pandas()
    assert set(found["hp.train.schedule"]) == {"linear", "cosine"}


def test_rows_of_a_version_that_knew_no_earlier_width_stay_readable(tmp_path):
    first, second, *_ = trials = expand(study())
    store = Store.open(tmp_path, study(), {}, trials)
    store.append([ended(first), ended(second)._replace(earlier="4 slots on each of 8 devices to step 120")])
    path = tmp_path / "trials" / "000000.parquet"
    table = pq.read_table(path)
    assert table["earlier"].to_pylist() == ["", "4 slots on each of 8 devices to step 120"]
    pq.write_table(table.drop_columns("earlier"), path)
    assert load(tmp_path).trials.earlier.to_list() == ["", ""]
    assert Store.open(tmp_path, study(), {}, trials).done == {first.id, second.id}
    assert pq.read_table(path).column_names == table.column_names


def test_resolved_values_stay(tmp_path):
    trials = expand(study())
    place = tmp_path / "run"
    assert Store.peek(place) is None
    store = Store.open(place, study(), {"a1": {"width": 48, "model": "f00d"}}, trials)
    store.resolve("a1", {"slots": 4})
    kept = {"a1": {"width": 48, "model": "f00d", "slots": 4}}
    assert Store.peek(place) == kept == store.resolved
    assert Store.decided(place) == {}, "nothing binds before a trial is finished"
    store.append([endings.ended(trials[0])])
    assert Store.decided(place) == kept
    store = Store.open(place, study(), {"a1": {"width": 48}, "b2": {"width": 40}}, trials)
    assert store.resolved == kept | {"b2": {"width": 40}} == Store.peek(place)
    with pytest.raises(BadInput, match=r"resolved.yaml: a1.slots is 4 there, but 8 now"):
        store.resolve("a1", {"slots": 8})
    with pytest.raises(BadInput, match=r"a1.model is 'f00d' there, but 'beef' now"):
        Store.open(place, study(), {"a1": {"model": "beef"}}, trials)
    assert yaml.safe_load((place / "resolved.yaml").read_text()) == store.resolved


def test_a_study_of_which_no_trial_is_finished_may_be_changed(tmp_path):
    Store.open(tmp_path / "run", study(), {"a1": {"width": 48}}, expand(study()))
    other = study(**{"train.lr": 1e-3, "seeds.init": "7..8"})
    store = Store.open(tmp_path / "run", other, {"a1": {"width": 40}}, expand(other))
    assert store.resolved == {"a1": {"width": 40}}
    store.append([endings.ended(trial) for trial in expand(other)])
    assert set(load(tmp_path / "run").trials["init_seed"]) == {7, 8}


def test_versions_name_what_computes():
    assert rows.versions().startswith("jaxft 0.")
    assert ", jax 0." in rows.versions()


def test_an_empty_flush_writes_nothing(tmp_path):
    store = Store.open(tmp_path / "run", study(), {}, expand(study()))
    store.append([])
    assert not [path for kind in DATA_SETS for path in (tmp_path / "run" / kind).iterdir()]
