"""Gradients of word embeddings by the rows that a batch reads: as those of the whole table, without its zeros."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxft import keys, methods, models, optim, touched
from jaxft.data.batch import Layout, pack
from jaxft.models import operations
from jaxft.models.compact import WORD
from jaxft.networks import lstm
from jaxft.pool import Pool
from jaxft.recipe import Shared
from jaxft.touched import Rows
from jaxft.types import Method

VOCABULARY = 150  # of which a batch of 4 examples reads 32 at most
BERT = toys.BERT | {"vocab_size": VOCABULARY}
DEBERTA = {"model_type": "deberta-v2", "relative_attention": True, "pos_att_type": "c2p|p2c"}
LSTM = {"model_type": lstm.TYPE, "embedding_size": 12, "hidden_size": 16, "num_hidden_layers": 1, "pooling": "max"}
KINDS = {"bert": BERT, "deberta": BERT | DEBERTA, "lstm": LSTM | {"vocab_size": VOCABULARY}}


def made(config: dict, rows: int = 4, streamed: bool = False, **changes) -> Pool:
    """Two replicas on one device, of a program that trains all of an encoder."""
    model = models.assemble(config, 2)
    train = toys.split(20, vocabulary=VOCABULARY)
    recipe = toys.recipe(model, layout=Layout(rows, 8, most=4), **changes)
    shared = Shared({}, train, {"dev": pack(toys.split(6, 1, VOCABULARY), 4, 8)})
    return Pool(
        recipe, shared, toys.entry(), devices=jax.devices()[:1], slots=2, precision="highest", streamed=streamed
    )


def trained(pool: Pool) -> tuple:
    """The replicas after two blocks, and what was reported of the second."""
    pool.fill({0: toys.entry(1, 2, **{"train.dropout": 0.1}), 1: toys.entry(3, 4, **{"train.clip": 0.01})})
    reports = [pool.run(5) for _ in range(2)]
    return [pool.take(slot) for slot in (0, 1)], reports


@pytest.fixture
def whole(monkeypatch):
    """Inside of it no gradient is told apart."""

    def switch():
        monkeypatch.setattr(touched, "FEW", np.inf)

    return switch


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_that_of_whole_gradients(kind, whole):
    """With dropout and a clip that bites, with rows beyond the usual, and with norms of the gradient."""
    found = trained(made(KINDS[kind], rows=2, gradient_norms=True))
    whole()
    wanted = trained(made(KINDS[kind], rows=2, gradient_norms=True))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    start = models.assemble(KINDS[kind], 2).init(keys.stream(toys.entry(3, 4).seeds, "init"))[WORD]
    moved = np.abs(found[0][1].params[WORD] - start)
    read = np.unique(toys.split(20, vocabulary=VOCABULARY).tokens)
    unread = np.setdiff1d(np.arange(1, VOCABULARY), read)
    assert moved[read].max() > 0.1 > 0.02 > moved[unread].max() > 0  # of which weight decay alone


def test_streamed_tokens_give_the_same_bits():
    found, wanted = (trained(made(BERT, streamed=streamed))[0] for streamed in (True, False))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_table_of_zeros_is_made(whole):
    """What a gradient is added up in has a row for each token of a batch, not for each of the vocabulary."""

    def tables() -> list[str]:
        text = made(BERT).block.as_text()
        return re.findall(rf"= f32\[2,{VOCABULARY},32\]\S* (?:scatter|while)\(", text)

    assert not tables()
    whole()
    assert tables(), "the pattern finds nothing where there is something"


def test_a_row_has_the_gradient_of_all_tokens_that_read_it():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 20, (3, 7))
    table = rng.normal(size=(60, 4)).astype(np.float32)
    weights = rng.normal(size=(3, 7, 4)).astype(np.float32)
    place = touched.places(jnp.asarray(tokens), 60)
    own = touched.apart({WORD: jnp.asarray(table)}, WORD, 21)

    def apart(own):
        beside = touched.told({WORD: jnp.asarray(table)}, WORD, place)
        read = operations.read_apart(
            jnp.asarray(table), *own.values(), beside["embeddings/word/place"], jnp.asarray(tokens)
        )
        return (read * weights).sum()

    assert apart(own) == pytest.approx((table[tokens] * weights).sum(), rel=1e-5)

    rows = touched.joined(jax.grad(apart)(own), WORD, place)[WORD]
    wanted = np.zeros_like(table)
    np.add.at(wanted, tokens, weights)
    assert isinstance(rows, Rows)
    np.testing.assert_allclose(rows.whole(), wanted, atol=1e-5)
    np.testing.assert_allclose((rows * jnp.float32(0.5)).whole(), wanted / 2, atol=1e-5)
    np.testing.assert_allclose(optim.norm({"a": rows}), np.linalg.norm(wanted), rtol=1e-5)


@pytest.mark.parametrize("method", ["reinit(layers=1)", "vanilla", "mixout", "rdrop", "child_tuning_f", "l2sp", "llrd"])
def test_methods_that_look_at_gradients_get_whole_ones(method):
    made = methods.load(method)(lambda name: 0.5)
    words = {WORD: jnp.zeros((VOCABULARY, 4))}
    assert touched.table(WORD, made, words, 32) == (WORD if method in ("vanilla", "reinit(layers=1)") else "")


def test_only_large_tables_that_are_trained_and_read_once():
    words = {WORD: jnp.zeros((VOCABULARY, 4))}
    assert touched.table(WORD, Method(), words, VOCABULARY // touched.FEW) == WORD
    assert touched.table(WORD, Method(), words, VOCABULARY // touched.FEW + 1) == ""
    assert touched.table(WORD, Method(), {}, 1) == ""
    assert touched.table("", Method(), words, 1) == ""
