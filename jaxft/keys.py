"""Every random stream of jaxft, by name.

A key is made from a seed and from names: never from a position in a split, never from `hash()` (which Python salts),
so that adding a parameter, a layer or a method moves no other draw.
"""

from zlib import crc32

import jax
from jaxtyping import Array, Key

from jaxft.trials import Seeds

IMPL = "threefry2x32"  # exact under vmap on every platform; rbg draws a whole vmapped batch from its first key


def named(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """The key of `name` below `key`."""
    return jax.random.fold_in(key, crc32(name.encode()))


def stream(seeds: Seeds, name: str) -> Key[Array, ""]:
    """The key of one of the five streams of a trial: "init", "order", "dropout", "noise" or "data".

    Two streams with equal seeds are independent, since the stream's name is folded in.
    """
    return named(jax.random.key(getattr(seeds, name), impl=IMPL), name)


def at(key: Key[Array, ""], count) -> Key[Array, ""]:
    """The key of a step or an epoch, counted from 0."""
    return jax.random.fold_in(key, count)
