import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxft import members
from jaxft.errors import BadInput
from jaxft.study import PoolConfig, trials
from jaxft.study.config import EvalConfig, SeedGrid, StopConfig, Study, TaskConfig, TrainConfig
from jaxft.study.trials import Seeds, expand, group, identify, read_shard, seeds, share

SMALL = SeedGrid(init=1, order=1)
INF = float("inf")


def swept(**sweep) -> Study:
    return Study(seeds=SMALL, sweep={key.replace("__", "."): values for key, values in sweep.items()})


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (3, [3]),
        (0, [0]),
        ("1..4", [1, 2, 3, 4]),
        ("7", [7]),
        ("5 .. 6", [5, 6]),
        ([5, 1], [5, 1]),
        (2**32 - 1, [2**32 - 1]),
    ],
)
def test_seeds(numbers, expected):
    assert seeds(numbers) == expected


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ("5..3", "the range 5..3 is empty"),
        ("", "found ''"),
        ("1..", "a range such as 1..25"),
        ("1..2..3", "a range such as 1..25"),
        ("-1..3", "a range such as 1..25"),
        ("٣", "a range such as 1..25"),
        ([], "found an empty list"),
        (-1, "found -1"),
        (2**32, "found 4294967296"),
        ([1, 2**32], "found 4294967296"),
        (f"0..{2**32}", "found 4294967296"),
        ("0..4000000000", "at most 1000000 seeds"),
        ([1, 5, 1], "1 is there twice"),
    ],
)
def test_seeds_that_are_none(numbers, message):
    with pytest.raises(BadInput) as caught:
        seeds(numbers)
    assert message in str(caught.value)


def test_a_grid_crosses_init_and_order_and_the_rest_follows_order():
    rows = [t.seeds for t in expand(Study(seeds=SeedGrid(init=[9, 8], order="1..3")))]
    assert rows == [Seeds(i, o, o, o, 0) for i in (9, 8) for o in (1, 2, 3)]


def test_dropout_noise_and_data_are_crossed_when_given():
    rows = [t.seeds for t in expand(Study(seeds=SeedGrid(init=1, order=2, dropout=[3, 4], noise=7, data=[5, 6])))]
    assert rows == [Seeds(1, 2, d, 7, x) for d in (3, 4) for x in (5, 6)]


def test_rows_name_each_trial():
    rows = [{"init": 1, "order": 7}, {"init": 1, "order": 7, "dropout": 2, "noise": 3, "data": 4}]
    assert [t.seeds for t in expand(Study(seeds=SeedGrid(rows=rows)))] == [
        Seeds(1, 7, 7, 7, 0),
        Seeds(1, 7, 2, 3, 4),
    ]


def test_floats_are_hp_and_the_rest_is_fixed():
    (trial,) = expand(Study(name="x", out="y", seeds=SMALL, stop=StopConfig(loss_above=5, one_class=2, majority=3)))
    assert trial.hp == {
        "train.lr": 2e-5,
        "train.warmup": 0.1,
        "train.weight_decay": 0.01,
        "train.b1": 0.9,
        "train.b2": 0.999,
        "train.eps": 1e-6,
        "train.clip": 1.0,
        "train.dropout": 0.1,
        "stop.non_finite": 1.0,
        "stop.loss_above": 5.0,
        "stop.loss_patience": 10.0,
        "stop.one_class": 2.0,
        "stop.majority": 3.0,
    }
    assert all(type(value) is float for value in trial.hp.values())
    assert {"model", "method", "task.name", "task.n_train", "train.epochs", "eval.per_epoch"} <= set(trial.fixed)
    assert not [
        k for k in trial.fixed if k in trial.hp or k.startswith(("name", "out", "seeds", "sweep", "pool", "stop"))
    ]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (StopConfig(loss_patience=0), (1, INF, INF, INF, INF)),
        (StopConfig(non_finite=False), (0, INF, 10, INF, INF)),
        (StopConfig(enabled=False, loss_above=1.0, one_class=1, majority=1), (0, INF, INF, INF, INF)),
    ],
)
def test_a_stopping_rule_that_is_off_is_an_infinite_bound(rules, expected):
    (trial,) = expand(Study(seeds=SMALL, stop=rules))
    names = ("non_finite", "loss_above", "loss_patience", "one_class", "majority")
    assert tuple(trial.hp[f"stop.{name}"] for name in names) == expected


