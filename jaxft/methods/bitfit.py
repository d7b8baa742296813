"""BitFit: biases and the head alone are trained."""

from jaxft import tree
from jaxft.types import Method, Params

CLASHES = {
    "lora": "low-rank maps have no biases, so that the head alone would be trained",
    "adapter": "of the adapters the biases alone would be trained",
}


def bitfit() -> Method:
    """Trains all biases and the head; the rest stays as it was pretrained.

    Each b of a linear map or a LayerNorm, in embeddings, layers and pooler, and the task's head:

        p <- p + Adam's update   where p ends in "bias" or is of the head;   p = w0 elsewhere

    Owns: what ends in "bias", and the head whole: 0.1 % of BERT-base. Adam's state is of these alone.
    Off: at no setting is it vanilla.
    Hazards: it wants a larger rate than training everything: 1e-4 to 1e-3 in the paper. A pooler that the checkpoint
    lacks stays random but for its bias. The bias of a key cannot change attention: its gradient is rounding alone.

    Source:
        Ben Zaken, Goldberg and Ravfogel 2022, "BitFit" (arXiv 2106.10199), section 3, equations 1 to 5.
    """

    def own(params: Params, w0: Params, key) -> Params:
        return {name: x for name, x in params.items() if name.endswith("/bias") or tree.head(name)}

    return Method(own=own)
