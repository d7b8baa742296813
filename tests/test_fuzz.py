"""Files that are not what they should be: each is used, or refused in one line; nothing hangs, nothing in them is run.

500 cases, and 10,000 with `make soak`.
"""

import os
import pickle
import re
import shutil
import signal
import warnings
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import endings
import jax
import numpy as np
import pytest
import toys
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from jaxft import models, tasks
from jaxft.engine import checkpoint
from jaxft.engine.recipe import Replica
from jaxft.errors import BadInput, Note
from jaxft.folder import store
from jaxft.study import KEYS, config, trials

SECONDS = 60
"""Longer than this is a hang; two cores are shared."""

REPLICA = Replica(
    np.int32(5), np.int32(0), {"a/b": np.arange(12, dtype="f4").reshape(3, 4)}, None, {}, (), {}, (),
    np.zeros((3, 2), np.int32), np.zeros((3, 2), np.int32),
)  # fmt: skip
PARKED = checkpoint.Parked(REPLICA, {"record": {"step": 5}, "slots": 1}, {"losses": np.ones(5, np.float32)})


class Change(NamedTuple):
    """Of one file of a folder: what is done to it, and where, as a share of its length or as one of its words."""

    file: int
    steps: list[tuple]

    def of(self, content: bytes, others: list[bytes], sentinel: Path) -> bytes:
        for name, where, what in self.steps:
            at = int(where * len(content))
            match name:
                case "cut":
                    content = content[:at]
                case "flip":
                    byte = content[at : at + 1]
                    content = content[:at] + bytes(b ^ (1 << what % 8) for b in byte) + content[at + 1 :]
                case "insert":
                    content = content[:at] + what + content[at:]
                case "delete":
                    content = content[:at] + content[at + what :]
                case "word":
                    words = [*re.finditer(rb"[\w.+-]+|\"[^\"]*\"", content)]
                    if words:
                        word = words[int(where * len(words))]
                        content = content[: word.start()] + what + content[word.end() :]
                case "other":
                    content = others[what % len(others)]
                case "twice":
                    content = content + content[at:]
                case "payload":
                    content = payload(what, sentinel)
        return content


class Runs:
    """Unpickled, it makes a folder."""

    def __init__(self, sentinel: Path):
        self.sentinel = sentinel

    def __reduce__(self):
        return os.mkdir, (str(self.sentinel),)


def payload(kind: int, sentinel: Path) -> bytes:
    """Content that makes a folder if somebody runs it."""
    if kind % 3 == 0:
        return pickle.dumps(Runs(sentinel), protocol=2)
    if kind % 3 == 1:
        return f"!!python/object/apply:os.mkdir [{sentinel}]".encode()
    return f"name: !!python/object/apply:os.mkdir ['{sentinel}']\n".encode()


ODD = [
    b"null", b"-1", b"0", b"1e999", b"NaN", b"[]", b"{}", b'""', b"'", b'"\\ud800"', b"true", b"1" * 400,
    b"2147483648", b"0.5", b"../..", b"\x00", b"\xff\xfe", b"&a [*a]", b"[[[[[[", b"<<: *a", b"1..2", b"1..99999999999",
    b"inf", b"\t", b"\r\n", b'{"a": 1}', b"[1, 2]", "\u2028".encode(), b"!!binary x", b"%", b"|", b"a|b(c=1)",
    b"{" * 2000, b"[" * 20000,
]  # fmt: skip
WORDS = st.sampled_from(ODD) | st.binary(max_size=12) | st.sampled_from([key.encode() for key in KEYS])
SHARE = st.floats(0, 1, exclude_max=True)
STEP = (
    st.tuples(st.sampled_from(["cut", "twice"]), SHARE, st.just(0))
    | st.tuples(st.sampled_from(["flip", "other", "payload"]), SHARE, st.integers(0, 63))
    | st.tuples(st.just("delete"), SHARE, st.integers(1, 40))
    | st.tuples(st.sampled_from(["insert", "word", "word"]), SHARE, WORDS)
)
CHANGE = st.builds(Change, st.integers(0, 99), st.lists(STEP, min_size=1, max_size=4))
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("1..3")
VALUE = st.recursive(LEAF, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3))


@st.composite
def studies(draw) -> Change:
    """A study of known keys and any values; or one that was fine, changed."""
    if draw(st.booleans()):
        return draw(CHANGE)
    sections: dict = {}
    for key, value in draw(st.dictionaries(st.sampled_from([*KEYS]), VALUE, max_size=5)).items():
        section, _, leaf = key.rpartition(".")
        (sections.setdefault(section, {}) if section else sections)[leaf] = value
    return Change(0, [("cut", 0.0, 0), ("insert", 0.0, yaml.safe_dump(sections).encode())])


