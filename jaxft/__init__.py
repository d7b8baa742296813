"""jaxft: fine-tune many seed variants of one pretrained encoder at once.

`jaxft.read(path)` reads a study, `jaxft.plan(study)` says what it takes, `jaxft.run(study)` trains it and gives its
run folder, and `jaxft.load(folder)` reads that as data frames.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_NAMES = {"read": ("config", "load"), "plan": ("forecast", "plan"), "run": ("train", "run"), "load": ("store", "load")}


def __getattr__(name: str) -> Any:
    """Loads what is asked for, and jax with it only where it is needed."""
    if name not in _NAMES:
        raise AttributeError(f"module 'jaxft' has no attribute {name!r}")
    module, attribute = _NAMES[name]
    return getattr(import_module(f"jaxft.{module}"), attribute)
