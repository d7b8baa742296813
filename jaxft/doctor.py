"""What is here, and what stands in the way: `jaxft doctor`. It loads jax, and trains nothing."""

import os
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from jaxft import __version__, machine
from jaxft.data import cache
from jaxft.engine import memory
from jaxft.models import fused

FINE, NOTE, BAD = "fine", "note", "bad"
"""What a finding says: all is well; to be known; something will not work, or not well."""

EXTRAS = {
    "hub": ("datasets", "data sets by name from the Hugging Face hub"),
    "tfds": ("tensorflow_datasets", "data sets that TFDS prepared"),
    "analysis": ("statsmodels", "jaxft report, jaxft.stats"),
    "tracking": ("tensorboardX", "jaxft run --track"),
    "notebook": ("nbclient", "the notebooks"),
    "bench": ("torch", "the peers of jaxft bench"),
}
"""By name, a module of the extra, and what it is for."""


class Finding(NamedTuple):
    """One thing that was looked at."""

    grade: str
    what: str
    advice: str = ""


class Hazard(NamedTuple):
    """Something known of some versions of jax."""

    versions: str
    """As pip writes them."""
    platforms: tuple[str, ...]
    grade: str
    what: str
    advice: str


HAZARDS = (
    Hazard(
        ">=0.10.2,<=0.11.0", ("gpu",), NOTE,
        "float32 scatter-add is hundreds of times slower where entries meet (jax issue 38806)",
        "jaxft sums gradients of embeddings by a matmul there; a method of your own should not scatter",
    ),
    Hazard(
        "==0.11.1", ("cpu",), BAD,
        "small updates of slices in a loop take time with the square of its length (jax issue 40101)",
        "pip install 'jax!=0.11.1'",
    ),
    Hazard(
        "<0.10", ("cpu", "gpu", "tpu"), BAD, "older than jaxft was tested with", "pip install --upgrade jax jaxlib"
    ),
)  # fmt: skip


def hazards(jax_version: str, kind: str) -> list[Finding]:
    """What is known of a version of jax on "cpu", "gpu" or "tpu"."""
    return [
        Finding(each.grade, f"jax {jax_version} on a {kind.upper()}: {each.what}", each.advice)
        for each in HAZARDS
        if kind in each.platforms and SpecifierSet(each.versions).contains(jax_version, prereleases=True)
    ]


def settings(env: Mapping[str, str], config: Mapping[str, object]) -> list[Finding]:
    """What the environment and jax's configuration say that matters to results or speed.

    Args:
        env: of the process.
        config: jax's own, by name.
    """
    found = []
    if flags := env.get("XLA_FLAGS"):
        found.append(Finding(NOTE, f"XLA_FLAGS={flags}", "they may change the last bits: keep them for all of a study"))
    if config.get("jax_enable_x64"):
        found.append(Finding(BAD, "jax_enable_x64 is on", "unset JAX_ENABLE_X64: everything would be slower"))
    if config.get("jax_debug_nans"):
        found.append(Finding(BAD, "jax_debug_nans is on", "unset JAX_DEBUG_NANS: a diverging trial would end the run"))
    if config.get("jax_disable_jit"):
        found.append(Finding(BAD, "jax_disable_jit is on", "unset JAX_DISABLE_JIT: nothing would be compiled"))
    if config.get("jax_enable_compilation_cache") is False:
        advice = "unset JAX_ENABLE_COMPILATION_CACHE: each start compiles again"
        found.append(Finding(NOTE, "compiled programs are not kept", advice))
    if env.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        found.append(Finding(NOTE, "HF_HUB_OFFLINE is set", "models and data sets only from the cache"))
    return found


def devices(kind: str, there: Callable[[str], bool] = os.path.exists) -> list[Finding]:
    """Whether an accelerator is in this machine that jax does not use.

    Args:
        kind: what jax uses: "cpu", "gpu" or "tpu".
        there: whether a path exists.
    """
    if kind != "cpu":
        return []
    found = []
    if there("/dev/nvidia0") or there("/dev/nvidiactl"):
        advice = "pip install 'jaxft[cuda13]' (driver 580 or newer; else cuda12), and unset JAX_PLATFORMS"
        found.append(Finding(BAD, "there is an NVIDIA GPU, and jax does not use it", advice))
    if there("/dev/accel0") or there("/dev/vfio/0"):
        found.append(Finding(BAD, "there may be a TPU, and jax does not use it", "pip install 'jaxft[tpu]'"))
    return found


