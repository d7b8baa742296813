"""What a user may do wrong, through the command line: one line on stderr, exit 2, finished trials as they were."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import toys
import yaml

from jaxft import cli, models, tasks
from jaxft.folder import store
from jaxft.study.config import TaskConfig

BASE = {
    "name": "toy",
    "model": "encoder",
    "task": {"name": "text", "path": "data", "max_length": 16},
    "train": {"lr": 3e-3, "batch_size": 4, "epochs": 1},
    "seeds": {"init": 1, "order": "1..2"},
    "eval": {"per_epoch": 1, "batch_size": 8},
    "pool": {"slots": 1, "devices": 1},
    "out": "run",
}
TRAIN, DEV, CONFIG, WEIGHTS = "data/train.tsv", "data/dev.tsv", "encoder/config.json", "encoder/model.safetensors"
LONG = "x" * 300
OTHER = {"name": "x", "task": "text", "path": "data", "dev": "x.tsv"}
NUMBERS = "sentence\tlabel\nw1\t0.5\nw2\t1\n"


class Folder:
    """Stands for a folder in place of a file."""


class Case(NamedTuple):
    """A mistake, and what the line must say of it."""

    said: tuple[str, ...]
    study: dict[str, Any]
    """What differs from BASE; None takes a key away."""
    text: str | bytes | None
    """The study itself, instead."""
    words: tuple[str, ...]
    """Of the command line."""
    files: dict[str, Any]
    """What else is put there: text, bytes, a Folder, a function of what was there, or None for nothing."""


def case(*said: str, text=None, words=(), files=None, **study) -> Case:
    return Case(said, study, text, words, files or {})


def merged(changes: dict, base: dict = BASE) -> dict:
    both = {**base, **changes}
    return {k: merged(v, base[k]) if isinstance(v, dict) and k in base else v for k, v in both.items() if v is not None}


def put(path: Path, content: Any) -> None:
    before = path.read_bytes() if path.is_file() else b""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is Folder:
        path.mkdir()
    elif content is not None:
        content = content(before) if callable(content) else content
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def config(**changes) -> str:
    return json.dumps({name: value for name, value in (toys.BERT | changes).items() if value is not None})


def more(row: bytes):
    """The file with one more row, its 22nd line."""
    return lambda before: before + row


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a checkpoint, data and a study."""
    folder = tmp_path_factory.mktemp("place")
    toys.checkpoint(folder / "encoder")
    toys.sentences(folder / "data")
    (folder / "s.yaml").write_text(yaml.safe_dump(BASE))
    return folder


def refused(capsys, *words: str) -> str:
    """Runs the study, which must be refused; the one line that says so."""
    assert cli.main(["run", "s.yaml", *words]) == cli.BAD_INPUT
    err = capsys.readouterr().err
    assert err.startswith("jaxft: "), err
    assert err.count("\n") == 1, err
    assert err.endswith("\n")
    return err


