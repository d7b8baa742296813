"""What a step costs, and what a chip can give: one formula for `plan` and `bench`. No jax here.

A replica-step is matmuls, one pass of Adam over the parameters, and passes over activations between the matmuls. Each
is timed as if it ran alone at the chip's ceiling, and the three are added: a sum of rooflines, as one layer waits for
the other. (A program that hides one behind another can beat it by that.) Only what must be is counted: real tokens
without padding, no random bits, attention whose scores never leave the chip, embeddings looked up by row, and of the
last layer keys and values of all tokens but the rest for one token of each example, which is what the head reads.

A decoder's layer (BART) attends twice: causally, to half of the pairs of its tokens, and to all of the encoder's.
DeBERTa's layers have, for each kind of relative position, one more score of each pair of tokens, and a map of their
own, or that of the queries or keys again, which sees relative positions: twice as many as an example has tokens, once
for a batch.

Of an LSTM every kernel of every layer sees every token, and there is no attention. That its steps wait for each other,
and that its kernels are read again in each, is not reckoned: its bound is far below what any chip reaches.
"""

from collections.abc import Collection, Mapping
from math import prod
from typing import NamedTuple

Shapes = Mapping[str, tuple[int, ...]]
"""Of the parameters by name, such as `"layers/3/query/kernel"`."""


class Cost(NamedTuple):
    """What one replica needs for some work."""

    matmul: float
    """FLOPs; a multiplication and its addition are two."""
    optimizer: float
    """Bytes moved because of the parameters."""
    elementwise: float
    """Bytes moved because of the activations."""


class Chip(NamedTuple):
    """What a device can give."""

    name: str
    flops: Mapping[str, float]
    """FLOP/s of a large matmul, by precision: those of `train.precision`, and float32, which is `highest`."""
    bandwidth: float
    """Bytes/s of its memory, reads and writes together."""
    memory: float = 0
    """Bytes."""
    cores: int = 1
    """How many tiles of a matmul it works on at a time."""


class Bound(NamedTuple):
    """Seconds by resource."""

    matmul: float
    optimizer: float
    elementwise: float

    @property
    def seconds(self) -> float:
        """Their sum: resources are not overlapped."""
        return sum(self)

    @property
    def binds(self) -> str:
        """The resource that takes most of it."""
        return max(self._fields, key=lambda name: getattr(self, name))


def flops(highest: float, high: float, default: float, bfloat16: float) -> dict[str, float]:
    """A chip's FLOP/s by precision."""
    return {"float32": highest, "highest": highest, "high": high, "default": default, "bfloat16": bfloat16}


def _tpu(name: str, bfloat16: float, bandwidth: float, memory: float, cores: int) -> Chip:
    """The maker's peaks, as in jax's `tpu_info`. Float32 takes 6, 3 or 1 passes in bfloat16."""
    return Chip(name, flops(bfloat16 / 6, bfloat16 / 3, bfloat16, bfloat16), bandwidth, memory, cores)


CHIPS = (
    # Reached: bfloat16, by a large matmul (the maker's peak: 989e12). All else is the maker's peak: float32 without and
    # TF32 (high, default) with tensor cores, not sparse; memory, of which a copy reached 4.3e12.
    Chip("H200", flops(67e12, 494e12, 494e12, 790e12), 4.8e12, 141e9, cores=132),
    _tpu("TPU v4", 275e12, 1.23e12, 34.4e9, cores=2),
    _tpu("TPU v5e", 197e12, 0.82e12, 17.2e9, cores=1),
    _tpu("TPU v5p", 459e12, 2.46e12, 103e9, cores=2),
    _tpu("TPU v6e", 920e12, 1.64e12, 34.4e9, cores=1),
)


