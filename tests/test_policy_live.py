"""Policies in a real run: who is stopped, who waits outside of a slot, and that waiting changes no bit."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import toys
from studies import MOVING, Quiet, Until, rows, same_bits, study

from jaxft import cli, policies
from jaxft.errors import BadInput
from jaxft.folder import store
from jaxft.loop import train
from jaxft.loop.flight import Stopped
from jaxft.stats.replay import replay

POLICY = "start_many(fraction=0.4, keep=2)"
ASHA = "successive_halving(first=0.2, asynchronous=True)"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Six trials of ten steps in five blocks, four at a time: a regression, whose scores tell all trials apart."""
    settings = toys.light(tmp_path_factory.mktemp("study"))
    for file in Path(settings["task"]["path"]).iterdir():
        file.write_text(file.read_text().replace("low", "1").replace("high", "0"))
    return settings | {"task": settings["task"] | {"regression": True, "metric": "pearson"}}


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """The study without a policy."""
    return store.load(train.run(study(base, tmp_path_factory.mktemp("whole")), progress=Quiet()))


@pytest.fixture(scope="module")
def judged(base, tmp_path_factory):
    """The same with one, and what was counted."""
    watched = Quiet()
    path = train.run(study(base, tmp_path_factory.mktemp("judged"), policy=POLICY), progress=watched)
    return path, watched


def curves(run: store.Run) -> dict[str, list[float]]:
    """The dev scores of each trial, in the study's order."""
    order = run.trials.sort_values(["init_seed", "order_seed"])["trial"]
    dev = run.evals.sort_values("step").groupby("trial")["pearson"].apply(list)
    return {trial: dev[trial] for trial in order}


def test_the_best_at_the_rung_go_on_and_the_others_keep_their_partial_curves(whole, judged):
    path, watched = judged
    full, run = curves(whole), store.load(path)
    best = {trial: max(curve[:2]) for trial, curve in full.items()}
    assert len(set(best.values())) == 6
    kept = sorted(best, key=lambda trial: -best[trial])[:2]
    by_status = {status: set(part["trial"]) for status, part in run.trials.groupby("status")}
    assert by_status == {"completed": set(kept), "stopped": set(full) - set(kept)}
    stopped = run.trials[run.trials["status"] == "stopped"]
    assert set(stopped["reason"]) == {"start_many"}
    assert set(stopped["steps"]) == {4}
    assert set(run.trials["policy"]) == {POLICY}
    for trial, curve in curves(run).items():
        assert curve == (full[trial] if trial in kept else full[trial][:2])
    # t f + p (1 - f) whole trials of ten steps
    assert watched.taken == 6 * 4 + 2 * 6


def test_who_waited_outside_is_as_if_it_had_not(whole, judged):
    path, _ = judged
    mine, theirs = rows(path), rows(whole.folder)
    kept = list(mine[mine["status"] == "completed"]["trial"])
    assert len(kept) == 2
    mine, theirs = (f.set_index("trial").loc[kept].drop(columns=[*MOVING, "policy"]) for f in (mine, theirs))
    pd.testing.assert_frame_equal(mine, theirs, check_exact=True)
    a, b = (run.losses.set_index("trial")["train_loss"] for run in (store.load(path), whole))
    for trial in a.index:
        assert a[trial].tobytes() == b[trial][: len(a[trial])].tobytes()
    a, b = (run.predictions.set_index(["trial", "split", "at"])["logits"] for run in (store.load(path), whole))
    for trial in kept:
        for at in ("best", "final"):
            assert a[trial, "dev", at].tobytes() == b[trial, "dev", at].tobytes()


@pytest.mark.parametrize("block", [2, 3, 5])
def test_a_stop_while_some_wait_outside_changes_nothing(base, judged, tmp_path, block):
    """After 2 blocks four wait outside and two have not begun; after 3 four wait and two train; after 5 two go on."""
    path, watched = judged
    settings, first, last = study(base, tmp_path, policy=POLICY), Until(block), Quiet()
    with pytest.raises(Stopped):
        train.run(settings, progress=first)
    train.run(settings, progress=last)
    same_bits(tmp_path / "run", path)
    assert first.taken + last.taken == watched.taken


