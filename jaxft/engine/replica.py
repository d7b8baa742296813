"""The training of ONE model: its start, one step, its evaluation, and a block of them. No shape here has an axis R."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxft import keys, optim, touched, tree
from jaxft.data.batch import Packed, first_fit, gather
from jaxft.data.order import plan
from jaxft.engine import stop
from jaxft.engine.recipe import Entry, Recipe, Replica, Report, Shared
from jaxft.status import Status
from jaxft.study.trials import Seeds
from jaxft.types import Anywhere, Batch, Ctx, Method, Out, Params, Tx, same, unchanged


def start(recipe: Recipe, pretrained: Mapping[str, Anywhere], seeds: Seeds, method: Method) -> Params:
    """The weights that a trial starts from: pretrained, new parts from its init key, then the method's edit."""
    key = keys.stream(seeds, "init")
    return method.start({**recipe.model.init(key), **pretrained}, key)


def init(recipe: Recipe, shared: Shared, entry: Entry) -> Replica:
    """A replica before its first step."""
    method, tx = _method(recipe, entry.hp)
    w0 = start(recipe, shared.pretrained, entry.seeds, method)
    owned = method.own(w0, w0, keys.stream(entry.seeds, "init"))
    params = {name: value for name, value in owned.items() if name not in recipe.model.frozen}
    length = entry.length
    steps = plan(
        entry.seeds, length, examples=shared.train.labels.shape[0], batch=recipe.batch, max_epochs=recipe.max_epochs,
        before=recipe.before, rows=recipe.before + recipe.steps, labels=shared.train.labels, strata=recipe.strata,
        nested=recipe.nested,
    )  # fmt: skip
    lengths = jnp.diff(shared.train.offsets)
    return Replica(
        step=jnp.asarray(length.begin(recipe.every), jnp.int32),
        status=jnp.int32(Status.RUNNING),
        params=params,
        opt=tx.init(params),
        watch=stop.watch(),
        seeds=entry.seeds,
        hp=entry.hp,
        length=length,
        plan=steps,
        places=first_fit(jnp.where(steps >= 0, lengths[jnp.maximum(steps, 0)], 0), recipe.layout.width),
    )


def train_step(
    recipe: Recipe, shared: Shared, w0: Params, replica: Replica, rounded: Params | None = None
) -> tuple[Replica, Float[Array, ""], Int[Array, ""], dict[str, Float[Array, ""]]]:
    """One step of one replica, with its loss (NaN if it is not training), its number of examples and the norms of its
    gradient, if the recipe asks.

    A replica that is over, or that breaks a rule in this very step, keeps its parameters and its optimiser's state.
    `rounded` is `_rounded` of its parameters, if that is at hand.
    """
    method, tx = _method(recipe, replica.hp)
    hyper = replica.hp.__getitem__
    step, training = replica.step, _trains(replica)
    rows, fewer = recipe.layout.rows, recipe.layout.fewer
    rounded = _rounded(recipe, replica) if rounded is None else rounded
    most, own = recipe.layout.most * recipe.layout.width, replica.params
    table = touched.table(recipe.model.words, method, own, most)
    if table:
        place = touched.places(_batch(recipe, shared, replica, recipe.layout.most).tokens, len(own[table]))
        own, rounded = touched.apart(own, table, most), {**rounded, **touched.told(own, table, place)}
    part = partial(gradient, recipe, shared, w0, replica, own, rounded)
    needed, first = _rows(recipe, replica), jnp.int32(0)
    if fewer:
        loss, grads = lax.cond(needed <= fewer, lambda: part(fewer, first), lambda: part(rows, first))
    else:
        loss, grads = part(rows, first)
    if not recipe.layout.always:

        def add(row, sums):
            return jax.tree.map(jnp.add, sums, part(1, row))

        # Hardly ever a step of it. Not a cond, through which the gradients would be copied.
        loss, grads = lax.fori_loop(rows, jnp.where(training, needed, rows), add, (loss, grads))
    grads = touched.joined(grads, table, place) if table else grads
    updates, opt = tx.update(grads, replica.opt, replica.params, _ctx(recipe, w0, replica))

    reads = training & (step >= -replica.length.lead)  # before its lead-in a trial waits for the interval to begin
    watch, status = stop.after_step(replica.watch, hyper, loss, jnp.isfinite(optim.norm(grads)))
    status = jnp.where(reads, status, replica.status)
    goes = training & (status == Status.RUNNING)
    # Of one mask XLA makes one pass over parameters and moments, of two masks two.
    moves, learns = (goes & (step >= 0), goes & reads) if recipe.before else (goes, goes)
    moved = replica._replace(
        step=step + goes,
        status=status,
        params=_where(moves, {n: p + updates[n] for n, p in replica.params.items()}, replica.params),
        opt=_where(learns, opt, replica.opt),
        watch=_where(reads, watch, replica.watch),
    )
    count = jnp.where(reads, (_row(recipe, replica.plan, step) >= 0).sum(), 0)
    return moved, jnp.where(reads, loss, jnp.nan), count, optim.norms(grads, _layers(recipe, w0, replica))


