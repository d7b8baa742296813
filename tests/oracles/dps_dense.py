"""DPS Dense (Zhang et al. 2022): stages of all weights, and of those with the largest sums of squared gradients."""

import math

import torch

from oracles import STEPS

SPEC = "dps_dense(p=0.3, update_ratio=0.2)"
HP = {"train.weight_decay": 0.5}
OFF = "dps_dense(p=0.0, update_ratio=0.25)"
MUTATIONS = [
    (">= state.least[n]) | ~now", "< state.least[n]) | ~now"),
    ("(now.begins, 0.0, total)", "(now.begins, total, total)"),
    ("grads[name] * grads[name], total)", "grads[name], total)"),
    ('freeze == "hard"', 'freeze == "never"'),
    ("inner.update(masked(grads)", "inner.update(grads"),
    ("jnp.where(now.first, jnp.where", "jnp.where(now.first | True, jnp.where"),
]


def oracle(world, freeze="hard"):
    params, state, p = world.w0, None, world.hp["method.dps_dense.p"]
    us, gam, masks = int(STEPS * world.hp["method.dps_dense.update_ratio"] + 1e-6), {}, {}
    assert us == 4
    for t, batch in enumerate(world.batches, start=1):  # counted from 1, as their code does
        grads = world.gradient(lambda w, batch=batch: world.loss(w, batch), params)
        second = math.ceil(t / us) % 2 == 0
        if second and (t - 1) % us == 0:
            masks = {name: top(x, p) for name, x in gam.items()}
        for name in world.linear:
            if second:
                grads[name] = grads[name] * masks[name]
            else:
                gam[name] = (0 if (t - 1) % us == 0 else gam[name]) + grads[name] ** 2 / 1e3
        updates, state = world.adamw(state, grads, params, t - 1)
        if second and freeze == "hard":
            updates = {name: u * masks[name] if name in masks else u for name, u in updates.items()}
        params = {name: value + updates[name] for name, value in params.items()}
    return params


def top(x, p: float):
    """The mask of the share 1 - p of the largest."""
    count = math.ceil(round(x.numel() * (1 - p), 3))
    return (x >= torch.sort(x.flatten(), descending=True)[0][count - 1]).float()
