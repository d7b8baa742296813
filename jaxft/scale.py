"""How many trials an hour so many chips of a kind would train, by the formula of `cost.py`. No jax here."""

from math import ceil
from typing import NamedTuple

from jaxft.cost import Chip, Cost, bound

COUNTS = (1, 8, 64, 256, 1024)  # chips
USABLE = 0.9  # of a chip's memory


class Prediction(NamedTuple):
    """What chips of a kind would do for a study."""

    chip: str
    fits: int
    """How many replicas have room on a chip."""
    enough: int
    """How many keep it busy."""
    rates: tuple[float, ...]
    """Trials per hour, on each of `COUNTS` chips."""
    binds: tuple[str, ...]
    """What keeps each rate from being higher: a field of `Cost`, "memory" or "trials"."""


def predict(
    chip: Chip, dtype: str, trial: Cost, *, trials: int, tokens: float, width: int, memory: float
) -> Prediction:
    """The rates of chips that share nothing but the queue of a study's trials.

    Replicas are independent, so rates grow with the chips, until there are too few trials: all are dealt out evenly, in
    as few waves as have room, and a chip with fewer replicas than keep it busy takes as long as with enough. How many
    that are is a rule of thumb: the smallest matmul of a layer, [tokens, width] in tiles of 128 x 256, is to have two
    tiles for each core.

    Args:
        chip: the kind.
        dtype: the precision of its matmuls, one of `chip.flops`.
        trial: what one trial costs.
        trials: of the study.
        tokens: of a step's batch.
        width: of the model.
        memory: bytes of a replica.
    """
    least = bound(trial, chip, dtype)
    enough = ceil(2 * chip.cores / (ceil(tokens / 128) * ceil(width / 256)))
    fits = int(USABLE * chip.memory / memory)
    if not fits:
        return Prediction(chip.name, 0, enough, (0.0,) * len(COUNTS), ("memory",) * len(COUNTS))
    rates, binds = [], []
    for count in COUNTS:
        waves = ceil(trials / (count * fits))
        held = ceil(trials / (count * waves))
        rates.append(3600 * trials / (waves * max(held, enough) * least.seconds))
        starved = "memory" if fits < enough and waves > 1 else "trials"
        binds.append(least.binds if held >= enough else starved)
    return Prediction(chip.name, fits, enough, tuple(rates), tuple(binds))
