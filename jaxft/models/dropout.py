"""Dropout, from a key and the name of the place: the same entries in whatever way they are then computed."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key, UInt

from jaxft import keys


class Mask(NamedTuple):
    """Which entries of an array are dropped."""

    bits: UInt[Array, "..."]
    """16 random bits for each entry."""
    least: Int[Array, ""]
    """An entry with less is dropped: of 65536 values so many."""

    @property
    def scale(self) -> Float[Array, ""]:
        """What the others are multiplied with."""
        return 65536 / (65536 - self.least.astype(jnp.float32))

    def __call__(self, x: Array) -> Array:
        """x without what is dropped, the rest scaled up."""
        return jnp.where(self.bits.astype(jnp.int32) >= self.least, x * self.scale.astype(x.dtype), 0.0)


class Dropout(NamedTuple):
    """`(name, x)` -> x, of which a share `rate` is zeroed and the rest scaled up; the identity without a key."""

    key: Key[Array, ""] | None = None
    rate: Float[Array, ""] | float = 0.0
    """It may be traced; it is rounded to 1/65536, since 16 random bits to an entry cost half of 32."""
    at: str = ""
    """Comes before all names."""

    def __call__(self, name: str, x: Array) -> Array:
        """x after dropout at the place of this name."""
        mask = self.mask(name, x.shape)
        return x if mask is None else mask(x)

    def mask(self, name: str, shape: tuple[int, ...]) -> Mask | None:
        """What this does to an array of this shape; None for nothing."""
        if self.key is None:
            return None
        count = math.prod(shape)
        words = keys.bits(keys.named(self.key, self.at + name), -(-count // 2))
        bits = lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[:count].reshape(shape)
        share = jnp.minimum(jnp.round(jnp.asarray(self.rate, jnp.float32) * 65536), 65535)
        return Mask(bits, share.astype(jnp.int32))

    def below(self, at: str) -> "Dropout":
        """The same, for names that begin with this and a slash."""
        return self._replace(at=f"{self.at}{at}/")
