"""Checkpoints: every way in, the way out, and what is refused. torch writes and reads the other side."""

import json
import os
import pickle
import re
import zipfile
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
import toys
from safetensors.numpy import load_file, save_file

from jaxft import models
from jaxft.errors import BadInput
from jaxft.models import checkpoint, torchfile

CONFIG = {
    "model_type": "bert",
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 12,
}
CONFIGS = {
    "bert": CONFIG,
    "roberta": CONFIG
    | {"model_type": "roberta", "vocab_size": 300, "type_vocab_size": 1, "max_position_embeddings": 14},
    "electra": CONFIG | {"model_type": "electra", "embedding_size": 8},
}
HEADS = {
    "bert": ("BertModel", "BertForSequenceClassification"),
    "roberta": ("RobertaModel", "RobertaForSequenceClassification"),
    "electra": ("ElectraModel", "ElectraForSequenceClassification"),
}
every_kind = pytest.mark.parametrize("kind", CONFIGS, indirect=True)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
WORD_KEY = "bert.embeddings.word_embeddings.weight"


@cache
def _params(kind: str) -> dict[str, np.ndarray]:
    fresh = jax.jit(models.assemble(CONFIGS[kind] | {"initializer_range": 0.5}, 3).init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    return {name: np.asarray(x) + rng.normal(size=x.shape).astype(np.float32) for name, x in fresh.items()}


@pytest.fixture
def kind(request) -> str:
    """The family of the checkpoint: BERT where a test does not ask for `every_kind`."""
    return getattr(request, "param", "bert")


@pytest.fixture
def params(kind) -> dict[str, np.ndarray]:
    return _params(kind)


@pytest.fixture
def folder(tmp_path, kind, params) -> Path:
    """A good checkpoint with a tokenizer, to be damaged."""
    checkpoint.save(tmp_path, CONFIGS[kind], params)
    if kind != "roberta":
        (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    else:
        toys.bpe().save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def _edit(folder: Path, change) -> None:
    """Rewrites the weights of a checkpoint."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file)


def _build(folder: Path, classes: int = 2) -> dict[str, np.ndarray]:
    return models.build(models.open(str(folder)), classes)[1]


def _assert_loaded(folder: Path, params: dict, without: tuple[str, ...] = ()) -> None:
    loaded = _build(folder)
    assert set(loaded) == {name for name in params if not name.startswith(("classifier", *without))}
    for name, value in loaded.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, params[name], err_msg=name)


def _refused(folder: Path | str, *parts: str) -> None:
    with pytest.raises(BadInput) as caught:
        models.build(models.open(str(folder)), 2)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert "\n" not in str(caught.value)


def test_opens_with_all_that_is_needed(folder):
    found = models.open(str(folder))
    assert (found.name, found.folder, found.family) == (str(folder), folder, "bert")
    assert found.config["hidden_size"] == 16
    assert found.tokenizer("a b")["input_ids"] == [2, 5, 6, 3]
    assert models.positions(found) == 12


@every_kind
def test_safetensors(folder, params):
    _assert_loaded(folder, params)


@every_kind
def test_without_prefix_and_with_foreign_tensors(folder, kind, params):
    def change(tensors):
        bare = {name.removeprefix(f"{kind}."): value for name, value in tensors.items()}
        foreign = {
            "cls.predictions.bias": np.ones(40, np.float32),
            "cls.seq_relationship.weight": np.ones((2, 16), np.float32),
            "embeddings.position_ids": np.arange(12)[None],
            "classifier.weight": np.ones((7, 5), np.float32),
            "classifier.dense.weight": np.ones((7, 5), np.float32),
            "lm_head.layer_norm.weight": np.ones(16, np.float32),
        }
        return bare | foreign

    _edit(folder, change)
    _assert_loaded(folder, params)


def test_without_pooler(folder, params):
    _edit(folder, lambda tensors: {name: x for name, x in tensors.items() if "pooler" not in name})
    _assert_loaded(folder, params, without=("pooler",))


def test_old_layer_norm_names(folder, params):
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    pattern = re.compile("|".join(names))
    _edit(folder, lambda tensors: {pattern.sub(lambda m: names[m[0]], n): x for n, x in tensors.items()})
    assert "bert.embeddings.LayerNorm.gamma" in load_file(folder / "model.safetensors")
    _assert_loaded(folder, params)


@every_kind
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision(folder, params, dtype):
    _edit(folder, lambda tensors: {name: x.astype(dtype) for name, x in tensors.items()})
    _assert_loaded(folder, {name: x.astype(dtype).astype(np.float32) for name, x in params.items()})


def _shard(folder: Path, suffix: str, write) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    names = sorted(tensors)
    shards = {f"{stem}-0000{i + 1}-of-00002.{suffix}": names[i::2] for i in range(2)}
    for file, inside in shards.items():
        write({name: tensors[name] for name in inside}, folder / file)
    weight_map = {name: file for file, inside in shards.items() for name in inside}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_sharded_safetensors(folder, params):
    _shard(folder, "safetensors", save_file)
    _assert_loaded(folder, params)
    (folder / "model-00002-of-00002.safetensors").unlink()
    _refused(folder, "model-00002-of-00002.safetensors", "no such file", "model.safetensors.index.json")


def _to_torch(tensors: dict, file: Path, **kwargs) -> None:
    torch = pytest.importorskip("torch")
    torch.save({name: torch.tensor(x) for name, x in tensors.items()}, file, **kwargs)


@every_kind
@pytest.mark.parametrize("zipped", [True, False])
def test_bin(folder, params, zipped):
    tensors = load_file(folder / "model.safetensors")
    _to_torch(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    (folder / "model.safetensors").unlink()
    _assert_loaded(folder, params)
    whole = (folder / "pytorch_model.bin").read_bytes()
    for share in (0.0, 0.01, 0.5, 0.99):
        (folder / "pytorch_model.bin").write_bytes(whole[: int(share * len(whole))])
        _refused(folder, str(folder / "pytorch_model.bin"))


def test_sharded_bin(folder, params):
    _shard(folder, "bin", _to_torch)
    _assert_loaded(folder, params)


@pytest.mark.parametrize("zipped", [True, False])
def test_bin_of_every_kind_of_tensor(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "transposed": base.T,
        "slice": base[1:3, ::2],
        "shared": base,
        "expanded": torch.ones(1, 3).expand(5, 3),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "double": base.double(),
        "half": base.half(),
        "bfloat16": base.bfloat16(),
        "long": torch.arange(5),
        "int": torch.arange(5, dtype=torch.int32),
        "byte": torch.arange(5, dtype=torch.uint8),
        "bool": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(base),
    }
    state = torch.nn.Linear(3, 2).state_dict()
    tensors |= state
    state.update(tensors)  # an OrderedDict with an attribute `_metadata`, as models save it
    torch.save(state, tmp_path / "x.bin", _use_new_zipfile_serialization=zipped)
    found = torchfile.read(tmp_path / "x.bin")
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert found[name].shape == tuple(tensor.shape), name
        assert (found[name].astype(np.float64) == tensor.detach().double().numpy()).all(), name


class _Evil:
    """A pickle of this runs a command where it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def _zip(path: Path, payload: bytes, **storages: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        for name, data in storages.items():
            archive.writestr(f"archive/data/{name}", data)


@pytest.mark.parametrize("zipped", [True, False])
def test_bin_executes_nothing(folder, zipped):
    marker, file = folder / "executed", folder / "pytorch_model.bin"
    (folder / "model.safetensors").unlink()
    payload = pickle.dumps({WORD_KEY: _Evil(marker)})
    if zipped:
        _zip(file, payload)
    else:
        file.write_bytes(payload)
    _refused(folder, str(file), "mkdir", "accepted: tensors and dictionaries only")
    assert not marker.exists()
    pickle.loads(payload)
    assert marker.exists()  # the payload does work elsewhere


@pytest.mark.parametrize(
    "payload",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cbuiltins\ngetattr\n.",
        b"cnumpy\nload\n.",
        b"ctorch\nload\n.",
        b"ctorch.FloatStorage\n__class__\n.",
        b"ccollections\nOrderedDict.__init__\n.",
        b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93.",
    ],
)
def test_bin_refuses_other_globals(tmp_path, payload):
    _zip(tmp_path / "x.bin", payload)
    with pytest.raises(BadInput, match="accepted: tensors and dictionaries only"):
        torchfile.read(tmp_path / "x.bin")


@pytest.mark.parametrize(
    ("entries", "offset", "shape", "strides"),
    [
        (4, 0, (5,), (1,)),
        (4, 2, (3,), (1,)),
        (4, 0, (2, 2), (4, 1)),
        (4, 3, (3,), (-2,)),
        (4, -1, (2,), (1,)),
        (8, 0, (8,), (1,)),
    ],
)
def test_bin_layout_never_leaves_its_storage(entries, offset, shape, strides):
    def data(storage, size):
        if size != 16:
            raise BadInput("storage 0 has 16 bytes")
        return bytes(16)

    good = torchfile.Stored("0", "FloatStorage", 4, 0, (2, 2), (2, 1))
    assert torchfile._array(good, data).shape == (2, 2)
    with pytest.raises((ValueError, TypeError, BadInput)):
        torchfile._array(torchfile.Stored("0", "FloatStorage", entries, offset, shape, strides), data)


@every_kind
def test_saved_checkpoint_loads_in_torch(folder, kind, params):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    tokenizer = models.open(str(folder)).tokenizer
    out = folder / "new" / "out"
    checkpoint.save(out, CONFIGS[kind] | {"torch_dtype": "float16"}, params, tokenizer, labels=["no", "maybe", "yes"])
    loaded, info = transformers.AutoModelForSequenceClassification.from_pretrained(out, output_loading_info=True)
    assert not any(info.values()), info
    assert [type(loaded).__name__] == loaded.config.architectures == [HEADS[kind][1]]
    assert loaded.dtype == torch.float32
    assert loaded.config.id2label == {0: "no", 1: "maybe", 2: "yes"}
    assert loaded.config.label2id == {"no": 0, "maybe": 1, "yes": 2}
    assert loaded.config.problem_type == "single_label_classification"

    encoded = transformers.AutoTokenizer.from_pretrained(out)(["a b", "h c d a"], padding=True, return_tensors="np")
    with torch.no_grad():
        wanted = loaded.eval()(**{name: torch.tensor(x) for name, x in encoded.items()}).logits.numpy()
    ids, there = encoded["input_ids"], encoded["attention_mask"]
    rows, width = ids.shape
    positions = np.broadcast_to(np.arange(width), ids.shape)
    types = encoded.get("token_type_ids", np.zeros_like(ids))
    arrays = (ids, types, positions, there, np.arange(rows) * width, np.zeros(rows))
    batch = models.Batch(*(jax.numpy.asarray(x, np.int32) for x in arrays), jax.numpy.ones(rows))
    found = jax.jit(models.assemble(CONFIGS[kind], 3).apply)(params, batch).logits
    assert np.linalg.norm(found - wanted) < 1e-5 * np.linalg.norm(wanted)


@every_kind
def test_saved_encoder_loads_in_torch(folder, kind, params):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    encoder = {name: x for name, x in params.items() if not name.startswith("classifier")}
    checkpoint.save(folder, CONFIGS[kind], encoder)
    loaded, info = transformers.AutoModel.from_pretrained(folder, output_loading_info=True)
    # RoBERTa is fine-tuned without the pooler, which the bare encoder has there.
    pooler = {"pooler.dense.weight", "pooler.dense.bias"} if kind == "roberta" else set()
    assert set(info.pop("missing_keys")) == pooler
    assert not any(info.values()), info
    assert [type(loaded).__name__] == loaded.config.architectures == [HEADS[kind][0]]
    _assert_loaded(folder, params)


def test_a_folder_as_the_multiberts_have_it(folder, params):
    """The config as of 2021, vocab.txt alone, and pytorch_model.bin alone, with the heads of pretraining."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    pretrained = transformers.BertForPreTraining.from_pretrained(folder)
    state = pretrained.state_dict() | {"bert.embeddings.position_ids": torch.arange(12)[None]}
    for file in folder.iterdir():
        if file.name != "vocab.txt":
            file.unlink()
    torch.save(state, folder / "pytorch_model.bin")
    config = CONFIG | {"architectures": ["BertForPreTraining"], "hidden_dropout_prob": 0.1, "initializer_range": 0.02}
    (folder / "config.json").write_text(json.dumps(config))
    assert any(name.startswith("cls.predictions.") for name in state)
    assert any(name.startswith("cls.seq_relationship.") for name in state)
    _assert_loaded(folder, params)


def test_padding_token_that_leaves_no_position(folder):
    """Said with the name of the file when the checkpoint is opened, before its weights are read."""
    config = CONFIGS["roberta"] | {"pad_token_id": 13}
    (folder / "config.json").write_text(json.dumps(config))
    _refused(folder, f"{folder}/config.json: pad_token_id: found 13, ", "below max_position_embeddings - 1 (13)")


def test_fingerprint_is_of_config_and_weights(folder):
    first = models.open(str(folder)).fingerprint
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert models.open(str(folder)).fingerprint == first
    _edit(folder, lambda tensors: tensors | {WORD_KEY: tensors[WORD_KEY] + 1e-7})
    second = models.open(str(folder)).fingerprint
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-5}))
    assert len({first, second, models.open(str(folder)).fingerprint}) == 3


def test_tensors_that_do_not_fit(folder):
    whole = load_file(folder / "model.safetensors")
    query = "bert.encoder.layer.1.attention.self.query.weight"
    wide = "bert.encoder.layer.0.intermediate.dense.weight"
    _edit(folder, lambda _: whole | {wide: whole[wide].T.copy()})
    _refused(folder, str(folder), wide, "found float32 of shape (16, 24)", "wants float32 of shape (24, 16)")
    _edit(folder, lambda _: whole | {"bert.pooler.dense.bias": np.zeros(3, np.float32)})
    _refused(folder, "bert.pooler.dense.bias", "of shape (3,)", "of shape (16,)")
    _edit(folder, lambda _: {name: x for name, x in whole.items() if name != query})
    _refused(folder, query, "not found")
    _edit(folder, lambda _: {name: x for name, x in whole.items() if name != "bert.pooler.dense.bias"})
    _refused(folder, "bert.pooler.dense.bias: not found")
    _edit(folder, lambda _: {"other": np.zeros(3, np.float32)})
    _refused(folder, "bert.embeddings.LayerNorm.bias and 36 more: not found among 1 tensors")
    _edit(folder, lambda _: whole | {query: whole[query].astype(np.int32)})
    _refused(folder, query, "found int32 of shape (16, 16)")


def test_missing_and_damaged_files(folder):
    config = (folder / "config.json").read_text()
    for text, message in (
        ("{", "not JSON"),
        ("", "not JSON"),
        ("[1]", "found a list"),
        ("{}", "model_type: found None, supported: bart, bert, "),
        (config.replace('"bert"', '"roberta5"'), "found 'roberta5'"),
        (config.replace("40", "12"), "the tokenizer knows 13 tokens, vocab_size is 12"),
    ):
        (folder / "config.json").write_text(text)
        _refused(folder, str(folder), message)
    (folder / "config.json").write_bytes(b"\xff\xfe")
    _refused(folder, str(folder / "config.json"), "not JSON")
    (folder / "config.json").unlink()
    _refused(folder, str(folder / "config.json"), "cannot be read")
    (folder / "config.json").write_text(config)
    weights = (folder / "model.safetensors").read_bytes()
    header = b'{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
    eight_bits = len(header).to_bytes(8, "little") + header + bytes(2)
    for damaged in (b"", weights[:7], weights[:200], weights[:-4], b"\xff" * 100, eight_bits):
        (folder / "model.safetensors").write_bytes(damaged)
        _refused(folder, str(folder / "model.safetensors"), "not a readable safetensors file")
    (folder / "model.safetensors").unlink()
    _refused(folder, str(folder), "no weights found", "model.safetensors, ", "pytorch_model.bin")
    for index in ("[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 3}}'):
        (folder / "model.safetensors.index.json").write_text(index)
        _refused(folder, "model.safetensors.index.json")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../secret"}}')
    _refused(folder, str(folder / "secret"), "no such file")


def test_missing_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{")
    _refused(folder, str(folder), "no readable tokenizer")
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").unlink()
    _refused(folder, str(folder), "no tokenizer found", "tokenizer.json, vocab.txt")


@pytest.mark.parametrize(
    "name", ["./nowhere", "/no/such/folder", "a/b/c", "", "-x", "~no_such_user/x", "nobody/no-such-model"]
)
def test_unknown_names(name):
    _refused(name, f"model: {name}", "no such folder")


def test_hub_names_are_downloaded(folder, monkeypatch):
    """Only what is needed is asked for, and a `.bin` only where there is nothing better."""
    asked = []

    def download(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    found = models.open("someone/some-bert")
    assert (found.name, found.folder) == ("someone/some-bert", folder)
    (folder / "model.safetensors").unlink()
    _refused("someone/some-bert", "no weights found")
    names = ("config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "vocab.txt")
    for name, patterns in asked:
        assert name == "someone/some-bert"
        assert all(any(fnmatch(file, pattern) for pattern in patterns) for file in names)
        assert not any(fnmatch("onnx/model.onnx", pattern) for pattern in patterns)
    bins = [any(fnmatch("pytorch_model.bin", pattern) for pattern in patterns) for _, patterns in asked]
    assert bins == [False, False, True]
