"""LoRA (Hu et al. 2022), the plain way: W + s A B in place of W, differentiated by A and B."""

import numpy as np
import torch

from jaxft.methods.lora import drawn

SPEC = "lora(rank=4, alpha=10.0, targets='query,value,output')"
HP = {"train.lr": 1e-3}
OFF = None
MUTATIONS = [
    ("asarray(alpha / rank", "asarray(alpha"),
    ("asarray(alpha / rank", "asarray(rank / alpha"),
    ("bound = inputs**-0.5", "bound = rank**-0.5"),
    ("(rank, inputs), jnp.float32, -bound, bound)", "(rank, inputs), jnp.float32, 0, bound)"),
    (" or tree.head(name)", ""),
    ('("/lora_a", "/lora_b")', '("/lora_b",)'),
]


def oracle(world):
    maps = [f"layers/{i}/{part}" for i in (0, 1) for part in ("query", "value", "output")]
    own = {n: x for n, x in world.fresh.items() if n.startswith("classifier")}
    for name in maps:
        inputs, outputs = world.fresh[f"{name}/kernel"].shape
        own[f"{name}/lora_a"] = torch.tensor(np.array(drawn(world.init_key, f"{name}/lora_a", inputs, 4)))
        own[f"{name}/lora_b"] = torch.zeros(4, outputs)
    scale, state = world.hp["method.lora.alpha"] / 4, None

    def seen(own):
        changed = {
            f"{n}/kernel": world.fresh[f"{n}/kernel"] + scale * own[f"{n}/lora_a"] @ own[f"{n}/lora_b"] for n in maps
        }
        return {**world.fresh, **changed, **{n: x for n, x in own.items() if "lora" not in n}}

    for step, batch in enumerate(world.batches):
        grads = world.gradient(lambda own, batch=batch: world.loss(seen(own), batch), own)
        updates, state = world.adamw(state, grads, own, step)
        own = {name: value + updates[name] for name, value in own.items()}
    return own
