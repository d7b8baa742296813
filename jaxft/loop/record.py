"""What the host keeps of a trial while it is in training, block by block, until its rows are written. No jax here."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxft import metrics
from jaxft.folder import rows
from jaxft.folder.store import Ended, Evaluation
from jaxft.study.trials import Length, Trial


@dataclass
class Record:
    """The curves of one trial.

    Args:
        trial: of which.
        slot: where it trains.
        length: how long it is.
        metric: the one that scores it, on the dev set.
        metrics: all that are reported.
        labels: of each evaluation set.
        also: the sets of other tasks among them, and as which of its classes each of the task's counts.
        step: its next step; below 0 in the method's lead-in.
    """

    trial: Trial
    slot: int
    length: Length
    metric: str
    metrics: tuple[str, ...]
    labels: dict[str, np.ndarray]
    also: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    step: int = 0
    began: float = field(default_factory=time.monotonic)
    evaluations: list[Evaluation] = field(default_factory=list)
    losses: list[np.ndarray] = field(default_factory=list)
    best_step: int = 0
    best_score: float = math.nan
    final_score: float = math.nan
    test_at_best: float = math.nan
    test_at_final: float = math.nan
    logits: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    earlier: str = ""
    """At which other widths it was trained before."""
    left_at: float | None = None
    """When it left its slot, while it waits outside."""

    @property
    def left(self) -> int:
        """The steps that it has yet to take."""
        return self.length.total - self.step

    def observe(
        self,
        step: int,
        losses: np.ndarray,
        logits: dict[str, np.ndarray],
        norms: Mapping[str, float] | None = None,
        *,
        tried: bool,
    ) -> None:
        """Takes in a block.

        Args:
            step: the one it ended at.
            losses: of the block's steps, in order.
            logits: [N, C] of each evaluation set, of the task's own classes.
            norms: of its gradient, by layer, if the study asks.
            tried: whether it was dropped in the step that it ended at, so that this step has a loss too.
        """
        # Copies: a view would keep the arrays of all slots in memory.
        self.losses.append(losses[max(0, -self.step) : max(0, step - self.step + tried)].copy())
        before, self.step = self.step, step
        if step <= max(0, before):
            return  # nothing was trained that could be evaluated, or not already is
        for split, values in logits.items():
            into = self.also.get(split)
            loss, scores, values = metrics.judged(self.metrics, values, self.labels[split], into)
            kept = {layer: float(norm) for layer, norm in (norms or {}).items()} if split == "dev" else {}
            self.evaluations.append(Evaluation(step, step / self.length.per_epoch, split, loss, scores, kept))
            self.logits[split, "final"] = values.copy()
            if split == "dev":
                self.final_score = scores[self.metric]
            if split == "test":
                self.test_at_final = scores[self.metric]
        if math.isnan(self.best_score) or self.final_score > self.best_score:
            self.best_score, self.best_step, self.test_at_best = self.final_score, step, self.test_at_final
            self.logits |= {(split, "best"): self.logits[split, "final"] for split in logits}

    @property
    def curve(self) -> list[float]:
        """Its scores so far, one for each evaluation on dev."""
        return rows.curve(self.evaluations, self.metric)

    @property
    def seconds(self) -> float:
        """How long it has been in slots."""
        return (self.left_at or time.monotonic()) - self.began

    def leave(self) -> None:
        """It has to wait, outside of a slot."""
        self.left_at = time.monotonic()

    def enter(self, slot: int) -> None:
        """It has a slot again."""
        self.began, self.slot, self.left_at = time.monotonic() - self.seconds, slot, None

    def saved(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What it has seen so far, for `resumed`: what JSON can say, and arrays by name."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        rows = [evaluation._asdict() for evaluation in self.evaluations]
        arrays = {"/".join(at): values for at, values in self.logits.items()}
        losses = np.concatenate(self.losses) if self.losses else np.zeros(0, np.float32)
        return {"numbers": numbers, "seconds": self.seconds, "evaluations": rows}, arrays | {"losses": losses}

    def resumed(self, told: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Goes on from what `saved` gave.

        Raises:
            LookupError, TypeError, ValueError: it is something else.
        """
        evaluations, logits = self.check(told, arrays)
        for name in _NUMBERS:
            setattr(self, name, told["numbers"][name])
        self.began = time.monotonic() - told["seconds"]
        self.evaluations, self.losses, self.logits = evaluations, [arrays["losses"]], logits

    @staticmethod
    def check(told: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[list[Evaluation], dict]:
        """The evaluations and logits of what `saved` gave.

        Raises:
            LookupError, TypeError, ValueError: it is something else.
        """
        if not {*_NUMBERS} <= {*told["numbers"]} or not isinstance(told["seconds"], float) or "losses" not in arrays:
            raise KeyError("what a record has seen")
        pairs = {name: name.split("/") for name in arrays if name != "losses"}
        logits = {(split, at): arrays[name] for name, (split, at) in pairs.items()}
        return [Evaluation(**row) for row in told["evaluations"]], logits

    def ended(
        self, status: str, reason: str, *, policy: str, slots_per_device: int, device: str, precision: str,
        probes: Mapping[str, float | None] | None = None, costs: Mapping[str, float] | None = None,
    ) -> Ended:  # fmt: skip
        """All that the rows of this trial need."""
        return Ended(
            trial=self.trial,
            status=status,
            reason=reason,
            policy=policy,
            steps=max(0, self.step),
            n_train=self.length.n_train,
            metric=self.metric,
            evaluations=self.evaluations,
            losses=np.concatenate(self.losses) if self.losses else np.zeros(0, np.float32),
            best_step=self.best_step,
            best_score=self.best_score,
            final_score=self.final_score,
            test_at_best=self.test_at_best,
            test_at_final=self.test_at_final,
            majority_score=metrics.majority(self.metric, self.labels["dev"]),
            predictions=self.logits,
            slots_per_device=slots_per_device,
            slot=self.slot,
            device=device,
            precision=precision,
            seconds=self.seconds,
            earlier=self.earlier,
            probes=probes or {},
            costs=costs or {},
        )


_NUMBERS = ("step", "best_step", "best_score", "final_score", "test_at_best", "test_at_final", "earlier")
