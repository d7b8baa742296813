"""What every method must pass, found by its name: nothing here is about one of them."""

import inspect
import re
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import toys

from jaxft import keys, members, methods
from jaxft.engine import checkpoint, replica
from jaxft.engine.rehearse import STILL
from jaxft.errors import BadInput
from jaxft.members import spec
from jaxft.types import Ctx, Method, Out, same

NAMES = oracles.names()
FLOATS = {"": 1.0, "Share": 0.5, "BelowOne": 0.5, "NotNegative": 1.0, "Positive": 1.0}
"""Another number than a default, in its range, if it is not the default."""


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Counts programs: what XLA compiles, or takes from its cache."""
    found = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: found.append(event) if event.endswith("backend_compile_duration") else None
    )
    return found


def texts(name: str) -> tuple[str, str]:
    """A method as its oracle has it, and with other floats throughout."""
    (call,) = [call for call in spec.bind(spec.parse(oracles.told(name).spec)) if call.name == name]
    other = dict(call.args)
    for arg, declared in members.signature(name).items():
        if declared.type is float:
            usual = FLOATS[declared.range]
            other[arg] = usual if call.args[arg] != usual else usual / 2
    return spec.write([call]), spec.write([spec.Call(name, other)])


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is(name):
    method = getattr(__import__(f"jaxft.methods.{name}", fromlist=[name]), name)
    about = inspect.getdoc(method) or ""
    summary, *rest = about.split("\n\n")
    assert summary.endswith("."), "no summary in the first line"
    assert inspect.signature(method).return_annotation is Method
    if name == "vanilla":
        return
    text = "\n".join(rest)
    assert re.search(r"(19|20)\d\d|arXiv", text), "no source"
    assert re.search(r"\bowns?\b", about, re.IGNORECASE), "not what a replica owns"
    assert "vanilla" in text, "not where it equals vanilla, or that it never does"
    for arg in members.signature(name):
        assert re.search(rf"\b{arg}\b", text), f"nothing about {arg}"
    for other, reason in members.clashes(name).items():
        assert reason == reason.strip(" .\n"), f"{other}: one phrase, without a full stop"


@pytest.mark.parametrize("name", [name for name in NAMES if oracles.told(name).off])
def test_off_it_is_vanilla(name):
    """Bit for bit, op by op: compiled, other fusions round otherwise."""
    steps = 4
    off = oracles.train(oracles.engine(oracles.told(name).off, whole=True), steps)
    plain = vanilla(steps)
    assert {*off.params} == {*plain}
    for n, value in plain.items():
        np.testing.assert_array_equal(off.params[n], value, err_msg=n)


@cache
def vanilla(steps: int):
    """Its parameters after so many steps, op by op."""
    engine = oracles.engine("vanilla", whole=True)
    before, after = oracles.begin(engine)[1], oracles.train(engine, steps).params
    moved = [n for n, value in after.items() if (value != before[n]).any()]
    assert len(moved) > 30, "vanilla has moved nothing"
    return after


def stacked(trees):
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


@pytest.mark.parametrize("name", NAMES)
def test_two_replicas_in_one_program_are_as_each_alone(name, compiled):
    """With other floats, other seeds and at other steps; and no step after the first ones compiles anything."""
    engines = [oracles.compiled(oracles.engine(text, init=init)) for init, text in enumerate(texts(name))]
    recipe, shared, _ = engines[0]
    pairs = [oracles.begin(engine) for engine in engines]

    def step(one, w0):
        return replica.train_step(recipe, shared, w0, one)[0]

    # The second is three steps ahead of the first.
    for _ in range(3):
        pairs[1] = step(*pairs[1]), pairs[1][1]
    (one, other), w0 = [pair[0] for pair in pairs], stacked([pair[1] for pair in pairs])
    many = stacked([one, other])
    for count in range(8 + recipe.before):
        if count == 3:
            before = len(compiled)
        many = jax.vmap(step)(many, w0)
    assert len(compiled) == before, "a later step compiled something"
    for place, alone in enumerate((one, other)):
        for _ in range(8 + recipe.before):
            alone = step(alone, pairs[place][1])
        found = jax.tree.map(lambda x, place=place: x[place], many)
        assert int(found.step) == int(alone.step) >= 3
        for n, value in alone.params.items():
            if not n.endswith("key/bias"):
                # As far as sums of float32 in another order are apart.
                np.testing.assert_allclose(found.params[n], value, rtol=0, atol=2e-6, err_msg=n)


@pytest.mark.parametrize("name", NAMES)
def test_goes_on_from_what_was_set_down(name, tmp_path):
    """All that it remembers is in the state, which a checkpoint holds; what comes back goes on bit for bit."""
    engine = oracles.compiled(oracles.engine(oracles.told(name).spec))
    one, w0 = oracles.begin(engine)
    step = lambda one: replica.train_step(engine.recipe, engine.shared, w0, one)[0]  # noqa: E731
    for _ in range(engine.recipe.before + 7):
        one = step(one)
    file = tmp_path / "parked"
    file.write_bytes(checkpoint.written(checkpoint.Parked(one, {}, {})))
    back = jax.tree.map(jnp.asarray, checkpoint.read(str(file), one).replica)
    again = oracles.compiled(oracles.engine(oracles.told(name).spec))  # of another process: it knows nothing
    for _ in range(6):
        one = step(one)
        back = replica.train_step(again.recipe, again.shared, w0, back)[0]
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_its_tx_takes_a_part_of_the_parameters(name):
    """As `replica.untouched` has it: tables alone, of which no batch reads a row; and none at all."""
    recipe, shared, entry = oracles.engine(oracles.told(name).spec, whole=True)
    one = jax.eval_shape(lambda: oracles.begin(oracles.Engine(recipe, shared, entry))[0])
    for tables in (("embeddings/word/embedding", "embeddings/position/embedding"), ()):
        jax.eval_shape(lambda one, t=tables: replica.untouched(recipe, shared.pretrained, one, t), one)


@cache
def shapes():
    return jax.eval_shape(toys.bert(oracles.CLASSES)[0].init, jax.random.key(0))


def traced(text: str) -> Method:
    """Every hook of a method as a program has it, with traced numbers, on a model that only adds up its parameters."""
    structure, floats = methods.numbers(text)
    make, key = methods.load(structure), jax.random.key(0, impl=keys.IMPL)

    def forward(params, batch, key=None, edit=same):
        x = edit("embeddings/word", jnp.zeros((4, 8, 32))) + params["embeddings/norm/bias"][None, None, :]
        x = edit("embeddings", x)
        hidden = [x, edit("layers/0", 2 * x), edit("layers/1", 3 * x)[:, 0]]
        total = sum(jnp.sum(x) for x in params.values())
        return Out(total + hidden[-1][:, :3], tuple(hidden))

    def whole(w0, floats, batch, step):
        method = make(floats.__getitem__)
        w0 = method.start(w0, key)
        params = method.own(w0, w0, key)
        tx = method.tx(STILL)
        state = tx.init(params)
        ctx = Ctx(w0, step, jnp.int32(20), jnp.float32(1e-3), key)
        seen = lambda params, *rest: forward({**w0, **method.view(params, state, ctx)}, *rest)  # noqa: E731

        def plain(params, batch, key=None, edit=same, out=None):
            return replica.mean_loss((out or seen(params, batch, key, edit)).logits, batch)

        grads = jax.grad(method.loss(plain, seen, ctx))(params, batch, key)
        updates, after = tx.update(grads, state, params, ctx)
        assert {*updates} == {*params}
        assert jax.tree.structure(after) == jax.tree.structure(state)
        assert [x.dtype for x in jax.tree.leaves(after)] == [x.dtype for x in jax.tree.leaves(state)]
        return updates

    cell, of = jnp.zeros((4, 8), jnp.int32), jnp.zeros(4, jnp.int32)
    batch = replica.Batch(cell, cell, cell, cell, of, of, jnp.ones(4))
    numbers = {n: jnp.float32(x) for n, x in floats.items()}
    return jax.eval_shape(whole, shapes(), numbers, batch, jnp.int32(0))


@cache
def refused(text: str) -> str:
    """Why a chain is not trained; "" if it is."""
    try:
        traced(text)
    except BadInput as error:
        return str(error)
    return ""


@pytest.mark.parametrize("first", NAMES)
def test_chains_with_any_other_or_says_why_not(first):
    """Each pair once, in this order or in that."""
    place = NAMES.index(first)
    for turn, second in enumerate(NAMES[place + 1 :], start=place):
        chain = (first, second) if turn % 2 else (second, first)
        why = refused("|".join(texts(name)[0] for name in chain))
        assert not why or ("\n" not in why and len(why) > 40), f"{chain}: {why}"


@pytest.mark.parametrize("first", NAMES)
def test_trains_in_a_chain(first):
    """Two steps, with the next method that it goes with."""
    after = NAMES[NAMES.index(first) + 1 :] + NAMES[: NAMES.index(first)]
    text = next(t for n in after if not refused(t := "|".join(texts(name)[0] for name in (first, n))))
    one = oracles.train(oracles.engine(text), 2)
    assert int(one.step) == 2
    assert all(np.isfinite(x).all() for x in one.params.values()), text
