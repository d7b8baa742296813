"""The generated task: does a sentence speak well of its subject? Made by code on every load, without any file.

"the sad king is less cruel than the dog" is good, "the honest thief is not polite" is bad. What surrounds the
predicate says nothing about the label. "not" and "less" turn it around in `TURNED` of the sentences, so that reading
single words is right in 1 - TURNED of them. Each quality has two words: the training set says it by the first, the dev
set by either, so that half of a score is about words of which only the pretraining has told anything.
"""

from random import Random

from jaxft.study.config import TaskConfig
from jaxft.tasks import grammar
from jaxft.tasks.source import Raw, Source, refuse

LABELS = ("bad", "good")
WAYS = {
    "state": ("one is {}", "one is not {}"),
    "degree": ("one is more {} than other", "one is less {} than other"),
}
TURNED = 0.2
SIZES = {"train": 800, "dev": 256}


def read(config: TaskConfig) -> Source:
    """The splits, each half good and half bad; no sentence comes twice.

    Raises:
        BadInput: a key is set that is about files.
    """
    files = ("path", "train", "dev", "test", "text", "text_pair", "label", "labels", "regression")
    refuse(config, files, "the generated task has no files; this key is for others")
    rng = Random(0)
    splits: dict[str, Raw] = {}
    seen: set[str] = set()
    for split, size in SIZES.items():
        raw = Raw([], [])
        while len(raw.texts) < size:
            label = len(raw.texts) % 2
            sentence = write(label, 0 if split == "train" else rng.randrange(2), rng)
            if sentence not in seen:
                seen.add(sentence)
                raw.texts.append((sentence, None))
                raw.labels.append(label)
        splits[split] = raw
    return Source(splits, LABELS, "accuracy")


def write(label: int, word: int, rng: Random) -> str:
    """A sentence with this label, whose predicate is the first or the second `word` of a quality."""
    kind = rng.choice(list(WAYS))
    turned = rng.random() < TURNED
    # Even concepts are good, and the next one is the opposite.
    concept = 2 * rng.randrange(len(grammar.WORDS["quality"]) // 2) + ((label == 0) ^ turned)
    way = WAYS[kind][turned].format(grammar.WORDS["quality"][concept][word])
    return grammar.say(grammar.meaning(rng, (kind,)), rng, way)
