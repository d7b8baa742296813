"""LSTMs: against torch's, in packed rows, from scratch, and in a study beside their encoder."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from studies import Quiet, rows

from jaxft import models, networks
from jaxft.data.batch import Layout, first_fit, gather
from jaxft.engine import replica
from jaxft.errors import BadInput
from jaxft.loop import train
from jaxft.models.recurrence import recur
from jaxft.networks.lstm import TYPE
from jaxft.study import config
from jaxft.types import Batch, Split

LENGTHS = (5, 1, 9, 3, 7)
SETTINGS = {
    "model_type": TYPE,
    "vocab_size": 20,
    "embedding_size": 6,
    "hidden_size": 4,
    "num_hidden_layers": 2,
    "pooling": "max",
}


def examples() -> Split:
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int32)
    tokens = rng.integers(1, 20, offsets[-1]).astype(np.uint8)
    return Split(tokens, offsets, np.array(LENGTHS, np.int32), np.array([0, 2, 1, 1, 0], np.int32))


def flat(width: int) -> Batch:
    """All examples, as many to a row as fit."""
    split, every = examples(), jnp.arange(len(LENGTHS))
    places = first_fit(jnp.array([LENGTHS]), width)[0]
    return gather(split, every, places, int(places.max()) // width + 1, width)


def loss(model, params, batch):
    logits = model.apply(params, batch).logits
    return -jax.nn.log_softmax(logits)[jnp.arange(len(batch.labels)), batch.labels].mean(), logits


def theirs(params: dict, pooling: str):
    """Logits and gradients by torch, of packed sequences: its two biases of a gate are each half of ours."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    net = torch.nn.LSTM(6, 4, num_layers=2, bidirectional=True, batch_first=True)
    word, head = torch.nn.Embedding(20, 6), torch.nn.Linear(8, 3)
    places = {"embeddings/word/embedding": [word.weight], "classifier/kernel": [head.weight]}
    places["classifier/bias"] = [head.bias]
    for layer in range(2):
        for way, end in (("forward", ""), ("backward", "_reverse")):
            name, at = f"layers/{layer}/{way}", f"l{layer}{end}"
            places[f"{name}/kernel"] = [getattr(net, f"weight_ih_{at}")]
            places[f"{name}_state/kernel"] = [getattr(net, f"weight_hh_{at}")]
            places[f"{name}/bias"] = [getattr(net, f"bias_{one}_{at}") for one in ("ih", "hh")]
    assert set(places) == set(params)
    with torch.no_grad():
        for name, tensors in places.items():
            value = np.asarray(params[name])
            for tensor in tensors:
                tensor.copy_(torch.tensor(value.T if name.endswith("kernel") else value / len(tensors)))
    split = examples()
    rows = [torch.tensor(split.tokens[a:b].astype(int)) for a, b in zip(split.offsets, split.offsets[1:], strict=False)]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor(LENGTHS)
    packed = torch.nn.utils.rnn.pack_padded_sequence(word(padded), lengths, batch_first=True, enforce_sorted=False)
    out, (last, _) = net(packed)
    out, _ = torch.nn.utils.rnn.pad_packed_sequence(out, batch_first=True)
    there = (torch.arange(out.shape[1])[None] < lengths[:, None])[..., None]
    pooled = {
        "max": torch.where(there, out, -torch.inf).amax(dim=1),
        "mean": torch.where(there, out, 0).sum(dim=1) / lengths[:, None],
        "last": torch.cat([last[-2], last[-1]], dim=1),
    }[pooling]
    logits = head(pooled)
    torch.nn.functional.cross_entropy(logits, torch.tensor(split.labels).long()).backward()
    turned = {name: t[0].grad.numpy() for name, t in places.items()}
    return logits.detach().numpy(), {n: g.T if n.endswith("kernel") else g for n, g in turned.items()}


