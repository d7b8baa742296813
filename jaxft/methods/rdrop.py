"""A penalty on how far two draws of dropout move what the model says."""

from jaxtyping import Array, Float

from jaxft.methods import _apart
from jaxft.types import Batch, Ctx, Forward, Method, NotNegative, Objective, same


def rdrop(alpha: NotNegative = 1.0) -> Method:
    """Takes the mean loss of two draws of dropout, and adds their divergence to it.

    With p and q what the model says of the same batch under two draws of dropout:

        (loss(p) + loss(q)) / 2 + alpha * mean of (KL(p || q) + KL(q || p)) / 4

    where the mean is over the batch's examples. This is half of the paper's equation 4, which adds up both losses and
    alpha times the mean of both divergences: halved, alpha is the paper's, and a learning rate means what it does
    without. p has the masks that the loss would have without, q has masks of its own; the gradient is that of both. In
    a regression the sum of both divergences is replaced by the squared difference of the two predictions.

    Owns: what it would without.
    Off: at alpha = 0 and without dropout it is vanilla, at twice the cost; with dropout, two draws are averaged.
    Hazards: without dropout (`train.dropout: 0`) it does nothing at any alpha. What the authors released for
    transformers sums the divergence over the batch where the loss is a mean, so that alpha there grows with the batch
    and other numbers are usual. A step costs twice as much.

    Args:
        alpha: how strong the penalty is; 0.1, 0.5 and 1 in the paper's fine-tuning, 5 in its translation.

    Source:
        Liang et al. 2021, "R-Drop: Regularized Dropout for Neural Networks" (arXiv 2106.14448), section 2, equations 1
        to 4.
    """

    def loss(objective: Objective, forward: Forward, ctx: Ctx) -> Objective:
        def with_penalty(params, batch: Batch, key=None, edit=same, out=None) -> Float[Array, ""]:
            again = _apart.named(key, "rdrop")
            p, q = out or forward(params, batch, key, edit), forward(params, batch, again, edit)
            mean = (objective(params, batch, key, edit, p) + objective(params, batch, again, edit, q)) / 2
            return mean + alpha / 4 * _apart.apart(p.logits, q.logits, batch)

        return with_penalty

    return Method(loss=loss)
