"""The shape of the house: imports point down, jax and flax stay in their rooms, what is imported is declared."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "jaxft").rglob("*.py"))

FLOORS = [
    {"errors", "lost", "ranges", "status"},
    {"members"},
    {"machine", "tree", "spec", "study", "yaml12", "halt", "processes"},
    {"check", "networks", "policies"},
    {"contest", "others"},
    {"trials"},
    {"config", "types", "keys", "options"},
    {"rare", "touched", "data", "models", "tasks", "methods", "optim", "metrics", "stop", "cost", "scale", "ceilings"},
    {"recipe", "memory"},
    {"replica"},
    {"programs"},
    {"pool", "probe", "rehearse", "soups"},
    {"scheduler", "rows", "groups", "checkpoint", "folder", "locks", "shards"},
    {"work"},
    {"store"},
    {"grid", "record", "best"},
    {"release", "flight"},
    {"news"},
    {"stats", "slots", "live", "view"},
    {"report"},
    {"progress", "tracking"},
    {"train", "replay", "watch"},
    {"mixed"},
    {"forecast", "doctor", "export", "predict"},
    {"bench", "api"},
    {"cli"},
    {"assets", "__main__"},
]
HEIGHT = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
NO_JAX = {"errors", "members", "spec", "study", "check", "config", "trials", "metrics", "scheduler", "store", "rows",
          "shards", "folder", "locks", "grid", "progress", "record", "yaml12", "cli", "release", "halt", "options",
          "others", "lost", "status", "news", "live", "view", "watch", "policies", "contest", "stats", "report",
          "networks", "ranges", "machine", "api"}  # fmt: skip
LAZY_JAX = {"cli", "machine", "api"}  # imports it inside a function, once a study is in order


def room(path: Path) -> str:
    parts = path.relative_to(ROOT / "jaxft").with_suffix("").parts
    return parts[0]


def imports(path: Path, *, top_only: bool = False) -> set[str]:
    """Dotted names that a file imports; those for type checking alone do not count."""
    found = set()
    tree = ast.parse(path.read_text())
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for inner in ast.walk(node):
                if isinstance(inner, ast.ImportFrom):
                    found -= {f"{inner.module}.{alias.name}" for alias in inner.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    here = room(path)
    if here == "__init__":
        return
    assert here in HEIGHT, f"{here} has no floor: give it one in this test"
    for name in imports(path):
        match = re.match(r"jaxft\.(\w+)", name)
        if not match or match[1] not in HEIGHT or match[1] == here:
            continue
        assert HEIGHT[match[1]] <= HEIGHT[here], f"{here} imports {match[1]}, which lies above it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_jax_and_flax_stay_in_their_rooms(path):
    names = {name.split(".")[0] for name in imports(path, top_only=True)}
    if room(path) in NO_JAX:
        assert "jax" not in names
    if room(path) != "models":
        assert "flax" not in names


def test_vmap_and_shard_map_stand_in_one_file_but_for_the_rare_branch():
    using = {
        path.name
        for path in FILES
        if re.search(r"\b(vmap|shard_map|pmap)\(", path.read_text()) and room(path) != "assets"
    }
    assert using - {"encoder.py"} == {"programs.py", "rare.py"}  # torch's vmap stands in the bench


def test_what_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["dependencies"] + [d for extra in project["optional-dependencies"].values() for d in extra]
    names = {re.match(r"[\w.-]+", d)[0].lower().replace("-", "_") for d in declared}
    names |= {
        module
        for name, module in {"pyyaml": "yaml", "orbax_checkpoint": "orbax", "tensorboardx": "tensorboardX"}.items()
        if name in names
    }
    import sys

    used = {name.split(".")[0] for path in FILES for name in imports(path)} - {"jaxft", "__future__"}
    undeclared = used - names - set(sys.stdlib_module_names)
    assert not undeclared


def test_files_can_be_read_in_one_sitting():
    long = {str(p.relative_to(ROOT)): n for p in FILES if (n := len(p.read_text().splitlines())) > 320}
    assert not long
