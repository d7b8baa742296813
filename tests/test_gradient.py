"""The gradient of a step: of rows that are packed, and its norms per layer, from the step to the columns of a run."""

import json

import endings
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from studies import Quiet, same_bits, study
from test_flight import stopped

from jaxft import release, tree
from jaxft.data.batch import Layout, pad
from jaxft.engine import groups
from jaxft.engine.pool import Pool
from jaxft.engine.recipe import Recipe, Shared
from jaxft.engine.replica import mean_loss
from jaxft.errors import BadInput
from jaxft.folder import store
from jaxft.folder.store import Store
from jaxft.loop import train
from jaxft.loop.record import Record
from jaxft.status import Status
from jaxft.study.trials import Length, expand
from jaxft.types import Method

LAYERS = ["embeddings", "layers/0", "layers/1", "pooler", "classifier"]


def test_layers_are_in_the_order_that_a_token_takes():
    names = [
        "classifier/kernel",
        "layers/10/a/b",
        "pooler/bias",
        "layers/2/c",
        "layers/2/d",
        "embeddings/word/e",
        "x/y",
    ]
    assert tree.layers(names) == ["embeddings", "layers/2", "layers/10", "pooler", "classifier", "x"]


@pytest.fixture(scope="module")
def encoder():
    """A small BERT, its weights, and data to train it on."""
    model, pretrained = toys.bert()
    return model, toys.shared(pretrained=pretrained)


def pool(recipe: Recipe, shared: Shared) -> Pool:
    """Of one slot."""
    return Pool(recipe, shared, toys.entry(), devices=jax.devices()[:1], slots=1, precision="highest")


@pytest.fixture(scope="module")
def packed(encoder):
    """A pool for batches packed into rows of which there are too few for some; with norms."""
    model, shared = encoder
    return pool(toys.recipe(model, layout=Layout(2, 8, most=4), gradient_norms=True), shared)


def test_packed_rows_train_as_padded_ones_do(encoder, packed, monkeypatch):
    """Ten steps of a BERT: packed, then an example to a row."""
    model, shared = encoder

    def trained(where: Pool):
        where.fill({0: toys.entry(n_train=18, **{"train.lr": 1e-3})})
        start = where.take(0).params
        losses = [where.run(5).losses[0] for _ in range(2)]
        return start, where.take(0), np.concatenate(losses)

    _, one, losses = trained(packed)
    needed = one.places[:10].max(axis=1) // 8 + 1
    assert {2, 3} <= set(needed), "all batches take the same number of rows: nothing rare"
    monkeypatch.setattr(
        "jaxft.engine.replica.first_fit",
        lambda lengths, width: 0 * lengths + width * jnp.arange(4, dtype=jnp.int32)[None, :],
    )
    start, other, expected = trained(pool(toys.recipe(model, layout=Layout(4, 8, most=4)), shared))
    assert (other.places == 8 * np.arange(4)).all()
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-5)
    for name in start:
        np.testing.assert_allclose(one.params[name], other.params[name], rtol=0, atol=1e-5, err_msg=name)
    assert max(np.abs(other.params[n] - start[n]).max() for n in start) > 1e-3


def norms(where: Pool, steps: int) -> dict[str, float]:
    return {layer: norm[0] for layer, norm in where.run(steps).norms.items()}


