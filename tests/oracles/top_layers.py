"""Top-K tuning: of two layers the upper one moves, with pooler and classifier."""

SPEC = "top_layers(layers=1)"
HP = {}
OFF = None
MUTATIONS = [
    ("height >= there - layers", "height < there - layers"),
    ("height >= there - layers", "height >= there - layers - 1"),
    ('!= "embeddings"', '== "classifier"'),
    ('!= "embeddings"', '!= "pooler"'),
]


def oracle(world):
    own = {n: x for n, x in world.w0.items() if n.startswith(("layers/1/", "pooler/", "classifier/"))}
    state = None
    for step, batch in enumerate(world.batches):
        grads = world.gradient(lambda own, batch=batch: world.loss({**world.w0, **own}, batch), own)
        updates, state = world.adamw(state, grads, own, step)
        own = {name: value + updates[name] for name, value in own.items()}
    return own
