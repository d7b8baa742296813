"""What notebooks and scripts use, as `jaxft.run` and so on. jax is loaded where something is trained.

The examples train the tiny encoder that comes with jaxft. They are meant to be read from top to bottom, and the tests
run them so, from the project's root.

>>> import jaxft
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxft import machine, members
from jaxft.errors import BadInput
from jaxft.folder.store import Run, load
from jaxft.study import config
from jaxft.study.config import Study

if TYPE_CHECKING:
    from jaxft.follow.news import Listener
    from jaxft.forecast import GroupPlan  # which imports jax

__all__ = ["Run", "Study", "load", "make", "method", "plan", "policy", "read", "run", "task"]


def read(path: str | Path, overrides: Sequence[str] = ()) -> Study:
    """The study in a YAML file, changed by words as on the command line.

    >>> jaxft.read("configs/quickstart.yaml", ["--train.lr", "3e-4"]).train.lr
    0.0003

    Raises:
        BadInput: the file cannot be read, or a key or value is not known.
    """
    return config.load(path, overrides)


def make(base: str | Path | None = None, **keys: Any) -> Study:
    """A study of these keys, nested as in YAML, over those of a file, or over the defaults.

    >>> small = jaxft.make(name="small", train={"epochs": 1, "lr": 1e-3}, seeds={"init": [1, 2], "order": 1},
    ...                     task={"n_train": 64}, pool={"slots": 2, "devices": 1}, out="runs/small")
    >>> small.train.lr, small.seeds.init
    (0.001, [1, 2])

    A key that is not known, or a value that does not fit, says so:

    >>> jaxft.make(train={"rate": 1e-3})
    Traceback (most recent call last):
        ...
    jaxft.errors.BadInput: train.rate: unknown key; ...

    Raises:
        BadInput: the file cannot be read, or a key or value is not known.
    """
    return config.make(base, **keys)


def plan(study: Study) -> "list[GroupPlan]":
    """What a study takes: for each of its programs trials, steps, slots, memory and time. Nothing is trained.

    >>> [program] = jaxft.plan(small)
    >>> program.trials
    2

    Raises:
        BadInput: its model or data cannot be used.
    """
    _ready(study)
    from jaxft import forecast

    return forecast.plan(study)


def run(
    study: Study, *, progress: "Listener | None" = None, track: "Sequence[Listener]" = (), fresh: bool = False
) -> str:
    """Trains the trials of a study that its run folder does not hold yet, and returns the folder.

    >>> folder = jaxft.run(small)
    2 trials, 0 over already; compiling
    ...
    >>> jaxft.load(folder).trials[["init_seed", "order_seed", "status"]]
       init_seed  order_seed     status
    0          1           1  completed
    1          2           1  completed

    Args:
        study: what to train.
        progress: told what happens; lines on standard output if not given.
        track: told too, such as `jaxft.tracking.tensorboard.tensorboard("logs")`.
        fresh: trials in flight start again instead of going on from their checkpoints.

    Raises:
        BadInput: something in the study, its files or its folder cannot be used.
        KeyboardInterrupt: it was interrupted; the same call goes on.
    """
    _ready(study)
    from jaxft.loop import train

    return train.run(study, progress=progress, track=track, fresh=fresh)


def task(name: str, train: Any, dev: Any, test: Any = None) -> None:
    """Adds a task of examples in memory, under a name for `task: {name: ...}`; for this process.

    A split is texts and labels, as many of each: lists, arrays, columns of a data frame. A text is one, or a pair of
    two. What a study says of its task holds as for files: labels, regression, metric, n_train.

    >>> texts, labels = ["a good film", "dull", "fine", "a bore"] * 8, ["yes", "no", "yes", "no"] * 8
    >>> jaxft.task("films", train=(texts, labels), dev=(texts[:8], labels[:8]))
    >>> films = jaxft.make(task={"name": "films"}, seeds={"init": 1, "order": 1}, train={"epochs": 2, "lr": 1e-3},
    ...                     pool={"devices": 1}, out="runs/films")
    >>> films = jaxft.load(jaxft.run(films))
    1 trials, ...
    >>> films.examples["label"].astype(int).tolist()
    [1, 0, 1, 0, 1, 0, 1, 0]

    Raises:
        BadInput: the name is one of ours, or the examples are no texts and labels.
    """
    from jaxft import tasks
    from jaxft.tasks import own

    if name in tasks.find() and name not in own.OWN:
        raise BadInput(f"task: {name} is there already; give another name")
    own.add(name, train, dev, test)


def method(function: Callable[..., Any] | None = None, *, clashes: Mapping[str, str] | None = None) -> Any:
    """Adds a way to fine-tune, under the function's name for `method:`; for this process. A decorator.

    Each argument has a type or range of `jaxft.members.ranges` and a default; a float may be swept. It returns a
    `jaxft.types.Method`, with hooks for one replica (CONTRIBUTING.md says what they see). The function's source is part
    of a run: a folder does not go on with another one of the same name.

    >>> import jax
    >>> from jaxft.members.ranges import NotNegative
    >>> from jaxft.types import Method
    >>> @jaxft.method
    ... def shrunk(rate: NotNegative = 0.01) -> Method:
    ...     '''Adds rate times the sum of squares of all that is trained to the loss.'''
    ...     def loss(objective, forward, ctx):
    ...         def penalised(params, *batch, **out):
    ...             squares = sum((leaf**2).sum() for leaf in jax.tree.leaves(params))
    ...             return objective(params, *batch, **out) + rate * squares
    ...         return penalised
    ...     return Method(loss=loss)
    >>> both = jaxft.make(method="shrunk(rate=0.1)|reinit(layers=1)", train={"epochs": 1, "lr": 1e-3},
    ...                    task={"n_train": 64}, seeds={"init": 1, "order": 1}, pool={"devices": 1},
    ...                    sweep={"method.shrunk.rate": [0, 0.1]}, out="runs/shrunk")
    >>> both = jaxft.load(jaxft.run(both))
    2 trials, ...
    >>> both.trials["hp.method.shrunk.rate"].round(3).tolist()
    [0.0, 0.1]

    Args:
        function: of the method.
        clashes: the methods that it does not go with in a chain, and why.

    Raises:
        BadInput: the name is one of ours, or the source cannot be read.
    """
    return _added("method", clashes) if function is None else _added("method", clashes)(function)


def policy(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds a way to choose who goes on, under the function's name for `policy:`; for this process. A decorator.

    Its arguments are as a method's; it returns a `jaxft.policies.Policy`.

    Raises:
        BadInput: the name is one of ours, or the source cannot be read.
    """
    return _added("policy", None)(function)


def _added(kind: str, clashes: Mapping[str, str] | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        members.add(function, kind, clashes)
        return function

    return add


def _ready(study: Study) -> None:
    """As the command line has it: virtual devices of a CPU, and programs that are kept."""
    with suppress(RuntimeError):  # jax is in use already, with the devices that it has
        machine.divide(study.pool.devices)
    machine.keep_programs()
