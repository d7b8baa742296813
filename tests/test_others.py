"""Trained on one task, evaluated on others: which classes count as which labels, and what of it the run folder has."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from studies import Quiet, rows, same_bits, study
from test_flight import stopped

from jaxft import metrics
from jaxft.data import batch
from jaxft.data.batch import pad
from jaxft.engine import groups
from jaxft.errors import BadInput
from jaxft.folder import store
from jaxft.loop import train
from jaxft.stats import predictions, scores
from jaxft.study import EvalConfig, SeedGrid, Study, others
from jaxft.study.trials import expand
from jaxft.tasks.others import match

NLI = ("entailment", "neutral", "contradiction")
TWO = {"entailment": ("entailment",), "not_entailment": ("neutral", "contradiction")}


def test_of_three_classes_two_count_as_one_label():
    assert match(NLI, tuple(TWO), TWO) == ((0, 1, 1), (0, 1))
    turned = {"neutral": ("neutral", "contradiction"), "entails": ("entailment",)}
    assert match(NLI, ("entails", "neutral"), turned) == ((0, 1, 1), (0, 1)), "numbered as the set has them"
    assert match(NLI, ("neutral", "entails"), turned) == ((1, 0, 0), (0, 1))


def test_of_three_labels_two_are_one_class_of_two():
    labels = {"entailment": ("entailment",), "neutral": ("not",), "contradiction": ("not",)}
    assert match(("not", "entailment"), NLI, labels) == ((1, 0), (0, 1, 1))


def test_without_a_word_classes_go_by_their_names():
    assert match(NLI, ("contradiction", "entailment", "neutral"), None) == ((1, 2, 0), (0, 1, 2))
    assert match((), (), None) == ((), ())


@pytest.mark.parametrize(
    ("ours", "theirs", "labels", "said"),
    [
        (NLI, ("a", "b"), None, "labels: missing: its labels are a, b, the classes of the training task entailment, n"),
        (NLI, ("a", "b"), {"a": NLI}, "labels: nothing is said of its label 'b'"),
        (NLI, ("a", "b"), {"a": NLI[:1], "b": NLI[1:], "c": NLI[:1]}, "labels: 'c' is none of its labels; they are "),
        (NLI, ("a", "b"), {"a": NLI[:1], "b": ("x",)}, "labels: 'x' is no class of the training task; they are ent"),
        (NLI, ("a", "b"), {"a": NLI[:1], "b": NLI[1:2]}, "labels: nothing is said of the class 'contradiction' of the"),
        (NLI, ("a", "b"), {"a": NLI[:2], "b": NLI[1:]}, "labels: 'neutral' counts as two labels that have not all th"),
        (NLI, ("a", "b"), {"a": NLI, "b": NLI}, "labels: all classes count as one and the same label; two are needed"),
        (NLI, (), None, "its labels are numbers, and those of the training task classes; both must be of one kind"),
        ((), NLI, None, "its labels are classes, and those of the training task numbers; both must be of one kind"),
        ((), (), TWO, "labels: its labels are numbers, and have no names"),
    ],
)  # fmt: skip
def test_labels_that_do_not_go_together_are_refused(ours, theirs, labels, said):
    with pytest.raises(BadInput) as caught:
        match(ours, theirs, labels)
    assert str(caught.value).startswith(said)


def test_a_prediction_of_a_class_is_one_of_what_it_counts_as():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 4)).astype(np.float32)
    into = np.array([2, 0, 1, 0])
    largest, summed = metrics.merged(logits, tuple(into))
    assert largest.dtype == np.float32
    assert np.array_equal(largest.argmax(axis=1), into[logits.argmax(axis=1)])
    odds = np.exp(logits)
    shares = np.stack([odds[:, into == k].sum(axis=1) for k in range(3)], axis=1) / odds.sum(axis=1, keepdims=True)
    softmax = np.exp(summed) / np.exp(summed).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax, shares, atol=1e-6)
    assert (summed.argmax(axis=1) != largest.argmax(axis=1)).any(), "the two rules never differ: nothing was tested"
    same, also = metrics.merged(logits, (1, 0, 3, 2))
    assert np.array_equal(same, logits[:, [1, 0, 3, 2]])
    np.testing.assert_allclose(also, same)


def test_a_study_of_entries_gives_its_trials_no_other_name():
    grid = SeedGrid(init=1, order=1)
    entries = [{"name": "rte", "path": "hub"}]
    assert expand(Study(seeds=grid)) == expand(Study(seeds=grid, eval=EvalConfig(also=entries)))
    (other,) = others.also(entries)
    assert other.task(77).max_length == 77
    assert other.task(77).name == "rte"
    (text,) = others.also(
        [{"name": "x", "task": "text", "dev": "d.tsv", "max_length": 9, "labels": {0: "a", 1: ["b"]}}]
    )
    assert (text.task(77).labels, text.task(77).train, text.task(77).max_length) == (["0", "1"], "d.tsv", 9)
    assert text.labels == {"0": ("a",), "1": ("b",)}


def tsv(folder, name: str, labels, count: int, words=range(25), longest: int = 7, seed: int = 0) -> None:
    """Sentences in a file, each of words that are equal modulo 3; the label is a function of them."""
    rng = np.random.default_rng(seed)
    lines = ["sentence\tlabel"]
    for _ in range(count):
        drawn = rng.choice(words[rng.integers(3) :: 3], rng.integers(2, longest))  # all of one class
        lines.append(" ".join(f"w{w}" for w in drawn) + f"\t{labels(drawn)}")
    (folder / name).write_text("\n".join(lines) + "\n")


def three(drawn) -> str:
    return NLI[int(drawn[0]) % 3]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Three classes of words below w20; a set of two labels with longer texts and all words; one of the same three."""
    settings = toys.settings(tmp_path_factory.mktemp("study"))
    folder = toys.sentences(tmp_path_factory.mktemp("data"))
    tsv(folder, "train.tsv", three, 60, range(20))
    tsv(folder, "dev.tsv", three, 13, range(20), seed=1)
    tsv(folder, "two.tsv", lambda w: "yes" if three(w) == "entailment" else "no", 30, longest=13, seed=2)
    tsv(folder, "same.tsv", three, 17, range(20), seed=3)
    return (
        settings
        | {"task": {"name": "text", "path": str(folder), "max_length": 16}, "folder": str(folder)}
        | {"train": settings["train"] | {"lr": 3e-3, "epochs": 2}}
    )


