"""Trials from a JSON file that anybody may have made, in the schema of the package: read and checked. No jax here."""

import json
import math
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from reprlib import Repr
from typing import Any, NamedTuple

from jaxft.errors import BadInput

_EXPECTED = "trials by task, init seed and order seed"
_PARTS = ("before", "during", "after")
_TAKEN = ("trial", "step", "split")
"""Columns that no metric may have the name of."""
_SEED = re.compile(r"[0-9]{1,18}")
_UNPICKLE = (
    "import json, pickle, sys; json.dump(pickle.load(open(sys.argv[1], 'rb')), open(sys.argv[2], 'w'), "
    "default=lambda x: x.tolist())"
)
_short = Repr()
_short.maxlevel, _short.maxdict, _short.maxlist, _short.maxstring, _short.maxlong = 2, 3, 3, 40, 40


class Curve(NamedTuple):
    """A trial's evaluations by one measure."""

    before: float
    """NaN where there is none; so is `after`."""
    during: dict[int, float]
    """By step, in order."""
    after: float

    def trained(self, steps: int) -> dict[int, float]:
        """The evaluations of what was trained, in so many steps."""
        return self.during if math.isnan(self.after) else {**self.during, steps: self.after}

    def all(self, steps: int) -> dict[int, float]:
        """With `before` at step 0, unless another one is there."""
        before = {} if math.isnan(self.before) else {0: self.before}
        return before | self.trained(steps)


class Foreign(NamedTuple):
    """A trial."""

    task: str
    init: int
    order: int
    status: str
    reason: str
    steps: int
    """No fewer than the last evaluation's."""
    losses: list[float]
    """Of each step."""
    loss: Curve
    metrics: dict[str, Curve]

    @property
    def id(self) -> str:
        """From what the file knows of it."""
        return f"{self.task}/{self.init}/{self.order}"


def trials(path: Path) -> Iterator[Foreign]:
    """All trials of the file.

    Raises:
        BadInput: one line with the place of what is wrong.
    """
    for task, inits in _mapping(_content(path), f"{path}", _EXPECTED).items():
        place = f"{path}: {named(_text(task, f'{path}: a task'))}"
        for init, orders in _by_seed(inits, place, "init"):
            for order, trial in _by_seed(orders, f"{place}, init {init}", "order"):
                here = f"{place}, init {init}, order {order}"
                yield _trial((task, init, order), _mapping(trial, here, "curves by name"), here)


def named(name: str) -> str:
    """A name from the file, as a message of one line has it."""
    return name if name.isprintable() and len(name) <= 40 else _short.repr(name)


def _content(path: Path) -> Any:
    pickled = path.suffix.lower() in (".pkl", ".pickle")
    try:
        content = b"" if pickled else path.read_bytes()
    except (OSError, ValueError) as error:  # the latter of a name that no file can have
        why = getattr(error, "strerror", None) or error
        raise BadInput(f"{path}: cannot be read ({why}); expected {_EXPECTED}, as JSON") from None
    if pickled or content.startswith(b"\x80"):
        files = shlex.join([str(path), str(path.with_suffix(".json"))])
        raise BadInput(
            f"{path}: a pickle, which is not read, since reading one runs whatever code is in it; if you trust the "
            f'file, make JSON of it first: python -c "{_UNPICKLE}" {files}'
        )
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_once)
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}, expected {_EXPECTED}, as JSON") from None
    except RecursionError:
        raise BadInput(f"{path}: nested too deeply, expected {_EXPECTED}") from None
    except ValueError as error:
        raise BadInput(f"{path}: not valid JSON: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of the file, in which no key may be there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {_short.repr(twice)} is twice in one place")
    return found


def _by_seed(value: Any, place: str, kind: str) -> Iterator[tuple[int, Any]]:
    seen = set()
    for key, below in _mapping(value, place, f"{kind} seeds").items():
        if not _SEED.fullmatch(key):
            raise BadInput(f"{place}: expected {kind} seeds, which are whole numbers, found {_short.repr(key)}")
        if int(key) in seen:  # "7" and "07"
            raise BadInput(f"{place}: {kind} seed {int(key)} is there twice")
        seen.add(int(key))
        yield int(key), below


def _trial(seeds: tuple[str, int, int], trial: dict[str, Any], place: str) -> Foreign:
    loss = _curve(trial.get("loss", {}), f"{place}: loss")
    metrics = {
        name: _curve(parts, f"{place}: {named(name)}")
        for name, parts in trial.items()
        if name not in ("loss", "train_loss") and isinstance(parts, dict) and not parts.keys().isdisjoint(_PARTS)
    }
    for name in metrics:
        if _text(name, f"{place}: a metric") in _TAKEN:
            raise BadInput(f"{place}: {name}: not a name for a metric, since a column is called so")
    losses = _mapping(trial.get("train_loss", {}), f"{place}: train_loss", "during").get("during")
    here = f"{place}: train_loss.during"
    numbers = [_number(value, here) for value in _list(losses, here, "the loss of each step")]
    evaluated = max((step for curve in (loss, *metrics.values()) for step in curve.during), default=0)
    steps = max(evaluated, len(numbers))
    if "status" in trial:  # then the last loss may be of a step that was not taken
        steps = _count(trial.get("steps", steps), f"{place}: steps", "a number of steps")
    if steps < evaluated:
        raise BadInput(f"{place}: steps: {steps}, but there is an evaluation at step {evaluated}")
    status = _text(trial.get("status", "completed"), f"{place}: status")
    return Foreign(*seeds, status, _text(trial.get("reason", ""), f"{place}: reason"), steps, numbers, loss, metrics)


def _curve(value: Any, place: str) -> Curve:
    parts = _mapping(value, place, "before, during and after")
    here = f"{place}.during"
    during: dict[int, float] = {}
    for pair in _list(parts.get("during"), here, "pairs [step, value]"):
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadInput(f"{here}: expected pairs [step, value], found {_short.repr(pair)}")
        step = _count(pair[0], here, "pairs [step, value] with whole steps")
        if step in during:
            raise BadInput(f"{here}: step {step} is there twice")
        during[step] = _number(pair[1], here)
    before, after = (_number(parts.get(part), f"{place}.{part}") for part in ("before", "after"))
    return Curve(before, dict(sorted(during.items())), after)


def _mapping(value: Any, place: str, expected: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(f"{place}: expected {expected}, found {_short.repr(value)}")
    return value


def _list(value: Any, place: str, expected: str) -> list:
    if not isinstance(value, list | None):
        raise BadInput(f"{place}: expected {expected}, found {_short.repr(value)}")
    return value or []


def _number(value: Any, place: str) -> float:
    try:
        if value is None or type(value) in (int, float):  # a bool is an int
            return math.nan if value is None else float(value)
    except OverflowError:
        pass
    raise BadInput(f"{place}: expected a number or null, found {_short.repr(value)}")


def _count(value: Any, place: str, expected: str) -> int:
    if type(value) not in (int, float) or not 0 <= value < 2**53 or value != int(value):
        raise BadInput(f"{place}: expected {expected}, found {_short.repr(value)}")
    return int(value)


def _text(value: Any, place: str) -> str:
    try:
        if isinstance(value, str):
            value.encode()  # which half a surrogate pair cannot
            return value
    except UnicodeEncodeError:
        pass
    raise BadInput(f"{place}: expected text, found {_short.repr(value)}")
