"""R-Drop (Liang et al. 2021): two draws of dropout, their mean loss and their divergence."""

from torch.nn.functional import kl_div

from jaxft import keys

SPEC = "rdrop(alpha=4.0)"
HP = {"train.dropout": 0.2}
OFF = "rdrop(alpha=0.0)"
MUTATIONS = [
    ("mean + alpha / 4", "mean - alpha / 4"),
    ("mean + alpha / 4", "mean + alpha"),
    ("objective(params, batch, again, edit, q)) / 2", "objective(params, batch, key, edit, p)) / 2"),
    ("forward(params, batch, again, edit)", "forward(params, batch, key, edit)"),
    ('_apart.named(key, "rdrop")', '_apart.named(key, "r3f")'),
]


def oracle(world):
    params, state, alpha = world.w0, None, world.hp["method.rdrop.alpha"]

    def minimised(params, batch, key):
        p = world.forward(params, batch, dropout=key)[0]
        q = world.forward(params, batch, dropout=keys.named(key, "rdrop"))[0]
        losses = world.mean_loss(p, batch) + world.mean_loss(q, batch)
        p, q = p.log_softmax(-1), q.log_softmax(-1)
        both = kl_div(q, p, reduction="none", log_target=True) + kl_div(p, q, reduction="none", log_target=True)
        penalty = (both.sum(-1) * batch["weight"]).sum() / batch["weight"].sum()
        return (losses + alpha * penalty / 2) / 2  # the paper's, halved

    for step, batch in enumerate(world.batches):
        key = world.dropout(step)
        grads = world.gradient(lambda w, batch=batch, key=key: minimised(w, batch, key), params)
        updates, state = world.adamw(state, grads, params, step)
        params = {name: value + updates[name] for name, value in params.items()}
    return params
