"""The dev set in two halves, at random: one scores the trials, the other the best of them without its optimism."""

from collections import Counter
from random import Random

from jaxft.errors import BadInput
from jaxft.tasks.source import Raw, Source


def split(source: Source, seed: int) -> Source:
    """The first half as "dev", larger by one where they differ, the second as "test"; each in the order of the whole.

    A second dev set stays whole. Raises BadInput where there is a test set, where dev has fewer than 4 examples, and
    where a half has one class only, or one number.
    """
    if "test" in source.splits:
        raise BadInput("task.split_dev: not together with task.test: the second half of dev is the test set")
    dev = source.splits["dev"]
    count = len(dev.texts)
    if count < 4:
        raise BadInput(f"task.split_dev: the dev set has {count} examples; 4 or more are needed for two halves")
    draw = Random(seed).random  # of all that `random` draws, only this stream is the same in every Python
    drawn = sorted((draw(), place) for place in range(count))
    middle = (count + 1) // 2
    halves = {"dev": drawn[:middle], "test": drawn[middle:]}
    places = {name: sorted(place for _, place in half) for name, half in halves.items()}
    chosen = {
        name: Raw([dev.texts[i] for i in where], [dev.labels[i] for i in where]) for name, where in places.items()
    }
    for name, half in chosen.items():
        _check(source, seed, "first" if name == "dev" else "second", half.labels)
    return source._replace(splits=source.splits | chosen)


def _check(source: Source, seed: int, which: str, labels: list[int] | list[float]) -> None:
    if len(set(labels)) > 1:
        return
    only = source.labels[int(labels[0])] if source.labels else labels[0]
    there = Counter(source.splits["dev"].labels)
    raise BadInput(
        f"task.split_dev: with seed {seed} all {len(labels)} examples of the {which} half have the label {only!r}, as "
        f"{there[labels[0]]} of the dev set's {there.total()} have; each half needs two: another seed, or more examples"
    )