def test_a_sweep_crosses_its_keys_and_the_seeds():
    study = Study(
        seeds=SeedGrid(init=1, order=[1, 2]),
        sweep={
            "train.lr": [1e-5, "2e-5", 1],
            "train.epochs": [1, 2],
            "train.optimizer": ["adamw", "bertadam"],
        },
    )
    found = [
        (t.hp["train.lr"], t.fixed["train.epochs"], t.fixed["train.optimizer"], t.seeds.order) for t in expand(study)
    ]
    assert found == [
        (lr, epochs, optimizer, order)
        for lr in (1e-5, 2e-5, 1.0)
        for epochs in (1, 2)
        for optimizer in ("adamw", "bertadam")
        for order in (1, 2)
    ]


def test_a_sweep_over_stopping_rules():
    bounds = [t.hp["stop.loss_above"] for t in expand(swept(stop__loss_above=[2, None]))]
    assert bounds == [2.0, INF]


def test_a_sweep_over_methods_and_their_arguments(tmp_path, monkeypatch):
    (tmp_path / "toy.py").write_text("def toy(p: float = 0.9, layers: int = 1): ...")
    (tmp_path / "vanilla.py").write_text("def vanilla(): ...")
    monkeypatch.setattr(members, "_folders", lambda kind: [str(tmp_path)])
    found = expand(replace(swept(method__toy__p=[0, 0.5], method__toy__layers=[1, 2]), method="toy"))
    assert [(t.hp["method.toy.p"], t.fixed["method"]) for t in found] == [
        (p, f"toy(layers={n})") for p in (0.0, 0.5) for n in (1, 2)
    ]
    assert len(group(found)) == 2
    assert [t.fixed["method"] for t in expand(swept(method=["vanilla", "toy"]))] == [
        "vanilla",
        "toy(layers=1)",
    ]
    with pytest.raises(BadInput, match=r"method toy\(p=0.9\) is there twice"):
        expand(swept(method=["toy", "toy(p=0.9)"]))
    with pytest.raises(BadInput, match=r"method.toy.p: not an argument of 'vanilla'"):
        expand(swept(method=["toy", "vanilla"], method__toy__p=[0.5]))


@pytest.mark.parametrize(
    ("study", "message"),
    [
        (swept(train__lrr=[1]), "sweep.train.lrr: not a key to sweep over; did you mean train.lr?"),
        (swept(seeds__init=[1]), "sweep.seeds.init: not a key to sweep over"),
        (swept(pool__slots=[1]), "sweep.pool.slots: not a key to sweep over"),
        (swept(name=["a"]), "sweep.name: not a key to sweep over"),
        (
            swept(eval__gradient_norms=[False, True]),
            "sweep.eval.gradient_norms: not a key to sweep over; it is the same for",
        ),
        (swept(train__lr=[]), "sweep.train.lr: expected a list of values, found []"),
        (swept(train__lr=1e-5), "sweep.train.lr: expected a list of values, found 1e-05"),
        (swept(train__lr=["a"]), "sweep.train.lr: expected a number of at least 0, found 'a'"),
        (swept(train__lr=[-1]), "sweep.train.lr: expected a number of at least 0, found -1"),
        (swept(train__epochs=["1.0"]), "sweep.train.epochs: expected an integer of at least 1, found '1.0'"),
        (swept(train__epochs=[1.0]), "sweep.train.epochs: expected an integer of at least 1, found 1.0"),
        (
            swept(train__lr=[1e-5, "0.00001"]),
            "order 1, dropout 1, noise 1, data 0, train.lr 1e-05 is there twice",
        ),
        (
            Study(seeds=SeedGrid(rows=[{"init": 1, "order": 2}] * 2)),
            "init 1, order 2, dropout 2, noise 2, data 0 is",
        ),
        (Study(seeds=SeedGrid(rows=[{"init": 1}])), "seeds.rows: row 1: no order"),
        (
            Study(seeds=SeedGrid(rows=[{"init": 1, "oder": 2}])),
            "row 1: unknown seed 'oder'; did you mean order?",
        ),
        (
            Study(seeds=SeedGrid(rows=[{"init": 1, "order": -2}])),
            "row 1: expected seeds from 0 to 4294967295, found -2",
        ),
        (Study(seeds=SeedGrid(rows=[])), "seeds.rows: expected a list of mappings that is not empty"),
        (Study(seeds=SeedGrid(init="3..1")), "seeds.init: the range 3..1 is empty"),
        (Study(seeds=SeedGrid(init="1..2000", order="1..2000")), "at most 1000000 trials"),
        (Study(train=TrainConfig(lr=float("nan"))), "train.lr: expected a number of at least 0, found nan"),
        (Study(method="vanila"), "unknown method 'vanila'; did you mean vanilla?"),
    ],
)
def test_what_cannot_be_expanded(study, message):
    with pytest.raises(BadInput) as caught:
        expand(study)
    assert message in str(caught.value)


