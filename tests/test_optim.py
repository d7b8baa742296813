"""Optimisers and schedules against transcriptions in numpy float64, torch and transformers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import optim
from jaxft.types import Ctx

SHAPES = {
    "layers/0/query/kernel": (4, 3),
    "layers/0/query/bias": (3,),
    "layers/0/attention_norm/scale": (3,),
    "layers/0/attention_norm/bias": (3,),
    "head/kernel": (3, 2),
}
HP = {"train.b1": 0.9, "train.b2": 0.999, "train.eps": 1e-6, "train.weight_decay": 0.01, "train.clip": 1.0}
PAIRS = [(o, c) for o in ("adamw", "bertadam") for c in ("global", "tensor")]
NAMES = ["linear", "linear_unscaled", "linear_twice", "cosine", "constant"]


def as32(x):
    """The float64 value of what a replica holds: all its numbers are float32."""
    return np.float64(np.float32(x))


def tensors(seed: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: (scale * rng.normal(size=shape)).astype(np.float32) for name, shape in SHAPES.items()}


def gradients(step: int) -> dict[str, np.ndarray]:
    """Of changing size, so that clipping acts in some steps and tensors only."""
    return tensors(1000 + step, scale=10.0 ** np.sin(step))


def step_of(optimizer, clip_by):
    """`(hp, params, state, grads, step, rate) -> params, state, updates`, as pool.py would map it."""

    def one(hp, params, state, grads, step, rate):
        tx = optim.make(optimizer, clip_by, hp.__getitem__)
        ctx = Ctx({}, step, jnp.int32(50), rate, jax.random.key(0))
        updates, state = tx.update(grads, state, params, ctx)
        return {name: params[name] + updates[name] for name in params}, state, updates

    return one


def fresh(params):
    return optim.make("adamw", "global", HP.__getitem__).init(params)


def old_factor(step: int, total: int, warmup: float) -> float:
    x = step / total
    return x / warmup if x < warmup else max(1.0 - x, 0.0)


def hf_factor(step: int, total: int, warmup: float) -> float:
    rising = int(np.ceil(round(warmup * total, 9)))
    return step / max(1, rising) if step < rising else max(0.0, (total - step) / max(1, total - rising))


def bert_adam(params, clip_by, factor, lr, steps):
    """BertAdam line by line in float64, with the clipping of torch; yields the parameters after each step."""
    b1, b2, eps, decay, bound = (as32(HP[f"train.{k}"]) for k in ("b1", "b2", "eps", "weight_decay", "clip"))
    p = {name: x.astype(np.float64) for name, x in params.items()}
    m, v = ({name: np.zeros_like(x) for name, x in p.items()} for _ in range(2))
    for step in range(steps):
        g = {name: x.astype(np.float64) for name, x in gradients(step).items()}
        whole = np.sqrt(sum((x**2).sum() for x in g.values()))
        for name in p:
            size = whole if clip_by == "global" else np.linalg.norm(g[name])
            coefficient = bound / (size + 1e-6)
            if coefficient < 1:
                g[name] = g[name] * coefficient
            m[name] = b1 * m[name] + (1 - b1) * g[name]
            v[name] = b2 * v[name] + (1 - b2) * g[name] ** 2
            update = m[name] / (np.sqrt(v[name]) + eps)
            if not (name.endswith("bias") or "norm" in name):
                update = update + decay * p[name]
            p[name] = p[name] - lr * factor(step) * update
        yield {name: x.copy() for name, x in p.items()}


@pytest.mark.parametrize("clip_by", ["tensor", "global"])
@pytest.mark.parametrize("name", ["linear_unscaled", "linear"])
def test_bertadam_is_its_transcription_for_50_steps(name, clip_by):
    """Parameters after each of 50 steps within 2e-6 of their size 1; all have moved by more than 0.1."""
    lr, warmup, total = 0.01, 0.1, 50
    factor = partial({"linear_unscaled": old_factor, "linear": hf_factor}[name], total=total, warmup=warmup)
    params = start = {k: jnp.asarray(x) for k, x in tensors(0).items()}
    state = fresh(params)
    hp = {k: jnp.float32(x) for k, x in HP.items()}

    @jax.jit
    def advance(params, state, grads, step):
        rate = lr * optim.schedule(name, jnp.float32(warmup), step, jnp.int32(total))
        return step_of("bertadam", clip_by)(hp, params, state, grads, step, rate)[:2]

    for step, expected in enumerate(bert_adam(tensors(0), clip_by, factor, lr, total)):
        params, state = advance(params, state, gradients(step), jnp.int32(step))
        for k in params:
            np.testing.assert_allclose(params[k], expected[k], rtol=2e-6, atol=2e-6, err_msg=f"{k} at {step}")
    for k in params:
        assert jnp.abs(params[k] - start[k]).max() > 0.1


def test_clipping_acts_on_some_steps_and_tensors_only():
    """The oracle above would prove little if every gradient were clipped, or none."""
    sizes = np.array([[np.linalg.norm(g) for g in gradients(step).values()] for step in range(50)])
    assert 0.2 < (sizes > 1).mean() < 0.8
    assert ((sizes > 1).any(axis=1) & (sizes < 1).any(axis=1)).any()


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_adamw_with_global_clip_is_torch(clip):
    """Ten steps, parameters within 1e-6; torch in float64 with the replica's float32 hyperparameters."""
    torch = pytest.importorskip("torch")
    lr = 0.01
    hp = {k: jnp.float32(x) for k, x in (HP | {"train.clip": clip}).items()}
    params = {k: jnp.asarray(x) for k, x in tensors(0).items()}
    state = fresh(params)
    mine = jax.jit(step_of("adamw", "global"))
    theirs = {k: torch.tensor(x, dtype=torch.float64, requires_grad=True) for k, x in tensors(0).items()}
    decay = {k: 0.0 if "norm" in k or "bias" in k else as32(0.01) for k in SHAPES}
    groups = [{"params": [x], "weight_decay": decay[k]} for k, x in theirs.items()]
    betas = (as32(0.9), as32(0.999))
    optimizer = torch.optim.AdamW(groups, lr=as32(lr), betas=betas, eps=as32(1e-6))
    for step in range(10):
        params, state, _ = mine(hp, params, state, gradients(step), jnp.int32(step), jnp.float32(lr))
        for k, g in gradients(step).items():
            theirs[k].grad = torch.tensor(g, dtype=torch.float64)
        if clip:
            torch.nn.utils.clip_grad_norm_(theirs.values(), clip)
        optimizer.step()
        for k in params:
            np.testing.assert_allclose(params[k], theirs[k].detach().numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("step", [0, 1, 9, 999, 99_999])
def test_bias_correction_keeps_its_digits(step):
    """Against float64, where a float32 power would be off by 1e-5 at the first step."""
    for decay in (0.0, 0.9, 0.98, 0.999):
        exact = 1 - as32(decay) ** (step + 1)
        mine = jax.jit(optim._bias)(jnp.float32(decay), jnp.int32(step))
        np.testing.assert_allclose(mine, exact, rtol=1e-6)


def curve(name, warmup, total, steps):
    factor = jax.jit(jax.vmap(partial(optim.schedule, name), in_axes=(None, 0, None)))
    return np.asarray(factor(jnp.float32(warmup), jnp.arange(steps), jnp.int32(total)))


@pytest.mark.parametrize("total", [1, 7, 100, 466, 690, 12_627])
@pytest.mark.parametrize("warmup", [0.0, 0.06, 0.07, 0.1, 0.3, 1.0])
def test_warm_ups_are_their_transcriptions(warmup, total):
    """Within 1e-6, on the very step where each warm-up ends, and past the end."""
    steps = np.unique(np.r_[: min(total, 800) + 2, max(0, total - 3) : total + 3])
    new = curve("linear", warmup, total, total + 3)[steps]
    old = curve("linear_unscaled", warmup, total, total + 3)[steps]
    np.testing.assert_allclose(new, [hf_factor(s, total, warmup) for s in steps], atol=1e-6)
    np.testing.assert_allclose(old, [old_factor(s, total, warmup) for s in steps], atol=1e-6)
    assert new.dtype == old.dtype == np.float32


def test_the_old_warm_up_drops_where_it_ends():
    """From about 1 to 0.9 at a tenth of RTE's 466 planned steps, and to 0 past them: 468 are taken."""
    factor = curve("linear_unscaled", 0.1, 466, 468)
    assert factor[46] == pytest.approx(46 / 46.6)
    assert factor[47] == pytest.approx(1 - 47 / 466)
    assert list(factor[466:]) == [0, 0]


def released_factor(step: int, per_epoch: int, total: int, warmup: float) -> float:
    """The two formulas of the released code: the rate handed to the optimiser, and its own schedule on top of it."""

    def warm(x):
        return x / warmup if x < warmup else 1.0 - x

    return warm((step % per_epoch) / total) * warm(step / total)


@pytest.mark.parametrize(("examples", "steps"), [(3668, 690), (2490, 468), (8551, 1605), (67349, 12630)])
def test_the_released_schedule_is_its_transcription_over_a_run(examples, steps):
    """Of the four studies of Dodge et al. 2020, three epochs with a batch of 16, also past t_total."""
    per_epoch, total = -(-examples // 16), int(examples / 16 * 3)
    assert 3 * per_epoch == steps
    count = jnp.arange(steps)
    factor = jax.jit(jax.vmap(partial(optim.schedule, "linear_twice"), in_axes=(None, 0, None, 0)))
    found = np.asarray(factor(jnp.float32(0.1), count, jnp.int32(total), count % per_epoch))
    expected = [released_factor(step, per_epoch, total, 0.1) for step in range(steps)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    past = found[total + 1 :]
    assert len(past) == steps - total - 1 > 0
    assert (past < 0).all(), "past t_total the released schedule goes below 0"
    assert (past > -0.005).all()
    assert (found[::per_epoch] == 0).all(), "the first step of each epoch has no rate"


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.25])
@pytest.mark.parametrize("name", ["linear", "cosine", "constant"])
def test_schedules_are_those_of_transformers(name, warmup):
    """Within 1e-6 at each of 90 steps."""
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("transformers.optimization")
    total = 90
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rising = int(np.ceil(warmup * total))
    scheduler = {
        "linear": lambda: theirs.get_linear_schedule_with_warmup(optimizer, rising, total),
        "cosine": lambda: theirs.get_cosine_schedule_with_warmup(optimizer, rising, total),
        "constant": lambda: theirs.get_constant_schedule_with_warmup(optimizer, rising),
    }[name]()
    expected = []
    for _ in range(total):
        expected.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(curve(name, warmup, total, total), expected, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_no_warm_up_starts_at_the_peak(name):
    with jax.debug_nans(True):
        assert optim.schedule(name, jnp.float32(0), jnp.int32(0), jnp.int32(10)) == 1


def replicas(count: int):
    """Different hyperparameters, rates, steps and weights per replica."""
    spread = {
        "train.b1": [0.9, 0.8, 0.0, 0.95],
        "train.b2": [0.999, 0.98, 0.99, 0.9],
        "train.eps": [1e-6, 1e-8, 1e-3, 1e-6],
        "train.weight_decay": [0.01, 0.0, 0.1, 0.3],
        "train.clip": [1.0, 0.0, 0.1, 100.0],
    }
    hp = {k: jnp.asarray(x[:count], jnp.float32) for k, x in spread.items()}
    params = jax.tree.map(lambda *x: jnp.stack(x), *(tensors(i) for i in range(count)))
    grads = jax.tree.map(lambda *x: jnp.stack(x), *(tensors(50 + i, 3.0) for i in range(count)))
    state = jax.tree.map(
        lambda *x: jnp.stack(x), *(fresh({k: jnp.asarray(x) for k, x in tensors(i).items()}) for i in range(count))
    )
    state = optim.Adam({k: x + 0.1 for k, x in state.mu.items()}, {k: x + 1 for k, x in state.nu.items()})
    return hp, params, state, grads, jnp.arange(count) * 7, jnp.asarray([1e-2, 2e-5, 0.0, 1e-3][:count])


@pytest.mark.parametrize(("optimizer", "clip_by"), PAIRS)
def test_every_float_may_differ_per_replica(optimizer, clip_by):
    """Vmapped equals looped within 1e-6, and the bits of a replica do not depend on its slot."""
    one = step_of(optimizer, clip_by)
    many = jax.jit(jax.vmap(one))
    arguments = replicas(4)
    result = many(*arguments)
    for i in range(4):
        alone = jax.jit(one)(*jax.tree.map(lambda x, i=i: x[i], arguments))
        mine = jax.tree.map(lambda x, i=i: x[i], result)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6), mine, alone)
    order = np.array([2, 0, 3, 1])
    moved = many(*jax.tree.map(lambda x: x[order], arguments))
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[order], y), result, moved)
    for k in SHAPES:
        assert not result[2][k][2].any()  # a rate of 0
        assert result[2][k][0].any()


