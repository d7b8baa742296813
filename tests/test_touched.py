"""Gradients of word embeddings by the rows that a batch reads: as those of the whole table, without its zeros."""

import re
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from jax.stages import Compiled

from jaxft import keys, methods, models, optim, touched
from jaxft.data.batch import Layout, pack
from jaxft.engine import replica
from jaxft.engine.recipe import Entry, Replica, Report, Shared
from jaxft.models import operations
from jaxft.models.compact import WORD
from jaxft.networks import lstm
from jaxft.touched import Rows
from jaxft.types import Method

VOCABULARY = 150  # of which a batch of 4 examples reads 32 at most
BERT = toys.BERT | {"vocab_size": VOCABULARY}
LSTM = {"model_type": lstm.TYPE, "embedding_size": 32, "hidden_size": 16, "num_hidden_layers": 1, "pooling": "max"}
CASES = {
    "bert": (BERT, partial(optim.make, "adamw", "global")),
    "lstm": (LSTM | {"vocab_size": VOCABULARY}, partial(optim.make, "bertadam", "tensor")),
}


def block(config: dict, optimizer: Callable, entry: Entry) -> tuple[Compiled, tuple[Replica, Report]]:
    """The program of a trial's start and first block, and what it gives; rows may be more than the usual."""
    model = models.assemble(config, 2)
    recipe = toys.recipe(model, layout=Layout(2, 8, most=4), gradient_norms=True)._replace(optimizer=optimizer)
    train = toys.split(20, vocabulary=VOCABULARY)
    shared = Shared({}, train, {"dev": pack(toys.split(6, 1, VOCABULARY), 4, 8)})

    def run(shared: Shared, entry: Entry):
        own, within = replica.begin(recipe, shared, replica.init(recipe, shared, entry))
        within = jax.lax.fori_loop(0, 5, lambda i, x: replica.advance(recipe, shared, own, x, i), within)
        return replica.end(recipe, shared, own, within)

    program = jax.jit(run).lower(shared, entry).compile()
    return program, program(shared, entry)


@pytest.mark.parametrize("case", CASES)
def test_training_is_that_of_whole_gradients(case, monkeypatch):
    """With dropout and a clip that bites; and in its program no gradient has a row for each word."""
    entry = toys.entry(3, 4, **{"train.dropout": 0.1, "train.clip": 0.01})
    program, found = block(*CASES[case], entry)
    monkeypatch.setattr(touched, "FEW", np.inf)
    other, wanted = block(*CASES[case], entry)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)

    zeros = rf"= f32\[{VOCABULARY},32\]\S* (?:scatter|broadcast)\("
    assert len(re.findall(zeros, program.as_text())) < len(re.findall(zeros, other.as_text()))

    start = models.assemble(CASES[case][0], 2).init(keys.stream(entry.seeds, "init"))[WORD]
    moved = np.abs(found[0].params[WORD] - start)
    read = np.unique(toys.split(20, vocabulary=VOCABULARY).tokens)
    unread = np.setdiff1d(np.arange(1, VOCABULARY), read)
    assert moved[read].max() > 0.05 > 0.02 > moved[unread].max() > 0  # of which weight decay alone


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
