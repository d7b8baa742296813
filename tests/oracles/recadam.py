"""RecAdam (Chen et al. 2020): a pull to the pretrained weights that fades, but for the head."""

import math

SPEC = "recadam(gamma=300.0, k=0.4, t0=9.0)"
HP = {}
OFF = "recadam(k=1.0, t0=-1000000.0)"
MUTATIONS = [
    ("ctx.step + 1", "ctx.step"),
    ("(1 - s) * gamma\n", "s * gamma\n"),
    ("s * x - pull", "s * x + pull"),
    ("s * x - pull", "x - pull"),
    ("x if tree.head(name) else ", ""),
]


def oracle(world):
    params, state = world.w0, None
    gamma, k, t0 = (world.hp[f"method.recadam.{arg}"] for arg in ("gamma", "k", "t0"))
    for step, batch in enumerate(world.batches):
        grads = world.gradient(lambda params, batch=batch: world.loss(params, batch), params)
        updates, state = world.adamw(state, grads, params, step)
        s = 1 / (1 + math.exp(-k * (step + 1 - t0)))
        for name, value in params.items():
            if not name.startswith("classifier"):
                away = value - world.w0[name]
                updates[name] = s * updates[name] - world.lr(step) * (1 - s) * gamma * away
        params = {name: value + updates[name] for name, value in params.items()}
    return params
