"""A method traced once, with all of its hooks, so that what is wrong with it is known before anything is compiled.

Without the model's mathematics and without the optimiser, whose traces take a second or two: a method can object to
the names and shapes of parameters, to the number of layers, to the labels, and these are as they will be.
"""

from functools import partial

import jax
import jax.numpy as jnp

from jaxft import keys
from jaxft.data.batch import gather
from jaxft.engine import replica
from jaxft.engine.recipe import Entry, Recipe, Shared
from jaxft.types import Batch, Ctx, Edit, Forward, Method, Model, Out, Params, Tx, same

STILL = Tx(lambda params: (), lambda grads, state, params, ctx: (jax.tree.map(jnp.zeros_like, grads), state))
"""An optimiser that moves nothing and remembers nothing."""


def rehearse(recipe: Recipe, shared: Shared, entry: Entry) -> None:
    """Calls every hook of the recipe's method on shapes alone.

    Raises:
        BadInput: the method cannot be had for this model or this task.
    """
    if recipe.method(entry.hp.__getitem__) != Method():
        given = jax.eval_shape(lambda: (dict(shared.pretrained), shared.train, entry))
        jax.eval_shape(partial(_hooks, recipe), *given)


def _hooks(recipe: Recipe, pretrained: Params, train, entry: Entry) -> Params:
    method = recipe.method(entry.hp.__getitem__)
    w0 = replica.start(recipe, pretrained, entry.seeds, method)
    params = method.own(w0, w0, keys.stream(entry.seeds, "init"))
    tx = method.tx(STILL)
    state, number = tx.init(params), jnp.int32(0)
    key = keys.at(keys.stream(entry.seeds, "noise"), number)
    ctx = Ctx(w0, number, entry.length.total, entry.hp["train.lr"], key)
    method.view(params, state, ctx)
    places = jnp.zeros(recipe.batch, jnp.int32)
    batch = gather(train, places, places, recipe.layout.rows, recipe.layout.width)
    model = _silent(recipe.model, w0)

    def objective(params: Params, batch: Batch, key=None, edit: Edit = same, out: Out | None = None):
        return replica.mean_loss((out or model(params, batch, key, edit)).logits, batch)

    loss = method.loss(objective, model, ctx)
    if loss is not objective:
        loss(params, batch, key)
    return tx.update(params, state, params, ctx)[0]


def _silent(model: Model, w0: Params) -> Forward:
    """A model that gives zeros in the right shapes, and has its edits called with such."""
    known: dict[str, tuple[Out, dict]] = {}

    def forward(params: Params, batch: Batch, key=None, edit: Edit = same) -> Out:
        if not known:
            sites = {}

            def look(name: str, x):
                sites[name] = jax.ShapeDtypeStruct(x.shape, x.dtype)
                return x

            known[""] = jax.eval_shape(lambda w0, batch: model.apply(w0, batch, None, 0.0, look), w0, batch), sites
        out, sites = known[""]
        for name, x in sites.items():
            edit(name, jnp.zeros(x.shape, x.dtype))
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), out)

    return forward
