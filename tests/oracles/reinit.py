"""Re-initialisation (Zhang et al. 2021): of two layers the upper one starts anew, as the init seed has it."""

import jax
import numpy as np
import torch

from jaxft import keys

SPEC = "reinit(layers=1)"
HP = {}
OFF = "reinit(layers=0, pooler=False)"
MUTATIONS = [
    ("STD = 0.02", "STD = 0.03"),
    ("height >= there - layers", "height < there - layers"),
    ("height >= there - layers", "height > there - layers"),
    ("{**w0, **parts.fresh(key, shapes, STD)}", "{**parts.fresh(key, shapes, STD), **w0}"),
]


def oracle(world):
    params, state = dict(world.fresh), None
    for name, value in params.items():
        if name.startswith(("layers/1/", "pooler/")):
            if name.endswith("kernel"):
                draw = jax.random.normal(keys.named(world.init_key, name), tuple(value.T.shape))
                params[name] = 0.02 * torch.tensor(np.array(draw)).T
            else:
                params[name] = torch.full_like(value, float(name.endswith("scale")))
    for step, batch in enumerate(world.batches):
        grads = world.gradient(lambda params, batch=batch: world.loss(params, batch), params)
        updates, state = world.adamw(state, grads, params, step)
        params = {name: value + updates[name] for name, value in params.items()}
    return params
