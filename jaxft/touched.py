"""The gradient of a large table by the rows that a batch reads; of all others it is 0, and zeros need no memory.

Adam moves every row in every step, by its moments and by weight decay: one pass over the table and its moments there
has to be. The zeros that it would read in that pass, and that would be written and summed up before, need not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxft.types import Method, Params

FEW = 4
"""A table is large if it has so many rows, or more, for each token that a batch may have."""


@dataclass(frozen=True)
class Rows:
    """The gradient of a table [V, D], most of whose rows are 0: to jax a leaf, and never an argument of a program."""

    values: Float[Array, "N D"]
    place: Int[Array, " V"]
    """Which of the values is that of a row; below 0 where the row is 0."""

    def __mul__(self, factor: Float[Array, ""]) -> "Rows":
        """Scaled."""
        return Rows(self.values * factor, self.place)

    def whole(self) -> Float[Array, "V D"]:
        """The table. What reads it once reads the values instead: the compiler makes one pass of both."""
        return jnp.where(self.place[:, None] >= 0, self.values[jnp.maximum(self.place, 0)], 0.0)


Grads = Mapping[str, Array | Rows]
"""By parameter."""


def table(words: str, method: Method, params: Params, most: int) -> str:
    """The table whose gradient is told by its rows, if one is.

    Args:
        words: that of the model; see `Model.words`.
        method: one that sees whole gradients gets them.
        params: what it owns.
        most: the most tokens of a batch.
    """
    plain = Method()
    few = words in params and params[words].shape[0] >= FEW * most
    whole = (method.view, method.loss, method.tx) != (plain.view, plain.loss, plain.tx)
    return words if few and not whole and jax.default_backend() != "tpu" else ""  # a TPU gathers slowly


def places(tokens: Int[Array, "rows T"], rows: int) -> Int[Array, " V"]:
    """For each row of a table the last of the tokens that reads it, -1 if none does."""
    count = jnp.arange(tokens.size, dtype=jnp.int32)
    return jnp.full(rows, -1, jnp.int32).at[tokens.reshape(-1)].max(count)


def apart(params: Params, name: str, most: int) -> Params:
    """The parameters, but of a table what `models.operations.read_apart` gives gradients to."""
    rows = jnp.zeros((most, params[name].shape[1]), jnp.float32)
    return {**{other: value for other, value in params.items() if other != name}, _beside(name, "rows"): rows}


def told(params: Params, name: str, place: Int[Array, " V"]) -> Params:
    """What the model has to see beside them."""
    return {name: params[name], _beside(name, "place"): place}


def joined(grads: Params, name: str, place: Int[Array, " V"]) -> Params:
    """The gradients of `apart` as those of the parameters; that of the table is `Rows`."""
    rows = _beside(name, "rows")
    whole: Any = Rows(grads[rows], place)
    return {**{other: value for other, value in grads.items() if other != rows}, name: whole}


def _beside(name: str, what: str) -> str:
    return f"{name.rpartition('/')[0]}/{what}"
