"""Small things that tests train: a model without an encoder, data drawn at random, entries."""

import math
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel, Whitespace
from tokenizers.processors import RobertaProcessing, TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from jaxft import keys, models, optim
from jaxft.data import batch
from jaxft.engine.recipe import Entry, Recipe, Shared
from jaxft.models import checkpoint as files
from jaxft.study.trials import Length, Seeds
from jaxft.types import Method, Model, Out, Split, same


def matmuls(jaxpr, times: int = 1) -> list[tuple[tuple[str, str], int]]:
    """The number formats and the FLOPs of all matmuls of a jaxpr, in order; those of a scan as often as it runs.

    Of what differs between platforms only one way is ever compiled: those of a CPU count, which stand first.
    """
    found = []
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            inner = math.prod(eqn.invars[0].aval.shape[axis] for axis in contracted)
            formats = tuple(str(x.aval.dtype) for x in eqn.invars)
            found.append((formats, times * 2 * inner * eqn.outvars[0].aval.size))
        insides = list(jaxprs_in_params(eqn.params))
        for inside in insides[:1] if eqn.params.get("branches_platforms") else insides:
            found += matmuls(inside, times * eqn.params.get("length", 1))
    return found


def settings(folder: Path) -> dict:
    """A study of 2 x 3 trials on files of our own, as YAML would give it."""
    return {
        "name": "toy",
        "model": str(checkpoint(folder / "encoder")),
        "task": {"name": "text", "path": str(sentences(folder / "data")), "max_length": 16},
        "train": {"lr": 3e-3, "batch_size": 4, "epochs": 2, "dropout": 0.1},
        "seeds": {"init": "1..2", "order": "1..3"},
        "eval": {"per_epoch": 2, "batch_size": 8},
        "pool": {"slots": 2, "devices": 2},
    }


def light(folder: Path) -> dict:
    """The same of an LSTM, which compiles in a third of BERT's time: for what does not depend on the model."""
    study = settings(folder)
    return study | {"model": f"{study['model']}|lstm(hidden=8, embeddings='trained')"}


HP = {
    "train.lr": 0.05,
    "train.warmup": 0.1,
    "train.weight_decay": 0.01,
    "train.b1": 0.9,
    "train.b2": 0.999,
    "train.eps": 1e-6,
    "train.clip": 1.0,
    "train.dropout": 0.0,
    "stop.non_finite": 1.0,
    "stop.loss_above": np.inf,
    "stop.loss_patience": np.inf,
    "stop.one_class": np.inf,
    "stop.majority": np.inf,
}


