"""What layers are made of, where the plain way would be slow or not the same in each run: gradients by hand."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int


@jax.custom_vjp
def product(
    x: Float[Array, "*rows I"], kernel: Float[Array, "I O"], rounded: Float[Array, "I O"]
) -> Float[Array, "*rows O"]:
    """x @ rounded, which is the kernel in the precision of x; its gradient is the kernel's, in the kernel's own.

    Plain, the gradient would be rounded as well, and go through memory once more.
    """
    return x @ rounded


def _product(x, kernel, rounded):
    return x @ rounded, (x, rounded, jnp.zeros((), kernel.dtype))


def _unproduct(saved, g):
    x, rounded, like = saved
    flat, upper = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    return g @ rounded.T, jnp.matmul(flat.T, upper, preferred_element_type=like.dtype), None


product.defvjp(_product, _unproduct)


@jax.custom_vjp
def gelu(x: Array) -> Array:
    """x times the normal distribution function of x (Hendrycks and Gimpel 2016), in float32.

    Backward computes it again from x: dearer to keep than to make.
    """
    return (x * _below(x.astype(jnp.float32))).astype(x.dtype)


def _below(x: Array) -> Array:
    """The probability that a standard normal variable is below x."""
    return 0.5 + 0.5 * lax.erf(x * math.sqrt(0.5))


def _ungelu(x, g):
    wide = x.astype(jnp.float32)
    density = jnp.exp(-0.5 * wide * wide) / math.sqrt(2 * math.pi)
    return ((g * (_below(wide) + wide * density)).astype(x.dtype),)


gelu.defvjp(lambda x: (gelu(x), x), _ungelu)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_new": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
}


def lookup(table: Float[Array, "rows ..."], index: Int[Array, "..."]) -> Float[Array, "..."]:
    """`table[index]` of a small table, by an exact one-hot matmul: its gradient needs no scatter-add, slow on GPUs."""
    onehot = jax.nn.one_hot(index, table.shape[0], dtype=table.dtype)
    return jnp.tensordot(onehot, table, 1, precision=lax.Precision.HIGHEST)


@jax.custom_vjp
def read(table: Float[Array, "V D"], index: Int[Array, "rows T"]) -> Float[Array, "rows T D"]:
    """`table[index]` of a large table. Its gradient is the same in each run, also where scatter-add is not."""
    return table[index]


def _read(table, index):
    return table[index], (index, table.shape[0])


def _unread(saved, g):
    index, rows = saved
    index, g = index.reshape(-1), g.reshape(-1, g.shape[-1])
    return lax.platform_dependent(index, g, cpu=partial(scattered, rows), default=partial(summed, rows)), None


@jax.custom_vjp
def read_apart(
    table: Float[Array, "V D"], rows: Float[Array, "N D"], place: Int[Array, " V"], index: Int[Array, "rows T"]
) -> Float[Array, "rows T D"]:
    """`table[index]`, whose gradient is not the table's, but that of `rows`: what row i is read for goes to place[i].

    Of a large table a batch reads few rows, and zeros for all others need not go through memory. `rows` is not read.
    """
    return table[index]


def _read_apart(table, rows, place, index):
    return table[index], (place[index], rows.shape[0])


def _unread_apart(saved, g):
    return None, _unread(saved, g)[0], None, None


read_apart.defvjp(_read_apart, _unread_apart)


def scattered(rows: int, index: Int[Array, " N"], g: Float[Array, "N D"]) -> Float[Array, "V D"]:
    """The gradient of a table of so many rows, entry by entry: what a CPU does best."""
    return jnp.zeros((rows, g.shape[1]), g.dtype).at[index].add(g)


def summed(rows: int, index: Int[Array, " N"], g: Float[Array, "N D"]) -> Float[Array, "V D"]:
    """The same for accelerators, where entries that meet are added in any order, one waiting for the other.

    A matmul sums up the entries of each token first; then each row is written once.
    """
    equal = index[:, None] == index[None, :]
    count = jnp.arange(len(index))
    first = jnp.argmax(equal, axis=1) == count
    parts = jnp.concatenate(thirds(g), axis=1)
    upper, middle, lower = jnp.split(jnp.matmul(equal.astype(parts.dtype), parts, preferred_element_type=g.dtype), 3, 1)
    sums = lower + middle + upper
    own = jnp.where(first, index, rows + count)  # beyond the table: dropped
    return jnp.zeros((rows, g.shape[1]), g.dtype).at[own].set(sums, mode="drop", unique_indices=True)


def thirds(x: Array) -> tuple[Array, Array, Array]:
    """float32 as three bfloat16 that add up to it, the largest first: matmuls of them are exact and far faster."""
    upper = lax.reduce_precision(x, 8, 7)  # a cast there and back is left out by XLA
    middle = lax.reduce_precision(x - upper, 8, 7)
    return upper.astype(jnp.bfloat16), middle.astype(jnp.bfloat16), (x - upper - middle).astype(jnp.bfloat16)


read.defvjp(_read, _unread)
