"""Every GLUE task, small: in the official layout, saved by `datasets`, and prepared by TFDS."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from test_data_batch import WORDS

NLI = ("entailment", "neutral", "contradiction")
RTE = ("entailment", "not_entailment")
PARSES = ("sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse")
RATERS = tuple(f"label{i}" for i in range(1, 6))
MNLI = ("index", "promptID", "pairID", "genre", *PARSES, "sentence1", "sentence2")
STSB = ("index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2")


class Layout(NamedTuple):
    """How GLUE and the libraries write a task."""

    classes: tuple[str, ...]
    """In the order of their numbers; none for scores."""
    codes: tuple[str, ...]
    files: tuple[str, ...]
    """The columns of texts and label in the files."""
    library: tuple[str, ...]
    train: tuple[str, ...]
    """The columns of train and dev."""
    test: tuple[str, ...]


BINARY = ("0", "1")
LAYOUTS = {
    "cola": Layout(
        ("unacceptable", "acceptable"), BINARY, ("sentence", "label"), ("sentence", "label"),
        ("source", "label", "mark", "sentence"), ("index", "sentence"),
    ),
    "sst2": Layout(
        ("negative", "positive"), BINARY, ("sentence", "label"), ("sentence", "label"),
        ("sentence", "label"), ("index", "sentence"),
    ),
    "mrpc": Layout(
        ("not_equivalent", "equivalent"), BINARY, ("#1 String", "#2 String", "Quality"),
        ("sentence1", "sentence2", "label"), ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"),
        ("index", "#1 ID", "#2 ID", "#1 String", "#2 String"),
    ),
    "stsb": Layout(
        (), (), ("sentence1", "sentence2", "score"), ("sentence1", "sentence2", "label"), (*STSB, "score"), STSB
    ),
    "qqp": Layout(
        ("not_duplicate", "duplicate"), BINARY, ("question1", "question2", "is_duplicate"),
        ("question1", "question2", "label"), ("id", "qid1", "qid2", "question1", "question2", "is_duplicate"),
        ("id", "question1", "question2"),
    ),
    "mnli": Layout(
        NLI, NLI, ("sentence1", "sentence2", "gold_label"), ("premise", "hypothesis", "label"),
        (*MNLI, "label1", "gold_label"), MNLI,
    ),
    "qnli": Layout(
        RTE, RTE, ("question", "sentence", "label"), ("question", "sentence", "label"),
        ("index", "question", "sentence", "label"), ("index", "question", "sentence"),
    ),
    "rte": Layout(
        RTE, RTE, ("sentence1", "sentence2", "label"), ("sentence1", "sentence2", "label"),
        ("index", "sentence1", "sentence2", "label"), ("index", "sentence1", "sentence2"),
    ),
    "wnli": Layout(
        ("not_entailment", "entailment"), BINARY, ("sentence1", "sentence2", "label"),
        ("sentence1", "sentence2", "label"),
        ("index", "sentence1", "sentence2", "label"), ("index", "sentence1", "sentence2"),
    ),
}  # fmt: skip

Rows = dict[str, list[tuple]]
"""By the names of the library's splits: texts, then a class number, a score or -1."""


def splits(name: str) -> dict[str, str]:
    """The library's names of the splits with those of the files."""
    if name != "mnli":
        return {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}
    both = {f"{ours}_{kind}": f"{theirs}_{kind}.tsv" for ours, theirs in (("validation", "dev"), ("test", "test"))
            for kind in ("matched", "mismatched")}  # fmt: skip
    return {"train": "train.tsv", **both}


def rows(name: str, seed: int = 0) -> Rows:
    """Random sentences of the tiny tokenizer's words; every class is in every split but the test sets."""
    rng = np.random.default_rng(seed)
    layout = LAYOUTS[name]
    texts = len(layout.library) - 1

    def label(split: str, i: int) -> int | float:
        if split.startswith("test"):
            return -1 if layout.classes else -1.0
        return i % len(layout.classes) if layout.classes else float(rng.integers(0, 26)) / 5

    def sentence() -> str:
        return " ".join(rng.choice([word for word in WORDS[4:] if not word.startswith("#")], rng.integers(1, 9)))

    sizes = {"train": 12, "validation": 9, "test": 5}
    return {
        split: [(*(sentence() for _ in range(texts)), label(split, i)) for i in range(sizes[split.split("_")[0]])]
        for split in splits(name)
    }


def official(folder: Path, name: str, data: Rows) -> str:
    """The folder with the task's files in GLUE's own layout."""
    layout = LAYOUTS[name]
    folder.mkdir(parents=True, exist_ok=True)
    for split, file in splits(name).items():
        columns = layout.test if split.startswith("test") else layout.train
        if name == "mnli" and split.startswith("validation"):
            columns = (*MNLI, *RATERS, "gold_label")
        lines = [] if name == "cola" and not split.startswith("test") else ["\t".join(columns)]
        for i, (*texts, label) in enumerate(data[split]):
            written = (layout.codes[label] if label >= 0 else "") if layout.classes else f"{label:.3f}"
            cells = dict(zip(layout.files, (*texts, written), strict=True))
            lines.append("\t".join(cells.get(column, f"{column}-{i}") for column in columns))
        (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder)


def saved(folder: Path, name: str, data: Rows) -> str:
    """The folder with the task as `datasets` saves the hub's copy."""
    import datasets

    layout = LAYOUTS[name]
    label = datasets.ClassLabel(names=list(layout.classes)) if layout.classes else datasets.Value("float32")
    text = datasets.Value("string")
    *texts, _ = layout.library
    features = datasets.Features(dict.fromkeys(texts, text) | {"label": label, "idx": datasets.Value("int32")})
    made = {split: datasets.Dataset.from_list(_numbered(layout, data[split]), features=features) for split in data}
    datasets.DatasetDict(made).save_to_disk(folder)
    return str(folder)


def prepared(root: Path, name: str, data: Rows) -> str:
    """The folder with the task as TFDS prepares it below `root`: examples in the order of a hash."""
    import tensorflow_datasets as tfds

    layout = LAYOUTS[name]
    *texts, _ = layout.library
    label = tfds.features.ClassLabel(names=list(layout.classes)) if layout.classes else np.float32
    features = dict.fromkeys(texts, tfds.features.Text()) | {"label": label, "idx": np.int32}
    return prepare(root, "glue", name, features, {split: _numbered(layout, data[split]) for split in data})


def prepare(root: Path, name: str, config: str, features: dict, examples: dict, version: str = "2.0.0") -> str:
    """Any data set of TFDS, made on the spot."""
    import tensorflow_datasets as tfds

    class Made(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config, version=tfds.core.Version(version))]  # noqa: RUF012

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(rows) for split, rows in examples.items()}

        def _generate_examples(self, rows):
            yield from enumerate(rows)

    Made.name = name
    builder = Made(config=config, data_dir=str(root), file_format="array_record")
    builder.download_and_prepare()
    return str(builder.data_dir)


def _numbered(layout: Layout, data: list[tuple]) -> list[dict]:
    return [dict(zip((*layout.library, "idx"), (*row, i), strict=True)) for i, row in enumerate(data)]
