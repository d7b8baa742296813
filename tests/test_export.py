"""Trials as checkpoints: the parameters that a run had, read by torch and by us; what is said; what is refused."""

import importlib.util
import json
import shutil
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from studies import Quiet, rows, study
from test_families import FAMILIES

from jaxft import cli, models
from jaxft.data.batch import pad
from jaxft.engine import groups
from jaxft.errors import BadInput
from jaxft.folder import store
from jaxft.loop import train
from jaxft.models import checkpoint, family
from jaxft.study.trials import expand
from jaxft.trained import export, replay


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    settings = toys.settings(tmp_path_factory.mktemp("study"))
    return settings | {"seeds": {"init": "1..2", "order": "1..2"}, "pool": {"slots": 2, "devices": 1}}


@pytest.fixture(scope="module")
def ran(base, tmp_path_factory) -> Path:
    return Path(train.run(study(base, tmp_path_factory.mktemp("ran")), progress=Quiet()))


def logits(folder: Path, run: store.Run) -> np.ndarray:
    """On the run's dev set, by our model with the weights and the head of a checkpoint."""
    group = groups.prepare(run.study, expand(run.study))[0]
    found = models.open(str(folder))
    model = models.assemble(found.config, len(group.task.labels))
    shapes = {name: x.shape for name, x in jax.eval_shape(model.init, jax.random.key(0)).items()}
    kind = family.find(found.config)._replace(fresh=())  # its head too
    params = checkpoint.pick(checkpoint.read(folder), shapes, kind, kind.names(found.config))
    assert params.keys() == shapes.keys()
    split = group.task.evals["dev"]
    batch = pad(jax.tree.map(jnp.asarray, split), jnp.arange(len(split.labels)), 16)
    with jax.default_matmul_precision("highest"):
        return np.asarray(model.apply(jax.tree.map(jnp.asarray, params), batch).logits)


def torchs(folder: Path, run: store.Run) -> list[np.ndarray]:
    """The same by torch, which must find every parameter and no other."""
    import torch
    from transformers import AutoModelForSequenceClassification

    model, told = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    split = groups.prepare(run.study, expand(run.study))[0].task.evals["dev"]
    with torch.no_grad():
        return [
            model.eval()(torch.tensor(np.asarray(split.tokens[a:b], np.int64))[None]).logits[0].numpy()
            for a, b in pairwise(np.asarray(split.offsets))
        ]


def recorded(run: store.Run, trial: str, at: str) -> np.ndarray:
    found = run.predictions.query("trial == @trial and split == 'dev' and at == @at")
    return np.asarray(found["logits"].iloc[0])


@pytest.mark.parametrize(("at", "called"), [("end", "final"), ("best", "best")])
def test_a_trial_as_it_was(ran, tmp_path, at, called):
    run = store.load(ran)
    early = run.trials.query("best_step < steps")
    trial = (early if len(early) else run.trials)["trial"].iloc[0]
    (one,) = export.export(ran, tmp_path / "out", [trial[:6]], at=at)
    assert (one.folder, one.trial) == (tmp_path / "out", trial)
    assert one.said == "its predictions on dev are the recorded ones, bit for bit"
    np.testing.assert_allclose(logits(one.folder, run), recorded(run, trial, called), atol=1e-5)
    about = json.loads((one.folder / "jaxft.json").read_text())
    row = run.trials.set_index("trial").loc[trial]
    assert about["step"] == row["steps" if at == "end" else "best_step"]
    assert about["seeds"]["order"] == row["order_seed"]
    card = (one.folder / "README.md").read_text()
    score = row["final_score" if at == "end" else "best_score"]
    assert f"{row['metric']} on dev: {score:.4f}" in card
    assert f"{about['rank']} of 4" in card
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_torch_loads_it_and_predicts_the_same(ran, tmp_path):
    pytest.importorskip("torch")
    from transformers import pipeline

    run = store.load(ran)
    best = run.trials.sort_values(["final_score", "trial"], ascending=[False, True])["trial"].iloc[0]
    (one,) = export.export(ran, tmp_path / "out", best=1)
    assert one.trial == best
    np.testing.assert_allclose(torchs(one.folder, run), recorded(run, best, "final"), atol=1e-5)
    answer = pipeline("text-classification", model=str(one.folder))("any text")
    assert answer[0]["label"] in groups.prepare(run.study, expand(run.study))[0].task.labels


