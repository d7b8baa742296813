import struct
import subprocess
import sys
import types

import endings
import numpy as np
import pytest
import studies
import toys
from endings import study

from jaxft import cli, tracking
from jaxft.errors import BadInput
from jaxft.folder.store import load
from jaxft.follow.news import Begun, News
from jaxft.loop import train
from jaxft.study.trials import expand


class Kept:
    """A writer that keeps what it is told."""

    def __init__(self):
        self.points, self.curves, self.closed = [], {}, 0

    def numbers(self, values, step):
        self.points.append((step, values))

    def curve(self, name, points):
        self.curves[name] = points

    def close(self):
        self.closed += 1


def followed(now):
    kept = Kept()
    return tracking.Tracker(lambda study, folder: kept, clock=lambda: now[0]), kept


def news(ended=()) -> News:
    return News(2, ended, 100, 2.0, 1.5, 10, 0, True)


def test_totals_come_every_ten_seconds_and_a_few_curves_at_the_end(tmp_path):
    place = endings.folder(tmp_path / "run", study(), dropped=(2,))
    trials = expand(study())
    now = [0.0]
    tracker, kept = followed(now)
    tracker.start(Begun(study(), str(place), 6, 0))
    for second in range(25):
        now[0] = second
        tracker.block(news([endings.ended(trials[0], score=0.75)] if second == 5 else ()))
    assert [step for step, _ in kept.points] == [1, 11, 21]
    values = kept.points[1][1]
    assert values["trials/over"] == 1
    assert values["best/accuracy"] == 0.75
    assert values["speed/examples per second"] == 50
    assert values["speed/host share"] == pytest.approx(0.25)
    assert "best/accuracy" not in kept.points[0][1]
    tracker.finish(str(place))
    assert kept.closed == 1
    scores = np.sort(load(place).trials["best_score"].dropna())
    expected = dict(kept.curves["expected best accuracy of n trials"])
    assert list(expected) == list(range(1, len(scores) + 1))
    assert expected[1] == pytest.approx(scores.mean())
    pairs = np.maximum(scores[:, None], scores[None, :]).mean()
    assert expected[2] == pytest.approx(pairs), "over all draws of two, with replacement"
    names = [name.partition(":")[0] for name in kept.curves if name.startswith("accuracy/")]
    assert names == [f"accuracy/{each}" for each in ("best 1", "best 2", "best 3", "middle", "worst")]
    best = next(points for name, points in kept.curves.items() if "best 1" in name)
    assert max(score for _, score in best) == scores[-1]
    assert [step for step, _ in best] == [4, 8]


def test_a_run_that_fails_closes_what_it_writes_to():
    tracker, kept = followed([0.0])
    tracker.start(Begun(study(), "nowhere", 6, 0))
    tracker.stop()
    tracker.stop()
    assert kept.closed == 1


def events(folder) -> dict[str, list[tuple[int, float]]]:
    """The scalars of TensorBoard's event files, by tag."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", reason="needs the extra `tracking`")
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack("<Q", data[at : at + 8])
            event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


@pytest.mark.filterwarnings("default")  # of protobuf
def test_a_run_in_tensorboard(tmp_path, capsys):
    pytest.importorskip("tensorboardX", reason="needs the extra `tracking`")
    asked = studies.study(toys.light(tmp_path), tmp_path, seeds={"init": 1, "order": "1..2"})
    train.run(asked, progress=studies.Quiet(), track=tracking.load_all(["tensorboard"]))
    run = load(tmp_path / "run")
    found = events(tmp_path / "run" / "tensorboard")
    assert found["trials/over"][-1][1] == 2
    best = run.trials["best_score"].max()
    assert found["best/accuracy"][-1][1] == pytest.approx(best)
    (curve,) = (points for name, points in found.items() if name.startswith("accuracy/best_1"))
    assert max(score for _, score in curve) == pytest.approx(best)
    train.run(asked, progress=studies.Quiet(), track=tracking.load_all(["tensorboard"]))  # again: the folder is taken


@pytest.fixture
def client(monkeypatch):
    """What stands for the package wandb: it keeps what it is told."""
    told = types.SimpleNamespace(config=None, logged=[], finished=0)

    def finish():
        told.finished += 1

    def init(**how):
        told.config = how
        return types.SimpleNamespace(log=lambda values, step=None: told.logged.append((step, values)), finish=finish)

    plot = types.SimpleNamespace(line=lambda table, x, y, title: (title, table))
    fake = types.SimpleNamespace(init=init, Table=lambda columns, data: data, plot=plot, told=told)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return told


def test_a_run_in_wandb_is_one_run(client, tmp_path):
    place = endings.folder(tmp_path / "run", study())
    (tracker,) = tracking.load_all(["wandb(project='seeds', mode='offline')"])
    tracker.start(Begun(study(name="mine"), str(place), 6, 5))
    tracker.block(news())
    tracker.finish(str(place))
    assert client.config["project"] == "seeds"
    assert client.config["mode"] == "offline"
    assert client.config["name"] == "mine"
    assert client.config["config"]["train.lr"] == study().train.lr
    assert client.logged[0][0] == 1
    assert client.logged[0][1]["trials/over"] == 5
    assert any("expected best" in name for _, values in client.logged for name in values)
    assert client.finished == 1


def test_wandb_itself_takes_it(tmp_path):
    """Offline: it writes to a folder and asks nobody."""
    pytest.importorskip("wandb", reason="needs the extra `tracking`")
    endings.folder(tmp_path / "run", study())
    code = (
        "from jaxft import tracking; from jaxft.follow.news import Begun, News; from jaxft.study import Study;"
        "(t,) = tracking.load_all([\"wandb(mode='offline')\"]); t.start(Begun(Study(), 'run', 6, 0));"
        "t.block(News(2, (), 100, 2.0, 1.5, 10, 0, True)); t.finish('run')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True, timeout=120)
    (kept,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert b"expected best accuracy of n trials" in kept.read_bytes()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tensorbord", "did you mean tensorboard?"),
        ("wandb(projekt='x')", "wandb has no argument 'projekt'"),
        ("wandb(project=1)", "expected text in quotes"),
        ("wandb(mode='maybe')", "expected '' or 'online' or 'offline'"),
        ("tensorboard(", "expected names with keyword arguments"),
    ],
)
def test_bad_specs_are_one_line(text, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text("name: s\n")
    assert cli.main(["run", "s.yaml", "--track", text]) == cli.BAD_INPUT
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_package_that_is_not_there_is_named(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BadInput, match=rf"needs {package} .*pip install 'jaxft\[tracking\]'"):
        tracking.load_all([name])


def test_events_on_an_object_store_are_refused():
    (tracker,) = tracking.load_all(["tensorboard"])
    with pytest.raises(BadInput, match="writes to a disk"):
        tracker.start(Begun(study(), "memory://run", 6, 0))
