import json

import numpy as np
import pytest
from test_tasks import COLA, COLUMNS, RTE, load, write

from jaxft.errors import BadInput

GOOD = "s\ty\nthe cat\tno\na dog\tyes\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "mrcp"}, "task.name: 'mrcp' is unknown; accepted are ag_news, "),
        ({"name": "mrcp"}, "did you mean mrpc?"),
        ({"path": "nowhere"}, "task.path: no folder nowhere"),
        ({"train": "train.csv"}, "task.train: no file "),
        ({"train": "train.csv"}, "train.csv; its folder has dev.tsv, train.tsv"),
        ({"test": "test.tsv"}, "task.test: no file "),
        ({"text": "sentence"}, "train.tsv: no column 'sentence'; the columns are s, y"),
        ({"text_pair": "t"}, "train.tsv: no column 't'; the columns are s, y"),
        ({"label": "label"}, "train.tsv: no column 'label'; the columns are s, y"),
        (
            {"labels": ["no", "maybe"]},
            "train.tsv, line 3: label 'yes' is not in the set; accepted are no, maybe",
        ),
        ({"labels": ["no", "yes", "no"]}, "task.labels: 'no' appears twice"),
        ({"labels": ["no"]}, "task.labels: two or more are needed, found 1"),
        ({"labels": []}, "task.labels: two or more are needed, found 0"),
        (
            {"metric": "bleu"},
            "task.metric: 'bleu' is unknown; accepted are accuracy, f1, mcc, accuracy_f1",
        ),
        ({"metric": "pearson"}, "task.metric: 'pearson' "),
        ({"regression": True}, "train.tsv, line 2: found the label 'no', a finite number of 32 bits is accepted"),
        ({"regression": True, "labels": ["no", "yes"]}, "task.labels: not together with task.regression"),
        ({"path": "hub"}, "task.path: found 'hub', accepted are hub:OWNER/NAME and hub:OWNER/NAME:CONFIG, and for a"),
        ({"path": "hub:"}, "task.path: found 'hub:', accepted are hub:OWNER/NAME"),
        ({"path": "tfds"}, "task.path: found 'tfds', accepted are tfds:NAME and tfds:NAME/CONFIG, and for a GLUE task"),
        ({"metric": "f1", "labels": ["no", "yes", "maybe"]}, "'f1' is for two classes, and there are 3"),
        ({"max_length": 129}, "task.max_length: 129 is more than the 128 positions of the model"),
        ({"max_length": 2}, "task.max_length: 2 is too short; 3 is the least"),
        ({"n_train": 3}, "task.n_train: 3 is not between 1 and the 2 training examples"),
        ({"n_train": 0}, "task.n_train: 0 is not between 1 and the 2 training examples"),
        (
            {"name": "rte", "text": "sentence", "label": "label", "path": None},
            "task.path: rte needs the folder",
        ),
        ({"name": "rte"}, "task.text: rte has its own; this key is for task.name: text"),
    ],
)
def test_a_bad_configuration_is_one_line(tmp_path, changes, message):
    config = {**COLUMNS, "path": write(tmp_path, train=GOOD, dev=GOOD)} | changes
    with pytest.raises(BadInput) as error:
        load(**config)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("split", "content", "message"),
    [
        ("train", "s\ty\na\tno\n \tyes\n", "train.tsv, line 3: empty text in column 's'"),
        ("train", "s\ty\na\tno\n\tyes\n", "train.tsv, line 3: empty text in column 's'"),
        ("train", "s\ty\na\tno\nthe\t\n", "train.tsv, line 3: no label in column 'y'"),
        (
            "train",
            "s\ty\na\tno\nthe\tno\n",
            "train.tsv: all labels are 'no'; two classes are needed",
        ),
        (
            "dev",
            "s\ty\na\tno\nthe\tNo\n",
            "dev.tsv, line 3: label 'No' is not in the set; accepted are no, yes",
        ),
        ("dev", "s\ty\na\tno\nthe\t\n", "dev.tsv, line 3: no label in column 'y'"),
        ("dev", "s\ty\n", "dev.tsv: a header and no rows"),
    ],
)
def test_bad_rows_name_file_and_line(tmp_path, split, content, message):
    path = write(tmp_path, **({"train": GOOD, "dev": GOOD} | {split: content}))
    with pytest.raises(BadInput) as error:
        load(**COLUMNS, path=path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("split", "content", "message"),
    [
        ("train", "s\ty\na\t1\nthe\t\n", "train.tsv, line 3: no label in column 'y'"),
        ("train", "s\ty\na\t1.50\nthe\t1.5\n", "task.train: all 2 examples have the label 1.5; two numbers are needed"),
        # Unequal as written, and equal in the 32 bits that are trained on.
        ("train", "s\ty\na\t1\nthe\t1.00000001\n", "task.train: all 2 examples have the label 1.0; two numbers"),
        ("train", "s\ty\na\t1\nthe\t1,5\n", "train.tsv, line 3: found the label '1,5', a finite number of 32 bits is"),
        ("dev", "s\ty\na\tinf\n", "dev.tsv, line 2: found the label 'inf', a finite number of 32 bits is accepted"),
        ("test", "s\ty\na\tnan\n", "test.tsv, line 2: found the label 'nan', a finite number of 32 bits is accepted"),
        ("test", "s\ty\na\t1e39\n", "test.tsv, line 2: found the label '1e39', a finite number of 32 bits is accepted"),
    ],
)
def test_bad_numbers_name_file_and_line(tmp_path, split, content, message):
    good = "s\ty\nthe cat\t0.5\na dog\t1.5\n"
    path = write(tmp_path, **({"train": good, "dev": good, "test": good} | {split: content}))
    with pytest.raises(BadInput) as error:
        load(**COLUMNS, path=path, regression=True, test="test.tsv")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"s": 1, "y": "no"}, "line 2: 's' is not a text (int)"),
        ({"s": None, "y": "no"}, "line 2: empty text in column 's'"),
        ({"y": "no"}, "line 2: empty text in column 's'"),
        ({"s": "\ud800", "y": "no"}, "line 2: 's' is not valid Unicode"),
        ({"s": "a", "y": ["no"]}, "line 2: a label is a text or a number, found list"),
        ({"s": "a"}, "line 2: no label in column 'y'"),
    ],
)
def test_bad_values_of_json(tmp_path, row, message):
    content = "".join(json.dumps(value) + "\n" for value in ({"s": "the cat", "y": "yes"}, row))
    path = write(tmp_path, **{"t.jsonl": content})
    with pytest.raises(BadInput) as error:
        load(**COLUMNS, path=path, train="t.jsonl", dev="t.jsonl")
    assert message in str(error.value)


