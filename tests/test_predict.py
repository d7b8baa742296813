"""Labels for a file: those that the run had, the mean of several, what a head of others' gives; what is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import sources
import toys
from studies import Quiet, study

from jaxft import cli
from jaxft.errors import BadInput
from jaxft.folder import store
from jaxft.loop import train
from jaxft.models import checkpoint
from jaxft.trained import export
from jaxft.trained.predict import predict


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, store.Run]:
    """Two exported trials of a run, in one folder."""
    folder = tmp_path_factory.mktemp("made")
    settings = toys.settings(folder / "study") | {"pool": {"slots": 2, "devices": 1}}
    run = train.run(study(settings, folder, seeds={"init": 1, "order": "1..2"}), progress=Quiet())
    assert len(list(export.export(run, folder / "models", best=2))) == 2
    return folder, store.load(run)


def models(folder: Path) -> list[Path]:
    return sorted((folder / "models").iterdir())


def probabilities(run: store.Run, trial: str) -> np.ndarray:
    found = run.predictions.query("trial == @trial and split == 'dev' and at == 'final'")
    shares = np.exp(np.asarray(found["logits"].iloc[0], np.float64))
    return shares / shares.sum(axis=1, keepdims=True)


def dev(folder: Path) -> Path:
    return folder / "study" / "data" / "dev.tsv"


def test_what_the_run_predicted(made):
    folder, run = made
    both = []
    for place in models(folder):
        found = predict([place], dev(folder))
        expected = probabilities(run, place.name)
        np.testing.assert_allclose(found.values, expected, atol=1e-5)
        assert found.label == [found.labels[n] for n in expected.argmax(axis=1)]
        both.append(expected)
    assert np.abs(both[0] - both[1]).max() > 1e-3
    np.testing.assert_allclose(predict(models(folder), dev(folder)).values, np.mean(both, axis=0), atol=1e-5)


def test_a_file_of_many_rows_and_other_columns(made, tmp_path):
    """More than a batch; in the file's order; a column by its name."""
    folder, _ = made
    place = models(folder)[0]
    table = list(csv.DictReader(dev(folder).read_text().splitlines(), delimiter="\t"))
    column = next(name for name in table[0] if name != "label")
    texts = [row[column] for row in table] * 40
    file = tmp_path / "new.jsonl"
    file.write_text("".join(json.dumps({"said": text}) + "\n" for text in texts))
    found = predict([place], file, text="said")
    once = predict([place], dev(folder)).values
    np.testing.assert_allclose(found.values, np.tile(once, (40, 1)), atol=1e-5)
    with pytest.raises(BadInput, match=r"new\.jsonl: no column 'sentence'; the columns are said"):
        predict([place], file)


def test_pairs_are_read_as_pairs(made, tmp_path):
    folder, _ = made
    file = tmp_path / "pairs.csv"
    file.write_text("a,b\ngood film,bad film\nbad film,good film\n")
    place = models(folder)[0]
    paired = predict([place], file, text="a", text_pair="b").values
    assert np.abs(paired - predict([place], file, text="a").values).max() > 0


def test_a_model_of_pairs_wants_pairs(tmp_path):
    """GLUE's tasks name no columns in the study, so a file with one column of texts could pass for their data."""
    settings = toys.settings(tmp_path / "own")
    data = tmp_path / "own" / "data"
    for name in ("train", "dev"):
        lines = (data / f"{name}.tsv").read_text().splitlines()
        header, *examples = (line.split("\t") for line in lines)
        text = header.index("sentence")
        made = ["a\tb\tlabel", *(f"{row[text]}\tgood\t{row[header.index('label')]}" for row in examples)]
        (data / f"{name}.tsv").write_text("\n".join(made) + "\n")
    settings["task"] |= {"text": "a", "text_pair": "b"}
    run = train.run(study(settings, tmp_path, seeds={"init": 1, "order": 1}), progress=Quiet())
    (one,) = export.export(run, tmp_path / "model", best=1)
    np.testing.assert_allclose(
        predict([one.folder], data / "dev.tsv").values, probabilities(store.load(run), one.trial), atol=1e-5
    )
    about = json.loads((one.folder / "jaxft.json").read_text())
    assert about["pairs"] is True
    about["settings"] |= {"task.text": "sentence", "task.text_pair": None}
    (one.folder / "jaxft.json").write_text(json.dumps(about))
    with pytest.raises(BadInput, match="trained on pairs of texts: say with --text-pair which column is second"):
        predict([one.folder], data / "dev.tsv", text="a")


