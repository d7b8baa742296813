"""A rare branch stays rare under vmap; thresholds are those of a sort."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jaxft.rare import cond_any, kth

FLOATS = st.floats(width=32, allow_nan=False)
KTH = jax.jit(kth)


@settings(deadline=None, max_examples=60)
@given(arrays.arrays(np.float32, 12, elements=FLOATS | st.sampled_from([0.0, -0.0, 1.0, np.inf, -np.inf, 1e-45])))
def test_kth_is_that_of_a_sort(x):
    """Ties, both zeros, subnormal numbers and infinities among them, for every k, which is traced."""
    ordered = np.sort(x)[::-1]
    for k in range(1, len(x) + 1):
        assert KTH(x, k) == ordered[k - 1]


@pytest.mark.parametrize("shape", [(1,), (7, 9), (3, 40, 11)])
def test_kth_of_any_shape_and_of_several_arrays(shape):
    rng = np.random.default_rng(0)
    parts = {name: np.square(rng.normal(size=shape)).astype(np.float32) for name in ("a", "b")}
    for x in (parts["a"], parts):
        ordered = np.sort(np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(x)]))[::-1]
        for k in {1, len(ordered) // 3 or 1, len(ordered)}:
            assert KTH(x, k) == ordered[k - 1]


def test_kth_under_vmap_with_a_k_of_its_own():
    x = np.random.default_rng(1).normal(size=(4, 33)).astype(np.float32)
    k = jnp.array([1, 5, 17, 33])
    expected = [np.sort(row)[::-1][n - 1] for row, n in zip(x, k.tolist(), strict=True)]
    np.testing.assert_array_equal(jax.jit(jax.vmap(kth))(x, k), expected)


def test_a_mask_from_kth_keeps_so_many():
    x = np.random.default_rng(2).permutation(1000).astype(np.float32).reshape(20, 50)
    for k in (1, 300, 1000):
        assert int((x >= KTH(x, k)).sum()) == k


def test_cond_any_under_vmap_is_a_cond_of_each():
    def one(p, x):
        return cond_any(p, lambda x: x * 2, lambda x: x + 1, x)

    x = jnp.arange(4.0)
    for chosen in ([False] * 4, [True, False, False, True], [True] * 4):
        p = jnp.array(chosen)
        np.testing.assert_array_equal(jax.jit(jax.vmap(one))(p, x), jnp.where(p, x * 2, x + 1))
        alone = [one(a, b) for a, b in zip(p, x, strict=True)]
        np.testing.assert_array_equal(jnp.stack(alone), jnp.where(p, x * 2, x + 1))


def test_the_rare_branch_does_not_run_where_nobody_needs_it():
    ran = []

    def rare(x):
        jax.debug.callback(lambda: ran.append(1))
        return x

    def many(p, x):
        return jax.vmap(lambda p, x: cond_any(p, rare, lambda x: x + 1, x))(p, x)

    compiled = jax.jit(many)
    jax.block_until_ready(compiled(jnp.zeros(3, bool), jnp.zeros(3)))
    jax.effects_barrier()
    assert not ran
    jax.block_until_ready(compiled(jnp.array([False, True, False]), jnp.zeros(3)))
    jax.effects_barrier()
    assert ran
