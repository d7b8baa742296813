"""Encoders that everybody knows, by name."""

from typing import Any

from jaxft.models.family import Config

_BERT = {
    "model_type": "bert",
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "initializer_range": 0.02,
    "pad_token_id": 0,
}


def sized(width: int, layers: int, heads: int) -> dict[str, int]:
    """What a config says of an encoder this wide, with so many layers and heads."""
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
    }


SIZES: dict[str, dict[str, Any]] = {
    "minilm": _BERT | sized(384, 6, 12),
    "bert-base": _BERT | sized(768, 12, 12),
    "bert-large": _BERT | sized(1024, 24, 16),
    "roberta-base": _BERT
    | sized(768, 12, 12)
    | {
        "model_type": "roberta",
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    },
}
"""The configs of these encoders, as their authors published them."""


def known(config: Config) -> list[str]:
    """The names among `SIZES` of encoders that compute what one of this config does, whatever its vocabulary."""
    keys = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    return [name for name, size in SIZES.items() if all(config.get(key) == size[key] for key in keys)]
