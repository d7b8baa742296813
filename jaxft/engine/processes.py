"""The processes of one run: how they find each other, and what they tell each other between blocks."""

import json
import os
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn, TypeVar
from zlib import crc32

import jax
import numpy as np

from jaxft.engine import lost
from jaxft.errors import BadInput, line

HEARTBEAT = 30  # seconds without a sign of life after which a process counts as lost, and all others end
START = 300  # seconds in which all have to be there

Result = TypeVar("Result")


class Place(NamedTuple):
    """Where a process stands among others, as it was told; all None: to be found out."""

    address: str | None = None
    """HOST:PORT of process 0."""
    processes: int | None = None
    process: int | None = None
    """Counted from 0."""


class Lost(Exception):
    """Another process is gone, or cannot be reached."""


def join(place: Place, gone: Callable[[BadInput | Lost], None]) -> None:
    """Meets the others, before jax looks for devices. Without an address the cluster says who they are.

    jax knows Cloud TPU, SLURM, Open MPI and Kubernetes.

    Args:
        place: where this process stands.
        gone: called, in another thread, to end the process: Lost when one of the others is found to be gone, BadInput
            when they do not come within five minutes.

    Raises:
        BadInput: no cluster is found.
    """
    met = threading.Event()

    def found(aborts: bool) -> None:
        if met.is_set():
            gone(Lost("another process of this run is gone"))
        elif aborts:
            gone(_refused(place, f"not all processes came within {START} s"))

    lost.watch(found)
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    try:
        jax.distributed.initialize(
            *place,
            cluster_detection_method=None if place.address is None else "deactivate",
            initialization_timeout=START,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=HEARTBEAT,
        )
    except (ValueError, RuntimeError) as error:
        raise _refused(place, " ".join(str(error).split())[:300]) from None
    met.set()


def _refused(place: Place, why: str) -> BadInput:
    found = "no cluster was found" if place.address is None else f"{place.address} cannot be used"
    return BadInput(f"--distributed: {found} ({why}); give HOST:PORT with --processes and --process")


def count() -> int:
    """How many there are; 1 unless they have met."""
    return jax.process_count()


def index() -> int:
    """Which of them this is."""
    return jax.process_index()


def everyone(values: np.ndarray) -> np.ndarray:
    """What each process has given, one after the other along a new first axis; all give the same shape.

    Raises:
        Lost: one is gone.
    """
    if count() == 1:
        return np.asarray(values)[None]
    from jax.experimental import multihost_utils

    with _together():
        return np.asarray(multihost_utils.process_allgather(np.asarray(values))).reshape(count(), *np.shape(values))


def told(what: Any) -> list[Any]:
    """Likewise for anything that JSON can say.

    Raises:
        Lost: one is gone.
    """
    if count() == 1:
        return [what]
    text = np.frombuffer(json.dumps(what).encode(), np.uint8)
    sizes = everyone(np.array(len(text)))
    padded = np.zeros(1 << int(sizes.max()).bit_length(), np.uint8)  # few sizes, for each is a program
    padded[: len(text)] = text
    return [json.loads(row[:size].tobytes()) for row, size in zip(everyone(padded), sizes, strict=True)]


def meet() -> None:
    """Waits until all are here.

    Raises:
        Lost: one is gone.
    """
    everyone(np.zeros((), np.int32))


def in_order(do: Callable[[], Result]) -> Result:
    """Process 0 does this, then the others; where it fails for process 0, nobody goes on.

    Raises:
        BadInput: what process 0 met.
    """
    failed, result = "", None
    if index() == 0:
        try:
            result = do()
        except BadInput as error:
            if count() == 1:
                raise
            failed = str(error)
    if failed := told(failed)[0]:
        raise BadInput(failed)
    return do() if result is None else result


@contextmanager
def in_turn() -> Iterator[None]:
    """The first process of each machine does this, then the others: what it fetches or makes, they find there."""
    hosts = everyone(np.array(crc32(socket.gethostname().encode()), np.uint32))
    first = index() == int(np.argmax(hosts == hosts[index()]))
    if not first:
        meet()
    try:
        yield
    finally:
        if first:
            meet()


@contextmanager
def _together() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (jax.errors.JaxRuntimeError, ValueError) as error:  # gloo's come as the second
            raise Lost(f"another process of this run is gone ({line(error)})") from None


def leave(code: int) -> NoReturn:
    """Ends this process at once, without waiting for the others."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
