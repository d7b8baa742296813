"""SMART (Jiang et al. 2020): the divergence under a shift of the word embeddings that gradient ascent has found."""

import jax.numpy as jnp
import numpy as np
import torch
from torch.nn.functional import kl_div

from jaxft import keys
from jaxft.methods.smart import drawn

SPEC = "smart(weight=3.0, step=0.05, eps=0.08, std=0.04, ascents=2)"
HP = {"train.dropout": 0.1}
OFF = "smart(weight=0.0)"
MUTATIONS = [
    ("out) + penalty", "out) - penalty"),
    ("z + step * _normalised", "z - step * _normalised"),
    ("step * _normalised(g, batch), -eps, eps)", "step * _normalised(g, batch), -10.0, 10.0)"),
    ("step * _normalised(g, batch)", "step * g / jnp.max(jnp.abs(g))"),
    ("z = std * drawn", "z = 2 * std * drawn"),
    ('_apart.named(key, "smart")', "key"),
    ("range(ascents)", "range(1)"),
    ("weight * distance(params, plain, ", "weight * distance(held, plain, "),
]


def oracle(world):
    params, state = world.w0, None
    weight, length, eps, std = (world.hp[f"method.smart.{name}"] for name in ("weight", "step", "eps", "std"))

    def divergence(p, q, batch):
        p, q = p.log_softmax(-1), q.log_softmax(-1)
        both = kl_div(q, p, reduction="none", log_target=True) + kl_div(p, q, reduction="none", log_target=True)
        return (both.sum(-1) * batch["weight"]).sum() / batch["weight"].sum()

    def minimised(params, batch, step):
        key = world.dropout(step)
        plain = world.forward(params, batch, dropout=key)[0]

        def moved(z, params):
            add = {"embeddings/word": lambda e: e + z}
            return world.forward(params, batch, edits=add, dropout=keys.named(key, "smart"))[0]

        there = batch["attention_mask"].numpy()
        segments, positions = there * np.arange(1, 5)[:, None], there * np.arange(8)[None, :]
        z = std * torch.tensor(np.asarray(drawn(world.key(step), jnp.int32(segments), jnp.int32(positions), 32)))
        held = {name: value.detach() for name, value in params.items()}
        for _ in range(2):
            z.requires_grad_()
            (g,) = torch.autograd.grad(divergence(plain.detach(), moved(z, held), batch), z)
            g = g * batch["attention_mask"][:, :, None]
            size = g.abs().amax((1, 2), keepdim=True)
            z = (z + length * g / torch.where(size > 0, size, 1.0)).clamp(-eps, eps).detach()
        return world.mean_loss(plain, batch) + weight * divergence(plain, moved(z, params), batch)

    for step, batch in enumerate(world.batches):
        grads = world.gradient(lambda w, batch=batch, step=step: minimised(w, batch, step), params)
        updates, state = world.adamw(state, grads, params, step)
        params = {name: value + updates[name] for name, value in params.items()}
    return params
