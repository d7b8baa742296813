"""The rows of the embeddings that a task can touch: only these are trained, and the others are put back.

A row that no batch reads has gradient 0 and Adam moments 0, so that it moves by weight decay alone, whatever the data.
To leave it out is therefore exact. It is most of a small encoder: half of MiniLM's parameters are word embeddings.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Int

from jaxft.models import family
from jaxft.types import Anywhere, Split

WORD, POSITION = "embeddings/word/embedding", "embeddings/position/embedding"
SIZE = {WORD: "vocab_size", POSITION: "max_position_embeddings"}
"""Where a config says how many rows a table has."""
START = "decoder_start_token_id"
"""Where a config names the token that a family's network puts in of itself, if it does (`Family.begin`)."""

Kept = Mapping[str, Int[np.ndarray, " rows"]]
"""The kept rows of each table, ascending; a table that is not named is kept whole."""


def kept(config: family.Config, splits: Iterable[Split]) -> Kept:
    """The rows that examples of these splits can touch: their tokens, and positions up to the longest of them."""
    splits, kind = list(splits), family.find(config)
    begin = kind.begin(config)
    first = [] if begin is None else [[begin]]  # which a decoder puts before a text
    words = np.unique(np.concatenate([*(np.unique(split.tokens) for split in splits), *first])).astype(np.int32)
    if POSITION.rpartition("/")[0] not in kind.names(config):
        return {WORD: words}
    longest = max(int(np.diff(split.offsets).max()) for split in splits)
    before = config[SIZE[POSITION]] - kind.positions(config)
    return {WORD: words, POSITION: np.arange(before + longest, dtype=np.int32)}


def renumbered(split: Split, kept: Kept) -> Split:
    """The same examples, their tokens numbered as the kept rows are."""
    words = kept[WORD]
    return split._replace(tokens=np.searchsorted(words, split.tokens).astype(np.min_scalar_type(len(words) - 1)))


def smaller(config: family.Config, kept: Kept) -> family.Config:
    """The config of an encoder that has only the kept rows."""
    found = {**config, **{SIZE[table]: len(rows) for table, rows in kept.items()}}
    begin = family.find(config).begin(config)
    if begin is not None and WORD in kept:
        found[START] = int(np.searchsorted(kept[WORD], begin))
    return found


def cut(params: Mapping[str, Anywhere], kept: Kept) -> dict[str, Anywhere]:
    """Parameters with only the kept rows of their tables."""
    return {name: value[kept[name]] if name in kept else value for name, value in params.items()}


def restored(whole: Mapping[str, Anywhere], params: Mapping[str, Anywhere], kept: Kept) -> dict[str, np.ndarray]:
    """`params`, their tables with all rows: those that were not kept are from `whole`, as is what `params` lack."""
    found = {name: np.array(value) for name, value in whole.items()}
    for name, value in params.items():
        if name in kept:
            found[name][kept[name]] = value
        else:
            found[name] = np.asarray(value)
    return found
