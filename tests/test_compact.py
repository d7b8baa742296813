"""Training on the rows of the embeddings that a task can touch: as on all rows, which can be had afterwards."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from conftest import USERS

from jaxft import models, optim
from jaxft.data import batch
from jaxft.engine import groups, replica
from jaxft.engine.pool import Pool
from jaxft.engine.recipe import Shared
from jaxft.models import compact
from jaxft.study import config, trials
from jaxft.types import Split

WORD, POSITION = compact.WORD, compact.POSITION
KINDS = {
    kind: settings | {"num_hidden_layers": 1}  # what is compared are the tables below
    for kind, settings in (("bert", toys.BERT), ("roberta", toys.ROBERTA), ("electra", toys.ELECTRA))
}


def some(n: int, seed: int):
    """Sentences of the words 1, 4, 7, ..., 28 alone."""
    split = toys.split(n, seed, vocabulary=10)
    return split._replace(tokens=(3 * split.tokens.astype(np.int32) + 1).astype(np.uint8))


@pytest.fixture(scope="module", params=KINDS)
def setting(request):
    """The config, and the rows that sentences of at most 8 words, some of them, can touch."""
    settings = KINDS[request.param]
    return settings, compact.kept(settings, [some(20, 0), some(13, 1)])


def trained(settings, kept, steps: int, optimizer: str):
    """A replica after so many steps, and what it was made of; on all rows if `kept` is None."""
    model = models.assemble(settings, 2, kept=kept)
    whole = toys.encoder(settings)[1]
    number = (lambda split: split) if kept is None else partial(compact.renumbered, kept=kept)
    shared = Shared(
        whole if kept is None else compact.cut(whole, kept),
        number(some(20, 0)),
        {"dev": batch.pack(number(some(13, 1)), 8, 8)},
    )
    recipe = toys.recipe(model, every=steps)._replace(optimizer=partial(optim.make, optimizer, "tensor"))
    trial = toys.entry(4, 9, **{"train.lr": 3e-3, "train.weight_decay": 0.1})
    pool = Pool(recipe, shared, trial, devices=jax.devices()[:1], slots=1, precision="highest")
    pool.fill({0: trial})
    report = pool.run(steps)
    return pool.take(0), recipe, whole, report.logits["dev"][0]


def test_kept_rows_are_those_that_examples_have(setting):
    settings, kept = setting
    tokens = np.concatenate([some(20, 0).tokens, some(13, 1).tokens])
    assert kept[WORD].tolist() == sorted(set(tokens.tolist()))
    before = 2 if settings["model_type"] == "roberta" else 0
    assert kept[POSITION].tolist() == list(range(before + 8))
    again = compact.renumbered(some(20, 0), kept)
    assert (kept[WORD][again.tokens] == some(20, 0).tokens).all()
    assert again.tokens.max() < len(kept[WORD])


def test_fresh_rows_are_those_of_the_whole_table(setting):
    settings, kept = setting
    key = jax.random.key(5)
    whole, small = (jax.jit(models.assemble(settings, 2, kept=rows).init)(key) for rows in (None, kept))
    assert small[WORD].shape == (len(kept[WORD]), settings.get("embedding_size", 32))
    assert whole.keys() == small.keys()
    for name in whole:
        rows = kept.get(name, slice(None))
        np.testing.assert_array_equal(np.asarray(whole[name])[rows], small[name])


@pytest.mark.parametrize("optimizer", ["adamw", "bertadam"])
def test_training_is_that_of_all_rows(setting, optimizer, optimised):
    """Those that nothing touched bit for bit, decayed as they are; the others but for the order of sums."""
    settings, kept = setting
    small, _, whole, logits = trained(settings, kept, 10, optimizer)
    wanted, full, _, expected = trained(settings, None, 10, optimizer)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    rest = jax.jit(partial(replica.untouched, full, tables=tuple(kept))).lower(whole, small)
    rest = rest.compile(USERS)(whole, small)
    found = compact.restored(rest, small.params, kept)
    assert found.keys() == wanted.params.keys()
    for name, value in wanted.params.items():
        np.testing.assert_allclose(found[name], value, atol=2e-6, err_msg=name)
    for table, rows in kept.items():
        others = np.setdiff1d(np.arange(len(wanted.params[table])), rows)
        assert len(others) > 3
        np.testing.assert_array_equal(np.asarray(found[table])[others], wanted.params[table][others])
        assert np.abs(wanted.params[table][others] - whole[table][others]).max() > 1e-5, "no decay to be seen"
    assert len(small.params[WORD]) < len(wanted.params[WORD]) / 2


def test_weights_of_a_trial_label_text_with_words_it_never_saw(tmp_path):
    study = tmp_path / "study.yaml"
    toys.sentences(tmp_path / "data", train=6)
    folder = toys.checkpoint(tmp_path / "encoder")
    study.write_text(
        f"name: toy\nmodel: {folder}\ntask: {{name: text, path: {tmp_path}/data, max_length: 16}}\n"
        "train: {lr: 3e-3, batch_size: 4, epochs: 1}\neval: {every: 2, batch_size: 8}\n"
    )
    todo = trials.expand(config.load(study))
    (group,) = groups.prepare(config.load(study), todo)
    pool = groups.pooled(group, 1, jax.devices()[:1])
    pool.fill({0: groups.entry(todo[0], group)})
    report = pool.run(2)
    params = groups.weights(group, pool.take(0))
    assert params[WORD].shape == (30, 32)
    assert len(group.kept[WORD]) < 30

    model, _ = group.whole()
    dev = group.task.evals["dev"]
    packed = batch.pack(dev, 8, 16)
    one = jax.jit(lambda params: replica.evaluate(group.recipe._replace(model=model), params, packed))
    np.testing.assert_allclose(one(params), report.logits["dev"][0], atol=1e-5)
    unseen = np.setdiff1d(np.arange(5, 30), group.kept[WORD]).astype(np.uint8)
    text = Split(unseen, np.array([0, len(unseen)]), np.array([len(unseen)]), np.array([0]))
    out = jax.jit(model.apply)(params, batch.pad(jax.tree.map(jnp.asarray, text), jnp.arange(1), 32))
    assert jnp.isfinite(out.logits).all()
