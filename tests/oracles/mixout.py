"""Mixout (Lee et al. 2020): the model is trained at weights of which some are those of the start."""

import numpy as np
import torch

from jaxft.methods.mixout import kept

SPEC = "mixout(p=0.3)"
HP = {}
OFF = "mixout(p=0.0)"
MUTATIONS = [
    ("w.shape, p), w, w0)", "w.shape, p), w0, w)"),
    (" - p * w0)", ")"),
    (" / (1 - p)\n\n        return", "\n\n        return"),
    ("w0 = ctx.w0[name]", "w0 = 0 * ctx.w0[name]"),
    ('keys.named(keys.named(key, "mixout"), name)', "key"),
]


def oracle(world):
    params, state, p = world.w0, None, world.hp["method.mixout.p"]

    def mixed(params, step):
        seen = dict(params)
        for name in world.linear:
            nu = torch.tensor(np.asarray(kept(world.key(step), name, params[name].shape, p)), dtype=torch.float32)
            w, w0 = params[name], world.w0[name]
            seen[name] = ((1 - nu) * w0 + nu * w - p * w0) / (1 - p)
        return seen

    for step, batch in enumerate(world.batches):
        grads = world.gradient(lambda w, batch=batch, step=step: world.loss(mixed(w, step), batch), params)
        updates, state = world.adamw(state, grads, params, step)
        params = {name: value + updates[name] for name, value in params.items()}
    return params
