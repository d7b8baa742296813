"""SNLI, SciTail and SICK, small: as their files were released, and saved by `datasets`."""

import json

import pytest
from test_tasks import load

from jaxft.errors import BadInput, Note

PAIRS = [
    ("a cat sits", "a cat"),
    ("a dog runs", "it sits"),
    ("the mat", "a cat"),
    ("a cat", "it runs"),
    ("it", "a dog"),
]
NLI = ("entailment", "neutral", "contradiction")
LABELS = [0, 1, 2, 1, 0]


def snli(folder, labels):
    for name in ("train", "dev"):
        rows = [
            {"gold_label": label, "sentence1": a, "sentence2": b} for (a, b), label in zip(PAIRS, labels, strict=True)
        ]
        (folder / f"snli_1.0_{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"name": "snli", "path": str(folder)}


def scitail(folder, header=False):
    rows = [f"{a}\t{b}\t{['entails', 'neutral'][label % 2]}" for (a, b), label in zip(PAIRS, LABELS, strict=True)]
    for name in ("train", "dev"):
        (folder / f"scitail_1.0_{name}.tsv").write_text("\n".join(rows) + "\n")
    return {"name": "scitail", "path": str(folder)}


def sick(folder):
    rows = ["pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment"]
    rows += [
        f"{i}\t{a}\t{b}\t3.5\t{NLI[label].upper()}" for i, ((a, b), label) in enumerate(zip(PAIRS, LABELS, strict=True))
    ]
    for name in ("train", "trial"):
        (folder / f"SICK_{name}.tsv").write_text("\n".join(rows) + "\n")
    return {"name": "sick", "path": str(folder)}


def test_files_as_they_were_released(tmp_path):
    for made, names, labels in (
        (snli(tmp_path, [NLI[label] for label in LABELS]), NLI, LABELS),
        (scitail(tmp_path), ("entails", "neutral"), [0, 1, 0, 1, 0]),
        (sick(tmp_path), NLI, LABELS),
    ):
        task = load(**made)
        assert task.labels == names
        assert task.train.labels.tolist() == task.evals["dev"].labels.tolist() == labels
        assert task.metric == "accuracy"


def test_pairs_without_agreement_are_passed_over_with_a_note(tmp_path):
    made = snli(tmp_path, ["entailment", "-", "contradiction", "-", "neutral"])
    with pytest.warns(Note, match=r"snli_1\.0_\w+\.jsonl: 2 of 5 pairs have no label and are passed over"):
        task = load(**made)
    assert task.train.labels.tolist() == [0, 2, 1]
    with pytest.raises(BadInput, match=r"snli_1\.0_train\.jsonl: no row has a label in column 'gold_label'"):
        load(**snli(tmp_path, ["-"] * 5))
    with pytest.raises(
        BadInput, match=r"train\.jsonl, line 2: label 'maybe' is not in the set; accepted are entailment"
    ):
        load(**snli(tmp_path, ["entailment", "maybe", *NLI]))


def test_a_saved_data_set_equals_the_files(tmp_path):
    library = pytest.importorskip("datasets")
    columns = {"premise": [a for a, _ in PAIRS], "hypothesis": [b for _, b in PAIRS]}
    features = {name: library.Value("string") for name in columns} | {"label": library.ClassLabel(names=list(NLI))}
    rows = library.Dataset.from_dict({**columns, "label": [0, -1, 2, -1, 1]}, features=library.Features(features))
    library.DatasetDict({"train": rows, "validation": rows}).save_to_disk(tmp_path / "saved")
    with pytest.warns(Note, match="2 of 5 pairs have no label"):
        saved = load(name="snli", path=str(tmp_path / "saved"))
    with pytest.warns(Note, match="2 of 5 pairs have no label"):
        plain = load(**snli(tmp_path, ["entailment", "-", "contradiction", "-", "neutral"]))
    assert saved.fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "snli"}, r"task\.path: snli needs the folder with its snli_1\.0_train\.jsonl and .*, or hub$"),
        ({"name": "sick", "path": "hub"}, r"task\.path: sick has no one place on the hub: hub:OWNER/NAME, or a folder"),
        ({"name": "snli", "path": "x", "text": "a"}, r"task\.text: snli has its own; this key is for task\.name: text"),
    ],
)
def test_what_does_not_name_them(changes, said):
    with pytest.raises(BadInput, match=said):
        load(**changes)
