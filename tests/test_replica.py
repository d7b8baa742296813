"""The engine carries what methods will need: starts, owned subsets, views, losses, states, lead-ins."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxft.data.batch import pack
from jaxft.engine.pool import Pool
from jaxft.engine.recipe import Recipe
from jaxft.status import Status
from jaxft.types import Method, Tx, same


def train(recipe: Recipe, steps: int = 20, shared=None, **trial):
    """One trial in one slot; the replica and the training losses."""
    shared = shared or toys.shared()
    pool = Pool(recipe, shared, toys.entry(**trial), devices=jax.devices()[:1], slots=1, precision="highest")
    pool.fill({0: toys.entry(**trial)})
    reports = [pool.run(5) for _ in range(steps // 5)]
    return pool.take(0), np.concatenate([r.losses[0] for r in reports])


@pytest.fixture(scope="module")
def vanilla():
    return train(toys.recipe())


def close(a, b, tolerance=2e-6):
    for name in b:
        np.testing.assert_allclose(a[name], b[name], rtol=0, atol=tolerance, err_msg=name)


def test_training_lowers_the_loss(vanilla):
    replica, losses = vanilla
    assert Status(replica.status) == Status.COMPLETED
    assert losses[-5:].mean() < 0.8 * losses[:5].mean()


def test_a_start_edits_what_training_begins_with(vanilla):
    def start(w0, key):
        return w0 | {"classifier/kernel": jnp.zeros_like(w0["classifier/kernel"])}

    _, losses = train(toys.recipe(method=lambda hyper: Method(start=start)))
    assert losses[0] == np.float32(np.log(2))
    assert vanilla[1][0] != losses[0]


def head_only(hyper):
    """Trains the classifier alone."""
    return Method(own=lambda params, w0, key: {"classifier/kernel": params["classifier/kernel"]})


def test_a_replica_stores_only_what_it_owns(vanilla):
    replica, _ = train(toys.recipe(method=head_only))
    assert list(replica.params) == ["classifier/kernel"]
    assert list(replica.opt.mu) == ["classifier/kernel"]

    def frozen(inner: Tx) -> Tx:
        def update(grads, state, params, ctx):
            kept = {n: g if n == "classifier/kernel" else jnp.zeros_like(g) for n, g in grads.items()}
            updates, state = inner.update(kept, state, params, ctx)
            return {n: u if n == "classifier/kernel" else jnp.zeros_like(u) for n, u in updates.items()}, state

        return Tx(inner.init, update)

    whole, _ = train(toys.recipe(method=lambda hyper: Method(tx=frozen)))
    close(replica.params, {"classifier/kernel": whole.params["classifier/kernel"]})
    assert not np.array_equal(whole.params["classifier/kernel"], vanilla[0].params["classifier/kernel"])


def test_a_view_is_what_the_model_sees_and_gradients_pass_through_it():
    """Twice the half of a classifier is the same function, but not the same training."""

    def start(w0, key):
        return w0 | {"classifier/kernel": w0["classifier/kernel"] / 2}

    def view(params, state, ctx):
        return params | {"classifier/kernel": params["classifier/kernel"] * 2}

    plain, before = train(toys.recipe(), steps=5)
    seen, losses = train(toys.recipe(method=lambda hyper: Method(start=start, view=view)), steps=5)
    assert losses[0] == before[0]
    assert not np.allclose(seen.params["classifier/kernel"], plain.params["classifier/kernel"] / 2)


def test_a_loss_may_add_terms_and_look_ahead(vanilla):
    """A penalty whose weight is the replica's own number, around a step uphill (an inner gradient, as in SAM)."""

    def method(hyper):
        def loss(objective, forward, ctx):
            def minimised(params, batch, key, **edits):
                slope = jax.grad(objective)(params, batch, key)
                uphill = {n: p + hyper("method.toy.rho") * slope[n] for n, p in params.items()}
                drift = sum(jnp.sum((p - ctx.w0[n]) ** 2) for n, p in params.items())
                return objective(uphill, batch, key) + hyper("method.toy.alpha") * drift

            return minimised

        return Method(loss=loss)

    off, _ = train(toys.recipe(method=method), **{"method.toy.rho": 0.0, "method.toy.alpha": 0.0})
    close(off.params, vanilla[0].params, 1e-5)
    held, _ = train(toys.recipe(method=method), **{"method.toy.rho": 0.1, "method.toy.alpha": 100.0})
    begin, _ = train(toys.recipe(), **{"train.lr": 0.0})
    name = "layers/0/output/kernel"
    drift = [np.abs(r.params[name] - begin.params[name]).sum() for r in (held, vanilla[0])]
    assert drift[0] < drift[1] / 2


