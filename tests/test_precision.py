"""Precision: what computes in bfloat16 and what does not, how far that is from float32, and that it learns."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxft import keys, methods, models, tasks
from jaxft.data.batch import pad
from jaxft.engine import replica
from jaxft.engine.pool import Pool
from jaxft.folder import store
from jaxft.loop import train
from jaxft.study import TaskConfig, config

BATCH = 32


@cache
def material():
    """The embedded encoder, a batch of the generated task, and the weights of a trial that starts with it."""
    checkpoint = models.open("embedded")
    task = tasks.load(TaskConfig(), checkpoint.tokenizer, models.positions(checkpoint))
    model, pretrained = models.build(checkpoint, 2)
    params = jax.jit(model.init)(keys.named(jax.random.key(1), "init"))
    return checkpoint, pad(task.train, jnp.arange(BATCH), 32), {**params, **pretrained}


@cache
def step(dtype: str):
    """Logits and gradients of that batch."""
    checkpoint, batch, params = material()
    model, _ = models.build(checkpoint, 2, dtype)

    def loss(params):
        logits = model.apply(params, batch).logits
        return replica.mean_loss(logits, batch), logits

    (_, logits), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return logits, grads


def distance(a, b) -> float:
    """Of two trees of arrays, relative to the second."""
    a, b = (np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(t)]) for t in (a, b))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_bfloat16_is_near_float32():
    """Logits within 1 %, the gradient within 2 %: a few roundings of 2**-9 each. Logits and gradients are float32."""
    logits, grads = step("bfloat16")
    assert logits.dtype == np.float32
    assert {g.dtype for g in grads.values()} == {np.dtype(np.float32)}
    errors = distance(logits, step("float32")[0]), distance(grads, step("float32")[1])
    print(f"bfloat16 against float32: logits {errors[0]:.2e}, gradient {errors[1]:.2e}")
    assert 1e-5 < errors[0] < 1e-2
    assert 1e-5 < errors[1] < 2e-2


def test_bfloat16_is_as_near_as_autocast_of_torch():
    """The same batch through torch's float32 and its autocast: ours is off by no more than 1.5 times as much."""
    torch = pytest.importorskip("torch", reason="torch is not installed: parity is not checked")
    transformers = pytest.importorskip("transformers")
    checkpoint, batch, params = material()
    theirs = transformers.BertForSequenceClassification.from_pretrained(
        checkpoint.folder, num_labels=2, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        theirs.classifier.weight.copy_(torch.tensor(np.asarray(params["classifier/kernel"]).T))
        theirs.classifier.bias.copy_(torch.tensor(np.asarray(params["classifier/bias"])))
        if "pooler/kernel" in params:
            theirs.bert.pooler.dense.weight.copy_(torch.tensor(np.asarray(params["pooler/kernel"]).T))
            theirs.bert.pooler.dense.bias.copy_(torch.tensor(np.asarray(params["pooler/bias"])))
    given = {"input_ids": batch.tokens, "token_type_ids": batch.types, "attention_mask": batch.segments}
    given = {k: torch.tensor(np.array(v), dtype=torch.long) for k, v in (given | {"labels": batch.labels}).items()}

    def run(lowered: bool):
        theirs.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=lowered):
            out = theirs(**given)
        out.loss.backward()
        return out.logits.detach().float().numpy(), {n: p.grad.numpy() for n, p in theirs.named_parameters()}

    exact, lowered = run(False), run(True)
    assert distance(step("float32")[0], exact[0]) < 1e-5
    for place, what in enumerate(("logits", "gradient")):
        ours = distance(step("bfloat16")[place], step("float32")[place])
        autocast = distance(lowered[place], exact[place])
        print(f"{what}: bfloat16 off by {ours:.2e}, torch's autocast by {autocast:.2e}")
        assert ours < 1.5 * autocast


def test_the_matmuls_of_the_layers_are_in_bfloat16_and_the_head_is_not():
    checkpoint, batch, params = material()

    def kinds(dtype):
        model, _ = models.build(checkpoint, 2, dtype)
        jaxpr = jax.make_jaxpr(lambda p: model.apply(p, batch).logits)(params).jaxpr
        return [formats for formats, _ in toys.matmuls(jaxpr)]

    layers = checkpoint.config["num_hidden_layers"]
    # Types and positions by one-hot; per layer q, k, v, scores, mixing, and three maps; pooler; head. The last layer
    # picks keys, values and what stands at first tokens by one-hot.
    assert kinds("float32") == [("float32", "float32")] * (2 + 8 * layers + 3 + 2)
    low, exact = ("bfloat16", "bfloat16"), ("float32", "float32")
    last = [low] * 4 + [exact] + [low] * 6
    assert kinds("bfloat16") == [exact] * 2 + [low] * 8 * (layers - 1) + last + [low] + [exact]