def gradient(
    recipe: Recipe, shared: Shared, w0: Params, replica: Replica, own: Params, rounded: Params, rows: int,
    skip: Int[Array, ""],
) -> tuple[Float[Array, ""], Params]:  # fmt: skip
    """The part that `rows` rows of a step's batch, from row `skip` on, have in its loss and its gradient.

    Args:
        own: with respect to which the gradient is: the replica's parameters, or what `touched.apart` made of them.
        rounded: what the model may take beside them.
    """
    method, _ = _method(recipe, replica.hp)
    hyper, ctx = replica.hp.__getitem__, _ctx(recipe, w0, replica)
    batch = _batch(recipe, shared, replica, rows, skip)
    share = batch.weight.sum() / jnp.maximum((_row(recipe, replica.plan, replica.step) >= 0).sum(), 1)
    dropped = hyper("train.dropout")
    if recipe.dropout_at == "epoch_start":
        dropped = jnp.where(jnp.maximum(replica.step, 0) % replica.length.per_epoch == 0, dropped, 0.0)

    dropout = keys.at(keys.at(keys.stream(replica.seeds, "dropout"), replica.step), skip)

    def minimised(own: Params) -> Float[Array, ""]:
        def forward(params: Params, batch: Batch, key=None, edit=same) -> Out:
            seen = {**w0, **method.view(params, replica.opt, ctx)}
            # A method may ask about other parameters than its own, of which nothing is rounded yet.
            return recipe.model.apply({**seen, **rounded} if params is own else seen, batch, key, dropped, edit)

        def objective(params: Params, batch: Batch, key=None, edit=same, out=None) -> Float[Array, ""]:
            return mean_loss((out or forward(params, batch, key, edit)).logits, batch)

        return share * method.loss(objective, forward, ctx)(own, batch, dropout)

    return jax.value_and_grad(minimised)(own)


def mean_loss(logits: Float[Array, "B C"], batch: Batch) -> Float[Array, ""]:
    """The mean over the examples that are there; 0 for a batch without any.

    Cross-entropy in nats where the labels are class numbers, the squared error where they are numbers to be predicted.
    """
    if jnp.issubdtype(batch.labels.dtype, jnp.floating):
        losses = jnp.square(logits[:, 0] - batch.labels)
    else:
        logp = jax.nn.log_softmax(logits)
        # A sum over a one-hot mask: its gradient needs no scatter.
        losses = -jnp.where(batch.labels[:, None] == jnp.arange(logits.shape[-1])[None, :], logp, 0.0).sum(axis=-1)
    return jnp.sum(losses * batch.weight) / jnp.maximum(batch.weight.sum(), 1.0)


