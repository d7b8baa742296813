"""The queue and the slots: who trains where, and who comes next. No jax here."""

from collections import deque
from collections.abc import Iterable

from jaxft.trials import Trial


class Scheduler:
    """First come, first served: a freed slot takes the next trial of the queue."""

    def __init__(self, trials: Iterable[Trial], slots: int):
        """All slots are free at first."""
        self.queue = deque(trials)
        self.running: dict[int, Trial] = {}
        self._slots = range(slots)

    @property
    def busy(self) -> bool:
        """Whether anything is left to do."""
        return bool(self.queue or self.running)

    def fill(self) -> dict[int, Trial]:
        """Gives each free slot the next trial, while there are any, and returns the new ones by slot."""
        new = {}
        for slot in self._slots:
            if slot not in self.running and self.queue:
                new[slot] = self.queue.popleft()
        self.running |= new
        return new

    def settle(self, over: Iterable[int]) -> dict[int, Trial]:
        """Frees the slots whose trial is over and returns those trials by slot."""
        return {slot: self.running.pop(slot) for slot in over}