@pytest.mark.parametrize(("pooling", "width"), [("max", 9), ("max", 16), ("mean", 16), ("last", 12)])
def test_as_torch_with_packed_sequences(pooling, width):
    model = models.assemble(SETTINGS | {"pooling": pooling}, 3)
    params = {name: 2 * x for name, x in model.init(jax.random.key(1)).items()}  # gates that are far from linear
    run = jax.jit(jax.value_and_grad(lambda params, batch: loss(model, params, batch), has_aux=True))
    (_, logits), grads = run(params, flat(width))
    wanted, theirs_grads = theirs(params, pooling)
    np.testing.assert_allclose(logits, wanted, atol=1e-6)
    assert grads.keys() == theirs_grads.keys()
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, theirs_grads[name], atol=1e-6, err_msg=name)
        assert np.abs(theirs_grads[name]).max() > 1e-4, name


def test_the_gradient_by_hand_is_that_of_the_loop():
    """Against plain differentiation of the same formula, with tokens that begin anew in the midst of a row."""
    rng = np.random.default_rng(1)
    z, kernel, keep = rng.normal(size=(7, 2, 3, 16)), rng.normal(size=(2, 4, 16)), rng.random((7, 2, 3)) < 0.7
    weight = rng.normal(size=(7, 2, 3, 4))

    def plain(z, kernel):
        h = c = jnp.zeros((2, 3, 4))
        every = []
        for t in range(7):
            h, c = (jnp.where(keep[t][..., None], x, 0.0) for x in (h, c))
            i, f, g, o = jnp.split(z[t] + jnp.einsum("wrh,whg->wrg", h, kernel), 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            every.append(h)
        return (jnp.stack(every) * weight).sum()

    def ours(z, kernel):
        return (recur(z, kernel, kernel, jnp.asarray(keep)) * weight).sum()

    z, kernel = jnp.asarray(z, jnp.float32), jnp.asarray(kernel, jnp.float32)
    one, other = (jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(z, kernel) for f in (plain, ours))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), one, other)


def test_rows_change_nothing_and_padding_is_not_read():
    model = models.assemble(SETTINGS, 3)
    params = model.init(jax.random.key(2))
    run = jax.jit(lambda batch: model.apply(params, batch))
    alone, packed = run(flat(9)), run(flat(32))
    np.testing.assert_allclose(alone.logits, packed.logits, atol=1e-6)
    np.testing.assert_allclose(alone.hidden[-1], packed.hidden[-1], atol=1e-6)
    batch = flat(16)
    other = batch._replace(tokens=jnp.where(batch.segments == 0, 7, batch.tokens))
    np.testing.assert_array_equal(run(batch).logits, run(other).logits)


def test_fresh_values_are_within_torchs_bounds():
    params = models.assemble(SETTINGS | {"hidden_size": 64, "vocab_size": 500}, 3).init(jax.random.key(0))
    for name, bound in (("layers/1/forward/kernel", 1 / 8), ("layers/0/forward_state/kernel", 1 / 8)):
        value = np.asarray(params[name])
        assert bound * 0.99 < np.abs(value).max() <= bound
        assert value.std() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert np.asarray(params["embeddings/word/embedding"]).std() == pytest.approx(1, rel=0.03)
    assert np.abs(params["layers/0/forward/bias"]).max() > 1 / 8, "the sum of two"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("embedded|lstmm", "unknown network 'lstmm'; did you mean lstm?"),
        ("embedded|lstm(layer=4)", "lstm has no argument 'layer'; did you mean layers?"),
        ("embedded|lstm(layers=0)", "network.lstm.layers: expected an integer from 1 on, found 0"),
        ("embedded|lstm(pooling='first')", "expected 'max' or 'mean' or 'last', found 'first'"),
        ("embedded|scratch|lstm", "one network in a checkpoint's place, found"),
        ("embedded|", "expected names with keyword arguments"),
    ],
)
def test_what_a_model_may_not_say(name, said):
    with pytest.raises(BadInput, match=r"model|network") as error:
        networks.read(name)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_width_only_for_random_embeddings():
    with pytest.raises(BadInput, match="width: found 8, but embeddings are those of the checkpoint"):
        models.open("embedded|lstm(width=8, embeddings='trained')")


