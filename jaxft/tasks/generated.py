"""The generated task: does a sentence speak well of its subject? Made by code on every load, without any file.

"the sad king is less cruel than the dog" is good, "the honest thief is not polite" is bad. What surrounds the
predicate says nothing about the label, and "not" and "less" turn it around: in `TURNED` of the sentences, so a reader
of single words is right in 1 - TURNED of them. The encoder has read such sentences, but never a label.
"""

from random import Random

from jaxft.assets import grammar
from jaxft.config import TaskConfig
from jaxft.tasks.source import Raw, Source

LABELS = ("bad", "good")
WAYS = {
    "state": ("one is quality", "one is not -quality"),
    "degree": ("one is more quality than other", "one is less -quality than other"),
}
TURNED = 0.3
SIZES = {"train": 800, "dev": 256}


def read(config: TaskConfig) -> Source:
    """The splits, each half good and half bad; no sentence is in two of them."""
    rng, seen = Random(0), set()
    splits = {}
    for split, size in SIZES.items():
        texts, labels = [], []
        while len(texts) < size:
            label = len(texts) % 2
            sentence = write(label, rng)
            if sentence not in seen:
                seen.add(sentence)
                texts.append((sentence, None))
                labels.append(label)
        splits[split] = Raw(texts, labels)
    return Source(splits, LABELS, "accuracy")


def write(label: int, rng: Random) -> str:
    """A sentence with this label."""
    kind = rng.choice(list(WAYS))
    what = grammar.meaning(rng, (kind,))
    quality = what.roles["quality"]
    assert isinstance(quality, int)
    # Even concepts are good; opposites differ in the last bit.
    what.roles["quality"] = quality - quality % 2 + (label == 0)
    return grammar.say(what, rng, WAYS[kind][rng.random() < TURNED])
