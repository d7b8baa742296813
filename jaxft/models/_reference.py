"""The models as a page, `README.md` beside this file: of their families, the networks, and what either refuses."""

import inspect
import math
import pkgutil
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

from jaxft import members, models, networks
from jaxft.errors import BadInput
from jaxft.members.sections import parts
from jaxft.models import checkpoint, torchfile
from jaxft.models.bart import CALLED
from jaxft.models.family import Family
from jaxft.models.known import SIZES

PAGE = Path(__file__).with_name("README.md")
COMMAND = "python -m jaxft.models"

PARITY = {
    "bart": ("tests/test_bart.py",),
    "bert": ("tests/test_models_parity.py",),
    "deberta_v2": ("tests/test_deberta.py",),
    "electra": ("tests/test_models_parity.py",),
    "lstm": ("tests/test_lstm.py",),
    "roberta": ("tests/test_models_parity.py", "tests/test_roberta.py"),
}
"""Where logits, hidden states and gradients of a family are held against torch's."""

SAMPLE: dict[str, Any] = {
    "vocab_size": 101,
    "max_position_embeddings": 53,
    "hidden_size": 77,
    "num_hidden_layers": 3,
    "num_attention_heads": 11,
    "intermediate_size": 59,
    "embedding_size": 77,
    "pooling": "max",
    "d_model": 65,
    "encoder_layers": 5,
    "decoder_layers": 9,
    "encoder_attention_heads": 13,
    "decoder_attention_heads": 13,
    "encoder_ffn_dim": 17,
    "decoder_ffn_dim": 17,
}
"""A config that every family reads. Where a message has one of its numbers, the page has the name instead: but for what
has to be equal, no two are the same."""
NUMBERS = {"7": "hidden_size / num_attention_heads"} | {
    str(value): key for key, value in reversed(SAMPLE.items()) if key != "embedding_size"
}
WRONG = "?"
"""No key of a config takes it that is checked."""

HEAD = f"""# The models

Encoders, as `model:` of a study names them, and what may be trained in their place. Logits, hidden states and every
gradient are held against torch's in the tests named here, to 1e-5, relative to their size.

This page is made by `{COMMAND}` from tables and docstrings, and from what the families refuse: change
those, not the page.
"""


