"""Tokens of the training set that stay on the host: the same bits as if they were on the devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import studies
import toys
from studies import Quiet, same_bits
from test_pool import equal, outcome

from jaxft import methods
from jaxft.data import batch
from jaxft.data.batch import Layout
from jaxft.data.window import NONE, Windows
from jaxft.engine import groups
from jaxft.engine.pool import Pool
from jaxft.errors import BadInput
from jaxft.loop import train
from jaxft.study.trials import expand


def test_a_window_has_the_examples_that_are_asked_for_and_no_others():
    split = toys.split(40)
    windows = Windows(split, 12)
    window = windows.of(np.array([[7, -1, 3], [3, 39, 0]]))
    assert window.ids.tolist() == [0, 3, 7, 39] + [NONE] * 8
    lengths = np.diff(split.offsets)
    for number, start in zip(window.ids[:4], window.starts[:4], strict=True):
        there = window.tokens[start : start + lengths[number]]
        assert there.tolist() == split.tokens[split.offsets[number] : split.offsets[number + 1]].tolist()
    assert len(window.tokens) == np.sort(lengths)[-12:].sum(), "room for the longest"
    assert jax.tree.map(np.shape, windows.empty) == jax.tree.map(np.shape, window)
    assert len(Windows(split, 1000).of(np.arange(40)).tokens) == len(split.tokens), "all of them fit"
    assert windows.of(np.full((2, 3), -1)).ids.tolist() == [NONE] * 12


def test_a_batch_from_a_window_is_that_from_the_split():
    split = toys.split(40)
    idx, places = jnp.array([7, -1, 3, 39]), jnp.array([0, 0, 9, 16])
    window = jax.tree.map(jnp.asarray, Windows(split, 12).of(np.asarray(idx)))
    split = jax.tree.map(jnp.asarray, split)
    bare = split._replace(tokens=split.tokens[:1])
    whole, windowed = (batch.gather(s, idx, places, 3, 9, 0, w) for s, w in ((split, None), (bare, window)))
    assert equal(whole, windowed)
    assert (np.asarray(whole.tokens) > 0).any()


def made(streamed: bool, method: str = "vanilla", before: int = 0) -> Pool:
    structure, _ = methods.numbers(method)
    recipe = toys.recipe(layout=Layout(2, 8, most=4), method=methods.load(structure), before=before)
    like = toys.entry(**methods.numbers(method)[1])
    return Pool(
        recipe, toys.shared(), like, devices=jax.devices()[:2], slots=3, precision="highest", streamed=streamed,
        together=True,
    )  # fmt: skip


@pytest.mark.parametrize(("method", "before"), [("vanilla", 0), ("child_tuning_d(p=0.5)", 5)])
def test_pools_agree_in_every_bit(method, before, optimised):
    """With a refilled slot, one that is over, and a lead-in."""
    floats = methods.numbers(method)[1]
    lead = {"lead": before} if before else {}
    found = []
    for streamed in (False, True):
        pool = made(streamed, method, before)
        assert streamed == (pool.shared.train.tokens.size == 1)
        pool.fill({slot: toys.entry(slot, 2 * slot, **floats, **lead) for slot in range(5)})
        reports = [pool.run(5), pool.run(3)]
        pool.fill({1: toys.entry(9, 9, **floats, **lead)})
        reports += [pool.run(5) for _ in range(6)]
        found.append([outcome(pool, slot, reports) for slot in range(5)])
    assert equal(*found)
    assert np.isfinite(np.concatenate([each[1][0][2] for each in found[0]])).any(), "something was trained"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return toys.settings(tmp_path_factory.mktemp("study"))


def test_a_study_gives_the_same_rows(base, tmp_path, optimised):
    """Also where it goes on from a checkpoint."""
    for name in "ab":
        (tmp_path / name).mkdir()
    whole = train.run(studies.study(base, tmp_path / "a", pool={"tokens": "device"}), progress=Quiet())
    settings = studies.study(base, tmp_path / "b", pool={"tokens": "host"})
    with pytest.raises(KeyboardInterrupt):
        train.run(settings, progress=studies.Until(2))
    train.run(settings, progress=Quiet())
    same_bits(whole, tmp_path / "b" / "run")


def test_tokens_stay_on_the_host_only_where_they_are_many(base, tmp_path, monkeypatch):
    study = studies.study(base, tmp_path)
    (group,) = groups.prepare(study, expand(study))
    size = np.asarray(group.shared.train.tokens).nbytes
    for room, streamed in ((5 * size, False), (3 * size, True)):
        monkeypatch.setattr(groups, "limit", lambda devices, room=room: room)
        assert (groups.pooled(group, 1, jax.devices()[:1]).shared.train.tokens.size == 1) == streamed
    assert groups.pooled(group, 1, jax.devices()[:1], "device").shared.train.tokens.size > 1


def test_another_word_is_refused(base, tmp_path):
    with pytest.raises(BadInput, match=r"pool\.tokens: expected auto or device or host, found 'disk'"):
        studies.study(base, tmp_path, pool={"tokens": "disk"})
