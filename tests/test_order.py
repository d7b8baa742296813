"""Which examples a trial reads, step by step."""

import jax
import numpy as np
import pytest

from jaxft.data.order import plan
from jaxft.trials import Length, Seeds


def rows(seeds=(0, 0, 0, 0, 0), n_train=10, epochs=3, examples=10, batch=4, max_epochs=3, lead=0, before=0, rows=9):
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
