"""What a method objects to is known before anything is compiled or written."""

import sys
from pathlib import Path

import jax
import pytest
import toys
from studies import Quiet, study

from jaxft import methods
from jaxft.engine.rehearse import rehearse
from jaxft.errors import BadInput
from jaxft.loop import train
from jaxft.types import Method

PICKY = """
import jax.numpy as jnp
from typing import Literal
from jaxft.errors import BadInput
from jaxft.types import Method, Tx

def picky(where: Literal["start", "own", "view", "loss", "edit", "init", "update", "nowhere"] = "nowhere",
          p: float = 0.5) -> Method:
    def objects(place, found=""):
        if where == place:
            raise BadInput(f"method.picky: {place} objects {found}")
    def tx(inner):
        def init(params):
            objects("init")
            return inner.init(params)
        def update(grads, state, params, ctx):
            objects("update", (grads["classifier/kernel"] * p).shape)
            return inner.update(grads, state, params, ctx)
        return Tx(init, update)
    def loss(objective, forward, ctx):
        def edit(name, x):
            if name == "layers/1":
                objects("edit", x.shape)
            return x
        def minimised(params, batch, key=None):
            out = forward(params, batch, key, edit)
            objects("loss", (batch.labels.dtype, out.logits.shape, len(out.hidden)))
            return objective(params, batch, key)
        return minimised
    def start(w0, key):
        objects("start", sorted(w0)[0])
        return w0
    def own(params, w0, key):
        objects("own")
        return params
    def view(params, state, ctx):
        objects("view", ctx.key.shape)
        return params
    return Method(start=start, own=own, view=view, loss=loss, tx=tx)
"""


@pytest.fixture
def base(tmp_path):
    (tmp_path / "picky").mkdir()
    (tmp_path / "picky" / "picky.py").write_text(PICKY)
    methods.__path__.append(str(tmp_path / "picky"))
    yield toys.settings(tmp_path / "study")
    methods.__path__.remove(str(tmp_path / "picky"))
    sys.modules.pop("jaxft.methods.picky", None)
    vars(methods).pop("picky", None)


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("start", "classifier/bias"),
        ("own", ""),
        ("view", "()"),
        ("loss", r"(dtype('int32'), (4, 2), 3)"),
        ("edit", "(4, 32)"),
        ("init", ""),
        ("update", "(32, 2)"),
    ],
)
def test_a_method_that_objects_ends_the_run_before_it_begins(base, tmp_path, where, found, monkeypatch):
    """In any hook; it sees the names and shapes of the real model. No pool is made, and there is no run folder."""
    monkeypatch.setattr("jaxft.engine.pool.Pool.__init__", lambda *_, **__: pytest.fail("a pool was made"))
    settings = study(base, tmp_path, method=f"picky(where='{where}')")
    with pytest.raises(BadInput) as caught:
        train.run(settings, progress=Quiet())
    assert str(caught.value).rstrip() == f"method.picky: {where} objects {found}".rstrip()
    assert not Path(settings.out).exists()


def test_a_method_without_hooks_costs_nothing(monkeypatch):
    """And one that has some is traced once, without a gradient of the model."""
    calls, bert = [], toys.bert()[0]

    def apply(*given):
        calls.append(given)
        return bert.apply(*given)

    recipe, shared = toys.recipe(bert._replace(apply=apply)), toys.shared(pretrained=toys.bert()[1])
    monkeypatch.setattr(jax, "grad", lambda *_, **__: pytest.fail("a gradient was traced"))
    twice = Method(loss=lambda objective, forward, ctx: lambda *given: objective(*given) + objective(*given))
    for method, expected in ((Method(), 0), (Method(own=lambda params, w0, key: params), 0), (twice, 1)):
        rehearse(recipe._replace(method=lambda hyper, method=method: method), shared, toys.entry())
        assert len(calls) == expected
