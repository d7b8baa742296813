import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_data_batch import tiny
from test_tasks import COLUMNS, TINY, load, write

from jaxft import tasks
from jaxft.errors import BadInput
from jaxft.study.config import TaskConfig
from jaxft.tasks import halves
from jaxft.tasks.source import Raw, Source

SEEDS = st.integers(0, 2**31 - 1)


def source(labels, names=("no", "yes"), **more):
    dev = Raw([(f"text {i}", None) for i in range(len(labels))], labels)
    return Source({"train": dev, "dev": dev, **more}, names, "accuracy")


def mixed(count: int) -> Source:
    """Every example has a number of its own, so no half is of one."""
    return source([float(i) for i in range(count)], ())


@given(st.integers(4, 60), SEEDS)
def test_halves_are_disjoint_and_complete_and_keep_their_order(count, seed):
    whole = mixed(count)
    found = halves.split(whole, seed)
    dev, test = found.splits["dev"], found.splits["test"]
    assert len(dev.labels) - len(test.labels) == count % 2
    assert sorted(dev.labels + test.labels) == whole.splits["dev"].labels
    for half in (dev, test):
        assert half.labels == sorted(half.labels)
        assert half.texts == [(f"text {i:.0f}", None) for i in half.labels]
    assert found.splits["train"] == whole.splits["train"]
    assert halves.split(whole, seed) == found


def test_halves_differ_by_seed():
    whole = mixed(40)
    found = {tuple(halves.split(whole, seed).splits["dev"].labels) for seed in range(50)}
    assert len(found) == 50
    # Every example is as often in the one half as in the other, within 4 standard deviations of a binomial.
    often = Counter(place for half in found for place in half)
    assert all(abs(count - 25) < 4 * math.sqrt(50) / 2 for count in often.values())
    assert len(often) == 40


def test_halves_are_those_of_the_numbers_that_python_promises():
    # Random(0).random() gives .844, .758, .421, .259 in every Python: of four examples the last two come first.
    found = halves.split(source([0, 1, 0, 1]), 0)
    assert [text for text, _ in found.splits["dev"].texts] == ["text 2", "text 3"]
    assert [text for text, _ in found.splits["test"].texts] == ["text 0", "text 1"]


def test_a_second_dev_set_stays_whole():
    second = Raw([("a", None)] * 3, [0, 1, 1])
    found = halves.split(source([0, 1] * 10, dev_mismatched=second), 3)
    assert found.splits["dev_mismatched"] == second


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        (source([0, 1] * 4, test=Raw([("a", None)], [0])), "task.split_dev: not together with task.test: "),
        (source([0, 1, 1]), "task.split_dev: the dev set has 3 examples; 4 or more are needed for two halves"),
        (source([]), "task.split_dev: the dev set has 0 examples; 4 or more"),
        (source([1] * 7), "task.split_dev: with seed 5 all 4 examples of the first half have the label 'yes', as 7 of "
         "the dev set's 7 have; each half needs two: another seed, or more examples"),
        (source([2.5] * 6, ()), "all 3 examples of the first half have the label 2.5, as 6 of the dev set's 6 have"),
    ],
)  # fmt: skip
def test_halves_that_cannot_be_are_one_line(whole, message):
    with pytest.raises(BadInput) as error:
        halves.split(whole, 5)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_single_example_of_a_class_leaves_one_half_without_it():
    for seed in range(20):
        with pytest.raises(
            BadInput, match=rf"with seed {seed} all [45] examples of the (first|second) half have .* 'no', as 8"
        ):
            halves.split(source([0] * 8 + [1]), seed)


def test_a_task_is_split_whatever_the_tokenizer(tmp_path):
    rows = "".join(
        f"{text}\t{label}\n" for text, label in zip(["a cat", "the dog", "a mat"] * 5, "xyxxy" * 3, strict=True)
    )
    path = write(tmp_path, train=f"s\ty\n{rows}", dev=f"s\ty\n{rows}")
    whole = load(**COLUMNS, path=path)
    task = load(**COLUMNS, path=path, split_dev=3)
    other = tasks.load(TaskConfig(**COLUMNS, path=path, split_dev=3), tiny(types=False), 128)
    assert list(task.evals) == list(load(**COLUMNS, path=path, split_dev=0).evals) == ["dev", "test"]
    for name, count in (("dev", 8), ("test", 7)):
        assert len(task.evals[name].labels) == count
        np.testing.assert_array_equal(task.evals[name].labels, other.evals[name].labels)
    np.testing.assert_array_equal(task.train.tokens, whole.train.tokens)
    assert len({whole.fingerprint, task.fingerprint, load(**COLUMNS, path=path, split_dev=4).fingerprint}) == 3


def test_the_generated_task_can_be_split():
    task = tasks.load(TaskConfig(split_dev=1), TINY, 128)
    assert {name: len(split.labels) for name, split in task.evals.items()} == {"dev": 128, "test": 128}
