"""Weight decay towards the start instead of towards 0."""

from jaxft import optim
from jaxft.types import Ctx, Method, NotNegative, Params, Tx


def pretrained_weight_decay(weight: NotNegative = 1e-3) -> Method:
    """Lets weights decay towards those that the trial started from.

    With W0 the replica's start, p before the step and lr the step's rate:

        p <- p + Adam's update - lr * weight * (p - W0)

    for all that weight decay acts on (`optim.decays`: neither biases nor LayerNorms). The head decays towards its own
    random start, as in the code of Zhang et al.

    Owns: what it would without.
    Off: at weight = 0 it is vanilla.
    Hazards: the optimiser's decay towards 0 goes on beside it: `train.weight_decay: 0` has this one alone, as in the
    papers. It is decoupled from Adam; Lee et al. compare with a penalty in the loss, for which see `l2sp`.

    Args:
        weight: how strong it is; 0.01 and 0.001 are usual.

    Source:
        Wiese, Weissenborn and Neves 2017 (arXiv 1706.03610), as wdec(pre) in Lee, Cho and Kang 2020 (arXiv 1909.11299),
        section 2; in this form Zhang et al. 2021 (arXiv 2006.05987), section 5.
    """

    def tx(inner: Tx) -> Tx:
        def update(grads: Params, state, params: Params, ctx: Ctx):
            updates, state = inner.update(grads, state, params, ctx)
            back = {n: ctx.lr * weight * (params[n] - ctx.w0[n]) for n in updates if optim.decays(n)}
            return {n: x - back[n] if n in back else x for n, x in updates.items()}, state

        return Tx(inner.init, update)

    return Method(tx=tx)
