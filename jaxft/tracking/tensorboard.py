"""TensorBoard, by tensorboardX."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxft.errors import BadInput
from jaxft.folder import URL
from jaxft.study import Study, config
from jaxft.tracking import Tracker, absent


def tensorboard(folder: str = "") -> Tracker:
    """Event files for `tensorboard --logdir FOLDER`; in tensorboard/ of the run folder, if no folder is given."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise absent("tensorboardX", error) from None

    def open(study: Study, run: str) -> "_Events":
        if not folder and URL.match(run):
            raise BadInput("track: tensorboard writes to a disk: tensorboard(folder='logs')")
        try:
            events = SummaryWriter(folder or f"{run}/{FOLDER}")
        except OSError as error:
            raise BadInput(f"track: {folder or run}: cannot be written ({error.strerror})") from None
        events.add_text("study", f"```yaml\n{config.dump(study)}```")
        return _Events(events)

    return Tracker(open)


FOLDER = "tensorboard"


class _Events:
    def __init__(self, events: Any):
        self._events = events

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()

    def curve(self, name: str, points: Sequence[tuple[int, float]]) -> None:
        for step, value in points:
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        self._events.close()
