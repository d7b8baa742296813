"""The tokens that a block reads, of a training set that stays in host memory."""

import numpy as np
from jaxtyping import Int

from jaxft.types import Split, Window

NONE = np.iinfo(np.int32).max


class Windows:
    """Makes windows of one size, that of the most that so many examples can be.

    Nothing of the split is copied, which may be mapped from a file.
    """

    def __init__(self, split: Split, most: int):
        """Of at most so many examples each."""
        self._tokens, self._offsets = split.tokens, np.asarray(split.offsets)
        lengths = np.diff(self._offsets)
        self._count = min(most, len(lengths))
        self._room = int(np.partition(lengths, len(lengths) - self._count)[len(lengths) - self._count :].sum())

    @property
    def empty(self) -> Window:
        """One of no examples."""
        nothing = np.zeros(self._count, np.int32)
        return Window(np.full_like(nothing, NONE), nothing, np.zeros(self._room, self._tokens.dtype))

    def of(self, ids: Int[np.ndarray, "..."]) -> Window:
        """Of these examples, each once; numbers below 0 are none."""
        window, wanted = self.empty, np.unique(ids)
        wanted = wanted[wanted >= 0]
        begin, lengths = self._offsets[wanted], self._offsets[wanted + 1] - self._offsets[wanted]
        starts = np.cumsum(lengths) - lengths
        places = np.arange(lengths.sum()) + np.repeat(begin - starts, lengths)
        window.ids[: len(wanted)], window.starts[: len(wanted)] = wanted, starts
        window.tokens[: len(places)] = self._tokens[places]
        return window
