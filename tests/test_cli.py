import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

import jaxft
from jaxft import cli, machine
from jaxft.study import KEYS, options
from jaxft.study.config import load


@pytest.fixture
def called(tmp_path, monkeypatch):
    """Stands in for the engine: the commands that reached it, with their study."""
    called = []

    def fake(command):
        return lambda study, **how: called.append((command, study))

    train = SimpleNamespace(run=fake("run"))
    plan = SimpleNamespace(plan=fake("plan"), describe=lambda study, plans: f"the plan of {study.name}")
    monkeypatch.setitem(sys.modules, "jaxft.loop.train", train)
    monkeypatch.setitem(sys.modules, "jaxft.forecast", plan)
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text("train: {lr: 1}")
    return called


def python(code: str, **env: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join(p for p in sys.path if p)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", **env}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("words", "shard", "fresh", "place"),
    [
        (["s.yaml"], None, False, None),
        (["s.yaml", "--fresh", "--shard", "3/8"], (3, 8), True, None),
        (["--shard=8/8", "s.yaml", "--train.lr", "1"], (8, 8), False, None),
        (["s.yaml", "--distributed", "auto"], None, False, (None, None, None)),
        (["s.yaml", "--distributed=h:1", "--process", "0", "--processes=2"], None, False, ("h:1", 2, 0)),
    ],
)
def test_the_options_of_run(words, shard, fresh, place):
    rest, how = options.read(words)
    assert (how.shard, how.fresh, how.place) == (shard, fresh, place)
    assert rest == [word for word in words if word == "s.yaml" or "lr" in word or word == "1"]


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_command_gets_the_study(called, command, capsys):
    assert cli.main([command, "s.yaml", "--seeds.init=1..2", "--name", "x"]) == 0
    assert called == [(command, load("s.yaml", ["--seeds.init=1..2", "--name", "x"]))]
    assert capsys.readouterr().out == ("the plan of x\n" if command == "plan" else "")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["run"], "run: expected a study, such as jaxft run STUDY.yaml"),
        (["run", "s.yaml", "--shard"], "run: --shard: a value is missing"),
        (
            ["run", "s.yaml", "--shard", "9/8"],
            "--shard: expected I/N, the I-th of N shares, such as 1/8 to 8/8; found '9/8'",
        ),
        (
            ["run", "s.yaml", "--shard", "1/2", "--distributed", "auto"],
            "run: --shard and --distributed: give one of them; a share runs in one process",
        ),
        (["run", "s.yaml", "--distributed", "h"], "run: --distributed: expected auto or HOST:PORT, found 'h'"),
        (
            ["run", "s.yaml", "--distributed", "h:70000"],
            "run: --distributed: expected auto or HOST:PORT, found 'h:70000'",
        ),
        (["run", "s.yaml", "--distributed", "h:1"], "run: --distributed HOST:PORT needs --processes and --process too"),
        (["run", "s.yaml", "--process", "1"], "run: --processes and --process go with --distributed HOST:PORT"),
        (
            ["run", "s.yaml", "--distributed", "h:1", "--processes", "2", "--process", "2"],
            "run: --process 2: with --processes 2 they count from 0 to 1",
        ),
        (
            ["run", "s.yaml", "--distributed", "h:1", "--processes", "x", "--process", "2"],
            "run: --processes: expected a whole number, found 'x'",
        ),
        (["run", "--train.lr", "1"], "run: expected a study, such as jaxft run STUDY.yaml"),
        (["rnu", "s.yaml"], "unknown command 'rnu'; did you mean run?"),
        (
            ["zebra", "x"],
            "unknown command 'zebra'; known: --help, --version, bench, doctor, export, plan, predict, report, run, "
            "watch",
        ),
        (
            ["run", "missing.yaml"],
            "missing.yaml: cannot be read: No such file or directory; expected a study in YAML",
        ),
        (["run", "s.yaml", "--train.lr", "a"], "train.lr: expected a number of at least 0, found 'a'"),
        (
            ["plan", "s.yaml", "--seeds.init", "3..1"],
            "seeds.init: the range 3..1 is empty: expected the smaller end first",
        ),
        (["plan", "s.yaml", "--method", "vanila"], "method: unknown method 'vanila'; did you mean vanilla?"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(called, capsys, words, line):
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"jaxft: {line}\n")
    assert called == []


