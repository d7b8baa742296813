"""Which examples a trial reads, step by step."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.data.order import plan, quotas
from jaxft.study.trials import Length, Seeds


def rows(
    seeds=(0, 0, 0, 0, 0), n_train=10, epochs=3, examples=10, batch=4, max_epochs=3, lead=0, before=0, rows=9, **strata
):
    """The plan as numpy."""
    jitted = jax.jit(
        lambda s, n, e, k: plan(
            Seeds(*s),
            Length(n, e, (n + batch - 1) // batch, k, 0),
            examples=examples,
            batch=batch,
            max_epochs=max_epochs,
            before=before,
            rows=rows,
            **strata,
        )
    )
    return np.asarray(jitted(tuple(np.uint32(s) for s in seeds), np.int32(n_train), np.int32(epochs), np.int32(lead)))


def test_every_epoch_is_a_permutation_with_a_partial_last_batch():
    table = rows()
    orders = [table[3 * e : 3 * e + 3].ravel() for e in range(3)]
    for order in orders:
        assert sorted(order[:10]) == list(range(10))
        assert (order[10:] == -1).all()
    assert not np.array_equal(orders[0], orders[1])


def test_the_order_seed_alone_moves_the_order():
    base = rows()
    assert np.array_equal(base, rows(seeds=(5, 0, 6, 7, 8)))
    assert not np.array_equal(base, rows(seeds=(0, 1, 0, 0, 0)))


def test_a_shorter_trial_is_the_beginning_of_a_longer_one_then_padding():
    table = rows(epochs=1)
    assert np.array_equal(table[:3], rows()[:3])
    assert (table[3:] == -1).all()


def test_subsets_of_one_data_seed_are_nested_and_another_seed_draws_another():
    small, large = rows(n_train=4), rows(n_train=7)
    chosen_small, chosen_large = set(small.ravel()) - {-1}, set(large.ravel()) - {-1}
    assert len(chosen_small) == 4
    assert len(chosen_large) == 7
    assert chosen_small < chosen_large
    others = [set(rows(seeds=(0, 0, 0, 0, d), n_train=4).ravel()) - {-1} for d in range(1, 4)]
    assert any(other != chosen_small for other in others)
    # 4 of 10 in batches of 4: one step an epoch, three epochs, then nothing.
    assert (small[:3] >= 0).all()
    assert (small[3:] == -1).all()


@pytest.mark.parametrize("n_train", [10, 6])
def test_a_lead_in_has_an_order_of_its_own_and_moves_no_step(n_train):
    per_epoch = -(-n_train // 4)
    led = rows(lead=per_epoch, before=5, rows=14, n_train=n_train)
    assert np.array_equal(led[5:], rows(n_train=n_train))
    # It lies right before step 0; what is left of the rows before reads nothing.
    before = led[5 - per_epoch : 5].ravel()
    assert (led[: 5 - per_epoch] == -1).all()
    assert sorted(before[before >= 0]) == sorted(set(led[5:].ravel()) - {-1})
    assert not np.array_equal(before, led[5 : 5 + per_epoch].ravel())


def hamilton(counts, n_train: int) -> list[int]:
    """Quotas by largest remainder, in exact fractions."""
    exact = [Fraction(n_train * int(count), int(sum(counts))) for count in counts]
    whole = [int(x) for x in exact]
    by_remainder = sorted(range(len(counts)), key=lambda c: (whole[c] - exact[c], c))
    return [q + (c in by_remainder[: n_train - sum(whole)]) for c, q in enumerate(whole)]


def test_quotas_are_those_of_exact_fractions():
    rng = np.random.default_rng(0)
    jitted = jax.jit(quotas)
    for _ in range(300):
        counts = rng.integers(0, [10, 1000, 150_000_000][rng.integers(3)], rng.integers(2, 6)) + 1
        n_train = int(rng.integers(0, counts.sum() + 1))
        found = np.asarray(jitted(jnp.asarray(counts, jnp.int32), jnp.int32(n_train)))
        assert found.tolist() == hamilton(counts, n_train), (counts, n_train)
        assert found.sum() == n_train
    assert quotas(jnp.array([130899, 130900, 130903]), 8000).tolist() == [2666, 2667, 2667]  # MNLI's classes
    assert quotas(jnp.array([3, 3, 3]), 1).tolist() == [1, 0, 0]


@pytest.mark.parametrize("n_train", [4, 10, 23, 40])
def test_a_stratified_subset_keeps_the_proportions(n_train):
    labels = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [25, 11, 4]))
    strata = {"examples": 40, "labels": labels, "strata": 3, "n_train": n_train, "epochs": 2, "rows": 20}
    seen = []
    for data in range(4):
        table = rows(seeds=(0, 0, 0, 0, data), **strata)
        chosen = set(table.ravel()) - {-1}
        assert np.bincount(labels[sorted(chosen)], minlength=3).tolist() == hamilton([25, 11, 4], n_train)
        per_epoch = -(-n_train // 4)
        for epoch in range(2):  # each has all of them once
            there = table[epoch * per_epoch : (epoch + 1) * per_epoch].ravel()
            assert sorted(there[there >= 0]) == sorted(chosen)
        assert chosen == set(rows(seeds=(9, 8, 7, 6, data), **strata).ravel()) - {-1}, "another seed than data's counts"
        seen.append(frozenset(chosen))
    assert len(set(seen)) == (4 if n_train < 40 else 1)


def test_a_stratified_subset_has_the_first_of_each_class_in_the_order_that_others_are_drawn_in():
    labels = np.arange(40) % 2
    strata = {"examples": 40, "epochs": 1, "max_epochs": 1, "rows": 10}
    one_by_one = [set(rows(n_train=n, **strata).ravel()) - {-1} for n in range(41)]
    drawn = [(one_by_one[n + 1] - one_by_one[n]).pop() for n in range(40)]
    chosen = set(rows(n_train=12, labels=labels, strata=2, **strata).ravel()) - {-1}
    assert chosen == {*[i for i in drawn if labels[i] == 0][:6], *[i for i in drawn if labels[i] == 1][:6]}
    assert chosen != one_by_one[12]


def test_the_whole_set_is_the_same_stratified_or_not():
    assert np.array_equal(rows(), rows(labels=np.arange(10) % 3, strata=3))


def test_trials_of_unequal_subsets_and_data_seeds_lie_side_by_side():
    labels = np.arange(40) % 3

    def one(n_train, data):
        length = Length(n_train, 2, (n_train + 3) // 4, 0, 0)
        sizes = {"examples": 40, "batch": 4, "max_epochs": 2, "before": 0, "rows": 20}
        return plan(Seeds(0, 1, 2, 3, data), length, **sizes, labels=jnp.asarray(labels), strata=3)

    sizes, seeds = np.array([6, 17, 40, 6], np.int32), np.array([0, 1, 2, 3], np.uint32)
    together = jax.jit(jax.vmap(one))(sizes, seeds)
    for row, n_train, data in zip(np.asarray(together), sizes, seeds, strict=True):
        assert np.array_equal(row, one(n_train, data))
    assert not np.array_equal(together[0], together[3])


def test_independent_subsets_are_draws_of_their_own():
    """Of one data seed a larger subset does not hold the smaller one; nested it does. Each has its size."""

    def subset(n_train, nested):
        length = Length(n_train, 1, -(-n_train // 8), 0, 1)
        how = {"examples": 200, "batch": 8, "max_epochs": 1, "before": 0, "rows": 25, "nested": nested}
        rows = np.asarray(plan(Seeds(*map(np.uint32, (0, 1, 1, 1, 5))), length, **how))
        return set(rows[rows >= 0].tolist())

    small, large = (subset(n, True) for n in (40, 80))
    assert small < large
    assert (len(small), len(large)) == (40, 80)
    small, large = (subset(n, False) for n in (40, 80))
    assert (len(small), len(large)) == (40, 80)
    assert 5 < len(small & large) < 28  # 16 by chance
