"""What a Hugging Face config of the BERT kind says of an encoder, checked."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxft.errors import BadInput
from jaxft.models.operations import ACTIVATIONS


class Sizes(NamedTuple):
    """What a config says of an encoder; the names are ours."""

    vocabulary: int
    positions: int
    types: int
    width: int
    embedding: int
    """Width of the embeddings, of most encoders that of the layers."""
    heads: int
    layers: int
    inner: int
    act: str
    eps: float
    std: float
    """Of the normal distribution of fresh kernels and embeddings."""
    dtype: str = "float32"
    """What linear maps and attention compute in; parameters are float32."""


def read(config: Mapping[str, Any], dtype: str = "float32", called: Mapping[str, str] | None = None) -> Sizes:
    """Reads a Hugging Face config of the BERT kind.

    Args:
        config: of `config.json`.
        dtype: what linear maps and attention compute in.
        called: BERT's keys that this config has by another name, with that.

    Raises:
        BadInput: a size is missing or not a positive integer, or the encoder is of a kind that is not built.
    """

    def own(key: str) -> str:
        return called.get(key, key) if called else key

    def refuse(key: str, found: Any, accepted: str) -> BadInput:
        return BadInput(f"config.json: {own(key)}: found {found!r}, {accepted}")

    def size(key: str) -> int:
        value = config.get(own(key))
        if type(value) is not int or not 1 <= value < 2**31:
            raise refuse(key, value, "a positive integer is accepted")
        return value

    def number(key: str, default: float) -> float:
        value = config.get(own(key), default)
        if type(value) not in (int, float) or not 0 <= value < 2**127:
            raise refuse(key, value, "a number from 0 is accepted")
        return float(value)

    for key, accepted in (
        ("hidden_act", tuple(ACTIVATIONS)),
        ("position_embedding_type", ("absolute",)),
        ("is_decoder", (False,)),
    ):
        value = config.get(own(key), accepted[0])
        if value not in accepted:
            raise refuse(key, value, f"accepted: {', '.join(map(str, accepted))}")
    width, heads = size("hidden_size"), size("num_attention_heads")
    if width % heads:
        raise refuse("hidden_size", width, f"a multiple of {own('num_attention_heads')} ({heads}) is accepted")
    return Sizes(
        vocabulary=size("vocab_size"),
        positions=size("max_position_embeddings"),
        types=size("type_vocab_size") if "type_vocab_size" in config else 2,
        width=width,
        embedding=width,
        heads=heads,
        layers=size("num_hidden_layers"),
        inner=size("intermediate_size"),
        act=config.get(own("hidden_act"), "gelu"),
        eps=number("layer_norm_eps", 1e-12),
        std=number("initializer_range", 0.02),
        dtype=dtype,
    )
