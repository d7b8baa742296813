"""Fine-tuning as it is: every parameter, the task's loss, nothing else."""

from jaxft.types import Method


def vanilla() -> Method:
    """The method that changes nothing."""
    return Method()
