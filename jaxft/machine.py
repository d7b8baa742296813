"""The machine that this runs on: its processor, and how jax is to use it. jax is imported where it is needed."""

import os
import platform
from pathlib import Path
from typing import Literal
from zlib import crc32


def cores() -> int:
    """Of this machine, that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor(*fields: str) -> str:
    """The first of these fields of Linux's /proc/cpuinfo; where there is none, the name of the processor's kind."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith(fields))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def vectors() -> str | None:
    """The widest vector instructions of the processor that matmuls use, as Linux calls them; None if it names none.

    Processors of one name may differ in them: AMD EPYC has avx2 or avx512f.
    """
    known = _features().split()
    return next((name for name in ("avx512f", "avx2", "avx", "sse2", "sve", "asimd") if name in known), None)


def _features() -> str:
    """What the processor can do, in words."""
    return processor("flags", "Features")  # as Intel and AMD, and as Arm call them


def divide(count: int | Literal["auto"] = "auto", processes: int = 1) -> None:
    """Gives a CPU as many virtual devices as `pool.devices` asks for, or one per core; no other platform cares.

    Must be called before jax looks for devices. A number set by XLA_FLAGS or JAX_NUM_CPU_DEVICES stays.

    Args:
        count: of devices.
        processes: among which they are divided.
    """
    import jax

    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not chosen and jax.config.values["jax_num_cpu_devices"] <= 0:
        jax.config.update("jax_num_cpu_devices", cores() if count == "auto" else max(1, count // processes))


def keep_programs() -> None:
    """Keeps compiled programs from run to run, in the user's cache, unless JAX_COMPILATION_CACHE_DIR names a place.

    Each kind of processor has a folder of its own, for homes that several machines share.
    """
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is None:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        kind = crc32(_features().encode())
        jax.config.update("jax_compilation_cache_dir", str(root / "jaxft" / f"xla-{kind:08x}"))
