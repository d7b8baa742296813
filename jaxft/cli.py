"""The command line. It loads jax only once the study has been read and checked."""

import os
import shlex
import signal
import sys
from collections.abc import Sequence

from jaxft import __version__, config, trials
from jaxft.check import explain
from jaxft.errors import BadInput
from jaxft.spec import nearest
from jaxft.study import Study

DONE, BAD_INPUT, STOPPED = 0, 2, 3

COMMANDS = {
    "run": "Train the trials that the study's run folder does not hold yet; the same command again goes on.",
    "plan": "Say what run would do: trials, programs, slots, memory, steps, time. Nothing is trained.",
}

ABOUT = f"""usage: jaxft run STUDY.yaml [--key.sub value ...]
       jaxft plan STUDY.yaml [--key.sub value ...]
       jaxft --version

Fine-tune many seed variants of one pretrained encoder at once.

  run    {COMMANDS["run"]}
  plan   {COMMANDS["plan"]}

`jaxft run --help` explains every key of a study.
Exit codes: 0 done, 2 bad input, 3 stopped: the same command goes on where it was.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0 done, 2 bad input, 3 stopped and resumable."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _command(words)
    except BadInput as error:
        print("jaxft:", " ".join(str(error).splitlines()), file=sys.stderr)
        return BAD_INPUT


def devices(study: Study) -> None:
    """Gives a CPU as many virtual devices as the study asks for, or one per core; no other platform cares.

    Must be called before jax looks for devices. A number set by XLA_FLAGS or JAX_NUM_CPU_DEVICES stays.
    """
    import jax

    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if chosen or jax.config.values["jax_num_cpu_devices"] > 0:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", cores if study.pool.devices == "auto" else study.pool.devices)


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
            return _work(command, rest)
    raise BadInput(f"unknown command {words[0]!r}; {nearest(words[0], [*COMMANDS, '--help', '--version'])}")


def _work(command: str, words: list[str]) -> int:
    if not words or words[0].startswith("-"):
        raise BadInput(f"{command}: expected a study, such as jaxft {command} STUDY.yaml")
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        study = config.load(words[0], words[1:])
        trials.expand(study)  # what is wrong with seeds, sweep or method shows before jax takes its time to load
        devices(study)
        if command == "plan":
            from jaxft.forecast import describe, plan

            print(describe(study, plan(study)))
        else:
            from jaxft.train import run

            run(study)
        return DONE
    except KeyboardInterrupt:
        print(f"\njaxft: stopped; go on with: {shlex.join(['jaxft', command, *words])}", file=sys.stderr)
        return STOPPED
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(signum, frame) -> None:
    raise KeyboardInterrupt


def _help(command: str) -> str:
    return f"""usage: jaxft {command} STUDY.yaml [--key.sub value ...]

{COMMANDS[command]}

STUDY.yaml holds any of these keys, nested (train: {{lr: 3e-5}}). The same keys on the command line win over
those in the file. Relative paths, in the file too, are relative to the current directory. `base: other.yaml` begins
with the keys of another study, whose file is relative to this one's.

{explain()}"""
