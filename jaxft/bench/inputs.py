"""What a bench trains: encoders of a known size with random weights, and tasks with the lengths of GLUE's.

Both are ordinary files, a checkpoint in the Hugging Face layout and a task of TSV files, so that every side loads the
very same by its ordinary path.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxft.models.known import SIZES
from jaxft.study import Study, TaskConfig

SHARES = (0, 2, 5, *range(10, 91, 5), 95, 98, 99, 99.8, 100)
"""The percentages to which the quantiles of `Lengths` belong."""


class Lengths(NamedTuple):
    """How long a task's examples are, in tokens with the special ones, cut to 128."""

    pair: bool
    train: int
    """Examples."""
    dev: int
    train_quantiles: tuple[int, ...]
    dev_quantiles: tuple[int, ...]
    distinct: int
    """Word pieces that occur in the training set, the special ones not counted."""


# Counted in the official files of GLUE with the word pieces of BERT (uncased).
LENGTHS = {
    "mrpc": Lengths(
        True,
        3668,
        408,
        (19, 28, 32, 36, 39, 41, 44, 45, 47, 50, 51, 53, 55, 57, 59, 61, 62, 64, 67, 70, 74, 79, 83, 91, 103),
        (26, 30, 32, 37, 40, 42, 44, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63, 64, 67, 70, 74, 79, 81, 86, 86),
        11563,
    ),
    "rte": Lengths(
        True,
        2490,
        277,
        (13, 24, 29, 33, 37, 40, 43, 45, 47, 50, 53, 56, 59, 62, 67, 72, 85, 103, 120, 128, 128, 128, 128, 128, 128),
        (17, 23, 29, 34, 36, 38, 41, 43, 46, 48, 50, 53, 56, 60, 65, 71, 79, 99, 116, 128, 128, 128, 128, 128, 128),
        13570,
    ),
    "cola": Lengths(
        False,
        8551,
        1043,
        (4, 6, 6, 7, 8, 8, 9, 9, 9, 10, 10, 10, 11, 11, 12, 12, 13, 14, 15, 17, 20, 23, 25, 30, 47),
        (5, 6, 6, 7, 8, 8, 9, 9, 9, 10, 10, 10, 11, 11, 12, 13, 14, 15, 16, 18, 21, 27, 29, 33, 35),
        5585,
    ),
    "sst2": Lengths(
        False,
        67349,
        872,
        (3, 3, 4, 4, 5, 6, 6, 7, 8, 8, 9, 10, 11, 13, 14, 16, 18, 20, 23, 27, 33, 40, 44, 53, 66),
        (4, 8, 10, 12, 14, 16, 17, 19, 20, 21, 23, 24, 26, 27, 29, 30, 32, 34, 37, 40, 44, 48, 52, 54, 55),
        11570,
    ),
}


def made(study: Study, lengths: str | None, folder: Path) -> Study:
    """The study with its model or task written to files below `folder`, where it names a size or lengths.

    A folder of a size's name is taken for a checkpoint, as everywhere.
    """
    from jaxft import models

    name, bar, network = study.model.partition("|")
    if name in SIZES and not Path(name).is_dir():
        study = replace(study, model=f"{checkpoint(folder / 'model', SIZES[name])}{bar}{network}")
    if lengths is not None:
        tokenizer = models.open(study.model).tokenizer
        study = replace(study, task=task(folder / "task", LENGTHS[lengths], tokenizer, study.task.max_length))
    return study


def checkpoint(folder: Path, config: dict[str, Any]) -> Path:
    """Writes the encoder of a config with weights from N(0, .02^2), biases 0 and norm scales 1; no head."""
    import jax

    from jaxft import models
    from jaxft.models import checkpoint as files
    from jaxft.models import family

    rng = np.random.default_rng(0)

    def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name.endswith(("/bias", "/scale")):
            return np.full(shape, float(name.endswith("scale")), np.float32)
        return np.float32(0.02) * rng.standard_normal(shape, np.float32)

    shapes = jax.eval_shape(models.assemble(config, 2).init, jax.random.key(0))
    head = tuple(f"{module}/" for module in family.find(config).fresh)
    params = {name: drawn(name, leaf.shape) for name, leaf in shapes.items() if not name.startswith(head)}
    files.save(folder, config, params, _tokenizer(config))
    return folder


