"""What programs take of a device's memory, and how many slots that leaves room for."""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax

from jaxft.engine import processes
from jaxft.errors import BadInput

MOST = {"cpu": 4, "gpu": 32, "tpu": 32}  # slots per device where throughput is flat, or nearly; `auto` stops there

Made = TypeVar("Made")


class Memory(NamedTuple):
    """What a pool takes on one device, in bytes."""

    total: int
    shared: int
    """The part that does not grow with the number of slots: weights and data that all replicas read, and what one of
    them needs in its steps where they take them one after the other.
    """
    slots: int
    limit: int

    @classmethod
    def of(cls, total: int, shared: int, slots: int, devices: Sequence) -> "Memory":
        """Of programs that take so many bytes in all, and so many however many slots there are."""
        return cls(total, shared, slots, limit(devices))

    @property
    def per_replica(self) -> int:
        """Bytes that each further slot takes."""
        return max(1, self.total - self.shared) // self.slots

    @property
    def most(self) -> int:
        """How many slots would fit, by proportion."""
        return max(0, self.limit - self.shared) // self.per_replica


class DoesNotFit(BadInput):
    """A number of slots that the device has no memory for, with what would fit."""

    def __init__(self, memory: Memory):
        """Says so in one line."""
        self.most = memory.most
        advice = f"pool.slots: {self.most} would fit" if self.most else "none fits: take a smaller model or batch"
        super().__init__(
            f"pool.slots: {memory.slots} replicas per device need {size(memory.total)}, "
            f"the device has {size(memory.limit)} ({size(memory.per_replica)} a replica); {advice}"
        )


def needed(programs: Sequence) -> int:
    """What compiled programs take on one device, by the compiler's own analysis: they run one at a time, and the
    largest counts.
    """
    parts = [program.memory_analysis() for program in programs]
    return max(
        int(p.argument_size_in_bytes + p.output_size_in_bytes + p.temp_size_in_bytes - p.alias_size_in_bytes)
        for p in parts
    )


def output(program: Any) -> int:
    """What a compiled program gives on one device, in bytes."""
    return int(program.memory_analysis().output_size_in_bytes)


def held(tree: Any) -> int:
    """Bytes of a tree of arrays, or of their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def limit(devices: Sequence) -> int:
    """The bytes that a program may use on each of these devices: 90 % of an accelerator's memory; of a CPU's, an equal
    share of 90 % of what the machine has free now. The least of all processes, which have to agree.
    """
    here = [device for device in devices if device.process_index == processes.index()]
    stats = here[0].memory_stats() or {}
    whole = stats.get("bytes_limit") or _free_host_memory() // len(here)
    return min(processes.told(int(0.9 * whole)))


def widest(make: Callable[[int], Made], devices: Sequence) -> Made:
    """The pool with the most slots per device that fits, a power of two, up to where throughput is flat.

    Args:
        make: `slots -> Pool`, raising DoesNotFit.
        devices: of the pool.
    """
    slots = MOST.get(devices[0].platform, 8)
    while True:
        try:
            return make(slots)
        except DoesNotFit as error:
            if slots == 1:
                raise
            slots = 1 << min(slots // 2, max(1, error.most)).bit_length() - 1


def size(count: int | float) -> str:
    """Bytes for people: 1.5 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _free_host_memory() -> int:
    """Bytes free on this machine, within the limit of its container if it is in one."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        with open("/proc/meminfo") as lines:
            free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        with open("/sys/fs/cgroup/memory.max") as bound, open("/sys/fs/cgroup/memory.current") as used:
            text = bound.read().strip()
            if text != "max":
                free = min(free, int(text) - int(used.read()))
    except (OSError, StopIteration, ValueError):
        pass
    return free
