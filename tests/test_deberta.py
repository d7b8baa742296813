"""DeBERTa-v2 and v3 against torch: logits, hidden states and gradients, padded and in packed rows; and a study."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from test_roberta import unigram

from jaxft import cli, models
from jaxft.data.batch import first_fit, gather, pad
from jaxft.errors import BadInput
from jaxft.folder import store
from jaxft.models import checkpoint as files
from jaxft.models import family
from jaxft.models.deberta_v2 import places, read_kind, skewed
from jaxft.types import Split

V3 = {
    "model_type": "deberta-v2",
    "vocab_size": 60,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
    "type_vocab_size": 0,
    "relative_attention": True,
    "max_relative_positions": -1,
    "position_buckets": 6,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "layer_norm_eps": 1e-7,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
KINDS = {
    "v3": V3,
    "wide buckets": V3 | {"position_buckets": 32, "max_position_embeddings": 64},
    "own maps": V3 | {"share_att_key": False, "norm_rel_ebd": "none"},
    "c2p": V3 | {"share_att_key": False, "pos_att_type": ["c2p"], "position_buckets": -1},
    "p2c": V3 | {"pos_att_type": "p2c", "position_biased_input": True, "type_vocab_size": 2},
    "content": V3 | {"pos_att_type": []},
}
LENGTHS = np.array([13, 4, 1, 9])
CLASSES = 3


@pytest.fixture(scope="module", params=KINDS)
def setting(request, tmp_path_factory):
    """A config, and parameters none of which is 0 or 1 as fresh ones are."""
    config = KINDS[request.param]
    fresh = jax.jit(models.assemble(config, CLASSES).init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    return config, {n: np.asarray(x) + 0.1 * rng.normal(size=x.shape).astype(np.float32) for n, x in fresh.items()}


def split() -> Split:
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int32)
    tokens = np.random.default_rng(1).integers(1, 60, offsets[-1]).astype(np.uint8)
    return Split(tokens, offsets, (LENGTHS // 2).astype(np.int32), np.arange(4, dtype=np.int32) % CLASSES)


def ours(model, params, batch):
    def loss(params):
        out = model.apply(params, batch)
        return -jax.nn.log_softmax(out.logits)[jnp.arange(4), batch.labels].mean(), out

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)


def test_as_torch(setting, tmp_path):
    """Of a checkpoint that we have written, so that its names are held too."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config, params = setting
    files.save(tmp_path, config, params)
    kind = transformers.AutoModelForSequenceClassification
    theirs, info = kind.from_pretrained(tmp_path, output_loading_info=True, attn_implementation="eager")
    assert not any(info.values()), info
    assert [type(theirs).__name__] == theirs.config.architectures
    batch = pad(split(), jnp.arange(4), 16)
    (_, out), grads = ours(models.assemble(config, CLASSES), params, batch)
    told = {"input_ids": batch.tokens, "attention_mask": batch.segments > 0, "labels": batch.labels}
    if config["type_vocab_size"]:
        told["token_type_ids"] = batch.types
    told = {name: torch.tensor(np.asarray(x)).long() for name, x in told.items()}
    wanted = theirs.eval()(**told, output_hidden_states=True)
    wanted.loss.backward()
    assert _relative(out.logits, wanted.logits.detach().numpy()) < 1e-5
    there = np.asarray(batch.segments > 0)[..., None]
    for found, state in zip(out.hidden[:-1], wanted.hidden_states[:-1], strict=True):
        assert _relative(np.asarray(found) * there, state.detach().numpy() * there) < 1e-5
    assert _relative(out.hidden[-1], wanted.hidden_states[-1][:, 0].detach().numpy()) < 1e-5
    names = family.find(config).names(config)
    scale = np.linalg.norm(grads["classifier/kernel"])
    for name, grad in grads.items():
        module, leaf = name.rsplit("/", 1)
        tensor = theirs.get_parameter(f"{names[module]}.{files.LEAVES[leaf]}").grad
        tensor = np.zeros(grad.shape, np.float32) if tensor is None else tensor.numpy()  # None: it is of no use there
        tensor = tensor.T if leaf == "kernel" and tensor.any() else tensor
        # Softmax does not see what is the same for all keys, so that some gradients are 0 but for rounding.
        assert np.linalg.norm(grad - tensor) < 1e-5 * max(np.linalg.norm(tensor), scale), name


def _relative(found, wanted) -> float:
    return float(np.linalg.norm(np.asarray(found) - wanted) / np.linalg.norm(wanted))