def evaluate(recipe: Recipe, params: Params, packed: Packed) -> Float[Array, "N C"]:
    """The logits of all examples of a split, without dropout."""
    logits = lax.map(lambda batch: recipe.model.apply(params, batch).logits, packed.batches)
    return logits.reshape(-1, logits.shape[-1])[packed.back]


class Within(NamedTuple):
    """A replica within a block, and what the block will report of it."""

    replica: Replica
    rounded: Params
    losses: Float[Array, " S"]
    taken: Int[Array, ""]
    examples: Int[Array, ""]
    norms: dict[str, Float[Array, ""]]


def begin(recipe: Recipe, shared: Shared, replica: Replica) -> tuple[Params, Within]:
    """A block's beginning: what of its start the replica does not share with all others, and itself."""
    method, _ = _method(recipe, replica.hp)
    w0 = start(recipe, shared.pretrained, replica.seeds, method)
    own = {name: value for name, value in w0.items() if value is not shared.pretrained.get(name)}
    losses = jnp.full((min(recipe.every, recipe.before + recipe.steps),), jnp.nan, jnp.float32)
    norms = {layer: jnp.float32(jnp.nan) for layer in _layers(recipe, w0, replica)}
    return own, Within(replica, _rounded(recipe, replica), losses, jnp.int32(0), jnp.int32(0), norms)


def advance(recipe: Recipe, shared: Shared, own: Params, within: Within, i: Int[Array, ""]) -> Within:
    """Step `i` of a block."""
    before = within.replica
    after, loss, count, last = train_step(recipe, shared, {**shared.pretrained, **own}, before, within.rounded)
    return Within(
        after,
        _rounded(recipe, after),
        within.losses.at[i].set(loss),
        within.taken + (count > 0),
        within.examples + count,
        {layer: jnp.where(_took(before, after), last[layer], norm) for layer, norm in within.norms.items()},
    )


def end(recipe: Recipe, shared: Shared, own: Params, within: Within) -> tuple[Replica, Report]:
    """A block's end: the evaluation and its rules."""
    replica = within.replica
    weights = {
        **shared.pretrained,
        **own,
        **replica.params,
        **within.rounded,
    }  # not the method's view: that is training
    logits = {name: evaluate(recipe, weights, split) for name, split in shared.evals.items()}

    running = (replica.status == Status.RUNNING) & (replica.step > 0)
    watch, status = stop.after_evaluation(
        replica.watch, replica.hp.__getitem__, logits["dev"], shared.evals["dev"].labels
    )
    collapsed = status > Status.NON_FINITE_LOGITS  # which stops nothing that has come to its end
    ends = (replica.step >= replica.length.total) & (collapsed | (status == Status.RUNNING))
    status = jnp.where(ends, jnp.int32(Status.COMPLETED), status)
    replica = replica._replace(
        status=jnp.where(running, status, replica.status), watch=_where(running, watch, replica.watch)
    )
    _, _, losses, taken, examples, norms = within
    return replica, Report(replica.step, replica.status, losses, taken, examples, logits, norms)


def block(recipe: Recipe, shared: Shared, replica: Replica, steps: Int[Array, ""]) -> tuple[Replica, Report]:
    """At most so many steps and the evaluation, of one that need not wait for others: once it is over it takes none."""
    own, within = begin(recipe, shared, replica)

    goes = lambda carry: (carry[0] < steps) & _trains(carry[1].replica)  # noqa: E731
    take = lambda carry: (carry[0] + 1, advance(recipe, shared, own, carry[1], carry[0]))  # noqa: E731
    return end(recipe, shared, own, lax.while_loop(goes, take, (jnp.int32(0), within))[1])


def upcoming(recipe: Recipe, replica: Replica) -> Int[Array, "S B"]:
    """The examples that the steps of the next block read, and perhaps others; -1 for none, and of one that is over."""
    rows = replica.plan.shape[0]
    count = min(recipe.every, rows)
    first = jnp.clip(replica.step + recipe.before, 0, rows - count)
    ids = lax.dynamic_slice_in_dim(replica.plan, first, count)
    return jnp.where(replica.status == Status.RUNNING, ids, -1)