ENCODERS = {name: config for name, config in FAMILIES.items() if name != "lstm"} | {"roberta": toys.ROBERTA}


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_of_every_family(base, tmp_path, name):
    """Written, read again, and the same predictions; also by torch, where it is there."""
    config = ENCODERS[name] | {"vocab_size": max(ENCODERS[name]["vocab_size"], len(toys.tokenizer()))}
    # Torch takes these from the tokens, ours from their places.
    config |= {"pad_token_id": toys.tokenizer().pad_token_id, "eos_token_id": toys.tokenizer().sep_token_id}
    assert config["model_type"] in export.CONFIG_MAPPING
    _, params = toys.encoder(config)
    checkpoint.save(tmp_path / "encoder", config, params, toys.tokenizer())
    settings = study(base, tmp_path, model=str(tmp_path / "encoder"), seeds={"init": 1, "order": 1})
    run = store.load(train.run(settings, progress=Quiet()))
    (one,) = export.export(tmp_path / "run", tmp_path / "out", best=1)
    np.testing.assert_allclose(logits(one.folder, run), recorded(run, one.trial, "final"), atol=1e-5)
    if importlib.util.find_spec("torch"):
        np.testing.assert_allclose(torchs(one.folder, run), recorded(run, one.trial, "final"), atol=1e-5)


def test_of_methods_that_own_a_part_or_begin_before_step_0(base, tmp_path):
    methods = ["lora(rank=2)", "bitfit", "child_tuning_d(p=0.5)", "mixout(p=0.5)|reinit(layers=1)"]
    changes = {"seeds": {"init": 1, "order": 1}, "sweep": {"method": methods}}
    run = store.load(train.run(study(base, tmp_path, **changes), progress=Quiet()))
    found = list(export.export(tmp_path / "run", tmp_path / "out", run.trials["trial"]))
    assert len(found) == 4
    for one in found:
        assert one.folder == tmp_path / "out" / one.trial
        assert "bit for bit" in one.said
        np.testing.assert_allclose(logits(one.folder, run), recorded(run, one.trial, "final"), atol=1e-5)


@pytest.fixture(scope="module")
def kept(base, tmp_path_factory) -> Path:
    """A run that keeps three of its four trials."""
    settings = base | {"task": base["task"] | {"split_dev": 1}, "eval": base["eval"] | {"soups": 3}}
    folder = tmp_path_factory.mktemp("kept")
    changes = {"sweep": {"method": ["vanilla", "lora(rank=2)"]}, "seeds": {"init": 1, "order": "1..4"}}
    return Path(train.run(study(settings, folder, **changes), progress=Quiet()))


def test_what_a_run_kept_is_not_trained_again(kept, tmp_path, monkeypatch):
    run = store.load(kept)
    there = sorted(path.stem for path in (kept / "best").iterdir())
    assert len(there) == 6, "three of each method"
    with monkeypatch.context() as patched:
        patched.setattr(replay, "_trained", None)
        found = list(export.export(kept, tmp_path / "kept", there))
    for one in found:
        assert one.said.startswith("as the run kept it: its logits on dev, of another program, are those recorded")
        assert float(one.said.rpartition(" ")[2]) < 1e-5
        np.testing.assert_allclose(logits(one.folder, run), recorded(run, one.trial, "final"), atol=1e-5)
    (again,) = export.export(kept, tmp_path / "again", there[:1], at="best")
    assert "bit for bit" in again.said, "of another step it kept nothing"
    other = next(trial for trial in run.trials["trial"] if trial not in there)
    (again,) = export.export(kept, tmp_path / "other", [other])
    assert "bit for bit" in again.said
    same = kept.with_name("damaged")
    shutil.copytree(kept, same)
    (same / "best" / f"{there[0]}.safetensors").write_bytes(b"torn")
    (trained,) = export.export(same, tmp_path / "torn", there[:1])
    assert "bit for bit" in trained.said
    (one,) = (one for one in found if one.trial == there[0])
    mine, theirs = (checkpoint.read(each.folder) for each in (one, trained))
    assert mine.keys() == theirs.keys()
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine), "the file has the bits of the training"


@pytest.mark.parametrize("kind", ["greedy", "uniform"])
def test_a_soup_predicts_what_the_run_scored(kept, tmp_path, kind, capsys):
    run = store.load(kept)
    assert cli.main(["export", str(kept), "--soup", kind, "--out", str(tmp_path / "soup")]) == 0
    assert f"{kind} soup of " in capsys.readouterr().out
    about = json.loads((tmp_path / "soup" / "jaxft.json").read_text())
    rows = run.soups[run.soups["kind"] == kind]
    best = rows[rows["split"] == "dev"]["accuracy"].max()
    assert about["dev"] == best
    assert float(about["replay"].split()[6]) < 1e-5
    (row,) = (row for row in rows.to_dict("records") if row["split"] == "dev" and [*row["members"]] == about["members"])
    found = logits(tmp_path / "soup", run)
    truth = np.asarray(groups.prepare(run.study, expand(run.study))[0].task.evals["dev"].labels)
    loss = -np.log(np.exp(found)[np.arange(len(truth)), truth] / np.exp(found).sum(axis=1)).mean()
    assert loss == pytest.approx(row["loss"], abs=1e-5)
    (test,) = (
        row["accuracy"]
        for row in rows.to_dict("records")
        if row["split"] == "test" and [*row["members"]] == about["members"]
    )
    assert about["test"] == test
    card = (tmp_path / "soup" / "README.md").read_text()
    assert f"{best:.4f}" in card
    assert f"a {kind} soup" in card


