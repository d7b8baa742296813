"""LSTMs: against torch's, in packed rows, from scratch, and in a study beside their encoder."""

import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from studies import Quiet, rows

from jaxft import config, models, networks, replica, train
from jaxft.data.batch import Layout, first_fit, gather, layout, pack
from jaxft.errors import BadInput
from jaxft.models.recurrence import recur
from jaxft.networks.lstm import TYPE
from jaxft.pool import Pool
from jaxft.recipe import Shared
from jaxft.trials import Length
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
    recipe = toys.recipe(model, layout=Layout(4, 8, True))
    one = jax.jit(partial(replica.init, recipe))(toys.shared(pretrained=pretrained), toys.entry())
    assert (word in one.params) == trained


def test_scratch_takes_nothing():
    model, pretrained = models.build(models.open("embedded|scratch"), 2)
    encoder, whole = models.build(models.open("embedded"), 2)
    assert not pretrained
    fresh = jax.eval_shape(model.init, jax.random.key(0))
    assert fresh.keys() == jax.eval_shape(encoder.init, jax.random.key(0)).keys() > whole.keys()


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "hidden"), [(1, 64), (1, 256), (4, 256)])
def test_faster_than_a_loop_of_torch(layers, hidden, capsys):
    """Whole steps of 8 replicas against torch's, one after the other; lengths as those of SST-2.

    torch at its fastest of: padded or packed, one thread or two, all embeddings or those alone that the task has.
    """
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.gamma(2.2, 5.2, 6000).astype(int) + 3, 3, 64)
    words, known, batch, classes = 11600, 30522, 16, 2  # those of SST-2's training set, those of BERT's vocabulary
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    tokens = (words * rng.random(offsets[-1]) ** 3).astype(np.uint16)
    split = Split(tokens, offsets, lengths.astype(np.int32), rng.integers(0, classes, 6000).astype(np.int32))
    settings = SETTINGS | {"vocab_size": words, "embedding_size": 256, "hidden_size": hidden}
    model = models.assemble(settings | {"num_hidden_layers": layers}, classes)
    steps, replicas = 20, 8
    found = layout(split, [], batch, serial=4.0)
    recipe = toys.recipe(model, batch=batch, layout=found, every=steps, steps=10_000, max_epochs=1)
    few = Split(tokens[: offsets[16]], offsets[:17], split.second[:16], split.labels[:16])
    shared = Shared({}, split, {"dev": pack(few, 16, found.width)})
    long = Length(6000, 1, 375, 0, 375)
    like = toys.entry(**{"train.lr": 1e-3})._replace(length=Length(*(np.int32(x) for x in long)))
    devices = jax.devices()[:2]
    pool = Pool(recipe, shared, like, devices=devices, slots=replicas // len(devices), precision="highest")
    pool.fill(dict.fromkeys(range(replicas), like))

    def ours() -> float:
        began = time.perf_counter()
        pool.run(steps)
        return replicas * steps * batch / (time.perf_counter() - began)

    class Net(torch.nn.Module):
        def __init__(self, vocabulary: int):
            super().__init__()
            self.word = torch.nn.Embedding(vocabulary, 256)
            self.lstm = torch.nn.LSTM(256, hidden, layers, bidirectional=True, batch_first=True)
            self.head = torch.nn.Linear(2 * hidden, classes)

        def forward(self, rows, lengths, packed: bool):
            x, there = self.word(rows), (torch.arange(rows.shape[1])[None] < lengths[:, None])[..., None]
            if packed:
                x = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
                x, _ = torch.nn.utils.rnn.pad_packed_sequence(self.lstm(x)[0], batch_first=True)
            else:
                x, _ = self.lstm(x)
            return self.head(torch.where(there, x, -torch.inf).amax(dim=1))

    def loop(vocabulary: int, packed: bool, threads: int):
        net = Net(vocabulary)
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01, fused=True)

        def turn(steps: int = steps) -> float:
            torch.set_num_threads(threads)
            began = time.perf_counter()
            for _ in range(steps):
                chosen = rng.integers(0, 6000, batch)
                rows = [torch.tensor(tokens[offsets[i] : offsets[i + 1]].astype(np.int64)) for i in chosen]
                padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
                logits = net(padded, torch.tensor(lengths[chosen]), packed)
                torch.nn.functional.cross_entropy(logits, torch.tensor(split.labels[chosen]).long()).backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
            return steps * batch / (time.perf_counter() - began)

        turn(1)
        return turn

    ours()
    lines = []
    for vocabulary in (known, words):
        rates = {(packed, n): loop(vocabulary, packed, n) for packed in (False, True) for n in (1, 2)}
        best = max(rates, key=lambda key: rates[key](4))
        pairs = [(ours(), rates[best]()) for _ in range(5)]
        ratio = float(np.median([a / b for a, b in pairs]))
        lines.append(ratio)
        with capsys.disabled():
            a, b = np.median(pairs, axis=0)
            print(
                f"\nLSTM-{layers}-{hidden}, {found.rows} rows of {found.width}: {a:.0f} examples/s against {b:.0f} of "
                f"torch ({'packed' if best[0] else 'padded'}, {best[1]} threads, {vocabulary} embeddings): {ratio:.2f}"
            )
    assert lines[0] > 1
