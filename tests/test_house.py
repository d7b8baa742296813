"""The shape of the house: imports point down, jax and flax stay in their rooms, what is imported is declared."""

import ast
import re
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "jaxft").rglob("*.py"))

FLOORS = [
    {"errors", "status", "machine", "rare", "cost"},
    {"members", "tree", "metrics"},
    {"networks", "policies", "types"},
    {"contest", "study", "touched"},
    {"folder", "keys", "optim"},
    {"data", "models", "release"},
    {"methods", "stats"},
    {"tasks", "follow", "report"},
    {"engine", "tracking", "assets"},
    {"trained", "doctor"},
    {"loop"},
    {"forecast", "bench"},
    {"api", "cli"},
    {"__main__"},
]
HEIGHT = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
NO_JAX = ("errors", "status", "machine", "members", "metrics", "networks", "policies", "contest", "study", "folder",
          "release", "stats", "report", "follow", "api", "cli", "cost.scale", "engine.lost", "loop.scheduler",
          "loop.record", "loop.halt")  # fmt: skip
"""Rooms, and files of others, that import it inside a function at the most, once a study is in order."""


def module(path: Path) -> str:
    """The dotted name of a file, behind `jaxft.`; a room's own for its `__init__`."""
    parts = path.relative_to(ROOT / "jaxft").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def room(path: Path) -> str:
    return module(path).partition(".")[0]


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
        assert HEIGHT[match[1]] < HEIGHT[here], f"{here} imports {match[1]}, which does not lie below it"


def test_no_two_files_need_each_other():
    modules = {module(path): path for path in FILES}
    needs = {}
    for name, path in modules.items():
        asked = {other.removeprefix("jaxft.") for other in imports(path)}
        # Of `from jaxft.engine import pool` the module, of `from jaxft.engine.pool import Pool` what has the name.
        needs[name] = {other if other in modules else other.rpartition(".")[0] for other in asked} & set(modules)
    # A room's `__init__` may fetch its own files, inside a function, when it is asked to do its work.
    order = TopologicalSorter(
        {name: {other for other in others if not other.startswith(f"{name}.")} for name, others in needs.items()}
    )
    order.prepare()  # raises CycleError with the files


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_jax_and_flax_stay_in_their_rooms(path):
    names = {name.split(".")[0] for name in imports(path, top_only=True)}
    if module(path).startswith(NO_JAX):
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
