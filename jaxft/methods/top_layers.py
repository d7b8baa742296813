"""Top-K tuning: the upper layers alone are trained."""

from jaxft import tree
from jaxft.errors import BadInput
from jaxft.types import Count, Method, Params


def top_layers(layers: Count = 6) -> Method:
    """Trains the upper layers, the pooler and the head; what lies below stays as it was pretrained.

    Of L layers, counted from 0:

        p <- p + Adam's update   in layers L - K to L - 1, pooler and head;   p = w0 elsewhere

    Owns: these, and Adam's state of them; backward ends at the lowest.
    Off: at no setting is it vanilla: with K = L the embeddings still stay.
    Hazards: each K is a program of its own.

    Args:
        layers: K; 3, 6 and 12 are usual.

    Raises:
        BadInput: the encoder has fewer layers (when the method is traced).

    Source:
        The baseline of that name in Zhang et al. 2022 (arXiv 2211.01642), section 4; as "variable fine-tuning" in
        Houlsby et al. 2019 (arXiv 1902.00751), section 3.2.
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
