"""RoBERTa with a classifier (Liu et al. 2019); XLM-R and CamemBERT are the same but for their tokenizers.

BERT's encoder, with positions that begin after the number of the padding token, and a head with a hidden layer in place
of the pooler. Positions count the tokens of an example. Hugging Face counts those that are not padding, so that a text
with the padding token itself in it ("<pad>") is numbered otherwise there.
"""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxft.errors import BadInput
from jaxft.models import layers, sizes
from jaxft.models.dropout import Dropout
from jaxft.models.family import Config, Family
from jaxft.models.layers import Linear, dense
from jaxft.models.sizes import Sizes
from jaxft.types import Batch, Edit, Out

PREFIX = "roberta."


class Head(nn.Module):
    """Two linear maps with `act` between them, and dropout before each; the first computes in `dtype`."""

    width: int
    classes: int
    dtype: str
    act: Callable[[Array], Array] = jnp.tanh

    @nn.compact
    def __call__(self, x: Float[Array, "*B D"], drop: Dropout) -> Float[Array, "*B C"]:
        """The logits of examples, from what stands at their first tokens; or of all tokens."""
        x = self.act(dense(drop("first", x), Linear(self.width, self.width, self.dtype, name="dense")()))
        return dense(drop("classifier/dense", x), Linear(self.width, self.classes, name="out_proj")())


class Network(nn.Module):
    """Encoder and head; `begin` is the position table's row of a first token."""

    sizes: Sizes
    begin: int
    classes: int

    @nn.compact
    def __call__(self, batch: Batch, drop: Dropout, edit: Edit) -> Out:
        """The logits [B, C] and the hidden states of a batch."""
        hidden = layers.encode(self.sizes, batch, drop, edit, shift=self.begin)
        head = Head(self.sizes.width, self.classes, self.sizes.dtype, name="classifier")
        return Out(head(hidden[-1], drop), hidden)


def read(config: Config, dtype: str = "float32") -> tuple[Sizes, int]:
    """The sizes, and the position table's row of a first token: the rows up to `pad_token_id` are of no token.

    Raises:
        BadInput: a size is refused, or pad_token_id is odd or leaves no position.
    """
    found, pad = sizes.read(config, dtype), config.get("pad_token_id", 1)
    if type(pad) is not int or not 0 <= pad < found.positions - 1:
        accepted = f"a number from 0 and below max_position_embeddings - 1 ({found.positions - 1})"
        raise BadInput(f"config.json: pad_token_id: found {pad!r}, {accepted} is accepted")
    return found, pad + 1


def names(config: Config) -> dict[str, str]:
    """Our module names, with those of Hugging Face."""
    encoder = layers.names(read(config)[0].layers)
    head = {f"classifier/{layer}": f"classifier.{layer}" for layer in ("dense", "out_proj")}
    return {ours: PREFIX + theirs for ours, theirs in encoder.items()} | head


def positions(config: Config) -> int:
    """As many as the table has rows from that of the first token on."""
    found, begin = read(config)
    return found.positions - begin


FAMILY = Family(
    types=("roberta", "xlm-roberta", "camembert"),
    network=lambda config, classes, dtype="float32": Network(*read(config, dtype), classes),
    names=names,
    positions=positions,
    prefix=PREFIX,
    fresh=("classifier/dense", "classifier/out_proj"),
    optional=(),
    architectures=("RobertaModel", "RobertaForSequenceClassification"),
)
