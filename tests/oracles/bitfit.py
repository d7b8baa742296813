"""BitFit (Ben Zaken et al. 2022): biases and the head move, nothing else."""

SPEC = "bitfit"
HP = {}
OFF = None
MUTATIONS = [
    ('name.endswith("/bias")', 'name.endswith("norm/bias")'),
    (" or tree.head(name)", ""),
    ('name.endswith("/bias")', 'not name.endswith("/bias")'),
]


def oracle(world):
    own = {n: x for n, x in world.w0.items() if n.split("/")[-1] == "bias" or n == "classifier/kernel"}
    state = None
    for step, batch in enumerate(world.batches):
        grads = world.gradient(lambda own, batch=batch: world.loss({**world.w0, **own}, batch), own)
        updates, state = world.adamw(state, grads, own, step)
        own = {name: value + updates[name] for name, value in own.items()}
    return own