STUDIES = {
    "unknown key": case("s.yaml, line ", "train.lrr: unknown key; did you mean train.lr?", train={"lrr": 1}),
    "unknown section": case("trian: unknown key; did you mean train?", trian={"lr": 1}),
    "wrong type": case("s.yaml, line ", "train.lr: expected a number of at least 0, found 'abc'", train={"lr": "abc"}),
    "nan": case("train.lr: expected a number", "found nan", train={"lr": float("nan")}),
    "infinity": case("train.lr: expected a number", "found inf", train={"lr": float("inf")}),
    "overflow of float64": case("train.lr: expected a number", "found inf", text="train: {lr: 1e400}"),
    "overflow of float32": case("train.lr: ", "found 1e+39, which 32 bits cannot hold", train={"lr": 1e39}),
    "0 in float32": case("train.eps: expected a number above 0, found 1e-50, which 32 bits", train={"eps": 1e-50}),
    "1 in float32": case("train.b2: expected a number from 0 to below 1", "which 32 bits", train={"b2": 0.99999999999}),
    "overflow of int32": case("train.epochs: ", "found 2147483648, which 32 bits cannot hold", train={"epochs": 2**31}),
    "overflow of int64": case("eval.every: ", "which 32 bits cannot hold", eval={"every": 2**64}),
    "negative epochs": case("train.epochs: expected an integer of at least 1, found -1", train={"epochs": -1}),
    "half an epoch": case("train.epochs: expected an integer of at least 1, found 0.5", train={"epochs": 0.5}),
    "an empty range of seeds": case("seeds.init: the range 5..1 is empty: expected", seeds={"init": "5..1"}),
    "an empty list of seeds": case("seeds.init: expected at least one seed", seeds={"init": []}),
    "a seed twice": case("seeds.init: 1 is there twice", seeds={"init": [1, 2, 1]}),
    "a trial twice": case(
        "the trial with init 1, order 2, dropout 2, noise 2, data 0 is there twice",
        text="seeds: [{init: 1, order: 2}, {init: 1, order: 2}]",
    ),
    "a trial twice by its sweep": case("train.lr 0.001 is there twice", text="sweep: {train.lr: [0.001, 1e-3]}"),
    "a seed as a float": case("seeds.init: expected an integer or a range", "found 1.0", seeds={"init": 1.0}),
    "a negative seed": case("seeds.order: expected seeds from 0 to 4294967295, found -1", seeds={"order": -1}),
    "a seed of 33 bits": case("seeds.order: expected seeds from 0", "found 4294967296", seeds={"order": 2**32}),
    "a million seeds and more": case("at most 1000000 seeds", seeds={"order": "1..99999999"}),
    "a row without order": case("seeds.rows: row 1: no order, expected at least", text="seeds: [{init: 1}]"),
    "rows and a grid": case("seeds.init: not together with", words=("--seeds.rows", "[{init: 1, order: 1}]")),
    "an empty sweep": case("sweep.train.lr: expected a list of values, found []", text="sweep: {train.lr: []}"),
    "a sweep over a section": case(
        "s.yaml, line 1: sweep.train: not a key to sweep over; known: train.optimizer, train.lr",
        text="sweep: {train: [1]}",
    ),
    "a sweep over seeds": case(
        "sweep.seeds.init: not a key to sweep over; a sweep takes method, model and the keys of task, train",
        text="sweep: {seeds.init: [1]}",
    ),
    "a sweep out of range": case(
        "s.yaml, line 1: sweep.train.epochs: expected an integer of at least 1, found 0",
        text="sweep: {train.epochs: [1, 0]}",
    ),
    "another set without a name": case(
        "s.yaml, line ", "eval.also: entry 1: name: expected a word such as rte, found None", eval={"also": [{}]}
    ),
    "another set named as a split": case("entry 1: name: dev is a split of the", eval={"also": [{"name": "dev"}]}),
    "another set twice": case("eval.also: rte is there twice", eval={"also": [{"name": "rte"}, {"name": "rte"}]}),
    "a key of another set": case(
        "eval.also: rte: unknown key 'pth'; did you mean path?", eval={"also": [{"name": "rte", "pth": "x"}]}
    ),
    "a type in another set": case(
        "eval.also: rte: max_length: expected an integer of at least 1, found 'x'",
        eval={"also": [{"name": "rte", "max_length": "x"}]},
    ),
    "labels of another set that are no mapping": case(
        "eval.also: rte: labels: expected a mapping such as", eval={"also": [{"name": "rte", "labels": ["a"]}]}
    ),
    "a label of another set without a class": case(
        "eval.also: rte: labels: a: expected a class or a list of classes of the task, found []",
        eval={"also": [{"name": "rte", "labels": {"a": []}}]},
    ),
    "other sets that are no list": case("eval.also: expected a list of mappings or null, found 3", eval={"also": 3}),
    "averages of no trial": case("eval.soups: expected an integer of at least 1 or null, found 0", eval={"soups": 0}),
    "a sweep over averages": case(
        "sweep.eval.soups: not a key to sweep over; it is the same for all", text="sweep: {eval.soups: [1, 2]}"
    ),
    "a key of a probe": case(
        "eval.probe: rte: unknown key 'regression'; known: dev, ", eval={"probe": [{"name": "rte", "regression": True}]}
    ),
    "a probe of no examples": case(
        "eval.probe: rte: n_train: expected an integer of at least 1", eval={"probe": [{"name": "rte", "n_train": 0}]}
    ),
    "a sweep over other sets": case(
        "sweep.eval.also: not a key to sweep over; it is the same for all", text="sweep: {eval.also: [null]}"
    ),
    "an unknown method": case("method: unknown method 'vanila'; did you mean vanilla?", method="vanila"),
    "half a method": case("method: 'vanilla|' at position", method="vanilla|"),
    "an argument of a method": case("method: vanilla has no argument 'x'", method="vanilla(x=1)"),
    "empty": case("s.yaml: empty; expected at least one key", text=""),
    "only comments": case("s.yaml: empty; expected at least one key", text="\n# name: a\n"),
    "a list": case("s.yaml: expected a mapping", text="- name: a"),
    "a key twice": case("s.yaml, line 2: name is given twice, first in line 1", text="name: a\nname: b"),
    "a section twice": case("line 2: train.lr is given twice", text="train: {lr: 1}\ntrain: {lr: 1}"),
    "two documents": case("s.yaml, line 2: not valid YAML", text="name: a\n---\nname: b"),
    "a tab": case("s.yaml, line 2: not valid YAML", text="train:\n\tlr: 1"),
    "an alias to itself": case("s.yaml, line 1: not valid YAML", text="name: &a [*a]"),
    "a tag": case("s.yaml, line 1: not valid YAML", text="name: !!python/object/apply:os.getcwd []"),
    "a wrong word under a tag": case("s.yaml: not valid YAML", text="stop: {enabled: !!bool maybe}"),
    "binary": case("s.yaml: not UTF-8 at byte 128", text=bytes(range(256))),
    "UTF-16": case("s.yaml: not UTF-8 at byte 0", text="name: a".encode("utf-16")),
    "a null byte": case("s.yaml, line 2: not valid YAML", text=b"name: a\nout: \0"),
    "a null byte in a name": case(r"name: expected text that is not empty, found 'a\x00'", text=r'name: "a\0"'),
    "half a character": case(r"out: expected text that is not empty", r"'\udcff'", words=("--out", "\udcff")),
    "a study that is not there": case("s.yaml: cannot be read: No such file", files={"s.yaml": None}),
    "a folder as a study": case("s.yaml: cannot be read: Is a directory", files={"s.yaml": Folder}),
    "a word without value": case("train.lr: a value is missing", words=("--train.lr",)),
    "an unknown word": case("trian.lr: unknown key; did you mean train.lr?", words=("--trian.lr", "1")),
    "the last of two words holds": case("train.lr: expected", "found 'x'", words=("--train.lr", "1", "--train.lr=x")),
    "a word without dashes": case("lr=1: expected --key value, such as", words=("lr=1",)),
    "a word without name": case("--=1: expected --key value, such as", words=("--=1",)),
    "a section on the command line": case("train: expected keys below it, such as", words=("--train", "{lr: 1}")),
}  # fmt: skip

