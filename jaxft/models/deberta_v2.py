"""DeBERTa-v2 and v3 with a classifier (He et al. 2021, arXiv 2006.03654 and 2111.09543): disentangled attention.

BERT's layers, whose attention adds to the product of two tokens' contents that of one's content with where the other
stands, relative to it. An example's tokens stand side by side in a row, so that relative positions within it are
differences of columns, the same for all rows: each token's products with all positions are a matmul, and sorting them
by column is a shift of its outcome (`skewed`), whose gradient is one too; no gather, no scatter.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from jaxft.errors import BadInput
from jaxft.models import layers, sizes
from jaxft.models.dropout import Dropout
from jaxft.models.family import Config, Family
from jaxft.models.layers import Layers, Linear, Map, Norm, Table, Words, dense
from jaxft.models.operations import ACTIVATIONS, lookup
from jaxft.models.sizes import Sizes
from jaxft.types import Batch, Edit, Out

PREFIX = "deberta."
SORTS = ("c2p", "p2c")


class Kind(NamedTuple):
    """What makes it DeBERTa."""

    buckets: int
    """Relative positions are put into so many buckets on either side; the lower half of them hold one each."""
    furthest: int
    """The relative position that the last bucket ends at; 0 where each bucket holds one."""
    sorts: tuple[str, ...]
    """The scores besides content to content: content to position ("c2p"), position to content ("p2c")."""
    shared: bool
    """Whether positions are projected by the maps of contents."""
    normed: bool
    """Whether the embeddings of relative positions are normalised."""
    absolute: bool
    """Whether absolute positions are added to the input."""
    typed: bool
    act: str
    """Of the pooler."""


class Embeddings(nn.Module):
    """Embeddings of words, and of relative positions."""

    sizes: Sizes
    kind: Kind

    @nn.compact
    def __call__(self, batch: Batch, drop: Dropout, edit: Edit) -> tuple[Float[Array, "rows T D"], Float[Array, "P D"]]:
        """Those of tokens [rows, T], normalised; and those of the positions from T - 1 down to 1 - T, P = 2 T - 1."""
        s, kind, length = self.sizes, self.kind, batch.tokens.shape[1]
        x = edit("embeddings/word", Words(s.vocabulary, s.width, name="word")(batch.tokens))
        if kind.absolute:
            x = x + lookup(Table(s.positions, s.width, name="absolute")()[:length], batch.positions)
        if kind.typed:
            x = x + lookup(Table(s.types, s.width, name="type")(), batch.types)
        x = edit("embeddings", drop("embeddings", Norm(s.eps, name="norm")(x)))
        table = Table(2 * kind.buckets, s.width, name="relative")()
        if kind.normed:
            table = Norm(s.eps, name="relative_norm")(table[None])[0]
        rows = places(length, kind)
        if (np.diff(rows) == -1).all():  # a slice has the cheaper gradient
            return x, table[rows[-1] : rows[0] + 1][::-1]
        return x, lookup(table, jnp.asarray(rows))


class Network(nn.Module):
    """Encoder, pooler and classifier."""

    sizes: Sizes
    kind: Kind
    classes: int

    @nn.compact
    def __call__(self, batch: Batch, drop: Dropout, edit: Edit) -> Out:
        """The logits [B, C] and the hidden states of a batch."""
        s, kind = self.sizes, self.kind
        x, positions = Embeddings(s, kind, name="embeddings")(batch, drop, edit)

        def relative(q: Array, k: Array, query: Map, key: Map, inside: Dropout) -> tuple[Array, int]:
            dropped = inside("relative", positions)
            bias = jnp.zeros((), q.dtype)
            if "c2p" in kind.sorts:
                own = key if kind.shared else Linear(s.width, s.width, s.dtype, name="position_key")()
                bias = bias + skewed(products(q, dense(dropped, own), s.heads))
            if "p2c" in kind.sorts:
                own = query if kind.shared else Linear(s.width, s.width, s.dtype, name="position_query")()
                back = skewed(products(k, dense(dropped, own)[::-1], s.heads))
                bias = bias + back.swapaxes(2, 3)
            return bias, 1 + len(kind.sorts)

        hidden = (x, *Layers(s, relative if kind.sorts else None, name="layers")(x, batch, drop, edit))
        first = Linear(s.width, s.width, s.dtype, name="pooler")()
        pooled = ACTIVATIONS[kind.act](dense(drop("first", hidden[-1]), first))
        logits = dense(drop("pooler", pooled), Linear(s.width, self.classes, name="classifier")())
        return Out(logits, hidden)


def products(x: Float[Array, "rows T D"], positions: Float[Array, "P D"], heads: int) -> Float[Array, "rows H T P"]:
    """Of each token with each relative position, in each head."""
    x, positions = x.reshape(*x.shape[:2], heads, -1), positions.reshape(len(positions), heads, -1)
    return jnp.einsum("rthd,phd->rhtp", x, positions)


def skewed(x: Float[Array, "rows H T P"]) -> Float[Array, "rows H T T"]:
    """y[..., t, u] = x[..., t, u - t + T - 1], where P = 2 T - 1 (as in Music Transformer, Huang et al. 2018)."""
    *lead, length, _ = x.shape
    if length == 1:
        return x
    flat = x.reshape(*lead, -1)[..., length - 1 : length - 1 + length * (2 * length - 2)]
    return flat.reshape(*lead, length, 2 * length - 2)[..., :length]


def places(length: int, kind: Kind) -> np.ndarray:
    """The rows of the table of relative positions for length - 1 down to 1 - length.

    With b buckets and m = b / 2, position p has the row b + p for |p| < m, and beyond
    b +- (m + ceil(log(|p| / m) / log((furthest - 1) / m) * (m - 1))), at most 2 b - 1 and at least 0.
    """
    found, half = np.arange(length - 1, -length, -1), kind.buckets // 2
    if kind.furthest:
        apart = np.maximum(np.abs(found), half).astype(np.float32)
        logs = np.log(apart / np.float32(half)) / np.log(np.float32((kind.furthest - 1) / half))
        far = np.sign(found) * (np.ceil(logs * np.float32(half - 1)) + half).astype(int)
        found = np.where(np.abs(found) <= half, found, far)
    return np.clip(found + kind.buckets, 0, 2 * kind.buckets - 1)


def read_kind(config: Config) -> Kind:
    """What makes it DeBERTa.

    Raises:
        BadInput: it is of a kind that is not built.
    """
    fixed = {
        "relative_attention": True,
        "conv_kernel_size": 0,
        "embedding_size": config.get("hidden_size"),
        "pooler_hidden_size": config.get("hidden_size"),
    }
    for key, accepted in fixed.items():
        if config.get(key, accepted) != accepted:
            raise BadInput(f"config.json: {key}: found {config[key]!r}, accepted: {accepted!r}")
    whole = read_sizes(config)
    if config.get("attention_head_size", whole.width // whole.heads) != whole.width // whole.heads:
        found = config["attention_head_size"]
        raise BadInput(f"config.json: attention_head_size: found {found!r}, accepted: {whole.width // whole.heads}")
    norm = config.get("norm_rel_ebd", "none")
    if norm not in ("none", "layer_norm"):
        raise BadInput(f"config.json: norm_rel_ebd: found {norm!r}, accepted: none, layer_norm")
    sorts = config.get("pos_att_type") or ()
    sorts = tuple(sorts.lower().split("|")) if isinstance(sorts, str) else tuple(sorts)
    if not set(sorts) <= set(SORTS):
        raise BadInput(f"config.json: pos_att_type: found {config['pos_att_type']!r}, accepted: {', '.join(SORTS)}")
    act = config.get("pooler_hidden_act", "gelu")
    if act not in ACTIVATIONS:
        raise BadInput(f"config.json: pooler_hidden_act: found {act!r}, accepted: {', '.join(ACTIVATIONS)}")
    numbers = {key: config.get(key, -1) for key in ("max_relative_positions", "position_buckets")}
    for key, value in numbers.items():
        if type(value) is not int:
            raise BadInput(f"config.json: {key}: found {value!r}, an integer is accepted")
    furthest, buckets = numbers.values()
    furthest = furthest if furthest >= 1 else config["max_position_embeddings"]
    return Kind(
        buckets=buckets if buckets > 0 else furthest,
        furthest=furthest if buckets > 0 else 0,
        sorts=tuple(sort for sort in SORTS if sort in sorts),
        shared=bool(config.get("share_att_key", False)),
        normed=norm == "layer_norm",
        absolute=bool(config.get("position_biased_input", True)),
        typed=config.get("type_vocab_size", 0) != 0,
        act=act,
    )


def read_sizes(config: Config, dtype: str = "float32") -> Sizes:
    """The sizes; where there are no token types, as if there were one."""
    types = config.get("type_vocab_size", 0)
    if type(types) is not int or types < 0:
        raise BadInput(f"config.json: type_vocab_size: found {types!r}, an integer from 0 is accepted")
    return sizes.read({"layer_norm_eps": 1e-7, **config, "type_vocab_size": types or 1}, dtype)


def names(config: Config) -> dict[str, str]:
    """Our module names, with those of Hugging Face."""
    kind = read_kind(config)
    found = {"embeddings/word": "embeddings.word_embeddings", "embeddings/norm": "embeddings.LayerNorm"}
    found["embeddings/relative"] = "encoder.rel_embeddings"
    if kind.normed:
        found["embeddings/relative_norm"] = "encoder.LayerNorm"
    if kind.absolute:
        found["embeddings/absolute"] = "embeddings.position_embeddings"
    if kind.typed:
        found["embeddings/type"] = "embeddings.token_type_embeddings"
    own = {"query": "query_proj", "key": "key_proj", "value": "value_proj"}
    if not kind.shared:
        maps = [name for name, sort in (("key", "c2p"), ("query", "p2c")) if sort in kind.sorts]
        own |= {f"position_{name}": f"pos_{name}_proj" for name in maps}
    parts = layers.LAYER_NAMES | {ours: f"attention.self.{theirs}" for ours, theirs in own.items()}
    for i in range(read_sizes(config).layers):
        found |= {f"layers/{i}/{ours}": f"encoder.layer.{i}.{theirs}" for ours, theirs in parts.items()}
    found = {ours: PREFIX + theirs for ours, theirs in found.items()}
    return found | {"pooler": "pooler.dense", "classifier": "classifier"}


FAMILY = Family(
    types=("deberta-v2",),
    network=lambda config, classes, dtype="float32": Network(read_sizes(config, dtype), read_kind(config), classes),
    names=names,
    positions=lambda config: read_sizes(config).positions,
    prefix=PREFIX,
    fresh=("pooler", "classifier"),
    optional=(),
    architectures=("DebertaV2Model", "DebertaV2ForSequenceClassification"),
)
