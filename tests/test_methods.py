"""How methods are found and composed, with toy methods in a folder of their own."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxft import methods
from jaxft.errors import BadInput
from jaxft.types import Ctx, Method, Tx

TOY = """
from typing import Any, NamedTuple
import jax.numpy as jnp
from jaxft.types import Method, Tx

class State(NamedTuple):
    {name}: Any
    inner: Any

def {name}(p: float = 0.5, times: int = 1) -> Method:
    def tx(inner):
        def update(grads, state, params, ctx):
            scaled = {{k: (g + p) * times for k, g in grads.items()}}
            updates, after = inner.update(scaled, state.inner, params, ctx)
            return updates, State(state.{name} + p, after)
        return Tx(lambda params: State(jnp.zeros(()), inner.init(params)), update)
    def view(params, state, ctx):
        return {{k: x + state.{name} for k, x in params.items()}}
    return Method(
        start=lambda w0, key: {{k: x * times for k, x in w0.items()}},
        view=view,
        tx=tx,
        lead=lambda steps: steps * times,
    )
"""

PLAIN = Tx(lambda params: (), lambda grads, state, params, ctx: ({k: -g for k, g in grads.items()}, ()))


def context() -> Ctx:
    return Ctx({}, jnp.int32(0), jnp.int32(9), jnp.float32(1), jax.random.key(0))


@pytest.fixture
def toys(tmp_path):
    for name in ("first", "second"):
        (tmp_path / f"{name}.py").write_text(TOY.format(name=name))
    methods.__path__.append(str(tmp_path))
    yield
    methods.__path__.remove(str(tmp_path))
    for name in ("first", "second"):
        sys.modules.pop(f"jaxft.methods.{name}", None)
        vars(methods).pop(name, None)


def test_vanilla_is_the_identity():
    method = methods.load("vanilla")({}.__getitem__)
    params, key = {"a": jnp.ones(3)}, jax.random.key(0)
    assert method.start(params, key) is params
    assert method.own(params, {}, key) is params
    assert method.view(params, None, context()) is params
    assert method.tx(PLAIN) is PLAIN
    assert method.lead(10) == 0
    objective = lambda params, batch: jnp.float32(0)  # noqa: E731
    assert method.loss(objective, objective, context()) is objective


def test_every_method_in_the_package_loads_by_its_name():
    names = [path.stem for path in Path(methods.__file__).parent.glob("[!_]*.py")]
    assert "vanilla" in names
    for name in names:
        structure, floats = methods.numbers(name)
        assert isinstance(methods.load(structure)(floats.__getitem__), Method)


@pytest.mark.usefixtures("toys")
def test_floats_come_from_the_replica_and_may_be_traced():
    structure, floats = methods.numbers("first(p=0.25, times=3)")
    assert (structure, floats) == ("first(times=3)", {"method.first.p": 0.25})
    make = methods.load(structure)

    def updates(p):
        tx = make({"method.first.p": p}.__getitem__).tx(PLAIN)
        params = {"a": jnp.ones(())}
        return tx.update(params, tx.init(params), params, context())[0]["a"]

    seen = jax.jit(jax.vmap(updates))(jnp.array([0.25, 1.0]))
    assert seen.tolist() == [-(1 + 0.25) * 3, -(1 + 1.0) * 3]


@pytest.mark.usefixtures("toys")
def test_a_chain_composes_from_left_to_right():
    hyper = {"method.first.p": 2.0, "method.second.p": 5.0}.__getitem__
    method = methods.load("first(times=2)|vanilla|second(times=3)")(hyper)
    params, key = {"a": jnp.ones(())}, jax.random.key(0)
    assert method.start(params, key)["a"] == 6
    assert method.lead(10) == 50
    tx = method.tx(PLAIN)
    state = tx.init(params)
    updates, after = tx.update(params, state, params, context())
    assert updates["a"] == -(((1 + 5) * 3 + 2) * 2)  # the later one gets the gradients first
    assert jax.tree.structure(state) == jax.tree.structure(after)
    assert method.view(params, after, context())["a"] == 1 + 2 + 5  # each with its own state


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize("text", ["first|second", "second|first", "first|vanilla|second", "vanilla|second|first"])
def test_a_view_gets_the_state_of_its_own_tx(text):
    hyper = {"method.first.p": 2.0, "method.second.p": 5.0}.__getitem__
    method = methods.load(text)(hyper)
    params = {"a": jnp.zeros(())}
    tx = method.tx(PLAIN)

    def step(state, _):
        seen = method.view(params, state, context())["a"]
        return tx.update(params, state, params, context())[1], seen

    # A toy's view reads a field that only its own state has, so another state would raise.
    _, seen = jax.lax.scan(step, tx.init(params), None, length=3)
    assert seen.tolist() == [0, 7, 14]


def test_own_and_loss_compose():
    drop = Method(own=lambda params, w0, key: {k: x for k, x in params.items() if k != "a"})
    add = Method(
        own=lambda params, w0, key: {**params, "new": w0["a"]},
        loss=lambda objective, forward, ctx: lambda *args: objective(*args) + 1,
    )
    double = Method(loss=lambda objective, forward, ctx: lambda *args: objective(*args) * 2)
    method = methods.chain([drop, add, double])
    assert method.own({"a": 1, "b": 2}, {"a": 7}, None) == {"b": 2, "new": 7}
    assert method.loss(lambda: 10, None, None)() == 22


def test_a_chain_of_one_or_none():
    method = Method(lead=lambda steps: 3)
    assert methods.chain([method]) is method
    assert methods.chain([]) == Method()


def test_an_unknown_method():
    with pytest.raises(BadInput, match="unknown method 'vanila'; did you mean vanilla"):
        methods.load("vanila")
