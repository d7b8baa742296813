"""What an oracle of a method gets to see, and the engine that it is held against.

`oracles/NAME.py` belongs to the method NAME. It says, as literals (they are read without importing it):

    SPEC: str        the method that the oracle trains, such as "mixout(p=0.3)"
    HP: dict         changes of `toys.HP` for it
    OFF: str | None  a spec at which it equals vanilla bit for bit, None where there is none
    MUTATIONS        at least three (old, new) replacements in the method's source, each of which must be noticed

and has `oracle(world) -> params`: the method's equations in plain torch or numpy, from `world.w0` through all
`world.batches`; what it returns are all parameters that a replica owns, by their names. It imports no code of the
method but its named draws.
"""

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from jax.core import Tracer

from jaxft import keys, methods, optim
from jaxft.engine import replica
from jaxft.engine.recipe import Entry, Recipe, Replica, Shared
from jaxft.models import bert
from jaxft.models.checkpoint import LEAVES
from jaxft.models.dropout import Dropout
from jaxft.types import Method, Params, same

STEPS, PER_EPOCH, EVERY, WIDTH, CLASSES = 20, 5, 5, 8, 3
"""Of 18 examples in batches of 4, so that each epoch ends with a batch of two. Three classes: with two, the gradients
of the head's columns are negatives of each other, and tie at every threshold.
"""
HP = {"train.lr": 3e-4, "train.clip": 0.5}
"""Small steps: float32 agrees with float32 for 20 of them."""


class Told(NamedTuple):
    """What an oracle's file says of itself."""

    spec: str
    hp: dict[str, float]
    off: str | None
    mutations: list[tuple[str, str]]


@cache
def told(name: str) -> Told:
    """Read from the source, so that it is known where torch is not installed."""
    found = {}
    for node in ast.parse((Path(__file__).parent / f"{name}.py").read_text()).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=key)], value=value) | ast.AnnAssign(ast.Name(id=key), value=value):
                if key in ("SPEC", "HP", "OFF", "MUTATIONS") and value:
                    found[key] = ast.literal_eval(value)
    return Told(found["SPEC"], found["HP"], found["OFF"], found["MUTATIONS"])


def names() -> list[str]:
    """Of all methods."""
    return sorted(path.stem for path in source("vanilla").parent.glob("[!_]*.py"))


def source(name: str) -> Path:
    """The file of a method."""
    return Path(methods.__file__).parent / f"{name}.py"


class Engine(NamedTuple):
    """A program of the real engine, for one spec."""

    recipe: Recipe
    shared: Shared
    entry: Entry


