"""The methods of Zhang et al. 2022 where the battery does not look: both ways to freeze, stages, refilled slots."""

import importlib
import time
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import toys

from jaxft import methods
from jaxft.data import batch
from jaxft.engine import replica
from jaxft.engine.pool import Pool
from jaxft.engine.replica import Replica
from jaxft.methods._stages import kept, stage
from jaxft.methods.dps_mix import scored
from jaxft.study.trials import Length
from jaxft.types import Ctx

KINDS = ("dps_dense", "dps_mix")


def ctx(step: int, total: int) -> Ctx:
    return Ctx({}, jnp.int32(step), jnp.int32(total), jnp.float32(0), jax.random.key(0))


@pytest.mark.parametrize("total", [20, 468, 690, 1080, 1605, 12630])
def test_a_stage_is_that_share_of_the_steps_rounded_down(total):
    for ratio in ("0", "0.01", "0.05", "0.1", "0.2", "0.29", "0.3", "0.7", "1"):
        expected = max(1, int(total * Fraction(ratio)))
        assert stage(ctx(0, total), float(ratio)).length == expected, ratio


def test_stages_take_turns():
    """I, I, I, II, II, II, I, ...; one step before a stage II its mask is made; a lead-in is in none."""
    seen = [stage(ctx(step, 20), 0.15) for step in range(-4, 20)]
    assert [bool(s.first) for s in seen] == [False] * 4 + ([True] * 3 + [False] * 3) * 3 + [True] * 2
    assert [bool(s.second) for s in seen] == [False] * 4 + ([False] * 3 + [True] * 3) * 3 + [False] * 2
    assert [n for n, s in enumerate(seen, start=-4) if s.begins] == [0, 3, 6, 9, 12, 15, 18]
    assert [n for n, s in enumerate(seen, start=-4) if s.ready] == [2, 8, 14]