# What is made of a folder that is in order, and used of one that may not be.


def make_study(place: Path) -> None:
    study = toys.settings(place / "elsewhere") | {
        "sweep": {"train.lr": [1e-5, 3e-5]},
        "stop": {"majority": 2},
        "method": "vanilla",
    }
    shutil.rmtree(place / "elsewhere")
    (place / "study.yaml").write_text(yaml.safe_dump(study))
    (place / "more.yaml").write_text(
        "base: study.yaml\nname: more\ntrain: {lr: 2e-5, epochs: 3}\nseeds: {init: [1, 5]}\n"
    )


def use_study(place: Path) -> None:
    for path in place.glob("*.yaml"):
        trials.expand(config.load(path))


def make_data(place: Path) -> None:
    toys.sentences(place)
    rows = [line.split("\t") for line in (place / "train.tsv").read_text().splitlines()[1:]]
    (place / "train.csv").write_text("sentence,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows))
    lines = (f'{{"sentence": "{text}", "label": "{label}"}}\n' for text, label in rows)
    (place / "train.jsonl").write_text("".join(lines))


def use_data(place: Path) -> None:
    for path in sorted(place.glob("train.*")):
        made = config.TaskConfig(name="text", path=str(place), train=path.name, max_length=16)
        tasks.load(made, TOKENIZER, 16)


TOKENIZER = toys.tokenizer()


def use_model(place: Path) -> None:
    models.build(models.open(str(place)), 2)


STUDY = endings.study(**{"seeds.init": "1..2", "seeds.order": 1})


def make_run(place: Path) -> None:
    endings.folder(place, STUDY, dropped=(1,))


def use_run(place: Path) -> None:
    run = store.load(place)
    assert len(run.losses) + len(run.predictions) + len(run.examples) >= 0
    store.Store.open(place, STUDY, {}, trials.expand(STUDY)).close()


def make_checkpoint(place: Path) -> None:
    made = checkpoint.Checkpoints(str(place))
    for number in (1, 2):
        made.save({f"{number:012d}": PARKED}, waiting=["000000000001"])
    made.wait()


def use_checkpoint(place: Path) -> None:
    for found in checkpoint.Checkpoints(str(place)).found().values():
        try:
            parked = checkpoint.read(found.path, REPLICA)
        except checkpoint.Unreadable as error:
            raise BadInput(str(error)) from None
        assert parked.told == PARKED.told
        assert parked.arrays.keys() == PARKED.arrays.keys()
        for one, other in zip(jax.tree.leaves(parked), jax.tree.leaves(PARKED), strict=True):
            assert np.array_equal(one, other), "garbled, and taken for whole"


KINDS = {
    "study": (studies(), make_study, use_study),
    "data": (CHANGE, make_data, use_data),
    "model": (CHANGE, toys.checkpoint, use_model),
    "run": (CHANGE, make_run, use_run),
    "checkpoint": (CHANGE, make_checkpoint, use_checkpoint),
}


@contextmanager
def in_time():
    def late(number, frame):
        raise AssertionError(f"not over after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_garbled_file_is_used_or_refused_in_one_line(kind, count, tmp_path, monkeypatch, capsys):
    changes, make, use = KINDS[kind]
    good, here, sentinel = tmp_path / "good", tmp_path / "here", tmp_path / "sentinel"
    good.mkdir()
    make(good)
    monkeypatch.chdir(tmp_path)
    use(Path(shutil.copytree(good, here)))  # it is in order
    names = sorted(path.relative_to(good) for path in good.rglob("*") if path.is_file() and path.name != ".open")
    contents = [(good / name).read_bytes() for name in names]
    counts = Counter()

    @settings(
        max_examples=count, deadline=None, database=None, derandomize=count <= 100, print_blob=True,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    @given(changes)
    def one(change: Change) -> None:
        number = change.file % len(names)
        content = change.of(contents[number], contents, sentinel)
        shutil.rmtree(here)
        shutil.copytree(good, here)
        (here / names[number]).write_bytes(content)
        counts["cases"], said = counts["cases"] + 1, "used"
        try:
            with in_time(), warnings.catch_warnings():
                warnings.simplefilter("ignore", Note)
                use(here)
            counts["used"] += 1
        except BadInput as error:
            counts["refused"] += 1
            said = str(error)
        assert "\n" not in said and "\r" not in said  # noqa: PT018
        assert not sentinel.exists(), "it was run"

    one()
    with capsys.disabled():
        print(f"\n{kind}: {dict(counts)}")
    assert counts["refused"] > count // 10
    assert counts["cases"] >= count
