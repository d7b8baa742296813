"""Checkpoints in the Hugging Face layout, in and out: names and shapes as they stand in the files."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import save_file

from jaxft.errors import BadInput
from jaxft.models import family, ports, torchfile

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

LEAVES = {"kernel": "weight", "embedding": "weight", "scale": "weight", "bias": "bias"}
"""Ours -> theirs; a kernel is the transposed weight."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        BadInput: there is no such file, or it holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not JSON ({error})") from None
    if not isinstance(found, dict):
        raise BadInput(f"{path}: found a {type(found).__name__}, a JSON object is accepted")
    return found


def files(folder: Path) -> list[Path]:
    """The files that hold a checkpoint's tensors.

    Raises:
        BadInput: there is none, or an index names one that is not there.
    """
    for name in WEIGHTS:
        path = folder / name
        if not path.is_file():
            continue
        if path.suffix != ".json":
            return [path]
        shards = read_json(path).get("weight_map")
        if not isinstance(shards, dict) or not shards or not all(isinstance(s, str) for s in shards.values()):
            raise BadInput(
                f"{path}: weight_map: found {type(shards).__name__}, names of tensors and files are accepted"
            )
        # Only names of the folder itself: an index must not lead out of it.
        paths = [folder / Path(shard).name for shard in sorted(set(shards.values()))]
        for shard in paths:
            if not shard.is_file():
                raise BadInput(f"{shard}: no such file, but {name} names it")
        return paths
    raise BadInput(f"{folder}: no weights found, accepted: {', '.join(WEIGHTS)}")


def read(folder: Path) -> dict[str, np.ndarray]:
    """All tensors by their Hugging Face names; floats of any precision become float32.

    Raises:
        BadInput: a file is missing or damaged, or a `.bin` holds anything but tensors.
    """
    tensors: dict[str, np.ndarray] = {}
    for path in files(folder):
        tensors |= torchfile.read(path) if path.suffix == ".bin" else _safetensors(path)
    return {_today(name): _float32(tensor) for name, tensor in tensors.items()}


def fingerprint(folder: Path) -> str:
    """16 hex digits that stand for the config and the weights, from the bytes of their files."""
    digest = hashlib.sha256()
    for path in (folder / "config.json", *files(folder)):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def save(
    folder: Path,
    config: Mapping[str, Any],
    params: Mapping[str, Any],
    tokenizer: Any = None,
    labels: Sequence[str] = (),
) -> None:
    """Writes parameters (flat, in our names) as a checkpoint that Hugging Face loads.

    Without a head among `params` it is a bare encoder. `labels` are the names of the classes, in order. Low-rank maps
    are folded in.

    Raises:
        BadInput: there are adapters among them.
    """
    kind, params = family.find(config), ports.merged(params)
    bias = params.get(f"{kind.fresh[-1]}/bias")
    told = {name: value for name, value in config.items() if name != "torch_dtype"} | {
        "architectures": [kind.architectures[bias is not None]],
        "dtype": "float32",
    }
    if bias is not None:
        labels = labels or [f"LABEL_{i}" for i in range(len(bias))]
        told |= {
            "id2label": {str(i): label for i, label in enumerate(labels)},
            "label2id": {label: i for i, label in enumerate(labels)},
            "problem_type": "single_label_classification" if len(bias) > 1 else "regression",
        }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    names = kind.names(config)
    tensors = {_theirs(name, names): _turned(name, np.asarray(value)) for name, value in params.items()}
    tensors = {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def pick(
    tensors: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    kind: family.Family,
    names: Mapping[str, str],
) -> dict[str, np.ndarray]:
    """Our parameters, of the given shapes, from a checkpoint's tensors; no head, and no absent pooler.

    Raises:
        BadInput: a tensor is missing, or its shape is not the config's.
    """
    params, missing = {}, []
    present = {key.removeprefix(kind.prefix).rsplit(".", 1)[0] for key in tensors}
    absent = [module for module in kind.optional if names[module].removeprefix(kind.prefix) not in present]
    for name, shape in shapes.items():
        if name.rsplit("/", 1)[0] in (*kind.fresh, *absent):
            continue
        whole = _theirs(name, names)
        module, leaf = name.rsplit("/", 1)
        every = [whole, *(f"{other}.{LEAVES[leaf]}" for other in kind.tied.get(module, ()))]
        key = next((key for one in every for key in (one, one.removeprefix(kind.prefix)) if key in tensors), None)
        if key is not None:
            found = tensors[key]
            wanted = shape[::-1] if name.endswith("/kernel") else shape
            if (found.dtype, found.shape) != (np.float32, wanted):
                told = f"found {found.dtype} of shape {found.shape}"
                raise BadInput(f"tensor {key}: {told}, config.json wants float32 of shape {wanted}")
            params[name] = _turned(name, found)
        else:
            missing.append(whole)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise BadInput(f"tensor {missing[0]}{more}: not found among {len(tensors)} tensors, config.json wants it")
    return params


def _theirs(name: str, names: Mapping[str, str]) -> str:
    """The Hugging Face name of one of our parameters."""
    module, leaf = name.rsplit("/", 1)
    return f"{names[module]}.{LEAVES[leaf]}"


def _turned(name: str, value: np.ndarray) -> np.ndarray:
    """From our layout to theirs, or back."""
    return value.T if name.endswith("/kernel") else value


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    # AttributeError: a number format that numpy lacks.
    except (safetensors.SafetensorError, OSError, AttributeError) as error:
        raise BadInput(f"{path}: not a readable safetensors file ({error})") from None


def _today(name: str) -> str:
    """Old checkpoints call the weights of LayerNorm gamma and beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _float32(tensor: np.ndarray) -> np.ndarray:
    # bfloat16 is no floating type to numpy: its kind is "V".
    return tensor.astype(np.float32, copy=False) if tensor.dtype.kind in "fV" else tensor
