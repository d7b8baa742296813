"""Labels for the texts of a file, by one fine-tuned checkpoint or by several together."""

import csv
import io
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxft import models, tasks
from jaxft.data import batch, files
from jaxft.data.tokenise import tokenise
from jaxft.errors import BadInput, line
from jaxft.models import Checkpoint
from jaxft.tasks.source import texts

ROWS, WIDTH = 16, 128  # of a batch


class Predicted(NamedTuple):
    """What was predicted for the rows of a file."""

    labels: tuple[str, ...]
    """Names of the C classes; empty where a number is predicted."""
    values: Float[np.ndarray, "N C"]
    """Probabilities, the mean over the checkpoints; of a regression the number itself, C = 1. float32."""

    @property
    def label(self) -> list[str]:
        """The likeliest class of each row. [N]"""
        return [self.labels[number] for number in self.values.argmax(axis=1)]


def predict(
    checkpoints: Sequence[str | Path], file: str | Path, text: str | None = None, text_pair: str | None = None
) -> Predicted:
    """Predicts the label of each row of a file, in float32.

    Args:
        checkpoints: folders as `jaxft export` writes them, or others with a head that transformers wrote; of several
            the probabilities are averaged.
        file: .tsv, .csv or .jsonl, as a task's.
        text: its column with the texts, otherwise that of the study that a checkpoint is from, or `sentence`.
        text_pair: likewise of the second texts, if there are any.

    Raises:
        BadInput: a checkpoint has no head, several have other labels, the file or a column of it cannot be read, or the
            first checkpoint was trained on pairs and no column of second texts is named.
    """
    found = [models.open(str(name)) for name in checkpoints]
    first, *others = labels = [_labels(each) for each in found]
    for one, other in zip(found[1:], others, strict=True):
        if other != first:
            raise BadInput(f"{one.folder}: its labels are {_said(other)}, those of {found[0].folder} {_said(first)}")
    told = _study(found[0])
    table = files.read(Path(file))
    column, text_pair = _columns(told, set(table.columns), text, text_pair)
    if told.get("pairs") and not text_pair:
        raise BadInput(
            f"{found[0].folder}: it was trained on pairs of texts: say with --text-pair which column is second"
        )
    pairs = texts(table, text_pair, empty=True) if text_pair else [None] * len(table.places)
    rows = list(zip(texts(table, column), pairs, strict=True))
    values = [_values(each, rows, bool(names)) for each, names in zip(found, labels, strict=True)]
    return Predicted(first, np.stack(values).mean(axis=0, dtype=np.float32))


def write(found: Predicted, path: str | Path) -> None:
    """As CSV: a row for each of the file's, in its order; label and the probability of each class, or value.

    Raises:
        BadInput: it cannot be written; what was there before is still there then.
    """
    buffer, path = io.StringIO(newline=""), Path(path)
    lines = csv.writer(buffer, lineterminator="\n")
    if found.labels:
        lines.writerow(["label", *(f"p.{name}" for name in found.labels)])
        lines.writerows([label, *map(_number, row)] for label, row in zip(found.label, found.values, strict=True))
    else:
        lines.writerow(["value"])
        lines.writerows([_number(value)] for (value,) in found.values)
    part = None
    try:
        number, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with open(number, "w", encoding="utf-8", newline="") as file:
            file.write(buffer.getvalue())
        os.chmod(part, 0o644)
        os.replace(part, path)
    except OSError as error:
        if part is not None and os.path.exists(part):
            os.remove(part)
        raise BadInput(f"{path}: cannot be written ({line(error)})") from None


def _number(value: Any) -> str:
    return f"{value:.7g}"


def _columns(told: dict[str, Any], there: set[str], text: str | None, text_pair: str | None) -> tuple[str, str | None]:
    """Those that are named, else those of the task that it was trained on, as far as the file has them."""
    usual = [(each.text, each.pair) for each in tasks.columns(told.get("task.name", ""))]
    usual = usual or [(told.get("task.text") or "sentence", told.get("task.text_pair"))]
    first, second = next((pair for pair in usual if {*filter(None, pair)} <= there), usual[0])
    return text or first, text_pair or second


def _labels(checkpoint: Checkpoint) -> tuple[str, ...]:
    count = models.classes(checkpoint)
    if count == 1 or checkpoint.config.get("problem_type") == "regression":
        return ()
    told = checkpoint.config.get("id2label") or {}
    return tuple(str(told.get(str(number), f"LABEL_{number}")) for number in range(count))


def _said(labels: tuple[str, ...]) -> str:
    return ", ".join(labels) or "a number"


def _study(checkpoint: Checkpoint) -> dict[str, Any]:
    """The settings that it was trained with, where `jaxft.json` beside it has them."""
    try:
        about = json.loads((checkpoint.folder / "jaxft.json").read_text(encoding="utf-8"))
        told = {**about["settings"], "pairs": about.get("pairs")}
        usable = {"task.name": str, "task.text": str, "task.text_pair": str, "task.max_length": int, "pairs": bool}
        return {name: told[name] for name, kind in usable.items() if type(told.get(name)) is kind}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _values(checkpoint: Checkpoint, rows: list[tuple[str, str | None]], classes: bool) -> Float[np.ndarray, "N C"]:
    longest = min(_study(checkpoint).get("task.max_length", WIDTH), models.positions(checkpoint))
    split = tokenise(rows, [0] * len(rows), checkpoint.tokenizer, longest)
    models.check(checkpoint, [split])
    packed = batch.pack(split, ROWS, WIDTH)
    model, params = models.trained(checkpoint)
    with jax.default_matmul_precision("highest"):
        apply = jax.jit(lambda params, batch: model.apply(params, batch).logits)
        params = jax.tree.map(jnp.asarray, params)
        count = len(packed.batches.tokens)
        logits = [apply(params, jax.tree.map(lambda x, i=i: x[i], packed.batches)) for i in range(count)]
    found = np.concatenate(logits)[packed.back]
    return np.asarray(jax.nn.softmax(found) if classes else found)
