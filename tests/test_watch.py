import io
import json
import math
import time

import pytest
from endings import ended, study
from rich.console import Console
from studies import Quiet
from studies import study as real
from toys import settings

from jaxft import cli
from jaxft.folder import Folder
from jaxft.folder.store import Store
from jaxft.follow import live, view
from jaxft.follow.live import Live
from jaxft.follow.news import Begun, Flying, News
from jaxft.follow.view import Shown
from jaxft.follow.watch import Reader, lines, watch
from jaxft.loop import train
from jaxft.study.trials import expand


def plain(found) -> list[str]:
    return [line.plain for line in found]


def news(ends=(), flying=()) -> News:
    return News(2, ends, 100, 1.0, 0.9, 10, 0, True, (), lambda: flying)


def folder(path, asked, ends):
    """A run folder with these endings, given as (status, reason, score) of the first trials."""
    trials = expand(asked)
    store = Store.open(path, asked, {}, trials)
    for trial, end in zip(trials, ends, strict=False):
        store.append([ended(trial, *end)])
    return store


SOME = [("completed", "", 0.9), ("completed", "", 0.5), ("stopped", "one_class", 0.6)]


def test_a_cell_says_in_a_letter_what_its_colour_says():
    trials = expand(study())
    known = {
        trials[0].id: Shown(True, "", 8, [0.2, 0.9, 0.7]),
        trials[1].id: Shown(True, "one_class", 8, [0.4]),
        trials[2].id: Shown(False, "", 4, [0.4]),
        trials[3].id: Shown(False, "", 0, []),
    }
    found = plain(view.body(trials, known, 80, 40))
    assert found[:4] == ["  order 1 to 2", "1 9 C ", "2 0 + ", "3 . . "]
    assert found[4].split("  ") == [
        "0 0.4000",
        "9 0.9000",
        "bare: in training",
        "+ no score yet",
        ". to come",
        "C one class",
    ]
    assert found[5:8] == ["", "best", "0.9000  ▁█▆               init 1, order 1, step 8, over"]
    assert [line.split()[0] for line in found[8:]] == ["0.4000", "dropped", "0.4000"]
    assert found[-1].endswith("init 1, order 2, step 8, one class")


def test_the_best_and_the_worst_are_no_trial_twice():
    trials = expand(study(**{"seeds.init": "1..7", "seeds.order": 1}))
    known = {trial.id: Shown(True, "", 8, [0.1 * n]) for n, trial in enumerate(trials)}
    found = plain(view.body(trials, known, 80, 40))
    at = found.index("best"), found.index("worst")
    assert [line[:6] for line in found[at[0] + 1 : at[1]]] == ["0.6000", "0.5000", "0.4000", "0.3000", "0.2000"]
    assert [line[:6] for line in found[at[1] + 1 :]] == ["0.0000", "0.1000"]


@pytest.mark.parametrize("width", [1, 7, 30, 80, 120, 200])
@pytest.mark.parametrize("height", [0, 3, 8, 24, 60])
@pytest.mark.parametrize(
    "leaves",
    [
        {"seeds.init": "1..25", "seeds.order": "1..25"},
        {
            "seeds.init": "1..5",
            "seeds.order": "1..5",
            "sweep": {"train.lr": [1e-5, 2e-5, 3e-5], "method": ["vanilla", "lora"]},
        },
        {"seeds.init": "1..4", "seeds.order": "1..4", "seeds.rows": [{"init": n, "order": n} for n in range(300)]},
    ],
    ids=["grid", "grids", "rows"],
)
def test_it_fits_the_window(width, height, leaves):
    trials = expand(study(**leaves))
    known = {
        trial.id: Shown(n % 3 > 0, "majority" * (n % 7 == 1), n, [n / 300, math.nan]) for n, trial in enumerate(trials)
    }
    found = view.body(trials, known, width, height)
    assert len(found) <= height
    assert max((line.cell_len for line in found), default=0) <= width


def test_settings_lie_side_by_side_with_their_names():
    trials = expand(study(sweep={"train.lr": [1e-5, 2e-5], "method": ["vanilla", "lora"]}))
    found = plain(view.body(trials, {trials[0].id: Shown(True, "", 8, [0.5])}, 120, 40))
    parts = ["method vanilla, lr 1e-05", "method lora, lr 1e-05", "method vanilla, lr 2e-05", "method lora, lr 2e-05"]
    assert all(part in found[0] for part in parts)
    assert sum(line.count("order 1 to 2") for line in found) == 4


def test_a_terminal_without_block_letters_has_others():
    trials = expand(study())
    found = plain(view.body(trials, {trials[0].id: Shown(True, "", 8, [0.2, 0.9])}, 80, 40, ascii_only=True))
    assert "\n".join(found).isascii()


