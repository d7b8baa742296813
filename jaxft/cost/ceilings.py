"""What this machine reaches at most: matmuls a second and bytes copied a second, measured."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

REPEATS = 3  # of which the fastest counts


class Ceilings(NamedTuple):
    """Sums over all devices, each at work at the same time."""

    matmul: dict[str, float]
    """FLOP/s by number format."""
    copy: float
    """Bytes/s, those read and those written counted."""
    shapes: dict[str, tuple[int, int, int]]
    """The (rows, inputs, outputs) at which the matmuls were fastest."""


def measure(
    devices: Sequence, shapes: Sequence[tuple[int, int, int]], precision: str, seconds: float = 0.3, size: int = 2**28
) -> Ceilings:
    """Both ceilings of these devices; a second or two for each shape.

    Args:
        devices: of one platform.
        shapes: (rows, inputs, outputs) of matmuls to try besides squares, in the format that the study computes in.
        precision: the study's; float32 is measured in it, or in full where it is bfloat16.
        seconds: the least that a measurement takes.
        size: bytes of the array that is copied, on each device.
    """
    accelerator, own = devices[0].platform != "cpu", "bfloat16" if precision == "bfloat16" else "float32"
    squares = [(n, n, n) for n in ((2048, 4096, 8192) if accelerator else (512, 1024, 2048))]
    formats = ("float32", "bfloat16") if accelerator or own == "bfloat16" else ("float32",)
    tried = {name: [*squares, *(shapes if name == own else ())] for name in formats}
    return _found(devices, tried, precision, seconds, size)


def again(devices: Sequence, found: Ceilings, precision: str, seconds: float = 0.3, size: int = 2**28) -> Ceilings:
    """Those of the shapes that were the fastest, which are compiled already; the rest as for `measure`."""
    return _found(devices, {name: [shape] for name, shape in found.shapes.items()}, precision, seconds, size)


def _found(devices: Sequence, shapes: dict[str, list], precision: str, seconds: float, size: int) -> Ceilings:
    exact = {"float32": "highest" if precision == "bfloat16" else precision, "bfloat16": "default"}
    fastest = {
        name: max((matmul(devices, shape, name, exact[name], seconds), shape) for shape in each)
        for name, each in shapes.items()
    }
    return Ceilings(
        matmul={name: speed for name, (speed, _) in fastest.items()},
        copy=copy(devices, size, seconds),
        shapes={name: shape for name, (_, shape) in fastest.items()},
    )


def best(one: Ceilings, other: Ceilings) -> Ceilings:
    """The higher of each."""
    faster = {name: max((one, other), key=lambda found: found.matmul[name]) for name in one.matmul}
    return Ceilings(
        matmul={name: found.matmul[name] for name, found in faster.items()},
        copy=max(one.copy, other.copy),
        shapes={name: found.shapes[name] for name, found in faster.items()},
    )


def matmul(devices: Sequence, shape: tuple[int, int, int], dtype: str, precision: str, seconds: float = 0.3) -> float:
    """FLOP/s of x = (x @ a) @ b again and again, with x [rows, inputs] and a [inputs, outputs]."""
    rows, inputs, outputs = shape
    some = np.random.default_rng(0).standard_normal(2**20, np.float32)
    x, a, b = (
        (np.resize(some, size) / np.sqrt(size[0], dtype=np.float32)).astype(jnp.dtype(dtype))
        for size in ((rows, inputs), (inputs, outputs), (outputs, inputs))
    )
    with jax.default_matmul_precision(precision):
        return _rate(_matmuls, (x, a, b), devices, 4.0 * rows * inputs * outputs, seconds)


def copy(devices: Sequence, size: int = 2**28, seconds: float = 0.3) -> float:
    """Bytes/s of an array, larger than any cache, that is read, changed and written in its place."""
    return _rate(_copies, (np.ones(size // 4, np.float32),), devices, 2 * size, seconds)


@partial(jax.jit, donate_argnums=1)
def _matmuls(times, x, a, b):
    # The sizes of what comes out stay about 1, far from what is too large or too small for the format.
    return lax.fori_loop(0, times, lambda _, x: (x @ a) @ b, x)


@partial(jax.jit, donate_argnums=1)
def _copies(times, x):
    return lax.fori_loop(0, times, lambda _, x: 0.5 - x, x)


def _rate(program: Callable, arrays: Sequence[Any], devices: Sequence, work: float, seconds: float) -> float:
    """`work` a second of a loop's turn, summed over the devices; the loop takes its turns and then the arrays.

    It changes the first array in its place: the pages of a new one, first touched, can take longer than the loop.
    """
    placed = [[jax.device_put(x, device) for x in arrays] for device in devices]

    def timed(times: int) -> float:
        began = time.perf_counter()
        # A call returns before its device is done, so that all of them work at once.
        for there in placed:
            there[0] = program(times, *there)
        jax.block_until_ready(placed)
        return time.perf_counter() - began

    timed(1)
    times = 1
    while (spent := timed(times)) < seconds:
        times = max(2 * times, int(times * 1.1 * seconds / max(spent, 1e-6)))
    return work * times * len(devices) / min(spent, *(timed(times) for _ in range(REPEATS - 1)))