class Asked(dict):
    """A config that keeps the keys it was asked for."""

    keys_asked: set[str]

    def get(self, key: str, default: Any = None) -> Any:
        """As a dictionary's."""
        self.keys_asked.add(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        """As a dictionary's."""
        self.keys_asked.add(str(key))
        return super().__contains__(key)


def page() -> str:
    """The whole page."""
    found = families()
    rows = [
        (
            f"[{', '.join(f'`{kind}`' for kind in module.FAMILY.types)}](#{name})",
            _said(module),
            _listed(PARITY[name]),
        )
        for name, module in found.items()
    ]
    keys = _keys(found.values())
    return "\n".join(
        [
            HEAD,
            _table(("`model_type`", "what it is", "held against torch in"), rows),
            "",
            _files(),
            *(_family(name, module, keys) for name, module in found.items()),
            _networks(),
            _sizes(),
        ]
    )


def families() -> dict[str, ModuleType]:
    """The files that have a `FAMILY`, by name."""
    names = [each.name for each in pkgutil.iter_modules(models.__path__) if not each.name.startswith("_")]
    modules = {name: import_module(f"{models.__name__}.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "FAMILY")}


def refused(kind: Family, keys: Iterable[str]) -> Iterator[tuple[str, str, bool]]:
    """Of each key that a family checks: what it accepts, in words, and whether a config has to have it.

    Args:
        kind: the family.
        keys: those to be tried.
    """
    for key in sorted(keys):
        said = _objection(kind, SAMPLE | {key: WRONG})
        if said is not None and said.endswith(repr(WRONG)):  # of another key, which is to have the same value
            said = _objection(kind, SAMPLE | dict.fromkeys(_equal(key), WRONG))
        if said is None:
            continue
        accepted = re.search(r"found .*?, (?:accepted: (.*)|(.*) is accepted)$", said)
        if accepted is None:
            raise ValueError(f"{key}: no accepted value in {said!r}")
        told = re.sub(r" \(\d+\)", "", accepted[1] or accepted[2])
        if told == "a positive integer":
            told = _whole(kind, key)
        told = re.sub(r"\b\d+\b", lambda number: NUMBERS.get(number[0], number[0]), told)
        yield key, told, _objection(kind, {k: value for k, value in SAMPLE.items() if k != key}) is not None


def _whole(kind: Family, key: str) -> str:
    """More of a key that a message calls a positive integer: whether not any will do."""
    other = SAMPLE.get(key, 0) + 1
    if _objection(kind, SAMPLE | {key: other}) is None:
        return "a positive integer"
    said = _objection(kind, SAMPLE | dict.fromkeys(_equal(key), other)) or ""
    found = re.search(rf"found {other}, (a multiple of) \w+ \((\d+)\)", said)
    return f"{found[1]} {found[2]}" if found else "a positive integer"


def _equal(key: str) -> list[str]:
    """The key, and those that are to have its value."""
    return [key, *(other for other, value in SAMPLE.items() if value == SAMPLE.get(key, ...))]


def _objection(kind: Family, config: Mapping[str, Any]) -> str | None:
    try:
        _read(kind, config)
    except BadInput as error:
        return str(error)
    return None


def _read(kind: Family, config: Mapping[str, Any]) -> None:
    for read in (kind.names, kind.positions, kind.begin):
        read(config)
    kind.network(config, 2)


def _keys(modules: Iterable[ModuleType]) -> set[str]:
    """All that some family asks a config for."""
    config = Asked(SAMPLE)
    config.keys_asked = set(SAMPLE)
    for module in modules:
        _read(module.FAMILY, config)
    return config.keys_asked


def _files() -> str:
    about = parts(inspect.getdoc(models.open) or "")
    weights, tokenizers = _listed(checkpoint.WEIGHTS), _listed(models.TOKENIZERS, " or ")
    return "\n".join(
        [
            "## What is read",
            "",
            about.line,
            "",
            about.rule.replace("\n", " "),
            "",
            "- `config.json`, whose `model_type` chooses the family.",
            f"- Weights, the first there is of {weights}:",
            f"  - {_said(checkpoint.read)}",
            f"  - {_said(torchfile)}",
            f"  - {_said(checkpoint._today)}",
            f"- A fast tokenizer: {tokenizers}. It may know no more tokens than `vocab_size`.",
            "",
            "What a checkpoint has beyond the encoder, such as the head of its pretraining, is passed over. A tensor",
            "that is missing, or of another shape than `config.json` says, is refused by name.",
            "",
        ]
    )


def _family(name: str, module: ModuleType, keys: Iterable[str]) -> str:
    kind, sample = module.FAMILY, dict(SAMPLE)
    named, first = kind.names(sample), parts(inspect.getdoc(module) or "")
    lines = [f"## {name}", "", first.line, "", *([first.rule, ""] if first.rule else [])]
    lines += [f"- `model_type`: {_listed(kind.types)}."]
    if kind.prefix:
        lines += [f"- Names in a checkpoint begin with `{kind.prefix}`, which that of a bare encoder may lack."]
        lines += ["- Hugging Face calls it `{}`, and with a head `{}`.".format(*kind.architectures)]
    lines += [f"- Fresh for a task, never the checkpoint's: {_listed(named[each] for each in kind.fresh)}."]
    if kind.optional:
        lines += [f"- May be lacking, and is fresh then: {_listed(named[each] for each in kind.optional)}."]
    for each, others in kind.tied.items():
        lines += [f"- Tied: {_listed([named[each]])} may be there as {_listed(others, ' or ')} instead."]
    if kind.begin(sample) is not None:
        lines += ["- Puts in a token of itself, that of `decoder_start_token_id`, whatever the texts."]
    if kind.serial:
        lines += ["- Goes through a text's tokens one after the other, so that rows are short and many."]
    lines += [f"- Longest example: {_longest(kind.positions(sample))}."]
    known = [size for size, config in SIZES.items() if config["model_type"] in kind.types]
    lines += [f"- Known by name: {_listed(known)}; see [sizes](#sizes)."] if known else []
    lines += [f"- Held against torch in {_listed(PARITY[name])}.", ""]
    rows = [(f"`{key}`", told, "refused" if needed else "") for key, told, needed in refused(kind, keys)]
    return "\n".join([*lines, _table(("in `config.json`", "accepted", "if absent"), rows), ""])


def _longest(positions: int) -> str:
    whole = SAMPLE["max_position_embeddings"]
    if positions > whole:
        return "any"
    return (
        "`max_position_embeddings`" + (f" - {whole - positions}, by default" if positions < whole else "") + " tokens"
    )


def _networks() -> str:
    about = parts(inspect.getdoc(networks) or "")
    lines = ["## In a checkpoint's place", "", about.line.partition(". ")[0] + ".", ""]
    for name in members.names("network"):
        section, declared = parts(members.docstring(name, "network")), members.signature(name, "network")
        shown = ", ".join(f"{arg}={each.default!r}" for arg, each in declared.items())
        lines += [f"### {name}", "", f"`|{name}({shown})`" if declared else f"`|{name}`", "", section.line, ""]
        lines += [section.rule, ""] if section.rule else []
        rows = [
            (f"`{arg}`", f"`{each.default!r}`", members.accepted(each), section.arguments.get(arg, ""))
            for arg, each in declared.items()
        ]
        lines += [_table(("argument", "default", "accepted", ""), rows), ""] if rows else []
        lines += [f"**{word}:** {text}\n" for word, text in section.refused.items()]
        lines += [f"**Source:** {section.source}", ""] if section.source else []
    return "\n".join(lines)


def _sizes() -> str:
    def layers(config: Mapping[str, Any]) -> str:
        both = "{encoder_layers} + {decoder_layers}"
        return str(config["num_hidden_layers"]) if "num_hidden_layers" in config else both.format(**config)

    rows = []
    for name, config in {"embedded": checkpoint.read_json(models.EMBEDDED / "config.json"), **SIZES}.items():
        shapes = jax.eval_shape(models.assemble(config, 2).init, jax.random.key(0))
        count = sum(math.prod(leaf.shape) for leaf in shapes.values())
        keys = ("hidden_size", "num_attention_heads", "intermediate_size", "vocab_size")
        numbers = [layers(config), *(f"{config[key if key in config else CALLED[key]]:,}" for key in keys)]
        rows.append((f"`{name}`", config["model_type"], *numbers, f"{count:,}"))
    head = ("name", "`model_type`", "layers", "width", "heads", "inner", "tokens", "parameters, with a head of two")
    about = "`embedded` comes with jaxft. The others `jaxft bench --model` makes with random weights, of these sizes:"
    return "\n".join(["## sizes", "", about, "", _table(head, rows), ""])


def _said(what: Any) -> str:
    """The first line of its docstring."""
    return parts(inspect.getdoc(what) or "").line


def _listed(words: Iterable[str], between: str = ", ") -> str:
    return between.join(f"`{word}`" for word in words)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    every = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in every)
