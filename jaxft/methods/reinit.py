"""Re-initialisation: the upper layers start anew."""

from jaxft import tree
from jaxft.errors import BadInput
from jaxft.models import layers as parts
from jaxft.models import ports
from jaxft.types import Method, Natural, Params

STD = 0.02
"""Of fresh kernels, as BERT was pretrained with."""


def reinit(layers: Natural = 5, pooler: bool = True) -> Method:
    """The upper `layers` layers and the pooler start from fresh values instead of pretrained ones.

    Zhang, Wu, Katiyar, Weinberger and Artzi 2021, "Revisiting few-sample BERT fine-tuning" (arXiv 2006.05987), section
    5: kernels from N(0, 0.02^2), biases 0, LayerNorms scale 1 and shift 0. Each value comes from the trial's init seed
    and the parameter's name: what the model's own `init` would give, so that two init seeds differ in them too.

    Owns: everything, as vanilla.
    Off: layers=0, pooler=False.
    Hazards: 1 to 6 layers in the paper; more harm. RoBERTa has no pooler: the dense layer of its head, which stands in
    its place, is always fresh. A method that measures distance from the start, such as mixout, measures it from these.

    Raises:
        BadInput: the encoder has fewer layers, once the method is traced.
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
