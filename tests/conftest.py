"""Strictness for all tests: warnings are errors, ranks must match, 8 virtual devices on the CPU."""

import os
import shutil
import time
from importlib.metadata import version
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax"))
os.environ.setdefault("JAXFT_CACHE", str(Path(__file__).parents[1] / ".cache" / "data"))
# Most of the suite's time is compiling what then runs for milliseconds: LLVM need not optimise it, here nor in the
# processes that tests start; and jax 0.10 has two ways to write kernels, of which the older takes 40 % less time.
# `optimised` undoes it for a test, `all_optimised` for a file, XLA_FLAGS=--xla_backend_optimization_level=3 for a run.
FLAGS = {"xla_backend_optimization_level": (0, 3)}
if tuple(map(int, version("jaxlib").split(".")[:2])) <= (0, 10):
    FLAGS["xla_cpu_use_fusion_emitters"] = (False, True)
"""Of the compiler: what the tests have, and what users have."""
USERS = {flag: there for flag, (_, there) in FLAGS.items()}

if "xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
    fast = " ".join(f"--{flag}={str(here).lower()}" for flag, (here, _) in FLAGS.items())
    os.environ["XLA_FLAGS"] = f"{fast} {os.environ.get('XLA_FLAGS', '')}".strip()

import jax  # noqa: E402  # it reads the flags

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)

LONGEST = (
    "method_battery",
    "export",
    "method_oracles",
    "pool",
    "compact",
    "bench",
    "kills",
    "api",
    "families",
    "distributed",
    "train",
    "deberta",
)
"""Files that take minutes. They come first, so that the processes that share the tests end together. On a very slow
machine CI leaves them out of the second turn.
"""

ONCE = ("bench", "distributed", "flight", "kills", "notebook", "notebooks_more", "progress", "store_crash")
"""Files of which CI leaves out the second turn, on a newer Python, where the first took so long that its time would run
out: they are long, and of processes, files and pages more than of what a version of Python or jax computes.
"""

SHARED = Path(__file__).parents[2] / "shared"


def pytest_collection_modifyitems(items):
    for item in items:
        for files, mark in ((ONCE, "once"), (LONGEST, "long")):
            if item.path.stem.removeprefix("test_") in files:
                item.add_marker(mark)
    places = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_runtest_setup():
    """Leaves out what would begin after JAXFT_UNTIL, in seconds since 1970: CI's second turn has an end."""
    if time.time() > float(os.environ.get("JAXFT_UNTIL", "inf")):
        pytest.skip("it was not begun before JAXFT_UNTIL")


@pytest.fixture(scope="module")
def all_optimised():
    """The pools of a file are compiled as users have them, for promises that LLVM's optimisations could break."""
    yield from _optimised()


@pytest.fixture
def optimised():
    """The same for the pools of one test."""
    yield from _optimised()


def _optimised():
    from jaxft.engine import programs  # not above: pytest imports this file before jaxtyping can check what is imported

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(programs.OPTIONS, "cpu", programs.OPTIONS["cpu"] | USERS)
        yield


@pytest.fixture(scope="session")
def glue() -> Path:
    """The folder of the real GLUE files, where the machine has them."""
    if not (SHARED / "glue").is_dir():
        pytest.skip("no GLUE files: put the official TSV folders into ../shared/glue")
    return SHARED / "glue"


@pytest.fixture(scope="session")
def dodge2020() -> Path:
    """The folder of the scores of Dodge et al. 2020, read off their figures, where the machine has them."""
    if not (SHARED / "dodge2020").is_dir():
        pytest.skip("no scores of Dodge et al. 2020: put digitized_best_val_{mrpc,rte}.csv into ../shared/dodge2020")
    return SHARED / "dodge2020"


@pytest.fixture
def here(place, tmp_path, monkeypatch) -> Path:
    """A copy to work in of the folder that the module's own fixture `place` has made."""
    folder = Path(shutil.copytree(place, tmp_path / "here"))
    monkeypatch.chdir(folder)
    return folder
