import contextlib
import socket
import threading
import time

import pytest
from test_tasks import RTE, load, write

from jaxft.data import hub
from jaxft.errors import BadInput
from jaxft.tasks import glue as glue_tasks


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    library = pytest.importorskip("datasets")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return library


def rte_rows(library, labels=(1, 0)):
    names = library.ClassLabel(names=["entailment", "not_entailment"])
    features = library.Features(
        {"sentence1": library.Value("string"), "sentence2": library.Value("string"), "label": names}
    )
    rows = {"sentence1": ["the cat", "a cat"], "sentence2": ["a dog", "the mat"], "label": list(labels)}
    return library.Dataset.from_dict(rows, features=features)


def test_a_saved_data_set_equals_the_files(datasets, tmp_path):
    rows = rte_rows(datasets)
    splits = {"train": rows, "validation": rows, "test": rte_rows(datasets, (-1, -1))}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    path = str(tmp_path / "saved")
    task = load(name="rte", path=path)
    plain = load(name="rte", path=write(tmp_path, train=RTE, dev=RTE))
    assert task.fingerprint == plain.fingerprint
    tested = load(name="rte", path=path, test="test")
    assert tested.evals["test"].labels.tolist() == [-1, -1]
    own = {"name": "text", "text": "sentence1", "text_pair": "sentence2"}
    assert load(**own, path=path).fingerprint == plain.fingerprint


def test_a_saved_data_set_without_the_split_or_the_column(datasets, tmp_path):
    rows = rte_rows(datasets)
    datasets.DatasetDict({"train": rows, "dev": rows}).save_to_disk(tmp_path / "saved")
    path = str(tmp_path / "saved")
    with pytest.raises(BadInput, match=r"task.dev: no split 'validation' in .*saved; it has train, dev$"):
        load(name="rte", path=path)
    assert load(name="rte", path=path, dev="dev").labels
    with pytest.raises(BadInput, match=r"saved, train: no column 'sentence'; the columns are sentence1, "):
        load(name="cola", path=path, dev="dev")
    (tmp_path / "saved" / "dataset_dict.json").write_text("{")
    with pytest.raises(BadInput, match="saved: not a readable saved data set"):
        load(name="rte", path=path)


@pytest.fixture
def repository(datasets, tmp_path):
    """What a repository of a data set on the hub holds."""
    folder = tmp_path / "glue"
    (folder / "rte").mkdir(parents=True)
    for split in ("train", "validation"):
        rte_rows(datasets).to_parquet(folder / "rte" / f"{split}-00000-of-00001.parquet")
    parts = "".join(f"  - split: {split}\n    path: rte/{split}-*\n" for split in ("train", "validation"))
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: rte\n  data_files:\n{parts}---\n")
    return str(folder)


def test_the_hub_is_read_by_the_same_code_as_a_local_repository(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(glue_tasks, "HUB", repository)
    plain = load(name="rte", path=write(tmp_path, train=RTE, dev=RTE))
    own = {"name": "text", "text": "sentence1", "text_pair": "sentence2"}
    for task in (
        load(name="rte", path="hub"),
        load(name="rte", path=f"hub:{repository}:rte"),
        load(name="rte", path=f"hub:{repository}"),
        load(**own, path=f"hub:{repository}:rte"),
    ):
        assert task.fingerprint == plain.fingerprint


def test_an_unknown_config_of_the_hub(repository, monkeypatch):
    began = time.monotonic()
    with pytest.raises(BadInput) as error:
        load(name="text", path=f"hub:{repository}:rtx")
    assert f"task.path: hub: cannot load {repository} (rtx): ValueError: BuilderConfig 'rtx' not" in str(error.value)
    assert "Available: ['rte']" in str(error.value)
    monkeypatch.setattr(glue_tasks, "HUB", repository)
    with pytest.raises(BadInput, match=r"\(mrpc\): ValueError: BuilderConfig 'mrpc' not found"):
        load(name="mrpc", path="hub")
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("flag", [True, False])
def test_without_a_network_the_hub_fails_at_once(datasets, monkeypatch, flag):
    # the client of the hub itself is offline in all tests, so the probe finds no network when the flag is off
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", flag)
    began = time.monotonic()
    with pytest.raises(BadInput, match=r"task.path: hub: cannot load nyu-mll/glue \(rte\): ConnectionError") as error:
        load(name="rte", path="hub")
    assert time.monotonic() - began < 3
    assert "\n" not in str(error.value)
    assert datasets.config.HF_HUB_OFFLINE is flag


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"])
def test_a_hub_that_does_not_answer_fails_at_once(datasets, monkeypatch, answer):
    """As behind a firewall that drops what it does not know, and behind one that answers in the hub's place."""
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    if answer:
                        connection.recv(4096)
                        connection.sendall(answer)
                        connection.close()
                    else:
                        kept.append(connection)

        kept = []
        threading.Thread(target=serve, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub, "PATIENCE", 1.5)
        began = time.monotonic()
        with pytest.raises(
            BadInput, match=r"cannot load a/b: .*\((TimeoutError: no answer within 1.5|ReadTimeout|HfHub).*too$"
        ):
            load(name="text", path="hub:a/b")
        assert time.monotonic() - began < 3
        assert datasets.config.HF_HUB_OFFLINE is False
        for connection in kept:
            connection.close()