def task(folder: Path, lengths: Lengths, tokenizer: Any, max_length: int) -> TaskConfig:
    """Writes a text classification of random words, always the same, and returns how a study names it.

    As many examples as there were, their lengths spread as the quantiles say; words by Zipf's law, out of so many that
    about as many distinct ones occur. The labels are drawn too, so nothing can be learned.
    """
    rng = np.random.default_rng(0)
    special = tokenizer.num_special_tokens_to_add(pair=lengths.pair)
    folder.mkdir(parents=True, exist_ok=True)
    known = None
    for split, count, quantiles in (
        ("train", lengths.train, lengths.train_quantiles),
        ("dev", lengths.dev, lengths.dev_quantiles),
    ):
        wanted = rng.permutation(spread(count, quantiles)) - special
        own = np.maximum(wanted, 2 if lengths.pair else 1)
        known = vocabulary(words(tokenizer), int(own.sum()), lengths.distinct, rng) if known is None else known
        drawn = iter(rng.choice(known, own.sum(), p=_zipf(len(known))).tolist())
        rows = ["first\tsecond\tlabel" if lengths.pair else "first\tlabel"]
        for length, label in zip(own.tolist(), rng.integers(0, 2, count).tolist(), strict=True):
            text = [next(drawn) for _ in range(length)]
            half = length // 2 if lengths.pair else length
            parts = [text[:half], text[half:]] if lengths.pair else [text]
            rows.append("\t".join([*(" ".join(part) for part in parts), str(label)]))
        (folder / f"{split}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    second = "second" if lengths.pair else None
    return TaskConfig(name="text", path=str(folder), text="first", text_pair=second, max_length=max_length)


def spread(count: int, quantiles: Sequence[int]) -> np.ndarray:
    """So many lengths with these quantiles, ascending."""
    return np.interp((np.arange(count) + 0.5) / count * 100, SHARES, quantiles).round().astype(int)


def words(tokenizer: Any) -> list[str]:
    """The words that a tokenizer takes for one token each, at the start of a text and after another word."""
    found = sorted(set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens))
    plain = sorted({word for text in found if (word := text.lstrip("Ġ▁")).isalnum() and word.isascii()})

    def count(texts: list[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]

    (once,) = count(plain[:1])
    after = count([f"{plain[0]} {word}" for word in plain])
    return [word for word, one, two in zip(plain, count(plain), after, strict=True) if (one, two) == (1, once + 1)]


def vocabulary(known: Sequence[str], draws: int, distinct: int, rng: np.random.Generator) -> np.ndarray:
    """As many of the known words as it takes for so many draws to show so many distinct ones; all, if too few."""

    def expected(size: int) -> float:
        return float(-np.expm1(-draws * _zipf(size)).sum())

    size = 1 + bisect_left(range(1, len(known) + 1), distinct, key=expected)
    return rng.permutation(np.array(known))[: min(size, len(known))]


def _zipf(size: int) -> np.ndarray:
    """The shares of words by rank (Zipf's law as Mandelbrot 1953 has it)."""
    weights = 1 / (np.arange(size) + 2.7)
    return weights / weights.sum()


def _tokenizer(config: dict[str, Any]) -> Any:
    """One token per word, w0, w1, ...; the special ones in the manner of the config's family."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import RobertaProcessing, TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    roberta = config["model_type"] in ("roberta", "bart")
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if roberta else ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    names = [*special, *(f"w{i}" for i in range(config["vocab_size"] - len(special)))]
    made = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token=special[3 if roberta else 1]))
    made.pre_tokenizer = WhitespaceSplit()
    if roberta:
        made.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
        roles = ("cls", "pad", "sep", "unk", "mask")
    else:
        pieces = [("[CLS]", 2), ("[SEP]", 3)]
        made.post_processor = TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", pieces)
        roles = ("pad", "unk", "cls", "sep", "mask")
    named = {f"{role}_token": token for role, token in zip(roles, special, strict=True)}
    given = ["input_ids", *([] if roberta else ["token_type_ids"]), "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=made, model_input_names=given, **named)
