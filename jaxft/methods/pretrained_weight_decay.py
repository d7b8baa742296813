"""Weight decay towards the start instead of towards 0."""

from jaxft import optim
from jaxft.types import Ctx, Method, NotNegative, Params, Tx


def pretrained_weight_decay(weight: NotNegative = 1e-3) -> Method:
    """What decays, decays towards the weights that the trial started from.

    Wiese, Weissenborn and Neves 2017 (arXiv 1706.03610); called wdec(pre) by Lee, Cho and Kang 2020, "Mixout" (arXiv
    1909.11299), section 2; in the decoupled form of Zhang et al. 2021 (arXiv 2006.05987), section 5:

        p <- p + Adam's update - lr * weight * (p - w0),   p before the step

    for all that weight decay acts on (`optim.decays`: neither biases nor LayerNorms). The head decays towards its own
    random start, as in the code of Zhang et al.

    Owns: everything, as vanilla.
    Off: weight=0.
    Hazards: the optimiser's own decay towards 0 goes on beside it; set `train.weight_decay: 0` for this one alone, as
    the papers do.
    """

    def tx(inner: Tx) -> Tx:
        def update(grads: Params, state, params: Params, ctx: Ctx):
            updates, state = inner.update(grads, state, params, ctx)
            back = {n: ctx.lr * weight * (params[n] - ctx.w0[n]) for n in updates if optim.decays(n)}
            return {name: x - back[name] if name in back else x for name, x in updates.items()}, state

        return Tx(inner.init, update)

    return Method(tx=tx)
