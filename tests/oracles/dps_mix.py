"""DPS Mix (Zhang et al. 2022): stages of Mixout, and of the weights with the largest squared gradients per draw."""

import math

import numpy as np
import torch

from jaxft.methods.dps_mix import nu
from oracles import STEPS
from oracles.dps_dense import top

SPEC = "dps_mix(p=0.3, update_ratio=0.2)"
HP = {"train.weight_decay": 0.5}
OFF = "dps_mix(p=0.0, update_ratio=0.25)"
MUTATIONS = [
    (">= state.least[name], nu(", "< state.least[name], nu("),
    ("jnp.where(now.begins, lax.stop_gradient(w), state", "jnp.where(False, lax.stop_gradient(w), state"),
    ("lax.stop_gradient(w)", "w"),
    ("jnp.where(now.second, anchor, ctx.w0[name])", "ctx.w0[name]"),
    (" - p * target)", ")"),
    ("times = jnp.maximum(fam, 1)", "times = jnp.maximum(fam, 1) ** 0"),
    ("score[n] >= state.least[n]) | ~now", "score[n] < state.least[n]) | ~now"),
    ('freeze == "hard"', 'freeze == "never"'),
    ('freeze == "gradient"', 'freeze == "hard"'),
]


def oracle(world, freeze="hard"):
    params, state, p = world.w0, None, world.hp["method.dps_mix.p"]
    us, gam, fam, masks = int(STEPS * world.hp["method.dps_mix.update_ratio"] + 1e-6), {}, {}, {}
    anchor = {}
    assert us == 4
    for t, batch in enumerate(world.batches, start=1):  # counted from 1, as their code does
        second, begins = math.ceil(t / us) % 2 == 0, (t - 1) % us == 0
        if second and begins:
            anchor = params
            # Where us >= 50 they multiply by exp(-FAM / us): here a stage has 4 steps.
            masks = {name: top(gam[name] / fam[name].clamp(min=1), p) for name in world.linear}
        own = masks
        if not second:
            own = {
                name: torch.tensor(np.array(nu(world.key(t - 1), name, len(params[name]), p)), dtype=torch.float32)
                for name in world.linear
            }
        target = anchor if second else world.w0
        # The gradient of what the model sees, and from it, by hand, that of the weights.
        seen = {
            name: ((1 - own[name]) * target[name] + own[name] * w - p * target[name]) / (1 - p) if name in own else w
            for name, w in params.items()
        }
        grads = world.gradient(lambda w, batch=batch: world.loss(w, batch), seen)
        for name in world.linear:
            if not second:
                gam[name] = (0 if begins else gam[name]) + grads[name] ** 2 * own[name]
                fam[name] = (0 if begins else fam[name]) + own[name]
            grads[name] = grads[name] * own[name] / (1 - p if freeze == "hard" else 1)
        updates, state = world.adamw(state, grads, params, t - 1)
        if second and freeze == "hard":
            updates = {name: u * masks[name] if name in masks else u for name, u in updates.items()}
        params = {name: value + updates[name] for name, value in params.items()}
    return params