def test_a_regression_and_a_checkpoint_of_others(tmp_path):
    """Without jaxft.json, and with a number in place of classes: what its parameters give."""
    _, params = toys.encoder(toys.BERT, 1)
    params = {name: np.asarray(value) for name, value in params.items()}
    model, _ = toys.encoder(toys.BERT, 1)
    import jax

    whole = {name: np.asarray(x) for name, x in model.init(jax.random.key(3)).items()} | params
    checkpoint.save(tmp_path / "model", toys.BERT, whole, toys.tokenizer())
    file = tmp_path / "new.tsv"
    file.write_text("sentence\ngood\nbad good\n")
    found = predict([tmp_path / "model"], file)
    assert found.labels == ()
    assert found.values.shape == (2, 1)
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForSequenceClassification

    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    with torch.no_grad():
        for value, text in zip(found.values, ("good", "bad good"), strict=True):
            ids = toys.tokenizer()([text])["input_ids"]
            np.testing.assert_allclose(value, theirs(torch.tensor(ids)).logits[0].numpy(), atol=1e-5)


def test_the_command_writes_a_row_for_each(made, tmp_path, capsys):
    folder, run = made
    places, out = models(folder), tmp_path / "labels.csv"
    out.write_text("before")
    words = ["predict", *map(str, places), "--file", str(dev(folder)), "--out", str(out)]
    assert cli.main(words) == cli.DONE
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert capsys.readouterr().out == f"{out}: {len(rows)} rows, by 2 checkpoints\n"
    expected = np.mean([probabilities(run, place.name) for place in places], axis=0)
    names = [name.removeprefix("p.") for name in rows[0] if name != "label"]
    shares = np.array([[float(row[f"p.{name}"]) for name in names] for row in rows])
    np.testing.assert_allclose(shares, expected, atol=1e-5)
    assert [row["label"] for row in rows] == [names[number] for number in expected.argmax(axis=1)]


def test_what_is_refused(made, tmp_path, capsys):
    folder, _ = made
    place, bare = models(folder)[0], folder / "study" / "encoder"
    other = tmp_path / "other"
    other.mkdir()
    for file in place.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    config = json.loads((other / "config.json").read_text())
    config["id2label"] = {"0": "x", "1": "y"}
    (other / "config.json").write_text(json.dumps(config))
    (tmp_path / "out").mkdir()
    file, out = ["--file", str(dev(folder))], ["--out", str(tmp_path / "l.csv")]
    for words, said in (
        ([str(place), *file], "predict: expected checkpoints, one file of texts"),
        ([*file, *out], "predict: expected checkpoints, one file of texts"),
        ([str(place), *file, *file, *out], "predict: expected checkpoints, one file of texts"),
        ([str(bare), *file, *out], "no head for classification in it: expected a fine-tuned checkpoint"),
        ([str(tmp_path / "none"), *file, *out], "none"),
        ([str(place), str(other), *file, *out], "its labels are x, y, those of"),
        ([str(place), "--file", str(tmp_path / "none.tsv"), *out], "none.tsv"),
        ([str(place), *file, "--out", str(tmp_path / "out")], "cannot be written"),
        ([str(place), *file, *out, "--text", "said"], "no column 'said'"),
        ([str(place), *file, *out, "--txt", "said"], "unknown option '--txt'; did you mean --text?"),
    ):
        assert cli.main(["predict", *words]) == cli.BAD_INPUT
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out"]


def test_settings_that_are_damaged_are_done_without(made, tmp_path):
    folder, _ = made
    place = tmp_path / "model"
    place.mkdir()
    for file in models(folder)[0].iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    expected = predict([place], dev(folder)).values
    for text in ("{", "[]", '{"settings": 3}', '{"settings": {"task.max_length": "x", "task.text": 1}}'):
        (place / "jaxft.json").write_text(text)
        np.testing.assert_allclose(predict([place], dev(folder)).values, expected, atol=1e-5)


@pytest.mark.parametrize("head", ["#1 String\t#2 String", "sentence1\tsentence2"])
def test_a_task_of_glue_knows_its_columns(tmp_path, head):
    """As its files call them, and as libraries do."""
    settings = toys.settings(tmp_path)
    data = sources.official(tmp_path / "MRPC", "mrpc", sources.rows("mrpc"))
    asked = {"task": {"name": "mrpc", "path": data, "max_length": 16}, "seeds": {"init": 1, "order": 1}}
    train.run(study(settings | asked, tmp_path), progress=Quiet())
    (one,) = export.export(tmp_path / "run", tmp_path / "out", best=1)
    (tmp_path / "new.tsv").write_text(f"{head}\nw1 w2\tw3\nw4\tw5 w6\n")
    named = head.split("\t")
    found = predict([one.folder], tmp_path / "new.tsv")
    said = predict([one.folder], tmp_path / "new.tsv", *named)
    assert found.labels == ("not_equivalent", "equivalent")
    assert np.array_equal(found.values, said.values)