def test_beside_its_encoder_in_a_study(tmp_path):
    """Words of a model's name reach the rows; what is frozen is not trained; sizes lie side by side in the slots."""
    names = ["embedded", "embedded|scratch", "embedded|lstm(hidden=16, embeddings='frozen')"]
    study = config.build(
        {"train.epochs": 1, "train.lr": 1e-2, "seeds.init": 1, "seeds.order": "1..2", "task.n_train": "10%"}
        | {"sweep": {"model": names}, "eval.every": 5, "pool.slots": 2, "pool.devices": 1, "out": str(tmp_path / "run")}
    )
    found = rows(train.run(study, progress=Quiet()))
    full = "embedded|lstm(layers=1, hidden=16, pooling='max', embeddings='frozen', width=0)"
    assert set(found["model"]) == {"embedded", "embedded|scratch", full}
    assert set(found["n_train"]) == {80}
    assert found["final_score"].notna().all()


@pytest.mark.parametrize(
    ("embeddings", "taken", "trained"), [("random", False, True), ("trained", True, True), ("frozen", True, False)]
)
def test_whose_embeddings(embeddings, taken, trained):
    word = "embeddings/word/embedding"
    model, pretrained = models.build(models.open(f"embedded|lstm(hidden=8, embeddings='{embeddings}')"), 2)
    assert list(pretrained) == [word] * taken
    if taken:
        _, whole = models.build(models.open("embedded"), 2)
        np.testing.assert_array_equal(pretrained[word], whole[word])
    recipe = toys.recipe(model, layout=Layout(4, 8, most=4))
    one = jax.jit(partial(replica.init, recipe))(toys.shared(pretrained=pretrained), toys.entry())
    assert (word in one.params) == trained


def test_scratch_takes_nothing():
    model, pretrained = models.build(models.open("embedded|scratch"), 2)
    encoder, whole = models.build(models.open("embedded"), 2)
    assert not pretrained
    fresh = jax.eval_shape(model.init, jax.random.key(0))
    assert fresh.keys() == jax.eval_shape(encoder.init, jax.random.key(0)).keys() > whole.keys()


@pytest.mark.parametrize("shared", [(), (0,), (2,)])
def test_replicas_together_are_the_same_as_each_alone(shared):
    """`shared` says which of z, kernel and keep all replicas have in common."""
    keys = jax.random.split(jax.random.key(0), 3)
    arguments = [
        jax.random.normal(keys[0], (3, 7, 2, 2, 16)),
        jax.random.normal(keys[1], (3, 2, 4, 16)),
        jax.random.uniform(keys[2], (3, 7, 2, 2)) > 0.2,
    ]
    arguments = [x[0] if i in shared else x for i, x in enumerate(arguments)]

    def one(z, kernel, keep):
        y, back = jax.vjp(lambda z, kernel: recur(z, kernel, kernel, keep), z, kernel)
        return y, back(jnp.cos(y))

    together = jax.vmap(one, [None if i in shared else 0 for i in range(3)])(*arguments)
    alone = [one(*(x if i in shared else x[r] for i, x in enumerate(arguments))) for r in range(3)]
    stacked = jax.tree.map(lambda *each: jnp.stack(each), *alone)
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(stacked), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "hidden"), [(1, 64), (1, 256), (4, 256)])
def test_faster_than_a_loop_of_torch(layers, hidden, capsys):
    pytest.importorskip("torch")
    script = Path(__file__).with_name("lstm_speed.py")
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_FLAGS", "JAX_NUM"))}
    done = subprocess.run(
        [sys.executable, script, str(layers), str(hidden)], env=plain, capture_output=True, text=True, check=True
    )
    with capsys.disabled():
        print(f"\n{done.stdout}")
    assert float(done.stdout.splitlines()[0].rpartition(" ")[2]) > 1
