"""A small English of our own: meanings, and the ways to say each of them.

The tiny encoder is pretrained on pairs of sentences that mean the same; the generated task is made of the same words.
"""

from random import Random
from typing import NamedTuple

# One concept to an entry: words that mean the same. Concepts 2k and 2k + 1 are opposites in all but beings and things;
# of verbs and qualities the even ones are kind and good.
WORDS: dict[str, list[tuple[str, ...]]] = {
    "being": [
        ("boy", "lad"), ("girl", "lass"), ("doctor", "physician"), ("dog", "hound"), ("cat", "feline"),
        ("teacher", "instructor"), ("thief", "robber"), ("sailor", "seaman"), ("soldier", "warrior"),
        ("king", "monarch"), ("lawyer", "attorney"), ("writer", "author"), ("student", "pupil"),
        ("pilot", "aviator"), ("cook", "chef"), ("guard", "sentry"), ("singer", "vocalist"), ("beggar", "pauper"),
        ("farmer", "peasant"), ("merchant", "trader"),
    ],
    "verb": [
        ("loved", "adored"), ("hated", "detested"), ("praised", "lauded"), ("blamed", "accused"),
        ("trusted", "believed"), ("doubted", "suspected"), ("hired", "employed"), ("fired", "dismissed"),
        ("healed", "cured"), ("injured", "wounded"), ("freed", "released"), ("captured", "seized"),
        ("welcomed", "greeted"), ("ignored", "avoided"), ("defended", "protected"), ("attacked", "assaulted"),
    ],
    "quality": [
        ("kind", "gentle"), ("cruel", "brutal"), ("honest", "truthful"), ("false", "deceitful"),
        ("happy", "glad"), ("sad", "gloomy"), ("clever", "smart"), ("stupid", "foolish"), ("rich", "wealthy"),
        ("poor", "needy"), ("brave", "bold"), ("timid", "fearful"), ("quick", "fast"), ("slow", "sluggish"),
        ("calm", "peaceful"), ("angry", "furious"), ("strong", "powerful"), ("weak", "feeble"),
        ("polite", "courteous"), ("rude", "impolite"),
    ],
    "deed": [
        ("spoke", "talked"), ("hushed", "paused"), ("laughed", "giggled"), ("cried", "wept"), ("arrived", "came"),
        ("departed", "left"), ("started", "began"), ("finished", "ended"), ("rose", "climbed"), ("fell", "dropped"),
    ],
    "thing": [
        ("book", "volume"), ("car", "automobile"), ("picture", "image"), ("gift", "present"), ("coat", "jacket"),
        ("cup", "mug"), ("stone", "rock"), ("boat", "ship"), ("bag", "sack"), ("letter", "note"), ("hat", "cap"),
        ("sofa", "couch"),
    ],
    "place": [
        ("inside the house", "inside the home"), ("outside the house", "outside the home"),
        ("within the forest", "within the woods"), ("beyond the forest", "beyond the woods"),
        ("before the shop", "before the store"), ("behind the shop", "behind the store"),
        ("above the street", "above the road"), ("below the street", "below the road"),
    ],
}  # fmt: skip
ROLES = {"one": "being", "other": "being", "second": "deed", "trait": "quality"} | {
    name: name for name in WORDS if name != "being"
}

# Kinds of meaning, and the ways to say each. "-quality" is said by the opposite.
KINDS: dict[str, tuple[str, ...]] = {
    "action": ("one verb other", "other was verb by one"),
    "scene": ("one verb other place", "place one verb other", "other was verb by one place"),
    "cause": ("one verb other for being quality", "one verb other for not being -quality"),
    "despite": ("one verb other despite being quality", "one verb other despite not being -quality"),
    "both": ("one is quality and trait", "one is trait and quality"),
    "yet": ("one is quality but trait", "one is trait but quality"),
    "state": ("one is quality", "one is not -quality"),
    "degree": (
        "one is more quality than other",
        "other is more -quality than one",
        "other is less quality than one",
        "one is less -quality than other",
    ),
    "order": ("one deed before other second", "other second after one deed", "after one deed other second"),
    "transfer": ("one gave other the thing", "one gave the thing to other", "other got the thing from one"),
}
LEADS = {"quality": "verb", "trait": "quality"}  # the role whose sign decides the sign of this one
POLAR = ("cause", "both", "state", "degree")  # in these, like goes with like
ADJECTIVE = 0.4  # share of beings with a quality of their own


class Being(NamedTuple):
    """Who, and what they are like; the quality may be absent."""

    who: int
    like: int | None


class Meaning(NamedTuple):
    """What a sentence says: its kind, and the concept in each role."""

    kind: str
    roles: dict[str, int | Being]


def meaning(rng: Random, kinds: tuple[str, ...] = tuple(KINDS)) -> Meaning:
    """Any meaning of these kinds.

    Who is good is treated well for it, and badly despite it; "and" joins two good qualities or two bad ones, "but" a
    good and a bad one. So the text tells good from bad without naming them.
    """
    kind = rng.choice(kinds)
    roles: dict[str, int | Being] = {}
    who = rng.sample(range(len(WORDS["being"])), 2)
    for role in KINDS[kind][0].split():
        if role not in ROLES:
            continue
        concepts = len(WORDS[ROLES[role]])
        if ROLES[role] == "being":
            like = rng.randrange(len(WORDS["quality"])) if rng.random() < ADJECTIVE else None
            roles[role] = Being(who.pop(), like)
        elif LEADS.get(role) in roles:
            lead = roles[LEADS[role]]
            assert isinstance(lead, int)
            roles[role] = rng.randrange(concepts // 2) * 2 + (lead % 2 ^ (kind in ("despite", "yet")))
        else:
            roles[role] = rng.randrange(concepts)
    return Meaning(kind, roles)


def say(what: Meaning, rng: Random, way: str | None = None) -> str:
    """The meaning in words: in this way, or in any."""
    said = []
    for word in (way or rng.choice(KINDS[what.kind])).split():
        role = word.removeprefix("-")
        concept = what.roles.get(role)
        if concept is None:
            said.append(word)
        elif isinstance(concept, Being):
            like = [] if concept.like is None else [rng.choice(WORDS["quality"][concept.like])]
            said += ["the", *like, rng.choice(WORDS["being"][concept.who])]
        else:
            said.append(rng.choice(WORDS[ROLES[role]][concept ^ (word != role)]))
    return " ".join(said)


def words() -> list[str]:
    """Every word of the language, sorted."""
    phrases = [phrase for concepts in WORDS.values() for concept in concepts for phrase in concept]
    phrases += [
        word for ways in KINDS.values() for way in ways for word in way.split() if word.removeprefix("-") not in ROLES
    ]
    return sorted({"the"}.union(*(phrase.split() for phrase in phrases)))
