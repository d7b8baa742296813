"""Many replicas: the only file that knows of the axis R, of devices and of memory.

Everything below is `replica.py` under `vmap` (slots of a device) inside `jax.shard_map` (devices), compiled ahead of
time: a program that runs has been compiled once, and cannot compile again.
"""

import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxft import replica
from jaxft.errors import BadInput
from jaxft.replica import Entry, Recipe, Replica, Report, Shared

SLOTS = "slots"
MOST = {"cpu": 4, "gpu": 32, "tpu": 32}  # where throughput is flat, or nearly; `auto` goes no further


class Pool:
    """All slots of a compile group, and the programs that fill and run them."""

    def __init__(self, recipe: Recipe, shared: Shared, like: Entry, *, devices: Sequence, slots: int, precision: str):
        """Compiles the block and its companions and makes empty slots.

        Args:
            recipe: what the replicas have in common.
            shared: arrays on the host; one copy goes to each device.
            like: any entry, for shapes.
            devices: where to run.
            slots: slots per device.
            precision: float32 matmul precision, "highest" or "default".

        Raises:
            BadInput: the block does not fit into the devices' memory.
        """
        began = time.monotonic()
        self.recipe, self.slots_per_device, self.devices = recipe, slots, list(devices)
        self.slots = slots * len(self.devices)
        mesh = Mesh(np.array(self.devices), (SLOTS,))
        split, whole = NamedSharding(mesh, P(SLOTS)), NamedSharding(mesh, P())
        self._split, self._whole = split, whole

        def sharded(one, *axes):
            """`one` for every slot: arguments with axis 0 are split over slots, the others are everywhere the same."""
            specs = tuple(P(SLOTS) if axis == 0 else P() for axis in axes)
            many = jax.vmap(one, in_axes=axes)
            # check_vma: jax 0.12 cannot follow the gradient of the exact gelu through its check.
            return jax.shard_map(many, mesh=mesh, in_specs=specs, out_specs=P(SLOTS), check_vma=False)

        def fill(old: Replica, entry: Entry, take, shared: Shared) -> Replica:
            new = replica.init(recipe, shared, entry)
            return jax.tree.map(lambda n, o: jnp.where(take, n, o), new, old)

        def put(old: Replica, new: Replica, take) -> Replica:
            return jax.tree.map(lambda n, o: jnp.where(take, n, o), new, old)

        def block(old: Replica, shared: Shared, steps) -> tuple[Replica, Report]:
            return replica.block(recipe, shared, old, steps)

        self._precision = precision
        with jax.default_matmul_precision(precision):
            entries = _shapes(_stack(like, self.slots), split)
            given = _shapes(shared, whole)
            one = jax.eval_shape(lambda e, s: replica.init(recipe, s, e), like, shared)
            state = _shapes(_stack(one, self.slots), split)
            flags = jax.ShapeDtypeStruct((self.slots,), bool, sharding=split)
            number = jax.ShapeDtypeStruct((), jnp.int32, sharding=whole)
            run = jax.jit(sharded(block, 0, None, None), donate_argnums=0)
            self.block = run.lower(state, given, number).compile()
            fill_all = jax.jit(sharded(fill, 0, 0, 0, None), donate_argnums=0)
            self._fill = fill_all.lower(state, entries, flags, given).compile()
            self.memory = Memory.of([self.block, self._fill], given, slots, self.devices[0])
            if not self.memory.fits:
                raise BadInput(self.memory.refusal())
            spread = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape[1:], s.dtype, sharding=whole), state)
            self._put = jax.jit(sharded(put, 0, None, 0), donate_argnums=0).lower(state, spread, flags).compile()
            self._take = jax.jit(lambda many, slot: jax.tree.map(lambda x: x[slot], many), out_shardings=whole)
            empty = jax.jit(lambda: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), state), out_shardings=split)
            self.state: Replica = empty()
        self.shared = jax.device_put(shared, whole)
        self.compile_seconds = time.monotonic() - began

    def fill(self, entries: dict[int, Entry]) -> None:
        """Starts a new replica in each of the given slots; the others keep every bit."""
        if not entries:
            return
        some = next(iter(entries.values()))
        rows = [entries.get(slot, some) for slot in range(self.slots)]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
        take = np.array([slot in entries for slot in range(self.slots)])
        stacked, take = jax.device_put((stacked, take), self._split)
        self.state = self._fill(self.state, stacked, take, self.shared)

    def run(self, steps: int) -> Report:
        """One block of `steps` steps for all slots. Returns numpy arrays with a leading axis of slots."""
        if not 0 <= steps <= self.recipe.every:
            raise ValueError(f"a block has at most {self.recipe.every} steps, not {steps}")
        count = jax.device_put(np.int32(steps), self._whole)
        self.state, report = self.block(self.state, self.shared, count)
        return jax.device_get(report)

    def take(self, slot: int) -> Replica:
        """A copy of the replica in a slot, in host memory."""
        return jax.device_get(self._take(self.state, slot))

    def put(self, slot: int, parked: Replica) -> None:
        """Places a replica that `take` gave into a slot, where it continues bit for bit."""
        at = np.arange(self.slots) == slot
        self.state = self._put(self.state, jax.device_put(parked, self._whole), jax.device_put(at, self._split))

    def device(self, slot: int) -> str:
        """The device of a slot."""
        device = self.devices[slot // self.slots_per_device]
        return f"{device.device_kind}:{device.id}" if device.platform != "cpu" else f"cpu:{device.id}"


class Memory(NamedTuple):
    """What the compiled programs take on one device, in bytes, by the compiler's own analysis."""

    total: int
    shared: int
    """The part that does not grow with the number of slots: weights and data that all replicas read."""
    slots: int
    limit: int

    @classmethod
    def of(cls, programs: Sequence, shared: Any, slots: int, device) -> "Memory":
        """Reads compiled programs, of which the largest counts: they run one at a time."""
        parts = [program.memory_analysis() for program in programs]
        total = max(
            p.argument_size_in_bytes + p.output_size_in_bytes + p.temp_size_in_bytes - p.alias_size_in_bytes
            for p in parts
        )
        once = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shared))
        return cls(int(total), int(once), slots, limit(device))

    @property
    def per_replica(self) -> int:
        """Bytes that each further slot takes."""
        return max(1, self.total - self.shared) // self.slots

    @property
    def fits(self) -> bool:
        """Whether the device has it."""
        return self.total <= self.limit

    @property
    def most(self) -> int:
        """How many slots would fit, by proportion."""
        return max(0, self.limit - self.shared) // self.per_replica

    def refusal(self) -> str:
        """The line for a width that does not fit."""
        advice = (
            f"pool.slots: {self.most} would fit" if self.most else "not even one fits: take a smaller model or batch"
        )
        return (
            f"pool.slots: {self.slots} replicas per device need {size(self.total)}, "
            f"the device has {size(self.limit)} ({size(self.per_replica)} a replica); {advice}"
        )


def limit(device) -> int:
    """The bytes that a program may use on a device: 90 % of an accelerator's memory; on a CPU a share of what the
    machine has free now, equal for each virtual device.
    """
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"] * 0.9)
    return _free_host_memory() // len(jax.local_devices())


def widest(make, devices: Sequence) -> Pool:
    """The pool with the most slots per device that fits, up to where throughput is flat.

    Args:
        make: `slots -> Pool`, raising BadInput where the block does not fit.
        devices: of the pool.
    """
    slots = MOST.get(devices[0].platform, 8)
    while True:
        try:
            return make(slots)
        except BadInput:
            if slots == 1:
                raise
            slots //= 2


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
    return int(free * 0.9)


def _shapes(tree, sharding):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=sharding), tree)


def _stack(tree, count: int):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *np.shape(x)), x.dtype), tree)
