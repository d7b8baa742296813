"""BART with a classifier (Lewis et al. 2020, arXiv 1910.13461): an encoder, and a decoder that reads the same text.

The decoder has the text once more, each token one place later, after a start token; the head reads what stands at the
last token of each example. Layers are numbered through: those of the encoder, then those of the decoder.
"""

import math
from collections import ChainMap
from collections.abc import Mapping
from typing import Any, cast

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key

from jaxft.errors import BadInput
from jaxft.models import layers, sizes
from jaxft.models.attention import attend, shape
from jaxft.models.dropout import Dropout
from jaxft.models.family import Config, Family
from jaxft.models.layers import Adapter, Layer, Linear, Norm, Table, dense
from jaxft.models.operations import ACTIVATIONS, lookup, read
from jaxft.models.roberta import Head
from jaxft.models.sizes import Sizes
from jaxft.types import Batch, Edit, Out, Params

PREFIX = "model."
SHIFT = 2  # the position tables' row of position 0
SIDES = ("encoder", "decoder")


class Embeddings(nn.Module):
    """Words, of one table for both sides, and positions, of one for each; normalised."""

    sizes: Sizes
    scale: float
    begin: int
    """The token that the decoder begins with."""

    @nn.compact
    def __call__(
        self, batch: Batch, drop: Dropout, edit: Edit
    ) -> tuple[Float[Array, "rows T D"], Float[Array, "rows T D"]]:
        """Those of the encoder, and those of the decoder, whose tokens are one place later."""
        s, length = self.sizes, batch.tokens.shape[1]
        word = Table(s.vocabulary, s.width, name="word")()
        before = jnp.concatenate([batch.tokens[:, :1], batch.tokens[:, :-1]], axis=1)
        later = jnp.where(batch.positions == 0, self.begin, before)
        found = []
        for side, tokens, site in zip(SIDES, (batch.tokens, later), ("", "decoder_"), strict=True):
            table = Table(s.positions + SHIFT, s.width, name=f"{side}_position")()[SHIFT : SHIFT + length]
            x = edit(f"embeddings/{site}word", self.scale * read(word, tokens)) + lookup(table, batch.positions)
            x = drop(f"{site}embeddings", Norm(s.eps, name=f"{side}_norm")(x))
            found.append(edit("embeddings", x) if side == "encoder" else x)
        return found[0], found[1]


class DecoderLayer(nn.Module):
    """Attention to the tokens before, attention to those of the encoder, feed-forward; each added and normalised."""

    sizes: Sizes

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "rows T D"],
        encoded: Float[Array, "rows T D"],
        segments: Int[Array, "rows T"],
        drop: Dropout,
        at: Int[Array, " B"] | None,
    ) -> Array:
        """x after the layer; only at the tokens `at` (of all rows), [B, 1, D], if they are given."""
        s, column = self.sizes, jnp.arange(x.shape[1])
        maps = {name: Linear(s.width, s.width, s.dtype, name=name)() for name in MAPS}
        keys, values = dense(x, maps["key"]), dense(x, maps["value"])
        read_keys, read_values = dense(encoded, maps["cross_key"]), dense(encoded, maps["cross_value"])
        own = segments[:, :, None] == segments[:, None, :]
        seen = own & (column[None, :, None] >= column[None, None, :])
        if at is not None:
            row = at // x.shape[1]
            keys, values = lookup(keys, row), lookup(values, row)
            read_keys, read_values = lookup(read_keys, row), lookup(read_values, row)
            own = segments.reshape(-1)[at][:, None, None] == segments[row][:, None, :]
            seen = own & ((at % x.shape[1])[:, None, None] >= column[None, None, :])
            x = lookup(x.reshape(-1, s.width), at[:, None])
        q = dense(x, maps["query"])
        mixed = attend(q, keys, values, seen, s.heads, drop.mask("attention", shape(q, keys, s.heads)))
        mixed = drop("attention_out", dense(mixed, maps["attention_out"]))
        x = Norm(s.eps, name="attention_norm")(x + self._adapted("attention_adapter", mixed))
        q = dense(x, maps["cross_query"])
        dropped = drop.mask("cross_attention", shape(q, read_keys, s.heads))
        mixed = attend(q, read_keys, read_values, own, s.heads, dropped)
        x = Norm(s.eps, name="cross_norm")(x + drop("cross_out", dense(mixed, maps["cross_out"])))
        inner = ACTIVATIONS[s.act](dense(x, Linear(s.width, s.inner, s.dtype, name="intermediate")()))
        outer = drop("output", dense(inner, Linear(s.inner, s.width, s.dtype, name="output")()))
        return Norm(s.eps, name="output_norm")(x + self._adapted("output_adapter", outer))

    def _adapted(self, name: str, x: Array) -> Array:
        return Adapter(self.sizes.dtype, name=name)(x) if self.has_variable("params", name) else x


MAPS = ("query", "key", "value", "attention_out", "cross_query", "cross_key", "cross_value", "cross_out")


class Layers(nn.Module):
    """The layers of both sides, named "0", "1", ... ."""

    sizes: Sizes
    encoders: int

    @nn.compact
    def __call__(self, x: Array, y: Array, batch: Batch, drop: Dropout, edit: Edit) -> tuple:
        """What comes out of each layer, after `edit`: of the last, only what is at the last token of each example."""
        hidden, encoded = [], x
        for i in range(self.sizes.layers):
            inside = drop.below(f"layers/{i}")
            if i < self.encoders:
                encoded = edit(f"layers/{i}", Layer(self.sizes, name=str(i))(encoded, batch.segments, inside, None))
                hidden.append(encoded)
                continue
            first = batch.first if i == self.sizes.layers - 1 else None
            at = None if first is None else ends(batch.segments, first)
            y = DecoderLayer(self.sizes, name=str(i))(y, encoded, batch.segments, inside, at)
            y = edit(f"layers/{i}", y if at is None else y[:, 0])
            hidden.append(y)
        return tuple(hidden)