def asked(base) -> dict:
    shared = {"task": "text", "path": base["folder"]}
    yes = {"yes": "entailment", "no": ["neutral", "contradiction"]}
    return {
        "also": [
            {"name": "two", "dev": "two.tsv", "labels": yes} | shared,
            {"name": "same", "dev": "same.tsv"} | shared,
        ]
    }


@pytest.fixture(scope="module")
def settings(base):
    return {key: value for key, value in base.items() if key != "folder"}


@pytest.fixture(scope="module")
def whole(base, settings, tmp_path_factory):
    """A study that is evaluated on both, from beginning to end."""
    return train.run(study(settings, tmp_path_factory.mktemp("whole"), eval=asked(base)), progress=Quiet())


@pytest.fixture(scope="module")
def plain(settings, tmp_path_factory):
    """The same without."""
    return train.run(study(settings, tmp_path_factory.mktemp("plain")), progress=Quiet())


def test_evaluations_predictions_and_examples_have_the_sets_by_their_names(whole):
    run = store.load(whole)
    assert run.evals.groupby("split").size().to_dict() == dict.fromkeys(("dev", "two", "same"), 30)
    assert (run.evals["f1"].notna() == (run.evals["split"] == "two")).all(), "f1 is for the two labels alone"
    shapes = run.predictions.groupby("split")["logits"].apply(lambda each: {x.shape for x in each}).to_dict()
    assert shapes == {"dev": {(13, 3)}, "two": {(30, 2)}, "same": {(17, 3)}}
    last = run.evals.sort_values("step").groupby(["trial", "split"]).last()
    for row in run.predictions.query("at == 'final'").itertuples():
        label = run.examples.query("split == @row.split").sort_values("index")["label"].to_numpy()
        share = np.mean(row.logits.argmax(axis=1) == label)
        assert last.loc[(row.trial, row.split), "accuracy"] == pytest.approx(share)
    assert last["accuracy"].nunique() > 5, "all trials are alike"


