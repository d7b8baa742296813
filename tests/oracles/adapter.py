"""Adapters (Houlsby et al. 2019), set into the model of transformers behind the linear maps that they follow."""

import numpy as np
import torch

from jaxft.methods.adapter import drawn

SPEC = "adapter(size=8, std=0.05)"
HP = {"train.lr": 1e-3}
OFF = None
MUTATIONS = [
    ("std * drawn", "drawn"),
    ("-2.0, 2.0", "-1.0, 1.0"),
    (' or part.endswith("norm")', ""),
    (" or tree.head(name)", ""),
    ("jnp.zeros(shape[1]", "jnp.ones(shape[1]"),
]


def oracle(world):
    parts = {f"layers/{i}/{part}": f"layers/{i}/{site}_adapter" for i in (0, 1) for part, site in
             (("attention_out", "attention"), ("output", "output"))}  # fmt: skip
    own = {n: x for n, x in world.fresh.items() if n.startswith("classifier") or "norm/" in n}
    for name in parts.values():
        for side, shape in (("down", (32, 8)), ("up", (8, 32))):
            draw = np.array(drawn(world.init_key, f"{name}/{side}/kernel", shape))
            own[f"{name}/{side}/kernel"] = torch.tensor(0.05 * draw)
            own[f"{name}/{side}/bias"] = torch.zeros(shape[1])
    state = None

    def loss(own, batch):
        def adapted(name):
            def edit(x):
                inner = x @ own[f"{name}/down/kernel"] + own[f"{name}/down/bias"]
                return x + torch.nn.functional.gelu(inner) @ own[f"{name}/up/kernel"] + own[f"{name}/up/bias"]

            return edit

        seen = {**world.fresh, **{n: x for n, x in own.items() if "adapter" not in n}}
        return world.loss(seen, batch, edits={part: adapted(name) for part, name in parts.items()})

    for step, batch in enumerate(world.batches):
        grads = world.gradient(lambda own, batch=batch: loss(own, batch), own)
        updates, state = world.adamw(state, grads, own, step)
        own = {name: value + updates[name] for name, value in own.items()}
    return own
