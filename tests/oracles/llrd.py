"""Layer-wise decay (Zhang et al. 2021): the rates of two layers and the embeddings, from the top."""

SPEC = "llrd(decay=0.6)"
HP = {}
OFF = "llrd(decay=1.0)"
MUTATIONS = [
    ("factor ** (there - height)", "factor ** height"),
    ("factor ** (there - height)", "factor ** (there - height - 1)"),
    ("factor ** (there + 1)", "factor ** there"),
    ('== "embeddings"', '== "pooler"'),
]
RATES = {"layers/1": 0.6, "layers/0": 0.36, "embeddings": 0.216}


def oracle(world):
    params, state = world.w0, None
    for step, batch in enumerate(world.batches):
        grads = world.gradient(lambda params, batch=batch: world.loss(params, batch), params)
        updates, state = world.adamw(state, grads, params, step)
        rate = {n: next((r for part, r in RATES.items() if n.startswith(part)), 1.0) for n in params}
        params = {name: value + rate[name] * updates[name] for name, value in params.items()}
    return params