def test_no_trial_is_scored_by_them(whole, plain):
    one, other = rows(whole), rows(plain)
    assert one["trial"].tolist() == other["trial"].tolist()
    dev = store.load(whole).evals.query("split == 'dev'")
    best = dev.groupby("trial")["accuracy"].max()
    assert (one.set_index("trial")["best_score"] == best).all()
    assert one["test_at_best"].isna().all()
    # Another program, of more rows in a table: equal but for the order of sums.
    np.testing.assert_allclose(one["final_score"], other["final_score"], atol=1e-6)
    a, b = (np.concatenate(list(store.load(f).losses.sort_values("trial")["train_loss"])) for f in (whole, plain))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_statistics_read_them_as_they_read_dev(whole):
    (table,) = scores.read(whole)
    found = predictions.read(table, split="two")
    assert found.logits.shape == (6, 30, 2)
    assert set(found.labels) == {0, 1}


def test_logits_are_those_of_the_whole_model_also_where_training_never_read_a_word(base, settings, tmp_path):
    """Of texts longer than the rows of training, with words that only this set has."""
    asks = study(settings, tmp_path, eval=asked(base))
    (group,) = groups.prepare(asks, expand(asks))
    (alone,) = groups.prepare(study(settings, tmp_path), expand(asks))
    assert group.recipe.layout == alone.recipe.layout == batch.layout(alone.task.train, alone.task.evals.values(), 4)
    assert batch.width([group.task.evals["two"]]) > batch.width(alone.task.evals.values())
    assert {name: len(group.kept[name]) > len(alone.kept[name]) for name in group.kept} == dict.fromkeys(
        group.kept, True
    )
    pool = groups.pooled(group, 1, jax.devices()[:1])
    trial = group.trials[0]
    pool.fill({0: groups.entry(trial, group)})
    for _ in range(2):
        report = pool.run(group.recipe.every)
    model, _ = group.whole()
    split = jax.tree.map(jnp.asarray, group.task.evals["two"])
    params = jax.tree.map(jnp.asarray, groups.weights(group, pool.take(0)))
    with jax.default_matmul_precision("highest"):
        expected = model.apply(params, pad(split, jnp.arange(30), 16)).logits
    np.testing.assert_allclose(report.logits["two"][0], expected, atol=1e-5)


def test_a_stopped_study_goes_on_bit_for_bit_and_other_sets_are_another_study(base, settings, whole, tmp_path):
    asks = study(settings, tmp_path, eval=asked(base))
    stopped(asks, 4)
    train.run(asks, progress=Quiet())
    same_bits(tmp_path / "run", whole)
    with pytest.raises(BadInput, match=r"holds another study: eval\.also: "):
        train.run(study(settings, tmp_path, eval={"also": asked(base)["also"][:1]}), progress=Quiet())


def test_changed_data_of_such_a_set_are_refused(base, settings, tmp_path):
    asks = study(settings, tmp_path, eval=asked(base))
    (group,) = groups.prepare(asks, expand(asks))
    without = study(settings, tmp_path)
    (alone,) = groups.prepare(without, expand(without))
    turned = [{**entry, "labels": {"yes": "neutral", "no": ["entailment", "contradiction"]}} if entry["name"] == "two"
              else entry for entry in asked(base)["also"]]  # fmt: skip
    again = study(settings, tmp_path, eval={"also": turned})
    (other,) = groups.prepare(again, expand(again))
    assert len({each.decided["task"] for each in (group, alone, other)}) == 3
    assert group.name == alone.name == other.name
