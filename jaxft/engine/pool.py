"""Many replicas: which is where on which device, and what of them is on the host."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxft.data.window import Windows
from jaxft.engine import processes
from jaxft.engine.memory import DoesNotFit, Memory, held
from jaxft.engine.programs import compiled, shardings
from jaxft.engine.recipe import Entry, Recipe, Replica, Report, Shared
from jaxft.types import Window


class Pool:
    """All slots of a compile group, and the programs that fill and run them.

    Slot s is place s % slots of device s // slots. What the programs get per device, such as the trial that enters one
    of its places, has a leading axis of devices.

    Where several processes share the devices, all of them make the same pool and call the same methods in the same
    order; what they get back is of their own slots, those in `own`.
    """

    def __init__(
        self, recipe: Recipe, shared: Shared, like: Entry, *, devices: Sequence, slots: int, precision: str,
        streamed: bool = False, together: bool | None = None,
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
            together: whether a device's slots take each step at once (`vmap`), or their steps of a block one slot after
                the other, with other bits. None: as is faster, one after the other on a CPU.

        Raises:
            DoesNotFit: the programs need more memory than the devices have.
        """
        began = time.monotonic()
        self.recipe, self.devices, self.slots_per_device = recipe, list(devices), slots
        self.slots = slots * len(self.devices)
        self.own = [slot for slot in range(self.slots) if self.process(slot) == processes.index()]
        self._spread, self._everywhere = shardings(self.devices)
        self._windows = Windows(shared.train, slots * recipe.every * recipe.batch) if streamed else None
        self._like = jax.tree.map(np.asarray, like)
        told = "highest" if precision == "bfloat16" else precision
        bare, window = self._without_tokens(shared), self._windows and self._windows.empty
        self.programs = compiled(recipe, bare, like, window, self.devices, slots, told, together)
        self.one: Replica = self.programs.one
        self.memory = Memory.of(self.programs.memory, held(bare) + self.programs.once, slots, self.devices)
        if self.memory.total > self.memory.limit:
            raise DoesNotFit(self.memory)
        self.wake(shared)
        self.compile_seconds = time.monotonic() - began

    def wake(self, shared: Shared) -> None:
        """Puts what all replicas read on the devices, and makes all slots empty."""
        self.state: Replica = self.programs.empty()
        self.shared: Shared = self._same(self._without_tokens(shared))

    def rest(self) -> None:
        """Gives back the devices' memory, with what is in the slots, until `wake`; the programs stay."""
        del self.state, self.shared

    def fill(self, entries: dict[int, Entry]) -> None:
        """Starts a new replica in each of the given slots; the others keep every bit."""
        for place, ones, enters in self._by_place(entries, self._like):
            self._enter(self.programs.init(ones, self.shared), enters, place)

    def put(self, parked: Mapping[int, Replica | None]) -> None:
        """Places replicas that `take` gave into slots, where they continue bit for bit; None in others' slots."""
        for place, ones, enters in self._by_place(parked, self.one):
            self._enter(ones, enters, place)

    def take(self, slot: int) -> Replica:
        """A copy of the replica in a slot of this process, in host memory."""
        return dict(self.taken([slot]))[slot]

    def taken(self, slots: Iterable[int]) -> Iterator[tuple[int, Replica]]:
        """Likewise of several, one after the other; of those that belong to this process, while all name the same."""
        wanted = set(slots)
        for place in sorted({slot % self.slots_per_device for slot in wanted}):
            ones = self.programs.take(self.state, self._same(np.int32(place)))
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
        self.state, report = self.programs.block(
            self.state, self.shared, self._same(np.int32(steps)), *self._upcoming()
        )
        return jax.tree.map(_own, report)

    def _enter(self, ones: Replica, enters: jax.Array, place: jax.Array) -> None:
        """Places a replica per device; only one at a time is in memory beside those in slots."""
        self.state = jax.block_until_ready(self.programs.put(self.state, ones, enters, place))

    def _without_tokens(self, shared: Shared) -> Shared:
        """What goes to the devices."""
        return shared._replace(train=shared.train._replace(tokens=shared.train.tokens[:1])) if self._windows else shared

    def _upcoming(self) -> list[Window]:
        """What the next block reads, if it has to be brought to the devices: for each its own."""
        if self._windows is None:
            return []
        ids = _own(self.programs.peek(self.state))
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