MODELS = {
    "no such folder": case("model: ./nowhere: no such folder; a folder, a hub name and `embedded`", model="./nowhere"),
    "no such hub name": case("model: no/where: no such folder, and not to be had from the hub", model="no/where"),
    "a file": case("model: encoder/config.json: no such folder; a folder, a hub name", model=CONFIG),
    "a name too long for a file": case("no such folder; a folder, a hub name and `embedded`", model=f"./{LONG}"),
    "a null byte": case("model: expected text", model="a\0b"),
    "an empty folder": case("empty/config.json: cannot be read", model="empty", files={"empty": Folder}),
    "no config": case("config.json: cannot be read (No such file or directory)", files={CONFIG: None}),
    "a folder as config": case("config.json: cannot be read (Is a directory)", files={CONFIG: Folder}),
    "half a config": case("encoder/config.json: not JSON", files={CONFIG: "{"}),
    "a config nested too deeply": case("encoder/config.json: not JSON", files={CONFIG: "[" * 100_000}),
    "a list as config": case("config.json: found a list, a JSON object is accepted", files={CONFIG: "[]"}),
    "another architecture": case("model_type: found 'gpt2', supported: ", files={CONFIG: config(model_type="gpt2")}),
    "no architecture": case("model_type: found None, supported: ", files={CONFIG: config(model_type=None)}),
    "text as a size": case("hidden_size: found '32', a positive", files={CONFIG: config(hidden_size="32")}),
    "a float as a size": case("vocab_size: found 30.5, a positive integer", files={CONFIG: config(vocab_size=30.5)}),
    "a huge size": case("hidden_size: found 1099511627776, a positive", files={CONFIG: config(hidden_size=2**40)}),
    "no size": case("vocab_size: found None, a positive integer is", files={CONFIG: config(vocab_size=None)}),
    "a huge float": case("layer_norm_eps: found 1000", files={CONFIG: config(layer_norm_eps=10**400)}),
    "an activation": case("hidden_act: found 'swish', accepted: gelu", files={CONFIG: config(hidden_act="swish")}),
    "heads": case(
        "hidden_size: found 32, a multiple of num_attention_heads (5) is accepted",
        files={CONFIG: config(num_attention_heads=5)},
    ),
    "a width that does not fit": case(
        "encoder: tensor bert.", "found float32 of shape (32,), config.json wants float32 of shape (64,)",
        files={CONFIG: config(hidden_size=64)},
    ),
    "layers that are not there": case(
        "encoder: tensor bert.encoder.layer.2.", "and 15 more: not found among ", "config.json wants it",
        files={CONFIG: config(num_hidden_layers=3)},
    ),
    "a small vocabulary": case("tokenizer knows 30 tokens, vocab_size is 29", files={CONFIG: config(vocab_size=29)}),
    "no weights": case("encoder: no weights found, accepted: model.safetensors", files={WEIGHTS: None}),
    "weights cut in the header": case("model.safetensors: not a readable", files={WEIGHTS: lambda b: b[:999]}),
    "weights cut at the end": case("model.safetensors: not a readable", files={WEIGHTS: lambda b: b[:-1]}),
    "empty weights": case("model.safetensors: not a readable", files={WEIGHTS: ""}),
    "a pointer to weights": case("not a readable", files={WEIGHTS: "version https://git-lfs.github.com/spec/v1\n"}),
    "half a PyTorch file": case(
        "encoder/pytorch_model.bin: not a readable PyTorch file",
        files={WEIGHTS: None, "encoder/pytorch_model.bin": "PK\3\4"},
    ),
    "no tokenizer": case("encoder: no tokenizer found, accepted: ", files={"encoder/tokenizer.json": None}),
    "half a tokenizer": case("encoder: no readable tokenizer", files={"encoder/tokenizer.json": "{"}),
    "a list as tokenizer": case("encoder: no readable tokenizer", files={"encoder/tokenizer_config.json": "[]"}),
}  # fmt: skip

