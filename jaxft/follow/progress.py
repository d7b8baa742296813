"""What a person follows: lines redrawn on a terminal, plain lines elsewhere, then a table. No jax here."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from jaxft.folder import Folder, rows, shards
from jaxft.folder.store import Ended, load
from jaxft.follow import view
from jaxft.follow.grid import clean, grid
from jaxft.follow.news import Begun, End, News, Tally, duration
from jaxft.follow.view import Shown
from jaxft.study.trials import Trial, expand

REDRAW, EVENT, QUIET = 1.0, 1.0, 5.0  # seconds between two: on a terminal, after a drop, and with nothing new
BAR = 20


class Screen:
    """The last lines of a console, written again in place where it is a terminal. The cursor rests below them, so that
    whatever ends the program, the terminal is in order.
    """

    def __init__(self, console: Console, *, live: bool):
        """Unless `live`, nothing is overwritten."""
        self.console, self.live = console, live
        self._height = 0

    def say(self, *lines: str) -> None:
        """Lines that stay; what was drawn goes."""
        self.draw([])
        width = self.console.width - 1 if self.live else None
        for line in lines:
            self.print(Text(clean(line)[:width]))

    def draw(self, lines: Sequence[Text]) -> None:
        """Lines in place of those drawn last, if nothing came in between."""
        # Of a window that has become lower, what has left it above stays as it is.
        height = min(self._height, self.console.height - 1)
        if height:
            self.console.control(Control(*[(ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)] * height))
        for line in lines:
            line.truncate(self.console.width - 1)
            self.print(line)
        self._height = len(lines)

    def keep(self) -> None:
        """What was drawn last stays."""
        self._height = 0

    def print(self, text: Text) -> None:
        """Folds no line, reads no markup, and shows a letter that the console does not have as `?`."""
        encoding = self.console.encoding
        text.plain = text.plain.encode(encoding, "replace").decode(encoding)
        self.console.print(text, soft_wrap=True)

    @property
    def ascii_only(self) -> bool:
        """Whether it has no block letters."""
        return not self.console.encoding.startswith("utf")

    def body(self, trials: Sequence[Trial], known: dict[str, Shown], above: int) -> list[Text]:
        """What there is to see of a run, below so many lines."""
        width, height = self.console.width - 1, self.console.height - above - 2
        lines = view.body(trials, known, width, height, ascii_only=self.ascii_only)
        return [Text(), *lines] if lines else []


def bar(done: int, total: int) -> str:
    """How much of it is done."""
    filled = BAR * done // max(1, total)
    return f"[{'#' * filled}{'.' * (BAR - filled)}]"


class Progress:
    """Told by the loop what happens; shows it on the console, at most once a second."""

    def __init__(self, console: Console, *, live: bool, clock: Callable[[], float] = time.monotonic):
        """`live` redraws in place; else what there is to say is printed once, below the last."""
        self._screen = Screen(console, live=live)
        self._clock = clock
        self._began = self._last = clock()
        self._event = False
        self._tally = Tally(0, 0)
        self._trials: list[Trial] = []
        self._known: dict[str, Shown] = {}

    @classmethod
    def choose(cls, *, quiet: bool = False) -> "Progress":
        """Live on a terminal, plain lines elsewhere; nothing at all if `quiet`."""
        return cls(Console(highlight=False, force_jupyter=False, quiet=quiet), live=sys.stdout.isatty() and not quiet)

    def start(self, begun: Begun) -> None:
        """A study of so many trials, some of which are over already."""
        self._tally = Tally(begun.total, begun.done)
        if self._screen.live:
            self._trials = expand(begun.study)
            self._known = finished(shards.curves(Folder.at(begun.folder))) if begun.done else {}
        if begun.done == begun.total:
            self._screen.say(f"all {begun.total} trials are over already")
        else:
            self._screen.say(f"{begun.total} trials, {begun.done} over already; compiling")

    def compiled(self, seconds: float) -> None:
        """A program is ready."""
        self._screen.say(f"compiled in {seconds:.1f} s")

    def block(self, news: News) -> None:
        """A block is over."""
        if not self._tally.blocks:
            self._screen.say(f"first step {self._clock() - self._began - news.devices:.1f} s after the start")
        self._tally.add(news)
        if self._screen.live:
            ends = {end.trial.id: end for end in (*news.ended, *news.rows)}  # the latter have curves
            self._known |= {name: _over(end) for name, end in ends.items()}
        self._event |= any(end.reason for end in news.ended)
        wait = REDRAW if self._screen.live or self._event else QUIET
        if self._clock() - self._last >= wait:
            self._show(news)

    def finish(self, folder: str | Path) -> None:
        """All is over: the closing table, and where to look next."""
        if self._tally.blocks:
            self._show()
            self._screen.keep()
            self._screen.say(self._tally.use)
        table = grid(load(folder), self._screen.console.width)
        self._screen.print(Text("\n").append_text(table))

    def stop(self) -> None:
        """Nothing to say."""

    def _show(self, news: News | None = None) -> None:
        self._last, self._event = self._clock(), False
        trials, speed, scores = self._tally.parts()
        if not self._screen.live:
            line = ", ".join([f"{duration(self._last - self._began)}: {trials[0]}", *trials[1:], *speed, *scores])
            self._screen.say(line)
            return
        lines = [f"{bar(self._tally.done, self._tally.total)} {', '.join(trials)}", ", ".join(speed), ", ".join(scores)]
        flying = {one.trial.id: Shown(False, "", one.step, one.scores) for one in (news.flying() if news else ())}
        # At the end the closing table says it.
        body = self._screen.body(self._trials, {**flying, **self._known}, len(lines)) if news else []
        self._screen.draw([*(Text(clean(line)) for line in lines), *body])


def finished(curves: dict[str, shards.Curve]) -> dict[str, Shown]:
    """What is shown of trials that are over."""
    return {name: Shown(True, reason, steps, scores) for name, (scores, _, reason, steps) in curves.items()}


def _over(end: End | Ended) -> Shown:
    if isinstance(end, Ended):
        return Shown(True, end.reason, end.steps, rows.curve(end.evaluations, end.metric))
    return Shown(True, end.reason, end.best_step, [end.best_score])
