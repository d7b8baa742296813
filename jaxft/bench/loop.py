"""One of the others: a loop of runs with transformers and torch, as one who knows both would write it.

torch is imported where it is used: it is an extra.
"""

import math
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxft.bench.encoder import Single, Stacked
from jaxft.engine.groups import Group
from jaxft.study import TrainConfig
from jaxft.types import Split

EXACT = 2.0**-18  # of what a matmul adds up: float32 loses far less, bfloat16 far more


class Job(NamedTuple):
    """What every peer trains: the same as ours."""

    group: Group
    folder: Path
    """Of the checkpoint."""
    train: TrainConfig
    rows: int
    """Of an evaluation batch."""
    max_length: int
    seconds: float
    """For the steps of one turn."""
    device: str
    """"cpu" or "cuda"."""


class Setting(NamedTuple):
    """How the loop runs."""

    padding: str
    """"padded": to the most tokens of the task, as run_glue does; "longest": each batch to its longest."""
    threads: int
    attention: str = "sdpa"
    optimizer: str = "fused"
    autocast: bool = False
    """Linear maps in bfloat16."""
    onednn: bool = False
    """Matmuls in float32 by oneDNN, of which torch must know that they may be rounded to bfloat16; see `Loop.exact`."""
    compiled: bool = False
    replicas: int = 1
    """That are trained at once; more than one are stacked by torch.func."""