class Network(nn.Module):
    """Encoder, decoder and head."""

    sizes: Sizes
    encoders: int
    scale: float
    begin: int
    classes: int

    @nn.compact
    def __call__(self, batch: Batch, drop: Dropout, edit: Edit) -> Out:
        """The logits [B, C] and the hidden states of a batch: the encoder's, then the decoder's layers'."""
        s = self.sizes
        x, y = Embeddings(s, self.scale, self.begin, name="embeddings")(batch, drop, edit)
        hidden = (x, *Layers(s, self.encoders, name="layers")(x, y, batch, drop, edit))
        return Out(Head(s.width, self.classes, s.dtype, name="classifier")(hidden[-1], drop), hidden)


def ends(segments: Int[Array, "rows T"], first: Int[Array, " B"]) -> Int[Array, " B"]:
    """Index into the flattened rows of each example's last token, which is its end-of-text token."""
    own = segments[first // segments.shape[1]] == segments.reshape(-1)[first][:, None]
    return first + own.sum(axis=1) - 1


CALLED = {
    "hidden_size": "d_model",
    "num_attention_heads": "encoder_attention_heads",
    "intermediate_size": "encoder_ffn_dim",
    "hidden_act": "activation_function",
    "initializer_range": "init_std",
}
"""BERT's keys, with BART's."""


def read_config(config: Config, dtype: str = "float32") -> tuple[Sizes, int, float, int]:
    """The sizes, with the layers of both sides; those of the encoder; the words' scale; the decoder's first token.

    Raises:
        BadInput: a size is refused, or the sides differ in more than their layers.
    """
    for one in ("attention_heads", "ffn_dim"):
        left, right = (config.get(f"{side}_{one}") for side in SIDES)
        if left != right:
            raise BadInput(f"config.json: decoder_{one}: found {right!r}, accepted: the encoder's, {left!r}")
    counts: list[Any] = [config.get(f"{side}_layers") for side in SIDES]
    for side, count in zip(SIDES, counts, strict=True):
        if type(count) is not int or not 1 <= count < 2**15:
            raise BadInput(f"config.json: {side}_layers: found {count!r}, a positive integer is accepted")
    fixed = {"type_vocab_size": 1, "num_hidden_layers": sum(counts), "layer_norm_eps": 1e-5}
    fixed |= {"position_embedding_type": "absolute", "is_decoder": False}
    found = sizes.read(ChainMap(fixed, cast(Any, config)), dtype, CALLED)
    if type(config.get("scale_embedding", False)) is not bool:
        raise BadInput(f"config.json: scale_embedding: found {config['scale_embedding']!r}, accepted: true, false")
    begin = config.get("decoder_start_token_id", 2)
    if type(begin) is not int or not 0 <= begin < found.vocabulary:
        raise BadInput(f"config.json: decoder_start_token_id: found {begin!r}, the number of a token is accepted")
    return found, counts[0], math.sqrt(found.width) if config.get("scale_embedding") else 1.0, begin


def names(config: Config) -> dict[str, str]:
    """Our module names, with those of Hugging Face."""
    found, encoders, *_ = read_config(config)
    named = {"embeddings/word": "shared"}
    for side in SIDES:
        named |= {f"embeddings/{side}_position": f"{side}.embed_positions"}
        named |= {f"embeddings/{side}_norm": f"{side}.layernorm_embedding"}
    own = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "attention_out": "out_proj"}
    parts = {ours: f"self_attn.{theirs}" for ours, theirs in own.items()} | {"attention_norm": "self_attn_layer_norm"}
    parts |= {"intermediate": "fc1", "output": "fc2", "output_norm": "final_layer_norm"}
    cross = {f"cross_{ours.removeprefix('attention_')}": f"encoder_attn.{theirs}" for ours, theirs in own.items()}
    cross |= {"cross_norm": "encoder_attn_layer_norm"}
    for i in range(found.layers):
        side, number = ("encoder", i) if i < encoders else ("decoder", i - encoders)
        inside = parts if i < encoders else parts | cross
        named |= {f"layers/{i}/{ours}": f"{side}.layers.{number}.{theirs}" for ours, theirs in inside.items()}
    named = {ours: PREFIX + theirs for ours, theirs in named.items()}
    return named | {f"classifier/{layer}": f"classification_head.{layer}" for layer in ("dense", "out_proj")}


def network(config: Config, classes: int, dtype: str = "float32") -> nn.Module:
    """The module of a config."""
    return Network(*read_config(config, dtype), classes)


def draw(config: Config, key: Key[Array, ""], shapes: Mapping[str, tuple[int, ...]]) -> Params:
    """Fresh values as BERT's; the config calls the standard deviation otherwise."""
    return layers.fresh(key, shapes, config.get("init_std", 0.02))


FAMILY = Family(
    types=("bart",),
    network=network,
    names=names,
    positions=lambda config: read_config(config)[0].positions,
    prefix=PREFIX,
    fresh=("classifier/dense", "classifier/out_proj"),
    optional=(),
    architectures=("BartModel", "BartForSequenceClassification"),
    draw=draw,
    begin=lambda config: read_config(config)[3],
    last=lambda config: config.get("eos_token_id", 2),
    tied={"embeddings/word": tuple(f"{PREFIX}{side}.embed_tokens" for side in SIDES)},
)
