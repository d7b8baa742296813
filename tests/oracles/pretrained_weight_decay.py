"""Weight decay towards the start (Wiese et al. 2017), decoupled from Adam."""

SPEC = "pretrained_weight_decay(weight=100.0)"
HP = {}
OFF = "pretrained_weight_decay(weight=0.0)"
MUTATIONS = [
    ("x - back[n]", "x + back[n]"),
    ("ctx.lr * weight", "weight * weight * ctx.lr"),
    ("(params[n] - ctx.w0[n])", "params[n]"),
    (" if optim.decays(n)", ""),
]


def oracle(world):
    params, state = world.w0, None
    weight = world.hp["method.pretrained_weight_decay.weight"]
    for step, batch in enumerate(world.batches):
        grads = world.gradient(lambda params, batch=batch: world.loss(params, batch), params)
        updates, state = world.adamw(state, grads, params, step)
        for name, value in params.items():
            if name.endswith(("kernel", "embedding")):
                updates[name] = updates[name] - world.lr(step) * weight * (value - world.w0[name])
        params = {name: value + updates[name] for name, value in params.items()}
    return params