def test_identity_depends_on_all_that_determines_the_result_and_on_nothing_else():
    base = Study(seeds=SMALL)
    (trial,) = expand(base)
    same = replace(base, name="other", out="elsewhere", seeds=SeedGrid(init=[1], order="1..1", dropout=1))
    assert [t.id for t in expand(same)] == [trial.id]
    others = [
        replace(base, seeds=SeedGrid(init=2, order=1)),
        replace(base, seeds=SeedGrid(init=1, order=1, dropout=2)),
        replace(base, model="other"),
        replace(base, train=TrainConfig(lr=3e-5)),
        replace(base, train=TrainConfig(epochs=4)),
        replace(base, eval=EvalConfig(per_epoch=2)),
        replace(base, stop=StopConfig(one_class=1)),
    ]
    ids = {expand(study)[0].id for study in others}
    assert len(ids | {trial.id}) == len(others) + 1


def test_a_key_that_is_new_gives_old_trials_no_other_name():
    """Nor does one that says only what is kept of a trial."""
    (trial,) = expand(Study(seeds=SMALL))
    assert trial.id == "8cef9a335542", "run folders hold trials of that name"
    asked = expand(Study(seeds=SMALL, eval=EvalConfig(gradient_norms=True)))
    assert asked == [trial]
    plain, stratified = expand(Study(seeds=SMALL, sweep={"task.stratified": [False, True]}))
    assert plain == trial
    assert stratified.id != trial.id
    assert trial.fixed["task.stratified"] is False


