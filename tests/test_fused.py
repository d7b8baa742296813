"""Attention as one kernel, interpreted on the CPU: against the plain operations and against float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import models
from jaxft.models import attention, fused
from jaxft.models.dropout import Dropout, Mask
from jaxft.types import Batch

REPLICAS, ROWS, HEADS = 2, 3, 2


def _made(length: int, depth: int) -> list:
    """q, k, v, their biases, the gradient of what comes out, and a mask of packed examples; for some replicas."""
    keys = jax.random.split(jax.random.key(length), 8)
    draw = lambda key, *shape: jax.random.normal(key, (REPLICAS, *shape)).astype(jnp.bfloat16)  # noqa: E731
    tokens = [draw(key, ROWS, length, HEADS, depth) for key in keys[:4]]
    biases = [draw(key, HEADS, depth) for key in keys[4:7]]
    segments = jnp.sort(jax.random.randint(keys[7], (REPLICAS, ROWS, length), 0, 4), axis=-1)
    mask = segments[..., :, None] == segments[..., None, :]
    return [tuple(tokens[:3]), tuple(biases), tokens[3], mask]


def _exact(tokens, biases, mask, dropped, scale):
    """In float32 throughout, by the definition."""
    wide = [x.astype(jnp.float32) + b.astype(jnp.float32)[None, None] for x, b in zip(tokens, biases, strict=True)]
    scores = scale * jnp.einsum("rqhd,rkhd->rhqk", wide[0], wide[1])
    weights = jax.nn.softmax(jnp.where(mask[:, None], scores, -jnp.inf))
    return jnp.einsum("rhqk,rkhd->rqhd", weights if dropped is None else dropped(weights), wide[2])


def _plain(tokens, biases, mask, dropped, scale):
    """As `attend` computes it without the kernel."""
    q, k, v = (x + b[None, None] for x, b in zip(tokens, biases, strict=True))
    factor = jnp.ones(attention.shape(q, k, HEADS), jnp.float32)
    return attention.mix(q * scale, k, v, mask, factor if dropped is None else dropped(factor), None)


def _all(function, length: int, depth: int, rate: float) -> list[np.ndarray]:
    """What a function gives, and its gradients, in float32."""

    def one(tokens, biases, g, mask, seed):
        drop = Dropout(jax.random.key(seed), rate) if rate else Dropout()
        dropped = drop.mask("attention", (ROWS, HEADS, length, length))
        y, back = jax.vjp(lambda t, b: function(t, b, mask, dropped, depth**-0.5), tokens, biases)
        return y, back(g.astype(y.dtype))

    found = jax.jit(jax.vmap(one))(*_made(length, depth), jnp.arange(REPLICAS))
    return [np.asarray(x, np.float32) for x in jax.tree.leaves(found)]


def _off(found, exact) -> list[float]:
    """Relative errors: of what comes out, of the gradients of q, k, v, and of their biases'."""
    sizes = [float(np.linalg.norm(x)) for x in exact]
    sizes[5] = sizes[4]  # to add the same to all keys changes nothing: what is found is the error itself
    return [float(np.linalg.norm(a - b)) / size for a, b, size in zip(found, exact, sizes, strict=True)]


@pytest.mark.parametrize(
    ("length", "depth", "rate"), [(128, 64, 0.1), (128, 32, 0.0), (88, 64, 0.1), (72, 16, 0.0), (24, 16, 0.5)]
)
def test_the_kernel_is_at_least_as_exact_as_the_plain_operations(length, depth, rate):
    exact = _all(_exact, length, depth, rate)
    kernel, plain = (_off(_all(each, length, depth, rate), exact) for each in (fused.mix, _plain))
    print([(round(a, 5), round(b, 5)) for a, b in zip(kernel, plain, strict=True)])
    assert all(np.isfinite(kernel))
    assert max(kernel) < 0.01
    assert all(a < 1.1 * b + 1e-3 for a, b in zip(kernel, plain, strict=True))


def test_the_kernel_drops_what_the_plain_operations_drop():
    """With values that are unit vectors, what comes out shows the weights themselves."""
    length, eye = 16, jnp.eye(16, dtype=jnp.bfloat16)[None, :, None]
    dropped = Dropout(jax.random.key(3), 0.5).mask("attention", (1, 1, length, length))
    nothing = jnp.zeros_like(eye)
    mixed = fused.mix((nothing, nothing, eye), (nothing[0, 0],) * 3, jnp.ones((1, length, length), bool), dropped, 1.0)
    expected = dropped(jnp.full((length, length), 1 / length))
    np.testing.assert_allclose(np.asarray(mixed[0, :, 0], np.float32), expected[0, 0], rtol=0.01)
    assert 0.3 < np.mean(np.asarray(expected) == 0) < 0.7


