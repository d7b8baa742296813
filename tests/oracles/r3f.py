"""R3F (Aghajanyan et al. 2021): cross-entropy, and the symmetric divergence under noise on the word embeddings."""

import jax.numpy as jnp
import numpy as np
import torch
from torch.nn.functional import kl_div

from jaxft import keys
from jaxft.methods.r3f import drawn

SPEC = "r3f(weight=3.0, eps=0.05)"
HP = {"train.dropout": 0.1}
OFF = "r3f(weight=0.0, eps=0.05)"
MUTATIONS = [
    (" + weight * _apart", " - weight * _apart"),
    ("weight * _apart.apart(out", "_apart.apart(out"),
    ("z = eps * drawn", "z = 2 * eps * drawn"),
    ("z = eps * drawn", "z = -eps * drawn"),
    ('_apart.shifted(edit, "embeddings/word", z)', '_apart.shifted(edit, "embeddings", z)'),
    ('keys.named(key, "r3f"), segments', "key, segments"),
    ("_apart.apart(out.logits, moved", "_apart.apart(moved, moved"),
    ('_apart.named(key, "r3f")', "key"),
]


def oracle(world):
    params, state = world.w0, None
    weight, eps = world.hp["method.r3f.weight"], world.hp["method.r3f.eps"]

    def minimised(params, batch, step):
        there = batch["attention_mask"].numpy()
        segments, positions = there * np.arange(1, 5)[:, None], there * np.arange(8)[None, :]
        z = drawn(world.key(step), jnp.int32(segments), jnp.int32(positions), 32, "uniform")
        z = eps * torch.tensor(np.asarray(z))
        assert abs(z[batch["attention_mask"] > 0]).max() < eps
        key = world.dropout(step)
        p = world.forward(params, batch, dropout=key)[0]
        loss = world.mean_loss(p, batch)
        q = world.forward(params, batch, edits={"embeddings/word": lambda e: e + z}, dropout=keys.named(key, "r3f"))[0]
        p, q = p.log_softmax(-1), q.log_softmax(-1)
        both = kl_div(q, p, reduction="none", log_target=True) + kl_div(p, q, reduction="none", log_target=True)
        penalty = (both.sum(-1) * batch["weight"]).sum() / batch["weight"].sum()
        return loss + weight * penalty

    for step, batch in enumerate(world.batches):
        grads = world.gradient(lambda w, batch=batch, step=step: minimised(w, batch, step), params)
        updates, state = world.adamw(state, grads, params, step)
        params = {name: value + updates[name] for name, value in params.items()}
    return params
