"""L2-SP (Li et al. 2018): the penalty in the loss, differentiated by torch."""

SPEC = "l2sp(alpha=3.0, beta=0.5)"
HP = {}
OFF = "l2sp(alpha=0.0, beta=0.0)"
MUTATIONS = [
    ("g + pull[n]", "g - pull[n]"),
    ("alpha * (w - ctx.w0[n])", "alpha * w"),
    ("beta * w if", "0 * w if"),
    ("if tree.head(n)", 'if n.startswith("pooler")'),
    ("alpha * (w", "2 * alpha * (w"),
]


def oracle(world):
    params, state = world.w0, None
    alpha, beta = world.hp["method.l2sp.alpha"], world.hp["method.l2sp.beta"]

    def minimised(params, batch):
        head = {"classifier/kernel", "classifier/bias"}
        far = sum(((value - world.w0[name]) ** 2).sum() for name, value in params.items() if name not in head)
        large = sum((params[name] ** 2).sum() for name in head)
        return world.loss(params, batch) + alpha / 2 * far + beta / 2 * large

    for step, batch in enumerate(world.batches):
        grads = world.gradient(lambda w, batch=batch: minimised(w, batch), params)
        updates, state = world.adamw(state, grads, params, step)
        params = {name: value + updates[name] for name, value in params.items()}
    return params
