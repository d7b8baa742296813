"""How a run is asked to stop. No jax here."""

import signal
import threading
from types import FrameType, TracebackType


class Halt:
    """Within it the first SIGTERM or Ctrl-C is only noted, in `asked`, so that a block can end; the next interrupts."""

    def __init__(self) -> None:
        """Nobody has asked."""
        self.asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Halt":
        """Listens; in the main thread alone, since no other is told of signals."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: not Python's
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leaves things as they were."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