@pytest.mark.parametrize("value", [True, float("nan"), "2 3", [1.0]])
def test_bad_numbers_of_json(tmp_path, value):
    content = "".join(json.dumps(row) + "\n" for row in ({"s": "the cat", "y": 1}, {"s": "a", "y": value}))
    path = write(tmp_path, **{"t.jsonl": content})
    with pytest.raises(
        BadInput, match=r"t.jsonl, line 2: (found the label '|a label is a text or a number, found list)"
    ):
        load(**COLUMNS, path=path, train="t.jsonl", dev="t.jsonl", regression=True)


def test_the_shortest_length_of_a_pair_works(tmp_path):
    path = write(tmp_path, train=RTE, dev=RTE)
    with pytest.raises(BadInput, match=r"task.max_length: 3 is too short; 4 is the least"):
        load(name="rte", path=path, max_length=3)
    task = load(name="rte", path=path, max_length=4)
    assert np.diff(task.train.offsets).tolist() == [4, 4]


def test_a_short_first_row_of_cola_is_not_taken_for_a_header(tmp_path):
    path = write(tmp_path, train="gj04\t1\tthe cat\n" + COLA, dev=COLA)
    expected = "train.tsv, line 1: 3 columns; 4 are expected: source, label, mark, sentence"
    with pytest.raises(BadInput, match=expected):
        load(name="cola", path=path)


@pytest.mark.parametrize("changes", [{"name": "mrpc", "train": "one.tsv"}, {"labels": ["no", "yes"]}])
def test_one_class_in_train_is_refused_where_the_labels_are_known(tmp_path, changes):
    one = "Quality\t#1 String\t#2 String\n1\ta\tthe\n1\tthe\ta\n"
    path = write(tmp_path, one=one, train="s\ty\na\tyes\nthe\tyes\n", dev=one if "name" in changes else GOOD)
    config = ({} if "name" in changes else COLUMNS) | changes
    named = "equivalent" if "name" in changes else "yes"
    with pytest.raises(BadInput, match=f"task.train: all 2 examples have the label '{named}'; two classes"):
        load(**config, path=path)
