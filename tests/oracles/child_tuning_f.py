"""Child-Tuning-F (Xu et al. 2021): the gradient of a random child network in each step."""

import numpy as np
import torch

from jaxft.methods.child_tuning_f import kept

SPEC = "child_tuning_f(p=0.4)"
HP = {}
OFF = "child_tuning_f(p=1.0)"
MUTATIONS = [
    ("g / p, 0.0)", "g, 0.0)"),
    ("g / p, 0.0)", "0.0, g / p)"),
    ("name), shape) < p", "name), shape) > p"),
    ("inner.update(part", "inner.update(grads"),
]


def oracle(world):
    params, state, p = world.w0, None, world.hp["method.child_tuning_f.p"]
    for step, batch in enumerate(world.batches):
        grads = world.gradient(lambda w, batch=batch: world.loss(w, batch), params)
        for name, g in grads.items():
            b = torch.tensor(np.asarray(kept(world.key(step), name, tuple(g.shape), p)), dtype=torch.float32)
            grads[name] = g * b / p
        updates, state = world.adamw(state, grads, params, step)
        params = {name: value + updates[name] for name, value in params.items()}
    return params
