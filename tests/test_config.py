from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxft.errors import BadInput
from jaxft.study import KEYS, build, config, flat
from jaxft.study.check import check
from jaxft.study.config import SeedGrid, StopConfig, Study, TaskConfig, TrainConfig

GOLDEN = Path(__file__).parent / "golden"

PAPER = """
name: rte
model: bert-large-uncased
task: {name: rte, path: glue/RTE, labels: [no, yes]}
train:
  optimizer: bertadam
  lr: 2e-5
  clip_by: tensor
  schedule: linear_unscaled
seeds: {init: 1..25, order: [1, 5]}
sweep: {train.lr: [1e-5, 3e-5], train.epochs: [3, 20]}
eval: {per_epoch: 10}
stop: {loss_above: 5}
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Loads a text as a file."""
    monkeypatch.chdir(tmp_path)

    def load(text: str | bytes, *overrides: str) -> Study:
        Path("s.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return config.load("s.yaml", overrides)

    return load


@pytest.mark.parametrize(("name", "text"), [("defaults", "name: study"), ("paper", PAPER)])
def test_a_resolved_study_as_golden_text(load, name, text):
    assert config.dump(load(text)) == (GOLDEN / f"{name}.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["defaults", "paper"])
def test_golden_text_is_what_a_plain_yaml_reader_reads_too(name):
    path = GOLDEN / f"{name}.yaml"
    plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    study = flat(config.load(path))
    for key, value in study.items():
        section, _, leaf = key.rpartition(".")
        if key != "seeds.rows":
            assert (plain[section] if section else plain)[leaf] == value, key


TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12
) | st.sampled_from(
    [
        "3e-5",
        "1..4",
        "no",
        "null",
        "~",
        "010",
        "1:30",
        "0x1f",
        "2020-01-01",
        "- a",
        "a: b",
        "a #b",
        "'",
        '"',
        "<<",
        "=",
        "",
    ]
)
FLOAT = st.floats(0, 0.999)


@settings(deadline=None, max_examples=40)
@example("x", "\x85a\x85", 0.0, 1e-45, [0.5], ["\u2028", "é"])
@given(TEXT, TEXT, FLOAT, FLOAT, st.lists(FLOAT, min_size=1), st.lists(TEXT, min_size=2, unique=True))
def test_load_reads_what_dump_writes(tmp_path_factory, name, path, lr, above, rates, labels):
    study = Study(
        name=name or "x",
        method=path,
        task=TaskConfig(path=path, labels=labels, text=path),
        train=TrainConfig(lr=lr, batch_size=3),
        seeds=SeedGrid(init=[1, 2], order=3, noise="1..2"),
        sweep={"train.lr": rates, "task.path": [path, None], "train.epochs": [1, 2]},
        stop=StopConfig(loss_above=above),
    )
    file = tmp_path_factory.mktemp("study") / "study.yaml"
    file.write_text(config.dump(study), encoding="utf-8", newline="")
    assert config.load(file) == study


def test_rows_survive_too(load):
    study = load("seeds: [{init: 1, order: 7}, {init: 2, order: 7, data: 3}]")
    assert study.seeds.rows == [{"init": 1, "order": 7}, {"init": 2, "order": 7, "data": 3}]
    assert load("seeds:\n  rows: [{init: 1, order: 7}, {init: 2, order: 7, data: 3}]") == study
    assert load(config.dump(study)) == study
    assert "1..4" not in config.dump(study)


def test_flat_and_build_are_inverses():
    study = replace(Study(), train=TrainConfig(lr=1.0), sweep={"train.lr": [1.0]}, out="x")
    assert build(flat(study)) == study
    assert set(flat(study)) == {*KEYS, "sweep"}


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("train: {lr: 3e-5}", "train.lr", 3e-5),
        ("train: {lr: '3e-5'}", "train.lr", 3e-5),
        ("train: {lr: 1}", "train.lr", 1.0),
        ("train.lr: .5", "train.lr", 0.5),
        ("train:\n  lr: 1E-5\n", "train.lr", 1e-5),
        ("\ufefftrain: {epochs: 010}\r\n", "train.epochs", 10),
        ("stop: {enabled: no}", "stop.enabled", False),
        ("task: {labels: [no, yes, on, '1']}", "task.labels", ["no", "yes", "on", "1"]),
        ("seeds: {init: 1..25}", "seeds.init", "1..25"),
        ("seeds: {init: [1, 2]}", "seeds.init", [1, 2]),
        ("pool: {slots: 3}", "pool.slots", 3),
        ("train:\nsweep:\nname: a", "train.lr", 2e-5),
        (
            "sweep: {train: {lr: [1e-5]}, train.epochs: [2]}",
            "sweep",
            {"train.lr": [1e-5], "train.epochs": [2]},
        ),
    ],
)
def test_values_from_a_file(load, text, key, value):
    found = flat(load(text))[key]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["--train.lr", "3e-5"], "train.lr", 3e-5),
        (["--train.lr=3e-5"], "train.lr", 3e-5),
        (["--train.lr=1", "--train.lr=2"], "train.lr", 2.0),
        (["--seeds.init=1..3"], "seeds.init", "1..3"),
        (["--seeds.init", "3"], "seeds.init", 3),
        (["--seeds.rows", "[{init: 1, order: 2}]"], "seeds.rows", [{"init": 1, "order": 2}]),
        (["--name", "3"], "name", "3"),
        (["--name", "a #b: c"], "name", "a #b: c"),
        (["--name", "[a"], "name", "[a"),
        (["--out", "null"], "out", None),
        (["--task.labels", "[no, yes]"], "task.labels", ["no", "yes"]),
        (["--stop.enabled", "false"], "stop.enabled", False),
        (["--sweep.train.lr=[1e-5, 1]"], "sweep", {"train.lr": [1e-5, 1.0]}),
    ],
)
def test_values_from_the_command_line_win(load, words, key, value):
    found = flat(load("train: {lr: 0.5}\nname: file\nout: file", *words))[key]
    assert found == value
    assert type(found) is type(value)


