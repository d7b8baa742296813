"""LNSR (Hua et al. 2021): noise after a layer, and how far it moves the hidden states above."""

import jax.numpy as jnp
import numpy as np
import torch

from jaxft.methods.lnsr import drawn

SPEC = "lnsr(weight=0.1, std=0.1)"
HP = {"train.dropout": 0.1}
OFF = "lnsr(weight=0.0, std=0.1)"
MUTATIONS = [
    (" + weight * _distance", " - weight * _distance"),
    ("z = std * drawn", "z = 2 * std * drawn"),
    ('f"layers/{layer}", z)', '"embeddings", z)'),
    ("forward(params, batch, key, _apart", "forward(params, batch, None, _apart"),
    ("[begin + 1 :]", "[begin + 2 :]"),
]


def oracle(world):
    params, state = world.w0, None
    weight, std = world.hp["method.lnsr.weight"], world.hp["method.lnsr.std"]

    def minimised(params, batch, step):
        there = batch["attention_mask"].numpy()
        segments, positions = there * np.arange(1, 5)[:, None], there * np.arange(8)[None, :]
        z = torch.tensor(np.asarray(drawn(world.key(step), jnp.int32(segments), jnp.int32(positions), 32)))
        key = world.dropout(step)
        logits, plain = world.forward(params, batch, dropout=key)
        _, moved = world.forward(params, batch, edits={"layers/0": lambda h: h + std * z}, dropout=key)
        # Of two layers one lies above, the last, of which the first tokens are there.
        penalty = (((plain[-1] - moved[-1]) ** 2).sum(-1) * batch["weight"]).sum() / batch["weight"].sum()
        return world.mean_loss(logits, batch) + weight * penalty

    for step, batch in enumerate(world.batches):
        grads = world.gradient(lambda w, batch=batch, step=step: minimised(w, batch, step), params)
        updates, state = world.adamw(state, grads, params, step)
        params = {name: value + updates[name] for name, value in params.items()}
    return params