def test_soups_that_are_not_there(ran, kept, tmp_path):
    with pytest.raises(BadInput, match=r"the run scored none; a study asks for them with eval\.soups"):
        list(export.export(ran, tmp_path / "out", soup="greedy"))
    with pytest.raises(BadInput, match="--soup: expected greedy or uniform, found 'best'"):
        list(export.export(kept, tmp_path / "out", soup="best"))
    less = kept.with_name("less")
    shutil.copytree(kept, less)
    shutil.rmtree(less / "best")
    with pytest.raises(BadInput, match="lacks some of its members"):
        list(export.export(less, tmp_path / "out", soup="uniform"))
    assert not (tmp_path / "out").exists()


def test_only_the_programs_of_the_trials_are_prepared(kept, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(replay, "prepare", lambda study, trials: seen.append(trials) or groups.prepare(study, trials))
    trial = store.load(kept).trials.query("method == 'vanilla'")["trial"].iloc[0]
    list(export.export(kept, tmp_path / "out", [trial]))
    assert [{trial.fixed["method"] for trial in trials} for trials in seen] == [{"vanilla"}]


def test_more_trials_than_slots_and_another_width(ran, tmp_path, monkeypatch):
    """Three rounds of a narrower pool: what differs is said."""
    real = replay.pooled
    monkeypatch.setattr(replay, "pooled", lambda group, slots, devices: real(group, 1, devices))
    found = list(export.export(ran, tmp_path / "out", best=3))
    assert len(found) == 3
    assert all("slots per device 1 (then 2)" in one.said for one in found)
    run = store.load(ran)
    for one in found:
        np.testing.assert_allclose(logits(one.folder, run), recorded(run, one.trial, "final"), atol=1e-4)


def test_other_data_or_another_model_are_refused(base, ran, tmp_path):
    file = Path(base["task"]["path"]) / "train.tsv"
    before = file.read_text()
    lines = before.splitlines()
    file.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    try:
        with pytest.raises(BadInput, match=r"task is .* was .* model and data have to be as they were"):
            list(export.export(ran, tmp_path / "out", best=1))
    finally:
        file.write_text(before)
    assert not (tmp_path / "out").exists()


def test_a_failed_write_leaves_nothing(ran, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export.checkpoint, "save", full)
    with pytest.raises(BadInput, match=r"out: cannot be written .No space left on device"):
        list(export.export(ran, tmp_path / "out", best=1))
    assert not list(tmp_path.iterdir())


def test_what_was_not_completed_or_has_no_class_is_refused(base, tmp_path):
    lstm = base["model"] + "|lstm(hidden=4)"
    for place, changes, said in (
        ("a", {"train": {"lr": 1e30}}, "it was not completed"),
        ("b", {"model": lstm}, "Hugging Face has no class for it"),
        ("c", {"method": "adapter(size=2)"}, "no place for adapters"),
    ):
        (tmp_path / place).mkdir()
        ended = train.run(study(base, tmp_path / place, seeds={"init": 1, "order": 1}, **changes), progress=Quiet())
        with pytest.raises(BadInput, match=said):
            list(export.export(ended, tmp_path / "out", [rows(ended)["trial"][0]]))


def refused(words: list[str], capsys) -> str:
    assert cli.main(["export", *words]) == cli.BAD_INPUT
    return capsys.readouterr().err


def test_bad_words(ran, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    run, out = str(ran), str(tmp_path / "out")
    trial = rows(ran)["trial"][0]
    for words, said in (
        (["--best", "9", "--out", out], "--best 9: expected 1 to 4, its completed trials"),
        (["--best", "0", "--out", out], "--best: expected a whole number from 1, found '0'"),
        (["--best", "1"], "expected one run folder, --trial, --best or --soup, and a new folder"),
        (["--best", "1", "--trial", trial, "--out", out], "expected one run folder"),
        (["--trial", "zzz", "--out", out], "no finished trial"),
        (["--trial", "", "--out", out], "no finished trial"),
        (["--trial", trial, "--out", out, "--at", "middle"], "--at: expected end or best, found 'middle'"),
        (["--trial", trial, "--out", str(tmp_path / "full")], "is not empty; give another --out"),
        (["--trial", trial, "--out", str(tmp_path / "full" / "x")], "is no folder"),
        (["--trial", trial, "--out", str(tmp_path / "full" / "x" / "y")], "cannot be written"),
        (["--trial", trial, "--json", "x.json"], "--json and --trial: give one of them"),
    ):
        assert said in refused([run, *words], capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_the_command(ran, tmp_path, capsys):
    assert cli.main(["export", str(ran), "--best", "1", "--at", "best", "--out", str(tmp_path / "out")]) == cli.DONE
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path / 'out'}: trial ")
    assert (tmp_path / "out" / "model.safetensors").exists()
