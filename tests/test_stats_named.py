"""What settings are called: briefly, and never two by one name."""

import pandas as pd
import pytest
from handmade import scores

from jaxft.stats import named, sizes

LSTM = "lstm(layers=1, hidden=128, pooling='max', embeddings='{}', width=0)"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["org/bert"], ["bert"]),
        (["a/b/bert", "a/c/bert/"], ["b/bert", "c/bert"]),
        (["bert", "x/bert"], ["bert", "x/bert"]),
        (["a/m", "a/m|scratch"], ["m", "m | scratch"]),
        ([f"a/m|{LSTM.format('random')}", f"b/m|{LSTM.format('frozen')}"],
         ["a/m | lstm(hidden=128)", "b/m | lstm(hidden=128, embeddings='frozen')"]),
        (["m|any text (of a file", "n"], ["m | any text (of a file", "n"]),
        (["", "m"], ["", "m"]),
        ([], []),
    ],
)  # fmt: skip
def test_models_are_called_by_what_tells_them_apart(values, expected):
    assert named.models(values) == dict(zip(values, expected, strict=True))


def test_long_values_are_cut_unless_that_makes_them_equal():
    long = "mixout(p=0.1)|llrd(decay=0.95)|reinit(layers=1)"
    found = named.settings("method", [long, "vanilla", long])
    assert set(found) == {long, "vanilla"}
    assert found[long].endswith("...")
    other = long.replace("=1)", "=2)")
    assert named.settings("method", [long, other]) == {long: long, other: other}
    assert named.settings("hp.train.lr", [1e-4, 2e-4]) == {1e-4: "0.0001", 2e-4: "0.0002"}


def test_two_folders_of_one_name_are_two_models():
    """A learning curve that took them for settings of one model would show the better of them."""
    studies = [
        scores(pd.DataFrame([[0.5 + n / 1e4]]).to_numpy(), f"{folder} {n}")._replace(
            setting={"model": f"{folder}/final", "n_train": n}
        )
        for folder in ("one", "two")
        for n in (100, 1000)
    ]
    assert {point.arm for point in sizes.points(studies)} == {"one/final", "two/final"}
