import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toys
from studies import Quiet

import jaxft
from jaxft import api, members
from jaxft.errors import BadInput
from jaxft.members.ranges import Share
from jaxft.tasks import own
from jaxft.types import Method, Tx

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _forget():
    """What a test adds is there for that test alone."""
    yield
    own.OWN.clear()
    members._OWN.clear()


def test_the_examples_of_the_docstrings_run_from_top_to_bottom(monkeypatch, tmp_path):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    found = [test for test in doctest.DocTestFinder().find(api, "api") if test.examples]
    assert [test.name for test in sorted(found, key=lambda test: test.lineno)] == [
        "api", "api.read", "api.make", "api.plan", "api.run", "api.task", "api.method",
    ]  # fmt: skip
    shared: dict = {}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in sorted(found, key=lambda test: test.lineno):
        test.globs = shared
        assert runner.run(test, clear_globs=False).failed == 0, test.name


def test_the_package_loads_no_jax_before_it_is_needed():
    code = "import jaxft, sys; jaxft.make(train={'lr': 1}); jaxft.BadInput, dir(jaxft); assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_study_of_keys_is_that_of_yaml(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("train: {lr: 1.0e-3}\nseeds: {init: [1, 2, 3], order: 1..2}\nsweep: {train.epochs: [1, 2]}\n")
    made = jaxft.make(
        train={"lr": np.float64(1e-3)}, seeds={"init": np.arange(1, 4), "order": "1..2"}, sweep={"train.epochs": (1, 2)}
    )
    assert made == jaxft.read(path)
    assert jaxft.make(path, train={"lr": 1e-4}).train.lr == 1e-4
    assert jaxft.make(path, train={"lr": 1e-4}).train.epochs == made.train.epochs


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"train": {"lr": "fast"}}, "train.lr: expected a number"),
        ({"trian": {"lr": 1}}, "trian"),
        ({"model": object()}, "expected numbers, texts, lists and mappings, found object"),
    ],
)
def test_what_is_wrong_with_a_key_is_one_line(keys, said):
    with pytest.raises(BadInput, match=r"^[^\n]*$") as raised:
        jaxft.make(**keys)
    assert said in str(raised.value)
    assert "line" not in str(raised.value)


TEXTS = ["good", "bad", "nice", "dull"] * 6


@pytest.mark.parametrize(
    ("train", "dev", "said"),
    [
        ((TEXTS, [1] * 3), (TEXTS, [1] * 24), "24 texts and 3 labels"),
        (([], []), (TEXTS, [1] * 24), "0 texts and 0 labels"),
        ((TEXTS, [0, 1] * 12), ([("a", "b")], [1]), "the texts of some splits are pairs"),
        ((["a", ("b", "c")], [0, 1]), (TEXTS, [0, 1] * 12), "some of its texts are pairs"),
        (([("b", "c", "d"), ("b", "c", "d")], [0, 1]), (TEXTS, [0, 1] * 12), "expected a text or a pair of two"),
        (([1, 2], [0, 1]), (TEXTS, [0, 1] * 12), "expected a text or a pair of two, found 1"),
    ],
)
def test_examples_that_are_none_are_refused(train, dev, said):
    with pytest.raises(BadInput, match=said):
        jaxft.task("mine", train, dev)


def test_names_that_are_taken_are_refused():
    with pytest.raises(BadInput, match="task: mrpc is there already"):
        jaxft.task("mrpc", (TEXTS, [0, 1] * 12), (TEXTS, [0, 1] * 12))

    def mixout(p: Share = 0.1) -> Method:
        return Method()

    with pytest.raises(BadInput, match="method: mixout is there already"):
        jaxft.method(mixout)


def keys(folder, **changes):
    """A small study of its own checkpoint."""
    base = toys.light(folder)
    kept = {"model": base["model"], "train": base["train"], "pool": base["pool"], "stop": {"enabled": False}}
    return kept | {"seeds": {"init": 1, "order": "1..2"}, "out": str(folder / "run")} | changes