@pytest.mark.parametrize("name", NAMES)
def test_schedules_may_differ_per_replica(name):
    warmup, step, total = jnp.float32([0, 0.1, 0.5, 1]), jnp.arange(4) * 9, jnp.int32([10, 100, 60, 27])
    many = jax.jit(jax.vmap(partial(optim.schedule, name)))(warmup, step, total)
    one = [optim.schedule(name, *x) for x in zip(warmup, step, total, strict=True)]
    np.testing.assert_allclose(many, np.stack(one), rtol=1e-6)


@pytest.mark.parametrize(("optimizer", "clip_by"), PAIRS)
def test_other_floats_do_not_compile_again(optimizer, clip_by):
    traces = []

    @jax.jit
    def advance(*arguments):
        traces.append(1)
        return step_of(optimizer, clip_by)(*arguments)

    for i in range(4):
        advance(*jax.tree.map(lambda x, i=i: x[i], replicas(4)))
    assert len(traces) == 1


@pytest.mark.parametrize("clip", [optim._clip_global, optim._clip_tensor])
def test_clipping_that_is_off_or_not_reached_changes_no_bit(clip):
    odd = {"a": jnp.float32([1e30, -0.0, 1e-30, jnp.inf, jnp.nan]), "b": jnp.float32([3.0, -1e-7])}
    for grads, bound in [(odd, 0.0), (gradients(3), 0.0), (gradients(3), 1e3)]:
        clipped = jax.jit(clip)(grads, jnp.float32(bound))
        for k in grads:
            assert np.asarray(clipped[k]).tobytes() == np.asarray(grads[k]).tobytes()