def test_they_are_those_of_a_gradient_taken_by_hand(encoder, packed):
    """Of whole batches, also of those that take a further pass, and unclipped; a longer block has its last step's."""
    model, shared = encoder
    split = jax.tree.map(jnp.asarray, shared.train)
    trial = toys.entry(n_train=18, **{"train.lr": 1e-3, "train.clip": 1e-3})

    @jax.jit
    def by_hand(params, examples):
        batch = pad(split, examples, 8)  # each in a row of its own
        return jax.grad(lambda params: mean_loss(model.apply(params, batch).logits, batch))(params)

    packed.fill({0: trial})
    found, rows = [], set()
    for step in range(5):
        before = packed.take(0)
        grads = by_hand(before.params, jnp.asarray(before.plan[step]))
        found.append(norms(packed, 1))
        rows.add(int(before.places[step].max()) // 8 + 1)
        assert {*found[-1]} == {*LAYERS}
        for layer, norm in found[-1].items():
            mine = [np.asarray(g, np.float64) for name, g in grads.items() if name.startswith(f"{layer}/")]
            # Sums of float32 in another order: some units of the last place, times the depth of the sums.
            assert norm == pytest.approx(np.sqrt(sum((g * g).sum() for g in mine)), rel=1e-4), (step, layer)
    assert rows >= {2, 3}, "no batch needed a further row, or all did"
    assert min(sum(n * n for n in each.values()) for each in found) > 1e-6, "there was nothing to clip"
    packed.fill({0: trial})
    assert norms(packed, 5) == found[-1]


def test_a_trial_that_ends_within_a_block_has_those_of_its_last_step(packed):
    """Completed or dropped; the step that breaks a rule is not taken, and in a block without a step there are none."""
    ends = {
        Status.COMPLETED: (1, toys.entry(epochs=1, n_train=4)),
        Status.LOSS_ABOVE: (2, toys.entry(**{"stop.loss_above": 0.0, "stop.loss_patience": 3})),
    }
    for status, (steps, trial) in ends.items():
        packed.fill({0: trial})
        alone = [norms(packed, 1) for _ in range(steps)][-1]
        packed.fill({0: trial})
        assert norms(packed, 5) == alone
        ended = packed.take(0)
        assert (Status(ended.status), int(ended.step)) == (status, steps)
        assert np.isnan([*norms(packed, 5).values()]).all()


def test_a_lead_in_has_none_and_neither_has_what_is_not_trained():
    """Columns are the same all the same."""

    def method(hyper):
        return Method(own=lambda params, w0, key: {"classifier/kernel": params["classifier/kernel"]}, lead=lambda n: 3)

    recipe = toys.recipe(method=method, before=5, gradient_norms=True)
    small = pool(recipe, toys.shared())
    small.fill({0: toys.entry(lead=3)})
    lead, after = norms(small, 5), norms(small, 5)
    assert {*lead} == {*after} == {"embeddings", "layers/0", "classifier"}
    assert np.isnan([*lead.values()]).all()
    assert {layer: bool(np.isfinite(norm)) for layer, norm in after.items()} == {
        "embeddings": False,
        "layers/0": False,
        "classifier": True,
    }


ASKED = {"eval": {"gradient_norms": True}}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return toys.settings(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """A study that asks for them, run from beginning to end."""
    return train.run(study(base, tmp_path_factory.mktemp("whole"), **ASKED), progress=Quiet())


def test_each_evaluation_on_dev_has_a_column_per_layer(whole):
    run = store.load(whole)
    columns = [name for name in run.evals if name.startswith("grad_norm.")]
    assert columns == [f"grad_norm.{layer}" for layer in LAYERS]
    assert len(run.evals) == 30
    assert (run.evals[columns] > 0).all(axis=None)
    assert run.evals[columns].nunique().min() > 25, "two trials or steps have the same"


def test_a_stopped_study_goes_on_with_them_bit_for_bit(base, whole, tmp_path):
    settings = study(base, tmp_path, **ASKED)
    stopped(settings, 4)
    train.run(settings, progress=Quiet())
    same_bits(tmp_path / "run", whole)


def test_what_is_in_flight_without_them_does_not_go_on_with_them(base, tmp_path):
    """Half a curve is none; but a checkpoint of a version that knew no such key is as one without them."""
    plain, asked = study(base, tmp_path), study(base, tmp_path, **ASKED)
    (without,), (have,) = (groups.prepare(each, expand(each)) for each in (plain, asked))
    assert {*without.decided} == {"rows", "width", "model", "task"}
    assert have.decided == {**without.decided, "gradient_norms": True}
    assert have.name == without.name


def test_a_record_carries_them_and_one_that_was_saved_before_there_were_any_reads():
    def record() -> Record:
        trial = expand(endings.study())[0]
        return Record(trial, 0, Length(20, 2, 5, 0, 10), "accuracy", ("accuracy",), labels)

    labels = {split: np.array([0, 1]) for split in ("dev", "test")}
    logits = dict.fromkeys(labels, np.eye(2, dtype=np.float32))
    one, losses = record(), np.zeros(5, np.float32)
    one.observe(5, losses, logits, {"pooler": np.float32(0.1), "classifier": np.float32(np.nan)}, tried=False)
    told, arrays = one.saved()
    again = record()
    again.resumed(json.loads(json.dumps(told)), arrays)
    assert str(again.evaluations) == str(one.evaluations)
    assert [{*seen.norms} for seen in again.evaluations] == [{"pooler", "classifier"}, set()]
    assert again.evaluations[0].norms["pooler"] == np.float32(0.1)
    for row in told["evaluations"]:
        del row["norms"]
    again.resumed(told, arrays)
    assert [seen.norms for seen in again.evaluations] == [{}, {}]


def test_they_are_no_metric_of_a_release(tmp_path):
    asked = endings.study(**{"eval.gradient_norms": True})
    for settings, norms in ((endings.study(), {}), (asked, {"classifier": 0.5})):
        folder = tmp_path / str(settings.eval.gradient_norms)
        ends = [endings.ended(trial) for trial in expand(settings)]
        ends = [end._replace(evaluations=[one._replace(norms=norms) for one in end.evaluations]) for end in ends]
        opened = Store.open(folder, settings, {}, expand(settings))
        opened.append(ends)
        opened.close()
        release.write(store.load(folder), tmp_path / f"{folder.name}.json")
    assert "grad_norm.classifier" in store.load(folder).evals
    assert (tmp_path / "True.json").read_text() == (tmp_path / "False.json").read_text()


def test_a_folder_with_finished_trials_keeps_to_what_it_began_with(tmp_path):
    """Also one of a version that knew no such key, which goes on as it was."""
    plain, asked = endings.study(), endings.study(**{"eval.gradient_norms": True})
    for settings, other in ((plain, asked), (asked, plain)):
        folder = endings.folder(tmp_path / str(settings.eval.gradient_norms), settings)
        with pytest.raises(BadInput) as caught:
            Store.open(folder, other, {}, expand(other))
        here, now = settings.eval.gradient_norms, other.eval.gradient_norms
        assert f"eval.gradient_norms: {here} in the run folder, {now} now; put it back" in str(caught.value)
        assert "\n" not in str(caught.value)
    file = tmp_path / "False" / "study.yaml"
    file.write_text(file.read_text().replace("  gradient_norms: false\n", ""))
    assert "gradient_norms" not in file.read_text()
    opened = Store.open(tmp_path / "False", plain, {}, expand(plain))
    assert len(opened.done) == 6
    opened.close()
    assert [seen for seen in store.load(tmp_path / "False").evals if seen.startswith("grad_norm.")] == []
