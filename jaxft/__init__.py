"""jaxft: fine-tune many seed variants of one pretrained encoder at once.

A study is read from a file or made of keys, `run` trains it and gives its run folder, `load` reads that as data frames:

>>> import jaxft
>>> study = jaxft.make("configs/quickstart.yaml", seeds={"init": "1..2", "order": 1}, train={"epochs": 1})
>>> jaxft.load(jaxft.run(study)).trials                # doctest: +SKIP

`plan` says what a study takes; `task` and `method` add your own; `jaxft.stats` has a module for each question to the
scores. `jaxft/api.py` has them with examples.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    **dict.fromkeys(("read", "make", "plan", "run", "load", "task", "method", "policy", "Study"), "api"),
    **dict.fromkeys(("BadInput", "Note"), "errors"),
}
_MODULES = ("stats",)


def __getattr__(name: str) -> Any:
    """Loads what is asked for, and jax with it only where it is needed."""
    if name in _MODULES:
        return import_module(f"jaxft.{name}")
    if name not in _NAMES:
        raise AttributeError(f"module 'jaxft' has no attribute {name!r}")
    return getattr(import_module(f"jaxft.{_NAMES[name]}"), name)


def __dir__() -> list[str]:
    """What there is, for completion."""
    return sorted([*globals(), *_NAMES, *_MODULES])
