"""What the training of ONE model is made of: what programs share, what fills a slot, a replica, what is seen of it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxtyping import Array, Float, Int

from jaxft.data.batch import Layout, Packed
from jaxft.engine.stop import Watch
from jaxft.study.trials import Length, Seeds
from jaxft.types import Anywhere, Hyper, Method, Model, Params, Split, Tx, Window


class Recipe(NamedTuple):
    """What all replicas of a compile group have in common: functions and static sizes."""

    model: Model
    method: Callable[[Hyper], Method]
    optimizer: Callable[[Hyper], Tx]
    schedule: str
    dropout_at: str
    """"every_step", or "epoch_start" for the first step of each epoch only."""
    batch: int
    """Examples of a step, B."""
    layout: Layout
    """The rows in which they lie."""
    every: int
    """Steps of a block at most: from one evaluation to the next."""
    steps: int
    """Of the longest trial."""
    max_epochs: int
    """The most epochs of a trial."""
    before: int = 0
    """The most steps that a trial begins before step 0, in its method's lead-in."""
    gradient_norms: bool = False
    """Whether blocks report them."""
    strata: int = 0
    """The classes whose proportions a training subset keeps; 0 where it need not."""
    nested: bool = True
    """Whether a larger training subset of the same data seed holds the smaller ones."""


class Shared(NamedTuple):
    """The arrays that all replicas read and none changes."""

    pretrained: Mapping[str, Anywhere]
    train: Split
    evals: dict[str, Packed]
    window: Window | None = None
    """Where the tokens of `train` are not on the device, those of the examples that a block reads."""


class Entry(NamedTuple):
    """What fills a slot."""

    seeds: Seeds
    hp: Mapping[str, Anywhere]
    length: Length


class Replica(NamedTuple):
    """A trial in training."""

    step: Int[Array, ""]
    """The next step; below 0 in the method's lead-in."""
    status: Int[Array, ""]
    params: Params
    """What it owns."""
    opt: Any
    watch: Watch
    seeds: Seeds
    hp: Mapping[str, Anywhere]
    length: Length
    plan: Int[Array, "S B"]
    """The examples of each step."""
    places: Int[Array, "S B"]
    """Where they lie in the rows of its batch."""


class Report(NamedTuple):
    """What the host sees of a block."""

    step: Int[Anywhere, ""]
    status: Int[Anywhere, ""]
    losses: Float[Anywhere, " S"]
    """The training loss of each step of the block; NaN where the replica did not train."""
    taken: Int[Anywhere, ""]
    """How many steps of the block it took."""
    examples: Int[Anywhere, ""]
    """How many examples it trained on."""
    logits: dict[str, Float[Anywhere, "N C"]]
    """Of each evaluation set, at the block's end."""
    norms: dict[str, Float[Anywhere, ""]]
    """By layer, of the loss's gradient in the last step that the replica took in the block, before clipping; NaN where
    it took none, or trains nothing of the layer. Empty where the recipe does not ask.
    """
