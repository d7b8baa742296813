"""BERT with a classifier (Devlin et al. 2019): post-norm encoder, pooled first token, one linear head."""

import jax.numpy as jnp
from flax import linen as nn

from jaxft.models import layers, sizes
from jaxft.models.dropout import Dropout
from jaxft.models.family import Config, Family
from jaxft.models.layers import Linear, dense
from jaxft.models.sizes import Sizes
from jaxft.types import Batch, Edit, Out

PREFIX = "bert."


class Network(nn.Module):
    """Encoder, pooler and classifier, with dropout on what comes out of each."""

    sizes: Sizes
    classes: int

    @nn.compact
    def __call__(self, batch: Batch, drop: Dropout, edit: Edit) -> Out:
        """The logits [B, C] and the hidden states of a batch."""
        width, dtype = self.sizes.width, self.sizes.dtype
        hidden = layers.encode(self.sizes, batch, drop, edit)
        pooled = jnp.tanh(dense(hidden[-1], Linear(width, width, dtype, name="pooler")()))
        logits = dense(drop("pooler", pooled), Linear(width, self.classes, name="classifier")())
        return Out(logits, hidden)


def names(config: Config) -> dict[str, str]:
    """Our module names, with those of Hugging Face."""
    encoder = layers.names(sizes.read(config).layers) | {"pooler": "pooler.dense"}
    return {ours: PREFIX + theirs for ours, theirs in encoder.items()} | {"classifier": "classifier"}


FAMILY = Family(
    types=("bert",),
    network=lambda config, classes, dtype="float32": Network(sizes.read(config, dtype), classes),
    names=names,
    positions=lambda config: sizes.read(config).positions,
    prefix=PREFIX,
    fresh=("classifier",),
    optional=("pooler",),
    architectures=("BertModel", "BertForSequenceClassification"),
)
