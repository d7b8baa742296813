"""What a slot holds, and why a trial was dropped. No jax here."""

from enum import IntEnum


class Status(IntEnum):
    """What a slot holds. From `NON_FINITE_LOSS` on: a replica that was dropped, and why."""

    IDLE = 0
    RUNNING = 1
    COMPLETED = 2
    NON_FINITE_LOSS = 3
    NON_FINITE_GRADIENT = 4
    LOSS_ABOVE = 5
    NON_FINITE_LOGITS = 6
    ONE_CLASS = 7
    MAJORITY = 8

    @property
    def over(self) -> bool:
        """Whether the slot may be refilled."""
        return self > Status.RUNNING

    @property
    def in_step(self) -> bool:
        """Whether it was dropped in a step, which then has a loss but changed nothing."""
        return Status.NON_FINITE_LOSS <= self <= Status.LOSS_ABOVE

    @property
    def row(self) -> tuple[str, str]:
        """The columns status and reason of a trial that is over."""
        if self == Status.COMPLETED:
            return "completed", ""
        return ("diverged" if self <= Status.NON_FINITE_LOGITS else "stopped"), self.name.lower()


IN_STEP = frozenset(status.row[1] for status in Status if status.in_step)
"""The reasons of trials that were dropped in a step, not at an evaluation."""

RULES = frozenset(status.row[1] for status in Status if status > Status.COMPLETED)
"""The reasons of trials that were dropped by a rule about them alone; others were stopped by a policy."""