BAD = [
    ("train:\n  lr: abc", "s.yaml, line 2: train.lr: expected a number of at least 0, found 'abc'"),
    ("train:\n  lr: -1", "s.yaml, line 2: train.lr: expected a number of at least 0, found -1"),
    ("train: {lr: .nan}", "train.lr: expected a number of at least 0, found nan"),
    ("train: {lr: .inf}", "train.lr: expected a number of at least 0, found inf"),
    ("train: {lr: null}", "train.lr: expected a number of at least 0, found None"),
    ("train: {lr: true}", "train.lr: expected a number of at least 0, found True"),
    ("train: {lr: 1" + "0" * 400 + "}", "train.lr: expected a number of at least 0, found 1000"),
    ("train: {dropout: 1}", "train.dropout: expected a number from 0 to below 1, found 1"),
    ("train: {warmup: 1.1}", "train.warmup: expected a number from 0 to 1, found 1.1"),
    ("train: {eps: 0}", "train.eps: expected a number above 0, found 0"),
    ("train: {b1: 1.0}", "train.b1: expected a number from 0 to below 1, found 1.0"),
    ("train: {b2: -0.1}", "train.b2: expected a number from 0 to below 1, found -0.1"),
    ("train: {batch_size: 0}", "train.batch_size: expected an integer of at least 1, found 0"),
    ("train: {epochs: 1.5}", "train.epochs: expected an integer of at least 1, found 1.5"),
    ("train: {optimizer: sgd}", "train.optimizer: expected adamw or bertadam, found 'sgd'"),
    ("task: {n_train: 0}", "task.n_train: expected an integer of at least 1 or a share such as 10% or null, found 0"),
    (
        "task: {labels: [0, 1]}",
        "task.labels: expected a list of texts of at least two that differ or null, found [0, 1]",
    ),
    ("eval: {per_epoch: 0}", "eval.per_epoch: expected an integer of at least 1, found 0"),
    ("pool: {slots: 0}", "pool.slots: expected an integer of at least 1 or auto, found 0"),
    ("pool: {slots: many}", "pool.slots: expected an integer of at least 1 or auto, found 'many'"),
    ("stop: {enabled: maybe}", "stop.enabled: expected true or false, found 'maybe'"),
    (
        "seeds: {init: 1.5}",
        "seeds.init: expected an integer or a range such as 1..25 or a list of integers, found 1.5",
    ),
    (
        "seeds: [{init: a}]",
        "seeds.rows: expected a list of mappings that is not empty or null, found [{'init': 'a'}]",
    ),
    ("seeds: {rows: [{init: 1, order: 1}], init: 3}", "seeds.init: not together with seeds.rows"),
    ("name: 3", "name: expected text that is not empty, found 3"),
    ("name: a\n\ntrain: {lrr: 1}", "s.yaml, line 3: train.lrr: unknown key; did you mean train.lr?"),
    ("trian: {lr: 1}", "s.yaml, line 1: trian: unknown key; did you mean train?"),
    ("lr: 1", "lr: unknown key; did you mean train.lr?"),
    (
        "qqq: 1",
        "qqq: unknown key; known: eval, method, model, name, out, policy, pool, seeds, stop, sweep, task, train",
    ),
    ("3: 1", "3: unknown key"),
    ("train: 3", "train: expected keys below it, such as train.optimizer, found 3"),
    ("sweep: 3", "sweep: expected keys below it, such as sweep.train.lr, found 3"),
    ("sweep: {train.lr: 3}", "line 1: sweep.train.lr: expected a list of values, found 3"),
    ("sweep: {train.lrr: [3]}", "sweep.train.lrr: not a key to sweep over; did you mean train.lr?"),
    ("", "s.yaml: empty; expected at least one key"),
    ("# nothing", "s.yaml: empty; expected at least one key"),
    ("[1]", "s.yaml: expected a mapping such as `name: study`"),
    ("text", "s.yaml: expected a mapping such as `name: study`"),
    ("name: a\nx: [", "s.yaml, line 2: not valid YAML"),
    ("name: a\n b: c", "s.yaml, line 2: not valid YAML"),
    ("name: a\nx: \x01", "s.yaml, line 2: not valid YAML"),
    ("name: !!python/object:os.system x", "s.yaml, line 1: not valid YAML"),
    ("name: &a [*a]", "s.yaml, line 1: not valid YAML"),
    ("name: a\n---\nname: b", "not valid YAML"),
    ("name: " + "9" * 5000, "s.yaml: not valid YAML"),
    ("[" * 3000, "s.yaml: nested too deeply"),
    ("name: a\nname: b", "s.yaml, line 2: name is given twice, first in line 1"),
    ("train: {lr: 1}\ntrain.lr: 2", "s.yaml, line 2: train.lr is given twice, first in line 1"),
    (b"name: a\xff", "s.yaml: not UTF-8 at byte 7"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=range(len(BAD)))
def test_a_bad_file_is_one_line(load, text, message):
    with pytest.raises(BadInput) as caught:
        load(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--train.lr", "abc"], "train.lr: expected a number of at least 0, found 'abc'"),
        (["--train.lr", "-1"], "train.lr: expected a number of at least 0, found -1"),
        (["--train.l", "1"], "train.l: unknown key; did you mean train.lr?"),
        (["--train.lr"], "train.lr: a value is missing, expected --train.lr value"),
        (["--train.lr", "--name", "x"], "train.lr: a value is missing"),
        (["--train", "{lr: 1}"], "train: expected keys below it, such as train.optimizer, found '{lr: 1}'"),
        (["--name="], "name: expected text that is not empty"),
        (["stray"], "stray: expected --key value"),
        (["-n", "x"], "-n: expected --key value"),
        (["--sweep.train.lr=1"], "sweep.train.lr: expected a list of values, found 1"),
    ],
)
def test_a_bad_command_line_is_one_line(words, message):
    with pytest.raises(BadInput) as caught:
        config.load(None, words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["missing.yaml", ".", "a\0b"])
