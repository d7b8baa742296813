"""A whole training against torch and transformers: the same batches, the same steps, the same parameters."""

from functools import partial

import jax
import numpy as np
import pytest
import toys

from jaxft import optim
from jaxft.engine.pool import Pool
from jaxft.models import checkpoint as files

torch = pytest.importorskip("torch", reason="torch is not installed: parity is not checked")
transformers = pytest.importorskip("transformers")

STEPS = 10
LENGTH = {"n_train": 18, "epochs": 2}  # 5 steps an epoch, the last of each with two examples


KINDS = {"bert": toys.BERT | {"pad_token_id": 0}, "roberta": toys.ROBERTA}


def tensors(config, params, folder) -> dict[str, np.ndarray]:
    """Parameters by their Hugging Face names."""
    files.save(folder, config, params)
    return files.read(folder)


@pytest.mark.parametrize(("kind", "clip_by"), [("bert", "global"), ("bert", "tensor"), ("roberta", "global")])
def test_ten_steps_equal_a_torch_loop(tmp_path, kind, clip_by):
    settings = KINDS[kind]
    padding = settings["pad_token_id"]
    model, pretrained = toys.encoder(settings)
    recipe = toys.recipe(model, every=STEPS, steps=STEPS, max_epochs=2)
    recipe = recipe._replace(optimizer=partial(optim.make, "adamw", clip_by))
    shared = toys.shared(pretrained=pretrained)
    tokens = shared.train.tokens  # torch gives RoBERTa's padding token no position, wherever it stands
    shared = shared._replace(train=shared.train._replace(tokens=np.where(tokens == padding, padding + 1, tokens)))
    trial = toys.entry(4, 9, **LENGTH, **{"train.lr": 1e-4, "train.clip": 0.5})
    pool = Pool(recipe, shared, trial, devices=jax.devices()[:1], slots=1, precision="highest")
    pool.fill({0: trial})
    begin = pool.take(0)
    report = pool.run(STEPS)
    ours = tensors(settings, pool.take(0).params, tmp_path / "ours")

    tensors(settings, begin.params, tmp_path / "start")
    config = transformers.AutoConfig.from_pretrained(
        tmp_path / "start", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "start", config=config)
    theirs.train()
    decayed = [p for n, p in theirs.named_parameters() if not n.endswith("bias") and "LayerNorm" not in n]
    others = [p for n, p in theirs.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.999), eps=1e-6)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, num_warmup_steps=1, num_training_steps=STEPS)
    data, losses = shared.train, []
    for row in begin.plan[:STEPS]:
        chosen = row[row >= 0]
        lengths = np.diff(data.offsets)[chosen]
        ids = np.full((len(chosen), lengths.max()), padding)  # padded to its longest, as a torch user would
        types = np.zeros((len(chosen), lengths.max()), np.int64)
        mask = np.zeros((len(chosen), lengths.max()), np.int64)
        for i, (number, n) in enumerate(zip(chosen, lengths, strict=True)):
            ids[i, :n] = data.tokens[data.offsets[number] : data.offsets[number] + n]
            types[i, data.second[number] : n] = settings["type_vocab_size"] > 1
            mask[i, :n] = 1
        loss = theirs(
            input_ids=torch.tensor(ids),
            token_type_ids=torch.tensor(types),
            attention_mask=torch.tensor(mask),
            labels=torch.tensor(data.labels[chosen].astype(np.int64)),
        ).loss
        loss.backward()
        for group in [list(theirs.parameters())] if clip_by == "global" else [[p] for p in theirs.parameters()]:
            torch.nn.utils.clip_grad_norm_(group, 0.5)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())

    np.testing.assert_allclose(report.losses[0], losses, rtol=0, atol=1e-5)
    moved, worst = 0.0, 0.0
    for name, value in theirs.state_dict().items():
        if name.endswith("position_ids"):
            continue
        if name.endswith("key.bias"):
            continue  # its gradient is 0 but for rounding, which Adam blows up to a step of either sign
        np.testing.assert_allclose(ours[name], value.numpy(), rtol=0, atol=1e-5, err_msg=name)
        worst = max(worst, np.abs(value.numpy() - ours[name]).max())
        moved = max(moved, np.abs(value.numpy() - files.read(tmp_path / "start")[name]).max())
    print(f"after {STEPS} steps: off by {worst:.1e}, where the largest step was {moved:.1e}")
    assert moved > 1e-4, "the training moved nothing that could differ"