def test_identity_is_the_same_in_every_process():
    code = (
        "from jaxft.study.trials import *; from jaxft.study.config import *;"
        "print(expand(Study(seeds=SeedGrid(init=1, order=1)))[0].id)"
    )
    command = [sys.executable, "-c", code]
    ids = [
        subprocess.run(
            command,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert ids[0] == ids[1] == f"{expand(Study(seeds=SMALL))[0].id}\n".encode()


@given(st.permutations(["a", "b", "c"]))
def test_identity_does_not_depend_on_the_order_of_a_dict(names):
    row = Seeds(1, 2, 3, 4, 5)
    values = {"a": 1.0, "b": 0.0, "c": INF}
    shuffled = {name: values[name] for name in names}
    expected = identify(row, {"x": "y", "n": 3}, values)
    assert identify(row, {"n": 3, "x": "y"}, shuffled) == expected
    assert identify(row, {"n": 3, "x": "y"}, {**shuffled, "a": 1, "b": -0.0}) == expected
    assert len(expected) == 12
    assert set(expected) <= set("0123456789abcdef")


def test_groups_share_all_that_is_fixed_but_the_length():
    study = swept(train__lr=[1e-5, 2e-5], train__epochs=[1, 2], train__batch_size=[8, 16], task__n_train=[32, None])
    found = expand(study)
    groups = group(found)
    assert [len(members) for members in groups] == [8, 8]
    assert [{t.fixed["train.batch_size"] for t in members} for members in groups] == [{8}, {16}]
    assert sorted(t.id for members in groups for t in members) == sorted(t.id for t in found)
    assert trials.shape({"train.epochs": 1, "task.n_train": 2, "model": "m"}) == {"model": "m"}


@given(st.integers(0, 40), st.integers(1, 12))
def test_shares_are_each_trial_once_and_even(number, count):
    found = [share(list(range(number)), (index, count)) for index in range(1, count + 1)]
    assert sorted(trial for part in found for trial in part) == list(range(number))
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_a_share_has_a_bit_of_every_setting():
    study = Study(seeds=SeedGrid(init="1..4", order=1), sweep={"train.lr": [1e-5, 2e-5]})
    assert [trial.hp["train.lr"] for trial in share(expand(study), (2, 4))] == [1e-5, 2e-5]


def test_a_shard_is_read():
    assert read_shard("3/8") == (3, 8)
    assert read_shard("1/1") == (1, 1)


@pytest.mark.parametrize(
    "text", ["0/8", "9/8", "a", "3", "", "3/", "/8", "-1/8", "1/0", "1/2/3", " 1/2", "٣/٨", "1.0/2"]
)
def test_what_is_no_shard(text):
    with pytest.raises(BadInput) as caught:
        read_shard(text)
    assert str(caught.value).startswith("--shard: expected I/N, the I-th of N shares, such as 1/8 to 8/8; found ")
    assert "\n" not in str(caught.value)


def test_how_a_study_is_run_changes_no_trial():
    """Where, at which width and with how many checkpoints: a run that goes on otherwise finds its trials."""
    here = Study()
    there = replace(here, out="elsewhere", pool=PoolConfig(slots=3, devices=2, checkpoint_minutes=0.5))
    assert [trial.id for trial in trials.expand(here)] == [trial.id for trial in trials.expand(there)]


@pytest.mark.parametrize(
    ("n_train", "there", "found"),
    [(None, 7, 7), (3, 7, 3), ("10%", 67349, 6734), ("100%", 7, 7), ("0.1%", 1000, 1), ("33.3%", 1000, 333)],
)
def test_how_many_examples_a_share_is(n_train, there, found):
    assert trials.size(n_train, there) == found


@pytest.mark.parametrize(("n_train", "there"), [(8, 7), ("10%", 9), ("0.05%", 1000)])
def test_a_share_of_too_few(n_train, there):
    with pytest.raises(BadInput, match=f"task.n_train: {n_train} is not between 1 and the {there} training examples"):
        trials.size(n_train, there)


@pytest.mark.parametrize("n_train", ["10", "0%", "101%", "-5%", "ten%", "1e1%", "%", 0, 1.5])
def test_what_is_no_size(n_train):
    with pytest.raises(BadInput, match=r"task\.n_train: expected an integer of at least 1 or a share such as 10%"):
        expand(Study(task=TaskConfig(n_train=n_train)))


def test_keys_that_go_together():
    pairs = {"method, train.lr": [["vanilla", 1e-4], ["bitfit", 1e-3]], "train.epochs": [1, 2]}
    found = expand(Study(seeds=SeedGrid(init=1, order=1), sweep=pairs))
    told = [(t.fixed["method"], t.hp["train.lr"], t.fixed["train.epochs"]) for t in found]
    assert told == [("vanilla", 1e-4, 1), ("vanilla", 1e-4, 2), ("bitfit", 1e-3, 1), ("bitfit", 1e-3, 2)]
    alone = expand(Study(seeds=SeedGrid(init=1, order=1), method="bitfit", train=TrainConfig(lr=1e-3, epochs=2)))
    assert alone[0].id == found[3].id, "how a setting came about is no part of a trial"


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ({"method,train.lr": [["vanilla"]]}, "expected lists of 2 values, one for each key, found ['vanilla']"),
        ({"method,train.lr": []}, "expected a list of lists of values, found []"),
        ({"method,train.lr": [["vanilla", "fast"]]}, "sweep.train.lr: expected a number of at least 0, found 'fast'"),
        ({"method,train.l": [["vanilla", 1e-4]]}, "sweep.train.l: not a key to sweep over; did you mean train.lr?"),
        ({"method,train.lr": [["vanilla", 1e-4]], "train.lr": [1e-3]}, "sweep.train.lr: there twice"),
        ({"train.lr,train.lr": [[1e-4, 1e-3]]}, "sweep.train.lr: there twice"),
    ],
)
def test_what_cannot_go_together(sweep, said):
    with pytest.raises(BadInput) as error:
        expand(Study(sweep=sweep))
    assert said in str(error.value)


def test_a_network_is_named_with_all_of_its_arguments():
    """So that a trial's id does not depend on which of them were written."""
    one, other = (
        expand(Study(model=name, seeds=SeedGrid(init=1, order=1)))[0]
        for name in ("embedded|lstm(hidden=256)", "embedded | lstm(layers=1)")
    )
    assert one.id == other.id
    assert one.fixed["model"].startswith("embedded|lstm(layers=1, hidden=256, ")
