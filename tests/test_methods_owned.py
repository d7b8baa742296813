"""Methods that train a part of the model, or what they add to it: what a replica holds, what becomes of its weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import toys
from safetensors.numpy import load

from jaxft import keys, methods, models, optim, tree
from jaxft.data import batch
from jaxft.engine import checkpoint, groups, replica
from jaxft.engine.recipe import Shared
from jaxft.errors import BadInput
from jaxft.methods import adapter, lora
from jaxft.models import checkpoint as files
from jaxft.models import compact, ports
from jaxft.study import config, trials
from jaxft.types import Method

KINDS = {"bert": toys.BERT, "roberta": toys.ROBERTA}
D, F, C, LAYERS = 32, 64, 3, 2
HEAD = D * C + C
LAYER = 4 * (D * D + D) + D * F + F + F * D + D + 4 * D
BIASES = LAYERS * (5 * D + F + 2 * D) + D + D + C
"""Of all linear maps and LayerNorms of the layers; of the norm of the embeddings, of the pooler, of the head."""
OWNED = {
    "bitfit": BIASES + D * C,
    "top_layers(layers=1)": LAYER + D * D + D + HEAD,
    "lora(rank=4)": LAYERS * 2 * 4 * (D + D) + HEAD,
    "lora(rank=4, targets='layers/1/*', pooler=True)": 4 * (4 * 2 * D + 2 * (D + F)) + D * D + D + HEAD,
    "lora(rank=4)|top_layers(layers=1)": 2 * 4 * (D + D) + HEAD,
    "adapter(size=8)": LAYERS * 2 * (2 * D * 8 + D + 8) + (2 * LAYERS + 1) * 2 * D + HEAD,
    "sift(per_mille=50)": LAYERS * 4 * (D * D + D) + HEAD,
}
"""How many numbers each trains."""
CHOSEN = {"sift(per_mille=50)": LAYERS * 4 * (D * D // 20 + 1 + D // 20 + 1) + HEAD}
"""How many of them Adam knows of, where these are fewer."""


def size(leaves) -> int:
    return sum(np.size(x) for x in jax.tree.leaves(leaves))


@pytest.mark.parametrize("text", OWNED)
def test_a_replica_and_its_checkpoint_hold_only_what_is_owned(text):
    one, _ = oracles.begin(oracles.engine(text))
    assert size(one.params) == OWNED[text]
    indices = CHOSEN[text] - HEAD if text in CHOSEN else 0
    adam = 2 * CHOSEN.get(text, OWNED[text])
    assert size(one.opt) == adam + indices
    parked = checkpoint.Parked(jax.tree.map(np.asarray, one), {}, {})
    written = load(checkpoint.written(parked))
    held = {part: size([x for name, x in written.items() if name.startswith(part)]) for part in ("params.", "opt.")}
    assert held == {"params.": OWNED[text], "opt.": adam + indices}


@pytest.mark.parametrize("text", ["reinit(layers=1)", "llrd", "pretrained_weight_decay", "recadam"])
def test_others_own_all(text):
    one, w0 = oracles.begin(oracles.engine(text))
    assert one.params.keys() == w0.keys()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("top_layers(layers=3)", r"method.top_layers.layers: found 3, but the model has 2 layers"),
        ("reinit(layers=3)", r"method.reinit.layers: found 3, but the model has 2 layers"),
        ("lora(targets='query,keys')", r"method.lora.targets: 'keys' matches no .*: attention_out, intermediate, key,"),
        ("lora(targets='layers/2/query')", r"method.lora.targets: 'layers/2/query' matches no linear map"),
        ("lora(targets='')", r"method.lora.targets: '' matches no"),
        ("sift(targets='pooler')", r"method.sift.targets: 'pooler' matches no"),
        ("sift(per_mille=1001)", r"method.sift.per_mille: found 1001, accepted: 1 to 1000"),
        ("lora|adapter", r"adapter and lora do not go together"),
        ("bitfit|lora", r"bitfit and lora do not go together"),
        ("adapter|bitfit", r"adapter and bitfit do not go together"),
        ("lora(rank=0)", r"method.lora.rank: .* found 0"),
        ("llrd(decay=1.5)", r"method.llrd.decay: .* found 1.5"),
    ],
)
def test_what_does_not_fit_the_model_is_one_line(text, said):
    with pytest.raises(BadInput, match=said) as error:
        oracles.begin(oracles.engine(text))
    assert "\n" not in str(error.value)


def started(text: str, seed: int, pretrained):
    """The start of a method on weights that are far from fresh, and what the model's own `init` gives."""
    model, _ = toys.bert(C)
    key = keys.stream(trials.Seeds(*(np.uint32(seed) for _ in range(5))), "init")
    structure, floats = methods.numbers(text)
    fresh = model.init(key)
    return methods.load(structure)(floats.__getitem__).start({**fresh, **pretrained}, key), fresh


