"""A folder that lies anywhere: on this machine, or on an object store by fsspec. No jax here."""

import errno
import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jaxft.errors import BadInput, line

CHECKPOINTS = "checkpoints"
"""The folder of a run folder that holds the trials in flight."""
BEST = "best"
"""Likewise, with the parameters of the best trials."""
LIVE = "live"
"""Likewise, with what the processes of a run tell while it goes on."""
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]*://")


class Folder(NamedTuple):
    """Files by their name in it, such as "trials/000012.parquet"; `at` makes one.

    A file is there as a whole or not at all, whatever is killed when: on this machine it is written beside and renamed
    into place, elsewhere it is one put. What fails raises OSError, whatever a store's own errors are. Nothing is taken
    from fsspec's caches.
    """

    text: str
    local: Path | None
    """The folder on this machine, also of file://; None elsewhere."""
    store: Any
    """fsspec's file system; None on this machine."""
    root: str
    """The folder's name there."""

    @classmethod
    def at(cls, place: "str | Path | Folder") -> "Folder":
        """The folder of this name: a path, or a URL such as gs://bucket/runs/mrpc. It need not be there.

        Raises:
            BadInput: a protocol that fsspec does not know, or one whose package is not installed.
        """
        if isinstance(place, Folder):
            return place
        if isinstance(place, Path) or not URL.match(place):
            return cls(str(Path(place)), Path(place), None, "")
        from fsspec.core import url_to_fs  # slow to import

        try:
            store, root = url_to_fs(place)
        except Exception as error:  # each store has its own
            raise BadInput(f"{place}: cannot be used ({line(error)}){_advice(place, error)}") from None
        protocols = [store.protocol] if isinstance(store.protocol, str) else store.protocol
        if "file" in protocols:
            return cls(root, Path(root), None, "")
        return cls(place.rstrip("/"), None, store, root.rstrip("/"))

    def __str__(self) -> str:
        """The path, or the URL."""
        return self.text

    def place(self, name: str) -> str:
        """What a file is called in full."""
        return f"{self.text}/{name}"

    def read(self, name: str) -> bytes:
        """All of a file."""
        if self.local is not None:
            return _plainly((self.local / name).read_bytes)
        return _plainly(self.store.cat_file, self._key(name))

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """A file; one that is there is replaced. On this machine its folder must be there.

        Unless `durable`, nobody waits for the disk: a power cut may undo it.
        """
        if self.local is not None:
            _plainly(_write, self.local / name, data, durable)
        else:
            _plainly(self.store.pipe_file, self._key(name), data)

    def remove(self, name: str) -> None:
        """A file, if it is there."""
        with suppress(FileNotFoundError):
            if self.local is not None:
                _plainly((self.local / name).unlink)
            else:
                _plainly(self.store.rm_file, self._key(name))

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        if self.local is not None:
            return os.path.isfile(self.local / name)  # unlike pathlib's, False for a name that no file can have
        _plainly(self.store.invalidate_cache)
        try:
            return _plainly(self.store.info, self._key(name))["type"] == "file"
        except FileNotFoundError:
            return False

    def list(self, name: str = "") -> list[str]:
        """The names in this folder or one below, sorted, files and folders alike; none where there is no folder."""
        try:
            if self.local is not None:
                return sorted(_plainly(os.listdir, self.local / name))
            _plainly(self.store.invalidate_cache)
            here = self._key(name)
            found = [entry.rstrip("/") for entry in _plainly(partial(self.store.ls, detail=False), here)]
            return sorted(entry.rpartition("/")[2] for entry in found if entry.strip("/") != here.strip("/"))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def make(self, name: str = "") -> None:
        """This folder, or one below. An object store has none, so nothing is made there."""
        if self.local is not None:
            _plainly(partial((self.local / name).mkdir, parents=True, exist_ok=True))

    def _key(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root


def split(path: str | Path) -> tuple[Folder, str]:
    """The folder that a file is in, and the file's name there.

    Raises:
        BadInput: as `Folder.at`.
    """
    if isinstance(path, Path) or not URL.match(path):
        return Folder.at(Path(path).parent), Path(path).name
    folder, _, name = path.rpartition("/")
    return Folder.at(folder), name


def _advice(place: str, error: Exception) -> str:
    from fsspec.registry import known_implementations

    protocol = place.partition(":")[0]
    package = known_implementations.get(protocol, {}).get("class", "").partition(".")[0]
    if isinstance(error, ImportError) and package not in ("", "fsspec"):
        return f"; `pip install {package}`, or give another folder"
    return "; give a path, or a URL that fsspec knows, such as gs://bucket/runs/mrpc"


def _plainly(call: Callable[..., Any], *args: Any) -> Any:
    """What a call gives, or an OSError of whatever goes wrong."""
    try:
        return call(*args)
    except FileNotFoundError as error:
        # Some stores' errors hold their own traceback, and with it every frame above, so also a Store and its lock.
        error.__traceback__ = None
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", error.filename) from None
    except OSError:
        raise
    except Exception as error:  # a name that no file can have, or one of a store's own
        raise OSError(line(error)) from error


def _write(path: Path, data: bytes, durable: bool) -> None:
    """Readers of data sets pass over names with a dot in front."""
    beside = path.with_name(f".{path.name}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)  # on a full disk the space is needed
        raise
    if not durable:
        return
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the new name too must survive a power cut
    finally:
        os.close(directory)
