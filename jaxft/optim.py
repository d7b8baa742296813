"""Optimisers and schedules for one replica; every float may be traced, and differ from replica to replica."""

from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxft import tree
from jaxft.touched import Grads, Rows
from jaxft.types import Ctx, Hyper, Params, Tx


class Adam(NamedTuple):
    """The state of both optimisers: running means of the gradient and of its square, shaped like it."""

    mu: Params
    nu: Params


def schedule(name: str, warmup, step, total, in_epoch=0) -> Float[Array, ""]:
    """The factor of the peak rate at `step`, from 0 to 1, float32.

    `linear`, `cosine` and `constant` rise over the first ceil(warmup * total) steps, then fall to 0 at
    `total` or stay at 1, as the schedules of Hugging Face. `linear_unscaled` is that of BERT's first PyTorch
    port: with x = step / total, it is x / warmup, then 1 - x, and drops to 1 - warmup where the warm-up ends;
    past `total` it stays at 0. `linear_twice` is what the code of Dodge et al. 2020 came to: that of `in_epoch`
    times that of `step`, not held at 0, so that the few steps past `total` go a little uphill.

    Args:
        name: linear, linear_unscaled, linear_twice, cosine or constant.
        warmup: share of the steps, 0 to 1; 0 for none.
        step: steps taken before this one, below 2**24.
        total: steps in all.
        in_epoch: steps taken in this epoch before this one.
    """
    warmup, step, total, in_epoch = (jnp.asarray(x, jnp.float32) for x in (warmup, step, total, in_epoch))
    product = warmup * total
    # A whole number of steps may come out a share of 2**-23 too large in float32, and ceil would add one.
    rising = jnp.ceil(product * (1 - 2**-22))
    falling = jnp.maximum(total - rising, 1)
    up = step / jnp.maximum(rising, 1)

    def unscaled(count):
        return jnp.where(count < rising, count / jnp.where(product > 0, product, 1), 1 - count / total)

    match name:
        case "linear":
            down = jnp.maximum((total - step) / falling, 0)
        case "linear_unscaled":
            return jnp.maximum(unscaled(step), 0)
        case "linear_twice":
            return unscaled(in_epoch) * unscaled(step)
        case "cosine":
            # (1 + cos(2 x)) / 2, without cancellation near the end
            down = jnp.cos(jnp.pi / 2 * (step - rising) / falling) ** 2
        case "constant":
            down = jnp.float32(1)
        case _:
            raise ValueError(f"no schedule {name!r}")
    return jnp.where(step < rising, up, down)


@cache
def maker(optimizer: str, clip_by: str) -> Callable[[Hyper], Tx]:
    """`make` of one kind of optimiser, the same function each time."""
    return partial(make, optimizer, clip_by)


def make(optimizer: str, clip_by: str, hyper: Hyper) -> Tx:
    """The optimiser of one replica: clips the gradients, then updates with the rate `ctx.lr`.

    `adamw`: Loshchilov and Hutter 2019, algorithm 2, as in torch; bias corrected with `ctx.step` + 1.
    `bertadam`: as BERT was released (Devlin et al. 2019), the same without bias correction.
    Weight decay is decoupled, scaled by the rate, and spares biases and LayerNorm (see `decays`).

    Args:
        optimizer: adamw or bertadam.
        clip_by: global (one norm over all parameters) or tensor (each parameter its own).
        hyper: gives "train.b1", "train.b2", "train.eps", "train.weight_decay" and "train.clip" as scalars.
    """
    bias = {"adamw": _bias, "bertadam": lambda decay, step: 1.0}[optimizer]
    clip = {"global": _clip_global, "tensor": _clip_tensor}[clip_by]

    def init(params: Params) -> Adam:
        return Adam(jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params))

    def update(grads: Grads, state: Adam, params: Params, ctx: Ctx) -> tuple[Params, Adam]:
        decay, eps = (hyper("train.b1"), hyper("train.b2")), hyper("train.eps")
        biases = tuple(bias(beta, ctx.step) for beta in decay)
        mu, nu, updates = {}, {}, {}
        for name, g in clip(grads, hyper("train.clip")).items():
            mu[name], nu[name], direction = _adam(_whole(g), state.mu[name], state.nu[name], decay, biases, eps)
            if decays(name):
                direction += hyper("train.weight_decay") * params[name]
            updates[name] = -ctx.lr * direction
        return updates, Adam(mu, nu)

    return Tx(init, update)


def decays(name: str) -> bool:
    """Whether weight decay acts on a parameter: not on a "bias", nor below a part that ends in "norm"."""
    *path, leaf = name.split("/")
    return leaf != "bias" and not any(part.endswith("norm") for part in path)


def held(inner: Tx) -> Tx:
    """The same optimiser, which stands still in a method's lead-in."""

    def update(grads: Params, state, params: Params, ctx: Ctx):
        updates, after = inner.update(grads, state, params, ctx)
        moves = ctx.step >= 0
        return updates, jax.tree.map(lambda new, old: jnp.where(moves, new, old), after, state)

    return Tx(inner.init, update)


def norm(leaves) -> Float[Array, ""]:
    """The L2 norm over all leaves of a tree, summed in the sorted order of their names."""
    values = (x.values if isinstance(x, Rows) else x for x in jax.tree.leaves(leaves))
    return jnp.sqrt(sum((jnp.sum(x * x) for x in values), jnp.float32(0)))


def norms(grads: Grads, layers: Iterable[str]) -> dict[str, Float[Array, ""]]:
    """The L2 norm of each layer (see `tree.layer`); NaN for one of which nothing is trained.

    From the sums of squares, one per tensor, that `norm` of the whole takes too: XLA computes them once.
    """
    parts = {layer: [g for name, g in sorted(grads.items()) if tree.layer(name) == layer] for layer in layers}
    return {layer: norm(part) if part else jnp.float32(jnp.nan) for layer, part in parts.items()}


@jax.jit
def _adam(g, mu, nu, decay, biases, eps):
    """One parameter's new means and direction; a program of its own, so that parameters of a shape are traced once."""
    (b1, b2), (bias1, bias2) = decay, biases
    mu, nu = b1 * mu + (1 - b1) * g, b2 * nu + (1 - b2) * (g * g)
    return mu, nu, mu / bias1 / (jnp.sqrt(nu / bias2) + eps)


def _bias(decay, step):
    """1 - decay ** (step + 1), a mean's share that is known; the plain power would lose four digits at .999, step 0."""
    return -jnp.expm1(jnp.maximum(step + 1, 1) * jnp.log1p(decay - 1))


def _scale(size, clip):
    """As torch.nn.utils.clip_grad_norm_; exactly 1 where `clip` is 0."""
    return jnp.where(clip > 0, jnp.minimum(clip / (size + 1e-6), 1), 1)


def _whole(g: Array | Rows) -> Array:
    return g.whole() if isinstance(g, Rows) else g


def _clip_global(grads: Grads, clip) -> Grads:
    scale = _scale(norm(grads), clip)
    return {name: g * scale for name, g in grads.items()}


def _clip_tensor(grads: Grads, clip) -> Grads:
    return {name: g * _scale(norm(g), clip) for name, g in grads.items()}
