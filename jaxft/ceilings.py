"""What the devices of this machine reach: a large matmul, and a copy too large for any cache."""

import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

ACROSS = {"cpu": 1024}  # rows of a device's matrices; 8192 on accelerators
COPIED = {"cpu": 2**27}  # bytes on all devices together; 2**30 on accelerators


def ceilings(devices: Sequence, precision: str, seconds: float = 0.5) -> tuple[float, float]:
    """FLOP/s and bytes/s (read and written together) that all devices reach at once, each on its own data.

    Args:
        devices: of one kind, in this process.
        precision: of the matmul, as `train.precision`; "float32" is "highest".
        seconds: for how long each of the two is tried once it is compiled; the best of at least three times counts.
    """
    spread = NamedSharding(Mesh(np.array(devices), ("devices",)), P("devices"))
    lowered = precision == "bfloat16"
    across = ACROSS.get(devices[0].platform, 8192)
    entries = COPIED.get(devices[0].platform, 2**30) // 4

    def drawn(key):
        shape = (2, len(devices), across, across)
        return tuple(jax.random.normal(key, shape, jnp.bfloat16 if lowered else jnp.float32))

    with jax.default_matmul_precision("highest" if lowered or precision == "float32" else precision):
        pair = jax.jit(drawn, out_shardings=(spread, spread))(jax.random.key(0))
        product = jax.jit(lambda a, b: jnp.einsum("dij,djk->dik", a, b), out_shardings=spread)
        flops = 2 * len(devices) * across**3 / _best(lambda: product(*pair), seconds)
    array = jnp.zeros((len(devices), entries // len(devices)), jnp.float32, device=spread)
    # In place: on a CPU new pages cost more than what is written to them.
    add = jax.jit(lambda x: x + 1, out_shardings=spread, donate_argnums=0)

    def again() -> jax.Array:
        nonlocal array
        array = add(array)
        return array

    return flops, 2 * array.nbytes / _best(again, seconds)


def _best(call: Callable[[], jax.Array], seconds: float) -> float:
    """The shortest time of a call."""
    call().block_until_ready()
    spent = []
    while len(spent) < 3 or sum(spent) < seconds:
        began = time.perf_counter()
        call().block_until_ready()
        spent.append(time.perf_counter() - began)
    return min(spent)