def step_cost(
    shapes: Shapes,
    *,
    tokens: float,
    squares: float,
    examples: float,
    width: int,
    layers: int,
    dtype: str,
    trained: Collection[str] | None = None,
) -> Cost:
    """One step of one replica: forward, backward, Adam.

    matmul: 2 FLOPs per weight of a layer and token forward, 4 backward (the gradients of input and weight); kernels
    outside the layers, and those of the last layer but for keys and values, see examples, not tokens. Attention:
    4 * width * squares a layer forward (2 for the scores, 2 for mixing), twice that backward; in the last layer tokens
    for squares. Decoders and relative positions: see `_attention` and `_placing`.

    optimizer, in bytes per parameter, which is float32:

        28  Adam reads p, m, v and g, and writes p, m and v
         4  backward writes g
         8  forward and backward read a kernel, in float32;
        10  or in bfloat16: it is cast first (4 read, 2 written), then read twice

    This is 40 for a kernel in float32, 42 in bfloat16, and 32 for embeddings, norms and biases, of which matmuls read
    little or nothing. A cast that rides on Adam's pass would save 4 of 42; a norm for the clip, in a pass of its own,
    costs 4 more. Of word embeddings, whose gradient is 0 but for the rows that a batch reads, 24 could do, and do where
    `touched.py` says so.

    elementwise, in bytes per token: see `_passes`. A layer with a feed-forward of 4 * width, as BERT's, comes to
    120 * width in bfloat16, and 192 in float32; the last is left out.

    Of what is frozen there is no gradient (2 FLOPs per weight and token less) and no Adam; and nothing goes backward
    below the lowest layer of which anything is trained. The matmuls of low-rank maps, small by their purpose, are left
    out.

    Args:
        shapes: the parameters, of all layers.
        tokens: of the batch, without padding.
        squares: the sum of the squared lengths of its examples.
        examples: of the batch.
        width: of the model.
        layers: how many.
        dtype: what matmuls compute in: "bfloat16", or any other for float32.
        trained: the names of those that are; all if None.
    """
    _, inside, outside = _weights(shapes, layers)
    forward, backward, _ = _passes(shapes, width, layers, dtype)
    if trained is None:
        trained, reached = shapes.keys(), layers
    else:
        reached = layers - _lowest(trained, layers)
    learning, inner, outer = _weights({name: shapes[name] for name in trained}, layers)
    each, last = _attention(shapes, layers)
    placing = _placing(shapes, layers) * (2 * squares / tokens if tokens else 0.0)
    # What gradients go through: the upper layers, and the head.
    _, through, above = _weights({n: s for n, s in shapes.items() if _height(n, layers) >= layers - reached}, layers)
    lowered = 2 if dtype == "bfloat16" else 4
    moved = 32 * learning + (10 if dtype == "bfloat16" else 8) * (inside + outside)
    moved -= lowered * (inside + outside - through - above)
    upper = each[len(each) - max(reached - 1, 0) :]  # those that gradients come to, but for the last
    seen = 4 * width * (squares * sum(each) + tokens * last)
    unseen = 8 * width * (squares * sum(upper) + tokens * last * (reached > 0))
    placed = 2 * placing * (1 + 2 * reached / layers)
    return Cost(
        matmul=2 * ((inside + through + inner) * tokens + (outside + above + outer) * examples)
        + seen
        + unseen
        + placed,
        optimizer=moved,
        elementwise=tokens * (forward + backward * reached / layers),
    )


def evaluation_cost(
    shapes: Shapes, *, tokens: float, squares: float, examples: float, width: int, layers: int, dtype: str
) -> Cost:
    """One evaluation of one replica: forward only, over all the examples of its evaluation sets.

    Kernels are read once (4 bytes a weight; in bfloat16 8, with the cast), as if all examples were one batch. The
    arguments are those of `step_cost`.
    """
    _, inside, outside = _weights(shapes, layers)
    forward, *_ = _passes(shapes, width, layers, dtype)
    each, last = _attention(shapes, layers)
    placed = 2 * _placing(shapes, layers) * (2 * squares / tokens if tokens else 0.0)
    return Cost(
        matmul=2 * (inside * tokens + outside * examples) + 4 * width * (squares * sum(each) + tokens * last) + placed,
        optimizer=(8 if dtype == "bfloat16" else 4) * (inside + outside),
        elementwise=tokens * forward,
    )


def memory(
    shapes: Shapes,
    *,
    tokens: float,
    width: int,
    layers: int,
    dtype: str,
    trained: Collection[str] | None = None,
) -> float:
    """Bytes of one replica in training.

    16 per trained parameter: p, m, v and g; and 2 for a kernel's copy in bfloat16. Per token and layer, what backward
    reads: the stream's two states, and what goes into and comes out of the matmuls, but for two outputs that join the
    stream; of layers below all that is trained, nothing.
    """
    learning = shapes.keys() if trained is None else trained
    every, inside, outside = _weights({name: shapes[name] for name in learning}, layers)
    *_, kept = _passes(shapes, width, layers, dtype)
    copies = 2 * (inside + outside) if dtype == "bfloat16" else 0
    reached = layers if trained is None else layers - _lowest(trained, layers)
    return 16 * every + copies + tokens * kept * reached / layers


def bound(cost: Cost, chip: Chip, dtype: str) -> Bound:
    """The least time of some work of one replica if it has the chip to itself; R replicas take R times that.

    Args:
        cost: the work.
        chip: where.
        dtype: the precision of its matmuls, one of `chip.flops`.
    """
    return Bound(cost.matmul / chip.flops[dtype], cost.optimizer / chip.bandwidth, cost.elementwise / chip.bandwidth)


def sizes(shapes: Shapes) -> tuple[int, int]:
    """Layers and width of an encoder."""
    layers = {name.split("/")[1] for name in shapes if name.startswith("layers/")}
    return len(layers), shapes["layers/0/query/kernel" if _attends(shapes) else "layers/0/forward/kernel"][0]


def _attends(shapes: Shapes) -> bool:
    """Whether it is a transformer, or a part of one, and not an LSTM."""
    return not any(name.endswith("_state/kernel") for name in shapes)


