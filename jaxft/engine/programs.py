"""What a pool runs, compiled: the only file that knows of the axis R.

Everything below is `replica.py` inside `jax.shard_map` (devices), compiled ahead of time: a program that runs has been
compiled once, and cannot compile again. The slots of a device are under `vmap`; those of a core, which gains nothing by
that, take their steps of a block one slot after the other.
"""

import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.stages import Compiled

from jaxft.engine import replica
from jaxft.engine.memory import held, needed, output
from jaxft.engine.recipe import Entry, Recipe, Replica, Report, Shared
from jaxft.types import Window

OPTIONS: dict[str, dict[str, str | bool]] = {
    "cpu": {"xla_cpu_copy_insertion_use_region_analysis": True},
    "gpu": {"xla_gpu_dot_merger_threshold_mb": "0"},
}
"""Of the compiler: on a CPU it would copy more of what a loop carries than it must (the same bits, less memory); on a
GPU it would make one matmul of two that read the same, and cut their gradients apart in memory.
"""


class Shapes(NamedTuple):
    """The shapes of a tree, which can be a key."""

    structure: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]

    @classmethod
    def of(cls, tree: Any) -> "Shapes":
        """Those of a tree of arrays; of None none."""
        leaves, structure = jax.tree.flatten(jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), tree))
        return cls(structure, tuple(leaves))

    def spread(self, sharding: NamedSharding, *lead: int) -> Any:
        """The tree itself, of shapes that lie so and have these axes in front."""
        put = lambda x: jax.ShapeDtypeStruct((*lead, *x.shape), x.dtype, sharding=sharding)  # noqa: E731
        return self.structure.unflatten(map(put, self.leaves))


class Programs(NamedTuple):
    """What a pool runs, compiled."""

    block: Compiled
    """`(many, shared, steps[, window]) -> (many, report)`: at most `recipe.every` steps, and the evaluation."""
    init: Compiled
    """`(entries, shared) -> ones`: a new replica per device."""
    put: Compiled
    """`(many, ones, enters, place) -> many`: with a replica per device in this place of each that it enters."""
    take: Compiled
    """`(many, place) -> ones`: copies of those in a place."""
    peek: Any
    """`many -> ids`: which examples the next block reads; None where all are on the devices."""
    empty: Compiled
    """`() -> many`: zeros."""
    one: Any
    """The shapes of a replica."""
    memory: int
    """What they take on a device, in bytes."""
    once: int
    """What of it, besides what all replicas read, does not grow with the slots: what steps need if taken in turn."""
    seconds: float
    """How long it took to make them."""


def compiled(
    recipe: Recipe, shared: Shared, like: Entry, window: Window | None, devices: Sequence, slots: int, precision: str,
    together: bool | None = None,
) -> Programs:  # fmt: skip
    """The programs of a pool. The last few are kept, for the next pool of a kind in this process.

    Recipes are of a kind if their functions are the same ones, as they are if made from the same settings: see
    `models.assemble`, `methods.load` and `optim.maker`.

    Args:
        recipe: what the replicas have in common.
        shared: what they read; its shapes alone matter, as of all that follows.
        like: any entry.
        window: what a block reads, where tokens stay on the host.
        devices: where to run.
        slots: per device.
        precision: of matmuls in float32.
        together: whether a device's slots take each step at once; None: on all but CPUs.
    """
    together = devices[0].platform != "cpu" if together is None else together
    options = tuple(sorted(OPTIONS.get(devices[0].platform, {}).items()))
    shapes = map(Shapes.of, (shared, like, window))
    return _compiled(recipe, *shapes, tuple(devices), slots, precision, together, options)


@lru_cache(maxsize=8)
def _compiled(
    recipe: Recipe, shared: Shapes, like: Shapes, window: Shapes, devices: tuple, slots: int, precision: str,
    together: bool, options: tuple[tuple[str, str | bool], ...],
) -> Programs:  # fmt: skip
    began = time.monotonic()
    spread, everywhere = shardings(devices)
    if together:  # under vmap a cond computes both
        recipe = recipe._replace(layout=recipe.layout._replace(fewer=0))

    def block(many: Replica, shared: Shared, steps, *window: Window) -> tuple[Replica, Report]:
        shared = shared._replace(window=_first(window[0])) if window else shared
        if not together:
            return _in_turn(lambda one: replica.block(recipe, shared, one, steps), many)
        # The loop is outside of vmap, which would trace it several times to find out what differs in it.
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
        return jax.vmap(partial(replica.upcoming, recipe))(many)

    def program(function, *arguments, donate=()) -> Compiled:
        """`function` on each device, over its part of what is spread."""
        specs = jax.tree.map(lambda x: x.sharding.spec, arguments)
        # check_vma: jax 0.12 cannot follow the gradient of the exact gelu through its check.
        mapped = jax.shard_map(function, mesh=spread.mesh, in_specs=specs, out_specs=P("slots"), check_vma=False)
        return jax.jit(mapped, donate_argnums=donate).lower(*arguments).compile(dict(options))

    with jax.default_matmul_precision(precision):
        given, count = shared.spread(everywhere), len(devices)
        number = jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere)
        one = Shapes.of(jax.eval_shape(partial(replica.init, recipe), given, like.spread(everywhere)))
        many, ones = one.spread(spread, slots * count), one.spread(spread, count)
        enters = jax.ShapeDtypeStruct((count,), bool, sharding=spread)
        windows = [window.spread(spread, count)] if window.leaves else []
        zeros = lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), many)  # noqa: E731
        dear = (
            program(block, many, given, number, *windows, donate=0),
            program(init, like.spread(spread, count), given),
            program(put, many, ones, enters, number, donate=0),
            program(take, many, number),
        )
        memory = needed(dear)
        grows = output(dear[0])  # state and reports, where slots go in turn
        return Programs(
            *dear,
            peek=program(peek, many) if windows else None,
            empty=jax.jit(zeros, out_shardings=spread).lower().compile(),
            one=one.structure.unflatten(one.leaves),
            memory=memory,
            once=0 if together else max(0, memory - held(given) - grows),
            seconds=time.monotonic() - began,
        )


def shardings(devices: Sequence) -> tuple[NamedSharding, NamedSharding]:
    """That of what each device has its own of, along the first axis, and that of what all have."""
    mesh = Mesh(np.array(devices), ("slots",))
    return NamedSharding(mesh, P("slots")), NamedSharding(mesh, P())


def _in_turn(function: Callable[[Replica], tuple[Replica, Report]], many: Replica) -> tuple[Replica, Report]:
    """What `function` makes of each replica, one after the other; it takes the place of the one before."""

    def one(many: Replica, place) -> tuple[Replica, Report]:
        new, report = function(_at(many, place))
        put = lambda x, new: lax.dynamic_update_index_in_dim(x, new, place, 0)  # noqa: E731
        return jax.tree.map(put, many, new), report

    return lax.scan(one, many, jnp.arange(len(many.step)))


def _placed(many: Replica, one: Replica, enters, place) -> Replica:
    """A device's replicas with `one` in a place of them, if it enters."""

    def leaf(old, new):
        return lax.dynamic_update_index_in_dim(old, jnp.where(enters, new, _at(old, place)), place, 0)

    return jax.tree.map(leaf, many, one)


def _at(tree, place):
    return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, place, keepdims=False), tree)


def _first(tree):
    return jax.tree.map(lambda x: x[0], tree)
