"""A penalty on how far the worst small shift of the word embeddings moves what the model says."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxft import keys
from jaxft.methods import _apart
from jaxft.types import Batch, Count, Ctx, Forward, Method, NotNegative, Objective, same


def smart(
    weight: NotNegative = 1.0,
    step: NotNegative = 1e-3,
    eps: NotNegative = 1e-5,
    std: NotNegative = 1e-5,
    ascents: Count = 1,
) -> Method:
    """Adds the divergence of the output under an adversarial shift of the word embeddings to the loss.

    With e what is read of the table of words, before positions and types are added, D the sum of both divergences of
    two outputs, and z ~ N(0, std^2) drawn anew in each step, a shift is searched by `ascents` times

        g = the gradient of D(f(e), f(e + z)) with respect to z
        z <- clip(z + step * g / max|g|, -eps, eps)

    where max|g| is that over the tokens and numbers of an example, and then the loss is

        loss + weight * mean of D(f(e), f(e + z))

    with the mean over the batch's examples. No gradient goes through the search: f(e) is held there, and z afterwards,
    so that there are no second derivatives, as in the code that the authors released. The penalty has the gradient of
    both outputs. f(e) has the masks of dropout that the loss has; f(e + z) has masks of its own, the same in the search
    and in the penalty. In a regression D is the squared difference of the two predictions.

    Owns: what it would without.
    Off: at weight = 0 it is vanilla, at a higher cost.
    Hazards: this is the paper's smoothness term alone; its Bregman proximal step (momentum on the weights) is left out,
    as in the released code. Papers and code differ in the shift: the paper clips to a ball of radius eps, as here; the
    codes that are public normalise to an infinity norm of 1 before the step, take it from e, not from e + z, and clip
    nothing, so that their shift has the size of the step, for which eps = step comes near. They take the maximum over
    each token, and search along KL(f(e) || f(e + z)) alone. At the paper's eps, every number of the shift that has a
    gradient to speak of is at -eps or eps. The first gradient is that of a divergence near 0: with std = 1e-5 there
    are some two digits to it in float32, and in bfloat16 none. A step costs about two thirds more for each ascent, and
    twice as much for the penalty.

    Args:
        weight: how strong the penalty is; the paper's lambda, 1 to 10 there.
        step: of an ascent, in the infinity norm; 1e-3 in the paper.
        eps: how far the shift may go, in the infinity norm; 1e-5 in the paper.
        std: of the noise that the search begins at; 1e-5 in the paper. At 0 there is no gradient to follow.
        ascents: how often; 1 in the paper.

    Source:
        Jiang et al. 2020, "SMART: Robust and Efficient Fine-Tuning for Pre-trained Natural Language Models through
        Principled Regularized Optimization" (arXiv 1911.03437), section 3.1 and algorithm 1.
    """

    def loss(objective: Objective, forward: Forward, ctx: Ctx) -> Objective:
        def with_penalty(params, batch: Batch, key=None, edit=same, out=None) -> Float[Array, ""]:
            masks = _apart.named(key, "smart")
            out = out or forward(params, batch, key, edit)
            plain = out.logits
            held, aim = jax.tree.map(lax.stop_gradient, (params, plain))

            def distance(params, plain, z):
                there = _apart.shifted(edit, "embeddings/word", z)
                return _apart.apart(plain, forward(params, batch, masks, there).logits, batch)

            width = ctx.w0["embeddings/word/embedding"].shape[1]
            z = std * drawn(ctx.key, batch.segments, batch.positions, width)
            for _ in range(ascents):
                g = jax.grad(distance, argnums=2)(held, aim, z)
                z = jnp.clip(z + step * _normalised(g, batch), -eps, eps)
            penalty = weight * distance(params, plain, lax.stop_gradient(z))
            return objective(params, batch, key, edit, out) + penalty

        return with_penalty

    return Method(loss=loss)


def drawn(
    key: Key[Array, ""], segments: Int[Array, "rows T"], positions: Int[Array, "rows T"], width: int
) -> Float[Array, "rows T D"]:
    """z / std before the first ascent, for the step that `key` belongs to; see `_apart.noise`."""
    return _apart.noise(keys.named(key, "smart"), segments, positions, width, "normal")


def _normalised(g: Float[Array, "rows T D"], batch: Batch) -> Float[Array, "rows T D"]:
    """Of each example the gradient over its largest number; 0 where it has none."""
    number = jnp.arange(1, len(batch.weight) + 1)
    inside = batch.segments[:, :, None] == number[None, None, :]
    largest = jnp.max(jnp.where(inside, jnp.max(jnp.abs(g), axis=-1)[:, :, None], 0.0), axis=(0, 1))
    of_tokens = jnp.max(jnp.where(inside, largest[None, None, :], 0.0), axis=-1)[:, :, None]
    return jnp.where(of_tokens > 0, g / jnp.where(of_tokens > 0, of_tokens, 1.0), 0.0)
