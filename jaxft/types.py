"""The nouns that models, methods, tasks and the engine share.

Everything here describes ONE replica: there is no axis R in any shape. Only `engine/programs.py` knows of many.
Axes: B batch, T tokens of a row, D model width, H heads, F feed-forward width, C classes, N examples, S steps.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxtyping import Array, Float, Int, Key, UInt

from jaxft.members.ranges import BelowOne as BelowOne
from jaxft.members.ranges import Count as Count
from jaxft.members.ranges import Natural as Natural
from jaxft.members.ranges import NotNegative as NotNegative
from jaxft.members.ranges import Positive as Positive
from jaxft.members.ranges import Share as Share

Anywhere = Any
"""An array on the device, or the same in host memory: which of the two, a type cannot tell."""

Params = dict[str, Array]
"""Parameters, flat: `"layers/3/query/kernel"`. A key that is absent is not owned."""


class Split(NamedTuple):
    """Tokenised examples without padding: numpy on the host, or the same arrays on the device."""

    tokens: UInt[Anywhere, " total"]
    """All examples one after the other, special tokens included; the narrowest unsigned integer that holds them."""
    offsets: Int[Anywhere, " N+1"]
    """Where each example begins in `tokens`; the last entry is their number. int32."""
    second: Int[Anywhere, " N"]
    """How many tokens of an example come before its second text (token type 1); its length where there is none."""
    labels: Int[Anywhere, " N"] | Float[Anywhere, " N"]
    """Class numbers (int32) or targets (float32); -1 or NaN where the label is unknown."""


class Window(NamedTuple):
    """The tokens of some examples of a split whose own tokens are elsewhere."""

    ids: Int[Anywhere, " K"]
    """The examples' numbers, ascending; beyond them the largest int32."""
    starts: Int[Anywhere, " K"]
    """Where each of them begins in `tokens`."""
    tokens: UInt[Anywhere, " total"]


class Batch(NamedTuple):
    """Rows of tokens in which examples lie, several to a row where they fit."""

    tokens: Int[Array, "rows T"]
    types: Int[Array, "rows T"]
    """The token types: 0 for the first text of an example, 1 for the second."""
    positions: Int[Array, "rows T"]
    """Counted from 0 within each example."""
    segments: Int[Array, "rows T"]
    """The number of each token's example in `labels`, from 1; 0 is padding. Tokens attend to their own segment only."""
    first: Int[Array, " B"] | None
    """Index into the flattened rows of each example's first token, from which the head reads. None: it reads every
    token, and gives logits [rows, T, C].
    """
    labels: Int[Array, " B"] | Float[Array, " B"]
    weight: Float[Array, " B"]
    """1 for an example, 0 where a partial batch has none. Every loss term is the mean with these weights."""


class Out(NamedTuple):
    """What a model gives for a batch."""

    logits: Float[Array, "B C"]
    hidden: tuple[Float[Array, "rows T D"] | Float[Array, "B D"], ...]
    """After the embeddings and after each layer; after the last only at `batch.first`, where that is given."""


Edit = Callable[[str, Array], Array]
"""`(name, activation) -> activation`, called at "embeddings/word" (what is read of the table), "embeddings" (the sum,
normalised, after dropout) and "layers/0", "layers/1", ... (what comes out of them).
"""


def same(name: str, x: Array) -> Array:
    """The edit that changes nothing."""
    return x


class Model(NamedTuple):
    """An encoder with a head, as pure functions."""

    init: Callable[[Key[Array, ""]], Params]
    """Fresh values for every parameter, each from the key and its own name only."""
    apply: Callable[..., Out]
    """`(params, batch, key=None, rate=0., edit=same) -> Out`; dropout needs a key; its rate may be traced."""
    rounded: Callable[[Params], Params] = lambda params: {}
    """What `apply` would make of these parameters first, under names of its own: it takes them instead, if it is given
    both, and their gradient is still that of the parameters.
    """
    frozen: tuple[str, ...] = ()
    """Parameters that no method trains."""
    words: str = ""
    """The table of which `apply` reads the rows `batch.tokens` and no others, if it can tell their gradients apart from
    the rest, which are 0: see `touched.py`.
    """


class Task(NamedTuple):
    """A data set with its labels and its metrics; all splits tokenised."""

    name: str
    labels: tuple[str, ...]
    """Names of the classes, in the order of their numbers; empty for regression."""
    train: Split
    evals: dict[str, Split]
    """"dev" always, "test" where there is one, and MNLI's second, "dev_mismatched"."""
    metric: str
    """The one that scores a trial."""
    metrics: tuple[str, ...]
    """All that are reported; `metric` is among them."""
    fingerprint: str
    """A hash of the tokenised content."""
    also: Mapping[str, tuple[int, ...]] = {}
    """The sets among `evals` that belong to other tasks: as which of a set's classes each class of this task counts;
    nothing for a regression.
    """
    pairs: bool = False
    """Whether its examples are pairs of texts."""


class Ctx(NamedTuple):
    """One replica at one step: the same object for view, loss and tx."""

    w0: Params
    """The replica's own start."""
    step: Int[Array, ""]
    total: Int[Array, ""]
    """How many steps this replica takes in all."""
    lr: Float[Array, ""]
    """The scheduled rate of this step."""
    key: Key[Array, ""]
    """From the noise stream and the step; fold in a name before drawing."""


class Tx(NamedTuple):
    """How gradients become updates: optax's pair with a context."""

    init: Callable[[Params], Any]
    update: Callable[[Params, Any, Params, Ctx], tuple[Params, Any]]
    """`(grads, state, params, ctx) -> (updates, state for step + 1)`; updates are added to the parameters."""


Forward = Callable[..., Out]
"""`(params, batch, key=None, edit=same) -> Out`: the model as the method sees it."""

Objective = Callable[..., Float[Array, ""]]
"""`(params, batch, key=None, edit=same, out=None) -> mean loss of the batch`. `out` is what `forward` gave for the same
arguments, where the caller has it: to run the model twice for it would be to go back through it twice, too.
"""

Hyper = Callable[[str], Any]
"""`"train.lr"` -> this replica's number, which may be traced."""


def unchanged(params: Params, state: Any, ctx: Ctx) -> Params:
    """The view that changes nothing."""
    return params


class Method(NamedTuple):
    """A way to fine-tune, as functions for one replica. Every default is the identity: `Method()` is vanilla."""

    start: Callable[[Params, Key[Array, ""]], Params] = lambda w0, key: w0
    """Edits the weights that a trial starts from."""
    own: Callable[[Params, Params, Key[Array, ""]], Params] = lambda params, w0, key: params
    """What the replica trains: all, a subset, or added parameters."""
    view: Callable[[Params, Any, Ctx], Params] = unchanged
    """What the model sees in training instead of `params`, merged over w0. `state` is that of `tx`. Evaluations see the
    parameters themselves.
    """
    loss: Callable[[Objective, Forward, Ctx], Objective] = lambda objective, forward, ctx: objective
    """What is minimised, from what would be: adds a term, perturbs a weight, runs the batch twice."""
    tx: Callable[[Tx], Tx] = lambda inner: inner
    """Wraps the optimiser."""
    lead: Callable[[int], int] = lambda steps_per_epoch: 0
    """How many gradient-only steps come before step 0; called on the host, with the trial's own numbers."""
