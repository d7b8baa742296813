"""The queue and the slots: who trains where, and who comes next. No jax here."""

from collections import deque
from collections.abc import Callable, Iterable

from jaxft.study.trials import Trial


class Scheduler:
    """First come, first served: a freed slot takes the next trial of the queue."""

    def __init__(self, trials: Iterable[Trial], slots: int):
        """All slots are free at first."""
        self.queue = deque(trials)
        self._ready: deque[Trial] = deque()
        self.running: dict[int, Trial] = {}
        self._slots = range(slots)

    @property
    def busy(self) -> bool:
        """Whether anything is left to do."""
        return bool(self.queued or self.running)

    @property
    def queued(self) -> bool:
        """Whether trials wait for a slot."""
        return bool(self.queue or self._ready)

    def fill(self, may_enter: Callable[[Trial, int], bool] = lambda trial, slot: True) -> dict[int, Trial]:
        """Gives each free slot the next trial that may enter it, and returns the new ones by slot."""
        new = {}
        for slot in self._slots:
            if slot not in self.running:
                for line in (self._ready, self.queue):
                    trial = next((trial for trial in line if may_enter(trial, slot)), None)
                    if trial is not None:
                        line.remove(trial)
                        new[slot] = trial
                        break
        self.running |= new
        return new

    def settle(self, over: Iterable[int]) -> dict[int, Trial]:
        """Frees the slots whose trial is over, or has to wait, and returns those trials by slot."""
        return {slot: self.running.pop(slot) for slot in over}

    def again(self, trial: Trial) -> None:
        """A trial that had to wait goes on, before all that have not begun."""
        self._ready.append(trial)