class Fisher(NamedTuple):
    inner: Any
    total: Any
    steps: Any


def fisher(hyper):
    """Sums squared gradients in a lead-in of three steps; changes nothing afterwards."""

    def tx(inner: Tx) -> Tx:
        def init(params):
            zeros = jax.tree.map(jnp.zeros_like, params)
            return Fisher(inner.init(params), zeros, jnp.int32(0))

        def update(grads, state, params, ctx):
            updates, after = inner.update(grads, state.inner, params, ctx)
            leading = ctx.step < 0
            total = {n: t + jnp.where(leading, grads[n] ** 2, 0.0) for n, t in state.total.items()}
            return updates, Fisher(after, total, state.steps + leading)

        return Tx(init, update)

    return Method(tx=tx, lead=lambda steps_per_epoch: 3)


def test_a_lead_in_sums_gradients_and_moves_nothing(vanilla):
    """Three steps of gradients, then as vanilla: the lead-in waits until it fills the interval before step 0."""
    recipe = toys.recipe(method=fisher, before=5)
    before, losses = train(recipe, steps=5, lead=3)
    assert (int(before.step), int(before.opt.steps)) == (0, 3)
    assert np.isfinite(losses).tolist() == [False, False, True, True, True]
    assert sum(float(t.sum()) for t in before.opt.total.values()) > 0
    assert all((np.asarray(m) == 0).all() for m in before.opt.inner.mu.values())
    after, losses = train(recipe, steps=25, lead=3)
    assert Status(after.status) == Status.COMPLETED
    assert int(after.step) == 20
    close(after.params, vanilla[0].params)
    close(after.opt.total, before.opt.total, 0)
    np.testing.assert_allclose(losses[5:], vanilla[1], atol=1e-5)


def test_a_last_update_that_ruins_the_weights_is_seen_by_the_evaluation():
    """Only the start is finite: no step comes after the last one that could see it."""
    replica, losses = train(toys.recipe(), steps=5, epochs=1, **{"train.lr": np.inf, "train.warmup": 0.99})
    assert np.isfinite(losses[0])
    assert Status(replica.status) in (Status.NON_FINITE_LOSS, Status.NON_FINITE_GRADIENT)
    replica, losses = train(toys.recipe(), steps=5, epochs=1, n_train=4, **{"train.lr": np.inf, "train.warmup": 0.0})
    assert np.isfinite(losses[0])
    assert Status(replica.status) == Status.NON_FINITE_LOGITS
    assert int(replica.step) == 1


RULES = {
    "loss above a bound for a patience": (
        {"stop.loss_above": 0.0, "stop.loss_patience": 3},
        Status.LOSS_ABOVE,
        2,
    ),
    "one class predicted": ({"stop.one_class": 2, "train.lr": 0.0}, Status.ONE_CLASS, 10),
    "no better than the majority": ({"stop.majority": 2, "train.lr": 0.0}, Status.MAJORITY, 10),
    "all rules off": ({"train.lr": 0.0}, Status.COMPLETED, 20),
}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_stops_its_replica(rule):
    def start(w0, key):  # predicts one class until it learns
        return w0 | {"classifier/kernel": jnp.zeros_like(w0["classifier/kernel"])}

    trial, status, step = RULES[rule]
    replica, losses = train(toys.recipe(method=lambda hyper: Method(start=start)), **trial)
    assert Status(replica.status) == status
    assert int(replica.step) == step
    if status == Status.LOSS_ABOVE:  # the step that broke the rule has a loss and no update
        assert np.isfinite(losses[:3]).all()
        assert np.isnan(losses[3:]).all()


