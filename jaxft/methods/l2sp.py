"""A penalty on the distance from the weights that a trial started from."""

from jaxft import tree
from jaxft.types import Ctx, Method, NotNegative, Params, Tx

CLASHES = {
    "pretrained_weight_decay": "both pull the weights back to the start, one through the optimiser and one beside it",
    "recadam": "both pull the weights back to the start, one through the optimiser and one beside it",
}


def l2sp(alpha: NotNegative = 0.1, beta: NotNegative = 0.01) -> Method:
    """Penalises the distance of the encoder from its start, and the size of the head.

    With w0 the replica's start, w all parameters below the head (biases and LayerNorms among them) and v the head's:

        loss + alpha / 2 * ||w - w0||^2 + beta / 2 * ||v||^2

    by the gradient of both terms, which is added to that of the loss before anything else is done with it, clipping
    and Adam's moments included:

        g <- g + alpha (w - w0)   below the head;   g <- g + beta v   in the head

    Owns: what it would without; of what a method adds (adapters, low rank), the start is where it began.
    Off: at alpha = 0 and beta = 0 it is vanilla.
    Hazards: the loss that is reported is without the penalty, and so are the gradient's norms. It stands in for weight
    decay (`train.weight_decay: 0`). Rows of a table that no batch reads are not in the training: without weight decay
    they stay at w0, where the penalty has no gradient, and what is exported is exact. With weight decay and clipping by
    a global norm it is not, in such rows alone: the norm of a step is that of the rows that are read. As Adam divides
    by the size of the gradient, the pull is not proportional to alpha where it outweighs the loss. A pooler that the
    checkpoint lacks is pulled towards its random start.

    Args:
        alpha: how strong the pull to the start is; 0.1 and 0.01 are usual.
        beta: how strong that of the head to 0 is; 0.01 in the paper.

    Source:
        Li, Grandvalet and Davoine 2018, "Explicit Inductive Bias for Transfer Learning with Convolutional Networks"
        (arXiv 1802.01483), section 3, equation 3.
    """

    def tx(inner: Tx) -> Tx:
        def update(grads: Params, state, params: Params, ctx: Ctx):
            pull = {n: beta * w if tree.head(n) else alpha * (w - ctx.w0[n]) for n, w in params.items()}
            return inner.update({n: g + pull[n] for n, g in grads.items()}, state, params, ctx)

        return Tx(inner.init, update)

    return Method(tx=tx)
