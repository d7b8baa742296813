"""Re-initialisation: the upper layers start anew."""

from jaxft import tree
from jaxft.errors import BadInput
from jaxft.models import layers as parts
from jaxft.models import ports
from jaxft.types import Method, Natural, Params

STD = 0.02
"""Of fresh kernels, as in BERT's pretraining."""


def reinit(layers: Natural = 5, pooler: bool = True) -> Method:
    """Starts the upper layers and the pooler from fresh values instead of pretrained ones.

    Of L layers, counted from 0, in layers L - N to L - 1 and in the pooler:

        kernels from N(0, 0.02^2),   biases 0,   LayerNorms scale 1 and shift 0

    Each value comes from the trial's init seed and the parameter's name alone, as those of a new head do: what the
    model's own `init` gives where its config says 0.02 too. So two init seeds differ in them.

    Owns: what it would without.
    Off: at layers = 0 and pooler = False it is vanilla.
    Hazards: the best N is 1 to 6 in the paper, another one for each data set; a larger one harms. RoBERTa has no
    pooler: the dense layer of its head, in the same place, is always new. What measures the way from the start, such as
    mixout, measures it from these values.

    Args:
        layers: N.
        pooler: whether the pooler starts anew too.

    Raises:
        BadInput: the encoder has fewer layers (when the method is traced).

    Source:
        Zhang, Wu, Katiyar, Weinberger and Artzi 2021, "Revisiting few-sample BERT fine-tuning" (arXiv 2006.05987),
        section 5.
    """

    def start(w0: Params, key) -> Params:
        there = tree.depth(w0)
        if layers > there:
            raise BadInput(f"method.reinit.layers: found {layers}, but the model has {there} layers")

        def anew(name: str) -> bool:
            height = tree.height(name)
            return height >= there - layers if height is not None else pooler and tree.layer(name) == "pooler"

        shapes = {name: x.shape for name, x in w0.items() if anew(name) and not ports.added(name)}
        return {**w0, **parts.fresh(key, shapes, STD)}

    return Method(start=start)