def test_reinit_gives_the_values_of_a_new_model_by_init_seed():
    model, _ = toys.bert(C)
    old = {n: x + 1 for n, x in jax.jit(model.init)(jax.random.key(3)).items() if not tree.head(n)}
    new = {n for n in old if n.startswith(("layers/1/", "pooler/"))}
    (w0, fresh), (other, _) = (started("reinit(layers=1)", seed, old) for seed in (1, 2))
    for name, value in old.items():
        np.testing.assert_array_equal(w0[name], fresh[name] if name in new else value, err_msg=name)
    kernels = {n for n in new if n.endswith("kernel")}
    assert len(kernels) == 7
    assert all(np.abs(w0[n] - other[n]).max() > 0.01 for n in kernels), "another init seed, the same values"
    stays, _ = started("reinit(layers=1, pooler=False)", 1, old)
    assert {n for n in old if not np.array_equal(stays[n], old[n])} == {n for n in new if n.startswith("layers/")}


def test_reinit_leaves_what_a_method_has_added():
    _, pretrained = toys.bert(C)
    for text in ("lora", "adapter"):
        alone, _ = started(text, 1, pretrained)
        both, _ = started(f"{text}|reinit(layers=2)", 1, pretrained)
        added = [n for n in alone if ports.added(n)]
        assert len(added) == {"lora": 12, "adapter": 16}[text]
        for name in added:
            np.testing.assert_array_equal(both[name], alone[name])


def test_low_rank_maps_begin_with_those_of_a_smaller_rank():
    key = jax.random.key(7)
    small, large = (lora.drawn(key, "layers/0/query/lora_a", 384, rank) for rank in (4, 8))
    np.testing.assert_array_equal(large[:, :4], small)
    assert abs(float(large.std()) / (384**-0.5 / 3**0.5) - 1) < 0.05
    assert float(jnp.abs(large).max()) < 384**-0.5


def test_adapters_begin_within_two_deviations():
    draw = adapter.drawn(jax.random.key(7), "a", (384, 64))
    assert 1.99 < float(jnp.abs(draw).max()) <= 2
    assert abs(float(draw.std()) - 0.88) < 0.015  # of a normal distribution cut at 2


def ported(kind: str, text: str):
    """A model, its parameters with ports that do something, and a batch."""
    model, pretrained = toys.encoder(KINDS[kind], C)
    key = jax.random.key(5)
    structure, floats = methods.numbers(text)
    w0 = methods.load(structure)(floats.__getitem__).start({**jax.jit(model.init)(key), **pretrained}, key)
    noise = {n: jax.random.normal(keys.named(key, n), x.shape) for n, x in w0.items() if ports.added(n)}
    noise = {n: x for n, x in noise.items() if not n.endswith("scale")}
    split = jax.tree.map(jnp.asarray, toys.split(6, 3))
    return (
        model,
        {n: x + 0.3 * noise[n] if n in noise else x for n, x in w0.items()},
        batch.pad(split, jnp.arange(6), 8),
    )


@pytest.mark.parametrize(
    ("text", "top"),
    [
        ("bitfit", set()),
        ("top_layers(layers=1)", {f"layers/1/{part}/kernel" for part in ("query", "output")}),
        ("lora(rank=2)", {f"layers/{i}/query/lora_{side}" for i in range(LAYERS) for side in "ab"}),
        ("adapter(size=2)", {"layers/0/output_adapter/up/kernel", "embeddings/norm/scale"}),
        ("sift", {"layers/0/attention_out/kernel"}),
    ],
)
def test_the_head_of_roberta_is_trained_whole(text, top):
    """Its dense layer too, which stands in the place of a pooler."""
    structure, floats = methods.numbers(text)
    made, key = methods.load(structure)(floats.__getitem__), jax.random.key(1)
    w0 = made.start(toys.encoder(toys.ROBERTA, C)[0].init(key), key)
    params = made.own(w0, w0, key)
    head = {f"classifier/{part}/{leaf}" for part in ("dense", "out_proj") for leaf in ("kernel", "bias")}
    assert {*params} >= head | top
    assert {n for n in params if tree.head(n)} == head
    assert "embeddings/word/embedding" not in params