def test_weights_and_adam_stay_float32_and_take_steps_too_small_for_bfloat16():
    model, pretrained = models.assemble(toys.BERT, 2, "bfloat16"), toys.bert()[1]
    trial = toys.entry(**{"train.lr": 1e-6, "train.warmup": 0.0, "train.weight_decay": 0.0})
    shared = toys.shared(pretrained=pretrained)
    pool = Pool(toys.recipe(model), shared, trial, devices=jax.devices()[:1], slots=1, precision="bfloat16")
    pool.fill({0: trial})
    pool.run(5)
    after = pool.take(0)
    assert {x.dtype for x in jax.tree.leaves((after.params, after.opt))} == {np.dtype(np.float32)}
    name = "layers/0/query/kernel"
    moved = after.params[name] - pretrained[name]
    assert 1e-7 < np.abs(moved).max() < 1e-5
    assert np.mean(moved != 0) > 0.9
    rounded = [x.astype(jnp.bfloat16) for x in (after.params[name], pretrained[name])]
    assert np.mean(rounded[0] != rounded[1]) < 0.1, "in bfloat16 alone most of these steps would be lost"


def test_rounded_kernels_are_taken_as_they_are_and_the_gradient_is_that_of_the_parameters():
    checkpoint, batch, params = material()
    model, params = models.build(checkpoint, 2, "bfloat16")[0], jax.tree.map(jnp.asarray, params)
    assert models.build(checkpoint, 2)[0].rounded(params) == {}
    rounded = model.rounded(params)
    assert {name.removesuffix("rounded") for name in rounded} == {
        name.removesuffix("kernel") for name in params if name.endswith("/kernel") and name != "classifier/kernel"
    }

    def loss(params, rounded):
        return replica.mean_loss(model.apply({**params, **rounded}, batch).logits, batch)

    plain, given = (jax.value_and_grad(loss)(params, some) for some in ({}, rounded))
    assert plain[0] == given[0]
    assert distance(given[1], plain[1]) == 0
    assert loss(params, {name: 2 * x for name, x in rounded.items()}) != plain[0], "they are not read"


def steps(method, blocks: list[int]):
    """The parameters of a trial of a small BERT in bfloat16 after blocks of so many steps."""
    model, pretrained = models.assemble(toys.BERT, 2, "bfloat16"), toys.bert()[1]
    trial = toys.entry(**{"train.lr": 1e-3, "method.mixout.p": 0.0})
    pool = Pool(
        toys.recipe(model, method), toys.shared(pretrained=pretrained), trial,
        devices=jax.devices()[:1], slots=1, precision="bfloat16",
    )  # fmt: skip
    pool.fill({0: trial})
    for count in blocks:
        pool.run(count)
    return pool.take(0).params


def test_kernels_are_rounded_anew_after_each_step():
    """The same with a view, which has none rounded ahead, and in blocks of one step, which begin with rounding."""
    plain = steps(methods.load("vanilla"), [5])
    for other in (steps(methods.load("mixout"), [5]), steps(methods.load("vanilla"), [1] * 5)):
        assert distance(other, plain) < 1e-4
    assert distance(steps(methods.load("vanilla"), [4]), plain) > 1e-3, "a step matters"


@pytest.fixture
def files(tmp_path):
    toys.checkpoint(tmp_path / "encoder")
    toys.sentences(tmp_path / "data")
    (tmp_path / "study.yaml").write_text(
        f"{{model: {tmp_path}/encoder, task: {{name: text, path: {tmp_path}/data, max_length: 16}}, "
        "train: {batch_size: 4, epochs: 1}, seeds: {init: 1, order: 1}, pool: {slots: 1, devices: 1}}"
    )
    return tmp_path


def test_a_sweep_over_precisions_runs_and_each_stands_in_its_row(files):
    names = ["highest", "high", "bfloat16"]
    words = [f"--sweep.train.precision=[{', '.join(names)}]", "--out", str(files / "run")]
    run = store.load(train.run(config.load(files / "study.yaml", words)))
    rows = run.trials.set_index("precision")
    assert sorted(rows.index) == sorted(names)
    losses = {name: run.losses.set_index("trial")["train_loss"][rows["trial"][name]] for name in names}
    assert losses["high"].tobytes() == losses["highest"].tobytes() != losses["bfloat16"].tobytes(), "as on any CPU"
    for name in names:
        np.testing.assert_allclose(losses[name], losses["highest"], rtol=2e-2)


def test_a_study_in_bfloat16_learns(tmp_path):
    """Two trials of the embedded encoder on the generated task: above the majority's 0.5 by more than 0.1."""
    (tmp_path / "study.yaml").write_text(
        "train: {lr: 6e-4, epochs: 4, batch_size: 16, precision: bfloat16}\n"
        "seeds: {init: 1..2, order: 1}\neval: {batch_size: 256}\npool: {slots: 2, devices: 1}\n"
    )
    folder = train.run(config.load(tmp_path / "study.yaml", ["--out", str(tmp_path / "run")]))
    rows = store.load(folder).trials
    print(rows[["init_seed", "best_score", "final_score", "precision", "seconds"]])
    assert set(rows["precision"]) == {"bfloat16"}
    assert (rows["final_score"] > rows["majority_score"] + 0.1).all()
