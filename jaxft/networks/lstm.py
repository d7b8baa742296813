"""A bidirectional LSTM that reads the checkpoint's tokens."""

from typing import Literal

from jaxft.errors import BadInput
from jaxft.members.ranges import Count, Natural
from jaxft.networks import Config, Made, Network

TYPE = "jaxft-lstm"
"""What its config says for `model_type`; `models/lstm.py` is what reads it."""
WORD = "embeddings/word/embedding"


def lstm(
    layers: Count = 1,
    hidden: Count = 256,
    pooling: Literal["max", "mean", "last"] = "max",
    embeddings: Literal["random", "trained", "frozen"] = "random",
    width: Natural = 0,
) -> Network:
    """Layers of LSTMs in both directions over word embeddings, one vector of each text, one linear head.

    "LSTM-4-256" of the paper is lstm(layers=4, hidden=256).

    Args:
        layers: how many, each with both directions.
        hidden: size of one direction's state.
        pooling: how the outputs at a text's tokens become one vector: their largest in each coordinate, their mean, or
            the last of each direction.
        embeddings: of the tokens: random and trained, or the checkpoint's and trained, or the checkpoint's as they are.
        width: of random embeddings; 0 for that of the checkpoint's.

    Raises:
        BadInput: a width for embeddings that are not random.

    Source:
        Wang, Khabsa and Ma 2020, "To Pretrain or Not to Pretrain" (arXiv 2006.08671), section 3.2; the maximum over
        tokens is of Conneau et al. 2017 (arXiv 1705.02364), section 3.2.3.
    """
    if width and embeddings != "random":
        raise BadInput(f"model: lstm: width: found {width}, but embeddings are those of the checkpoint")

    def made(config: Config) -> Made:
        across = config.get("embedding_size") or config.get("hidden_size") or config["d_model"]
        own = {
            "model_type": TYPE,
            "vocab_size": config["vocab_size"],
            "embedding_size": width or across,
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "pooling": pooling,
            "pad_token_id": config.get("pad_token_id", 0),
        }
        taken = () if embeddings == "random" else (WORD,)
        return Made(own, taken, taken if embeddings == "frozen" else ())

    return made