def test_what_a_run_tells_is_written_at_most_once_a_second_and_gone_at_its_end(tmp_path):
    now = [10.0]
    teller = Live(clock=lambda: now[0])
    store = folder(tmp_path / "run", study(), SOME[:1])
    trial = expand(study())[1]
    file = tmp_path / "run" / "live" / "now-2of3.json"
    teller.start(Begun(study(), str(tmp_path / "run"), 6, 1, "-2of3"))
    assert json.loads(file.read_text())["blocks"] == 0
    teller.block(news(flying=[Flying(trial, 4, 8, [0.25])]))
    assert json.loads(file.read_text())["blocks"] == 0, "too soon"
    now[0] += 1
    teller.block(news(flying=[Flying(trial, 6, 8, [0.25, 0.5])]))
    (heard,) = live.hear(Folder.at(tmp_path / "run"), 60, time.time()).parts
    assert (heard.total, heard.running, heard.blocks, heard.seconds) == (6, 2, 2, 1.0)
    assert heard.rate == pytest.approx(100)
    assert heard.flying == [(trial.id, 6, 8, [0.25, 0.5])]
    assert live.hear(Folder.at(tmp_path / "run"), 60, time.time() + 100).parts == [], "silent for too long"
    teller.finish("")
    assert not file.exists()
    store.close()


def test_a_run_that_cannot_write_it_goes_on(tmp_path):
    teller = Live()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "live").write_text("in the way")
    teller.start(Begun(study(), str(tmp_path / "run"), 6, 1))
    teller.block(news())
    teller.stop()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"written": 1}', "null", '{"written": "x"}'])
def test_what_is_garbled_is_passed_over(tmp_path, content):
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "now.json").write_text(content)
    assert live.hear(Folder.at(tmp_path), 60, time.time()) == ([], [])


def test_a_run_is_seen_as_its_rows_and_its_word_have_it(tmp_path):
    store = folder(tmp_path / "run", study(), SOME)
    trials = expand(study())
    reader = Reader(str(tmp_path / "run"))
    seen = reader.look(time.time())
    assert lines(seen) == [
        "3 of 6 trials, no process is running; jaxft run goes on",
        "dropped 1 (one class 1)",
        "best accuracy 0.9000 (init 1, order 1, step 4)",
    ]
    for key in ("", "-p1"):
        teller = Live()
        teller.start(Begun(study(), str(tmp_path / "run"), 6, 3, key))
        assert key or "compiling" in lines(reader.look(time.time()))[0]
        teller._last = -math.inf
        teller.block(news(flying=[Flying(trials[4 if key else 3], 4, 8, [0.3])]))
    store.append([ended(trials[5], score=0.95)])
    seen = reader.look(time.time())
    assert {name for name, shown in seen.known.items() if not shown.over} == {trials[3].id, trials[4].id}
    first, second, third = lines(seen)
    assert first.startswith("4 of 6 trials, 2 running, ")
    assert "block 1, 100 examples/s, host 10.0% of the time" in second, "of two processes the first counts"
    assert "0.9500" in third
    assert seen.known[trials[0].id].scores == [0.9, 0.9]
    store.close()


def test_watching_ends_with_the_run(tmp_path):
    store = folder(tmp_path / "run", study(), SOME)
    left = expand(study())[3:]
    out = io.StringIO()
    console = Console(file=out, width=80, highlight=False, color_system=None)

    def work(seconds):
        assert seconds == 1.0
        store.append([ended(left.pop())])
        if not left:
            store.close()

    watch(str(tmp_path / "run"), plain=True, console=console, sleep=work)
    said = out.getvalue().splitlines()
    assert [line[:11] for line in said[:4]] == [f"{n} of 6 trial"[:11] for n in (3, 4, 5, 6)]
    assert "6 of 6 trials, all are over" in said[3]
    assert "best dev accuracy; a row per init seed, a column per order seed" in said


def test_one_look(tmp_path, capsys):
    folder(tmp_path / "run", study(), SOME).close()
    assert cli.main(["watch", str(tmp_path / "run"), "--once"]) == 0
    assert capsys.readouterr().out.startswith("3 of 6 trials, no process is running")


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "expected one run folder"), (["a", "b"], "expected one run folder"), (["nowhere"], "not a run folder"),
     (["a", "--onse"], "did you mean --once?")],
)  # fmt: skip
def test_bad_input_is_one_line(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["watch", *words]) == cli.BAD_INPUT
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1


class Looks(Quiet):
    """Watches the run that it follows, after every block."""

    def __init__(self, path):
        super().__init__()
        self.path, self.seen = path, []

    def block(self, news):
        super().block(news)
        self.seen.append((Reader(str(self.path)).look(time.time()), list(news.flying())))


@pytest.mark.usefixtures("monkeypatch")
def test_a_real_run_is_seen_from_outside(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "EVERY", 0.0)
    asked = real(settings(tmp_path), tmp_path, seeds={"init": "1..2", "order": "1..2"})
    looks = Looks(tmp_path / "run")
    train.run(asked, progress=looks)
    assert len(looks.seen) > 2
    seen, flying = looks.seen[-2]
    assert seen.heard.parts[0].total == 4
    for one in flying:
        assert 0 < one.step <= one.total
        assert len(one.scores) >= 1
    over = Reader(str(tmp_path / "run")).look(time.time())
    assert over.done == 4
    assert over.heard == ([], [])
    last = {name: shown.scores for name, shown in over.known.items()}
    for seen, _ in looks.seen:
        for name, step, total, scores in seen.heard.flying:
            assert last[name][: len(scores)] == scores, "its curve so far is the beginning of its curve"
            assert step <= total
