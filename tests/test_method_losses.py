"""Methods that add to the loss, beyond what their oracles see: rows trained one by one, numbers, what it costs."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxft import keys, methods
from jaxft.data.batch import Layout, gather
from jaxft.engine import replica
from jaxft.engine.recipe import Shared
from jaxft.engine.rehearse import rehearse
from jaxft.errors import BadInput
from jaxft.methods import _apart
from jaxft.types import Ctx, Out, same


@cache
def deep():
    """A BERT of three layers, so that one lies between the noise and the last."""
    model, pretrained = toys.encoder(toys.BERT | {"num_hidden_layers": 3}, 3)
    return model, jax.tree.map(jnp.asarray, toys.shared(pretrained=pretrained))


def made(text: str, deep, **changes):
    """The recipe and a trial of a spec."""
    structure, floats = methods.numbers(text)
    entry = jax.tree.map(jnp.asarray, toys.entry(n_train=18, **floats))
    return toys.recipe(deep[0], methods.load(structure), **changes), entry


@cache
def gradients(text: str, rows: int) -> list:
    """Of the first five steps' batches loss and gradient, from so many rows at a time, and how many turns it takes."""
    recipe, entry = made(text, deep(), layout=Layout(rows, 16, most=4))
    one = jax.jit(lambda entry: replica.init(recipe, deep()[1], entry))(entry)
    w0 = replica.start(recipe, deep()[1].pretrained, entry.seeds, recipe.method(entry.hp.__getitem__))
    part = jax.jit(lambda one, w0, skip: replica.gradient(recipe, deep()[1], w0, one, one.params, {}, rows, skip))
    found = []
    for step in range(5):  # an epoch: the last batch has two examples
        one = one._replace(step=jnp.int32(step))
        turns = range(0, int(replica._rows(recipe, one)), rows)
        parts = [part(one, w0, jnp.int32(skip)) for skip in turns]
        found.append((len(parts), jax.tree.map(lambda *x: sum(x), *parts)))
    return found


@pytest.mark.parametrize("text", ["r3f(weight=3.0, eps=0.3)", "smart(eps=0.3, step=0.2, std=0.1)", "lnsr(std=0.3)"])
def test_a_penalty_is_that_of_the_batch_however_its_rows_are_trained(text):
    """All at once or one by one: the same noise, and a mean over the same examples."""
    turns, penalties = [], []
    for (one_by_one, (loss, grads)), (_, (expected, other)), (_, (plain, _)) in zip(
        gradients(text, 1), gradients(text, 4), gradients("vanilla", 4), strict=True
    ):
        turns.append(one_by_one)
        penalties.append(float(expected - plain))
        np.testing.assert_allclose(loss, expected, rtol=0, atol=2e-6)
        for name in grads:
            np.testing.assert_allclose(grads[name], other[name], rtol=1e-5, atol=1e-5, err_msg=name)
    assert max(turns) > 1, "no step has further rows"
    assert min(penalties) > 1e-4


@pytest.mark.parametrize(("text", "of_one"), [("r3f", 2), ("rdrop", 2), ("smart(ascents=2)", None), ("lnsr", 2)])
def test_the_loss_and_its_penalty_share_what_they_have_in_common(text, of_one):
    """Beside the plain output there is one other to go forward and backward through, not three."""

    def cost(text):
        recipe, entry = made(text, deep())
        one = jax.eval_shape(lambda: replica.init(recipe, deep()[1], entry))
        method = recipe.method(entry.hp.__getitem__)
        w0 = jax.eval_shape(lambda: replica.start(recipe, deep()[1].pretrained, entry.seeds, method))
        step = lambda w0, one: replica.gradient(recipe, deep()[1], w0, one, one.params, {}, 4, jnp.int32(0))  # noqa: E731
        return sum(n for _, n in toys.matmuls(jax.make_jaxpr(step)(w0, one).jaxpr))

    times = cost(text) / cost("vanilla")
    print(f"{text}: {times:.3f} times the matmuls of vanilla")
    # Twice, and a few small products more; each ascent goes forward and backward once again.
    assert times < (of_one or 4) * 1.02
    assert times > (of_one or 3) * 0.98


def numbers(split):
    return split._replace(labels=(split.labels * 0.7 - 0.2).astype(np.float32))


@pytest.mark.parametrize("text", ["r3f(eps=0.3)", "rdrop(alpha=3.0)", "smart(eps=0.3, step=0.2, std=0.1)"])
def test_numbers_have_the_squared_difference(text):
    """A regression has the mean of (f - f')^2 over the examples that are there."""
    model, pretrained = toys.encoder(toys.BERT, 1)
    deep = model, jax.tree.map(jnp.asarray, Shared(pretrained, numbers(toys.split(20)), {}))
    recipe, entry = made(text, deep)
    hp = entry.hp | {"train.dropout": jnp.float32(0.1)}
    method = recipe.method(hp.__getitem__)
    w0 = replica.start(recipe, deep[1].pretrained, entry.seeds, method)
    ctx = Ctx(w0, jnp.int32(0), jnp.int32(20), jnp.float32(1e-3), jax.random.key(1, impl=keys.IMPL))
    idx = jnp.int32([3, 8, -1, 5])
    batch = gather(jax.tree.map(jnp.asarray, deep[1].train), idx, 8 * jnp.arange(4, dtype=jnp.int32), 4, 8)
    said = []

    def forward(params, batch, key=None, edit=same):
        out = model.apply(params, batch, key, 0.1, edit)
        said.append(out.logits[:, 0])
        return out

    def objective(params, batch, key=None, edit=same, out=None):
        return replica.mean_loss((out or model.apply(params, batch, key, 0.1, edit)).logits, batch)

    key = jax.random.key(2, impl=keys.IMPL)
    found = method.loss(objective, forward, ctx)(w0, batch, key)
    plain, moved = said[0], said[-1]
    square = float(((plain - moved) ** 2)[idx >= 0].mean())
    assert square > 1e-6
    if text.startswith("rdrop"):
        both = [float(objective(w0, batch, k)) for k in (key, keys.named(key, "rdrop"))]
        assert found == pytest.approx(sum(both) / 2 + 3 / 4 * square, rel=1e-5)
    else:
        assert found == pytest.approx(float(objective(w0, batch, key)) + square, rel=1e-5)