DATA = {
    "no such folder": case("task.path: no folder nowhere", task={"path": "nowhere"}),
    "a file as folder": case("task.path: no folder data/train.tsv", task={"path": TRAIN}),
    "a name too long for a folder": case("task.path: no folder xxx", task={"path": LONG}),
    "a name too long for a file": case("task.train: no file data/xxx", task={"train": LONG}),
    "no such file": case("task.train: no file data/a.tsv; its folder has dev.tsv, train.tsv", task={"train": "a.tsv"}),
    "a folder as file": case("task.dev: no file data/dev.tsv; its folder has", files={DEV: Folder}),
    "another kind of file": case(
        "a.txt: the file's name ends in none of .tsv, .csv, .jsonl", task={"train": "a.txt"}, files={"data/a.txt": "a"}
    ),
    "an unknown task": case("task.name: 'rta' is unknown; accepted are ag_", "did you mean", task={"name": "rta"}),
    "a GLUE task with columns": case("task.text: rte has its own", task={"name": "rte", "text": "a"}),
    "a GLUE task on other files": case("no column 'sentence1'; the columns are sentence, label", task={"name": "rte"}),
    "a metric": case("task.metric: 'bleu' is unknown; accepted are accuracy, ", task={"metric": "bleu"}),
    "a metric of two classes": case(
        "task.metric: 'f1' is for two classes, and there are 3; accepted are accuracy, mcc",
        task={"metric": "f1", "labels": ["low", "high", "x"]},
    ),
    "numbers as labels": case("task.labels: expected a list of texts", task={"labels": [0, 1]}),
    "a text column": case("train.tsv: no column 'txt'; the columns are sentence, label", task={"text": "txt"}),
    "a label column": case("train.tsv: no column 'y'; the columns are sentence, label", task={"label": "y"}),
    "the text as label": case("dev.tsv, line 2: label 'w", "is not in the set; ", task={"label": "sentence"}),
    "a short row": case("train.tsv, line 22: 1 columns; 2 are expected: sentence", files={TRAIN: more(b"w1\n")}),
    "a long row": case("data/train.tsv, line 22: 3 columns; 2 are expected", files={TRAIN: more(b"w1\tlow\t\n")}),
    "a blank line inside": case("data/train.tsv, line 22: 1 columns", files={TRAIN: more(b"\nw1\tlow\n")}),
    "an empty text": case("data/train.tsv, line 22: empty text in column 'sentence'", files={TRAIN: more(b" \tlow\n")}),
    "no label": case("data/train.tsv, line 22: no label in column 'label'", files={TRAIN: more(b"w1\t\n")}),
    "a label of dev only": case(
        "data/dev.tsv, line 15: label 'mid' is not in the set; accepted are high, low",
        files={DEV: more(b"w1\tmid\n")},
    ),
    "a label outside those given": case("label 'high' is not in the set; ", "low, up", task={"labels": ["low", "up"]}),
    "numbers for a label": case(
        "dev.tsv, line 2: label 'low' is not in the set; accepted are 0.1, 1.3, 2.7",
        files={TRAIN: "sentence\tlabel\nw1\t1.3\nw2\t0.1\nw3\t2.7\n"},
    ),
    "one class": case("train.tsv: all labels are 'low'; two", files={TRAIN: "sentence\tlabel\nw1\tlow\n"}),
    "invalid UTF-8": case("train.tsv, line 22: not valid UTF-8 (byte 0xff)", files={TRAIN: more(b"w1 \xff\tlow\n")}),
    "UTF-16 without a mark": case(
        "data/train.tsv, line 1: a null byte", files={TRAIN: lambda b: b.decode().encode("utf-16-le")}
    ),
    "a null byte": case("data/train.tsv, line 22: a null byte", files={TRAIN: more(b"w1 \0\tlow\n")}),
    "no byte": case("data/train.tsv: the file is empty", files={TRAIN: ""}),
    "no row": case("data/train.tsv: a header and no rows", files={TRAIN: "sentence\tlabel\n"}),
    "commas": case("no column 'label'; the columns are sent", files={TRAIN: lambda b: b.replace(b"\t", b",")}),
    "a column twice": case("column 'label' appears twice", files={TRAIN: lambda b: b.replace(b"sentence", b"label")}),
    "an open quote": case(
        "data/a.csv, line 2: broken CSV", task={"train": "a.csv"}, files={"data/a.csv": 'sentence,label\n"w1,low\n'}
    ),
    "half an object": case(
        "data/a.jsonl, line 2: broken JSON", task={"train": "a.jsonl"},
        files={"data/a.jsonl": '{"sentence": "w1", "label": 1}\n{'},
    ),
    "a length beyond the positions": case("task.max_length: 17 is more than the 16 positions", task={"max_length": 17}),
    "a length of no word": case("task.max_length: 2 is too short; 3 is the least", task={"max_length": 2}),
    "a batch above the train set": case("train.batch_size: 21, but there are 20 training", train={"batch_size": 21}),
    "a batch above the subset": case("train.batch_size: 4, but there are 3 training", task={"n_train": 3}),
    "a subset above the train set": case("task.n_train: 21 is not between 1 and the 20", task={"n_train": 21}),
    "strata of numbers": case(
        "task.stratified: text has no classes: its labels are numbers", task={"regression": True, "stratified": True},
        files={TRAIN: NUMBERS, DEV: NUMBERS},
    ),
    "a probe of too few examples": case(
        "eval.probe: x: n_train: 99 is not between 1 and the 20 training examples",
        eval={"probe": [{"name": "x", "task": "text", "path": "data", "n_train": 99}]},
    ),
    "a probe that is not there": case(
        "eval.probe: rte: path: rte needs the folder with its train.tsv", eval={"probe": [{"name": "rte"}]}
    ),
    "another set of an unknown task": case(
        "eval.also: rta: name: 'rta' is unknown; accepted are ag_news", eval={"also": [{"name": "rta"}]}
    ),
    "another set that is not there": case(
        "eval.also: x: path: no folder nowhere", eval={"also": [{"name": "x", "task": "text", "path": "nowhere"}]}
    ),
    "another set with other labels": case(
        "eval.also: x: labels: missing: its labels are a, b, the classes of the training task high, low; expected",
        eval={"also": [OTHER]},
        files={"data/x.tsv": "sentence\tlabel\nw1\ta\nw2\tb\n"},
    ),
    "a label of another set that is in its file alone": case(
        "eval.also: x: data/x.tsv, line 3: label 'b' is not in the set; accepted are a, c",
        eval={"also": [OTHER | {"labels": {"a": "low", "c": "high"}}]},
        files={"data/x.tsv": "sentence\tlabel\nw1\ta\nw2\tb\n"},
    ),
    "numbers beside classes": case(
        "eval.also: x: its labels are numbers, and those of the training task classes; both must be of one kind",
        eval={"also": [OTHER | {"regression": True}]},
        files={"data/x.tsv": NUMBERS},
    ),
    "a batch of the sweep": case("train.batch_size: 21, but", words=("--sweep.train.batch_size", "[4, 21]")),
    "words where numbers are wanted": case(
        "data/train.tsv, line 2: found the label '", "', a finite number of 32 bits is accepted",
        task={"regression": True},
    ),
    "no number": case(
        "data/train.tsv, line 4: found the label 'abc', a finite", task={"regression": True},
        files={TRAIN: NUMBERS + "w1\tabc\n", DEV: NUMBERS},
    ),
    "no finite number": case(
        "data/dev.tsv, line 4: found the label 'nan', a finite", task={"regression": True},
        files={TRAIN: NUMBERS, DEV: NUMBERS + "w1\tnan\n"},
    ),
    "a number of more than 32 bits": case(
        "data/train.tsv, line 4: found the label '1e39', a finite", task={"regression": True},
        files={TRAIN: NUMBERS + "w1\t1e39\n", DEV: NUMBERS},
    ),
    "no number in a test set": case(
        "data/test.tsv, line 4: found the label '?', a finite", task={"regression": True, "test": "test.tsv"},
        files={TRAIN: NUMBERS, DEV: NUMBERS, "data/test.tsv": NUMBERS + "w1\t?\n"},
    ),
    "one number": case(
        "task.train: all 3 examples have the label 0.5; two numbers are needed", task={"regression": True},
        files={TRAIN: "sentence\tlabel\nw1\t.5\nw2\t0.5\nw3\t5e-1\n", DEV: NUMBERS},
    ),
    "labels of a regression": case(
        "task.labels: not together with task.regression", task={"regression": True, "labels": ["low", "high"]}
    ),
    "a regression of a GLUE task": case("task.regression: rte has its own", task={"name": "rte", "regression": True}),
    "a regression of the generated task": case(
        "task.regression: the generated task has no files", task={"name": "generated", "path": None, "regression": True}
    ),
    "a metric of classes for numbers": case(
        "task.metric: 'accuracy' ", "accepted are pearson, spearman, pearson_spearman",
        task={"regression": True, "metric": "accuracy"}, files={TRAIN: NUMBERS, DEV: NUMBERS},
    ),
    "a metric of numbers for classes": case("task.metric: 'pearson' ", "accepted are acc", task={"metric": "pearson"}),
    "halves of three": case(
        "task.split_dev: the dev set has 3 examples; 4 or more are needed for two halves", task={"split_dev": 1},
        files={DEV: "sentence\tlabel\nw1\tlow\nw2\thigh\nw3\tlow\n"},
    ),
    "halves and a test set": case(
        "task.split_dev: not together with task.test", task={"split_dev": 1, "test": "dev.tsv"}
    ),
    "a half of one class": case(
        "task.split_dev: with seed 1 all ", " half have the label 'low', as 4 of the dev set's 5 have; each half ",
        task={"split_dev": 1}, files={DEV: "sentence\tlabel\nw1\thigh\n" + "w2\tlow\n" * 4},
    ),
    "a half of one number": case(
        "task.split_dev: with seed 1 all ", " half have the label 0.5, as 5 of the dev set's 5 have",
        task={"split_dev": 1, "regression": True},
        files={TRAIN: NUMBERS, DEV: "sentence\tlabel\n" + "w2\t0.5\n" * 5},
    ),
    "a negative seed of halves": case("task.split_dev: expected an integer of at least 0", task={"split_dev": -1}),
    "a second dev set that is not there": case(
        "task.dev: no file data/dev_mismatched.tsv; its folder has dev.tsv, dev_matched.tsv, train.tsv; without a "
        "second dev set, name the first in task.dev",
        task={"name": "mnli"}, files={"data/dev_matched.tsv": "sentence1\n"},
    ),
    "the hub for texts": case("task.path: found 'hub', accepted are hub:OWNER/NAME and", task={"path": "hub"}),
    "TFDS for texts": case("task.path: found 'tfds', accepted are tfds:NAME and tfds:NAME/", task={"path": "tfds"}),
    "a namespace of TFDS": case("task.path: found 'tfds:a:b', accepted are tfds:NAME and", task={"path": "tfds:a:b"}),
}  # fmt: skip

