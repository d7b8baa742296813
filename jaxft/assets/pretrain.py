"""Makes the embedded encoder: `python -m jaxft.assets.pretrain --out DIR`, some minutes on two cores.

A BERT of 4 layers and width 64 learns to fill in masked words (Devlin et al. 2019, section 3.1), in pairs of sentences
of `grammar` that say the same and in single ones. There is no second objective; the pooler is fresh in every trial.
"""

import argparse
import string
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from jaxft import keys, models, optim
from jaxft.data.batch import pad, width
from jaxft.data.tokenise import tokenise
from jaxft.models import checkpoint
from jaxft.tasks import grammar
from jaxft.types import Batch, Ctx, Model, Params, Split, Tx

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SIZE, HELD_OUT = 60_000, 1_000
STEPS, BATCH, PEAK, WARMUP = 4_000, 64, 2e-3, 0.05
MASKED = 0.15
REPORT = 250
CONSTANTS = {"train.b1": 0.9, "train.b2": 0.999, "train.eps": 1e-6, "train.weight_decay": 0.1, "train.clip": 1.0}


def vocabulary() -> list[str]:
    """Special tokens, the words of the grammar, and letters and signs to spell what is no word of it."""
    letters = string.ascii_lowercase + string.digits
    single = [word for word in [*letters, *string.punctuation] if word not in grammar.words()]
    return [*SPECIAL, *grammar.words(), *single, *(f"##{letter}" for letter in letters)]


def tokenizer() -> Any:
    """A fast BERT tokenizer of transformers with this vocabulary."""
    # Imported here: slow.
    from transformers import BertTokenizer

    numbers = {token: number for number, token in enumerate(vocabulary())}
    return BertTokenizer(vocab=numbers, do_lower_case=True, model_max_length=128)


def config() -> dict[str, Any]:
    """The encoder's config.json."""
    return {
        "model_type": "bert",
        "vocab_size": len(vocabulary()),
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "hidden_act": "gelu",
        "max_position_embeddings": 128,
        "type_vocab_size": 2,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "pad_token_id": 0,
    }


def read(size: int, seed: int) -> tuple[Split, Split]:
    """The text, tokenised: so many pairs of sentences and so many single ones. Labels mean nothing.

    A pair is one meaning said twice, in two of its ways or in the same: what a word hides can be copied from its
    synonym. In a single sentence it must be guessed from what goes together.
    """
    rng, reader = Random(seed), tokenizer()
    meanings = [grammar.meaning(rng) for _ in range(size)]
    pairs = [(grammar.say(what, rng), grammar.say(what, rng)) for what in meanings]
    single = [(grammar.say(grammar.meaning(rng, grammar.POLAR), rng), None) for _ in range(size)]
    return tokenise(pairs, [0] * size, reader, 128), tokenise(single, [0] * size, reader, 128)


def mask(key: Key[Array, ""], batch: Batch) -> tuple[Batch, Bool[Array, "rows T"]]:
    """The batch with 15 % of its words hidden, and where they were: 80 % [MASK], 10 % another word, 10 % as it is."""
    which, how, what = jax.random.split(key, 3)
    shape, last = batch.tokens.shape, len(SPECIAL) + len(grammar.words())
    hidden = (jax.random.uniform(which, shape) < MASKED) & (batch.tokens >= len(SPECIAL))
    draw = jax.random.uniform(how, shape)
    another = jax.random.randint(what, shape, len(SPECIAL), last)
    shown = jnp.where(draw < 0.8, SPECIAL.index("[MASK]"), jnp.where(draw < 0.9, another, batch.tokens))
    return batch._replace(tokens=jnp.where(hidden, shown, batch.tokens)), hidden


def loss(
    model: Model, params: Params, bias: Float[Array, " V"], batch: Batch, key: Key[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Cross entropy and accuracy over the hidden words; the embedding is also the output layer."""
    seen, hidden = mask(key, batch)
    states = model.apply(params, seen._replace(first=None)).hidden[-1]
    logits = states @ params["embeddings/word/embedding"].T + bias[None, None, :]
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), batch.tokens[..., None], axis=-1)[..., 0]
    right = (logits.argmax(axis=-1) == batch.tokens) & hidden
    count = jnp.maximum(hidden.sum(), 1)
    return -(picked * hidden).sum() / count, right.sum() / count


def held_out(
    model: Model, params: Params, bias: Float[Array, " V"], split: Split
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """`loss` on all of a split, with the same words hidden each time."""
    batch = pad(split, jnp.arange(split.labels.shape[0]), width([split]))
    return loss(model, params, bias, batch, jax.random.key(0, impl=keys.IMPL))


def train(steps: int, say=print) -> tuple[Params, Float[Array, " V"]]:
    """The encoder's parameters without pooler and head, and the output bias, after so many steps."""
    parts, dev = read(SIZE, seed=1), read(HELD_OUT, seed=2)
    widths = [width(splits) for splits in zip(parts, dev, strict=True)]
    parts, dev = jax.device_put((parts, dev))
    key = jax.random.key(0, impl=keys.IMPL)
    model = models.assemble(config(), 2)
    fresh = model.init(keys.named(key, "init"))
    new = {name: value for name, value in fresh.items() if name.split("/")[0] in ("pooler", "classifier")}
    params = {name: value for name, value in fresh.items() if name not in new}
    params["out/bias"] = jnp.zeros(len(vocabulary()))
    tx: Tx = optim.make("adamw", "global", CONSTANTS.__getitem__)

    def step(at, carry):
        params, state = carry
        here = keys.at(keys.named(key, "step"), at)
        rows = jax.random.randint(keys.named(here, "rows"), (BATCH,), 0, SIZE)
        batches = [pad(part, rows, wide) for part, wide in zip(parts, widths, strict=True)]

        def objective(params):
            key, weights = keys.named(here, "mask"), {**new, **params}
            return sum(loss(model, weights, params["out/bias"], batch, key)[0] for batch in batches)

        rate = PEAK * optim.schedule("cosine", WARMUP, at, steps)
        ctx = Ctx(w0={}, step=at, total=jnp.int32(steps), lr=rate, key=here)
        updates, state = tx.update(jax.grad(objective)(params), state, params, ctx)
        return {name: params[name] + updates[name] for name in params}, state

    @partial(jax.jit, donate_argnums=0)
    def run(carry, first, last):
        return jax.lax.fori_loop(first, last, step, carry)

    carry = (params, tx.init(params))

    @jax.jit
    def measure(params):
        return [held_out(model, {**new, **params}, params["out/bias"], split)[1] for split in dev]

    for first in range(0, steps, REPORT):
        last = min(first + REPORT, steps)
        carry = run(carry, first, last)
        pairs, single = measure(carry[0])
        say(f"step {last}: hidden words right: {pairs:.1%} in pairs, {single:.1%} in single sentences", flush=True)
    params = dict(carry[0])
    return params, params.pop("out/bias")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m jaxft.assets.pretrain", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--steps", type=int, default=STEPS, help="fewer for a trial")
    chosen = parser.parse_args(arguments)
    params, _ = train(chosen.steps)
    arrays = {name: np.asarray(value) for name, value in params.items()}
    checkpoint.save(chosen.out, config(), arrays, tokenizer())


if __name__ == "__main__":
    main()