def test_global_and_per_tensor_clipping_by_hand():
    grads = {"a": jnp.float32([3.0, 0.0]), "b": jnp.float32([0.0, 4.0])}
    np.testing.assert_allclose(optim.norm(grads), 5)
    tiny = optim._clip_tensor({"a": jnp.float32([1e-6])}, jnp.float32(1e-6))
    np.testing.assert_allclose(tiny["a"], 0.5e-6, rtol=1e-6)  # torch's 1e-6 below the bound
    whole = optim._clip_global(grads, jnp.float32(1))
    np.testing.assert_allclose([whole["a"][0], whole["b"][1]], [0.6, 0.8], rtol=1e-6)
    each = optim._clip_tensor(grads, jnp.float32(3.5))
    np.testing.assert_allclose([each["a"][0], each["b"][1]], [3.0, 3.5], rtol=1e-6)


def test_weight_decay_spares_biases_and_layernorm():
    """With no gradient, decay is all that moves a parameter: by the rate times 0.01 of it."""
    params = {k: jnp.asarray(x) for k, x in tensors(0).items()}
    zero = jax.tree.map(jnp.zeros_like, params)
    hp = {k: jnp.float32(x) for k, x in HP.items()}
    for optimizer, clip_by in PAIRS:
        one = step_of(optimizer, clip_by)
        _, _, updates = one(hp, params, fresh(params), zero, jnp.int32(0), jnp.float32(0.5))
        for k in ("layers/0/query/kernel", "head/kernel"):
            np.testing.assert_allclose(updates[k], -0.5 * 0.01 * params[k], rtol=1e-6)
        for k in ("layers/0/query/bias", "layers/0/attention_norm/scale", "layers/0/attention_norm/bias"):
            assert not updates[k].any()


def test_unknown_names_are_refused():
    with pytest.raises(KeyError):
        optim.make("sgd", "global", HP.__getitem__)
    with pytest.raises(ValueError, match="no schedule 'step'"):
        optim.schedule("step", 0.1, 0, 10)
