"""The options of the command line, those of a study's keys aside. No jax here."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxft import trials
from jaxft.errors import BadInput
from jaxft.spec import nearest

RUN = """Options of run:
  --shard 3/8           only the third of eight shares of the trials, as in a job array: each share needs
                        nothing of the others, and may run in the same folder at the same time.
  --fresh               trials in flight start again; without it they go on from their last checkpoint.
  --distributed auto    share the work with the other processes of this job, all started alike: on Cloud TPU,
                        SLURM, Open MPI and Kubernetes they find each other. All devices are used.
  --distributed HOST:PORT --processes 4 --process 0
                        the same anywhere: the address of process 0, how many there are, and which this is.
"""

REPORT = """usage: jaxft report RUN|SCORES [RUN|SCORES ...] --out DIR [--metric NAME]

Say what the seeds decided, in one HTML page that needs nothing beside it: how good the best of n trials is, where the
variance comes from, which trials failed, what stopping early would have gained; of several studies, how they compare.

  RUN                   a run folder, also one of a study that goes on: its finished trials.
  SCORES                a CSV with columns init_seed, order_seed, score and maybe more (further seeds end in _seed;
                        with step, each row is an evaluation), a matrix (rows init seeds, columns order seeds), or
                        the schema of Dodge et al. 2020 as JSON.
  --out DIR             report.html, and tables/ with every table as CSV and JSON; an earlier report there is
                        replaced.
  --metric NAME         that scores the trials, such as accuracy; otherwise the study's own.

It needs the libraries of: pip install 'jaxft[analysis]'
"""


class How(NamedTuple):
    """What the options of run say."""

    shard: tuple[int, int] | None
    fresh: bool
    place: tuple[str | None, int | None, int | None] | None
    """Where this process stands among others; None: it is alone."""


def read(words: list[str]) -> tuple[list[str], How]:
    """The words that are no options of run, and what those say.

    Raises:
        BadInput: a value is missing, or is not one.
    """
    rest, given = sorted_out(
        "run", words, ("shard", "distributed", "processes", "process"), flags=("fresh",), strict=False
    )
    found = {name: values[-1] for name, values in given.items() if values}
    shard = trials.read_shard(found["shard"]) if "shard" in found else None
    if shard and "distributed" in found:
        raise BadInput("run: --shard and --distributed: give one of them; a share runs in one process")
    return rest, How(shard, "fresh" in found, _place(found))


def _place(found: Mapping[str, str]) -> tuple[str | None, int | None, int | None] | None:
    address, numbers = found.get("distributed"), [found.get(name) for name in ("processes", "process")]
    if address is None or address == "auto":
        if numbers != [None, None]:
            raise BadInput("run: --processes and --process go with --distributed HOST:PORT")
        return None if address is None else (None, None, None)
    host, colon, port = address.rpartition(":")
    if not host or not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise BadInput(f"run: --distributed: expected auto or HOST:PORT, found {address!r}")
    if None in numbers:
        raise BadInput("run: --distributed HOST:PORT needs --processes and --process too")
    for name, text in zip(("processes", "process"), numbers, strict=True):
        if not str(text).isdecimal():
            raise BadInput(f"run: --{name}: expected a whole number, found {text!r}")
    count, process = (int(str(text)) for text in numbers)
    if not process < count:
        raise BadInput(f"run: --process {process}: with --processes {count} they count from 0 to {count - 1}")
    return address, count, process


def sorted_out(
    command: str, words: Sequence[str], known: Sequence[str], flags: Sequence[str] = (), *, strict: bool = True
) -> tuple[list[str], dict[str, list[str]]]:
    """The words that belong to no option, and the values of each option: `--name value` or `--name=value`.

    Args:
        command: for messages.
        words: of the command line.
        known: options with a value.
        flags: options without one.
        strict: whether an option that is not known is refused; else it is among the other words.

    Raises:
        BadInput: an option is unknown, or has no value.
    """
    others, options, rest = [], {name: [] for name in (*known, *flags)}, list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("-") and strict and name not in options:
            raise BadInput(f"{command}: unknown option {word!r}; {nearest(f'--{name}', [f'--{k}' for k in known])}")
        if not word.startswith("--") or name not in options or (name in flags and equals):
            others.append(word)
        elif name in flags:
            options[name].append("")
        elif not equals and (not rest or rest[0].startswith("--")):
            raise BadInput(f"{command}: --{name}: a value is missing")
        else:
            options[name].append(value if equals else rest.pop(0))
    return others, options
