"""BitFit: biases and the head alone are trained."""

from jaxft import tree
from jaxft.types import Method, Params


def bitfit() -> Method:
    """All biases and the head are trained, the rest stays as it was pretrained.

    Ben Zaken, Ravfogel and Goldberg 2022, "BitFit: simple parameter-efficient fine-tuning for transformer-based masked
    language-models" (arXiv 2106.10199), equations 1 to 5: each b of a linear map or a LayerNorm, in the embeddings, the
    layers and the pooler, and the task's classifier.

    Owns: what ends in "bias", and the whole head; in a model of BERT's base size 0.1 % of it. Adam's state is of these.
    Off: at no setting; it has no arguments.
    Hazards: it wants a larger rate than full fine-tuning, 1e-4 to 1e-3 in the paper. A pooler that the checkpoint lacks
    stays random but for its bias. The bias of a key has no effect on attention, so that its gradient is rounding alone.
    """

    def own(params: Params, w0: Params, key) -> Params:
        return {name: x for name, x in params.items() if name.endswith("/bias") or tree.head(name)}

    return Method(own=own)


CLASHES = {
    "lora": "low-rank maps are no biases: the head alone would be trained",
    "adapter": "of adapters the biases alone would be trained",
}
