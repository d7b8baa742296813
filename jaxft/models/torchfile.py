"""Reads `pytorch_model.bin` without torch: its unpickler builds tensors and dictionaries, nothing else."""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

from jaxft.errors import BadInput

DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


class Stored(NamedTuple):
    """A tensor whose bytes are still in the file: strides and offset count entries, as in torch."""

    storage: str
    dtype: str
    entries: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Restricted(pickle.Unpickler):
    """Refuses every global but those that a dictionary of tensors needs."""

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in for an allowed global; nothing is ever imported."""
        # Made anew for each file: a pickle can set attributes of what it is given.
        allowed: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda source, *layout: Stored(*source, *layout[:3]),
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        }
        if module == "torch" and name in DTYPES:
            return name
        if (module, name) not in allowed:
            raise BadInput(f"refers to {module}.{name}, accepted: tensors and dictionaries only")
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> tuple[str, str, int]:
        """The reference to a storage: its key, type and number of entries."""
        _, dtype, storage, _, entries, *_ = pid
        return storage, dtype, entries


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file written by `torch.save`, in the zip format or the one before it.

    Raises:
        BadInput: the file is damaged, or holds anything but a dictionary of tensors.
    """
    try:
        with path.open("rb") as file:
            named, data = (_zipped if zipfile.is_zipfile(file) else _streamed)(file)
            return {name: _array(tensor, data) for name, tensor in named.items() if isinstance(tensor, Stored)}
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    # A damaged pickle can fail in any way that its opcodes can.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadInput(f"{path}: not a readable PyTorch file ({reason})") from None


Data = Callable[[str, int], bytes]
"""`(storage, size in bytes) -> its bytes`."""


def _zipped(file: IO[bytes]) -> tuple[dict[str, Any], Data]:
    archive = zipfile.ZipFile(file)
    (root,) = {name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")}
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise BadInput("found big-endian tensors, accepted: little-endian")

    def data(storage: str, size: int) -> bytes:
        info = archive.getinfo(f"{root}data/{storage}")
        if info.file_size != size:
            raise BadInput(f"storage {storage} has {info.file_size} bytes, its tensor needs {size}")
        return archive.read(info)

    return dict(Restricted(archive.open(f"{root}data.pkl")).load()), data


def _streamed(file: IO[bytes]) -> tuple[dict[str, Any], Data]:
    file.seek(0)
    magic, _, system, named, order = (Restricted(file).load() for _ in range(5))
    if magic != 0x1950A86A20F9469CFC6C or not system["little_endian"]:
        raise BadInput("not a PyTorch file of little-endian tensors")
    tensors = [tensor for tensor in named.values() if isinstance(tensor, Stored)]
    sizes = {t.storage: t.entries * np.dtype(DTYPES[t.dtype]).itemsize for t in tensors}
    # Each storage is its number of entries in 8 bytes, then its bytes.
    start = file.tell()
    places = {}
    for storage in order:
        places[storage] = start + 8
        start += 8 + sizes[storage]

    def data(storage: str, size: int) -> bytes:
        file.seek(places[storage])
        found = file.read(size)
        if len(found) != size:
            raise BadInput("the file is cut short")
        return found

    return dict(named), data


def _array(tensor: Stored, data: Data) -> np.ndarray:
    dtype = np.dtype(DTYPES[tensor.dtype])
    buffer = data(tensor.storage, tensor.entries * dtype.itemsize)
    strides = [stride * dtype.itemsize for stride in tensor.strides]
    # numpy refuses an offset, shape or stride that leaves the buffer.
    return np.ndarray(tensor.shape, dtype, buffer, tensor.offset * dtype.itemsize, strides)
