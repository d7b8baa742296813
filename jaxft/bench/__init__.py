"""`jaxft bench`: how fast a study trains here, beside others and beside what the machine can. No jax until it runs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from jaxft import members
from jaxft.bench import record
from jaxft.errors import BadInput
from jaxft.members import nearest, spec
from jaxft.study import Study, config

__all__ = ["ABOUT", "Asked", "read", "run"]

PEERS = ("padded", "longest", "compiled", "single")
OPTIONAL = ("ensemble",)  # to be asked for: its search goes over widths too
LENGTHS = ("mrpc", "rte", "cola", "sst2")
DEFAULTS = {
    "widths": "1,2,4,8",
    "peers": "all",
    "methods": None,
    "rounds": "5",
    "lengths": None,
    "seconds": "10",
    "record": "jaxft-bench.jsonl",
    "profile": None,
}

ABOUT = """usage: jaxft bench [STUDY.yaml] [option ...] [--key.sub value ...]

Measure how fast a study trains on this machine: ours at several widths, and a loop of single runs with transformers
and torch, in turns; and beside them what the machine can do at most. Without STUDY: the embedded encoder.

  --widths 1,2,4,8    how many replicas at once, on all devices together, evenly on as many as divide it; 1 is
                      one device.
  --peers LIST        all, none, or some of: padded (torch, each batch padded to task.max_length, as run_glue
                      does), longest (each batch to its longest), compiled (the same with torch.compile, the
                      faster of the two), single (ours, one replica at a time). torch is an extra: jaxft[bench].
                      Not in all, to be asked for as in all,ensemble: ensemble (torch.func, several replicas at
                      once, up to the most of --widths).
  --methods LIST      instead of all that: each of these methods against vanilla, at the most of --widths, without
                      peers: time of a step, memory, time to compile. all (at their defaults), or a list such as
                      lora,mixout(p=0.1); a method that does not fit the model has a row that says why.
  --rounds 5          turns of each side; figures are medians over them.
  --lengths NAME      instead of the study's task one of random words that is as long as mrpc, rte, cola or sst2.
  --seconds 10        of training in one turn, about; at least one step.
  --record FILE       where a line of JSON is added for each finished row; jaxft-bench.jsonl if not given.
  --profile FOLDER    write a profile of one block of the widest pool, as jax.profiler has it.
  --model NAME        as in a study, or such an encoder with random weights, written to a temporary folder: minilm,
                      bert-base, bert-large, roberta-base, roberta-large, electra-large, deberta-v3-large, bart-large.

All other keys are those of a study: see jaxft run --help. How to read the tables: jaxft/bench/README.md.
Exit codes: 0 done, 2 bad input, 3 stopped: rows with at least one round are printed and recorded.
"""


class Asked(NamedTuple):
    """What is to be measured."""

    study: Study
    widths: list[int]
    peers: list[str]
    methods: list[str]
    """To be compared with each other instead of with peers, vanilla first; none: not asked for."""
    rounds: int
    lengths: str | None
    seconds: float
    record: Path
    profile: str | None


def read(words: Sequence[str]) -> Asked:
    """The words of the command line, checked.

    Raises:
        BadInput: an option or a key of the study cannot be used, or the record cannot be written.
    """
    values, others = dict(DEFAULTS), []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in DEFAULTS:
            others.append(word)
        elif not equals and (not rest or rest[0].startswith("--")):
            raise BadInput(f"bench: --{name}: a value is missing")
        else:
            values[name] = value if equals else rest.pop(0)
    path = others.pop(0) if others and not others[0].startswith("-") else None
    known, given = (*PEERS, *OPTIONAL), values["peers"].split(",")
    wanted = [] if given == ["none"] else [name for word in given for name in (PEERS if word == "all" else [word])]
    for name in wanted:
        if name not in known:
            raise BadInput(f"bench: --peers: unknown peer {name!r}; {nearest(name, (*known, 'all', 'none'))}")
    if values["lengths"] not in (None, *LENGTHS):
        raise BadInput(
            f"bench: --lengths: unknown lengths {values['lengths']!r}; {nearest(values['lengths'], LENGTHS)}"
        )
    widths = {_number("widths", text, int, "positive integers such as 1,2,4,8") for text in values["widths"].split(",")}
    asked = Asked(
        study=config.load(path, others),
        widths=sorted(widths | ({1} if "single" in wanted else set())),
        peers=[name for name in known if name in wanted],
        methods=_methods(values["methods"]) if values["methods"] is not None else [],
        rounds=_number("rounds", values["rounds"], int, "a positive integer"),
        lengths=values["lengths"],
        seconds=_number("seconds", values["seconds"], float, "a number above 0"),
        record=Path(values["record"]),
        profile=values["profile"],
    )
    record.check(asked.record)
    return asked


def run(asked: Asked) -> bool:
    """Measures, prints and records. Returns False if it was interrupted.

    Raises:
        BadInput: the study, a width or a file cannot be used; nothing has been measured then.
    """
    from jaxft.bench import inputs
    from jaxft.bench.methods import Comparison
    from jaxft.bench.session import Session

    session = Comparison(asked) if asked.methods else Session(asked)
    with TemporaryDirectory(prefix="jaxft-bench-") as folder:
        try:
            session.measure(inputs.made(asked.study, asked.lengths, Path(folder)))
            return True
        except KeyboardInterrupt:
            return False
        finally:
            session.finish()


def _methods(text: str) -> list[str]:
    """Vanilla, and those that a list names, each once."""
    found: dict[str, str] = {}
    for method in ["vanilla", *(members.names() if text == "all" else _apart(text))]:
        try:
            bound = spec.write(spec.bind(spec.parse(method)))
        except BadInput as error:
            raise BadInput(f"bench: --methods: {error}") from None
        found.setdefault(bound, method)
    return list(found.values())


def _apart(text: str) -> list[str]:
    """Specs with commas between them; those inside of parentheses are theirs."""
    found, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            found.append("")
        else:
            found[-1] += letter
    return [method.strip() for method in found]


def _number(name: str, text: str, kind: Callable[[str], Any], accepted: str) -> Any:
    try:
        value = kind(text)
        if not 0 < value < 1e9:
            raise ValueError
        return value
    except ValueError:
        raise BadInput(f"bench: --{name}: expected {accepted}, found {text!r}") from None
