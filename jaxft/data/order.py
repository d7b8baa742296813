"""Which examples each step of a trial reads: its subset, its epochs' orders, its partial batches and its length."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from jaxft import keys
from jaxft.study.trials import Length, Seeds
from jaxft.types import Anywhere


def plan(
    seeds: Seeds,
    length: Length,
    *,
    examples: int,
    batch: int,
    max_epochs: int,
    before: int,
    rows: int,
    labels: Anywhere = None,
    strata: int = 0,
    nested: bool = True,
) -> Int[Array, "rows B"]:
    """One row of example numbers per step; -1 where a step has no example.

    The subset is the first `n_train` of a permutation from the data key, so that a larger subset of the same seed
    holds the smaller one. A stratified one has the first of each class in the same permutation, as many as `quotas`
    says; a larger subset holds the smaller one of every class whose quota has not shrunk. An epoch's order is a
    permutation of all `examples` from the order key and the epoch, with what is not in the subset passed over. The
    lead-in of a method reads in an order of its own, from the noise key.

    Args:
        seeds: of the trial.
        length: of the trial, traced or not: its subset is at most `examples`, its epochs at most `max_epochs`, its
            lead-in at most `before`.
        examples: size of the training set, N.
        batch: examples of a step, B.
        max_epochs: the longest trial's epochs.
        before: rows before that of step 0.
        rows: of the result, S.
        labels: [N] class numbers, for a stratified subset.
        strata: how many classes there are in them; 0 for a subset that is not stratified.
        nested: false for a permutation of its own for each size of the subset.
    """
    n_train, per_epoch, lead = length.n_train, length.per_epoch, length.lead
    data_key = keys.stream(seeds, "data")
    drawn = jax.random.permutation(data_key if nested else keys.at(data_key, n_train), examples)
    outside = ~stratified(jnp.asarray(labels), drawn, n_train, strata) if strata else jnp.argsort(drawn) >= n_train

    def shuffle(key):
        order = jax.random.permutation(key, examples)
        return order[jnp.argsort(outside[order], stable=True)]

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


def stratified(labels: Int[Array, " N"], drawn: Int[Array, " N"], n_train: Anywhere, strata: int) -> Bool[Array, " N"]:
    """Which examples a stratified subset has: of each class the first in the order `drawn`, as many as its quota."""
    counts = (labels[:, None] == jnp.arange(strata)[None, :]).sum(axis=0)
    by_class = drawn[jnp.argsort(labels[drawn], stable=True)]
    place = jnp.argsort(by_class)  # the inverse: where an example lies among all, sorted by class
    return place - (jnp.cumsum(counts) - counts)[labels] < quotas(counts, n_train)[labels]


def quotas(counts: Int[Array, " C"], n_train: Anywhere) -> Int[Array, " C"]:
    """How many of `n_train` examples are of each class, in the proportions of `counts`, by largest remainder.

    Each class has floor(n_train * count / N), and those with the largest remainders one more, until there are
    `n_train`; of equal remainders the lower class number comes first. So none is off its proportion by a whole
    example, and all examples give the counts themselves. Adding examples may take one from a class where there are
    three or more (the Alabama paradox of this rule).

    Args:
        counts: of the classes in the whole training set, N together, which is below 2**29.
        n_train: at most N; traced or not.
    """
    total = counts.sum()
    n_train = jnp.asarray(n_train, counts.dtype)

    def digit(i, carry):
        """Long division, bit by bit of n_train: the product itself has more than 32 bits."""
        quotient, remainder = carry
        bit = (n_train >> (30 - i)) & 1
        remainder = 2 * remainder + bit * counts
        return 2 * quotient + remainder // total, remainder % total

    nothing = jnp.zeros_like(counts)
    floor, remainder = lax.fori_loop(0, 31, digit, (nothing, nothing))
    rank = jnp.argsort(jnp.argsort(-remainder, stable=True))
    return floor + (rank < n_train - floor.sum())