REACH = {
    "an unknown name on the hub": case(
        "task.path: hub: cannot load no/where: ", "; a folder with the files is accepted too",
        task={"path": "hub:no/where"},
    ),
    "an unknown config on the hub": case(
        "task.path: hub: cannot load repository (two): ", "BuilderConfig 'two' not found. Available: ['one']",
        task={"path": "hub:repository:two"},
        files={
            "repository/one.csv": "sentence,label\nw1,low\n",
            "repository/README.md": "---\nconfigs:\n- config_name: one\n  data_files: one.csv\n---\n",
        },
    ),
    "a GLUE task without a network": case(
        "task.path: hub: cannot load nyu-mll/glue (rte): ConnectionError", task={"name": "rte", "path": "hub"}
    ),
    "an unknown name of TFDS": case(
        "task.path: tfds:glew/rte: nothing prepared in ", "tfds/glew/rte, and TFDS knows no data set 'glew'; did you",
        task={"path": "tfds:glew/rte"},
    ),
    "an unknown config of TFDS": case(
        "task.path: tfds:glue/rta: no config 'rta'; accepted are tfds:glue/cola, ", task={"path": "tfds:glue/rta"}
    ),
    "what TFDS has not prepared": case(
        "task.path: tfds:glue/rte: nothing prepared in ", "accepted is what TFDS has prepared there",
        task={"name": "rte", "path": "tfds"},
    ),
    "a damaged folder of TFDS": case(
        "task.path: made: cannot be read (", "; accepted is what TFDS prepared as", task={"path": "made"},
        files={"made/dataset_info.json": "{}", "made/features.json": "{"},
    ),
    "another format of TFDS": case(
        "task.path: made: cannot be read (", "riegeli", "; accepted is what TFDS prepared as",
        task={"path": "made"},
        files={
            "made/dataset_info.json": '{"name": "made", "version": "1.0.0", "fileFormat": "riegeli"}',
            "made/features.json": "{}",
        },
    ),
}  # fmt: skip

