"""Encoders: one file per family, and checkpoints in and out. The only room that knows flax."""

import json
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxft import networks, tree
from jaxft.errors import BadInput
from jaxft.models import checkpoint as files
from jaxft.models import compact, family
from jaxft.models.compact import Kept
from jaxft.models.dropout import Dropout
from jaxft.models.ports import folded as folded
from jaxft.models.ports import merged as merged
from jaxft.networks import Made
from jaxft.types import Batch, Edit, Model, Out, Params, Split, same

EMBEDDED = Path(__file__).parents[1] / "assets" / "encoder"
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json")


class Checkpoint(NamedTuple):
    """A pretrained encoder on disk; its tensors are read by `build`."""

    name: str
    """As the user wrote it."""
    folder: Path
    family: str
    """The `model_type`."""
    config: dict[str, Any]
    tokenizer: Any
    """A fast tokenizer of transformers."""
    fingerprint: str
    """16 hex digits of a hash over config and weights."""
    made: Made | None = None
    """The network in its place; `family` and `config` above are then those of that."""


def open(name: str) -> Checkpoint:
    """Finds a checkpoint: `embedded`, a local folder, or a hub name, which is downloaded unless it is cached.

    After a bar, `FOLDER|lstm(layers=4)`, the name says what is made of it; see `networks/`.

    Raises:
        BadInput: there is none, its architecture is not supported, or a file of it is missing or damaged.
    """
    place, network = networks.load(name)
    folder = _folder(place)
    config = files.read_json(folder / "config.json")
    try:
        family.find(config).names(config)
    except BadInput as error:
        raise BadInput(f"{folder}/{error}") from None
    tokenizer = _tokenizer(folder)
    if len(tokenizer) > config["vocab_size"]:
        raise BadInput(f"{folder}: the tokenizer knows {len(tokenizer)} tokens, vocab_size is {config['vocab_size']}")
    made = network(config) if network else None
    config = dict(made.config) if made else config
    return Checkpoint(name, folder, config["model_type"], config, tokenizer, files.fingerprint(folder), made)


def positions(checkpoint: Checkpoint) -> int:
    """The longest example that the encoder can read, in tokens, special ones included."""
    return family.find(checkpoint.config).positions(checkpoint.config)


def check(checkpoint: Checkpoint, splits: Iterable[Split]) -> None:
    """Raises BadInput where the head would read at another token than it was made for."""
    last = family.find(checkpoint.config).last(checkpoint.config)
    for split in splits if last is not None else ():
        others = int(np.sum(np.asarray(split.tokens)[np.asarray(split.offsets)[1:] - 1] != last))
        if others:
            raise BadInput(
                f"model: {checkpoint.folder}: it is read where an example ends in eos_token_id, {last}, "
                f"and its tokenizer ends {others} of {len(split.labels)} in something else"
            )


def serial(checkpoint: Checkpoint) -> float:
    """What it costs to go through a batch's columns, in rows; see `data.batch.layout`."""
    return family.find(checkpoint.config).serial


def build(
    checkpoint: Checkpoint, classes: int, dtype: str = "float32", kept: Kept | None = None
) -> tuple[Model, dict[str, np.ndarray]]:
    """The model, and its pretrained parameters, float32; the head and a missing pooler are not among them.

    Args:
        checkpoint: what `open` gave.
        classes: how many logits, C; 1 for a regression.
        dtype: what the model computes in, as for `assemble`.
        kept: the rows of its tables that it has, as for `assemble`.

    Raises:
        BadInput: the tensors do not fit the config.
    """
    made = checkpoint.made
    told = files.read_json(checkpoint.folder / "config.json") if made else checkpoint.config
    kind, whole = family.find(told), assemble(told, classes)
    shapes = {name: leaf.shape for name, leaf in jax.eval_shape(whole.init, jax.random.key(0)).items()}
    if made:
        shapes = {name: shapes[name] for name in made.taken}
    try:
        params = files.pick(files.read(checkpoint.folder), shapes, kind, kind.names(told)) if shapes else {}
    except BadInput as error:
        raise BadInput(f"{checkpoint.folder}: {error}") from None
    model = assemble(checkpoint.config, classes, dtype, kept)
    return model._replace(frozen=made.frozen if made else ()), compact.cut(params, kept or {})


def classes(checkpoint: Checkpoint) -> int:
    """How many logits the head of a fine-tuned checkpoint gives.

    Raises:
        BadInput: it has no head, or one of another kind.
    """
    kind = family.find(checkpoint.config)
    found = files.read(checkpoint.folder).get(f"{kind.names(checkpoint.config)[kind.fresh[-1]]}.weight")
    if found is None or found.ndim != 2:
        raise BadInput(f"{checkpoint.folder}: no head for classification in it: expected a fine-tuned checkpoint")
    return len(found)


