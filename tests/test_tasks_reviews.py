"""Yelp, Amazon, IMDB and AG News, small: as files were released, and saved by `datasets` with the hub's columns."""

import json

import pytest
from test_tasks import load

from jaxft.errors import BadInput, Note

TEXTS = ["a cat sits", "a dog runs, it sits", 'the "mat"', "it runs", "a cat"]


def csv(folder, rows):
    for name in ("train", "test"):
        lines = [",".join(f'"{str(cell).replace(chr(34), chr(34) * 2)}"' for cell in row) for row in rows]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return {"path": str(folder)}


def saved(folder, columns, names=None):
    library = pytest.importorskip("datasets")
    label = library.ClassLabel(names=names) if names else library.Value("int64")
    features = {name: library.Value("string") for name in columns if name != "label"} | {"label": label}
    rows = library.Dataset.from_dict(columns, features=library.Features(features))
    library.DatasetDict({"train": rows, "test": rows}).save_to_disk(folder / "saved")
    return {"path": str(folder / "saved")}


STARS = ("1 star", "2 star", "3 stars", "4 stars", "5 stars")


@pytest.mark.parametrize(
    ("name", "classes", "hub", "labels"),
    [
        ("yelp_review", STARS, STARS, [0, 4, 2, 1, 3]),
        ("yelp_review", STARS, None, [0, 4, 2, 1, 3]),
        ("yelp_polarity", ("negative", "positive"), ("1", "2"), [0, 1, 1, 0, 1]),
        ("yelp_polarity", ("negative", "positive"), None, [0, 1, 1, 0, 1]),
        ("yelp_polarity", ("negative", "positive"), ("negative", "positive"), [0, 1, 1, 0, 1]),
    ],
)
def test_a_saved_data_set_equals_the_files(tmp_path, name, classes, hub, labels):
    """Files count classes from 1; the hub has names, which may be those numbers, or numbers from 0."""
    plain = load(name=name, **csv(tmp_path, [(label + 1, text) for label, text in zip(labels, TEXTS, strict=True)]))
    assert plain.labels == classes
    assert plain.train.labels.tolist() == plain.evals["dev"].labels.tolist() == labels
    assert plain.metric == "accuracy"
    other = load(name=name, **saved(tmp_path, {"text": TEXTS, "label": labels}, hub))
    assert other.fingerprint == plain.fingerprint


def test_news_are_titles_and_descriptions(tmp_path):
    labels = [0, 1, 2, 3, 0]
    titles, rest = ["a cat", "a dog", "the", "it", "a"], ["sits", "runs", "mat", "runs", "cat"]
    plain = load(name="ag_news", **csv(tmp_path, list(zip([x + 1 for x in labels], titles, rest, strict=True))))
    names = ("World", "Sports", "Business", "Sci/Tech")
    assert (plain.labels, plain.train.labels.tolist()) == (names, labels)
    joined = [f"{a} {b}" for a, b in zip(titles, rest, strict=True)]
    hub = load(name="ag_news", **saved(tmp_path, {"text": joined, "label": labels}, names))
    assert hub.fingerprint == plain.fingerprint
    (tmp_path / "tfds").mkdir()
    apart = load(
        name="ag_news", **saved(tmp_path / "tfds", {"title": titles, "description": rest, "label": labels}, names)
    )
    assert apart.fingerprint == plain.fingerprint


@pytest.mark.parametrize("names", [("negative", "positive"), None])
def test_amazon_in_two_classes_is_titles_and_contents(tmp_path, names):
    labels, titles = [0, 1, 1, 0, 1], ["a cat", "a dog", "the", "it", "a"]
    plain = load(
        name="amazon_polarity", **csv(tmp_path, list(zip([x + 1 for x in labels], titles, TEXTS, strict=True)))
    )
    assert (plain.labels, plain.train.labels.tolist()) == (("negative", "positive"), labels)
    hub = load(name="amazon_polarity", **saved(tmp_path, {"title": titles, "content": TEXTS, "label": labels}, names))
    assert hub.fingerprint == plain.fingerprint


def test_imdb(tmp_path):
    labels = [0, 1, 1, 0, 1]
    rows = [("text", "label"), *zip(TEXTS, [("neg", "pos")[x] for x in labels], strict=True)]
    plain = load(name="imdb", **csv(tmp_path, rows))
    assert (plain.labels, plain.train.labels.tolist()) == (("neg", "pos"), labels)
    assert (
        load(name="imdb", **saved(tmp_path, {"text": TEXTS, "label": labels}, ("neg", "pos"))).fingerprint
        == plain.fingerprint
    )


def test_amazon_reviews_without_a_text_are_passed_over_with_a_note(tmp_path):
    rows = [{"reviewText": text, "overall": float(star)} for text, star in zip(TEXTS, (1, 5, 3, 2, 4), strict=True)]
    for name in ("train", "dev"):
        lines = [*rows, {"overall": 5.0}, {"reviewText": " ", "overall": 5.0}]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    with pytest.warns(Note, match=r"jsonl: 2 of 7 reviews have no text and are passed over"):
        task = load(name="amazon_reviews", path=str(tmp_path))
    assert (task.labels, task.train.labels.tolist()) == (STARS, [0, 4, 2, 1, 3])
    (tmp_path / "train.jsonl").write_text('{"reviewText": "", "overall": 5.0}\n')
    with pytest.raises(BadInput, match=r"train\.jsonl: no row has a text in column 'reviewText'"):
        load(name="amazon_reviews", path=str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "imdb"}, r"task\.path: imdb needs the folder with its train\.csv and test\.csv, or hub, or tfds$"),
        (
            {"name": "yelp_review", "path": "tfds"},
            r"task\.path: found 'tfds', but yelp_review needs the folder .*, or hub$",
        ),
        (
            {"name": "amazon_reviews", "path": "hub"},
            r"amazon_reviews needs the folder with its train\.jsonl and dev\.jsonl$",
        ),
        (
            {"name": "ag_news", "path": "x", "label": "a"},
            r"task\.label: ag_news has its own; this key is for task\.name",
        ),
    ],
)
def test_what_does_not_name_them(changes, said):
    with pytest.raises(BadInput, match=said):
        load(**changes)


def test_a_label_beyond_the_stars(tmp_path):
    made = csv(tmp_path, [(6, TEXTS[0]), (1, TEXTS[1])])
    with pytest.raises(
        BadInput, match=r"train\.csv, line 1: label '6' is not in the set; accepted are 1, 2, 3, 4, 5, 1 star"
    ):
        load(name="yelp_review", **made)