def _attention(shapes: Shapes, layers: int) -> tuple[list[float], float]:
    """How often each layer but the last scores and mixes every pair of tokens, and the last one for the token that is
    read: once in an encoder; half a time and once in a decoder, in the last layer twice; and half a time more, for a
    score without mixing, for each kind of relative position.
    """
    if not _attends(shapes):
        return [], 0.0
    decodes = [f"layers/{i}/cross_query/kernel" in shapes for i in range(layers)]
    more = _relative(shapes) / 2
    return [(1.5 if crossed else 1.0) + more for crossed in decodes[:-1]], (2.0 if decodes[-1] else 1.0) + more


def _placing(shapes: Shapes, layers: int) -> int:
    """The weights that each relative position meets: for each kind a map of a layer, or its queries' or keys' again."""
    kernels = (shapes.get(f"layers/{i}/query/kernel", ()) for i in range(layers))
    return _relative(shapes) * sum(prod(shape) for shape in kernels if shape)


def _relative(shapes: Shapes) -> int:
    """The kinds of relative positions that attention has scores for; both, where their maps are those of the tokens."""
    own = sum(f"layers/0/position_{part}/kernel" in shapes for part in ("key", "query"))
    return own or 2 * ("embeddings/relative/embedding" in shapes)


def _passes(shapes: Shapes, width: int, layers: int, dtype: str) -> tuple[int, int, int]:
    """Bytes per token that the passes between matmuls move, forward and backward, and those that are kept in between.

    Of the last layer there are nearly none.

    Forward, what lies between two matmuls is one pass: it reads what came out of the first and writes what goes into
    the second. (q, k and v are one matmul; attention, short and bound by memory, is such a pass.) Two of a layer's
    passes also read and write the float32 stream, for dropout, sum and norm; in float32 the stream is itself what goes
    into the next matmul. Embeddings: rows of the table are read, the stream is written.

    Backward, gradients go the other way around the same matmuls. Twice a layer the stream's gradient and its saved
    state are read, and its gradient is written. Read again are what came out of the matmuls, but for the two that
    joined the stream, and what attention mixed. Embeddings: gradient and saved state are read, and added to rows of the
    table's gradient, which are read and written.

    Of an LSTM of H units, per direction in float32: forward, what the inputs give to the gates is written and read (4 H
    each), and gates, state and output are written (6 H); backward, these and what comes from above are read (7 H), and
    the gradient of the gates is written and read (4 H each).
    """
    if not _attends(shapes):
        units = sum(shape[0] for name, shape in shapes.items() if name.endswith("_state/kernel"))
        embedding = shapes["embeddings/word/embedding"][1]
        return 4 * 14 * units + 8 * embedding, 4 * 15 * units + 16 * embedding, 4 * 6 * units + 4 * embedding
    size = 2 if dtype == "bfloat16" else 4
    before = tuple(f"layers/{i}/" for i in range(layers - 1))
    kernels = [shape for name, shape in shapes.items() if _is_kernel(name) and name.startswith(before)]
    ends, outputs, stream = sum(map(sum, kernels)), sum(shape[1] for shape in kernels), width * (layers - 1)
    ends -= 2 * stream  # q, k and v read one input
    written = ends if size == 2 else ends - 2 * stream
    forward = 2 * (4 + 4) * stream + size * written + (4 + 4) * width
    backward = 2 * (4 + 4 + 4) * stream + size * (ends + outputs - 2 * stream + stream) + (4 + 4 + 4 + 4) * width
    return forward, backward, 2 * 4 * stream + size * (written - 2 * stream)


def _weights(shapes: Shapes, layers: int) -> tuple[int, int, int]:
    """All parameters; the weights of kernels that see every token; those of kernels that see one of each example."""
    kernels = {name: prod(shape) for name, shape in shapes.items() if _is_kernel(name)}
    last = f"layers/{layers - 1}/" if _attends(shapes) else "none"
    kernels = {name: count for name, count in kernels.items() if "/position_" not in name}  # they see positions
    seeing = [name for name in kernels if name.startswith(("layers/", "embeddings/")) and not name.startswith(last)]
    everywhere = [f"{last}{part}/kernel" for part in ("key", "value", "cross_key", "cross_value")]
    inside = sum(kernels.get(name, 0) for name in (*seeing, *everywhere))
    return sum(map(prod, shapes.values())), inside, sum(kernels.values()) - inside


def _lowest(names: Collection[str], layers: int) -> int:
    """The lowest layer that a gradient has to come to; `layers` if none has."""
    return max(0, min((_height(name, layers) for name in names), default=layers))


def _height(name: str, layers: int) -> int:
    """The layer of a parameter; -1 for the embeddings, `layers` for what lies above."""
    first, *rest = name.split("/")
    return int(rest[0]) if first == "layers" else -1 if first == "embeddings" else layers


def _is_kernel(name: str) -> bool:
    return name.endswith("/kernel")
