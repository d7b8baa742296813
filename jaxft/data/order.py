"""Which examples each step of a trial reads: its subset, its epochs' orders, its partial batches and its length."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from jaxft import keys
from jaxft.trials import Length, Seeds


def plan(
    seeds: Seeds, length: Length, *, examples: int, batch: int, max_epochs: int, before: int, rows: int
) -> Int[Array, "rows B"]:
    """One row of example numbers per step; -1 where a step has no example.

    The subset is the first `n_train` of a permutation from the data key, so that a larger subset of the same seed
    holds the smaller one. An epoch's order is a permutation of all `examples` from the order key and the epoch, with
    what is not in the subset passed over. The lead-in of a method reads in an order of its own, from the noise key.

    Args:
        seeds: of the trial.
        length: of the trial, traced or not: its subset is at most `examples`, its epochs at most `max_epochs`, its
            lead-in at most `before`.
        examples: size of the training set, N.
        batch: examples of a step, B.
        max_epochs: the longest trial's epochs.
        before: rows before that of step 0.
        rows: of the result, S.
    """
    n_train, per_epoch, lead = length.n_train, length.per_epoch, length.lead
    rank = jnp.argsort(jax.random.permutation(keys.stream(seeds, "data"), examples))

    def shuffle(key):
        order = jax.random.permutation(key, examples)
        return order[jnp.argsort(rank[order] >= n_train, stable=True)]

    order_key = keys.stream(seeds, "order")
    orders = lax.map(lambda epoch: shuffle(keys.at(order_key, epoch)), jnp.arange(max_epochs))
    if before:
        leading = shuffle(keys.named(keys.stream(seeds, "noise"), "lead"))
        orders = jnp.concatenate([orders, leading[None]])

    step = jnp.arange(rows) - before
    epoch = jnp.where(step < 0, max_epochs, jnp.minimum(step // per_epoch, max_epochs - 1))
    place = (step % per_epoch)[:, None] * batch + jnp.arange(batch)[None, :]
    chosen = orders[epoch[:, None], jnp.minimum(place, examples - 1)]
    reads = (step >= -lead) & (step < length.total)
    return jnp.where(reads[:, None] & (place < n_train), chosen, -1).astype(jnp.int32)