def split(n: int, seed: int = 0, vocabulary: int = 30, longest: int = 8) -> Split:
    """Random sentences of 2 to `longest` tokens; the label says whether token 5 or 6 is among them."""
    rng = np.random.default_rng(seed)
    sentences = [rng.integers(1, vocabulary, rng.integers(2, longest + 1)) for _ in range(n)]
    labels = np.array([int(np.isin([5, 6, 7, 8, 9, 10], s).any()) for s in sentences], np.int32)
    lengths = np.array([len(s) for s in sentences], np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return Split(np.concatenate(sentences).astype(np.uint8), offsets, lengths // 2, labels)


@cache
def bag(vocabulary: int = 30, width: int = 6, classes: int = 2) -> Model:
    """A bag of words with one hidden layer."""
    shapes = {
        "embeddings/word/embedding": (vocabulary, width),
        "layers/0/output/kernel": (width, width),
        "layers/0/output/bias": (width,),
        "classifier/kernel": (width, classes),
    }

    def init(key):
        return {
            name: jnp.zeros(shape) if name.endswith("bias") else jax.random.normal(keys.named(key, name), shape) * 0.3
            for name, shape in shapes.items()
        }

    def apply(params, batch, key=None, rate=0.0, edit=same):
        x = edit("embeddings", params["embeddings/word/embedding"][batch.tokens])
        segments = batch.segments.reshape(-1)
        mine = (segments[None, :] == segments[batch.first][:, None]) & (segments[None, :] > 0)
        mean = mine.astype(x.dtype) @ x.reshape(-1, width) / jnp.maximum(mine.sum(axis=1), 1)[:, None]
        bias = params["layers/0/output/bias"]
        y = edit("layers/0", jnp.tanh(mean @ params["layers/0/output/kernel"] + bias[None, :]))
        if key is not None:
            y = jnp.where(jax.random.bernoulli(key, 1.0 - rate, y.shape), y / (1.0 - rate), 0.0)
        return Out(y @ params["classifier/kernel"], (x, y))

    return Model(init, apply)


BERT = {
    "model_type": "bert",
    "vocab_size": 30,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
}

ELECTRA = BERT | {"model_type": "electra", "embedding_size": 24}

ROBERTA = BERT | {
    "model_type": "roberta",
    "vocab_size": 300,
    "max_position_embeddings": 18,
    "type_vocab_size": 1,
    "pad_token_id": 1,
}


def bert(classes: int = 2) -> tuple[Model, dict[str, np.ndarray]]:
    """A BERT of 2 layers, 32 wide, and weights for its encoder; the head is new in each replica."""
    return encoder(BERT, classes)


def encoder(config: dict, classes: int = 2) -> tuple[Model, dict[str, np.ndarray]]:
    """The same of any config."""
    model = models.assemble(config, classes)
    return model, dict(_weights(model))


@cache
def _weights(model: Model) -> dict[str, np.ndarray]:
    weights = jax.jit(model.init)(keys.named(jax.random.key(11), "toy"))
    return {n: np.asarray(w) for n, w in weights.items() if not n.startswith(("pooler", "classifier"))}


def recipe(model: Model | None = None, method=lambda hyper: Method(), **changes) -> Recipe:
    """A program of batches of 4 with an evaluation every 5 steps; 20 examples, up to 4 epochs."""
    sizes = {
        "schedule": "linear",
        "dropout_at": "every_step",
        "batch": 4,
        "layout": batch.Layout(4, 8, most=4),
        "every": 5,
        "steps": 20,
        "max_epochs": 4,
    } | changes
    return Recipe(model or bag(), method, optim.maker("adamw", "global"), **sizes)


def shared(n: int = 20, dev: int = 13, pretrained=None) -> Shared:
    """Training and dev sets of random sentences."""
    return Shared(pretrained or {}, split(n, 0), {"dev": batch.pack(split(dev, 1), 8, 8)})


def entry(init: int = 0, order: int = 0, n_train: int = 20, epochs: int = 4, lead: int = 0, **hp) -> Entry:
    """A trial of 20 steps; `**{"train.lr": ...}` sets a number."""
    length = Length(n_train, epochs, -(-n_train // 4), lead, epochs * -(-n_train // 4))
    return Entry(
        Seeds(*(np.uint32(s) for s in (init, order, order, order, 0))),
        {name: np.float32(value) for name, value in (HP | hp).items()},
        Length(*(np.int32(number) for number in length)),
    )


WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(25)))


def tokenizer():
    """One token per word, in the manner of BERT."""
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    pieces = [("[CLS]", 2), ("[SEP]", 3)]
    words.post_processor = TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", pieces)
    named = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=words, **named)


def bpe() -> Tokenizer:
    """Byte-level BPE in the manner of RoBERTa, learned from the words w0, w1, ...: <s> one </s></s> other </s>."""
    pieces = Tokenizer(BPE())
    pieces.pre_tokenizer = ByteLevel(add_prefix_space=False)
    special, alphabet = ["<s>", "<pad>", "</s>", "<unk>"], ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=299, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    pieces.train_from_iterator([" ".join(word for word in WORDS if word[0] == "w")] * 3, trainer)
    pieces.add_special_tokens(["<mask>"])
    pieces.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    return pieces


def checkpoint(folder: Path) -> Path:
    """A checkpoint in the Hugging Face layout: the encoder of `bert`, its pooler and head missing."""
    files.save(folder, BERT, bert()[1], tokenizer())
    return folder


def sentences(folder: Path, train: int = 20, dev: int = 13) -> Path:
    """A text classification in TSV files: whether a word below w5 is in the sentence."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    for name, count in (("train", train), ("dev", dev)):
        rows = ["sentence\tlabel"]
        for _ in range(count):
            words = rng.integers(0, 25, rng.integers(2, 7))
            rows.append(" ".join(f"w{w}" for w in words) + f"\t{'low' if (words < 5).any() else 'high'}")
        (folder / f"{name}.tsv").write_text("\n".join(rows) + "\n")
    return folder
