"""Every random stream of jaxft, by name.

A key is made from a seed and from names: never from a position in a split, never from `hash()` (which Python salts),
so that adding a parameter, a layer or a method moves no other draw.
"""

from functools import partial
from math import prod
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key, UInt

from jaxft.study.trials import Seeds

IMPL = "threefry2x32"  # exact under vmap on every platform; rbg draws a whole vmapped batch from its first key
PART = 8192  # words, which stay in a core's cache


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


def bits(key: Key[Array, ""], count: int) -> UInt[Array, " count"]:
    """`count` random words of 32 bits, the same as `jax.random.bits` gives."""
    at_once = lambda key: words(key, lax.iota(jnp.uint32, count))  # noqa: E731
    if count < 2 * PART:
        return at_once(key)
    return lax.platform_dependent(key, cpu=partial(_in_parts, count), default=at_once)


def _in_parts(count: int, key: Key[Array, ""]) -> UInt[Array, " count"]:
    """The same, part by part: a loop, which XLA does not make again wherever a word or a half of it is read.

    A CPU would draw each word four times for dropout: for its two halves, forward and backward.
    """
    begin = jnp.arange(0, count, PART, dtype=jnp.uint32)
    drawn = lax.map(lambda first: words(key, first + lax.iota(jnp.uint32, PART)), begin)
    return drawn.reshape(-1)[:count]


@jax.jit
def words(key: Key[Array, ""], numbers: UInt[Array, "..."]) -> UInt[Array, "..."]:
    """Of the random words of `bits` those with these numbers, counted from 0.

    Threefry-2x32 of 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") on a counter, written
    out: XLA makes one loop of it and of what reads it, where jax's own goes through memory once a round on a CPU.
    """
    first, second = jax.random.key_data(key)
    keys = (first, second, first ^ second ^ np.uint32(0x1BD11BDA))
    a, b = first, numbers + second
    for turn in range(5):
        for distance in ((13, 15, 26, 6), (17, 29, 16, 24))[turn % 2]:
            a = a + b
            b = a ^ (b << np.uint32(distance) | b >> np.uint32(32 - distance))
        a, b = a + keys[(turn + 1) % 3], b + keys[(turn + 2) % 3] + np.uint32(turn + 1)
    return a ^ b


def uniform(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Numbers from 0 to below 1, multiples of 2**-24, from `bits`: below p in a share p of them, for p = 0 in none."""
    words = bits(key, prod(shape)).reshape(shape)
    return (words >> np.uint32(8)).astype(jnp.float32) * np.float32(2**-24)