def test_a_stop_changes_no_verdict_of_a_policy_that_does_not_wait_for_all(base, tmp_path):
    """Nobody is judged before all that were in flight are known again."""
    (tmp_path / "whole").mkdir()
    path = train.run(study(base, tmp_path / "whole", policy=ASHA), progress=Quiet())
    assert "stopped" in set(rows(path)["status"])
    settings = study(base, tmp_path, policy=ASHA)
    with pytest.raises(Stopped):
        train.run(settings, progress=Until(3))
    train.run(settings, progress=Quiet())
    same_bits(tmp_path / "run", path)


def test_who_waits_outside_is_written_once(base, judged, tmp_path):
    """A checkpoint after each block: the second holds four that wait from then on, the third the two that train."""
    settings = study(base, tmp_path, policy=POLICY, pool={"checkpoint_minutes": 1e-4})
    with pytest.raises(Stopped):
        train.run(settings, progress=Until(3))
    files = list((tmp_path / "run" / "checkpoints" / "p0").glob("*/*.safetensors"))
    assert Counter(file.parent.name for file in files) == {"000002": 4, "000003": 2}
    train.run(settings, progress=Quiet())
    same_bits(tmp_path / "run", judged[0])


def test_finished_trials_count_when_others_are_added(base, whole, tmp_path):
    """A policy that is given later finds those that have completed, and keeps none that is not better."""
    train.run(study(base, tmp_path, seeds={"order": 1}), progress=Quiet())
    done = set(rows(tmp_path / "run")["trial"])
    train.run(study(base, tmp_path, policy="start_many(fraction=0.4, keep=1)"), progress=Quiet())
    run, full = store.load(tmp_path / "run"), curves(whole)
    best = {trial: max(curve[:2]) for trial, curve in full.items()}
    kept = max(best, key=lambda trial: best[trial])
    assert set(run.trials[run.trials["status"] == "completed"]["trial"]) == done | {kept}


@pytest.mark.parametrize(
    "policy",
    [
        POLICY,
        "median(grace=0.2, least=2)",
        ASHA,
        "successive_halving(first=0.2)",
    ],
)
def test_a_live_policy_decides_as_on_the_curves_of_the_past(base, whole, tmp_path, policy):
    """Trial by trial, also where the decisions depend on the number of slots."""
    watched = Quiet()
    train.run(study(base, tmp_path, policy=policy), progress=watched)
    run, full = store.load(tmp_path / "run"), curves(whole)
    past = replay(policies.load(policy), np.array(list(full.values())), slots=4)
    length = dict(zip(full, past["evaluations"].tolist(), strict=True))
    assert run.trials.set_index("trial")["steps"].to_dict() == {trial: 2 * n for trial, n in length.items()}
    assert watched.taken == sum(run.trials["steps"])
    assert len(set(length.values())) > 1, "nobody was stopped"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--policy", "medain"], "policy: unknown policy 'medain'; did you mean median?"),
        (["--policy", "start_many(keep=0)"], "policy: keep: expected a number from 1 on, found 0"),
        (["--policy", "start_many(start=2, keep=3)"], "policy: keep: expected a number from 1 to 2, found 3"),
        (["--policy", "median|start_many"], "policy: expected one, found 'median|start_many'"),
        (["--policy", "median(grace=x)"], "policy: 'median(grace=x)' at position 14: "),
        (["--policy", "median(grace=1.5)"], "policy: grace: expected a number from 0 to 0.999, found 1.5"),
        (["--policy", "median(p=1)"], "policy: median has no argument 'p'; "),
    ],
)
def test_what_is_no_policy_is_one_line(base, tmp_path, capsys, words, said):
    study(base, tmp_path)
    assert cli.main(["run", str(tmp_path / "study.yaml"), *words]) == cli.BAD_INPUT
    error = capsys.readouterr().err
    assert error.startswith(f"jaxft: {said}")
    assert error.count("\n") == 1


def test_a_shard_has_not_the_others_to_rank_against(base, tmp_path):
    with pytest.raises(BadInput, match="ranks all trials of a program, and a shard has only its own"):
        train.run(study(base, tmp_path, policy=POLICY), progress=Quiet(), shard=(1, 2))


def test_the_policy_is_no_part_of_a_trial(base, judged, whole):
    path, _ = judged
    assert set(rows(path)["trial"]) == set(whole.trials["trial"])
    assert np.isfinite(rows(path)["best_score"]).all()
