"""Further evaluation sets, whose labels may be fewer, or other, than the classes of the training task."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxft import tasks
from jaxft.data.tokenise import fingerprint, tokenise
from jaxft.errors import BadInput
from jaxft.study.others import ALSO, Other
from jaxft.types import Split, Task


class Common(NamedTuple):
    """Classes that two label sets have in common, by number; from 0, in the order of the other set's labels."""

    ours: tuple[int, ...]
    """What each class of the training task counts as."""
    theirs: tuple[int, ...]
    """Likewise each label of the other set."""


def joined(task: Task, others: Sequence[Other], tokenizer: Any, positions: int, max_length: int) -> Task:
    """The task with the dev sets of others as further evaluation sets, under the names that the study gives them.

    Their labels are those of the common classes; `Task.also` says which of them each class of the task counts as. The
    fingerprint covers them. Where there are no others, it is the task itself.

    Raises:
        BadInput: a set cannot be read, or its labels do not go with the task's.
    """
    if not others:
        return task
    also, splits = {}, {}
    for other in others:
        try:
            also[other.name], splits[other.name] = _read(task, other, tokenizer, positions, max_length)
        except BadInput as error:
            raise BadInput(f"{ALSO}: {other.name}: {str(error).removeprefix('task.')}") from None
    evals = {**task.evals, **splits}
    told = (*task.labels, *(f"{name} {ours}" for name, ours in also.items()))
    return task._replace(evals=evals, also=also, fingerprint=fingerprint(told, {"train": task.train, **evals}))


def _read(task: Task, other: Other, tokenizer: Any, positions: int, max_length: int) -> tuple[tuple[int, ...], Split]:
    config = other.task(max_length)
    source = tasks.read(config)
    tasks.check_length(config.max_length, source, tokenizer, positions)
    common = match(task.labels, source.labels, other.labels)
    texts, labels = source.splits["dev"]
    if common.theirs:
        labels = [common.theirs[int(label)] if label >= 0 else -1 for label in labels]
    return common.ours, tokenise(texts, labels, tokenizer, config.max_length)


def match(ours: Sequence[str], theirs: Sequence[str], labels: Mapping[str, Sequence[str]] | None) -> Common:
    """The classes that two label sets have in common.

    Labels of theirs as which the same classes of ours count are one class; so fewer may stand against more on either
    side: three classes of ours against two labels, or two against three. Regressions have none, on both sides.

    Args:
        ours: the classes of the training task; empty for a regression.
        theirs: the labels of the other set.
        labels: for each of theirs, those of ours that count as it; by name when not given.

    Raises:
        BadInput: a regression against classes; a label or a class that is not there, or of which nothing is said;
            labels as which some of the same, and not all of them, count; or a single common class.
    """
    if not ours or not theirs:
        if ours or theirs:
            which = ("its labels are classes", "numbers") if theirs else ("its labels are numbers", "classes")
            raise BadInput(f"{which[0]}, and those of the training task {which[1]}; both must be of one kind")
        if labels:
            raise BadInput("labels: its labels are numbers, and have no names")
        return Common((), ())
    if labels is None:
        if set(ours) != set(theirs):
            raise BadInput(
                f"labels: missing: its labels are {', '.join(theirs)}, the classes of the training task "
                f"{', '.join(ours)}; expected for each of the former those of the latter that count as it"
            )
        labels = {name: (name,) for name in theirs}
    _check(ours, theirs, labels)
    sets = {name: frozenset(labels[name]) for name in theirs}
    common = list(dict.fromkeys(sets.values()))
    for one in common:
        for other in common:
            if one != other and one & other:
                raise BadInput(
                    f"labels: {min(one & other)!r} counts as two labels that have not all their classes in common; "
                    "expected the same classes for both, or no class twice"
                )
    if len(common) < 2:
        raise BadInput("labels: all classes count as one and the same label; two are needed")
    return Common(
        tuple(next(i for i, members in enumerate(common) if name in members) for name in ours),
        tuple(common.index(sets[name]) for name in theirs),
    )


def _check(ours: Sequence[str], theirs: Sequence[str], labels: Mapping[str, Sequence[str]]) -> None:
    """That they name all labels and all classes, and no other."""
    for name in labels:
        if name not in theirs:
            raise BadInput(f"labels: {name!r} is none of its labels; they are {', '.join(theirs)}")
    for name in theirs:
        if name not in labels:
            raise BadInput(f"labels: nothing is said of its label {name!r}")
    counted = [name for names in labels.values() for name in names]
    for name in counted:
        if name not in ours:
            raise BadInput(f"labels: {name!r} is no class of the training task; they are {', '.join(ours)}")
    for name in ours:
        if name not in counted:
            raise BadInput(
                f"labels: nothing is said of the class {name!r} of the training task; what does it count as?"
            )
