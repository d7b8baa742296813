"""A bidirectional LSTM with a classifier, trained from scratch beside pretrained encoders (Wang et al. 2020).

Word embeddings, layers that each read the whole text in both directions, one vector for the text, one linear head. It
is no architecture of Hugging Face: its config's `model_type` is our own.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, Key

from jaxft.errors import BadInput
from jaxft.keys import named
from jaxft.models import ports
from jaxft.models.dropout import Dropout
from jaxft.models.family import Config, Family
from jaxft.models.layers import Linear, Words, dense
from jaxft.models.operations import lookup
from jaxft.models.recurrence import recur
from jaxft.networks.lstm import TYPE
from jaxft.types import Batch, Edit, Out, Params

WAYS = ("forward", "backward")
POOLINGS = ("max", "mean", "last")


class Sizes(NamedTuple):
    """What the config says."""

    vocabulary: int
    embedding: int
    """Width of the word embeddings."""
    hidden: int
    """Of one direction."""
    layers: int
    pooling: str
    """How the outputs at an example's tokens become one vector; see `pooled`."""
    dtype: str


class State(nn.Module):
    """Holds the kernel [hidden, 4 hidden] from one token's output to the next one's gates."""

    hidden: int
    dtype: str

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        """The kernel, and what the matmul reads of it."""
        kernel = self.param("kernel", nn.initializers.zeros, (self.hidden, 4 * self.hidden))
        low = ports.low(self)
        if low is not None:  # folded in once, and not in each step of the loop
            kernel = kernel + low.scale * (low.a @ low.b)
        ready = self.has_variable("params", "rounded") and low is None
        return kernel, self.get_variable("params", "rounded") if ready else kernel.astype(self.dtype)


class Layer(nn.Module):
    """An LSTM in both directions. Of each, "forward" and "forward_state" are the maps from inputs and from outputs."""

    sizes: Sizes

    @nn.compact
    def __call__(self, x: Float[Array, "rows T D"], keep: Bool[Array, "T 2 rows"]) -> Float[Array, "rows T W"]:
        """The outputs of both directions side by side; `keep` is `kept` of the batch."""
        s = self.sizes
        inputs = [Linear(x.shape[-1], 4 * s.hidden, s.dtype, name=way)() for way in WAYS]
        kernels, rounded = zip(*(State(s.hidden, s.dtype, name=f"{way}_state")() for way in WAYS), strict=True)
        ahead, back = (dense(x, map).swapaxes(0, 1) for map in inputs)
        z = jnp.stack([ahead, back[::-1]], axis=1)
        h = recur(z, jnp.stack(kernels), jnp.stack(rounded), keep)
        return jnp.concatenate([h[:, 0], h[::-1, 1]], axis=-1).swapaxes(0, 1)


class Embeddings(nn.Module):
    """The embeddings of words."""

    sizes: Sizes

    @nn.compact
    def __call__(self, batch: Batch, edit: Edit) -> Float[Array, "rows T D"]:
        """Embeds tokens [rows, T]."""
        word = Words(self.sizes.vocabulary, self.sizes.embedding, name="word")
        return edit("embeddings/word", word(batch.tokens))


class Layers(nn.Module):
    """The layers, named "0", "1", ... ."""

    sizes: Sizes

    @nn.compact
    def __call__(self, x: Float[Array, "rows T D"], batch: Batch, drop: Dropout, edit: Edit) -> tuple:
        """What comes out of each layer, after dropout and `edit`: of the last, one vector for each example."""
        hidden, keep = [], kept(batch.segments)
        for i in range(self.sizes.layers):
            x = Layer(self.sizes, name=str(i))(x, keep)
            if i == self.sizes.layers - 1 and batch.first is not None:
                x = pooled(self.sizes.pooling, x, batch.segments, batch.first)
            x = edit(f"layers/{i}", drop(f"layers/{i}/output", x))
            hidden.append(x)
        return tuple(hidden)


class Network(nn.Module):
    """Embeddings, layers and classifier, with dropout on what comes out of the first two."""

    sizes: Sizes
    classes: int

    @nn.compact
    def __call__(self, batch: Batch, drop: Dropout, edit: Edit) -> Out:
        """The logits [B, C] and the hidden states of a batch; the last is the vector of each example."""
        s = self.sizes
        x = edit("embeddings", drop("embeddings", Embeddings(s, name="embeddings")(batch, edit)))
        hidden = (x, *Layers(s, name="layers")(x, batch, drop, edit))
        return Out(dense(hidden[-1], Linear(2 * s.hidden, self.classes, name="classifier")()), hidden)


