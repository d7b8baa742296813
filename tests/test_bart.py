"""BART against torch: logits, hidden states and gradients, padded and in packed rows; its start token; a study."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from test_families import BART

from jaxft import cli, models
from jaxft.data.batch import first_fit, gather, pad
from jaxft.errors import BadInput
from jaxft.folder import store
from jaxft.models import checkpoint as files
from jaxft.models import compact, family
from jaxft.types import Split

LENGTHS = np.array([13, 4, 2, 9])
CLASSES = 3
KINDS = {"scaled": BART, "plain": BART | {"scale_embedding": False, "encoder_layers": 2, "decoder_layers": 1}}


@pytest.fixture(scope="module", params=KINDS)
def setting(request):
    """A config, and parameters none of which is 0 or 1 as fresh ones are."""
    config = KINDS[request.param]
    fresh = jax.jit(models.assemble(config, CLASSES).init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    noise = {name: 0.1 * rng.normal(size=x.shape).astype(np.float32) for name, x in fresh.items()}
    return config, {name: jnp.asarray(x + noise[name]) for name, x in fresh.items()}


def split() -> Split:
    """Texts that begin with token 0, end with 2, and have neither between."""
    rows = [[0, *np.random.default_rng(n).integers(3, 30, n - 2), 2] for n in LENGTHS]
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int32)
    return Split(
        np.concatenate(rows).astype(np.uint8), offsets, LENGTHS.astype(np.int32), np.arange(4, dtype=np.int32) % 3
    )


def ours(model, params, batch):
    def loss(params):
        out = model.apply(params, batch)
        return -jax.nn.log_softmax(out.logits)[jnp.arange(4), batch.labels].mean(), out

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)


def relative(found, wanted) -> float:
    return float(np.linalg.norm(np.asarray(found) - wanted) / np.linalg.norm(wanted))


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
    there = np.asarray(batch.segments > 0)
    (_, out), grads = ours(models.assemble(config, CLASSES), params, batch)
    told = {"input_ids": np.where(there, batch.tokens, 1), "attention_mask": there, "labels": np.asarray(batch.labels)}
    told = {name: torch.tensor(x).long() for name, x in told.items()}
    wanted = theirs.eval()(**told, output_hidden_states=True)
    wanted.loss.backward()
    assert relative(out.logits, wanted.logits.detach().numpy()) < 1e-5
    states = [*wanted.encoder_hidden_states, *wanted.decoder_hidden_states[1:]]
    for found, state in zip(out.hidden[:-1], states[:-1], strict=True):
        assert relative(np.asarray(found) * there[..., None], state.detach().numpy() * there[..., None]) < 1e-5
    last = states[-1].detach().numpy()[np.arange(4), LENGTHS - 1]
    assert relative(out.hidden[-1], last) < 1e-5
    names = family.find(config).names(config)
    scale = np.linalg.norm(grads["classifier/out_proj/kernel"])
    for name, grad in grads.items():
        module, leaf = name.rsplit("/", 1)
        tensor = theirs.get_parameter(f"{names[module]}.{files.LEAVES[leaf]}").grad.numpy()
        tensor = tensor.T if leaf == "kernel" else tensor
        # Softmax does not see what is the same for all keys, so that some gradients are 0 but for rounding.
        assert np.linalg.norm(grad - tensor) < 1e-5 * max(np.linalg.norm(tensor), scale), name


def test_rows_change_nothing(setting):
    config, params = setting
    model, every = models.assemble(config, CLASSES), jnp.arange(4)
    (_, out), grads = ours(model, params, pad(split(), every, 16))
    at = first_fit(jnp.asarray(LENGTHS)[None], 18)[0]
    (_, other), others = ours(model, params, gather(split(), every, at, int(at.max()) // 18 + 1, 18))
    assert relative(other.logits, np.asarray(out.logits)) < 2e-6
    for name, grad in grads.items():
        np.testing.assert_allclose(others[name], grad, atol=1e-5 * np.abs(grads["classifier/out_proj/kernel"]).max())


def test_in_bfloat16(setting):
    config, params = setting
    batch = pad(split(), jnp.arange(4), 16)
    exact, rounded = (models.assemble(config, CLASSES, dtype) for dtype in ("float32", "bfloat16"))
    (_, one), _ = ours(exact, params, batch)
    (_, other), grads = ours(rounded, {**params, **rounded.rounded(params)}, batch)
    assert 0 < relative(other.logits, np.asarray(one.logits)) < 0.1
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(grads))


def test_the_start_token_is_kept_and_renumbered(setting):
    """Also where no text has it."""
    config, params = setting
    config = config | {"decoder_start_token_id": 1}
    kept = compact.kept(config, [split()])
    assert 1 in kept[compact.WORD]
    whole, small = models.assemble(config, CLASSES), models.assemble(config, CLASSES, kept=kept)
    batch = pad(split(), jnp.arange(4), 16)
    mine = pad(compact.renumbered(split(), kept), jnp.arange(4), 16)
    one = whole.apply(params, batch).logits
    other = small.apply({n: jnp.asarray(x) for n, x in compact.cut(params, kept).items()}, mine).logits
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_start_token_that_no_config_names_is_kept_too(setting):
    """It is 2 then, which no text has to hold."""
    config, params = setting
    config = {name: value for name, value in config.items() if name != "decoder_start_token_id"}
    texts = split()
    texts = texts._replace(tokens=np.where(texts.tokens == 2, 1, texts.tokens))
    kept = compact.kept(config, [texts])
    assert 2 in kept[compact.WORD]
    whole, small = models.assemble(config, CLASSES), models.assemble(config, CLASSES, kept=kept)
    one = whole.apply(params, pad(texts, jnp.arange(4), 16)).logits
    mine = pad(compact.renumbered(texts, kept), jnp.arange(4), 16)
    other = small.apply({n: jnp.asarray(x) for n, x in compact.cut(params, kept).items()}, mine).logits
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_families_without_a_decoder_ignore_the_key():
    for found in (None, 500):
        plain = toys.ELECTRA | {"vocab_size": 30}
        kept = compact.kept(plain | {"decoder_start_token_id": found}, [split()])
        np.testing.assert_array_equal(kept[compact.WORD], compact.kept(plain, [split()])[compact.WORD])


@pytest.mark.parametrize("prefix", ["model.", ""])
@pytest.mark.parametrize("held", ["shared", "encoder.embed_tokens", "decoder.embed_tokens"])
def test_any_copy_of_the_word_embeddings_is_read(setting, tmp_path, held, prefix):
    config, params = setting
    files.save(tmp_path, config, params)
    tensors = files.read(tmp_path)
    tensors[f"model.{held}.weight"] = tensors.pop("model.shared.weight")
    tensors = {name.replace("model.", prefix, 1): value for name, value in tensors.items()}
    kind, shapes = family.find(config), {name: x.shape for name, x in params.items()}
    found = files.pick(tensors, shapes, kind, kind.names(config))
    np.testing.assert_array_equal(found["embeddings/word/embedding"], params["embeddings/word/embedding"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vocab_size": "30"}, "vocab_size: found '30', a positive integer is accepted"),
        ({"decoder_ffn_dim": 8}, "decoder_ffn_dim: found 8, accepted: the encoder's, 40"),
        ({"decoder_attention_heads": 4}, "decoder_attention_heads: found 4, accepted: the encoder's, 3"),
        ({"encoder_layers": 0}, "encoder_layers: found 0, a positive integer is accepted"),
        ({"decoder_start_token_id": 30}, "decoder_start_token_id: found 30, the number of a token is accepted"),
        ({"activation_function": "silu"}, "activation_function: found 'silu', accepted: gelu"),
        ({"d_model": "wide"}, "d_model: found 'wide', a positive integer is accepted"),
        ({"encoder_attention_heads": 7, "decoder_attention_heads": 7}, "a multiple of encoder_attention_heads (7)"),
        ({"scale_embedding": "no"}, "scale_embedding: found 'no', accepted: true, false"),
    ],
)
def test_what_is_not_built(change, said):
    with pytest.raises(BadInput, match=r"config\.json") as error:
        models.assemble(BART | change, 2)
    assert said in str(error.value)


def test_a_study(tmp_path, capsys):
    """From texts, by a tokenizer of its kind, to scores; a plan of it too."""
    settings = BART | {"vocab_size": 300, "max_position_embeddings": 20}
    params = jax.jit(models.assemble(settings, 2).init)(jax.random.key(1))
    files.save(tmp_path / "encoder", settings, params)
    toys.bpe().save(str(tmp_path / "encoder" / "tokenizer.json"))
    (tmp_path / "study.yaml").write_text("name: s\n")
    words = [str(tmp_path / "study.yaml"), "--model", str(tmp_path / "encoder"), "--task.name", "text"]
    words += ["--task.path", str(toys.sentences(tmp_path / "data")), "--train.batch_size", "4", "--train.epochs", "1"]
    words += ["--seeds.init", "1", "--seeds.order", "1..2", "--out", str(tmp_path / "run"), "--pool.slots", "2"]
    words += ["--task.max_length", "20"]
    assert cli.main(["run", *words]) == 0
    assert store.load(tmp_path / "run").trials["final_score"].notna().all()
    assert cli.main(["plan", *words]) == 0
    assert "predicted" in capsys.readouterr().out


def test_an_example_that_does_not_end_as_the_head_needs_it(tmp_path, capsys):
    settings = BART | {"vocab_size": 300, "max_position_embeddings": 20, "eos_token_id": 5}
    files.save(tmp_path / "encoder", settings, jax.jit(models.assemble(settings, 2).init)(jax.random.key(1)))
    toys.bpe().save(str(tmp_path / "encoder" / "tokenizer.json"))
    (tmp_path / "study.yaml").write_text("name: s\ntask: {name: text, max_length: 20}\n")
    words = ["run", str(tmp_path / "study.yaml"), "--model", str(tmp_path / "encoder")]
    words += ["--task.path", str(toys.sentences(tmp_path / "data")), "--out", str(tmp_path / "run")]
    assert cli.main(words) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"jaxft: model: {tmp_path / 'encoder'}: it is read where an example ends in eos_token_id, 5")
    assert not (tmp_path / "run").exists()
