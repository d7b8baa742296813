"""Compiled programs: made once for all pools of a kind in a process."""

import jax
import numpy as np
import pytest
import studies
import toys
from studies import Quiet, same_bits

from jaxft import members, methods, models, optim
from jaxft.engine import groups, programs
from jaxft.engine.pool import Pool
from jaxft.loop import train
from jaxft.models import compact
from jaxft.study.trials import expand
from jaxft.types import Method


def pool(recipe=None, n: int = 20, slots: int = 2, precision: str = "highest") -> Pool:
    recipe, shared = recipe or toys.recipe(), toys.shared(n)
    return Pool(recipe, shared, toys.entry(), devices=jax.devices()[:1], slots=slots, precision=precision)


def test_pools_of_a_kind_have_the_same_programs_and_each_its_own_slots():
    one, other = pool(), pool()
    assert one.programs is other.programs
    one.fill({0: toys.entry(1)})
    other.fill({0: toys.entry(2)})
    one.run(5)
    assert int(one.take(0).step) == 5
    assert int(other.take(0).step) == 0


KINDS = {
    "data": {"n": 24},
    "slots": {"slots": 3},
    "precision": {"precision": "default"},
    "recipe": {"recipe": toys.recipe(every=4)},
    "model": {"recipe": toys.recipe(toys.bag(40))},
}


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_of_another_kind_they_have_others(changes):
    assert pool().programs is not pool(**changes).programs


def test_what_the_compiler_is_told_makes_another_kind(monkeypatch):
    first = pool().programs
    monkeypatch.setitem(programs.OPTIONS, "cpu", {**programs.OPTIONS["cpu"], "xla_cpu_enable_fast_math": False})
    assert pool().programs is not first


def test_the_same_settings_make_the_same_functions():
    assert models.assemble(toys.BERT, 2) is models.assemble(dict(toys.BERT), 2)
    assert models.assemble(toys.BERT, 2) is not models.assemble(toys.BERT, 3)
    kept = [{compact.WORD: np.array(rows)} for rows in ([1, 2, 4], [1, 2, 5])]
    assert models.assemble(toys.BERT, 2, kept=kept[0]) is models.assemble(toys.BERT, 2, kept=dict(kept[0]))
    assert models.assemble(toys.BERT, 2, kept=kept[0]) is not models.assemble(toys.BERT, 2, kept=kept[1])
    assert methods.load("mixout(p=0.5)") is methods.load("mixout(p=0.5)")
    assert methods.load("mixout(p=0.5)") is not methods.load("vanilla")
    assert optim.maker("adamw", "global") is optim.maker("adamw", "global")
    assert optim.maker("adamw", "global") is not optim.maker("adamw", "tensor")


def test_a_study_run_again_compiles_nothing_and_gives_the_same_bits(tmp_path):
    base, heard = toys.light(tmp_path), []
    for name in "ab":
        (tmp_path / name).mkdir()
    train.run(studies.study(base, tmp_path / "a"), progress=Quiet())
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: heard.append(event) if "backend_compile" in event else None
    )
    try:
        train.run(studies.study(base, tmp_path / "b"), progress=Quiet())
    finally:
        jax.monitoring.clear_event_listeners()
    assert heard == []
    same_bits(tmp_path / "a" / "run", tmp_path / "b" / "run")


def test_a_method_that_was_added_is_traced_each_time(tmp_path):
    """What it reads from around it may have changed."""
    traced = []

    def counted() -> Method:
        """A method that counts how often it is asked."""
        traced.append(1)
        return Method()

    members.add(counted)
    try:
        found = []
        for _ in range(2):
            study = studies.study(toys.light(tmp_path), tmp_path, method="counted")
            (group,) = groups.prepare(study, expand(study))
            before = len(traced)
            found.append(groups.pooled(group, 1, jax.devices()[:1]).programs)
            assert len(traced) > before
        assert found[0] is not found[1]
    finally:
        members._OWN.pop(("method", "counted"))
