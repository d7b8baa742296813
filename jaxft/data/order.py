"""Which examples each step of a trial reads: its subset, its epochs' orders, its partial batches and its length."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxft import keys
from jaxft.trials import Seeds


def steps_per_epoch(n_train, batch: int):
    """How many steps an epoch has; the last may be a partial batch."""
    return (n_train + batch - 1) // batch


def plan(
    seeds: Seeds, n_train, epochs, *, examples: int, batch: int, max_epochs: int, lead: int, rows: int
) -> Int[Array, "rows B"]:
    """One row of example numbers per step; -1 where a step has no example.

    The subset is the first `n_train` of a permutation from the data key, so that a larger subset of the same seed
    holds the smaller one. An epoch's order is a permutation of all `examples` from the order key and the epoch, with
    what is not in the subset passed over. The rows before `lead` serve the method's lead-in, in an order of its own
    from the noise key; row `lead` is step 0.

    Args:
        seeds: of the trial.
        n_train: size of its subset, at most `examples`; may be traced.
        epochs: how many it trains, at most `max_epochs`; may be traced.
        examples: size of the training set, N.
        batch: examples of a step, B.
        max_epochs: the longest trial's epochs.
        lead: rows before step 0.
        rows: of the result, S.
    """
    per_epoch = steps_per_epoch(n_train, batch)
    rank = jnp.argsort(jax.random.permutation(keys.stream(seeds, "data"), examples))
    order_key, noise_key = keys.stream(seeds, "order"), keys.stream(seeds, "noise")

    def shuffle(key):
        order = jax.random.permutation(key, examples)
        return order[jnp.argsort(rank[order] >= n_train, stable=True)]

    orders = [shuffle(keys.at(order_key, epoch)) for epoch in range(max_epochs)]
    if lead:
        orders.append(shuffle(keys.named(noise_key, "lead")))
    orders = jnp.stack(orders)

    step = jnp.arange(rows) - lead
    epoch = jnp.where(step < 0, max_epochs, step // per_epoch)
    place = (step % per_epoch)[:, None] * batch + jnp.arange(batch)[None, :]
    chosen = orders[jnp.minimum(epoch, len(orders) - 1)[:, None], jnp.minimum(place, examples - 1)]
    there = (place < n_train) & (step < per_epoch * epochs)[:, None]
    return jnp.where(there, chosen, -1).astype(jnp.int32)