def packages(found: Callable[[str], str] = version) -> list[Finding]:
    """Whether what jaxft needs is there, in versions that it takes.

    Args:
        found: the version of a package; raises PackageNotFoundError.
    """
    findings, fine = [], []
    try:
        needs = requires("jaxft") or []
    except PackageNotFoundError:
        return [Finding(NOTE, "jaxft runs from its source and is not installed", "what it needs was not looked at")]
    for text in needs:
        need = Requirement(text)
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            there = found(need.name)
        except PackageNotFoundError:
            findings.append(Finding(BAD, f"{need.name} is missing", f"pip install '{need.name}{need.specifier}'"))
            continue
        if need.specifier.contains(there, prereleases=True):
            fine.append(f"{need.name} {there}")
        else:
            findings.append(Finding(BAD, f"{need.name} {there}", f"pip install '{need.name}{need.specifier}'"))
    return [*findings, Finding(FINE, ", ".join(fine))]


def arithmetic() -> list[Finding]:
    """Whether this device's float32 matmul at the highest precision is one, and gives the same bits twice."""
    draw = np.random.default_rng(0)
    a, b = (draw.standard_normal((256, 256)).astype(np.float32) for _ in range(2))
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest"))
    first, second = (np.asarray(product(a, b)) for _ in range(2))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    off = float(np.abs(first - exact).max() / np.abs(exact).max())
    found = [Finding(FINE, f"a float32 matmul is exact to {off:.1g} of its largest entry")]
    if off > 1e-5:
        advice = "results with train.precision highest are not those of float32: please report it"
        found = [Finding(BAD, f"a float32 matmul at the highest precision is off by {off:.1g}", advice)]
    if not np.array_equal(first, second):
        found.append(Finding(BAD, "the same matmul twice gave other bits", "runs will not be reproducible here"))
    return found


def attention(kind: str, works: Callable[[], bool] = fused.works) -> list[Finding]:
    """Whether a GPU gets attention as one kernel.

    Args:
        kind: what jax uses: "cpu", "gpu" or "tpu".
        works: whether it can be compiled.
    """
    if kind != "gpu":
        return []
    if works():
        return [Finding(FINE, f"with bfloat16, attention to rows of at most {fused.LONGEST} tokens is one kernel")]
    advice = "steps with bfloat16 take longer, and differ in the last bits from those of a GPU that has it"
    return [Finding(NOTE, "attention as one kernel cannot be compiled for this GPU by this jax", advice)]


def folders() -> list[Finding]:
    """Where compiled programs and tokenised data are kept, and how much of them there is."""
    machine.keep_programs()
    kept = Path(jax.config.values["jax_compilation_cache_dir"] or "")
    return [_folder("compiled programs", kept), _folder("tokenised data sets", cache.folder())]


def _folder(what: str, folder: Path) -> Finding:
    above = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if not os.access(above, os.W_OK):
        return Finding(BAD, f"{what}: {folder} cannot be written", "name another: see README.md, `How fast it is`")
    taken = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
    return Finding(FINE, f"{what}: {folder} ({memory.size(taken)})")


def extras(importable: Callable[[str], bool]) -> list[Finding]:
    """Which extras are installed; what the others would be for."""
    there = [name for name, (module, _) in EXTRAS.items() if importable(module)]
    missing = [
        Finding(NOTE, f"not installed: {name}, for {what}", f"pip install 'jaxft[{name}]'")
        for name, (_, what) in EXTRAS.items()
        if name not in there
    ]
    return [*([Finding(FINE, f"extras: {', '.join(there)}")] if there else []), *missing]


def examine() -> list[Finding]:
    """Everything about this machine."""
    from importlib.util import find_spec

    machine.divide()
    there = jax.devices()
    kind = there[0].platform if there[0].platform in ("cpu", "tpu") else "gpu"
    about = f"{len(there)} x {there[0].device_kind} ({kind}), {memory.size(memory.limit(there))} each"
    return [
        Finding(FINE, f"jaxft {__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}"),
        *packages(),
        Finding(FINE, f"{about}; {machine.cores()} cores, {machine.processor('model name')}"),
        *devices(kind),
        *hazards(jax.__version__, kind),
        *settings(os.environ, jax.config.values),
        *arithmetic(),
        *attention(kind),
        *folders(),
        *extras(lambda name: find_spec(name) is not None),
    ]


def doctor() -> bool:
    """Prints what was found, a line each, with what to do below it. Whether nothing is bad."""
    found = examine()
    for each in found:
        print(f"{each.grade:5} {each.what}")
        if each.advice:
            print(f"      -> {each.advice}")
    bad = sum(each.grade == BAD for each in found)
    print(f"\n{bad} in the way" if bad else "\nnothing is in the way")
    return not bad
