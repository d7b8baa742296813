"""The embedded default: what ships loads by the ordinary path, and its script makes it."""

import json
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import models, tasks
from jaxft.assets import ENCODER, pretrain
from jaxft.errors import BadInput
from jaxft.study.config import TaskConfig
from jaxft.tasks import generated, grammar

TEXT = ("tokenizer.json", "tokenizer_config.json", "config.json")


@pytest.fixture(scope="module")
def shipped() -> models.Checkpoint:
    return models.open("embedded")


def test_small_and_ours(shipped):
    assert shipped.folder == ENCODER
    assert {file.name for file in ENCODER.iterdir()} == {*TEXT, "model.safetensors"}
    assert sum(file.stat().st_size for file in ENCODER.iterdir()) <= 3e6


def test_loads_by_the_ordinary_path(shipped):
    task = tasks.load(TaskConfig(), shipped.tokenizer, models.positions(shipped))
    model, pretrained = models.build(shipped, len(task.labels))
    fresh = model.init(jax.random.key(1))
    new = {name.split("/")[0] for name in fresh.keys() - pretrained.keys()}
    assert new == {"pooler", "classifier"}
    assert all(np.isfinite(value).all() for value in pretrained.values())
    assert len(pretrained["embeddings/word/embedding"]) == len(shipped.tokenizer) == len(pretrain.vocabulary())


def test_task_is_the_same_every_time_and_balanced():
    first, second = generated.read(TaskConfig()), generated.read(TaskConfig())
    assert first == second
    for split, size in generated.SIZES.items():
        raw = first.splits[split]
        assert Counter(raw.labels) == {0: size // 2, 1: size // 2}
    sentences = [text for raw in first.splits.values() for text, _ in raw.texts]
    assert len(set(sentences)) == len(sentences)


def test_task_labels_follow_from_the_words():
    qualities = grammar.WORDS["quality"]
    good = {word for concept in qualities[0::2] for word in concept}
    first = {concept[0] for concept in qualities}
    known = {}
    for split, raw in generated.read(TaskConfig()).splits.items():
        turned, of_first = [], []
        for (text, _), label in zip(raw.texts, raw.labels, strict=True):
            words = text.split()
            predicate = words[words.index("is") + 1 :]
            turned.append(predicate[0] in ("not", "less"))
            quality = predicate[predicate[0] in ("not", "less", "more")]
            of_first.append(quality in first)
            assert label == (quality in good) ^ turned[-1], text
        assert abs(np.mean(turned) - generated.TURNED) < 0.06
        known[split] = np.mean(of_first)
    assert known["train"] == 1
    assert abs(known["dev"] - 0.5) < 0.1


def test_tokenizer_knows_every_word(shipped):
    texts = [text for raw in generated.read(TaskConfig()).splits.values() for text, _ in raw.texts]
    for text in texts[:200]:
        assert shipped.tokenizer.tokenize(text) == text.split()
    rows = shipped.tokenizer([*texts, *grammar.words()])["input_ids"]
    assert shipped.tokenizer.unk_token_id not in {token for row in rows for token in row}
    # What is no word of the language is spelt.
    assert shipped.tokenizer.tokenize("Zebra 7!") == ["z", "##e", "##b", "##r", "##a", "7", "!"]
    assert shipped.tokenizer.convert_ids_to_tokens(range(5)) == list(pretrain.SPECIAL)


@pytest.mark.parametrize("part", [0, 1], ids=["pairs", "single"])
def test_encoder_fills_in_words_of_text_it_has_not_read(shipped, part):
    model, pretrained = models.build(shipped, 2)
    split = jax.device_put(pretrain.read(300, seed=3)[part])
    params = {**model.init(jax.random.key(0)), **jax.device_put(pretrained)}
    _, right = pretrain.held_out(model, params, jnp.zeros(len(shipped.tokenizer)), split)
    words = Counter(token for token in split.tokens.tolist() if token >= len(pretrain.SPECIAL))
    unigram = words.most_common(1)[0][1] / words.total()
    print(f"hidden words right: {float(right):.3f}, by the most frequent word {unigram:.3f}")
    assert float(right) > unigram + 0.2


def test_script_runs_and_rebuilds_what_is_not_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pretrain, "SIZE", 200)
    monkeypatch.setattr(pretrain, "HELD_OUT", 50)
    pretrain.main(["--out", str(tmp_path), "--steps", "3"])
    assert "step 3: hidden words right" in capsys.readouterr().out
    for name in TEXT:
        assert (tmp_path / name).read_bytes() == (ENCODER / name).read_bytes(), name
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["BertModel"]
    ours, built = models.build(models.open("embedded"), 2)[1], models.build(models.open(str(tmp_path)), 2)[1]
    assert {name: value.shape for name, value in ours.items()} == {n: v.shape for n, v in built.items()}
    assert any((ours[name] != built[name]).any() for name in ours)


def test_keys_about_files_are_refused():
    for key, value in {"path": "data", "text": "body", "test": "test.tsv", "labels": ["a", "b"]}.items():
        with pytest.raises(BadInput, match=f"task.{key}: the generated task has no files"):
            generated.read(TaskConfig(**{key: value}))
