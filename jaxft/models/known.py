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


_ROBERTA = _BERT | {
    "model_type": "roberta",
    "vocab_size": 50265,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}

SIZES: dict[str, dict[str, Any]] = {
    "minilm": _BERT | sized(384, 6, 12),
    "bert-base": _BERT | sized(768, 12, 12),
    "bert-large": _BERT | sized(1024, 24, 16),
    "roberta-base": _ROBERTA | sized(768, 12, 12),
    "roberta-large": _ROBERTA | sized(1024, 24, 16),
    "electra-large": _BERT | sized(1024, 24, 16) | {"model_type": "electra", "embedding_size": 1024},
    "deberta-v3-large": _BERT
    | sized(1024, 24, 16)
    | {
        "model_type": "deberta-v2",
        "vocab_size": 128100,
        "type_vocab_size": 0,
        "layer_norm_eps": 1e-7,
        "relative_attention": True,
        "max_relative_positions": -1,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
        "pooler_hidden_size": 1024,
        "pooler_hidden_act": "gelu",
        "pooler_dropout": 0,
    },
    "bart-large": {
        "model_type": "bart",
        "vocab_size": 50265,
        "max_position_embeddings": 1024,
        "d_model": 1024,
        "encoder_layers": 12,
        "decoder_layers": 12,
        "encoder_attention_heads": 16,
        "decoder_attention_heads": 16,
        "encoder_ffn_dim": 4096,
        "decoder_ffn_dim": 4096,
        "activation_function": "gelu",
        "init_std": 0.02,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "decoder_start_token_id": 2,
    },
}
"""The configs of these encoders, as their authors published them."""

SHAPE = (
    "model_type",
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads", "encoder_ffn_dim"),
)
"""The keys that say what is computed for a token; no config has all of them."""


def known(config: Config) -> list[str]:
    """The names among `SIZES` of encoders that compute what one of this config does, whatever its vocabulary."""
    return [name for name, size in SIZES.items() if all(config.get(key) == size.get(key) for key in SHAPE)]
