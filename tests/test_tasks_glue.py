"""The nine tasks of GLUE: files in the official layout, `datasets` and TFDS give the same, down to the batches."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import sources
from test_data_batch import on_device, read
from test_tasks import TINY, load

from jaxft import tasks
from jaxft.data.batch import width
from jaxft.errors import BadInput, Note
from jaxft.study.config import TaskConfig

METRICS = {"cola": "mcc", "stsb": "pearson_spearman", "mrpc": "accuracy_f1", "qqp": "accuracy_f1"}


def test_the_nine_tasks_are_there():
    assert set(sources.LAYOUTS) <= set(tasks.find())


@pytest.mark.parametrize("kind", ["saved", "prepared"])
@pytest.mark.parametrize("name", sources.LAYOUTS)
def test_files_and_libraries_give_the_same_batches(tmp_path, name, kind):
    pytest.importorskip("datasets" if kind == "saved" else "tensorflow_datasets")
    data = sources.rows(name)
    test, tested = next((file, split) for split, file in sources.splits(name).items() if "test" in split)
    plain = load(name=name, path=sources.official(tmp_path / "files", name, data), test=test)
    other = load(name=name, path=getattr(sources, kind)(tmp_path / kind, name, data), test=tested)
    assert list(plain.evals) == ["dev", "dev_mismatched", "test"] if name == "mnli" else ["dev", "test"]
    assert plain.labels == other.labels == sources.LAYOUTS[name].classes
    assert plain.metric == other.metric == METRICS.get(name, "accuracy")
    assert plain.fingerprint == other.fingerprint
    wide = width([plain.train, *plain.evals.values()])
    order = jnp.asarray([*np.random.default_rng(1).permutation(12).tolist(), -1])
    for ours, theirs in zip((plain.train, *plain.evals.values()), (other.train, *other.evals.values()), strict=True):
        rows = jnp.minimum(order, len(ours.labels) - 1)
        for a, b in zip(read(on_device(ours), rows, wide), read(on_device(theirs), rows, wide), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", sources.LAYOUTS)
def test_labels_are_those_that_were_written(tmp_path, name):
    data = sources.rows(name)
    task = load(name=name, path=sources.official(tmp_path, name, data))
    for split, theirs in [(task.train, "train"), (task.evals["dev"], next(s for s in data if s.startswith("val")))]:
        np.testing.assert_array_equal(split.labels, np.asarray([row[-1] for row in data[theirs]], split.labels.dtype))
        assert split.labels.dtype == (np.float32 if name == "stsb" else np.int32)


def test_examples_of_tfds_come_in_their_own_order(tmp_path):
    library = pytest.importorskip("tensorflow_datasets")
    data = sources.rows("mrpc")
    folder = sources.prepared(tmp_path, "mrpc", data)
    source = library.builder_from_directory(folder).as_data_source("train")
    assert [row["idx"] for row in source] != list(range(12)), "nothing to put in order"
    labels = load(name="mrpc", path=folder).train.labels
    assert labels.tolist() == [row[-1] for row in data["train"]]


def test_hidden_scores_are_unknown(tmp_path):
    pytest.importorskip("datasets")
    data = sources.rows("stsb")
    task = load(name="stsb", path=sources.saved(tmp_path, "stsb", data), test="test")
    assert all(map(math.isnan, task.evals["test"].labels))
    with pytest.raises(BadInput, match="test, row 1: no label in column 'label'"):
        load(name="stsb", path=str(tmp_path), dev="test")


def test_a_class_that_is_only_a_number_in_a_library_counts_in_the_order_of_glue(tmp_path):
    library = pytest.importorskip("datasets")
    data = sources.rows("rte")
    plain = {
        split: library.Dataset.from_list([{"sentence1": a, "sentence2": b, "label": n} for a, b, n in rows])
        for split, rows in data.items()
    }
    library.DatasetDict(plain).save_to_disk(tmp_path / "plain")
    task = load(name="rte", path=str(tmp_path / "plain"), test="test")
    assert (
        task.fingerprint == load(name="rte", path=sources.saved(tmp_path / "s", "rte", data), test="test").fingerprint
    )
    assert set(task.evals["test"].labels.tolist()) == {-1}


def test_mnli_has_two_dev_sets_unless_one_is_named(tmp_path):
    data = sources.rows("mnli")
    path = sources.official(tmp_path, "mnli", data)
    both = load(name="mnli", path=path)
    assert list(both.evals) == ["dev", "dev_mismatched"]
    one = load(name="mnli", path=path, dev="dev_mismatched.tsv")
    assert list(one.evals) == ["dev"]
    np.testing.assert_array_equal(one.evals["dev"].tokens, both.evals["dev_mismatched"].tokens)
    (tmp_path / "dev_mismatched.tsv").unlink()
    with pytest.raises(BadInput) as error:
        load(name="mnli", path=path)
    assert "task.dev: no file " in str(error.value)
    assert "dev_mismatched.tsv; its folder has dev_matched.tsv, " in str(error.value)
    assert str(error.value).endswith("; without a second dev set, name the first in task.dev")
    assert list(load(name="mnli", path=path, dev="dev_matched.tsv").evals) == ["dev"]
    (tmp_path / "dev_matched.tsv").unlink()
    with pytest.raises(
        BadInput, match=r"dev_matched.tsv; its folder has test_matched.tsv, test_mismatched.tsv, train.tsv$"
    ):
        load(name="mnli", path=path)


def test_mnli_without_the_second_split_of_a_library(tmp_path):
    pytest.importorskip("datasets")
    data = sources.rows("mnli")
    del data["validation_mismatched"]
    path = sources.saved(tmp_path, "mnli", data)
    with pytest.raises(BadInput, match=r"task.dev: no split 'validation_mismatched' in .* name the first in task.dev$"):
        load(name="mnli", path=path)
    assert list(load(name="mnli", path=path, dev="validation_matched").evals) == ["dev"]


def test_rows_of_qqp_that_lack_columns_are_passed_over_and_said(tmp_path):
    data = sources.rows("qqp")
    path = sources.official(tmp_path, "qqp", data)
    plain = load(name="qqp", path=path)
    lines = (tmp_path / "train.tsv").read_text().splitlines()
    text = "\n".join([*lines, "1\t2\t3\tthe cat", "sat\ta dog\t1", "", ""]) + "\n"
    (tmp_path / "train.tsv").write_text(text.rstrip("\n") + "\n")
    with pytest.warns(Note, match=r"train.tsv: 2 of 14 rows lack columns and are passed over$"):
        task = load(name="qqp", path=path)
    assert task.fingerprint == plain.fingerprint
    with pytest.raises(BadInput, match=r"train.tsv, line 14: 4 columns; 6 are expected"):
        load(name="text", path=path, text="question1", label="is_duplicate")
    (tmp_path / "train.tsv").write_text("\n".join([*lines, lines[1] + "\tx"]) + "\n")
    with pytest.raises(BadInput, match=r"train.tsv, line 14: 7 columns; 6 are expected"):
        load(name="qqp", path=path)
    (tmp_path / "train.tsv").write_text(f"{lines[0]}\n1\t2\n")
    with pytest.raises(BadInput, match=r"train.tsv: a header and no rows with all of its columns"):
        load(name="qqp", path=path)


def test_qqp_alone_may_have_empty_texts(tmp_path):
    for name in ("qqp", "rte"):
        data = sources.rows(name)
        data["train"][4] = (data["train"][4][0], "", data["train"][4][2])
        path = sources.official(tmp_path / name, name, data)
        if name == "qqp":
            train = load(name=name, path=path).train
            there = train.offsets[5] - train.offsets[4]
            assert there - train.second[4] == 1, "the second text is its end alone"
        else:
            with pytest.raises(BadInput, match=r"train.tsv, line 6: empty text in column 'sentence2'"):
                load(name=name, path=path)


def test_a_score_that_is_no_number_is_refused(tmp_path):
    path = sources.official(tmp_path, "stsb", sources.rows("stsb"))
    file = tmp_path / "train.tsv"
    before = file.read_text()
    for word in ("none", "nan", "-inf", "1e39", "1_0"):
        head, tail = before.rstrip("\n").rsplit("\t", 1)
        file.write_text(f"{head}\t{word}\n")
        with pytest.raises(BadInput, match=rf"train.tsv, line 13: found the label '{word}', a finite number"):
            load(name="stsb", path=path)
        assert float(tail) >= 0
    file.write_text(before.rstrip("\n").rsplit("\t", 1)[0] + "\t\n")
    with pytest.raises(BadInput, match=r"train.tsv, line 13: no label in column 'score'"):
        load(name="stsb", path=path)


@pytest.mark.parametrize("key", [{"regression": True}, {"labels": ["a", "b"]}, {"label": "x"}])
@pytest.mark.parametrize("name", ["stsb", "rte", "generated"])
def test_what_a_named_task_settles_itself_is_refused(tmp_path, name, key):
    path = None if name == "generated" else str(tmp_path)
    with pytest.raises(BadInput, match=rf"task.{next(iter(key))}: "):
        tasks.load(TaskConfig(name=name, path=path, **key), TINY, 128)


def test_without_a_path_the_line_names_the_files():
    with pytest.raises(BadInput, match=r"mnli needs the folder with its train.tsv and dev_matched.tsv and dev_mism"):
        load(name="mnli")
