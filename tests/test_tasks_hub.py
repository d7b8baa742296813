import time

import pytest
from test_tasks import RTE, load, write

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


def test_the_hub_is_read_by_the_same_code_as_a_local_repository(datasets, tmp_path, monkeypatch):
    repository = tmp_path / "glue"
    (repository / "rte").mkdir(parents=True)
    for split in ("train", "validation"):
        rte_rows(datasets).to_parquet(repository / "rte" / f"{split}-00000-of-00001.parquet")
    parts = "".join(f"  - split: {split}\n    path: rte/{split}-*\n" for split in ("train", "validation"))
    (repository / "README.md").write_text(f"---\nconfigs:\n- config_name: rte\n  data_files:\n{parts}---\n")
    monkeypatch.setattr(glue_tasks, "HUB", str(repository))
    task = load(name="rte", path="hub")
    plain = load(name="rte", path=write(tmp_path, train=RTE, dev=RTE))
    assert task.fingerprint == plain.fingerprint


@pytest.mark.parametrize("flag", [True, False])
def test_without_a_network_the_hub_fails_at_once(datasets, monkeypatch, flag):
    # the client of the hub itself is offline in all tests, so the probe finds no network when the flag is off
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", flag)
    began = time.monotonic()
    with pytest.raises(BadInput, match=r"task.path: hub: cannot load nyu-mll/glue \(rte\): ConnectionError") as error:
        load(name="rte", path="hub")
    assert time.monotonic() - began < 5
    assert "\n" not in str(error.value)
    assert datasets.config.HF_HUB_OFFLINE is flag
