"""RoBERTa and XLM-R with tokenizers of their own kind: from texts to logits as in torch, and a study to its scores."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace, Sequence, WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import UnigramTrainer

from jaxft import models, tasks
from jaxft.data.batch import pad
from jaxft.folder import store
from jaxft.loop import train
from jaxft.models import checkpoint as files
from jaxft.study import TaskConfig, config

SHORT = ["w1 w2", "w24 w3 w17"]
LONG = ["w5 unheard", "w9"]


def unigram() -> Tokenizer:
    """Pieces of words with their probabilities in the manner of XLM-R, `▁` for a space."""
    pieces = Tokenizer(Unigram())
    pieces.pre_tokenizer = Sequence([WhitespaceSplit(), Metaspace(replacement="▁", prepend_scheme="always")])
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False)
    pieces.train_from_iterator([" ".join(f"w{i}" for i in range(25))] * 3, trainer)
    pieces.add_special_tokens(["<mask>"])
    ends = [("<s>", 0), ("</s>", 2)]
    pieces.post_processor = TemplateProcessing("<s> $A </s>", "<s> $A </s> </s> $B </s>", ends)
    return pieces


TOKENIZERS = {"roberta": toys.bpe, "xlm-roberta": unigram}


def checkpoint(folder: Path, settings: dict, params: dict) -> Path:
    """A checkpoint as the hub has it: config, weights and tokenizer.json."""
    files.save(folder, settings, params)
    TOKENIZERS[settings["model_type"]]().save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("pairs", [False, True])
def test_from_texts_to_logits_as_in_torch(tmp_path, kind, pairs):
    """Whatever lies between: tokens, truncation, padding (token 0 here, `<pad>` there), positions, types, the head."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    settings = toys.ROBERTA | {"model_type": kind, "initializer_range": 0.3}
    params = jax.jit(models.assemble(settings, 3).init)(jax.random.key(1))
    folder = checkpoint(tmp_path / "encoder", settings, params)
    rows = [*zip(SHORT, LONG, [0, 2], strict=True), (" ".join(SHORT * 4), "w7 w8", 1)]
    lines = "".join(f"{one}\t{other}\t{label}\n" for one, other, label in rows)
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text(f"sentence\tother\tlabel\n{lines}")

    found = models.open(str(folder))
    assert (found.family, models.positions(found)) == (kind, 16)
    given = TaskConfig(name="text", path=str(tmp_path), text_pair="other" if pairs else None, max_length=16)
    task = tasks.load(given, found.tokenizer, models.positions(found))
    model, pretrained = models.build(found, len(task.labels))
    head = {name: value for name, value in params.items() if name not in pretrained}
    batch = pad(jax.tree.map(jnp.asarray, task.train), jnp.arange(3), 16)
    logits = jax.jit(model.apply)({**pretrained, **head}, batch).logits

    theirs, info = transformers.AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    names = {"roberta": "RobertaForSequenceClassification", "xlm-roberta": "XLMRobertaForSequenceClassification"}
    assert type(theirs).__name__ == names[kind]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [[row[i] for row in rows] for i in range(1 + pairs)]
    encoded = tokenizer(*texts, padding=True, truncation=True, max_length=16, return_tensors="pt")
    last = tokenizer.convert_ids_to_tokens(encoded["input_ids"][1])
    assert last[:1] + last[-1:] == ["<s>", "<pad>"]
    assert last.count("</s>") == (3 if pairs else 1)
    with torch.no_grad():
        wanted = theirs.eval()(**encoded).logits.numpy()
    assert np.linalg.norm(wanted[1:] - wanted[:1]) > 0.1 * np.linalg.norm(wanted)
    error = np.linalg.norm(logits - wanted) / np.linalg.norm(wanted)
    print(f"{kind}: logits from texts off by {error:.1e}")
    assert error < 1e-5


def test_a_study_ends_with_scores(tmp_path):
    settings = toys.ROBERTA | {"num_hidden_layers": 1}
    checkpoint(tmp_path / "encoder", settings, toys.encoder(settings)[1])
    toys.sentences(tmp_path / "data", train=16, dev=9)
    study = {
        "model": str(tmp_path / "encoder"),
        "task": {"name": "text", "path": str(tmp_path / "data"), "max_length": 16},
        "train": {"lr": 1e-3, "batch_size": 4, "epochs": 2},
        "seeds": {"init": 1, "order": "1..2"},
        "pool": {"slots": 2, "devices": 1},
        "out": str(tmp_path / "run"),
    }
    (tmp_path / "study.yaml").write_text(json.dumps(study))
    run = store.load(train.run(config.load(tmp_path / "study.yaml")))
    assert set(run.trials["status"]) == {"completed"}
    losses = np.stack(list(run.losses["train_loss"]))
    assert losses.shape == (2, 8)
    assert np.isfinite(losses).all()
    assert (losses[0] != losses[1]).any()
    truth = run.examples.query("split == 'dev'").sort_values("index")["label"].to_numpy()
    final = run.predictions.query("at == 'final'").set_index("trial")["logits"]
    for row in run.trials.itertuples():
        assert row.final_score == np.mean(final[row.trial].argmax(axis=1) == truth)
    tokens = run.examples.query("split == 'dev'")["tokens"]
    assert all((row[0], row[-1]) == (0, 2) for row in tokens)
