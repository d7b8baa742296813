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
    {"errors", "engine.lost", "members.ranges", "members.sections", "status"},
    {"members"},
    {"machine", "tree", "members.spec", "study", "study.yaml12", "loop.halt", "engine.processes"},
    {"study.check", "networks", "policies"},
    {"contest", "study.others"},
    {"study.trials"},
    {"study.config", "types", "keys", "study.options"},
    {"rare", "touched", "data", "models", "tasks", "methods", "optim", "metrics", "engine.stop", "cost"},
    {"engine.recipe", "engine.memory"},
    {"engine.replica"},
    {"engine.programs"},
    {"engine.pool", "engine.probe", "engine.rehearse", "trained.soups"},
    {"loop.scheduler", "folder", "engine.groups", "engine.checkpoint"},
    {"engine.work"},
    {"folder.store"},
    {"follow.grid", "loop.record", "trained.best"},
    {"release", "loop.flight"},
    {"follow.news"},
    {"stats", "loop.slots", "follow.live", "follow.view"},
    {"report"},
    {"follow.progress", "tracking"},
    {"loop.train", "trained.replay", "follow.watch"},
    {"trained.mixed"},
    {"forecast", "doctor", "trained.export", "trained.predict"},
    {"bench", "api"},
    {"cli"},
    {"assets", "__main__"},
]
"""Of rooms, and of files where those of a room do not share one; what a file imports is on its own floor or below."""
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


MODULES = {module(path) for path in FILES}


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


def needs(path: Path) -> set[str]:
    """The modules of ours that a file imports: of `from jaxft.engine.pool import Pool` the one that has the name."""
    asked = {name.removeprefix("jaxft.") for name in imports(path) if name.startswith("jaxft.")}
    return {name if name in MODULES else name.rpartition(".")[0] for name in asked} & MODULES


def height(name: str) -> int | None:
    return HEIGHT.get(name, HEIGHT.get(name.partition(".")[0]))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    here = module(path)
    for name in () if here == "__init__" else needs(path):
        assert height(here) is not None, f"{here} has no floor: give it one in this test"
        assert height(name) is not None, f"{name} has no floor: give it one in this test"
        assert height(name) <= height(here), f"{here} imports {name}, which lies above it"


@pytest.mark.parametrize("of", [str, lambda name: name.partition(".")[0]], ids=["files", "rooms"])
def test_no_two_need_each_other(of):
    graph = {}
    for path in FILES:
        here = module(path)
        # A room's `__init__` may fetch its own files, inside a function, when it is asked to do its work.
        others = {of(name) for name in needs(path) if not name.startswith(f"{here}.")}
        graph.setdefault(of(here), set()).update(others - {of(here)})
    TopologicalSorter(graph).prepare()  # raises CycleError, which names them


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