def test_help_explains_every_key(capsys):
    assert cli.main(["run", "--help"]) == 0
    text = capsys.readouterr().out
    lines = {line.split()[0] for line in text.splitlines() if line.startswith("  --")}
    assert lines == {f"--{key}" for key in KEYS} | {"--sweep.KEY", "--shard", "--fresh", "--track", "--distributed"}
    assert "relative to the current directory" in " ".join(text.split())
    assert "peak learning rate. [a number of at least 0; 2e-05]" in text
    assert max(map(len, text.splitlines())) <= 110


def test_help_and_version(capsys):
    assert cli.main([]) == cli.main(["--help"]) == cli.main(["--version"]) == 0
    assert f"jaxft {jaxft.__version__}" in capsys.readouterr().out.splitlines()


def test_help_and_bad_input_do_not_load_jax():
    code = """
import sys
from jaxft.cli import main
good = ["--help", "run --help", "export --help", "bench --help", "report --help"]
codes = [main(w.split()) for w in [*good, "run missing.yaml", "rnu", "export x", "report x", "bench --widths 0"]]
from jaxft.study import config, trials
trials.expand(config.load(None))
print(codes, [m for m in ("jax", "flax", "transformers", "numpy", "pandas") if m in sys.modules])
"""
    assert python(code).stdout.splitlines()[-1] == "[0, 0, 0, 0, 0, 2, 2, 2, 2, 2] []"


@pytest.mark.parametrize(
    ("code", "env", "expected"),
    [
        ("auto", {}, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        ("3", {}, 3),
        ("3", {"JAX_NUM_CPU_DEVICES": "5"}, 5),
        ("3", {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}, 4),
    ],
)
def test_virtual_devices(code, env, expected):
    found = python(
        "from jaxft import machine; from jaxft.study import config;"
        f"machine.divide(config.load(None, ['--pool.devices={code}']).pool.devices);"
        "import jax; print(jax.local_device_count())",
        **env,
    )
    assert found.stdout.split() == [str(expected)], found.stderr


@pytest.mark.parametrize(
    ("flags", "widest"),
    [
        ("fpu sse2 avx avx2 avx512f avx512dq", "avx512f"),
        ("fpu sse2 avx avx2", "avx2"),
        ("fp asimd sve", "sve"),
        ("x86_64", None),
    ],
)
def test_the_widest_vectors(monkeypatch, flags, widest):
    monkeypatch.setattr(machine, "processor", lambda *fields: flags)
    assert machine.vectors() == widest


STOPPABLE = """
import sys, time, types
def run(study, **how):
    print("training", flush=True)
    time.sleep(60)
sys.modules["jaxft.loop.train"] = types.SimpleNamespace(run=run)
from jaxft.cli import main
sys.exit(main(["run", "my study.yaml", "--fresh", "--train.lr", "1"]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_with_exit_3_and_says_how_to_go_on(tmp_path, number):
    (tmp_path / "my study.yaml").write_text("name: x")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", STOPPABLE]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout.readline() == "training\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 3
    assert err.split("\n")[-2] == "jaxft: stopped; go on with: jaxft run 'my study.yaml' --train.lr 1"  # not --fresh
    assert "Traceback" not in err


def test_python_m_jaxft():
    found = subprocess.run(
        [sys.executable, "-m", "jaxft", "rnu"], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert (found.returncode, found.stderr) == (2, "jaxft: unknown command 'rnu'; did you mean run?\n")


def test_programs_are_kept_in_the_users_cache_unless_a_place_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.values["jax_compilation_cache_dir"]
    try:
        machine.keep_programs()
        assert jax.config.values["jax_compilation_cache_dir"] == before
        jax.config.update("jax_compilation_cache_dir", None)
        machine.keep_programs()
        folder = Path(jax.config.values["jax_compilation_cache_dir"])
        assert folder.parent == tmp_path / "jaxft"
        assert folder.name.startswith("xla-")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