def test_noise_of_a_token_is_its_own_wherever_it_lies():
    key, longest = jax.random.key(3, impl=keys.IMPL), 8
    split = jax.tree.map(jnp.asarray, toys.split(20))
    idx = jnp.int32([0, 1, 2, 3])
    lengths = np.diff(np.asarray(split.offsets))[:4]
    wide = gather(split, idx, longest * jnp.arange(4), 4, longest)
    packed = gather(split, idx, jnp.asarray([0, *np.cumsum(lengths)[:-1]]), 1, 32)
    for kind in ("uniform", "normal"):
        one, other = (_apart.noise(key, b.segments, b.positions, 5, kind) for b in (wide, packed))
        np.testing.assert_array_equal(one[wide.segments > 0], other[packed.segments > 0])
        assert len(np.unique(one[wide.segments > 0])) > 0.99 * 5 * lengths.sum()


def test_noise_has_the_moments_of_its_distribution():
    key = jax.random.key(4, impl=keys.IMPL)
    segments, positions = jnp.meshgrid(jnp.arange(1, 5), jnp.arange(300), indexing="ij")
    uniform = np.asarray(_apart.noise(key, segments, positions, 64, "uniform"))
    normal = np.asarray(_apart.noise(key, segments, positions, 64, "normal"))
    few = 4 / np.sqrt(uniform.size)  # four standard errors of a mean
    assert abs(uniform).max() < 1
    assert abs(uniform.mean()) < few / np.sqrt(3)
    assert abs((uniform**2).mean() - 1 / 3) < few * np.sqrt(4 / 45)
    assert abs(normal.mean()) < few
    assert abs((normal**2).mean() - 1) < few * np.sqrt(2)
    assert np.isfinite(normal).all()


def test_lnsr_counts_tokens_of_an_example_and_no_padding():
    """By hand, on hidden states that are given: layers above the noise, means over tokens, then over examples."""
    rng = np.random.default_rng(0)
    split = jax.tree.map(jnp.asarray, toys.split(20))
    batch = gather(split, jnp.int32([4, -1, 7, 9]), jnp.int32([0, 0, 8, 16]), 3, 8)
    hidden = [jnp.asarray(rng.normal(size=(2, 3, 8, 5)), jnp.float32) for _ in range(4)]
    hidden.append(jnp.asarray(rng.normal(size=(2, 4, 5)), jnp.float32))  # of four layers, after the embeddings

    def forward(params, batch, key=None, edit=same):
        moved = edit is not same
        sites = {}
        for i in range(4):
            sites[i] = edit(f"layers/{i}", jnp.zeros((3, 8, 5)))
        if moved:
            assert [i for i, x in sites.items() if np.asarray(x).any()] == [1]
        return Out(jnp.zeros((4, 2)), tuple(x[int(moved)] for x in hidden))

    table = {"embeddings/word/embedding": jnp.zeros((30, 5))}
    ctx = Ctx(table, jnp.int32(0), jnp.int32(1), jnp.float32(0), jax.random.key(0, impl=keys.IMPL))
    method = methods.load("lnsr(layer=1)")({"method.lnsr.weight": 2.0, "method.lnsr.std": 0.5}.__getitem__)
    loss = method.loss(lambda *_: jnp.float32(10), forward, ctx)({}, batch)
    expected = 0.0
    for b, row in ((0, 0), (2, 1), (3, 2)):
        inside = np.asarray(batch.segments)[row] == b + 1
        middle = (np.asarray(hidden[3][1] - hidden[3][0])[row][inside] ** 2).sum(-1).mean()
        last = (np.asarray(hidden[4][1] - hidden[4][0])[b] ** 2).sum()
        expected += (middle + last) / 3
    assert float(loss) == pytest.approx(10 + 2 * expected, rel=1e-5)


@pytest.mark.parametrize(("layer", "fits"), [(1, True), (2, False), (7, False)])
def test_lnsr_needs_a_layer_above(layer, fits):
    recipe, entry = made(f"lnsr(layer={layer})", deep())
    if fits:
        rehearse(recipe, deep()[1], entry)
        return
    message = (
        f"method.lnsr.layer: found {layer}, but the model has 3 layers, from 0: up to 1, so that a layer lies above"
    )
    with pytest.raises(BadInput, match=f"^{message}"):
        rehearse(recipe, deep()[1], entry)


def test_l2sp_leaves_rows_where_they_are_that_no_batch_reads():
    """Without weight decay: those of the whole tables are at their start after any training."""
    recipe, entry = made("l2sp(alpha=3.0)", deep())
    entry = entry._replace(hp=entry.hp | {"train.weight_decay": np.float32(0)})
    one = replica.init(recipe, deep()[1], entry)._replace(step=jnp.int32(20))
    tables = ("embeddings/word/embedding", "embeddings/position/embedding")
    at_rest = jax.jit(lambda one: replica.untouched(recipe, deep()[1].pretrained, one, tables))(one)
    for name in tables:
        np.testing.assert_array_equal(at_rest[name], deep()[1].pretrained[name])
