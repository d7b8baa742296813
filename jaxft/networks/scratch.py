"""The encoder itself, without its pretraining."""

from jaxft.networks import Made, Network


def scratch() -> Network:
    """The checkpoint's own architecture with fresh values for all parameters, as its config would have them.

    Source:
        The usual baseline without pretraining; the values are those that pretraining itself begins with.
    """
    return lambda config: Made(config, taken=(), frozen=())
