"""ELECTRA's discriminator with a classifier (Clark et al. 2020, arXiv 2003.10555).

BERT's encoder, whose embeddings may be narrower than its layers (then one linear map widens them), and RoBERTa's head
with gelu instead of tanh.
"""

from flax import linen as nn

from jaxft.errors import BadInput
from jaxft.models import layers, sizes
from jaxft.models.dropout import Dropout
from jaxft.models.family import Config, Family
from jaxft.models.operations import gelu
from jaxft.models.roberta import Head
from jaxft.models.sizes import Sizes
from jaxft.types import Batch, Edit, Out

PREFIX = "electra."


class Network(nn.Module):
    """Encoder and head."""

    sizes: Sizes
    classes: int

    @nn.compact
    def __call__(self, batch: Batch, drop: Dropout, edit: Edit) -> Out:
        """The logits [B, C] and the hidden states of a batch; the first are the widened embeddings."""
        hidden = layers.encode(self.sizes, batch, drop, edit)
        head = Head(self.sizes.width, self.classes, self.sizes.dtype, gelu, name="classifier")
        return Out(head(hidden[-1], drop), hidden)


def read(config: Config, dtype: str = "float32") -> Sizes:
    """The sizes.

    Raises:
        BadInput: one is refused.
    """
    across = config.get("embedding_size", 128)
    if type(across) is not int or not 1 <= across < 2**31:
        raise BadInput(f"config.json: embedding_size: found {across!r}, a positive integer is accepted")
    return sizes.read(config, dtype)._replace(embedding=across)


def names(config: Config) -> dict[str, str]:
    """Our module names, with those of Hugging Face."""
    found = read(config)
    encoder = layers.names(found.layers)
    if found.embedding != found.width:
        encoder["embeddings/project"] = "embeddings_project"
    head = {f"classifier/{layer}": f"classifier.{layer}" for layer in ("dense", "out_proj")}
    return {ours: PREFIX + theirs for ours, theirs in encoder.items()} | head


FAMILY = Family(
    types=("electra",),
    network=lambda config, classes, dtype="float32": Network(read(config, dtype), classes),
    names=names,
    positions=lambda config: read(config).positions,
    prefix=PREFIX,
    fresh=("classifier/dense", "classifier/out_proj"),
    optional=(),
    architectures=("ElectraModel", "ElectraForSequenceClassification"),
)
