"""Child-Tuning-D (Xu et al. 2021): a child network that the Fisher information of one epoch has chosen."""

import numpy as np
import torch

SPEC = "child_tuning_d(p=0.3)"
HP = {"train.clip": 0.05}
OFF = "child_tuning_d(p=1.0)"
MUTATIONS = [
    ("fisher[name] >= least", "fisher[name] < least"),
    ("jnp.where(leads, grads[name] * grads[name], 0.0)", "jnp.where(leads, grads[name], 0.0)"),
    ("lambda steps_per_epoch: steps_per_epoch", "lambda steps_per_epoch: 1"),
    ("jnp.floor(p * ", "jnp.floor((1 - p) * "),
    ('if name.startswith("layers/")', 'if name.endswith("/kernel")'),
]


def oracle(world):
    params, state = world.w0, None
    layers = [name for name in params if "layers/" in name]
    fisher = dict.fromkeys(layers, 0)
    for batch in world.lead:
        grads = world.gradient(lambda w, batch=batch: world.loss(w, batch), params)
        fisher = {name: fisher[name] + grads[name] ** 2 / len(world.lead) for name in layers}
    assert len(world.lead) == 5
    # In the authors' way, by a percentile between two of them.
    every = np.concatenate([fisher[name].numpy().ravel() for name in layers])
    polar = np.percentile(every, (1 - world.hp["method.child_tuning_d.p"]) * 100)
    mask = {name: torch.tensor(fisher[name].numpy() >= polar) for name in layers}
    for step, batch in enumerate(world.batches):
        grads = world.gradient(lambda w, batch=batch: world.loss(w, batch), params)
        grads = {name: g * mask[name] if name in mask else g for name, g in grads.items()}
        updates, state = world.adamw(state, grads, params, step)
        params = {name: value + updates[name] for name, value in params.items()}
    return params
