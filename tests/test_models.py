"""The models without any reference: names, initialisation, dropout, packing, the edit hook."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from conftest import USERS

from jaxft import keys, models, tree
from jaxft.errors import BadInput
from jaxft.models import family, operations
from jaxft.models.dropout import Dropout
from jaxft.types import Batch

CONFIG = {
    "model_type": "bert",
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 12,
}
CONFIGS = {"bert": CONFIG, "roberta": CONFIG | {"model_type": "roberta", "type_vocab_size": 1}}
HEADS = {"bert": ("pooler", "classifier"), "roberta": ("classifier/dense", "classifier/out_proj")}


def _key(seed: int):
    return jax.random.key(seed, impl=keys.IMPL)


@pytest.fixture(scope="module", params=CONFIGS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def tiny(kind):
    model = models.assemble(CONFIGS[kind] | {"initializer_range": 0.5}, 3)
    return model, jax.jit(model.init, compiler_options=USERS)(_key(1))


def _rows(*rows: list[list[int]]) -> Batch:
    """Rows of examples, each a list of tokens whose second half is of type 1."""
    width = max(sum(map(len, row)) for row in rows) + 1
    tokens, types, positions, segments = (np.zeros((len(rows), width), np.int32) for _ in range(4))
    first = []
    for r, row in enumerate(rows):
        start = 0
        for s, example in enumerate(row):
            here = slice(start, start + len(example))
            tokens[r, here] = example
            types[r, here] = np.arange(len(example)) >= len(example) // 2
            positions[r, here] = np.arange(len(example))
            segments[r, here] = s + 1
            first.append(r * width + start)
            start += len(example)
    ones = jnp.ones(len(first))
    arrays = map(jnp.asarray, (tokens, types, positions, segments, np.array(first, np.int32)))
    return Batch(*arrays, jnp.zeros(len(first), jnp.int32), ones)


A, B, C = [2, 7, 8, 9, 3], [2, 11, 3], [2, 30, 31, 32, 33, 34, 3]


def test_names_and_shapes(tiny, kind):
    _, params = tiny
    assert params["embeddings/word/embedding"].shape == (40, 16)
    assert params["layers/1/intermediate/kernel"].shape == (16, 24)
    hidden, logits = HEADS[kind]
    assert params[f"{hidden}/kernel"].shape == (16, 16)
    assert params[f"{logits}/kernel"].shape == (16, 3)
    assert len(params) == 5 + 2 * 16 + 4
    assert all(x.dtype == jnp.float32 for x in params.values())


def test_packed_rows_equal_padded_ones(tiny):
    """In the median of some inits: what rounding does to one of them is chance, and what a wrong pack does is not."""
    model, _ = tiny
    init = jax.jit(model.init, compiler_options=USERS)

    def loss(params, batch):
        logits = model.apply(params, batch).logits
        return jnp.square(logits).sum(), logits

    both = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=USERS)
    packs = _rows([A, B], [C]), _rows([A, B, C])
    errors: dict[tuple[int, str], list[float]] = {}
    for seed in range(1, 10):
        params = init(_key(seed))
        (_, padded), padded_grads = both(params, _rows([A], [B], [C]))
        assert np.abs(padded[0] - padded[1]).max() > 0.01
        # The gradient of a key's bias is 0 but for what is lost in the larger ones.
        rounding = 1e-7 * max(np.linalg.norm(grad) for grad in padded_grads.values())
        for number, batch in enumerate(packs):
            (_, packed), packed_grads = both(params, batch)
            found = {"logits": np.max(np.abs(packed - padded) / (1e-6 + 1e-5 * np.abs(padded)))}
            for name, grad in padded_grads.items():
                error = np.linalg.norm(packed_grads[name] - grad)
                found[name] = error / (1e-5 * np.linalg.norm(grad) + rounding)
            for name, error in found.items():
                errors.setdefault((number, name), []).append(float(error))
    for where, each in errors.items():
        assert np.median(each) <= 1, (where, each)
        assert max(each) <= 5, (where, each)


def test_an_example_does_not_see_its_neighbour(tiny):
    model, params = tiny
    apply = jax.jit(model.apply)
    one, other = apply(params, _rows([A, B])).logits, apply(params, _rows([A, [5, 6, 4]])).logits
    assert (one[0] == other[0]).all()
    assert (one[1] != other[1]).any()


def test_gradients_of_position_and_type_tables_need_no_scatter(tiny):
    model, params = tiny
    batch = _rows([A], [B])

    def loss(tables):
        return model.apply(params | tables, batch).logits.sum()

    names = ("embeddings/position/embedding", "embeddings/type/embedding")
    text = str(jax.make_jaxpr(jax.grad(loss))({name: params[name] for name in names}))
    assert "scatter" not in text


def test_init_depends_on_seed_and_name_only(tiny, kind):
    _, params = tiny
    config, logits = CONFIGS[kind] | {"initializer_range": 0.5}, HEADS[kind][1]

    def init(seed, classes=3, **changes):
        return jax.jit(models.assemble(config | changes, classes).init, compiler_options=USERS)(_key(seed))

    again, other = init(1), init(2)
    drawn = {name for name in params if name.endswith(("kernel", "embedding"))}
    for name in params:
        assert (params[name] == again[name]).all()
        assert (params[name] == other[name]).all() == (name not in drawn)
    deeper = init(1, num_hidden_layers=4)
    assert len(deeper) == len(params) + 32
    assert all((deeper[name] == value).all() for name, value in params.items())
    two = init(1, classes=2)
    assert (two[f"{logits}/kernel"] == params[f"{logits}/kernel"][:, :2]).all()
    assert all((two[name] == params[name]).all() for name in params if not name.startswith(logits))


def test_init_is_normal_with_the_configured_width(tiny):
    _, params = tiny
    drawn = np.concatenate([np.ravel(x) for n, x in params.items() if n.endswith(("kernel", "embedding"))])
    assert abs(drawn.mean()) < 4 * 0.5 / np.sqrt(drawn.size)
    assert abs(drawn.std() - 0.5) < 4 * 0.5 / np.sqrt(2 * drawn.size)
    assert all((x == 0).all() for name, x in params.items() if name.endswith("bias"))
    assert all((x == 1).all() for name, x in params.items() if name.endswith("scale"))
    assert len({float(x.reshape(-1)[0]) for n, x in params.items() if n.endswith("kernel")}) == 14


def test_dropout_at_rate_0_is_no_dropout(tiny):
    model, params = tiny
    batch, apply = _rows([A], [B, C]), jax.jit(model.apply)
    zero = apply(params, batch, _key(5), jnp.float32(0.0))
    for with_key, without in zip(jax.tree.leaves(zero), jax.tree.leaves(apply(params, batch)), strict=True):
        np.testing.assert_allclose(with_key, without, rtol=1e-5, atol=1e-6)
    x = jnp.linspace(-3, 3, 1001)
    assert (Dropout(_key(0), jnp.float32(0.0))("a", x) == x).all()
    assert (Dropout(None, 0.5)("a", x) == x).all()


@pytest.mark.parametrize("count", [1, 2, 7, 1000, *(2 * keys.PART + more for more in (-1, 0, 1, keys.PART + 5))])
def test_random_bits_are_those_of_jax(count):
    """Word for word, also under vmap."""
    many = jnp.stack([keys.named(_key(seed), "x") for seed in (0, 1, 2**32 - 1)])
    expected = [jax.random.bits(key, (count,), jnp.uint32) for key in many]
    for key, words in zip(many, expected, strict=True):
        assert (jax.jit(keys.bits, static_argnums=1)(key, count) == words).all()
    together = jax.jit(jax.vmap(lambda key: keys.bits(key, count)))(many)
    assert (together == jnp.stack(expected)).all()


@pytest.mark.parametrize("shape", [(), (7,), (301, 331)])
def test_uniform_numbers(shape):
    """From 0 to below 1, so that none is below 0 and all are below 1; in a share p of them below p."""
    x = np.asarray(jax.jit(keys.uniform, static_argnums=1)(_key(1), shape))
    assert x.shape == shape
    assert (x >= 0).all()
    assert (x < 1).all()
    words = np.asarray(jax.random.bits(_key(1), (max(1, x.size),), jnp.uint32))
    np.testing.assert_array_equal(x.ravel(), (words >> 8) / 2**24)
    for p in (0.1, 0.5, 0.9) if x.size > 1000 else ():
        assert (x < p).mean() == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / x.size))


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_share_and_scale(rate):
    draw = jax.jit(lambda key, rate, x: Dropout(key, rate)("a", x))
    x = jnp.ones((301, 331))
    y = np.asarray(draw(_key(1), rate, x))
    dropped, n = (y == 0).mean(), y.size
    assert abs(dropped - rate) < 4 * np.sqrt(rate * (1 - rate) / n) + 2**-17
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-4)
    # Both halves of a random word serve, neighbours are independent, and names and keys draw anew.
    kept = (y != 0).reshape(-1)
    assert abs((kept[:-1] & kept[1:]).mean() - (1 - rate) ** 2) < 6 / np.sqrt(n)
    for other in (draw(_key(2), rate, x), Dropout(_key(1), rate)("b", x)):
        agree = ((np.asarray(other) != 0).reshape(-1) & kept).mean()
        assert abs(agree - (1 - rate) ** 2) < 6 / np.sqrt(n)
    grad = jax.grad(lambda x: draw(_key(1), rate, x).sum())(x)
    assert (grad == y).all()


def test_dropout_acts_at_every_site(tiny, kind):
    _, params = tiny
    seen = []
    network = family.find(CONFIGS[kind]).network(CONFIGS[kind], 3)

    class Recording(Dropout):
        def mask(self, name, shape):
            seen.append((self.at + name, shape))

    network.apply({"params": tree.nest(params)}, _rows([A], [B]), Recording(), lambda name, x: x)
    # Of the last layer the first tokens alone.
    inner = [(f"layers/{i}/{site}", shape) for i, length in enumerate((6, 1)) for site, shape in (
        ("attention", (2, 2, length, 6)), ("attention_out", (2, length, 16)), ("output", (2, length, 16)))]  # fmt: skip
    head = {"bert": ["pooler"], "roberta": ["first", "classifier/dense"]}[kind]
    assert seen == [("embeddings", (2, 6, 16)), *inner, *((site, (2, 16)) for site in head)]


def test_edit_reaches_embeddings_and_layers(tiny):
    model, params = tiny
    batch, seen = _rows([A], [B]), []

    def shift(name, x):
        seen.append(name)
        return x + 1.0 if name == "layers/0" else x

    plain, edited = model.apply(params, batch), model.apply(params, batch, edit=shift)
    assert seen == ["embeddings/word", "embeddings", "layers/0", "layers/1"]
    assert (edited.hidden[0] == plain.hidden[0]).all()
    assert (edited.hidden[1] == plain.hidden[1] + 1.0).all()
    assert (edited.logits != plain.logits).any()


def test_rate_and_params_may_be_batched(tiny):
    model, params = tiny
    batch, rates = _rows([A], [B]), jnp.array([0.0, 0.4])
    vmapped = jax.jit(jax.vmap(lambda rate, key: model.apply(params, batch, key, rate).logits))
    logits = vmapped(rates, jax.random.split(_key(1), 2))
    np.testing.assert_allclose(logits[0], jax.jit(model.apply)(params, batch).logits, rtol=1e-5, atol=1e-6)
    assert (logits[1] != logits[0]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_type": "gpt2"},
            "model_type: found 'gpt2', supported: bart, bert, camembert, deberta-v2",
        ),
        ({"model_type": "layers"}, "found 'layers', supported: bart"),
        ({"model_type": None}, "found None, supported: bart"),
        ({"model_type": ["bert"]}, "found ['bert'], supported: bart"),
        ({"hidden_act": "swish"}, "hidden_act: found 'swish', accepted: gelu, gelu_new, relu"),
        ({"hidden_act": ["gelu"]}, "hidden_act: found"),
        ({"position_embedding_type": "relative_key"}, "accepted: absolute"),
        ({"is_decoder": True}, "is_decoder: found True"),
        ({"num_attention_heads": 3}, "hidden_size: found 16, a multiple of num_attention_heads"),
        ({"hidden_size": "16"}, "hidden_size: found '16', a positive integer"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: found 0, a positive integer"),
        ({"vocab_size": None}, "vocab_size: found None"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps: found '1e-12', a number"),
    ],
)
def test_bad_config(changes, message):
    with pytest.raises(BadInput, match=re.escape(message)) as caught:
        models.assemble(CONFIG | changes, 2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pad", [None, "1", 1.0, True, -1, 11, 2**40])
def test_bad_padding_token(pad):
    """The 12 positions begin after it, and one at least must be left."""
    message = f"config.json: pad_token_id: found {pad!r}, a number from 0 and below max_position_embeddings - 1 (11)"
    config = CONFIGS["roberta"] | {"pad_token_id": pad}
    for refuse in (lambda: models.assemble(config, 2), lambda: family.find(config).names(config)):
        with pytest.raises(BadInput, match=re.escape(message)) as caught:
            refuse()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("pad", "longest"), [({}, 10), ({"pad_token_id": 0}, 11), ({"pad_token_id": 10}, 1)])
def test_positions_begin_after_the_padding_token(pad, longest):
    config = CONFIGS["roberta"] | pad
    assert family.find(config).positions(config) == longest


def test_with_one_token_type_both_texts_are_of_it(tiny, kind):
    model, params = tiny
    batch = _rows([A], [B])
    one = batch._replace(types=jnp.zeros_like(batch.types))
    assert (model.apply(params, batch).logits == model.apply(params, one).logits).all() == (kind == "roberta")


def test_in_bfloat16_the_logits_alone_are_exact(tiny, kind):
    _, params = tiny
    low = models.assemble(CONFIGS[kind] | {"initializer_range": 0.5}, 3, "bfloat16")
    batch = _rows([A], [B])
    dots = [set(formats) for formats, _ in toys.matmuls(jax.make_jaxpr(low.apply)(params, batch).jaxpr)]
    # Types and positions by one-hot; per layer q, k, v, scores, mixing and three maps; the pooler; the head. The last
    # layer picks keys, values and what stands at first tokens by one-hot.
    exact, lower = [{"float32"}], [{"bfloat16"}]
    assert dots == 2 * exact + 8 * lower + 4 * lower + exact + 6 * lower + lower + exact
    assert jax.eval_shape(low.apply, params, batch).logits.dtype == jnp.float32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("sizes", [(24, 8), (8, 24), (8, 8)])
def test_the_gradients_of_a_product_are_those_of_jax(sizes, dtype):
    """The kernel's is in float32, and not rounded; also under vmap."""
    x, kernel, g = (
        jax.random.normal(_key(seed), (3, *shape))
        for seed, shape in enumerate([(2, 5, sizes[0]), sizes, (2, 5, sizes[1])])
    )
    x, g = x.astype(dtype), g.astype(dtype)

    def ours(x, kernel, g):
        return jax.vjp(lambda x, kernel: operations.product(x, kernel, kernel.astype(dtype)), x, kernel)[1](g)

    def exact(x, kernel, g):
        return jax.vjp(jnp.matmul, x.astype("float32"), kernel.astype(dtype).astype("float32"))[1](g.astype("float32"))

    for run in (jax.vmap, lambda f: lambda *all: jax.tree.map(lambda *each: jnp.stack(each), *map(f, *all))):
        (dx, dkernel), (dx_exact, dkernel_exact) = run(ours)(x, kernel, g), run(exact)(x, kernel, g)
        assert (dx.dtype, dkernel.dtype) == (x.dtype, kernel.dtype)
        np.testing.assert_allclose(dkernel, dkernel_exact, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(dx, dx_exact, rtol=1e-5, atol=1e-5 if dtype == "float32" else 0.05)


@pytest.mark.parametrize("gradient", [operations.scattered, operations.summed])
def test_the_gradient_of_a_table_sums_over_its_entries(gradient):
    rng = np.random.default_rng(0)
    index, g = rng.integers(0, 9, 40), rng.normal(size=(40, 3)).astype(np.float32)
    wanted = np.stack([g[index == row].sum(axis=0) for row in range(12)])
    np.testing.assert_allclose(jax.jit(partial(gradient, 12))(index, g), wanted, atol=1e-5)


def test_on_a_gpu_no_gradient_is_added_up_entry_by_entry(tiny):
    """Where entries that meet wait for each other, and come in any order: each row of a table is written once."""
    model, params = tiny
    batch = _rows([A], [B])
    gradient = jax.jit(jax.grad(lambda params: model.apply(params, batch).logits.sum()))
    text = gradient.trace(params).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count('"stablehlo.scatter"(') == text.count("unique_indices = true") == 1
    assert gradient.trace(params).lower(lowering_platforms=("cpu",)).as_text().count('"stablehlo.scatter"(') == 1
