"""Many replicas: the only file that knows of the axis R, of devices and of memory.

Everything below is `replica.py` under `vmap` (slots of a device) inside `jax.shard_map` (devices), compiled ahead of
time: a program that runs has been compiled once, and cannot compile again.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxft import processes, replica
from jaxft.data.window import Windows
from jaxft.memory import DoesNotFit, Memory
from jaxft.recipe import Entry, Recipe, Replica, Report, Shared
from jaxft.types import Window

OPTIONS: dict[str, dict[str, str | bool]] = {
    "cpu": {"xla_cpu_copy_insertion_use_region_analysis": True},
    "gpu": {"xla_gpu_dot_merger_threshold_mb": "0"},
}
"""Of the compiler: on a CPU it would copy more of what a loop carries than it must (the same bits, less memory); on a
GPU it would make one matmul of two that read the same, and cut their gradients apart in memory.
"""


class Pool:
    """All slots of a compile group, and the programs that fill and run them.

    Slot s is place s % slots of device s // slots. What the programs get per device, such as the trial that enters one
    of its places, has a leading axis of devices.

    Where several processes share the devices, all of them make the same pool and call the same methods in the same
    order; what they get back is of their own slots, those in `own`.
    """

    def __init__(
        self, recipe: Recipe, shared: Shared, like: Entry, *, devices: Sequence, slots: int, precision: str,
        streamed: bool = False,
    ):  # fmt: skip
        """Compiles the block and its companions and makes empty slots.

        Args:
            recipe: what the replicas have in common.
            shared: arrays on the host; one copy goes to each device.
            like: any entry, for shapes.
            devices: where to run.
            slots: slots per device.
            precision: "highest", "high" or "default", for what is computed in float32; "bfloat16" says that the model
                computes in that, and is exact in the rest.
            streamed: the training set's tokens stay on the host, and those that a block reads go to the devices
                before it, of each device its own; the same bits.

        Raises:
            DoesNotFit: the programs need more memory than the devices have.
        """
        began = time.monotonic()
        self.recipe, self.devices, self.slots_per_device = recipe, list(devices), slots
        self.slots = slots * len(self.devices)
        self.own = [slot for slot in range(self.slots) if self.process(slot) == processes.index()]
        mesh = Mesh(np.array(self.devices), ("slots",))
        self._spread, self._everywhere = NamedSharding(mesh, P("slots")), NamedSharding(mesh, P())

        self._windows = Windows(shared.train, slots * recipe.every * recipe.batch) if streamed else None
        shared = self._without_tokens(shared)

        def block(many: Replica, shared: Shared, steps, *window: Window) -> tuple[Replica, Report]:
            """`steps` steps, at most `recipe.every`, and the evaluation.

            The loop is outside of vmap, which would trace it several times to find out what differs in it.
            """
            shared = shared._replace(window=_first(window[0])) if window else shared
            own, within = jax.vmap(partial(replica.begin, recipe, shared))(many)
            advance = jax.vmap(partial(replica.advance, recipe, shared), (0, 0, None))
            within = lax.fori_loop(0, steps, lambda i, within: advance(own, within, i), within)
            return jax.vmap(partial(replica.end, recipe, shared))(own, within)

        def init(entries: Entry, shared: Shared) -> Replica:
            return jax.vmap(partial(replica.init, recipe, shared))(entries)

        def put(many: Replica, ones: Replica, enters, place) -> Replica:
            return _placed(many, _first(ones), enters[0], place)

        def take(many: Replica, place) -> Replica:
            return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, place, 1), many)

        def peek(many: Replica) -> jax.Array:
            return jax.vmap(lambda one: replica.upcoming(recipe, one))(many)

        def compiled(function, *arguments, donate=()):
            """`function` on each device, over its part of what is spread."""
            specs = jax.tree.map(lambda x: x.sharding.spec, arguments)
            # check_vma: jax 0.12 cannot follow the gradient of the exact gelu through its check.
            mapped = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=P("slots"), check_vma=False)
            lowered = jax.jit(mapped, donate_argnums=donate).lower(*arguments)
            return lowered.compile(OPTIONS.get(self.devices[0].platform))

        with jax.default_matmul_precision("highest" if precision == "bfloat16" else precision):
            given = _shapes(shared, self._everywhere)
            number = jax.ShapeDtypeStruct((), jnp.int32, sharding=self._everywhere)
            self.one: Replica = jax.eval_shape(lambda e, s: replica.init(recipe, s, e), like, shared)
            self._like = jax.tree.map(np.asarray, like)
            many = _shapes(self.one, self._spread, self.slots)
            ones = _shapes(self.one, self._spread, len(self.devices))
            entries = _shapes(like, self._spread, len(self.devices))
            enters = jax.ShapeDtypeStruct((len(self.devices),), bool, sharding=self._spread)
            windows = [_shapes(self._windows.empty, self._spread, len(self.devices))] if self._windows else []
            self.block = compiled(block, many, given, number, *windows, donate=0)
            self._peek = compiled(peek, many) if self._windows else None
            self._init = compiled(init, entries, given)
            self._put = compiled(put, many, ones, enters, number, donate=0)
            self._take = compiled(take, many, number)
        programs = (self.block, self._init, self._put, self._take)
        self.memory = Memory.of(programs, given, slots, self.devices)
        if self.memory.total > self.memory.limit:
            raise DoesNotFit(self.memory)
        zeros = lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), many)  # noqa: E731
        self._empty = jax.jit(zeros, out_shardings=self._spread)
        self.wake(shared)
        self.compile_seconds = time.monotonic() - began

    def wake(self, shared: Shared) -> None:
        """Puts what all replicas read on the devices, and makes all slots empty."""
        self.state: Replica = self._empty()
        self.shared: Shared = self._same(self._without_tokens(shared))

    def rest(self) -> None:
        """Gives back the devices' memory, with what is in the slots, until `wake`; the programs stay."""
        del self.state, self.shared

    def fill(self, entries: dict[int, Entry]) -> None:
        """Starts a new replica in each of the given slots; the others keep every bit."""
        for place, ones, enters in self._by_place(entries, self._like):
            self.state = self._put(self.state, self._init(ones, self.shared), enters, place)

    def put(self, parked: Mapping[int, Replica | None]) -> None:
        """Places replicas that `take` gave into slots, where they continue bit for bit; None in others' slots."""
        for place, ones, enters in self._by_place(parked, self.one):
            self.state = jax.block_until_ready(self._put(self.state, ones, enters, place))  # one at a time in memory

    def take(self, slot: int) -> Replica:
        """A copy of the replica in a slot of this process, in host memory."""
        return dict(self.taken([slot]))[slot]

    def taken(self, slots: Iterable[int]) -> Iterator[tuple[int, Replica]]:
        """Likewise of several, one after the other; of those that belong to this process, while all name the same."""
        wanted = set(slots)
        for place in sorted({slot % self.slots_per_device for slot in wanted}):
            ones = self._take(self.state, self._same(np.int32(place)))
            for slot in self.own:
                if slot in wanted and slot % self.slots_per_device == place:
                    device = self._device(slot)
                    yield slot, jax.tree.map(lambda x, device=device: np.array(_on(x, device))[0], ones)

    def run(self, steps: int) -> Report:
        """One block of `steps` steps for all slots. Returns numpy arrays with a leading axis of slots.

        Those of other processes are 0 there.
        """
        if not 0 <= steps <= self.recipe.every:
            raise ValueError(f"a block has at most {self.recipe.every} steps, not {steps}")
        self.state, report = self.block(self.state, self.shared, self._same(np.int32(steps)), *self._upcoming())
        return jax.tree.map(_own, report)

    def _without_tokens(self, shared: Shared) -> Shared:
        """What goes to the devices."""
        return shared._replace(train=shared.train._replace(tokens=shared.train.tokens[:1])) if self._windows else shared

    def _upcoming(self) -> list[Window]:
        """What the next block reads, if it has to be brought to the devices: for each its own."""
        if self._windows is None or self._peek is None:
            return []
        ids = _own(self._peek(self.state))
        by_device = ids.reshape(len(self.devices), -1)
        mine, nothing = {slot // self.slots_per_device for slot in self.own}, self._windows.empty
        found = [self._windows.of(each) if device in mine else nothing for device, each in enumerate(by_device)]
        return [Window(*map(self._stacked, zip(*found, strict=True)))]

    def device(self, slot: int) -> str:
        """The device of a slot, and of how many: one device and several may differ in the last bits."""
        device = self._device(slot)
        return f"{device.device_kind}:{device.id} of {len(self.devices)}"

    def process(self, slot: int) -> int:
        """The process that a slot belongs to."""
        return self._device(slot).process_index

    def _device(self, slot: int) -> Any:
        return self.devices[slot // self.slots_per_device]

    def _same(self, tree: Any) -> Any:
        """The same on each device."""
        return _laid(tree, self._everywhere)

    def _by_place(self, new: Mapping[int, Any], like: Any):
        """What enters which place of the devices, a place at a time: its number, the trees stacked, who gets one."""
        nothing, shape = jax.tree.flatten(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like))
        for place in sorted({slot % self.slots_per_device for slot in new}):
            here = {
                slot // self.slots_per_device: x for slot, x in new.items() if slot % self.slots_per_device == place
            }
            leaves = [jax.tree.leaves(here.get(device)) or nothing for device in range(len(self.devices))]
            enters = np.array([device in here for device in range(len(self.devices))])
            stacked = shape.unflatten(self._stacked(each) for each in zip(*leaves, strict=True))
            yield self._same(np.int32(place)), stacked, _laid(enters, self._spread)

    def _stacked(self, leaves: Sequence[Any]) -> jax.Array:
        """One leaf per device, without a copy of all of them in host memory."""

        def part(index: Any) -> np.ndarray:
            return np.asarray(leaves[index[0].start or 0])[None]

        return jax.make_array_from_callback((len(leaves), *np.shape(leaves[0])), self._spread, part)


def _placed(many: Replica, one: Replica, enters, place) -> Replica:
    """A device's replicas with `one` in a place of them, if it enters."""

    def leaf(old, new):
        before = lax.dynamic_index_in_dim(old, place, keepdims=False)
        return lax.dynamic_update_index_in_dim(old, jnp.where(enters, new, before), place, 0)

    return jax.tree.map(leaf, many, one)


def _first(tree):
    return jax.tree.map(lambda x: x[0], tree)


def _laid(tree: Any, sharding: NamedSharding) -> Any:
    """A tree on the devices, from the same in the host memory of each process."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    # device_put would compare what the processes have.
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(np.shape(x), sharding, lambda index: np.asarray(x)[index]), tree
    )


def _own(array: jax.Array) -> np.ndarray:
    """What of an array lies on devices of this process; 0 elsewhere."""
    if array.is_fully_addressable:
        return np.asarray(array)
    whole = np.zeros(array.shape, array.dtype)
    for shard in array.addressable_shards:
        whole[shard.index] = shard.data
    return whole


def _on(array: jax.Array, device) -> jax.Array:
    """The part of a spread array that lies on a device."""
    return next(shard.data for shard in array.addressable_shards if shard.device == device)


def _shapes(tree, sharding, count: int | None = None):
    """The shapes of a tree, with a leading axis of `count` if given, and where they lie."""
    lead = () if count is None else (count,)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((*lead, *np.shape(x)), x.dtype, sharding=sharding), tree)