EVERYWHERE = "lora(rank=3, alpha=2.0, targets='*')"


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_model_gives_the_logits_of_the_ported_one(kind):
    model, params, few = ported(kind, EVERYWHERE)
    folded = models.merged(params)
    assert folded.keys() == jax.eval_shape(model.init, jax.random.key(0)).keys()
    apply = jax.jit(lambda params: model.apply(params, few).logits)
    expected, plain = apply(params), apply({n: x for n, x in params.items() if not ports.added(n)})
    np.testing.assert_allclose(apply(folded), expected, rtol=0, atol=1e-6)
    assert np.abs(expected - plain).max() > 1e-3, "the low-rank maps change nothing"


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_of_both_families_change_the_logits(kind):
    model, params, few = ported(kind, "adapter(size=5)")
    apply = jax.jit(lambda params: model.apply(params, few).logits)
    plain = {n: x for n, x in params.items() if not ports.added(n)}
    still = {n: x * ("/up/" not in n) if ports.added(n) else x for n, x in params.items()}
    np.testing.assert_allclose(apply(still), apply(plain), rtol=0, atol=1e-7)
    for part in ports.ADAPTERS:
        one = {n: x for n, x in params.items() if not ports.added(n) or part in n}
        assert np.abs(apply(one) - apply(plain)).max() > 1e-4, f"{part} changes nothing"


def test_ports_compute_in_bfloat16_where_the_model_does():
    _, params, few = ported("bert", EVERYWHERE)
    model = models.assemble(toys.BERT, C, "bfloat16")
    low = toys.matmuls(jax.make_jaxpr(lambda params: model.apply(params, few))(params).jaxpr)
    exact = models.assemble(toys.BERT, C)
    high = toys.matmuls(jax.make_jaxpr(lambda params: exact.apply(params, few))(params).jaxpr)
    formats = lambda found: [format for format, _ in found].count(("bfloat16", "bfloat16"))  # noqa: E731
    assert formats(low) == 3 * 6 * LAYERS + 2 * LAYERS + 2 + 1  # W, A and B; attention, and its two lookups; the pooler
    assert formats(high) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_written_weights_have_the_names_of_hugging_face(kind, tmp_path):
    model, params, _ = ported(kind, EVERYWHERE)
    files.save(tmp_path, KINDS[kind], params)
    found = files.read(tmp_path)
    files.save(tmp_path / "plain", KINDS[kind], jax.jit(model.init)(jax.random.key(0)))
    assert found.keys() == files.read(tmp_path / "plain").keys()
    name = {"bert": "bert", "roberta": "roberta"}[kind] + ".encoder.layer.1.attention.self.query.weight"
    a, b, scale, w = (np.asarray(params[f"layers/1/query/{leaf}"]) for leaf in (*ports.LOW, "kernel"))
    np.testing.assert_allclose(found[name], (w + scale * a @ b).T, atol=1e-6)


def test_adapters_are_not_written(tmp_path):
    _, params, _ = ported("bert", "adapter(size=5)")
    with pytest.raises(BadInput, match=r"method.adapter: layers/0/attention_adapter and 3 more cannot be folded"):
        files.save(tmp_path / "out", toys.BERT, params)
    assert not (tmp_path / "out").exists()


def compiled(config, text: str):
    """The program of one step."""
    model = models.assemble(config, C)
    structure, floats = methods.numbers(text)
    recipe = toys.recipe(model, methods.load(structure))
    pretrained = {n: x for n, x in jax.eval_shape(model.init, jax.random.key(0)).items() if not tree.head(n)}
    shared, entry = toys.shared(pretrained=pretrained)._replace(evals={}), toys.entry(**floats)
    one = jax.eval_shape(partial(replica.init, recipe), shared, entry)
    start = lambda shared, entry: oracles.start(oracles.Engine(recipe, shared, entry), entry)  # noqa: E731
    w0 = jax.eval_shape(start, shared, entry)
    step = jax.jit(lambda shared, w0, one: replica.train_step(recipe, shared, w0, one), donate_argnums=2)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), shared)
    return step.lower(shapes, w0, one).compile()


def test_frozen_maps_are_not_differentiated():
    """A third of the matmuls is gradients of weights; and nothing need be kept for them."""
    wide = toys.BERT | {"hidden_size": 64, "intermediate_size": 256}
    plain, low = (compiled(wide, text) for text in ("vanilla", "lora(rank=1)"))
    assert low.cost_analysis()["flops"] < 0.8 * plain.cost_analysis()["flops"]
    assert low.memory_analysis().temp_size_in_bytes < 0.6 * plain.memory_analysis().temp_size_in_bytes


