"""The pieces that encoder families share: linen modules for one replica, and the two hooks that they call.

Both hooks are called as `(name, x)`: `drop` is a `Dropout`, and `edit` is the caller's. The modules only declare
the shapes of parameters; fresh values come from `fresh`, since they depend on the seed and the name alone.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxft import keys
from jaxft.models import ports
from jaxft.models.attention import attend, shape
from jaxft.models.dropout import Dropout
from jaxft.models.operations import ACTIVATIONS, gelu, lookup, product, read, read_apart
from jaxft.models.sizes import Sizes
from jaxft.types import Batch, Edit, Params

zeros = nn.initializers.zeros


def fresh(key: Key[Array, ""], shapes: Mapping[str, tuple[int, ...]], std: float) -> Params:
    """New values for all parameters, each from the key and its name: N(0, std^2), biases 0, norm scales 1.

    Kernels are drawn as [out, in]: threefry's i-th number is the same in every shape, so that a head with
    more classes begins with the columns of one with fewer.
    """

    def draw(name: str, shape: tuple[int, ...]) -> Array:
        leaf = name.rsplit("/", 1)[-1]
        if leaf in ("scale", "bias"):
            return jnp.full(shape, float(leaf == "scale"), jnp.float32)
        if leaf == "kernel":
            return std * jax.random.normal(keys.named(key, name), shape[::-1], jnp.float32).T
        return std * jax.random.normal(keys.named(key, name), shape, jnp.float32)

    return {name: draw(name, shape) for name, shape in shapes.items()}


class Map(NamedTuple):
    """A linear map, for `dense`."""

    kernel: Array
    rounded: Array
    """The kernel in the dtype that the map computes in."""
    bias: Array
    low: ports.Low | None
    """The one of low rank beside it, if a method has added it."""


class Linear(nn.Module):
    """Holds a kernel [inputs, outputs] and a bias [outputs] of a map that computes in `dtype`."""

    inputs: int
    outputs: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self) -> Map:
        """What it holds."""
        kernel = self.param("kernel", zeros, (self.inputs, self.outputs))
        bias = self.param("bias", zeros, (self.outputs,)).astype(self.dtype)
        ready = self.has_variable("params", "rounded")
        rounded = self.get_variable("params", "rounded") if ready else kernel.astype(self.dtype)
        return Map(kernel, rounded, bias, ports.low(self))


def dense(x: Array, linear: Map) -> Array:
    """x through a linear map, in its dtype."""
    return unbiased(x, linear) + linear.bias.reshape((1,) * (x.ndim - 1) + (-1,))


def unbiased(x: Array, linear: Map) -> Array:
    """The same before its bias is added; with scale (x a) b, if one of low rank is beside it."""
    kernel, rounded, _, low = linear
    dtype = rounded.dtype
    x = x.astype(dtype)
    y = product(x, kernel, rounded)
    if low is not None:
        inner = low.scale.astype(dtype) * product(x, low.a, low.a.astype(dtype))
        y = y + product(inner, low.b, low.b.astype(dtype))
    return y


class Adapter(nn.Module):
    """x + up(gelu(down(x))), of whatever size its parameters have (Houlsby et al. 2019, figure 2)."""

    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "rows T D"]) -> Float[Array, "rows T D"]:
        """x after the adapter."""
        width, size = x.shape[-1], self.get_variable("params", "down")["bias"].shape[0]
        down = Linear(width, size, self.dtype, name="down")()
        return x + dense(gelu(dense(x, down)), Linear(size, width, self.dtype, name="up")())


class Norm(nn.Module):
    """Layer normalisation over the last axis."""

    eps: float

    @nn.compact
    def __call__(self, x: Float[Array, "rows T D"]) -> Float[Array, "rows T D"]:
        """x with mean 0 and variance 1, scaled and shifted."""
        scale = self.param("scale", zeros, x.shape[-1:])
        bias = self.param("bias", zeros, x.shape[-1:])
        x = x - x.mean(axis=-1, keepdims=True)
        x = x * lax.rsqrt(jnp.square(x).mean(axis=-1, keepdims=True) + self.eps)
        return x * scale[None, None, :] + bias[None, None, :]


class Table(nn.Module):
    """Holds an embedding [rows, width]."""

    rows: int
    width: int

    @nn.compact
    def __call__(self) -> Array:
        """The embedding."""
        return self.param("embedding", zeros, (self.rows, self.width))


class Words(nn.Module):
    """Holds the embedding [rows, width] of tokens; `Model.words` says how its gradient may be had."""

    rows: int
    width: int

    @nn.compact
    def __call__(self, tokens: Int[Array, "rows T"]) -> Float[Array, "rows T D"]:
        """Embeds tokens."""
        table = self.param("embedding", zeros, (self.rows, self.width))
        if not self.has_variable("params", "place"):
            return read(table, tokens)
        return read_apart(table, self.get_variable("params", "rows"), self.get_variable("params", "place"), tokens)


class Embeddings(nn.Module):
    """Word, position and type embeddings, normalised, and made as wide as the layers. `shift` is the table's row of
    position 0.
    """

    sizes: Sizes
    shift: int = 0

    @nn.compact
    def __call__(self, batch: Batch, drop: Dropout, edit: Edit) -> Float[Array, "rows T D"]:
        """Embeds tokens [rows, T]."""
        s = self.sizes
        word = Words(s.vocabulary, s.embedding, name="word")(batch.tokens)
        position = Table(s.positions, s.embedding, name="position")()
        # A row of T tokens has no position above T - 1.
        position = position[self.shift : self.shift + batch.tokens.shape[1]]
        kind = Table(s.types, s.embedding, name="type")()
        types = batch.types if s.types > 1 else jnp.zeros_like(batch.types)  # with one type, both texts are of it
        x = edit("embeddings/word", word) + lookup(kind, types) + lookup(position, batch.positions)
        x = edit("embeddings", drop("embeddings", Norm(s.eps, name="norm")(x)))
        if s.embedding == s.width:
            return x
        return dense(x, Linear(s.embedding, s.width, s.dtype, name="project")()).astype(jnp.float32)


Relative = Callable[[Array, Array, Map, Map, Dropout], tuple[Array, int]]
"""`(q, k, query, key, drop) -> (bias, scores)`: what attention adds for where tokens stand, before it is scaled, and of
how many sorts its scores are then the sum. Called inside a layer, whose queries, keys and their maps it gets.
"""


class Layer(nn.Module):
    """A post-norm transformer layer: attention, then feed-forward, each added to its input and normalised."""

    sizes: Sizes
    relative: Relative | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "rows T D"], segments: Int[Array, "rows T"], drop: Dropout, at: Int[Array, " B"] | None
    ) -> Array:
        """x after the layer; only at the tokens `at` (of all rows), [B, 1, D], if they are given.

        Its dropout sites are "attention", "attention_out" and "output".
        """
        s, bias, scores, biases = self.sizes, None, 1, None
        maps = query, key, value = [
            Linear(s.width, s.width, s.dtype, name=name)() for name in ("query", "key", "value")
        ]
        # Padding, segment 0, reads padding only, so that no token is left without a key.
        mask = segments[:, :, None] == segments[:, None, :]
        if self.relative:
            q, k, v = (dense(x, each) for each in maps)
            bias, scores = self.relative(q, k, query, key, drop)
        elif at is None:
            (q, k, v), biases = (unbiased(x, each) for each in maps), [each.bias for each in maps]
        else:
            row = at // x.shape[1]
            k, v = lookup(dense(x, key), row), lookup(dense(x, value), row)
            x = lookup(x.reshape(-1, s.width), at[:, None])
            q = dense(x, query)
            mask = segments.reshape(-1)[at][:, None, None] == segments[row][:, None, :]
        mixed = attend(q, k, v, mask, s.heads, drop.mask("attention", shape(q, k, s.heads)), biases, bias, scores)
        if at is not None and self.relative:
            x, mixed = (lookup(each.reshape(-1, s.width), at[:, None]) for each in (x, mixed))
        mixed = dense(mixed, Linear(s.width, s.width, s.dtype, name="attention_out")())
        x = Norm(s.eps, name="attention_norm")(x + self._adapted(ports.ADAPTERS[0], drop("attention_out", mixed)))
        inner = ACTIVATIONS[s.act](dense(x, Linear(s.width, s.inner, s.dtype, name="intermediate")()))
        outer = dense(inner, Linear(s.inner, s.width, s.dtype, name="output")())
        return Norm(s.eps, name="output_norm")(x + self._adapted(ports.ADAPTERS[1], drop("output", outer)))

    def _adapted(self, name: str, x: Array) -> Array:
        """x after the adapter of this name, if a method has added it."""
        return Adapter(self.sizes.dtype, name=name)(x) if self.has_variable("params", name) else x


class Layers(nn.Module):
    """The layers, named "0", "1", ... ."""

    sizes: Sizes
    relative: Relative | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "rows T D"], batch: Batch, drop: Dropout, edit: Edit) -> tuple:
        """What comes out of each layer, after `edit`: of the last, only what stands at the first token of each example.

        A head reads nothing else, and to leave the rest out saves most of a layer.
        """
        hidden, last = [], self.sizes.layers - 1
        for i in range(self.sizes.layers):
            at = batch.first if i == last else None
            x = Layer(self.sizes, self.relative, name=str(i))(x, batch.segments, drop.below(f"layers/{i}"), at)
            x = edit(f"layers/{i}", x if at is None else x[:, 0])
            hidden.append(x)
        return tuple(hidden)


def encode(sizes: Sizes, batch: Batch, drop: Dropout, edit: Edit, shift: int = 0) -> tuple[Array, ...]:
    """Hidden states after the embeddings and after each layer, as in `Out`; to be called inside a family's network."""
    x = Embeddings(sizes, shift, name="embeddings")(batch, drop, edit)
    return (x, *Layers(sizes, name="layers")(x, batch, drop, edit))


NAMES = {
    "embeddings/word": "embeddings.word_embeddings",
    "embeddings/position": "embeddings.position_embeddings",
    "embeddings/type": "embeddings.token_type_embeddings",
    "embeddings/norm": "embeddings.LayerNorm",
}
"""Where the parts of `encode` lie in a Hugging Face checkpoint, below the family's prefix."""

LAYER_NAMES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}


def names(layers: int) -> dict[str, str]:
    """Our name of each part of `encode`, with the one that it has in a checkpoint."""
    inside = {
        f"layers/{i}/{ours}": f"encoder.layer.{i}.{theirs}"
        for i in range(layers)
        for ours, theirs in LAYER_NAMES.items()
    }
    return NAMES | inside