def test_rows_change_nothing(setting):
    config, params = setting
    model, every = models.assemble(config, CLASSES), jnp.arange(4)
    ends = [ours(model, params, pad(split(), every, 16))]
    for width in (16, 24):
        at = first_fit(jnp.asarray(LENGTHS)[None], width)[0]
        ends.append(ours(model, params, gather(split(), every, at, int(at.max()) // width + 1, width)))
    for (_, out), grads in ends[1:]:
        assert _relative(out.logits, ends[0][0][1].logits) < 2e-6
        for name, grad in grads.items():
            scale = np.linalg.norm(ends[0][1]["classifier/kernel"])
            np.testing.assert_allclose(grad, ends[0][1][name], atol=1e-5 * scale, err_msg=name)


def test_in_bfloat16(setting):
    config, params = setting[0], {name: jnp.asarray(x) for name, x in setting[1].items()}
    batch = pad(split(), jnp.arange(4), 16)
    exact, rounded = (models.assemble(config, CLASSES, dtype) for dtype in ("float32", "bfloat16"))
    (_, one), _ = ours(exact, params, batch)
    (_, other), grads = ours(rounded, {**params, **rounded.rounded(params)}, batch)
    assert 0 < _relative(other.logits, one.logits) < 0.1
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(grads))


@pytest.mark.parametrize("length", [1, 2, 7, 40])
@pytest.mark.parametrize(("buckets", "furthest"), [(-1, 32), (6, 32), (16, 64), (256, 512)])
def test_buckets_are_torchs(length, buckets, furthest):
    torch = pytest.importorskip("torch")
    from transformers.models.deberta_v2 import modeling_deberta_v2 as theirs

    kind = read_kind(V3 | {"position_buckets": buckets, "max_relative_positions": furthest})
    states = torch.zeros(1, length, 4)
    apart = theirs.build_relative_position(states, states, buckets, furthest)[0].numpy()
    wanted = np.clip(apart + kind.buckets, 0, 2 * kind.buckets - 1)
    found = places(length, kind)
    row, column = np.indices((length, length))
    np.testing.assert_array_equal(found[column - row + length - 1], wanted)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_shift_is_the_choice_by_column(length):
    x = np.random.default_rng(0).normal(size=(2, 3, length, 2 * length - 1)).astype(np.float32)
    row, column = np.indices((length, length))
    np.testing.assert_array_equal(skewed(jnp.asarray(x)), x[..., row, column - row + length - 1])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"conv_kernel_size": 3}, "conv_kernel_size: found 3, accepted: 0"),
        ({"relative_attention": False}, "relative_attention: found False, accepted: True"),
        ({"embedding_size": 12}, "embedding_size: found 12, accepted: 24"),
        ({"norm_rel_ebd": "none|layer_norm"}, "norm_rel_ebd: found 'none|layer_norm', accepted: none, layer_norm"),
        ({"pos_att_type": ["p2p"]}, "pos_att_type: found ['p2p'], accepted: c2p, p2c"),
        ({"type_vocab_size": "two"}, "type_vocab_size: found 'two', an integer from 0 is accepted"),
        ({"pooler_hidden_act": "tanh"}, "pooler_hidden_act: found 'tanh', accepted: gelu"),
        ({"position_buckets": "many"}, "position_buckets: found 'many', an integer is accepted"),
        ({"attention_head_size": 5}, "attention_head_size: found 5, accepted: 8"),
        ({"hidden_size": None}, "hidden_size: found None, a positive integer is accepted"),
    ],
)
def test_what_is_not_built(change, said):
    with pytest.raises(BadInput, match=r"config\.json") as error:
        models.assemble(V3 | change, 2)
    assert said in str(error.value)


def test_a_study(tmp_path, capsys):
    """From texts, by a tokenizer of its kind, to scores; a plan of it too."""
    settings = V3 | {"vocab_size": 64, "pad_token_id": 1}
    params = jax.jit(models.assemble(settings, 2).init)(jax.random.key(1))
    files.save(tmp_path / "encoder", settings, params)
    unigram().save(str(tmp_path / "encoder" / "tokenizer.json"))
    (tmp_path / "encoder" / "tokenizer_config.json").write_text(json.dumps({"model_type": "deberta-v2"}))
    (tmp_path / "study.yaml").write_text("name: s\n")
    words = [
        str(tmp_path / "study.yaml"),
        "--model",
        str(tmp_path / "encoder"),
        "--task.name",
        "text",
        "--task.max_length",
        "16",
    ]
    words += ["--task.path", str(toys.sentences(tmp_path / "data")), "--train.batch_size", "4", "--train.epochs", "1"]
    words += ["--seeds.init", "1", "--seeds.order", "1..2", "--out", str(tmp_path / "run"), "--pool.slots", "2"]
    assert cli.main(["run", *words]) == 0
    assert store.load(tmp_path / "run").trials["final_score"].notna().all()
    assert cli.main(["plan", *words]) == 0
    assert "predicted" in capsys.readouterr().out
