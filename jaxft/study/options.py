"""The options of the command line, those of a study's keys aside. No jax here."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxft.errors import BadInput
from jaxft.members import nearest
from jaxft.study import trials

RUN = """Options of run:
  --shard 3/8           only the third of eight shares of the trials, as in a job array: each share needs
                        nothing of the others, and may run in the same folder at the same time.
  --fresh               trials in flight start again; without it they go on from their last checkpoint.
  --track tensorboard   write totals, the best, and the curves of a few trials for TensorBoard, or for Weights
                        & Biases: --track "wandb(project='seeds')". May be repeated. Needs: pip install
                        'jaxft[tracking]'
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


EXPORT = """usage: jaxft export RUN --trial ID [--trial ID ...] --out DIR [--at best]
       jaxft export RUN --best N --out DIR [--at best]
       jaxft export RUN --soup greedy|uniform --out DIR
       jaxft export RUN [RUN ...] --json FILE [--where COLUMN=VALUE ...]

Write trained trials of a run folder as checkpoints, each with a model card, that transformers loads:
AutoModelForSequenceClassification.from_pretrained(DIR). The best that the run kept (eval.soups: 5) are taken
as they are; another trial is trained again from its seeds. The study's model and data have to be where they
were. With versions, width and devices as they were a trial is the same bit for bit; otherwise what differs
is said, and by how much its predictions do.

  --trial ID            a completed trial, by its id or the beginning of it; may be repeated.
  --best N              the N best by their score on dev.
  --soup KIND           greedy or uniform: of the averages of this kind that the run made at its end of the
                        trials that it kept (eval.soups), the one that scored best on dev.
  --out DIR             a new folder: of one trial its checkpoint, of several a folder each.
  --at best             as it was where its score on dev was best; otherwise as it was at its end.

Or write the finished trials of one or several run folders for analyses elsewhere.

  --json FILE           in the schema of Dodge et al. 2020, as JSON: by task, init seed and order seed, the
                        training loss of each step and every evaluation on dev. A file that is there is
                        replaced.
  --where COLUMN=VALUE  only the trials with this value, such as --where hp.train.lr=2e-5; may be repeated.
                        The schema knows no settings: of trials that differ in more than both seeds, choose.

`jaxft.release.read` reads the file again, and such files of others.
"""


PREDICT = """usage: jaxft predict CHECKPOINT [CHECKPOINT ...] --file FILE --out PREDICTIONS.csv [--text COLUMN]
                     [--text-pair COLUMN]

Label the texts of a file by a fine-tuned checkpoint, or by several, whose probabilities are averaged.

  CHECKPOINT            a folder that `jaxft export` wrote, or another with a head, as transformers saves it.
  --file FILE           .tsv, .csv or .jsonl, as the data of a task.
  --out PREDICTIONS.csv a row for each of the file's: label and p.CLASS, or value where a number is predicted. A
                        file that is there is replaced.
  --text COLUMN         the column of the texts; otherwise as in the study of the first checkpoint, or sentence.
  --text-pair COLUMN    the column of the second texts, if there are any; likewise.
"""


WATCH = """usage: jaxft watch RUN [--plain] [--once]

Follow a run by its folder, from any machine that sees it: how far it is, the seeds coloured by score, the
best, the worst and the dropped trials with their curves. It ends when all trials are over, or with Ctrl-C;
the run goes on.

  RUN                   a run folder, a path or a URL; jaxft run makes it when its model and data are loaded.
  --plain               a line whenever a trial is over, as for a log; so it is where there is no terminal.
  --once                one look, and out.

`jaxft run` shows the same on its own terminal. What a run tells lies in RUN/live while it goes on.
"""


DOCTOR = """usage: jaxft doctor

Say what is here: versions, devices, what is known of this version of jax on them, settings that change
results or speed, where programs and data are kept, which extras are installed; and what to do about what is
in the way. It exits with 2 if something is. Nothing is trained.
"""


HELP = {"doctor": DOCTOR, "export": EXPORT, "predict": PREDICT, "report": REPORT, "watch": WATCH}
"""Of the commands that take no study."""


class Export(NamedTuple):
    """What the words of export say: scores to a file, or trials to a folder."""

    runs: list[str]
    json: str | None
    where: dict[str, str]
    out: str | None
    trials: list[str]
    best: int | None
    at: str
    soup: str | None


class How(NamedTuple):
    """What the options of run say."""

    shard: tuple[int, int] | None
    fresh: bool
    place: tuple[str | None, int | None, int | None] | None
    """Where this process stands among others; None: it is alone."""
    track: list[str]
    """Specs of trackers."""


def read(words: list[str]) -> tuple[list[str], How]:
    """The words that are no options of run, and what those say.

    Raises:
        BadInput: a value is missing, or is not one.
    """
    rest, given = sorted_out(
        "run", words, ("shard", "track", "distributed", "processes", "process"), flags=("fresh",), strict=False
    )
    found = {name: values[-1] for name, values in given.items() if values}
    shard = trials.read_shard(found["shard"]) if "shard" in found else None
    if shard and "distributed" in found:
        raise BadInput("run: --shard and --distributed: give one of them; a share runs in one process")
    return rest, How(shard, "fresh" in found, _place(found), given["track"])


def exported(words: Sequence[str]) -> Export:
    """The words of export, read.

    Raises:
        BadInput: they say neither what to write nor where, or both.
    """
    runs, given = sorted_out("export", words, ("json", "where", "trial", "best", "soup", "out", "at"))
    apart = [name for name in ("trial", "best", "soup", "out", "at") if given[name]]
    once = all(len(given[name]) < 2 for name in ("json", "best", "soup", "out", "at"))
    if given["json"] and apart:
        raise BadInput(f"export: --json and --{apart[0]}: give one of them; scores and checkpoints are written apart")
    if not given["json"] and apart:
        if (
            len(runs) != 1
            or not given["out"]
            or not once
            or sum(bool(given[name]) for name in ("trial", "best", "soup")) != 1
            or given["where"]
            or (given["soup"] and given["at"])
        ):
            raise BadInput(
                "export: expected one run folder, --trial, --best or --soup, and a new folder, such as jaxft export "
                "runs/mrpc --best 1 --out model"
            )
    elif not runs or len(given["json"]) != 1:
        raise BadInput(
            "export: expected run folders and one file, such as jaxft export runs/mrpc --json mrpc.json; or --best 1 "
            "--out model"
        )
    where: dict[str, str] = {}
    for text in given["where"]:
        column, equals, value = text.partition("=")
        if not column or not equals or column in where:
            found = f"{column} twice" if column in where else repr(text)
            raise BadInput(f"export: --where: expected COLUMN=VALUE, such as hp.train.lr=2e-5, found {found}")
        where[column] = value
    for text in given["best"]:
        if not text.isdecimal() or int(text) < 1:
            raise BadInput(f"export: --best: expected a whole number from 1, found {text!r}")
    json, out, best, soup, at = (next(iter(given[name]), None) for name in ("json", "out", "best", "soup", "at"))
    return Export(runs, json, where, out, given["trial"], int(best) if best else None, at or "end", soup)


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
            raise BadInput(
                f"{command}: unknown option {word!r}; {nearest(f'--{name}', [f'--{k}' for k in (*known, *flags)])}"
            )
        if not word.startswith("--") or name not in options or (name in flags and equals):
            others.append(word)
        elif name in flags:
            options[name].append("")
        elif not equals and (not rest or rest[0].startswith("--")):
            raise BadInput(f"{command}: --{name}: a value is missing")
        else:
            options[name].append(value if equals else rest.pop(0))
    return others, options