class Loop:
    """A model in training, or several at once, one step after the other."""

    def __init__(self, job: Job, setting: Setting):
        """Loads the checkpoint, with dropout as the study has it and a new head if it has none."""
        import torch  # pyright: ignore[reportMissingImports] (an extra)
        import transformers

        transformers.logging.set_verbosity_error()  # the head is new, as it should be
        transformers.logging.disable_progress_bar()
        torch.manual_seed(0)
        self.job, self.setting, self.torch = job, setting, torch
        self._prepare()
        wanted = job.train
        models = [self._loaded() for _ in range(setting.replicas)]
        dynamic = setting.padding == "longest"
        self.model = Stacked(models) if len(models) > 1 else Single(models[0], setting.compiled, dynamic)
        self.params = list(self.model.params.values())
        exempt = [name.endswith("bias") or "LayerNorm" in name for name in self.model.params]
        groups = [
            {"params": [p for p, no in zip(self.params, exempt, strict=True) if no == free], "weight_decay": decay}
            for free, decay in ((False, wanted.weight_decay), (True, 0.0))
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=wanted.lr, betas=(wanted.b1, wanted.b2), eps=wanted.eps, **{setting.optimizer: True}
        )
        total = job.group.lengths[job.group.trials[0].id].total
        warmup = math.ceil(wanted.warmup * total)
        of = {"cosine": "cosine", "constant": "constant_with_warmup"}.get(wanted.schedule, "linear")
        self.schedule = transformers.get_scheduler(of, self.optimizer, warmup, total)

    def train(self, data: Iterable[dict[str, Any]]) -> list[Any]:
        """A step on each batch. Returns their losses, on the device; [R] each where R replicas are trained."""
        self._prepare()
        return [self._step(batch) for batch in data]

    def evaluate(self, data: Iterable[dict[str, Any]]) -> list[Any]:
        """The logits of all batches, on the host; [R, B, C] each where R replicas are trained."""
        self._prepare()
        self.model.evaluating(True)
        with self.torch.no_grad(), self._precision():
            logits = [self.model.logits(batch) for batch in data]
        self.model.evaluating(False)
        return [x.float().cpu() for x in logits]

    def exact(self) -> bool:
        """Whether its linear maps, and their gradients, are as exact as float32.

        They are with oneDNN where it could win nothing by bfloat16.
        """
        self._prepare()
        torch, rows = self.torch, self.job.train.batch_size * self.job.max_length
        draw = torch.Generator().manual_seed(0)
        kernels = {p.shape[-2:] for name, p in self.model.params.items() if p.ndim > 1 and "embeddings" not in name}
        for outputs, inputs in kernels:
            sizes = (rows, inputs), (outputs, inputs), (rows, outputs)
            x, kernel, g = (torch.randn(*size, generator=draw) for size in sizes)
            for a, b in ((x, kernel.T), (g, kernel), (g.T, x)):
                wide = a.double(), b.double()
                error = (a @ b).double() - wide[0] @ wide[1]
                if (error.abs() > EXACT * (wide[0].abs() @ wide[1].abs())).any():
                    return False
        return True

    def held(self) -> int:
        """Bytes of parameters and the optimizer's state."""
        state = (x for of in self.optimizer.state.values() for x in of.values() if self.torch.is_tensor(x))
        return sum(x.numel() * x.element_size() for x in (*self.params, *state))

    def free(self) -> None:
        """Gives jax the memory that torch keeps for later."""
        if self.job.device == "cuda":
            self.torch.cuda.empty_cache()

    def done(self) -> None:
        """Waits for the device."""
        if self.job.device == "cuda":
            self.torch.cuda.synchronize()

    def batches(self, split: Split, chosen: Iterable[np.ndarray]) -> list[dict[str, Any]]:
        """The examples with these numbers, a batch for each array, padded and on the device; -1 is none.

        Args:
            split: that they are of.
            chosen: [B] each, or [R, B] for a batch of R replicas, all with as many examples.
        """
        return [self._batch(split, some[..., (some >= 0).all(tuple(range(some.ndim - 1)))]) for some in chosen]

    def _step(self, batch: dict[str, Any]) -> Any:
        with self._precision():
            loss = self.model.forward(batch)
        self.model.backward(loss)
        if self.job.train.clip:
            self.model.clip(self.job.train.clip, whole=self.job.train.clip_by == "global")
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def _batch(self, split: Split, chosen: np.ndarray) -> dict[str, Any]:
        offsets, second = np.asarray(split.offsets), np.asarray(split.second)
        lengths = offsets[chosen + 1] - offsets[chosen]
        width = int(lengths.max())
        if self.setting.padding == "padded":
            width = self.job.max_length
        elif self.job.device == "cuda":
            width = -(-width // 8) * 8  # for the tensor cores
        config = self.model.config
        ids = np.full((*chosen.shape, width), config.pad_token_id, np.int64)
        types, mask = np.zeros_like(ids), np.zeros_like(ids)
        for at, number in np.ndenumerate(chosen):
            length = lengths[at]
            ids[at][:length] = split.tokens[offsets[number] : offsets[number] + length]
            types[at][second[number] : length] = config.type_vocab_size > 1
            mask[at][:length] = 1
        labels = np.asarray(split.labels)[chosen]
        labels = labels if labels.dtype.kind == "f" else labels.astype(np.int64)
        arrays = {"input_ids": ids, "token_type_ids": types, "attention_mask": mask, "labels": labels}
        return self.model.laid({n: self.torch.from_numpy(array).to(self.job.device) for n, array in arrays.items()})

    def _loaded(self) -> Any:
        import transformers

        rates = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            self.job.folder,
            num_labels=len(self.job.group.task.labels) or 1,
            attn_implementation=self.setting.attention,
            dtype=self.torch.float32,
            **dict.fromkeys(rates, self.job.train.dropout),
        )
        return model.to(self.job.device)

    def _precision(self) -> Any:
        if not self.setting.autocast:
            return nullcontext()
        return self.torch.autocast(self.job.device, dtype=self.torch.bfloat16)

    def _prepare(self) -> None:
        """What torch holds for the whole process."""
        if self.torch.get_num_threads() != self.setting.threads:
            self.torch.set_num_threads(self.setting.threads)
        exact = self.job.train.precision in ("highest", "bfloat16")
        self.torch.set_float32_matmul_precision("medium" if self.setting.onednn else "highest" if exact else "high")
