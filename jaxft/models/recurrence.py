"""The recurrence of an LSTM over packed rows: one loop over time for all rows, both directions and all replicas."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float


@jax.custom_vjp
def recur(
    z: Float[Array, "T ways rows G"],
    kernel: Float[Array, "ways H G"],
    rounded: Float[Array, "ways H G"],
    keep: Bool[Array, "T ways rows"],
) -> Float[Array, "T ways rows H"]:
    """The outputs h of LSTMs (Hochreiter and Schmidhuber 1997; with the forget gate of Gers et al. 2000), no peepholes.

        a = z_t + h_{t-1} U,    i, f, o = sigmoid(a_i, a_f, a_o),   g = tanh(a_g)
        c_t = f c_{t-1} + i g,  h_t = o tanh(c_t);   where not `keep`, h_{t-1} and c_{t-1} are 0 instead

    The gates are in the order i, f, g, o, as in torch, H of each: G = 4 H. Plain, the gradient of U would be added up
    in each step of the loop; by hand it is one matmul after it, and the loop backward has one matmul a step.

    Args:
        z: what the inputs give to the gates, biases included.
        kernel: U of each direction ("ways"), float32.
        rounded: the same in the precision of the matmuls.
        keep: whether a token goes on from the one before it: not at the first token of an example.
    """
    return _forward(z, rounded, keep)[0]


def _forward(z, rounded, keep):
    def step(carry, now):
        h, c = (jnp.where(now[1][..., None], x, 0.0) for x in carry)
        i, f, g, o = jnp.split(now[0].astype(jnp.float32) + _matmul("wrh,whg->wrg", h, rounded), 4, axis=-1)
        i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
        c = f * c + i * g
        h = o * jnp.tanh(c)
        return (h, c), (h, c, jnp.concatenate([i, f, g, o], axis=-1))

    none = jnp.zeros((*z.shape[1:-1], rounded.shape[1]), jnp.float32)
    return lax.scan(step, (none, none), (z, keep))[1]


def _recur(z, kernel, rounded, keep):
    h, c, gates = _forward(z, rounded, keep)
    return h, (jnp.zeros((), z.dtype), rounded, keep, h, c, gates)


def _unrecur(saved, upper):
    like, rounded, keep, h, c, gates = saved

    def before(x):
        return jnp.where(keep[..., None], jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]]), 0.0)

    def step(carry, now):
        dh, dc = carry
        upper, (i, f, g, o), c, last, kept = now[0], jnp.split(now[1], 4, axis=-1), *now[2:]
        t = jnp.tanh(c)
        dh = dh + upper
        dc = dc + dh * o * (1 - t * t)
        # Of each gate, through its sigmoid or tanh.
        da = [dc * g * i * (1 - i), dc * last * f * (1 - f), dc * i * (1 - g * g), dh * t * o * (1 - o)]
        da = jnp.concatenate(da, axis=-1)
        back = _matmul("wrg,wgh->wrh", da, turned)
        return tuple(jnp.where(kept[..., None], x, 0.0) for x in (back, dc * f)), da

    none, turned = jnp.zeros_like(h[0]), rounded.swapaxes(1, 2)  # in each step it would be turned anew
    _, da = lax.scan(step, (none, none), (upper, gates, c, before(c), keep), reverse=True)
    dtype = rounded.dtype
    into = partial(jnp.einsum, preferred_element_type=jnp.float32)
    dkernel = into("twrh,twrg->whg", before(h).astype(dtype), da.astype(dtype))
    return da.astype(like.dtype), dkernel, None, None


def _matmul(how: str, x: Array, rounded: Array) -> Array:
    return jnp.einsum(how, x.astype(rounded.dtype), rounded, preferred_element_type=jnp.float32)


recur.defvjp(_recur, _unrecur)