OUT = {
    "a file": case("mine: cannot be written (File exists); give another `out`", out="mine", files={"mine": "x"}),
    "below a file": case("mine/run: cannot be written (Not a directory)", out="mine/run", files={"mine": "x"}),
    "a place that takes no folder": case("/proc/run: cannot be written (", out="/proc/run"),
    "a name too long": case("cannot be written (File name too long); give another `out`", out=LONG),
    "a null byte": case("out: expected text that is not empty or null, found", out="a\0b"),
    "the data": case("data: not a run folder: it holds dev.tsv and no study.yaml; give another `out`", out="data"),
    "the current folder": case(".: not a run folder: it holds data and no study.yaml", out="."),
}  # fmt: skip

CASES = {
    f"{kind}: {name}": found
    for kind, table in {"study": STUDIES, "model": MODELS, "data": DATA, "out": OUT}.items()
    for name, found in table.items()
}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_line_and_exit_2(here, capsys, name):
    said, changes, text, words, files = CASES[name]
    put(here / "s.yaml", yaml.safe_dump(merged(changes)) if text is None else text)
    for path, content in files.items():
        put(here / path, content)
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    line = refused(capsys, *words)
    for part in said:
        assert part in line
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before, "something was written"


@pytest.mark.parametrize("name", REACH)
def test_a_data_set_out_of_reach_is_one_line_at_once(here, capsys, monkeypatch, name):
    said, changes, _, words, files = REACH[name]
    pytest.importorskip("tensorflow_datasets" if "TFDS" in name else "datasets")
    monkeypatch.setenv("TFDS_DATA_DIR", str(here / "tfds"))
    put(here / "s.yaml", yaml.safe_dump(merged(changes)))
    for path, content in files.items():
        put(here / path, content)
    began = time.monotonic()
    line = refused(capsys, *words)
    assert time.monotonic() - began < 10
    for part in said:
        assert part in line