def kept(segments: Int[Array, "rows T"]) -> Bool[Array, "T 2 rows"]:
    """Whether a token goes on from the one read before it, of the same example; from the left, and from the right."""
    same = jnp.concatenate([jnp.zeros_like(segments[:, :1], bool), segments[:, 1:] == segments[:, :-1]], axis=1)
    right = jnp.concatenate([same[:, 1:], jnp.zeros_like(same[:, :1])], axis=1)
    return jnp.stack([same, right[:, ::-1]]).transpose(2, 0, 1)


def pooled(
    how: str, x: Float[Array, "rows T D"], segments: Int[Array, "rows T"], first: Int[Array, " B"]
) -> Float[Array, "B D"]:
    """One vector for each example, of the outputs at its tokens.

    Args:
        how: "max", "mean", or "last": of the direction ahead at the last token, of the other at the first.
        x: outputs; the second half of D is of the direction back.
        segments: of the batch.
        first: of the batch.
    """
    row = first // x.shape[1]
    own = segments[row] == segments.reshape(-1)[first][:, None]  # B T
    if how == "max":
        return jnp.where(own[..., None], lookup(x, row), -jnp.inf).max(axis=1)
    if how == "mean":
        return (lookup(x, row) * own[..., None]).sum(axis=1) / own.sum(axis=1, keepdims=True)
    flat, half = x.reshape(-1, x.shape[-1]), x.shape[-1] // 2
    last = first + own.sum(axis=1) - 1
    return jnp.concatenate([lookup(flat[:, :half], last), lookup(flat[:, half:], first)], axis=-1)


def draw(config: Config, key: Key[Array, ""], shapes: Mapping[str, tuple[int, ...]]) -> Params:
    """Fresh values as torch's: kernels and biases uniform within 1 / sqrt(fan), embeddings from N(0, 1).

    The fan of an LSTM's is its hidden size, that of the classifier's its inputs. The bias is the sum of the two that
    torch has, each uniform.
    """

    def one(name: str, shape: tuple[int, ...]) -> Array:
        own = named(key, name)
        if name.endswith("/embedding"):
            return jax.random.normal(own, shape, jnp.float32)
        recurrent, bias = name.startswith("layers/"), name.endswith("/bias")
        fan = config["hidden_size"] * (1 if recurrent else 2)
        drawn = jax.random.uniform(own, (2, *shape) if bias and recurrent else (1, *shape[::-1]), minval=-1.0)
        return drawn.sum(axis=0).T / fan**0.5

    return {name: one(name, shape) for name, shape in shapes.items()}


def sizes(config: Config, dtype: str = "float32") -> Sizes:
    """Reads a config of ours, as `networks/lstm.py` writes it.

    Raises:
        BadInput: a size is missing or not a positive integer, or a pooling that there is not.
    """
    told: dict[str, Any] = {
        key: config.get(key) for key in ("vocab_size", "embedding_size", "hidden_size", "num_hidden_layers")
    }
    for key, value in told.items():
        if type(value) is not int or not 1 <= value < 2**31:
            raise BadInput(f"config.json: {key}: found {value!r}, a positive integer is accepted")
    if config.get("pooling") not in POOLINGS:
        raise BadInput(f"config.json: pooling: found {config.get('pooling')!r}, accepted: {', '.join(POOLINGS)}")
    vocabulary, embedding, hidden, layers = told.values()
    return Sizes(vocabulary, embedding, hidden, layers, config["pooling"], dtype)


def names(config: Config) -> dict[str, str]:
    """Our module names, with themselves: there are no others."""
    layers = [f"layers/{i}/{way}{part}" for i in range(sizes(config).layers) for way in WAYS for part in ("", "_state")]
    return {name: name.replace("/", ".") for name in ("embeddings/word", *layers, "classifier")}


FAMILY = Family(
    types=(TYPE,),
    network=lambda config, classes, dtype="float32": Network(sizes(config, dtype), classes),
    names=names,
    positions=lambda config: 2**31 - 1,
    prefix="",
    fresh=("classifier",),
    optional=(),
    architectures=("JaxftLstm", "JaxftLstmForSequenceClassification"),
    draw=draw,
    serial=4.0,  # on two cores 0.6, 2 and 7 rows at 128, 256 and 512 hidden units; more on accelerators
)