def untouched(recipe: Recipe, pretrained: Mapping[str, Anywhere], trained: Replica, tables: tuple[str, ...]) -> Params:
    """What a replica's start has become where no batch read it: its tables have taken every step with gradient 0.

    Args:
        recipe: with the model whose start is meant; it may have more rows than `trained`.
        pretrained: of that model.
        trained: a replica after its last step.
        tables: the parameters that may hold such rows; the others are as they were at the start.
    """
    method, tx = _method(recipe, trained.hp)
    w0 = start(recipe, pretrained, trained.seeds, method)
    owned = {name: w0[name] for name in tables if name in trained.params}
    still = jax.tree.map(jnp.zeros_like, owned)

    def take(step, carry):
        params, state = carry
        updates, state = tx.update(still, state, params, _ctx(recipe, w0, trained._replace(step=step)))
        return {name: value + updates[name] for name, value in params.items()}, state

    return {**w0, **lax.fori_loop(0, trained.step, take, (owned, tx.init(owned)))[0]}


def _ctx(recipe: Recipe, w0: Params, replica: Replica) -> Ctx:
    """What a step's hooks are told."""
    step, hyper = replica.step, replica.hp.__getitem__
    count = jnp.maximum(step, 0)
    factor = optim.schedule(
        recipe.schedule, hyper("train.warmup"), count, replica.length.t_total, count % replica.length.per_epoch
    )
    noise = keys.at(keys.stream(replica.seeds, "noise"), step)
    return Ctx(w0=w0, step=step, total=replica.length.total, lr=hyper("train.lr") * factor, key=noise)


def _rounded(recipe: Recipe, replica: Replica) -> Params:
    """What the model may take instead of the replica's parameters; nothing where its method shows it others."""
    method, _ = _method(recipe, replica.hp)
    return recipe.model.rounded(replica.params) if method.view is unchanged else {}


def _layers(recipe: Recipe, w0: Params, replica: Replica) -> list[str]:
    """Those whose norms are reported, also where this method trains nothing of them: all rows have the same columns."""
    return tree.layers({**w0, **replica.params}) if recipe.gradient_norms else []


def _took(before: Replica, after: Replica) -> Bool[Array, ""]:
    """Whether a step of training lies between the two; not if it was of a lead-in, or dropped the replica."""
    return (after.step > before.step) & (before.step >= 0)


def _trains(replica: Replica) -> Bool[Array, ""]:
    """Whether it takes a step."""
    return (replica.status == Status.RUNNING) & (replica.step < replica.length.total)


def _row(recipe: Recipe, table: Int[Array, "S B"], step: Int[Array, ""]) -> Int[Array, " B"]:
    return lax.dynamic_index_in_dim(table, step + recipe.before, keepdims=False)


def _batch(recipe: Recipe, shared: Shared, replica: Replica, rows: int, skip: Int[Array, ""] | int = 0) -> Batch:
    """So many rows of this step's batch, from row `skip` on."""
    idx, places = (_row(recipe, table, replica.step) for table in (replica.plan, replica.places))
    return gather(shared.train, idx, places, rows, recipe.layout.width, skip, shared.window)


def _rows(recipe: Recipe, replica: Replica) -> Int[Array, ""]:
    """How many rows this step's batch takes."""
    return _row(recipe, replica.places, replica.step).max() // recipe.layout.width + 1


def _method(recipe: Recipe, hp: Mapping[str, Anywhere]) -> tuple[Method, Tx]:
    """The method and its optimiser, made inside the vmap so that every number may differ per replica."""
    method = recipe.method(hp.__getitem__)
    inner = recipe.optimizer(hp.__getitem__)
    return method, method.tx(optim.held(inner) if recipe.before else inner)


def _where(condition, new, old):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