def test_patience_counts_breaches_in_a_row_only(vanilla):
    """With a bound at the median of the losses, as many breaches as the longest run of them has stop a trial."""
    bound = float(np.median(vanilla[1]))
    runs, count = [], 0
    for above in [*(vanilla[1] > bound), False]:
        runs, count = (runs, count + 1) if above else ([*runs, count], 0)
    longest = max(runs)
    assert longest < sum(runs), "all breaches are in one run: nothing to tell apart"
    for patience, status in ((longest, Status.LOSS_ABOVE), (longest + 1, Status.COMPLETED)):
        replica, _ = train(toys.recipe(), **{"stop.loss_above": bound, "stop.loss_patience": patience})
        assert Status(replica.status) == status


def numbers(split):
    """The same sentences, each with a number: the share of small tokens in it."""
    parts = np.split(split.tokens, split.offsets[1:-1])
    return split._replace(labels=np.array([3 * (part < 11).mean() - 1 for part in parts], np.float32))


@pytest.fixture(scope="module")
def regression():
    dev = pack(numbers(toys.split(13, 1)), 8, 8)
    return toys.shared()._replace(train=numbers(toys.split(20, 0)), evals={"dev": dev})


def test_numbers_are_learnt_by_their_squared_error(regression):
    recipe = toys.recipe(toys.bag(classes=1))
    replica, losses = train(recipe, shared=regression)
    assert Status(replica.status) == Status.COMPLETED
    assert losses[-5:].mean() < 0.8 * losses[:5].mean()
    start = train(recipe, steps=5, shared=regression, **{"train.lr": 0.0})[0].params
    batch = [n for n in replica.plan[0] if n >= 0]
    tokens = [regression.train.tokens[slice(*regression.train.offsets[n : n + 2])] for n in batch]
    means = np.stack([start["embeddings/word/embedding"][t].mean(axis=0) for t in tokens])
    hidden = np.tanh(means @ start["layers/0/output/kernel"] + start["layers/0/output/bias"])
    said = (hidden @ start["classifier/kernel"])[:, 0]
    assert losses[0] == pytest.approx(np.mean((said - regression.train.labels[batch]) ** 2), rel=1e-5)


@pytest.mark.parametrize(
    ("weight", "rule", "status"),
    [
        (0.0, {"stop.one_class": 2}, Status.ONE_CLASS),  # the same number for all
        (0.0, {"stop.majority": 2}, Status.MAJORITY),  # which is no better than their mean
        (1.0, {"stop.one_class": 2}, Status.COMPLETED),
    ],
)
def test_the_rules_hold_for_numbers(regression, weight, rule, status):
    def start(w0, key):
        return w0 | {"classifier/kernel": weight * w0["classifier/kernel"]}

    recipe = toys.recipe(toys.bag(classes=1), method=lambda hyper: Method(start=start))
    replica, _ = train(recipe, shared=regression, **rule, **{"train.lr": 0.0})
    assert Status(replica.status) == status


def test_a_trial_that_learns_the_numbers_is_better_than_their_mean(regression):
    replica, _ = train(toys.recipe(toys.bag(classes=1)), shared=regression, **{"stop.majority": 4})
    assert Status(replica.status) == Status.COMPLETED


def test_dropout_at_the_start_of_an_epoch_acts_in_its_first_step_only():
    """A model whose loss is the rate that it is given."""
    bag = toys.bag()

    def apply(params, batch, key=None, rate=0.0, edit=same):
        out = bag.apply(params, batch, None, 0.0, edit)
        return out._replace(logits=_shifted(rate, batch))

    for where, expected in (("every_step", [0.3] * 20), ("epoch_start", ([0.3] + [0.0] * 4) * 4)):
        recipe = toys.recipe(bag._replace(apply=apply), dropout_at=where)
        _, losses = train(recipe, **{"train.dropout": 0.3, "train.lr": 0.0})
        np.testing.assert_allclose(losses, expected, atol=1e-6)


def _shifted(rate, batch):
    """Logits [B, 2] whose cross-entropy is the rate."""
    wrong = jnp.log(jnp.expm1(rate) + 1e-30)
    return jnp.where(batch.labels[:, None] == jnp.arange(2)[None, :], 0.0, wrong)