def trained(checkpoint: Checkpoint) -> tuple[Model, dict[str, np.ndarray]]:
    """A fine-tuned checkpoint: the model and all of its parameters, its head among them, float32.

    Raises:
        BadInput: it has no head, or the tensors do not fit the config.
    """
    kind, model = family.find(checkpoint.config), assemble(checkpoint.config, classes(checkpoint))
    whole, names = kind._replace(fresh=(), optional=()), kind.names(checkpoint.config)
    shapes = {name: leaf.shape for name, leaf in jax.eval_shape(model.init, jax.random.key(0)).items()}
    try:
        return model, files.pick(files.read(checkpoint.folder), shapes, whole, names)
    except BadInput as error:
        raise BadInput(f"{checkpoint.folder}: {error}") from None


def assemble(config: family.Config, classes: int, dtype: str = "float32", kept: Kept | None = None) -> Model:
    """The model of a config, without any checkpoint: its `init` gives all of its parameters, in float32.

    From the same arguments it is the same one each time.

    Args:
        config: in the manner of Hugging Face.
        classes: how many logits, C.
        dtype: "bfloat16" to compute linear maps and attention in it. As in torch's autocast embeddings, norms, softmax
            and what the layers add up stay float32, and so do the gradients; and here the logits do too.
        kept: the rows of its tables that it has, if not all; their fresh values are those of the whole tables.

    Raises:
        BadInput: the config is of an architecture that is not supported.
    """
    rows = tuple((table, np.asarray(rows, np.int32).tobytes()) for table, rows in sorted((kept or {}).items()))
    return _assembled(json.dumps(dict(config), sort_keys=True), classes, dtype, rows)


@lru_cache(maxsize=16)
def _assembled(text: str, classes: int, dtype: str, rows: tuple[tuple[str, bytes], ...]) -> Model:
    """`assemble` of what can be a key: the config as JSON, the rows as bytes of 32-bit integers."""
    config, kept = json.loads(text), {table: np.frombuffer(numbers, np.int32) for table, numbers in rows}
    kind = family.find(config)
    whole, network = kind.network(config, classes), kind.network(compact.smaller(config, kept), classes, dtype)

    def rounded(params: Params) -> Params:
        """The kernels as linear maps read them: made once after a step, not once before it."""
        if dtype == "float32":
            return {}
        inner = [name.removesuffix("kernel") for name in params if name.endswith("/kernel")]
        return {f"{at}rounded": params[f"{at}kernel"].astype(dtype) for at in inner if at != f"{kind.fresh[-1]}/"}

    def apply(
        params: Params,
        batch: Batch,
        key: Key[Array, ""] | None = None,
        rate: Float[Array, ""] | float = 0.0,
        edit: Edit = same,
    ) -> Out:
        drop = Dropout(key, rate)
        return cast(Out, network.apply({"params": tree.nest(params)}, batch, drop, edit))

    row, one = jnp.zeros((1, 1), jnp.int32), jnp.zeros((1,), jnp.int32)
    batch = Batch(row, row, row, row, one, one, jnp.zeros((1,)))
    declared = jax.eval_shape(lambda key: whole.init(key, batch, Dropout(), same), jax.random.key(0))
    shapes = {name: leaf.shape for name, leaf in tree.flatten(declared["params"]).items()}
    words = "" if kind.begin(config) is not None else compact.WORD
    return Model(lambda key: compact.cut(kind.draw(config, key, shapes), kept), apply, rounded, words=words)


def _folder(name: str) -> Path:
    folder = EMBEDDED if name == "embedded" else Path(os.path.expanduser(name))
    if name and os.path.isdir(folder):  # unlike pathlib's, False for a name that no file can have
        return folder
    if name == "embedded" or os.path.exists(folder) or not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name):
        raise BadInput(f"model: {name}: no such folder; a folder, a hub name and `embedded` are accepted")
    # Imported here: slow, and not needed for a folder.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    wanted = [
        "config.json",
        "tokenizer*",
        "vocab*",
        "merges.txt",
        "special_tokens_map.json",
        "model*safetensors*",
    ]
    try:
        folder = Path(snapshot_download(name, allow_patterns=wanted))
        if not any((folder / weights).is_file() for weights in files.WEIGHTS):
            folder = Path(snapshot_download(name, allow_patterns=[*wanted, "pytorch_model*bin*"]))
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = str(error).strip().split("\n")[0]
        raise BadInput(f"model: {name}: no such folder, and not to be had from the hub ({reason})") from None
    return folder


def _tokenizer(folder: Path) -> Any:
    # Without any of them transformers makes a tokenizer that knows no word.
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise BadInput(f"{folder}: no tokenizer found, accepted: {', '.join(TOKENIZERS)}")
    # Imported here: slow. Only the tokenizers are wanted, so no advice to install torch (read on import).
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # transformers raises what it likes for a missing or damaged file.
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise BadInput(f"{folder}: no readable tokenizer ({reason})") from None
    if not tokenizer.is_fast:
        raise BadInput(f"{folder}: found a slow tokenizer, accepted: a fast one, with tokenizer.json")
    return tokenizer