def engine(text: str, hp: Mapping[str, float] | None = None, *, whole: bool = False, init: int = 4) -> Engine:
    """The engine for a spec. It is run op by op, but for its dearest parts, each compiled by itself: the model and the
    optimiser, once for all methods. `whole` has the optimiser op by op too.
    """
    structure, floats = methods.numbers(text)
    make = methods.load(structure)
    numbers = {**HP, **(hp or {}), **floats}
    lead = make(floats.__getitem__).lead(PER_EPOCH)
    before = -(-lead // EVERY) * EVERY
    model, shared = _model()
    optimizer = partial(optim.make, "adamw", "global") if whole else _optimizer
    recipe = toys.recipe(model, make, every=EVERY, before=before)._replace(optimizer=optimizer)
    return Engine(recipe, shared, toys.entry(init, 9, n_train=18, epochs=4, lead=lead, **numbers))


def begin(engine: Engine, entry: Entry | None = None) -> tuple[Replica, Params]:
    """A replica before its first step, each example of its batches in a row of its own, and its start."""
    entry = entry or engine.entry
    one = _started(engine, entry)
    places = jnp.broadcast_to(WIDTH * jnp.arange(4, dtype=jnp.int32)[None, :], one.places.shape)
    return one._replace(places=places), start(engine, entry)


def start(engine: Engine, entry: Entry | Replica) -> Params:
    """The weights that a trial starts from."""
    method = engine.recipe.method(entry.hp.__getitem__)
    return replica.start(engine.recipe, engine.shared.pretrained, entry.seeds, method)


def train(engine: Engine, steps: int = STEPS) -> Replica:
    """A replica after so many steps, and its lead-in."""
    (one,) = trained(engine, steps)
    return one


def trained(engine: Engine, *stops: int) -> Iterator[Replica]:
    """One replica after each of so many steps, and its lead-in; what is not asked for is not trained."""
    one, w0 = begin(engine)
    for begun, stop in pairwise((-engine.recipe.before, *stops)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(keys, "bits", BITS)
            for _ in range(stop - begun):
                one = replica.train_step(engine.recipe, engine.shared, w0, one)[0]
        yield one


def compiled(engine: Engine) -> Engine:
    """The same with the method's `view` and `tx` compiled too, each by itself, as functions of its numbers."""
    recipe = engine.recipe
    pieces = _Pieces(recipe.method, recipe.before)
    return engine._replace(recipe=recipe._replace(method=partial(_method, pieces)))


@cache
def _model():
    """The model, as two programs, of which one takes what is added inside, and the data."""
    model, pretrained = toys.bert(CLASSES)
    plain = jax.jit(lambda params, batch, key, rate: model.apply(params, batch, key, rate))

    def adding(shifts):
        return lambda name, x: x + shifts[name]

    added = jax.jit(lambda params, batch, key, rate, shifts: model.apply(params, batch, key, rate, adding(shifts)))

    def apply(params, batch, key=None, rate=0.0, edit=same):
        if edit is same:
            return plain(params, batch, key, rate)
        # All edits of methods add something: with that as an argument, one program does for all.
        rows = (*batch.tokens.shape, toys.BERT["hidden_size"])
        shapes = dict.fromkeys(("embeddings/word", "embeddings", "layers/0"), rows) | {"layers/1": (rows[0], rows[2])}
        shifts = {name: edit(name, jnp.zeros(shape)) for name, shape in shapes.items()}
        for name, x in shifts.items():
            if not isinstance(x, Tracer):
                np.testing.assert_allclose(edit(name, jnp.ones_like(x)), 1 + x, rtol=0, atol=1e-6)
        return added(params, batch, key, rate, shifts)

    shared = toys.shared(pretrained=pretrained)
    labels = np.random.default_rng(2).integers(0, CLASSES, 20).astype(np.int32)
    shared = shared._replace(train=shared.train._replace(labels=labels), evals={})
    return model._replace(init=jax.jit(model.init), apply=apply), jax.tree.map(jnp.asarray, shared)


BITS = jax.jit(keys.bits, static_argnums=1)
"""A hundred operations, one by one, are dear."""


@cache
def _plan(before: int):
    """Everything of a replica that no method changes, once."""
    return jax.jit(partial(replica.init, toys.recipe(toys.bag(), every=EVERY, before=before)))


def _started(engine: Engine, entry: Entry) -> Replica:
    """As `replica.init`, which takes a second to compile."""
    method = engine.recipe.method(entry.hp.__getitem__)
    same_for_all = _plan(engine.recipe.before)(engine.shared._replace(pretrained={}), entry)
    w0 = start(engine, entry)
    params = method.own(w0, w0, keys.stream(entry.seeds, "init"))
    tx = replica._method(engine.recipe, entry.hp)[1]
    return same_for_all._replace(params=params, opt=tx.init(params))


@jax.jit
def _adam(hp, *arguments):
    return optim.make("adamw", "global", hp.__getitem__).update(*arguments)


def _optimizer(hyper):
    """AdamW, one program for all methods."""
    return optim.make("adamw", "global", hyper)._replace(update=partial(_adam, hyper.__self__))


class _Pieces:
    """The hooks of a method as programs, which take its numbers."""

    def __init__(self, make, before: int):
        def tx(hp):
            inner = optim.make("adamw", "global", hp.__getitem__)
            return make(hp.__getitem__).tx(optim.held(inner) if before else inner)

        self.make = make
        self.update = jax.jit(lambda hp, *arguments: tx(hp).update(*arguments))
        self.view = jax.jit(lambda hp, *arguments: make(hp.__getitem__).view(*arguments))


def _method(pieces: _Pieces, hyper) -> Method:
    made, plain, hp = pieces.make(hyper), Method(), hyper.__self__
    if made.view is not plain.view:
        made = made._replace(view=partial(pieces.view, hp))
    if made.tx is not plain.tx:
        tx = made.tx
        made = made._replace(tx=lambda inner: tx(inner)._replace(update=partial(pieces.update, hp)))
    return made


@dataclass(frozen=True)
class World:
    """What an oracle is told. Tensors are torch's, float32; parameters go by our names, kernels are [in, out]."""

    w0: dict[str, Any]
    """The replica's start: pretrained weights, the new head, and what the method's `start` made of them."""
    fresh: dict[str, Any]
    """The same before the method's `start`."""
    batches: list[dict[str, Any]]
    """Of each step: input_ids, token_type_ids and attention_mask [4, 8], labels [4] and weight [4], 0 where a partial
    batch has no example. Row i holds example i, and has the engine's shape: noise drawn for [4, 8, 32] fits.
    """
    lead: list[dict[str, Any]]
    """Those of the lead-in, whose steps are -len(lead), ..., -1."""
    hp: dict[str, float]
    """By name: "train.lr", "method.mixout.p"."""
    seeds: Any = field(repr=False)

    def key(self, step: int):
        """`ctx.key` of a step."""
        return keys.at(keys.stream(self.seeds, "noise"), step)

    def dropout(self, step: int):
        """The key of dropout that a step's loss is called with."""
        return keys.at(keys.at(keys.stream(self.seeds, "dropout"), step), 0)

    @property
    def init_key(self):
        """What `start` and `own` get."""
        return keys.stream(self.seeds, "init")

    def forward(
        self,
        params: Mapping[str, Any],
        batch: Mapping[str, Any],
        embedding_noise=None,
        edits: Mapping[str, Callable] | None = None,
        dropout=None,
    ) -> tuple[Any, list[Any]]:
        """Logits [4, C] and hidden states: after the embeddings and the first layer [4, 8, D], after the last [4, D].

        Args:
            params: all of the model's, by our names.
            batch: one of `batches`.
            embedding_noise: [4, 8, D], added to what comes out of the embeddings.
            edits: `{"layers/0": f}` has f(x) stand for what comes out of a part of the model; any module may be named
                ("layers/1/attention_out"), with x [4, 8, D] at all of them.
            dropout: a key of it, such as that of `dropout`, to have the engine's masks at "train.dropout".
        """
        import torch

        model, theirs = _bert()
        changes = dict(edits or {})
        if embedding_noise is not None:
            after = changes.get("embeddings", lambda x: x)
            changes["embeddings"] = lambda x: after(x + embedding_noise)
        hidden, hooks = {}, []
        places = ["embeddings", *(f"layers/{i}" for i in range(toys.BERT["num_hidden_layers"]))]
        for name in {*places, *changes}:

            def hook(module, given, out, name=name):
                first = out[0] if isinstance(out, tuple) else out
                first = changes[name](first) if name in changes else first
                hidden[name] = first
                return (first, *out[1:]) if isinstance(out, tuple) else first

            hooks.append(model.get_submodule(_path(name)).register_forward_hook(hook))
        named = {theirs[n]: value.T if n.endswith("kernel") else value for n, value in params.items()}
        inputs = {n: x for n, x in batch.items() if n not in ("labels", "weight")}
        masks = iter(() if dropout is None else _masks(dropout, self.hp["train.dropout"]))

        def drop(x, *_, **__):  # transformers calls it at all places, in the order of `_masks`, with a rate of 0
            return x if dropout is None else x * torch.tensor(next(masks))

        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(torch.nn.functional, "dropout", drop)
                logits = torch.func.functional_call(model, named, (), inputs).logits
        finally:
            for hook in hooks:
                hook.remove()
        assert next(masks, None) is None, "a mask has not been used"
        return logits, [*(hidden[n] for n in places[:-1]), hidden[places[-1]][:, 0]]

    def loss(self, params: Mapping[str, Any], batch: Mapping[str, Any], **changes) -> Any:
        """The mean cross-entropy of the examples that are there; `changes` as for `forward`."""
        return self.mean_loss(self.forward(params, batch, **changes)[0], batch)

    def mean_loss(self, logits, batch: Mapping[str, Any]) -> Any:
        """The same of logits."""
        import torch

        losses = torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="none")
        return (losses * batch["weight"]).sum() / batch["weight"].sum()

    def gradient(self, function: Callable[[dict[str, Any]], Any], params: Mapping[str, Any]) -> dict[str, Any]:
        """Of `function(params)`, by name; 0 for a parameter that it does not read."""
        import torch

        leaves = {n: value.detach().clone().requires_grad_() for n, value in params.items()}
        found = torch.autograd.grad(function(leaves), list(leaves.values()), allow_unused=True)
        return {n: torch.zeros_like(x) if g is None else g for (n, x), g in zip(leaves.items(), found, strict=True)}

    def lr(self, step: int) -> float:
        """Linear, after a warm-up."""
        rising = round(self.hp["train.warmup"] * STEPS)  # a whole number of them in HP
        return self.hp["train.lr"] * (step / rising if step < rising else (STEPS - step) / (STEPS - rising))

    def adamw(
        self, state: tuple[dict, dict] | None, grads: Mapping[str, Any], params: Mapping[str, Any], step: int
    ) -> tuple[dict[str, Any], tuple[dict, dict]]:
        """Clips the gradients by their global norm, then AdamW: what is to be added to the parameters, and its state.

        None is the state before step 0.
        """
        import torch

        mu, nu = state or ({n: torch.zeros_like(g) for n, g in grads.items()},) * 2
        hp, rate = self.hp, self.lr(step)
        norm = sum((g**2).sum() for g in grads.values()) ** 0.5
        scale = min(1.0, hp["train.clip"] / (norm + 1e-6))
        mu = {n: hp["train.b1"] * mu[n] + (1 - hp["train.b1"]) * scale * g for n, g in grads.items()}
        nu = {n: hp["train.b2"] * nu[n] + (1 - hp["train.b2"]) * (scale * g) ** 2 for n, g in grads.items()}
        updates = {}
        for n in grads:
            mean, square = mu[n] / (1 - hp["train.b1"] ** (step + 1)), nu[n] / (1 - hp["train.b2"] ** (step + 1))
            decay = 0.0 if n.endswith("bias") or "norm/" in n else hp["train.weight_decay"]
            updates[n] = -rate * (mean / (square.sqrt() + hp["train.eps"]) + decay * params[n])
        return updates, (mu, nu)

    @property
    def linear(self) -> list[str]:
        """The weight matrices of all linear maps of the model."""
        return [n for n in self.fresh if n.endswith("kernel")]


def world(engine: Engine) -> World:
    """What the oracle of this program is told."""
    import torch

    one, w0 = begin(engine)
    fresh = {**engine.recipe.model.init(keys.stream(engine.entry.seeds, "init")), **engine.shared.pretrained}
    tensors = lambda params: {n: torch.tensor(np.asarray(x)) for n, x in params.items()}  # noqa: E731
    batches = [_batch(engine.shared.train, row) for row in np.asarray(one.plan)]
    before, lead = engine.recipe.before, int(engine.entry.length.lead)
    hp = {n: float(x) for n, x in engine.entry.hp.items()}
    after = batches[before : before + STEPS]
    return World(tensors(w0), tensors(fresh), after, batches[before - lead : before], hp, engine.entry.seeds)


def furthest(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[float, str]:
    """The largest difference of two trainings, and the parameter that has it; infinite if they do not own the same.

    But for biases of keys: their gradient is 0 but for rounding, which Adam blows up to a step of either sign.
    """
    if {*ours} != {*theirs}:
        return np.inf, f"owned by one of them only: {sorted({*ours} ^ {*theirs})}"
    apart = {n: np.abs(np.asarray(ours[n]) - np.asarray(theirs[n].detach())).max() for n in ours}
    apart = {n: np.inf if np.isnan(d) else float(d) for n, d in apart.items() if not n.endswith("key/bias")}
    worst = max(apart, key=apart.__getitem__)
    return apart[worst], worst


def _batch(split, row: np.ndarray) -> dict[str, Any]:
    """The examples of a step, padded; -1 is none."""
    import torch

    tokens, offsets = np.asarray(split.tokens), np.asarray(split.offsets)
    ids, types, mask = np.zeros((3, len(row), WIDTH), np.int64)
    for i, number in enumerate(row):
        if number >= 0:
            n = offsets[number + 1] - offsets[number]
            ids[i, :n] = tokens[offsets[number] : offsets[number + 1]]
            types[i, int(split.second[number]) : n] = 1
            mask[i, :n] = 1
    there = row >= 0
    labels = np.where(there, np.asarray(split.labels)[np.maximum(row, 0)], 0).astype(np.int64)
    arrays = {"input_ids": ids, "token_type_ids": types, "attention_mask": mask, "labels": labels}
    return {n: torch.tensor(x) for n, x in (arrays | {"weight": there.astype(np.float32)}).items()}


def _masks(key, rate: float) -> list[np.ndarray]:
    """What dropout multiplies with, in the order of its places; 1 in the last layer where it is not computed."""
    heads, width, last = toys.BERT["num_attention_heads"], toys.BERT["hidden_size"], toys.BERT["num_hidden_layers"] - 1
    found = [("embeddings", (4, WIDTH, width))]
    for i in range(last + 1):
        tokens = 1 if i == last else WIDTH
        found += [(f"layers/{i}/attention", (4, heads, tokens, WIDTH))]
        found += [(f"layers/{i}/{site}", (4, tokens, width)) for site in ("attention_out", "output")]
    masks = [np.asarray(Dropout(key, rate)(name, jnp.ones(shape))) for name, shape in found]
    for i, axis in ((-3, 2), (-2, 1), (-1, 1)):
        rest = [(0, 0)] * masks[i].ndim
        rest[axis] = (0, WIDTH - 1)
        masks[i] = np.pad(masks[i], rest, constant_values=1)
    return [*masks, np.asarray(Dropout(key, rate)("pooler", jnp.ones((4, width))))]


@cache
def _bert():
    """The model of transformers, and its names of our parameters."""
    import transformers

    config = transformers.BertConfig(
        **{n: x for n, x in toys.BERT.items() if n != "model_type"},
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=CLASSES,
        attn_implementation="eager",
    )
    model = transformers.BertForSequenceClassification(config)
    theirs = {}
    for name in _model()[1].pretrained.keys() | {f"{m}/{leaf}" for m in ("pooler", "classifier") for leaf in LEAVES}:
        module, _, leaf = name.rpartition("/")
        theirs[name] = f"{bert.names(toys.BERT)[module]}.{LEAVES[leaf]}"
    return model, theirs


def _path(name: str) -> str:
    """Where a part of the model lies in that of transformers."""
    first, *rest = name.split("/")
    if name == "embeddings":
        return "bert.embeddings"
    return f"bert.encoder.layer.{rest[0]}" if first == "layers" and len(rest) == 1 else bert.names(toys.BERT)[name]
