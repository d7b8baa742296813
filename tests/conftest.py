"""Strictness for all tests: warnings are errors, ranks must match, 8 virtual devices on the CPU."""

import os
import shutil
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax"))

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

SHARED = Path(__file__).parents[2] / "shared"


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
