"""Tokenised data on disk: once, the same as without, whole or not at all; a million examples."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_tasks import load

from jaxft.data import cache, tokenise
from jaxft.errors import BadInput, Note


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A cache of its own that keeps small sets too, and how often something was tokenised."""
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "LEAST", 1)
    counted = []
    plain = tokenise.tokenise
    monkeypatch.setattr("jaxft.tasks.tokenise", lambda *args: counted.append(1) or plain(*args))
    return counted


def data(folder: Path, first: str = "a cat sits", name: str = "data") -> dict:
    (folder / name).mkdir(exist_ok=True)
    for split in ("train", "dev"):
        rows = [f"{first}\t1", "a dog runs\t0", "the mat\t1"]
        (folder / name / f"{split}.tsv").write_text("sentence\tlabel\n" + "\n".join(rows) + "\n")
    return {"name": "text", "path": str(folder / name), "max_length": 16}


def same(one, other) -> None:
    assert one.fingerprint == other.fingerprint
    for a, b in ((one.train, other.train), (one.evals["dev"], other.evals["dev"])):
        for x, y in zip(a, b, strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)


def test_it_is_tokenised_once_and_mapped(tmp_path, small, monkeypatch):
    first, second = load(**data(tmp_path)), load(**data(tmp_path))
    assert len(small) == 2, "train and dev"
    assert isinstance(second.train.tokens, np.memmap)
    monkeypatch.setattr(cache, "LEAST", 10**9)
    without = load(**data(tmp_path))
    same(first, without)
    same(second, without)
    assert len(small) == 4, "now it was"
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("what", ["text", "label", "length", "split"])
def test_other_content_is_another_entry(tmp_path, small, what):
    given = data(tmp_path)
    load(**given)
    folder = tmp_path / "data"
    if what == "text":
        given = data(tmp_path, first="a cat sat")
    elif what == "label":
        (folder / "dev.tsv").write_text((folder / "dev.tsv").read_text().replace("runs\t0", "runs\t1"))
    elif what == "length":
        given["max_length"] = 8
    else:
        given["test"] = "dev.tsv"
    load(**given)
    assert len(small) == (5 if what == "split" else 4)
    data(tmp_path)  # the same content elsewhere is the same entry
    load(**data(tmp_path, name="copy"))
    assert len(small) == (5 if what == "split" else 4)


@pytest.mark.parametrize("how", ["cut", "changed", "gone", "garbled", "foreign"])
def test_a_damaged_entry_is_made_again_with_a_note(tmp_path, small, monkeypatch, how):
    load(**data(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(cache, "LEAST", 10**9)
        whole = load(**data(tmp_path))
    (place,) = (tmp_path / "cache").iterdir()
    tokens = place / "train.tokens.npy"
    if how == "cut":
        tokens.write_bytes(tokens.read_bytes()[:-3])
    elif how == "changed":
        tokens.write_bytes(tokens.read_bytes()[:-1] + b"\x01")
    elif how == "gone":
        tokens.unlink()
    elif how == "garbled":
        (place / "splits.json").write_text("{")
    else:
        (place / "splits.json").write_text(json.dumps({"fingerprint": "0", "splits": ["train"]}))
    with pytest.warns(Note, match="damaged .*; the data are tokenised again") as told:
        found = load(**data(tmp_path))
    assert len(told) == 1
    assert "\n" not in str(told[0].message)
    same(found, whole)
    assert len(small) == 6
    same(load(**data(tmp_path)), whole)
    assert len(small) == 6


@pytest.mark.parametrize("full", [True, False])
def test_where_nothing_can_be_kept_nothing_is_half_written(tmp_path, small, monkeypatch, full):
    """A disk that is full, in the midst of it; and a folder that is none."""
    if full:
        saved, count = np.save, []

        def save(*args, **more):
            count.append(1)
            if len(count) > 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            saved(*args, **more)

        monkeypatch.setattr(np, "save", save)
    else:
        (tmp_path / "cache").write_text("no folder")
    with pytest.warns(Note, match="the tokenised data cannot be kept .*; they are made anew at each start"):
        found = load(**data(tmp_path))
    assert found.train.labels.tolist() == [1, 0, 1]
    assert not full or not list((tmp_path / "cache").iterdir())


def test_another_process_may_have_been_faster(tmp_path, small, monkeypatch):
    whole = load(**data(tmp_path))
    (place,) = (tmp_path / "cache").iterdir()
    cache._write(place, {"train": whole.train}, "another")  # its own stays
    same(load(**data(tmp_path)), whole)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [place.name]


def test_what_killed_processes_left_is_removed_after_a_day(tmp_path, small, monkeypatch):
    old, new = (tmp_path / "cache" / f"{name}-1-ab.part" for name in ("old", "new"))
    for left in (old, new):
        left.mkdir(parents=True)
        (left / "train.tokens.npy").write_bytes(b"half")
    for path in (old, old / "train.tokens.npy"):
        os.utime(path, (1, 1))
    load(**data(tmp_path))
    assert (old.exists(), new.exists()) == (False, True)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_more_tokens_than_32_bits_can_count():
    assert tokenise.offsets([2**30, 2**30 - 1]).tolist() == [0, 2**30, 2**31 - 1]
    with pytest.raises(BadInput, match=r"have 2,147,483,648 tokens, fewer than 2,147,483,648 are accepted"):
        tokenise.offsets([2**30, 2**30])


MILLION = """
import resource, sys, time
import warnings
from jaxft import cli
began = time.monotonic()
assert cli.main(sys.argv[1:]) == 0
print("seconds", time.monotonic() - began, "peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


@pytest.mark.slow
def test_a_million_examples(tmp_path, capsys):
    """Through text files, tokenizer, cache and training: what it takes, first and then again."""
    rng = np.random.default_rng(0)
    words = np.array(["the", "a", "cat", "dog", "king", "thief", "is", "not", "more", "less", "than", "kind", "good"])
    (tmp_path / "data").mkdir()
    for split, count in (("train", 1_000_000), ("dev", 1000)):
        chosen = words[rng.integers(0, len(words), (count, 18))]
        labels = rng.integers(0, 2, count)
        with (tmp_path / "data" / f"{split}.tsv").open("w") as file:
            file.write("sentence\tlabel\n")
            file.writelines(f"{' '.join(row)}\t{label}\n" for row, label in zip(chosen, labels, strict=True))
    (tmp_path / "study.yaml").write_text(
        f"name: s\ntask: {{name: text, path: {tmp_path / 'data'}, max_length: 24, n_train: 8000}}\n"
        "train: {epochs: 1}\nseeds: {init: '1..2', order: '1..2'}\npool: {slots: 2, devices: 2}\n"
    )
    spent = []
    for turn in ("first", "second"):
        out = subprocess.run(
            [sys.executable, "-c", MILLION, "run", str(tmp_path / "study.yaml"), "--out", str(tmp_path / turn)],
            env={**os.environ, "JAXFT_CACHE": str(tmp_path / "cache")}, capture_output=True, text=True,
            check=True, timeout=900,
        )  # fmt: skip
        seconds, peak = (float(out.stdout.split()[-3 + 2 * i]) for i in range(2))
        begin = float(out.stdout.partition("first step ")[2].split()[0])
        spent.append(begin)
        with capsys.disabled():
            print(f"\n{turn}: first step after {begin:.1f} s, {seconds:.1f} s in all, peak {peak:.2f} GB")
        assert peak < 4
    assert spent[1] < spent[0] / 2
