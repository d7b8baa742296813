"""A penalty on how far small random shifts of the word embeddings move what the model says."""

from typing import Literal

from jaxtyping import Array, Float, Int, Key

from jaxft import keys
from jaxft.methods import _apart
from jaxft.types import Batch, Ctx, Forward, Method, NotNegative, Objective, same

CLASHES = {"smart": "both penalise how a shift of the word embeddings moves the output, at random or at its worst"}


def r3f(weight: NotNegative = 1.0, eps: NotNegative = 1e-5, noise: Literal["uniform", "normal"] = "uniform") -> Method:
    """Adds the divergence of the output under noise on the word embeddings to the loss.

    With e what is read of the table of words, before positions and types are added, and z drawn anew in each step:

        loss + weight * mean of (KL(f(e) || f(e + z)) + KL(f(e + z) || f(e)))

    where the mean is over the batch's examples, and z ~ U(-eps, eps), or N(0, eps^2), for each number of each token.
    The gradient is that of both outputs, and goes to the table through both. Both are of training: where there is
    dropout, f(e) has the masks of the loss, f(e + z) has masks of its own. In a regression the divergence is the
    squared difference of the two predictions.

    Owns: what it would without.
    Off: at weight = 0 it is vanilla, at twice the cost.
    Hazards: with dropout the two outputs differ by their masks far more than by z, as they do in the code that the
    authors released (`train.dropout: 0` has the noise alone). That code stops the gradient at e + z, so that the table
    gets none from there; the paper says nothing of it. In a regression it adds no penalty. A shift of 1e-5 is less than
    what bfloat16 tells apart: `train.precision: highest` where that matters. A step costs twice as much.

    Args:
        weight: the paper's lambda; it tries 0.1, 0.5, 1 and 5.
        eps: how large the noise is; 1e-5 in the paper.
        noise: its distribution; the paper tries both.

    Source:
        Aghajanyan et al. 2021, "Better Fine-Tuning by Reducing Representational Collapse" (arXiv 2008.03156),
        section 3, the form without spectral normalisation (R3F, not R4F).
    """

    def loss(objective: Objective, forward: Forward, ctx: Ctx) -> Objective:
        def with_penalty(params, batch: Batch, key=None, edit=same, out=None) -> Float[Array, ""]:
            width = ctx.w0["embeddings/word/embedding"].shape[1]
            z = eps * drawn(ctx.key, batch.segments, batch.positions, width, noise)
            there = _apart.shifted(edit, "embeddings/word", z)
            out = out or forward(params, batch, key, edit)
            moved = forward(params, batch, _apart.named(key, "r3f"), there).logits
            return objective(params, batch, key, edit, out) + weight * _apart.apart(out.logits, moved, batch)

        return with_penalty

    return Method(loss=loss)


def drawn(
    key: Key[Array, ""],
    segments: Int[Array, "rows T"],
    positions: Int[Array, "rows T"],
    width: int,
    noise: Literal["uniform", "normal"],
) -> Float[Array, "rows T D"]:
    """z / eps, for the step that `key` belongs to; see `_apart.noise`."""
    return _apart.noise(keys.named(key, "r3f"), segments, positions, width, noise)
