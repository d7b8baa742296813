"""TFDS without TensorFlow and without a network."""

import json
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import sources
from test_tasks import load

from jaxft.data import tfds, tfrecord
from jaxft.errors import BadInput

library = pytest.importorskip("tensorflow_datasets")


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """TFDS's folder."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    return tmp_path / "tfds"


@pytest.fixture
def asked(monkeypatch) -> list:
    """Every attempt to reach the network, which fails."""
    asked = []

    def refuse(*args, **kwargs):
        asked.append(args)
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return asked


def test_what_tfds_prepared_by_name_and_by_folder(root, asked):
    data = sources.rows("mrpc")
    folder = sources.prepared(root, "mrpc", data)
    tasks = [load(name="mrpc", path=path) for path in ("tfds", "tfds:glue/mrpc", folder)]
    own = {"name": "text", "text": "sentence1", "text_pair": "sentence2", "labels": ["not_equivalent", "equivalent"]}
    tasks += [load(**own, path=path) for path in ("tfds:glue/mrpc", folder)]
    assert len({task.fingerprint for task in tasks}) == 1
    assert not asked
    assert "tensorflow" not in sys.modules


def test_the_highest_version_is_read(root):
    text = {"text": library.features.Text(), "label": np.int64}
    for version, word in (("1.9.0", "a cat"), ("1.10.0", "a dog"), ("1.2.11", "a mat")):
        rows = [{"text": word, "label": i} for i in range(2)]
        sources.prepare(root, "mine", "own", text, {"train": rows, "validation": rows}, version)
    assert tfds.prepared("mine/own").name == str(root / "mine/own/1.10.0")
    assert tfds.prepared("mine/own").read("train").columns["text"] == ["a dog"] * 2


def test_numbers_and_texts_are_those_of_python(root):
    features = {
        "text": library.features.Text(),
        "label": np.float32,
        "many": library.features.Tensor(shape=(2,), dtype=np.int32),
    }
    rows = [{"text": f"ünï {i}", "label": i / 10, "many": [i, i]} for i in range(4)]
    sources.prepare(root, "mine", "own", features, {"train": rows, "validation": rows})
    table = tfds.prepared("mine/own").read("train")
    assert sorted(table.columns["text"]) == [f"ünï {i}" for i in range(4)]
    assert {type(value) for value in table.columns["label"]} == {float}
    assert table.where(0) == f"{root / 'mine/own/2.0.0'}, train, row 1"
    task = load(name="text", text="text", path="tfds:mine/own", regression=True)
    assert sorted(task.train.labels.tolist()) == np.float32([0, 0.1, 0.2, 0.3]).tolist()
    with pytest.raises(BadInput, match="a label is a text or a number, found list"):
        load(name="text", text="text", label="many", path="tfds:mine/own")
    with pytest.raises(BadInput, match=r"train, row 1: 'many' is not a text \(list\)"):
        load(name="text", text="many", path="tfds:mine/own")


def test_bytes_that_are_no_text(root):
    features = {"text": library.features.Text(), "label": np.int64}
    rows = [{"text": b"caf\xe9", "label": i} for i in range(2)]
    sources.prepare(root, "mine", "own", features, {"train": rows, "validation": rows})
    with pytest.raises(BadInput, match="train, row 1: 'text' is not valid Unicode"):
        load(name="text", text="text", path="tfds:mine/own")


def test_an_index_that_is_no_number_orders_nothing(root):
    features = {"text": library.features.Text(), "label": np.int64, "idx": {"a": np.int32, "b": np.int32}}
    rows = [{"text": str(i), "label": i, "idx": {"a": i, "b": i}} for i in range(3)]
    sources.prepare(root, "mine", "own", features, {"train": rows, "validation": rows})
    assert sorted(tfds.prepared("mine/own").read("train").columns["text"]) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("tfds:gleu/mrpc", "tfds/gleu/mrpc, and TFDS knows no data set 'gleu'; did you mean glue?"),
        ("tfds:zzzzzz", "tfds/zzzzzz, and TFDS knows no data set 'zzzzzz'"),
        ("tfds:glue/rtx", "task.path: tfds:glue/rtx: no config 'rtx'; accepted are tfds:glue/cola, tfds:glue/sst2, "),
        ("tfds:glue", "task.path: tfds:glue: a config is missing; accepted are tfds:glue/cola, "),
        ("tfds:glue/rte", "task.path: tfds:glue/rte: nothing prepared in "),
        ("tfds:mnist", "tfds/mnist; accepted is what TFDS has prepared there"),
        ("tfds:imdb_reviews", "a config is missing; accepted are tfds:imdb_reviews/plain_text"),
        (
            "tfds:huggingface:imdb",
            "task.path: found 'tfds:huggingface:imdb', accepted are tfds:NAME and tfds:NAME/CONFIG",
        ),
        ("tfds:glue/mrpc:2.0.0", "task.path: found 'tfds:glue/mrpc:2.0.0', accepted are"),
        ("tfds:../data", "task.path: found 'tfds:../data', accepted are"),
        ("tfds:glue/..", "task.path: tfds:glue/..: no config '..'; accepted are tfds:glue/cola"),
        ("tfds:a b", "task.path: found 'tfds:a b', accepted are"),
    ],
)
def test_what_tfds_has_not_is_said_at_once_and_without_a_network(root, asked, path, message):
    (root / "9.9.9").mkdir(parents=True)
    began = time.monotonic()
    with pytest.raises(BadInput) as error:
        load(name="text", path=path)
    assert time.monotonic() - began < 3
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not asked


def test_a_glue_task_that_is_not_prepared(root, asked):
    with pytest.raises(BadInput, match=r"task.path: tfds:glue/wnli: nothing prepared in .*tfds/glue/wnli; accepted is"):
        load(name="wnli", path="tfds")
    assert not asked


def test_a_split_or_column_that_is_not_there(root):
    sources.prepared(root, "mrpc", sources.rows("mrpc"))
    with pytest.raises(BadInput, match=r"task.test: no split 'tests' in .*; it has train, validation, test$"):
        load(name="mrpc", path="tfds", test="tests")
    with pytest.raises(BadInput, match=r"train: no column 'sentence'; the columns are "):
        load(name="text", path="tfds:glue/mrpc")


def test_a_folder_of_another_format_or_damaged(root):
    folder = Path(sources.prepared(root, "mrpc", sources.rows("mrpc")))
    info = folder / "dataset_info.json"
    before = json.loads(info.read_text())
    for content, message in [
        (
            json.dumps(before | {"fileFormat": "riegeli"}),
            r"2.0.0: cannot be read \(.*its format is riegeli\); accepted is what TFDS prepared as array_record",
        ),
        ("{", r"2.0.0: cannot be read \(.*\); accepted is what TFDS prepared as array_record or tfrecord"),
    ]:
        info.write_text(content)
        with pytest.raises(BadInput, match=message) as error:
            load(name="mrpc", path="tfds")
        assert "\n" not in str(error.value)
    info.write_text(json.dumps(before))
    next(folder.glob("*train*")).write_bytes(b"")
    with pytest.raises(BadInput, match=r"2.0.0, train: cannot be read \(") as error:
        load(name="mrpc", path="tfds")
    assert "\n" not in str(error.value)


def as_tfrecord(folder: Path) -> None:
    """What was prepared as array_record, as TFDS writes TFRecord: the same examples, two shards a split."""
    info = json.loads((folder / "dataset_info.json").read_text())
    builder = library.builder_from_directory(str(folder), file_format="array_record")
    features = builder.info.features
    for split in info["splits"]:
        rows = list(builder.as_data_source(split["name"]))
        half = len(rows) // 2
        records = [features.serialize_example({k: _plain(v) for k, v in row.items()}) for row in rows]
        for old in folder.glob(f"*-{split['name']}.array_record*"):
            old.unlink()
        for number, part in enumerate((records[:half], records[half:])):
            path = folder / f"{info['name']}-{split['name']}.tfrecord-{number:05d}-of-00002"
            path.write_bytes(b"".join(map(framed, part)))
        split["shardLengths"] = [str(half), str(len(rows) - half)]
        split["filepathTemplate"] = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    (folder / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))


def _plain(value):
    return value.decode() if isinstance(value, bytes) else value


def framed(record: bytes) -> bytes:
    """A record of TFRecord; the checksum of its content is made up, which nobody looks at."""
    length = struct.pack("<Q", len(record))
    return length + struct.pack("<I", tfrecord.masked(length)) + record + b"none"


def test_the_checksum_is_that_of_tfrecord():
    """Of the check value of CRC-32C (of 123456789: E3069283), masked as TFRecord has it."""
    assert tfrecord.masked(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF


@pytest.mark.parametrize("name", ["mrpc", "stsb", "mnli"])
def test_tfrecord_gives_what_array_record_gives(root, asked, name):
    folder = Path(sources.prepared(root, name, sources.rows(name)))
    before = load(name=name, path="tfds")
    as_tfrecord(folder)
    after = load(name=name, path="tfds")
    assert before.fingerprint == after.fingerprint
    assert not asked
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[:-3], "is truncated at byte"),
        (lambda data: data[: len(data) // 2 * 0], "has 0 records, expected 6"),
        (lambda data: b"\xff" + data[1:], "is damaged at byte 0"),
        (lambda data: data[:5], "is truncated at byte 0"),
    ],
)
def test_damaged_tfrecord_files(root, damage, said):
    folder = Path(sources.prepared(root, "mrpc", sources.rows("mrpc")))
    as_tfrecord(folder)
    path = folder / "mrpc-train.tfrecord-00000-of-00002"
    path = path if path.exists() else next(folder.glob("*-train.tfrecord-00000*"))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BadInput, match=rf"2\.0\.0, train: cannot be read \(.*{said}.*\)$"):
        load(name="mrpc", path="tfds")


def test_an_installed_tensorflow_is_left_alone(root, tmp_path):
    """A package of that name that fails when it is imported lies on the path."""
    sources.prepared(root, "mrpc", sources.rows("mrpc"))
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow/__init__.py").write_text("raise SystemExit('TensorFlow was imported')")
    code = """
import importlib.util
from jaxft.data import tfds, tfrecord
from jaxft.errors import BadInput
assert importlib.util.find_spec("tensorflow")
print(len(tfds.prepared("glue/mrpc").read("train").places))
for name in ("glue/rte", "glue/rtx", "gleu/rte", "imdb_reviews"):
    try:
        tfds.prepared(name)
    except BadInput as error:
        print(error)
"""
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("12\ntask.path: tfds:glue/rte: nothing prepared in ")
    assert len(found.stdout.splitlines()) == 5


def test_without_the_package_the_line_says_what_to_install(root, monkeypatch):
    for missing in ("tensorflow_datasets", "array_record"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, missing, None)
            with pytest.raises(BadInput, match=r"^task.path: .*: pip install 'jaxft\[tfds\]'$"):
                load(name="mrpc", path="tfds")
