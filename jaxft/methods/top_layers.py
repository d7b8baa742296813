"""Top-K tuning: the upper layers alone are trained."""

from jaxft import tree
from jaxft.errors import BadInput
from jaxft.types import Count, Method, Params


def top_layers(layers: Count = 6) -> Method:
    """The upper `layers` layers, the pooler and the head are trained; what lies below stays as it was pretrained.

    Top-K tuning, a baseline of Zhang et al. 2022, "Fine-tuning pre-trained language models effectively by optimizing
    subnetworks adaptively" (arXiv 2211.01642), section 4, with K of 3, 6 and 12; for BERT as Houlsby et al. 2019
    (arXiv 1902.00751), section 3.2.

    Owns: layers L - `layers` to L - 1 of L, pooler and head. Adam's state is of these, and backward ends at the lowest.
    Off: at no setting; with all layers the embeddings are still not trained.
    Hazards: more layers than there are is an error; the number shapes the program, so that each is a group of its own.

    Raises:
        BadInput: the encoder has fewer layers, once the method is traced.
    """

    def own(params: Params, w0: Params, key) -> Params:
        there = tree.depth(w0)
        if layers > there:
            raise BadInput(f"method.top_layers.layers: found {layers}, but the model has {there} layers")

        def trained(name: str) -> bool:
            height = tree.height(name)
            return height >= there - layers if height is not None else tree.layer(name) != "embeddings"

        return {name: x for name, x in params.items() if trained(name)}

    return Method(own=own)