def test_a_file_that_cannot_be_read(path):
    with pytest.raises(BadInput, match=r"cannot be read: .*; expected a study in YAML"):
        config.load(path)


def test_a_study_in_python_is_checked_too():
    check(Study())
    with pytest.raises(BadInput, match=r"train.epochs: expected an integer of at least 1, found 0"):
        check(Study(train=TrainConfig(epochs=0)))


def test_differences_name_what_differs_and_nothing_that_may():
    old = Study()
    new = Study(
        name="b",
        out="c",
        seeds=SeedGrid(init=3),
        sweep={"train.lr": [1.0]},
        train=TrainConfig(lr=3e-5),
        model="x",
    )
    assert config.differences(old, old) == []
    assert config.differences(old, new) == [
        "model: embedded in the run folder, x now",
        "train.lr: 2e-05 in the run folder, 3e-05 now",
    ]
    assert config.differences(old, replace(old, pool=config.PoolConfig(slots=2), policy="median")) == []


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes texts as files."""
    monkeypatch.chdir(tmp_path)

    def write(**texts: str) -> None:
        Path("below").mkdir(exist_ok=True)
        for name, text in texts.items():
            Path("below", f"{name}.yaml").write_text(text)

    return write


def test_a_base_is_what_a_file_begins_with(write):
    write(
        one="name: one\ntrain: {lr: 1e-3, epochs: 5}\nsweep: {train.clip: [0, 1]}",
        two="base: one.yaml\ntrain: {lr: 2e-3}\nsweep: {train.warmup: [0, 0.1]}",
        three="train: {b1: 0.8}\nbase: ../below/two.yaml\nname: three",
    )
    study = config.load("below/three.yaml", ["--train.epochs", "7"])
    assert study == Study(
        name="three",
        train=TrainConfig(lr=2e-3, epochs=7, b1=0.8),
        sweep={"train.clip": [0, 1], "train.warmup": [0, 0.1]},
    )
    assert "base" not in config.dump(study)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"a": "base: b.yaml", "b": "base: a.yaml"}, "below/b.yaml, line 1: base: below/a.yaml is based on this file"),
        ({"a": "base: a.yaml"}, "below/a.yaml, line 1: base: below/a.yaml is based on this file"),
        ({"a": "name: x\nbase: none.yaml"}, "below/a.yaml, line 2: base: no file below/none.yaml"),
        ({"a": "base: [b]"}, "below/a.yaml, line 1: base: expected the name of a study's file, found ['b']"),
        ({"a": "base: ''"}, "below/a.yaml, line 1: base: expected the name of a study's file, found ''"),
        ({"a": "base: b.yaml", "b": "name: x\ntrain: {lr: -1}"}, "below/b.yaml, line 2: train.lr: expected a number"),
        ({"a": "base: b.yaml", "b": "base: c.yaml"}, "below/b.yaml, line 1: base: no file below/c.yaml"),
        ({"a": "base: b.yaml", "b": ""}, "below/b.yaml: empty"),
    ],
)
def test_a_base_that_cannot_be_used_is_one_line(write, texts, message):
    write(**texts)
    with pytest.raises(BadInput) as error:
        config.load("below/a.yaml")
    assert str(error.value).startswith(message)
