"""The command line. It loads jax only once the study has been read and checked."""

import os
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

from jaxft import __version__, machine
from jaxft.errors import BadInput, Note
from jaxft.members import nearest
from jaxft.study import Study, config, options, trials
from jaxft.study.check import explain

DONE, BAD_INPUT, STOPPED = 0, 2, 3

_LEAVING = threading.Lock()

COMMANDS = {
    "run": "Train the trials that the study's run folder does not hold yet; the same command again goes on.",
    "plan": "Say what run would do: trials, programs, slots, memory, steps, time, and what other chips would take. "
    "Nothing is trained.",
}

ABOUT = f"""usage: jaxft run STUDY.yaml [option ...] [--key.sub value ...]
       jaxft plan STUDY.yaml [--key.sub value ...]
       jaxft bench [STUDY.yaml] [option ...] [--key.sub value ...]
       jaxft watch RUN [--plain] [--once]
       jaxft report RUN|SCORES [RUN|SCORES ...] --out DIR
       jaxft export RUN --trial ID|--best N|--soup KIND --out DIR [--at best]
       jaxft export RUN [RUN ...] --json FILE [--where COLUMN=VALUE ...]
       jaxft predict CHECKPOINT [CHECKPOINT ...] --file FILE --out PREDICTIONS.csv
       jaxft doctor
       jaxft --version

Fine-tune many seed variants of one pretrained encoder at once.

  run     {COMMANDS["run"]}
  plan    {COMMANDS["plan"]}
  bench   Measure how fast a study trains here, beside transformers and torch, and beside what the machine can.
  watch   Follow a run from anywhere: the seeds coloured by score, curves, what was dropped, the time left.
  report  Say what the seeds decided: figures and statistics in one HTML page, of run folders and files of scores.
  export  Write trained trials as checkpoints that Hugging Face loads, or all scores for analyses elsewhere.
  doctor  Say what is here, devices, versions, folders, and what stands in the way, with what to do.
  predict Label the texts of a file by trained checkpoints.

`jaxft run --help` explains every key of a study.
Exit codes: 0 done, 2 bad input, 3 stopped: the same command goes on where it was.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0 done, 2 bad input, 3 stopped and resumable."""
    words = list(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # of torch, which it would like and we do not need
    try:
        with _notes():
            return _command(words)
    except BadInput as error:
        _say(error)
        return BAD_INPUT


def _say(what: object) -> None:
    print("jaxft:", " ".join(str(what).splitlines()), file=sys.stderr)


@contextmanager
def _notes() -> Iterator[None]:
    """Within it a Note is one plain line, each time; other warnings are as ever."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message, category, *where, **more) -> None:
            if issubclass(category, Note):
                _say(message)
            else:
                usual(message, category, *where, **more)

        warnings.simplefilter("always", Note)
        warnings.showwarning = show
        yield


def _command(words: list[str]) -> int:
    match words:
        case [] | ["-h" | "--help", *_]:
            print(ABOUT, end="")
            return DONE
        case ["--version"]:
            print("jaxft", __version__)
            return DONE
        case [command, *rest] if command in COMMANDS:
            if {"-h", "--help"} & set(rest):
                print(_help(command), end="")
                return DONE
            return _run(rest) if command == "run" else _plan(rest)
        case ["bench", *rest]:
            return _bench(rest)
        case ["doctor" | "export" | "predict" | "report" | "watch" as command, *rest]:
            if {"-h", "--help"} & set(rest):
                print(options.HELP[command], end="")
                return DONE
            own = {"doctor": _doctor, "export": _export, "predict": _predict, "report": _report, "watch": _watch}
            return own[command](rest)
    known = [*COMMANDS, "bench", *options.HELP, "--help", "--version"]
    raise BadInput(f"unknown command {words[0]!r}; {nearest(words[0], known)}")


def _plan(words: list[str]) -> int:
    try:
        with _terminable():
            study = _study("plan", words)
            from jaxft.forecast import describe, plan

            print(describe(study, plan(study)))
            return DONE
    except KeyboardInterrupt:
        return _stopped("plan", words)


def _run(words: list[str]) -> int:
    rest, how = options.read(words)
    try:
        with _terminable():
            study = _study("run", rest, processes=how.place[1] or 1 if how.place else 1)
            from jaxft import tracking
            from jaxft.engine import processes
            from jaxft.loop import flight
            from jaxft.loop.train import run

            track = tracking.load_all(how.track)
            if how.place is None:
                run(study, track=track, shard=how.shard, fresh=how.fresh)
                return DONE
            processes.join(processes.Place(*how.place), lambda error: _alone(error, words))
            try:
                run(study, track=track, fresh=how.fresh)
                return DONE
            except flight.Stopped:
                raise  # all of them agreed on it
            # The others may be gone, or wait for this one in vain: leave them alone.
            except (processes.Lost, BadInput) as error:
                _alone(error, words)
            except KeyboardInterrupt:
                processes.leave(_stopped("run", words))
    except KeyboardInterrupt:
        return _stopped("run", words)


def _study(command: str, words: list[str], processes: int = 1) -> Study:
    """The study, checked, and jax made ready for it."""
    if not words or words[0].startswith("-"):
        raise BadInput(f"{command}: expected a study, such as jaxft {command} STUDY.yaml")
    study = config.load(words[0], words[1:])
    trials.expand(study)  # what is wrong with seeds, sweep or method shows before jax takes its time to load
    machine.divide(study.pool.devices, processes)
    machine.keep_programs()
    return study


def _stopped(command: str, words: list[str]) -> int:
    again = [word for word in words if word != "--fresh"]  # what was set down now is to be taken up
    print(f"\njaxft: stopped; go on with: {shlex.join(['jaxft', command, *again])}", file=sys.stderr)
    return STOPPED


def _alone(error: Exception, words: list[str]) -> NoReturn:
    """Ends a process of several without the others. Two threads may find out that one is gone; one of them says it."""
    from jaxft.engine import processes

    _LEAVING.acquire()
    _say(error)
    processes.leave(BAD_INPUT if isinstance(error, BadInput) else _stopped("run", words))


def _bench(words: list[str]) -> int:
    from jaxft import bench

    if {"-h", "--help"} & set(words):
        print(bench.ABOUT, end="")
        return DONE
    asked = bench.read(words)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs memory of the same GPU
    machine.divide(asked.study.pool.devices)
    with _terminable():
        if bench.run(asked):
            return DONE
    _say("bench: stopped; rows that had a round are kept")
    return STOPPED


def _export(words: list[str]) -> int:
    asked = options.exported(words)
    try:
        with _terminable():
            if asked.json is None:
                return _checkpoints(asked)
            from jaxft import release
            from jaxft.folder import store

            count = release.write([store.load(folder) for folder in asked.runs], asked.json, asked.where)
    except KeyboardInterrupt:
        _say(f"stopped; again with: {shlex.join(['jaxft', 'export', *words])}")
        return STOPPED
    print(f"{asked.json}: {count} trials")
    return DONE


def _checkpoints(asked: options.Export) -> int:
    from jaxft.folder import store

    machine.divide(store.load(asked.runs[0]).study.pool.devices)
    machine.keep_programs()
    from jaxft.trained.export import export

    for one in export(asked.runs[0], str(asked.out), asked.trials, asked.best, asked.at, asked.soup):
        print(f"{one.folder}: {one.what}; {one.said}")
    return DONE


def _predict(words: list[str]) -> int:
    checkpoints, given = options.sorted_out("predict", words, ("file", "out", "text", "text-pair"))
    if not checkpoints or not given["file"] or not given["out"] or any(len(values) > 1 for values in given.values()):
        raise BadInput(
            "predict: expected checkpoints, one file of texts and one for what is predicted, such as jaxft predict "
            "model --file new.tsv --out labels.csv"
        )
    machine.keep_programs()
    from jaxft.trained.predict import predict, write

    try:
        with _terminable():
            found = predict(checkpoints, given["file"][0], *(next(iter(given[n]), None) for n in ("text", "text-pair")))
            write(found, given["out"][0])
    except KeyboardInterrupt:
        _say(f"stopped; again with: {shlex.join(['jaxft', 'predict', *words])}")
        return STOPPED
    print(
        f"{given['out'][0]}: {len(found.values)} rows, by {len(checkpoints)} checkpoint{'s' * (len(checkpoints) > 1)}"
    )
    return DONE


def _doctor(words: list[str]) -> int:
    if words:
        raise BadInput(f"doctor: takes no words, found {words[0]!r}")
    from jaxft.doctor import doctor

    return DONE if doctor() else BAD_INPUT


def _watch(words: list[str]) -> int:
    runs, given = options.sorted_out("watch", words, (), ("plain", "once"))
    if len(runs) != 1:
        raise BadInput("watch: expected one run folder, such as jaxft watch runs/mrpc")
    from jaxft.follow.watch import watch

    with suppress(KeyboardInterrupt), _terminable():
        watch(runs[0], plain=True if given["plain"] else None, once=bool(given["once"]))
    return DONE


def _report(words: list[str]) -> int:
    sources, given = options.sorted_out("report", words, ("out", "metric"))
    if not sources or len(given["out"]) != 1 or len(given["metric"]) > 1:
        raise BadInput(
            "report: expected run folders or files of scores, and one folder, such as jaxft report runs/mrpc --out page"
        )
    from jaxft import report

    try:
        with _terminable():
            page = report.build(sources, given["out"][0], *given["metric"])
    except KeyboardInterrupt:
        _say(f"stopped; again with: {shlex.join(['jaxft', 'report', *words])}")
        return STOPPED
    print(page)
    return DONE


@contextmanager
def _terminable() -> Iterator[None]:
    """Within it SIGTERM is an interrupt, as Ctrl-C."""

    def interrupt(signum, frame) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _help(command: str) -> str:
    own = options.RUN + "\n" if command == "run" else ""
    return f"""usage: jaxft {command} STUDY.yaml [--key.sub value ...]

{COMMANDS[command]}

{own}STUDY.yaml holds any of these keys, nested (train: {{lr: 3e-5}}). The same keys on the command line win over
those in the file. Relative paths, in the file too, are relative to the current directory. `base: other.yaml`
begins with the keys of another study, whose file is relative to this one's.

{explain()}"""