@pytest.mark.parametrize("p", ["0", "0.1", "0.3", "0.5", "0.7", "0.99"])
def test_a_mask_keeps_the_share_rounded_up(p):
    for n in (1, 10, 96, 1000, 1024, 2048, 384 * 1536):
        assert kept(n, jnp.float32(float(p))) == -int(-n * (1 - Fraction(p)) // 1)


@pytest.mark.parametrize("length", [4, 49, 50, 80])
def test_the_score_of_long_stages_has_a_factor(length):
    gam, fam = np.float32([[4.0, 9.0], [0.0, 2.0]]), np.float32([[35.0], [0.0]])
    times = np.maximum(fam, 1)
    expected = gam / times * (np.exp(-times / length) if length >= 50 else 1)
    np.testing.assert_allclose(scored(jnp.array(gam), jnp.array(fam), jnp.float32(length)), expected, rtol=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_as_the_code_was_released(name):
    """Only gradients are masked."""
    pytest.importorskip("torch", reason="torch is not installed: methods are not held against their oracles")
    told = oracles.told(name)
    engine = oracles.engine(told.spec.replace(")", ", freeze='gradient')"), told.hp)
    theirs = importlib.import_module(f"oracles.{name}").oracle(oracles.world(engine), freeze="gradient")
    off, worst = oracles.furthest(oracles.train(engine).params, theirs)
    assert off < 1e-5, worst


@pytest.mark.parametrize("name", KINDS)
def test_frozen_hard_a_masked_weight_stays_where_it_is(name):
    """Through all of a stage II, bit for bit; about the share p of each matrix. With gradients frozen it moves."""
    for freeze, stays in (("hard", True), ("gradient", False)):
        engine = oracles.engine(f"{name}(p=0.3, update_ratio=0.2, freeze='{freeze}')", {"train.warmup": 0.0})
        begin, end = oracles.train(engine, 4), oracles.train(engine, 8)
        for n in begin.opt.least:
            still = (np.asarray(begin.params[n]) == np.asarray(end.params[n])).mean()
            assert still == pytest.approx(0.3 if stays else 0, abs=0.02), (freeze, n)


def entry(text: str, init: int, **hp):
    return toys.entry(init, init, **(methods.numbers(text)[1] | hp))


def same(one: Replica, other: Replica) -> None:
    assert (int(one.step), int(one.status)) == (int(other.step), int(other.status))
    for a, b in zip(jax.tree.leaves((one.params, one.opt)), jax.tree.leaves((other.params, other.opt)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", KINDS)
def test_slots_at_different_steps_keep_every_bit(name):
    """A trial whose slot was filled late, beside one in another stage, and that was parked amid a stage II."""
    text = f"{name}(p=0.4, update_ratio=0.15)"  # stages of three steps
    recipe = toys.recipe(method=methods.load(methods.numbers(text)[0]), every=2)
    first, late = entry(text, 1), entry(text, 2, **{f"method.{name}.update_ratio": 0.3})
    pool = Pool(recipe, toys.shared(), first, devices=jax.devices()[:1], slots=2, precision="highest", together=True)

    def alone(trial, place: int, steps: int) -> Replica:
        pool.wake(toys.shared())
        pool.fill({place: trial})
        for _ in range(steps // 2):
            pool.run(2)
        return pool.take(place)

    expected = alone(first, 0, 20), alone(late, 1, 20)
    pool.wake(toys.shared())
    pool.fill({0: first})
    pool.run(2)
    pool.run(2)
    pool.fill({1: late})
    pool.run(1)
    parked = pool.take(0)
    assert int(parked.step) == 5
    assert any((np.asarray(x) > 0).all() for x in parked.opt.least.values())
    pool.fill({0: entry(text, 3)})
    pool.run(1)
    for _ in range(3):
        pool.run(2)
    pool.put({0: parked})
    pool.run(1)
    for _ in range(7):
        pool.run(2)
    same(pool.take(0), expected[0])
    same(pool.take(1), expected[1])


@pytest.mark.parametrize("text", ["mixout(p=0.9)", "dps_mix(p=0.9)"])
def test_an_evaluation_sees_the_weights_themselves(text):
    """Training sees them mixed: other losses, in one program that moves nothing."""

    recipe = toys.recipe(method=methods.load(methods.numbers(text)[0]))
    pool = Pool(recipe, toys.shared(), entry(text, 1), devices=jax.devices()[:1], slots=1, precision="highest")
    pool.fill({0: entry(text, 1)})
    pool.run(5)
    pool.run(5)
    moved = pool.take(0)
    pool.put({0: moved._replace(hp={**moved.hp, "train.lr": np.float32(0)})})
    report = pool.run(5)
    np.testing.assert_array_equal(pool.take(0).params["classifier/kernel"], moved.params["classifier/kernel"])
    dev = jax.tree.map(jnp.asarray, toys.shared().evals["dev"])
    np.testing.assert_allclose(
        report.logits["dev"][0], replica.evaluate(recipe, as_arrays(moved.params), dev), atol=1e-5
    )
    train = jax.tree.map(jnp.asarray, toys.shared().train)
    there = batch.pad(train, jnp.asarray(moved.plan[10]), 8)
    apart = replica.mean_loss(toys.bag().apply(as_arrays(moved.params), there).logits, there) - report.losses[0][0]
    assert abs(float(apart)) > 1e-2, "training did not see them mixed"


def as_arrays(params):
    return {n: jnp.asarray(x) for n, x in params.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_away_from_the_start_of_a_stage_it_costs_what_vanilla_does(name):
    """Four replicas side by side, each at another step, with as many tokens to a weight as a real study has; the mean
    step with thresholds is told too.
    """
    model, pretrained = toys.encoder(
        toys.BERT | {"hidden_size": 128, "intermediate_size": 512, "max_position_embeddings": 64}, 3
    )
    data = toys.split(64, longest=60)
    shared = jax.tree.map(jnp.asarray, toys.shared(pretrained=pretrained)._replace(train=data))
    packed = {"batch": 16, "layout": batch.Layout(8, 128, most=8)}

    def program(text):
        structure, floats = methods.numbers(text)
        recipe = toys.recipe(model, methods.load(structure), steps=400, max_epochs=100, **packed)
        trial = toys.entry(**floats)._replace(length=Length(*map(np.int32, (64, 100, 4, 0, 400))))
        ones = [replica.init(recipe, shared, trial)._replace(step=jnp.int32(25 * n)) for n in range(4)]
        many = jax.tree.map(lambda *x: jnp.stack(x), *ones)
        w0 = jax.tree.map(lambda *x: jnp.stack(x), *[one.params for one in ones])
        step = jax.jit(jax.vmap(lambda one, w0: replica.train_step(recipe, shared, w0, one)[0]), donate_argnums=0)
        return partial(step, w0=w0), many

    def seconds(texts, rounds=5, steps=4):
        """Of a step each, the least of many rounds in turns."""
        runs = {text: program(text) for text in texts}
        states = {text: run[0](run[1]) for text, run in runs.items()}
        least = dict.fromkeys(texts, np.inf)
        for _ in range(rounds):
            for text in texts:
                jax.block_until_ready(states[text])
                began = time.perf_counter()
                for _ in range(steps):
                    states[text] = runs[text][0](states[text])
                jax.block_until_ready(states[text])
                least[text] = min(least[text], (time.perf_counter() - began) / steps)
        return least

    usual, rare = f"{name}(update_ratio=1.0)", f"{name}(update_ratio=0.05)"
    took = seconds(["vanilla", usual, rare])
    ratio, with_them = took[usual] / took["vanilla"], took[rare] / took["vanilla"]
    print(f"{name}: {ratio:.2f} of vanilla's step away from thresholds, {with_them:.2f} with stages of 20 steps")
    assert ratio < 1.15
