"""A penalty on how far noise within the encoder moves what comes out of the layers above."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxft import keys, tree
from jaxft.errors import BadInput
from jaxft.methods import _apart
from jaxft.types import Batch, Ctx, Forward, Method, Natural, NotNegative, Objective, Out, Params, same


def lnsr(weight: NotNegative = 1.0, std: NotNegative = 0.01, layer: Natural = 0) -> Method:
    """Adds how far noise at the output of a layer moves the hidden states after each layer above it to the loss.

    With h_i what comes out of layer i, counted from 0, of L layers, and h~_i the same where z ~ N(0, std^2) has been
    added to h_b, anew for each number and step:

        loss + weight * mean of sum over i = b + 1 .. L - 1 of |h~_i - h_i|^2

    The squared distance is the sum over the width, its mean is over the tokens of an example, then over the examples:
    an example counts the same however long it is, and padding not at all. Of the last layer it is that of the first
    token, from which the head reads: the others are not computed. Both have the masks of dropout that the loss has, so
    that the noise alone is measured; the gradient is that of both.

    Owns: what it would without.
    Off: at weight = 0 it is vanilla, at twice the cost.
    Hazards: the paper does not say over what it takes the mean, and its layers may have weights of their own, which are
    1 here; so its numbers do not carry over, and the defaults are not its own. Noise on the embeddings is not offered.
    In bfloat16 a small std is lost in rounding. A step costs twice as much.

    Args:
        weight: how strong the penalty is.
        std: of the noise.
        layer: b, where it is added.

    Raises:
        BadInput: no layer lies above (when the method is traced).

    Source:
        Hua et al. 2021, "Noise Stability Regularization for Improving BERT Fine-tuning" (arXiv 2107.04835), section 4.
    """

    def own(params: Params, w0: Params, key) -> Params:
        there = tree.depth(w0)
        if layer > there - 2:
            accepted = f"up to {there - 2}, so that a layer lies above" if there > 1 else "none, as no layer lies above"
            raise BadInput(f"method.lnsr.layer: found {layer}, but the model has {there} layers, from 0: {accepted}")
        return params

    def loss(objective: Objective, forward: Forward, ctx: Ctx) -> Objective:
        def with_penalty(params, batch: Batch, key=None, edit=same, out=None) -> Float[Array, ""]:
            out = out or forward(params, batch, key, edit)
            width = out.hidden[layer + 1].shape[-1]  # the first is the embeddings
            z = std * drawn(ctx.key, batch.segments, batch.positions, width)
            moved = forward(params, batch, key, _apart.shifted(edit, f"layers/{layer}", z))
            return objective(params, batch, key, edit, out) + weight * _distance(out, moved, batch, layer + 1)

        return with_penalty

    return Method(own=own, loss=loss)


def drawn(
    key: Key[Array, ""], segments: Int[Array, "rows T"], positions: Int[Array, "rows T"], width: int
) -> Float[Array, "rows T D"]:
    """z / std, for the step that `key` belongs to; see `_apart.noise`."""
    return _apart.noise(keys.named(key, "lnsr"), segments, positions, width, "normal")


def _distance(plain: Out, moved: Out, batch: Batch, begin: int) -> Float[Array, ""]:
    """The penalty without its weight; from layer `begin` on."""
    here = batch.weight / jnp.maximum(batch.weight.sum(), 1.0)
    number = jnp.arange(1, len(here) + 1)
    inside = (batch.segments[:, :, None] == number[None, None, :]).astype(here.dtype)
    of_tokens = inside @ (here / jnp.maximum(inside.sum(axis=(0, 1)), 1.0))
    total = jnp.float32(0)
    for one, other in list(zip(plain.hidden, moved.hidden, strict=True))[begin + 1 :]:
        square = jnp.sum(jnp.square((other - one).astype(jnp.float32)), axis=-1)
        total += jnp.sum(square * (here if square.ndim == 1 else of_tokens))
    return total
