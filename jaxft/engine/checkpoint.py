"""Trials in flight, set down in the run folder: each as it was taken from its slot, to go on in any other.

Nothing but a trial's own state is needed for it to go on, so nothing else is kept: what is finished and what waits
follow from the rows and the study. A checkpoint is a folder with one file per trial, made by one process of its own
slots alone. orbax makes it appear as a whole, on a disk and on an object store; the file format, safetensors, holds
arrays and cannot hold code. What is read is checked against a sum, down to the last bit.
"""

import json
import re
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple
from warnings import warn
from zlib import crc32

import jax
import numpy as np
from safetensors.numpy import load, save

from jaxft.engine.recipe import Replica
from jaxft.errors import Note, line
from jaxft.folder import CHECKPOINTS, Folder


class Parked(NamedTuple):
    """A trial between two blocks, in host memory."""

    replica: Replica
    told: dict[str, Any]
    """What its record has seen, and where it was trained; JSON can say it."""
    arrays: dict[str, np.ndarray]
    """More of its record."""


class Found(NamedTuple):
    """A trial that a checkpoint holds; the later of two is the greater."""

    number: int
    """Of the checkpoint."""
    step: int
    path: str


class Unreadable(Exception):
    """A file is not what a checkpoint wrote, and why."""


class Checkpoints:
    """Those of a run folder that this process may read, and writes its own beside."""

    def __init__(self, folder: str, shard: tuple[int, int] | None = None, process: int = 0):
        """Looks for what is there.

        Args:
            folder: the run folder, a path or gs://.
            shard: of a job array, such as (3, 8); the others of its number are left alone: they may be at work.
            process: of those that run together.
        """
        at = Folder.at(folder)
        self.root = _path(str(at.local or at)) / CHECKPOINTS
        self._own = "{}of{}-".format(*shard) if shard else ""
        self._alike = rf"\d+of{shard[1]}-.*" if shard else "(?!)"
        self.part = f"{self._own}p{process}"
        self._writing: threading.Thread | None = None
        self._failed = ""
        self.holds: dict[str, int] = {}
        """By trial, the step at which this process has set it down, in what is there as a whole."""
        self._whole: list = [path for part in self._parts() for path in _finished(part)]
        self.number = max((int(path.name) for path in self._whole), default=0)
        """Of the last one."""

    @staticmethod
    def possible(folder: str) -> bool:
        """Whether orbax can write there."""
        return folder.startswith("gs://") or Folder.at(folder).local is not None

    def found(self) -> dict[str, Found]:
        """By trial, where it was last, among the checkpoints that were whole at the start."""
        trials: dict[str, Found] = {}
        for checkpoint in self._whole:
            for name, here in _files(checkpoint).items():
                trials[name] = max(trials.get(name, here), here)
        return trials

    def tidy(self, needed: Mapping[str, Found]) -> None:
        """Removes the checkpoints that hold none of these trials, and what a kill left of others."""
        paths = {found.path for found in needed.values()}
        for part in self._parts(remove=True):
            kept = 0
            for path in sorted(part.iterdir()):
                if path in self._whole and paths & {found.path for found in _files(path).values()}:
                    kept += 1
                else:
                    path.rmtree()
            if not kept and part.exists():  # an object store has no empty folder
                part.rmdir()

    def save(self, parked: Mapping[str, Parked], waiting: Collection[str] = ()) -> None:
        """Writes these trials while the caller goes on; then removes what this process wrote before.

        Of that, what holds one of the trials that wait for a slot remains. An earlier checkpoint that is still being
        written is waited for.
        """
        self.wait()
        self.number += 1
        target = self.root / self.part / f"{self.number:06d}"
        self._writing = threading.Thread(target=self._save, args=(target, parked, set(waiting)), daemon=True)
        self._writing.start()

    def wait(self) -> None:
        """Until it is written. What went wrong is said as a Note: finished trials are kept without it."""
        if self._writing:
            self._writing.join()
            self._writing = None
        if self._failed:
            said = f"{self.root}: no checkpoint could be written ({self._failed}); finished trials are kept"
            warn(said, Note, stacklevel=2)
            self._failed = ""

    def clear(self) -> None:
        """Removes all that are of this process's shard, or without a shard all."""
        self.wait()
        for part in self._parts(remove=True):
            part.rmtree()
        if self.root.exists() and not any(self.root.iterdir()):
            self.root.rmdir()

    def _parts(self, *, remove: bool = False) -> list:
        """The folders that no other process writes to now: this shard's, and those of earlier runs.

        A shard may `remove` its own alone: the others look for their trials in the rest.
        """
        there = sorted(path for path in self.root.iterdir() if path.is_dir()) if self.root.exists() else []
        own = [path for path in there if path.name.startswith(self._own)]
        return own if remove else [path for path in there if path in own or not re.fullmatch(self._alike, path.name)]

    def _save(self, target, parked: Mapping[str, Parked], waiting: set[str]) -> None:
        try:
            if parked:
                _write(target, parked)
            for old in _finished(target.parent):
                if int(old.name) < int(target.name) and not waiting & _files(old).keys():
                    old.rmtree()
            there = (_files(path) for path in _finished(target.parent))
            self.holds = {name: found.step for files in there for name, found in files.items()}
        except Exception as error:  # a full disk, a store that is gone: training goes on
            self._failed = line(error)