def test_a_task_of_arrays_trains_as_its_file_does(tmp_path):
    base = toys.light(tmp_path)
    rows = [line.split("\t") for line in (Path(base["task"]["path"]) / "train.tsv").read_text().splitlines()]
    head, *rows = rows
    texts, labels = ([row[head.index(name)] for row in rows] for name in ("sentence", "label"))
    jaxft.task("arrays", (np.array(texts), np.array(labels)), (texts[:8], labels[:8]))
    mine = jaxft.run(jaxft.make(**keys(tmp_path, task={"name": "arrays", "max_length": 16})), progress=Quiet())
    (tmp_path / "dev.tsv").write_text("\n".join("\t".join(row) for row in [head, *rows[:8]]) + "\n")
    told = {**base["task"], "dev": str(tmp_path / "dev.tsv")}
    theirs = jaxft.run(jaxft.make(**keys(tmp_path, task=told, out=str(tmp_path / "two"))), progress=Quiet())
    one, other = jaxft.load(mine), jaxft.load(theirs)
    assert [x.tobytes() for x in one.losses["train_loss"]] == [x.tobytes() for x in other.losses["train_loss"]]
    assert one.trials["final_score"].tolist() == other.trials["final_score"].tolist()
    with pytest.raises(BadInput, match="arrays is in memory already"):
        jaxft.run(jaxft.make(**keys(tmp_path, task={"name": "arrays", "path": "x"}, out=str(tmp_path / "3"))))
    jaxft.task("arrays", (texts[::-1], labels[::-1]), (texts[:8], labels[:8]))
    with pytest.raises(BadInput, match=r"task is .* it determines the results"):
        jaxft.run(
            jaxft.make(**keys(tmp_path, task={"name": "arrays", "max_length": 16}, seeds={"init": 1, "order": "1..3"}))
        )


def scaled(by: Share = 0.5) -> Method:
    """Takes each update by so much."""

    def tx(inner: Tx) -> Tx:
        def update(grads, state, params, ctx):
            updates, after = inner.update(grads, state, params, ctx)
            return {name: by * x for name, x in updates.items()}, after

        return Tx(inner.init, update)

    return Method(tx=tx)


def test_a_method_of_a_function_is_swept_chained_and_refused_as_ours(tmp_path):
    jaxft.method(clashes={"lora": "for a test"})(scaled)
    one = {"seeds": {"init": 1, "order": 1}, "task": toys.light(tmp_path)["task"] | {"n_train": 12}}

    def ran(name: str, **changes):
        made = jaxft.make(**keys(tmp_path, **one, out=str(tmp_path / name), **changes))
        return jaxft.load(jaxft.run(made, progress=Quiet()))

    sweep = {"method.scaled.by": [0.0, 0.5, 1.0]}
    run, plain = ran("own", method="scaled|reinit(layers=1)", sweep=sweep), ran("plain", method="reinit(layers=1)")
    by = run.trials.set_index("trial")["hp.method.scaled.by"]
    losses = {by[row.trial]: row.train_loss for row in run.losses.itertuples()}
    assert sorted(losses) == [0.0, 0.5, 1.0]
    assert np.allclose(losses[1.0], plain.losses["train_loss"][0], rtol=1e-5), "all of each update is the plain method"
    assert not np.allclose(losses[0.5], losses[1.0], rtol=1e-3)
    with pytest.raises(BadInput, match="from 0 to 1"):
        ran("bad", method="scaled(by=2.0)")
    with pytest.raises(BadInput, match="do not go together: for a test"):
        ran("bad", method="scaled|lora")


def test_a_folder_does_not_go_on_with_another_method_of_the_same_name(tmp_path):
    jaxft.method(scaled)
    changes = {"task": toys.light(tmp_path)["task"], "method": "scaled"}
    jaxft.run(jaxft.make(**keys(tmp_path, seeds={"init": 1, "order": 1}, **changes)), progress=Quiet())
    more = jaxft.make(**keys(tmp_path, seeds={"init": 1, "order": "1..2"}, **changes))
    found = members._OWN["method", "scaled"]
    members._OWN["method", "scaled"] = found._replace(source=found.source + "\n# changed\n")
    with pytest.raises(BadInput, match=r"own\.scaled is"):
        jaxft.run(more, progress=Quiet())
    members._OWN["method", "scaled"] = found
    jaxft.run(more, progress=Quiet())
    members._OWN.clear()
    assert len(jaxft.load(tmp_path / "run").trials) == 2, "it is read without the method"


def test_a_method_needs_types_and_a_source():
    def loose(p=0.5):
        return Method()

    with pytest.raises(TypeError, match="must be annotated"):
        jaxft.method(loose)
    names: dict = {}
    exec("def unseen():\n    return None", names)
    with pytest.raises(BadInput, match="source of unseen cannot be read"):
        jaxft.method(names["unseen"])


def test_a_policy_of_a_function(tmp_path):
    from jaxft.policies import STOP, Policy

    @jaxft.policy
    def nobody(after: int = 1) -> Policy:
        """Stops all after their first evaluation."""
        return Policy(lambda evaluations: (after,), lambda rung, standing: np.full(len(standing.arrived), STOP))

    made = jaxft.make(**keys(tmp_path, task=toys.light(tmp_path)["task"], policy="nobody"))
    assert set(jaxft.load(jaxft.run(made, progress=Quiet())).trials["reason"]) == {"nobody"}