def test_a_query_reads_what_its_mask_allows_and_nothing_else():
    (tokens, biases, _, mask), scale = jax.tree.map(lambda x: x[0], _made(40, 16)), 0.25
    run = jax.jit(lambda tokens: fused.mix(tokens, biases, mask, None, scale))
    changed = tuple(x.at[:, 7].add(1.0) for x in tokens[1:])
    moved = np.any(np.asarray(run(tokens) != run((tokens[0], *changed))), axis=(2, 3))
    assert (moved == np.asarray(mask[:, :, 7])).all()


def test_there_is_no_kernel_on_a_cpu_nor_for_other_shapes(monkeypatch):
    assert not fused.works()
    q = jnp.zeros((2, 128, 128), jnp.bfloat16)
    assert not fused.usable(q, q, 2)
    monkeypatch.setattr(fused, "works", lambda length, depth: True)
    assert fused.usable(q, q, 2)
    assert not fused.usable(q, q, 3 * 16)  # heads of 2 columns
    assert not fused.usable(q.astype(jnp.float32), q, 2)
    assert not fused.usable(q[:, :1], q, 2)  # of the last layer only first tokens are read
    longer = jnp.zeros((2, 136, 128), jnp.bfloat16)
    assert not fused.usable(longer, longer, 2)


def test_a_model_is_as_exact_through_the_kernel(monkeypatch):
    """Loss and gradients of an encoder in bfloat16, with dropout, against the same in float32."""
    config = {
        "model_type": "bert", "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 32, "type_vocab_size": 2, "hidden_act": "gelu",
        "layer_norm_eps": 1e-12, "initializer_range": 0.2,
    }  # fmt: skip
    params = models.assemble(config, 2).init(jax.random.key(0))
    segments = jnp.array([[1] * 9 + [2] * 7 + [0] * 8, [3] * 20 + [0] * 4])
    position = jnp.arange(24)[None, :] - jnp.where(segments == 2, 9, 0)
    tokens = jax.random.randint(jax.random.key(1), (2, 24), 1, 50) * (segments > 0)
    first, labels = jnp.array([0, 9, 24]), jnp.array([0, 1, 1])
    batch = Batch(tokens, jnp.zeros_like(tokens), position * (segments > 0), segments, first, labels, jnp.ones(3))

    def found(dtype):
        model = models.assemble(config, 2, dtype)

        def loss(params, key):
            logits = model.apply(params, batch, key, 0.1).logits
            return -jnp.sum(jax.nn.log_softmax(logits) * jax.nn.one_hot(labels, 2))

        value, grads = jax.jit(jax.value_and_grad(loss))(params, jax.random.key(2))
        return float(value), np.concatenate([np.ravel(grads[name]) for name in sorted(grads)])

    (loss, exact), (plain_loss, plain) = found("float32"), found("bfloat16")
    calls, mix = [], fused.mix
    monkeypatch.setattr(fused, "works", lambda length, depth: True)
    monkeypatch.setattr(fused, "mix", lambda *arguments: calls.append(arguments[3]) or mix(*arguments))
    fused_loss, kernel = found("bfloat16")
    assert len(calls) == 2  # all layers but the last
    assert all(isinstance(dropped, Mask) for dropped in calls)
    off = [float(np.linalg.norm(x - exact) / np.linalg.norm(exact)) for x in (kernel, plain)]
    print(off, fused_loss - loss, plain_loss - loss)
    assert abs(fused_loss - loss) < 0.01
    assert off[0] < 1.2 * off[1]
    assert off[1] < 0.05


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
def test_both_kernels_can_be_lowered_for_a_gpu(monkeypatch):
    """By the jax that is installed: it means to remove what lowers them; then only plain operations are left."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    (tokens, biases, g, mask), bits = _made(88, 32), jnp.zeros((REPLICAS, ROWS, HEADS, 88, 88), jnp.uint16)

    def one(tokens, biases, g, mask, bits):
        return jax.vjp(lambda t: fused.mix(t, biases, mask, Mask(bits, jnp.int32(9)), 1.0), tokens)[1](g)

    arguments = tokens, biases, g, mask, bits
    device = jax.sharding.AbstractDevice("NVIDIA H200", 132, "gpu")
    mesh = jax.sharding.AbstractMesh((1,), ("x",), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        text = jax.jit(jax.vmap(one)).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("__gpu$xla.gpu.triton") == 2
