"""Each method against its equations, written once more in torch: the same 20 steps, the same parameters.

That an oracle can tell is tested too: under each of its mutations of the method's source it must disagree.
"""

import importlib
import sys
import types
from dataclasses import replace
from functools import cache

import oracles
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: methods are not held against their oracles")
pytest.importorskip("transformers")

CLOSE = 1e-5
"""Both compute in float32: sums in another order, through 20 steps of Adam."""
APART = 1e-4
STOPS = (6, oracles.STEPS)
"""Steps after which both are compared. Most mutants differ at the first; the others are trained to the end."""

MUTATIONS = [(name, n) for name in oracles.names() for n in range(len(oracles.told(name).mutations))]


@cache
def expected(name: str, steps: int):
    """What the oracle comes to after so many steps, and where it began."""
    world = _world(name)
    return importlib.import_module(f"oracles.{name}").oracle(replace(world, batches=world.batches[:steps])), world.w0


@cache
def _world(name: str) -> oracles.World:
    told = oracles.told(name)
    return oracles.world(oracles.engine(told.spec, told.hp))


@pytest.mark.parametrize("name", oracles.names())
def test_agrees_with_its_oracle(name):
    told = oracles.told(name)
    for steps, ours in zip(STOPS, oracles.trained(oracles.engine(told.spec, told.hp), *STOPS), strict=True):
        assert int(ours.step) == steps
        theirs, w0 = expected(name, steps)
        off, worst = oracles.furthest(ours.params, theirs)
        moved = max(float((theirs[n].detach() - w0[n]).abs().max()) for n in theirs if n in w0)
        print(f"{told.spec}: off by {off:.1e} ({worst}) after {steps} steps, where the furthest moved {moved:.1e}")
        assert off < CLOSE, worst
        assert moved > 100 * CLOSE, "the training moved nothing that could differ"


@pytest.mark.parametrize(("name", "number"), MUTATIONS, ids=[f"{name}-{number}" for name, number in MUTATIONS])
def test_notices_a_mutation(name, number, monkeypatch):
    told, text = oracles.told(name), oracles.source(name).read_text()
    old, new = told.mutations[number]
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in methods/{name}.py"
    theirs = [expected(name, steps)[0] for steps in STOPS]  # of the method as it is
    mutant = types.ModuleType(f"jaxft.methods.{name}")
    exec(compile(text.replace(old, new), f"{name}.py, mutated", "exec"), vars(mutant))
    monkeypatch.setitem(sys.modules, mutant.__name__, mutant)
    mutants = oracles.trained(oracles.engine(told.spec, told.hp), *STOPS)
    for steps, ours, wanted in zip(STOPS, mutants, theirs, strict=True):
        off, worst = oracles.furthest(ours.params, wanted)
        print(f"{old!r} -> {new!r}: off by {off:.1e} ({worst}) after {steps} steps")
        if off > APART:
            return
    pytest.fail("the oracle does not notice")


@pytest.mark.parametrize("name", oracles.names())
def test_has_mutations_enough(name):
    assert name == "vanilla" or len(oracles.told(name).mutations) >= 3