def read(path: str, like: Replica) -> Parked:
    """A trial from its file.

    Args:
        path: of `Found`.
        like: a replica of the same shapes, `Pool.one`.

    Raises:
        Unreadable: it is gone, torn or garbled, or of other shapes.
    """
    try:
        content = _path(path).read_bytes()
        size = int.from_bytes(content[:8], "little")
        about = json.loads(content[8 : 8 + size])["__metadata__"]
        arrays, told = load(content), json.loads(about["told"])
        if int(about["crc32"]) != summed(arrays, about["told"]):
            raise Unreadable("its sum is another")
        leaves, shape = jax.tree_util.tree_flatten_with_path(like)
        names = [_name(way) for way, _ in leaves]
        for name, (_, leaf) in zip(names, leaves, strict=True):
            there = arrays[name]
            if there.shape != leaf.shape or there.dtype != leaf.dtype:
                raise Unreadable(
                    f"{name} is {there.dtype} {list(there.shape)}, expected {leaf.dtype} {list(leaf.shape)}"
                )
        replica = jax.tree.unflatten(shape, [arrays[name] for name in names])
        return Parked(
            replica, told, {n.removeprefix("record/"): x for n, x in arrays.items() if n.startswith("record/")}
        )
    except Unreadable:
        raise
    except Exception as error:  # whatever a file may lead to
        raise Unreadable(" ".join(f"{type(error).__name__} {error}".split())[:200]) from None


def written(parked: Parked) -> bytes:
    """The content of its file."""
    leaves = {
        _name(way): np.asarray(leaf, order="C") for way, leaf in jax.tree_util.tree_leaves_with_path(parked.replica)
    }
    leaves |= {f"record/{name}": np.asarray(values, order="C") for name, values in parked.arrays.items()}
    told = json.dumps(parked.told)
    return save(leaves, {"told": told, "crc32": str(summed(leaves, told))})


def summed(arrays: Mapping[str, np.ndarray], told: str) -> int:
    """A checksum of all that a file says."""
    total = crc32(told.encode())
    for name, values in sorted(arrays.items()):
        total = crc32(f"{name} {values.dtype} {values.shape}".encode(), total)
        total = crc32(values.reshape(-1).view(np.uint8).data, total)
    return total


def _write(target, parked: Mapping[str, Parked]) -> None:
    """As one orbax checkpoint, of this process alone."""
    import orbax.checkpoint as ocp

    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(me, {me}, barrier_sync_key_prefix=f"process{me}")
    handler, arguments = _orbax()
    ocp.Checkpointer(handler(), multiprocessing_options=alone).save(target, args=arguments(parked))


@cache
def _orbax() -> tuple[Any, Any]:
    """What orbax calls to write one, and what wraps its argument. orbax itself takes a second to load."""
    import orbax.checkpoint as ocp

    class Files(ocp.CheckpointHandler):
        """orbax's own handlers write an array of the host from process 0 only."""

        def save(self, directory, args) -> None:
            for name, one in args.parked.items():
                (directory / f"{name}.{int(one.replica.step)}.safetensors").write_bytes(written(one))

        def restore(self, directory, args=None) -> None:
            raise NotImplementedError("trials are read one by one")

    @ocp.args.register_with_handler(Files, for_save=True, for_restore=True)
    @dataclass
    class Arguments(ocp.args.CheckpointArgs):
        parked: Mapping[str, Parked]

    return Files, Arguments


def _files(checkpoint) -> dict[str, Found]:
    """The trials of a checkpoint."""
    found = {}
    for path in checkpoint.iterdir():
        if match := re.fullmatch(r"(\w+)\.(-?\d+)\.safetensors", path.name):
            found[match[1]] = Found(int(checkpoint.name), int(match[2]), str(path))
    return found


def _finished(part) -> list:
    """The checkpoints of a part that are whole, oldest first."""
    import orbax.checkpoint as ocp

    there = sorted(part.iterdir()) if part.exists() else []
    return [path for path in there if path.name.isdecimal() and ocp.utils.is_checkpoint_finalized(path)]


def _path(text: str):
    from etils import epath

    return epath.Path(text)


def _name(way) -> str:
    """Of a leaf: opt.mu.layers/0/query/kernel."""
    return ".".join(str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key)))) for key in way)