def trained(text: str, kept):
    """A replica after 6 steps on all rows of the tables, or on those that are kept."""
    number = (lambda split: split) if kept is None else partial(compact.renumbered, kept=kept)
    some = lambda n, seed: toys.split(n, seed, vocabulary=10)  # noqa: E731
    whole = toys.encoder(toys.BERT)[1]
    structure, floats = methods.numbers(text)
    shared = Shared(whole if kept is None else compact.cut(whole, kept), number(some(20, 0)), {})
    shared = jax.tree.map(jnp.asarray, shared)
    recipe = toys.recipe(models.assemble(toys.BERT, 2, kept=kept), methods.load(structure))
    recipe = recipe._replace(optimizer=partial(optim.make, "adamw", "tensor"))
    entry = toys.entry(4, 9, **{"train.lr": 3e-3, "train.weight_decay": 0.1} | floats)

    @jax.jit
    def run(entry):
        one = replica.init(recipe, shared, entry)
        w0 = replica.start(recipe, shared.pretrained, entry.seeds, recipe.method(entry.hp.__getitem__))
        return jax.lax.fori_loop(0, 6, lambda _, one: replica.train_step(recipe, shared, w0, one)[0], one)

    return run(entry), recipe, whole


def test_rows_that_nothing_touches_are_exact():
    """They move by both decays, each at its layer's rate, and by the pull; put back, they are those of all rows."""
    text = "pretrained_weight_decay(weight=3.0)|recadam(gamma=9.0, k=0.3, t0=3.0)|llrd(decay=0.7)"
    kept = compact.kept(toys.BERT, [toys.split(20, 0, vocabulary=10)])
    small, _, whole = trained(text, kept)
    wanted, full, _ = trained(text, None)
    rest = jax.jit(partial(replica.untouched, full, tables=tuple(kept)))(whole, small)
    found = compact.restored(rest, small.params, kept)
    for table, rows in kept.items():
        others = np.setdiff1d(np.arange(len(wanted.params[table])), rows)
        assert len(others) > 3
        np.testing.assert_array_equal(found[table][others], np.asarray(wanted.params[table])[others])
        assert np.abs(found[table][others] - whole[table][others]).max() > 1e-5, "no decay to be seen"
    plain = jax.jit(partial(replica.untouched, full._replace(method=lambda hyper: Method()), tables=tuple(kept)))
    gone = np.asarray(plain(whole, small)[compact.WORD]) - found[compact.WORD]
    assert np.abs(gone).max() > 1e-5, "the methods change nothing here"


STUDY = """
name: toy
model: {folder}/encoder
method: {method}
task: {{name: text, path: {folder}/data, max_length: 16}}
train: {{lr: 3e-2, batch_size: 4, epochs: 1}}
eval: {{every: 2, batch_size: 8}}
"""


def test_weights_of_a_trial_are_those_that_were_evaluated(tmp_path):
    """LoRA's are folded in, with all rows of the tables; those of adapters are refused."""
    toys.sentences(tmp_path / "data", train=8)
    toys.checkpoint(tmp_path / "encoder")
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.format(folder=tmp_path, method="lora(rank=2)"))
    todo = trials.expand(config.load(study))
    (group,) = groups.prepare(config.load(study), todo)
    pool = groups.pooled(group, 1, jax.devices()[:1])
    pool.fill({0: groups.entry(todo[0], group)})
    report = pool.run(2)
    one = pool.take(0)
    assert any(name.endswith("lora_a") for name in one.params)
    params = groups.weights(group, one)
    model, pretrained = group.whole()
    assert params.keys() == jax.eval_shape(model.init, jax.random.key(0)).keys()
    moved = {n for n, x in pretrained.items() if not np.array_equal(params[n], x)}
    assert moved == {f"layers/{i}/{part}/kernel" for i in range(LAYERS) for part in ("query", "value")}
    packed = batch.pack(group.task.evals["dev"], 8, 16)
    logits = jax.jit(lambda params: replica.evaluate(group.recipe._replace(model=model), params, packed))(params)
    np.testing.assert_allclose(logits, report.logits["dev"][0], atol=1e-5)

    study.write_text(STUDY.format(folder=tmp_path, method="adapter(size=2)"))
    todo = trials.expand(config.load(study))
    (group,) = groups.prepare(config.load(study), todo)
    begun = jax.jit(partial(replica.init, group.recipe))(
        jax.tree.map(jnp.asarray, group.shared), groups.entry(todo[0], group)
    )
    with pytest.raises(BadInput, match=r"method.adapter: .* cannot be folded"):
        groups.weights(group, begun)
