"""LSTMs against a loop of torch, in a process of its own: `python tests/lstm_speed.py LAYERS HIDDEN`.

The suite has eight virtual devices, and as many threads for each matmul; what users have is one for each core.
"""

import sys
import time

import jax
import numpy as np
import torch
import toys

from jaxft import cost, machine, models
from jaxft.cost import Chip, ceilings
from jaxft.data.batch import layout, pack
from jaxft.engine.pool import Pool
from jaxft.engine.recipe import Shared
from jaxft.networks.lstm import TYPE
from jaxft.study.trials import Length
from jaxft.types import Split

SETTINGS = {"model_type": TYPE, "embedding_size": 256, "pooling": "max"}


def measure(layers: int, hidden: int) -> None:
    """Whole steps of 8 replicas against torch's, one after the other; lengths as those of SST-2.

    Prints a line for either vocabulary, and one with what the machine would allow.

    torch at its fastest of: padded or packed, one thread or two; with the embeddings of BERT's vocabulary, then with
    those alone that the task has.
    """
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.gamma(2.2, 5.2, 6000).astype(int) + 3, 3, 64)
    words, known, batch, classes = 11600, 30522, 16, 2  # those of SST-2's training set, those of BERT's vocabulary
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    tokens = (words * rng.random(offsets[-1]) ** 3).astype(np.uint16)
    split = Split(tokens, offsets, lengths.astype(np.int32), rng.integers(0, classes, 6000).astype(np.int32))
    settings = SETTINGS | {"vocab_size": words, "hidden_size": hidden}
    model = models.assemble(settings | {"num_hidden_layers": layers}, classes)
    steps, replicas = 20, 8
    found = layout(split, [], batch, serial=4.0)
    recipe = toys.recipe(model, batch=batch, layout=found, every=steps, steps=10_000, max_epochs=1)
    few = Split(tokens[: offsets[16]], offsets[:17], split.second[:16], split.labels[:16])
    shared = Shared({}, split, {"dev": pack(few, 16, found.width)})
    long = Length(6000, 1, 375, 0, 375)
    like = toys.entry(**{"train.lr": 1e-3})._replace(length=Length(*(np.int32(x) for x in long)))
    devices = jax.devices()
    pool = Pool(recipe, shared, like, devices=devices, slots=replicas // len(devices), precision="highest")
    pool.fill(dict.fromkeys(range(replicas), like))

    def ours() -> float:
        began = time.perf_counter()
        pool.run(steps)
        return replicas * steps * batch / (time.perf_counter() - began)

    class Net(torch.nn.Module):
        def __init__(self, vocabulary: int):
            super().__init__()
            self.word = torch.nn.Embedding(vocabulary, 256)
            self.lstm = torch.nn.LSTM(256, hidden, layers, bidirectional=True, batch_first=True)
            self.head = torch.nn.Linear(2 * hidden, classes)

        def forward(self, rows, lengths, packed: bool):
            x, there = self.word(rows), (torch.arange(rows.shape[1])[None] < lengths[:, None])[..., None]
            if packed:
                x = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
                x, _ = torch.nn.utils.rnn.pad_packed_sequence(self.lstm(x)[0], batch_first=True)
            else:
                x, _ = self.lstm(x)
            return self.head(torch.where(there, x, -torch.inf).amax(dim=1))

    def loop(vocabulary: int, packed: bool, threads: int):
        net = Net(vocabulary)
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01, fused=True)

        def turn(steps: int = steps) -> float:
            torch.set_num_threads(threads)
            began = time.perf_counter()
            for _ in range(steps):
                chosen = rng.integers(0, 6000, batch)
                rows = [torch.tensor(tokens[offsets[i] : offsets[i + 1]].astype(np.int64)) for i in chosen]
                padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
                logits = net(padded, torch.tensor(lengths[chosen]), packed)
                torch.nn.functional.cross_entropy(logits, torch.tensor(split.labels[chosen]).long()).backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
            return steps * batch / (time.perf_counter() - began)

        turn(1)
        return turn

    ours()
    for vocabulary in (known, words):
        rates = {(packed, n): loop(vocabulary, packed, n) for packed in (False, True) for n in (1, 2)}
        best = max(rates, key=lambda key: rates[key](4))
        pairs = [(ours(), rates[best]()) for _ in range(5)]
        ratio = float(np.median([a / b for a, b in pairs]))
        a, b = np.median(pairs, axis=0)
        print(
            f"LSTM-{layers}-{hidden}, {found.rows} rows of {found.width}: {a:.0f} examples/s against {b:.0f} of "
            f"torch ({'packed' if best[0] else 'padded'}, {best[1]} threads, {vocabulary} embeddings): {ratio:.2f}"
        )
    shapes = {name: leaf.shape for name, leaf in pool.one.params.items()}
    reached = ceilings.measure(devices, [(found.rows * found.width, 256, 4 * hidden)], "highest")
    sizes = {"width": 256, "layers": layers, "dtype": "float32"}
    step = cost.step_cost(shapes, tokens=batch * lengths.mean(), squares=0, examples=batch, **sizes)
    allowed = batch / sum(cost.bound(step, Chip("here", reached.matmul, reached.copy), "float32"))
    about = f"{reached.matmul['float32'] / 1e9:.0f} GFLOP/s, {reached.copy / 1e9:.1f} GB/s"
    print(f"At this machine's ceilings ({about}) the formula of jaxft.cost allows {allowed:.0f} examples/s")


if __name__ == "__main__":
    machine.divide()
    measure(*map(int, sys.argv[1:]))
