"""SIFT (Song et al. 2024): the optimiser is told nothing of the entries that the first gradient does not choose."""

import torch

SPEC = "sift(per_mille=50, targets='query,value,attention_out')"
HP = {"train.lr": 1e-3, "train.weight_decay": 0.1}
OFF = None
MUTATIONS = [
    ("lax.top_k(jnp.abs(g.reshape(-1))", "lax.top_k((g.reshape(-1))"),
    ("lax.top_k(jnp.abs(g.reshape(-1))", "lax.top_k(-jnp.abs(g.reshape(-1))"),
    ("per_mille // 1000 + 1", "per_mille // 2000 + 1"),
    ("ctx.step == 0", "ctx.step <= 3"),
    ("// 1000 + 1", "// 1000"),
    (" or tree.head(name)", ""),
]


def oracle(world):
    maps = [f"layers/{i}/{part}" for i in (0, 1) for part in ("query", "value", "attention_out")]
    sparse = {f"{name}/{leaf}" for name in maps for leaf in ("kernel", "bias")}
    own = {n: x.clone() for n, x in world.w0.items() if n in sparse or n.startswith("classifier")}
    chosen, state = {}, None
    for step, batch in enumerate(world.batches):
        grads = world.gradient(lambda own, batch=batch: world.loss({**world.w0, **own}, batch), own)
        if step == 0:
            for name in sparse:
                g = grads[name].abs().flatten()
                chosen[name] = g >= g.sort(descending=True).values[len(g) * 50 // 1000]
        few = lambda dense: {n: x.flatten()[chosen[n]] if n in sparse else x for n, x in dense.items()}  # noqa: E731
        updates, state = world.adamw(state, few(grads), few(own), step)
        for name, update in updates.items():
            if name in sparse:
                whole = torch.zeros(own[name].numel())
                whole[chosen[name]] = update
                update = whole.reshape(own[name].shape)
            own[name] = own[name] + update
    return own