def test_a_note_is_one_line_and_stops_nothing(here, capsys):
    """Rows of QQP that lack columns; the batch size then stops the study before it trains."""
    rows = "\n".join(f"{i}\t1\t2\tw{i}\tw1\t{i % 2}" for i in range(6))
    text = f"id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n{rows}\n7\t1\t2\tw1\nw2\tw3\t0\n"
    put(here / TRAIN, text)
    put(here / DEV, text.partition("\n7\t")[0])
    put(here / "s.yaml", yaml.safe_dump(merged({"task": {"name": "qqp"}})))
    for _ in range(2):  # each time, and not once in a process
        assert cli.main(["run", "s.yaml", "--train.batch_size", "21"]) == cli.BAD_INPUT
        assert capsys.readouterr().err.splitlines() == [
            "jaxft: data/train.tsv: 2 of 8 rows lack columns and are passed over",
            "jaxft: train.batch_size: 21, but there are 6 training examples",
        ]


ACCEPTED = {
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "line ends of Windows": lambda text: text.replace(b"\n", b"\r\n"),
    "blank lines at the end": lambda text: text + b"\n\r\n",
    "no line end at the end": lambda text: text.rstrip(),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_files_of_other_editors_are_the_same_data(here, name):
    def fingerprint():
        return tasks.load(TaskConfig(**BASE["task"]), models.open("encoder").tokenizer, 16).fingerprint

    plain = fingerprint()
    before = (here / TRAIN).read_bytes()
    put(here / TRAIN, before + b"w1\tlow\n")
    assert fingerprint() != plain
    put(here / TRAIN, ACCEPTED[name](before))
    assert (here / TRAIN).read_bytes() != before
    assert fingerprint() == plain


@pytest.fixture(scope="module")
def finished(place, tmp_path_factory) -> Path:
    """The place with a run folder of two finished trials; the study's name is no ASCII."""
    folder = Path(shutil.copytree(place, tmp_path_factory.mktemp("finished") / "here"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(["run", "s.yaml", "--name", "ünï 学习"]) == cli.DONE
    return folder


def cut(before: bytes) -> bytes:
    return before[:-20]


def decided(**changes):
    """Other values under the group's name in resolved.yaml."""
    return lambda before: yaml.safe_dump({name: old | changes for name, old in yaml.safe_load(before).items()})


SHARD = "000000.parquet"
FOLDERS = {
    "another rate": case("run: holds another study: train.lr: 0.003 in the run folder, 0.1 now", train={"lr": 0.1}),
    "two differences": case("train.lr: 0.003", "; train.epochs: 1 in", train={"lr": 0.1, "epochs": 2}),
    "seeds taken away": case("run: 1 of its trials are missing now (the first: init 1, order 1)", seeds={"order": 2}),
    "another sweep": case("run: 2 of its trials are missing now", words=("--sweep.train.lr", "[1e-5]")),
    "other weights": case(".model is ", "stays with the study", files={WEIGHTS: lambda b: b[:-1] + b"\1"}),
    "another label": case(".task is ", "stays with the study", files={DEV: lambda b: b.replace(b"low", b"high", 1)}),
    "no resolved.yaml": case("resolved.yaml: cannot be read (No such file", files={"run/resolved.yaml": None}),
    "an empty resolved.yaml": case("resolved.yaml: expected a mapping of", "None", files={"run/resolved.yaml": ""}),
    "half a resolved.yaml": case("resolved.yaml: cannot be read (", files={"run/resolved.yaml": "a: ["}),
    "a list as resolved.yaml": case("resolved.yaml: expected a mapping of", files={"run/resolved.yaml": "- 1"}),
    "a binary resolved.yaml": case("resolved.yaml: cannot be read (", files={"run/resolved.yaml": b"\xff"}),
    "a resolved.yaml of numbers": case("resolved.yaml: expected a mapping of", files={"run/resolved.yaml": "a: 1"}),
    "a tag in resolved.yaml": case("resolved.yaml: cannot be read (", files={"run/resolved.yaml": "a: !!bool maybe"}),
    "a deep resolved.yaml": case("resolved.yaml: cannot be read (", files={"run/resolved.yaml": "[" * 3000}),
    "another batch in resolved.yaml": case(".width is 99 there, but", files={"run/resolved.yaml": decided(width=99)}),
    "no study.yaml": case(
        f"run: not a run folder: it holds trials/{SHARD} and no study.yaml", files={"run/study.yaml": None}
    ),
    "an empty study.yaml": case("run/study.yaml: empty", files={"run/study.yaml": ""}),
    "a binary study.yaml": case("run/study.yaml: not UTF-8", files={"run/study.yaml": b"\xff"}),
    "a cut shard of trials": case(
        f"run/trials/{SHARD}: cannot be read", f"remove every {SHARD}", files={f"run/trials/{SHARD}": cut}
    ),
    "text in trials": case("run/trials/a.parquet: cannot be read", files={"run/trials/a.parquet": "x"}),
    "a folder in trials": case("run/trials/a.parquet: cannot be read", files={"run/trials/a.parquet": Folder}),
    "a shard twice": case(
        "run/trials/copy.parquet: trial ", f"is in run/trials/{SHARD} too", files={"run/trials/copy.parquet": SHARD}
    ),
    "a file as trials": case("run: cannot be written (File exists)", files={"run/losses": "x"}),
    "a folder as lock": case("run: cannot be written (Is a directory)", files={"run/.lock": Folder}),
}  # fmt: skip


def shards(folder: Path) -> dict[str, bytes]:
    """The rows of a run folder: by data set and file."""
    paths = [path for path in folder.glob("run/*/*.parquet") if path.is_file()]
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in paths}


def test_data_of_another_size_are_other_data(finished, tmp_path, monkeypatch, capsys):
    folder = Path(shutil.copytree(finished, tmp_path / "here"))
    monkeypatch.chdir(folder)
    put(folder / TRAIN, more(b"w1 w2\tlow\n"))
    assert "stays with the study" in refused(capsys)


@pytest.mark.parametrize("name", FOLDERS)
def test_finished_trials_survive_a_mistake(finished, tmp_path, monkeypatch, capsys, name):
    folder = Path(shutil.copytree(finished, tmp_path / "here"))
    monkeypatch.chdir(folder)
    said, changes, _, words, files = FOLDERS[name]
    put(folder / "s.yaml", yaml.safe_dump(merged(changes)))
    for path, content in files.items():
        put(folder / path, (folder / "run/trials" / SHARD).read_bytes() if content == SHARD else content)
    before = shards(folder)
    line = refused(capsys, *words)
    for part in said:
        assert part in line
    assert shards(folder) == before
    # Put right, the folder is as good as before.
    for path in ("s.yaml", *files):
        put(folder / path, None)
        if (finished / path).is_dir():
            shutil.copytree(finished / path, folder / path)
        elif (finished / path).is_file():
            shutil.copy(finished / path, folder / path)
    assert cli.main(["run", "s.yaml"]) == cli.DONE
    assert shards(folder) == shards(finished)
    assert len(store.load("run").trials) == 2


@pytest.mark.slow
def test_a_width_that_does_not_fit_says_what_would(here, capsys):
    line = refused(capsys, "--pool.slots", "1000000")
    assert "pool.slots: 1000000 replicas per device need " in line
    assert " would fit" in line


@pytest.mark.slow
def test_a_signal_stops_a_study_that_then_goes_on(here, capsys):
    """Ctrl-C, then the command that the message names, then SIGTERM, then to the end; nothing is run twice."""
    put(here / "s.yaml", yaml.safe_dump(merged({"train": {"epochs": 20}, "seeds": {"order": "1..12"}})))
    env = os.environ | {
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    words = ["run", "s.yaml", "--train.lr", "2e-3"]
    kept: dict[str, bytes] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen([sys.executable, "-m", "jaxft", *words], env=env, stderr=subprocess.PIPE, text=True)
        with process:
            end = time.monotonic() + 240
            while not {name for name in shards(here) if name.startswith("trials/")} - kept.keys():
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < end
                time.sleep(0.02)
            if number == signal.SIGTERM:
                assert "run: another process writes to it" in refused(capsys, *words[2:])
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        assert process.returncode == cli.STOPPED, err
        assert err.splitlines()[-1] == f"jaxft: stopped; go on with: jaxft {' '.join(words)}"
        assert "Traceback" not in err
        found = shards(here)
        assert kept.items() <= found.items()
        whole = {name.removeprefix("trials/") for name in found if name.startswith("trials/")}
        kept = {name: content for name, content in found.items() if name.rpartition("/")[2] in whole}
    assert 2 <= len(store.load("run").trials) < 12
    assert cli.main(words) == cli.DONE
    assert kept.items() <= shards(here).items()
    trials = store.load("run").trials
    assert sorted(trials["order_seed"]) == list(range(1, 13))
