import io
import re
import types

import endings
import pytest
from endings import ended, study
from rich.console import Console

from jaxft.folder.store import Store, load
from jaxft.follow.grid import clean, grid
from jaxft.follow.news import Begun, News, Tally, duration
from jaxft.follow.progress import Progress
from jaxft.study.trials import expand


def followed(live: bool, width: int = 80, encoding: str = "utf-8"):
    """A progress on a clock that stands still, and what it has written so far."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    clock = types.SimpleNamespace(now=100.0)
    console = Console(file=file, width=width, highlight=False, force_terminal=live, color_system=None)

    def written() -> str:
        file.flush()
        return file.buffer.getvalue().decode(encoding)

    return Progress(console, live=live, clock=lambda: clock.now), clock, written


def begun(total, done) -> Begun:
    return Begun(study(), "runs/none", total, done)


def news(running, ended, examples, seconds, *, taken=10, idle=0, waiting=True) -> News:
    """Of a block in which the devices worked for nine tenths of the time."""
    return News(running, ended, examples, seconds, 0.9 * seconds, taken, idle, waiting)


def screen(text: str) -> list[str]:
    """What a terminal shows of it: lines, with the cursor moved up and lines erased."""
    lines, row = [""], 0
    for part in re.split(r"(\x1b\[[0-9;]*[A-Za-z]|\n)", text):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.startswith("\x1b"):
            assert part in ("\x1b[1A", "\x1b[2K"), f"unexpected {part!r}"
            row, lines[row] = (row - 1, lines[row]) if part == "\x1b[1A" else (row, "")
        else:
            lines[row] += part
    return lines


def test_plain_lines_come_at_most_once_a_second_and_not_without_need():
    progress, clock, written = followed(live=False)
    trials = expand(study())
    progress.start(begun(6, 1))
    progress.compiled(1.5)
    assert written() == "6 trials, 1 over already; compiling\ncompiled in 1.5 s\n"
    clock.now += 0.5
    progress.block(news(2, [ended(trials[0], "stopped", "one_class")], 100, 0.1))
    before = written()
    assert before.endswith("compiled in 1.5 s\nfirst step 0.4 s after the start\n")  # and no more so soon
    clock.now += 1.0
    progress.block(news(2, [], 100, 0.1))
    line = written().removeprefix(before)
    assert line.startswith("2 s: 2 of 6 trials, 2 running, about ")
    assert "dropped 1 (one class 1), block 2, 1,000 examples/s, best accuracy 0." in line
    assert line.count("\n") == 1
    before = written()
    for _ in range(4):
        clock.now += 1
        progress.block(news(2, [], 100, 0.1))
    assert written() == before  # nothing happened, and five seconds are not over
    clock.now += 1
    progress.block(news(2, [], 100, 0.1))
    assert written().removeprefix(before).count("\n") == 1
    assert "\x1b" not in written()


def test_a_terminal_shows_the_last_state_in_place():
    progress, clock, written = followed(live=True)
    trials = expand(study())
    progress.start(begun(6, 0))
    progress.compiled(2.0)
    for number, trial in enumerate(trials):
        clock.now += 1
        progress.block(news(2, [ended(trial)], 1000, 0.5))
        shown = screen(written())
        assert shown[:2] == ["6 trials, 0 over already; compiling", "compiled in 2.0 s"]
        assert shown[2] == "first step 0.6 s after the start"
        assert len(shown) <= 24  # of a terminal with 25 lines
        assert f"] {number + 1} of 6 trials, {min(2, 5 - number)} running" in shown[3]
        assert f"block {number + 1}, 2,000 examples/s" in shown[4]
    before = written()
    progress.block(news(2, [], 1000, 0.5))
    assert written() == before  # within the same second
    assert screen(written())[3].startswith(f"[{'#' * 20}]")


def test_lines_of_a_narrow_terminal_do_not_wrap():
    progress, clock, written = followed(live=True, width=30)
    progress.start(begun(6, 0))
    for trial in expand(study()):
        clock.now += 1
        progress.block(news(2, [ended(trial, "stopped", "one_class")], 1000, 0.5))
    shown = screen(written())
    assert all(len(line) < 30 for line in shown)
    assert len(shown) <= 24


def test_the_end_says_all_that_is_needed(tmp_path):
    progress, _, written = followed(live=False)
    place = endings.folder(tmp_path / "run", study(), dropped=(2,))
    progress.start(begun(6, 6))
    progress.finish(place)
    text = written()
    assert text.startswith("all 6 trials are over already\n\nbest dev accuracy; a row per init seed")
    assert f'pandas.read_parquet("{place.as_posix()}/trials")' in text
    assert f"JAXFT_RUN={place.as_posix()}\n" in text


def test_time_left_counts_slots_and_what_running_trials_have_behind_them():
    trials = expand(study())
    tally = Tally(total=6, done=0)
    assert tally.left is None
    tally.add(news(2, [], 10, 5.0))
    assert tally.left is None  # nothing is over: nothing to go by
    tally.add(news(2, [ended(trial)._replace(seconds=10.0) for trial in trials[:2]], 10, 5.0))
    assert tally.left == pytest.approx(20.0)  # four trials of 10 s in two slots
    tally.add(news(2, [], 10, 5.0))
    assert tally.left == pytest.approx(15.0)
    tally.add(news(2, [ended(trial)._replace(seconds=10.0) for trial in trials[2:4]], 10, 5.0))
    tally.add(news(2, [ended(trial)._replace(seconds=10.0) for trial in trials[4:]], 10, 10.0))
    assert (tally.left, tally.running, tally.done) == (None, 0, 6)


def test_the_best_so_far_is_never_one_that_has_no_score():
    trials = expand(study())
    tally = Tally(total=6, done=0)
    tally.add(news(2, [ended(trials[0], "diverged", "non_finite_loss")], 10, 1.0))
    assert tally.best is None
    ends = [ended(trials[1], score=0.7), ended(trials[2], score=0.8), ended(trials[3], score=0.6)]
    tally.add(news(3, ends, 10, 1.0))
    assert tally.best is ends[1]


def scored(path, asked, ends):
    """A run folder with these endings, given as (status, reason, score) of the trials in their order."""
    trials = expand(asked)
    store = Store.open(path, asked, {}, trials)
    store.append([ended(trial, *end) for trial, end in zip(trials, ends, strict=False)])
    return load(path)


def test_the_seed_grid_says_in_letters_what_it_says_in_colours(tmp_path):
    ends = [
        ("completed", "", 0.9),
        ("completed", "", 0.5),
        ("diverged", "non_finite_loss", None),
        ("stopped", "one_class", 0.6),
        ("stopped", "odd_policy", 0.65),
    ]
    text = grid(scored(tmp_path, study(), ends)).plain
    assert text.splitlines()[:5] == [
        "best dev accuracy; a row per init seed, a column per order seed",
        "        1      2",
        " 1  0.900* 0.500-",
        " 2     --N 0.600C",
        " 3  0.650O",
    ]
    assert "5 trials: 2 completed, 3 dropped: " in text
    for why in ("1 non finite loss (N)", "1 one class (C)", "1 odd policy (O)"):
        assert why in text
    assert "1 completed, but ended no better than a constant prediction (-)" in text
    assert "best 0.9000 (*): init 1, order 1, step 4" in text
    assert "of 4 evaluated: mean 0.6625" in text


@pytest.mark.parametrize("score", [0.876, -0.04])
def test_25_by_25_seeds_fit_on_80_columns(tmp_path, score):
    asked = study(**{"seeds.init": "1..25", "seeds.order": "1..25"})
    run = scored(tmp_path, asked, [("completed", "", score)] * 625)
    lines = grid(run, 80).plain.splitlines()
    assert "in hundredths" in lines[0]
    assert len(lines[1].split()) == 25
    for init, line in enumerate(lines[2:27], start=1):
        assert line.split()[0] == str(init)
        assert line.count(f"{100 * score:.0f}") == 25
    assert max(map(len, lines[:27])) <= 80


def test_a_wider_grid_comes_in_bands(tmp_path):
    asked = study(**{"seeds.init": "1..2", "seeds.order": "1000..1033"})
    lines = grid(scored(tmp_path, asked, [("completed", "", 1.0)] * 68), 80).plain.splitlines()
    assert max(map(len, lines[:12])) <= 80
    orders = [order for line in lines[1:10:3] for order in line.split()]
    assert orders == [str(order) for order in range(1000, 1034)]


def test_settings_have_a_grid_each(tmp_path):
    asked = study(sweep={"train.lr": [1e-5, 2e-5]})
    text = grid(scored(tmp_path, asked, [("completed", "", 0.7 + n / 100) for n in range(12)])).plain
    assert text.count("a row per init seed") == 2
    assert "train.lr 1e-05\nbest dev" in text
    assert text.count("*") == 2  # one cell, and its line
    assert "best 0.8100 (*): init 3, order 2, train.lr 2e-05" in text


@pytest.mark.parametrize(
    "leaves",
    [
        {"sweep": {"train.lr": [1e-5, 2e-5, 3e-5, 4e-5], "train.epochs": [1, 2]}},
        {
            "seeds.init": "1..4",
            "seeds.order": "1..4",
            "seeds.rows": [{"init": n, "order": n} for n in range(20)],
        },
        {"seeds.init": 1, "seeds.order": 1, "sweep": {"train.lr": [1e-5, 2e-5]}},
    ],
    ids=["sweep", "rows", "one"],
)
def test_what_is_no_grid_is_ranked(tmp_path, leaves):
    asked = study(**leaves)
    trials = expand(asked)
    ends = [("completed", "", 0.7 + n / 1000) for n in range(len(trials))]
    lines = grid(scored(tmp_path, asked, ends)).plain.splitlines()
    assert lines[0] == "best dev accuracy, and the final one"
    seeds = trials[-1].seeds
    assert re.match(rf" +1 +{ends[-1][2]:.4f}\* +0.\d+  init {seeds.init}, order {seeds.order}", lines[1])
    more = [line for line in lines if line.strip().startswith("and ")]
    assert [int(line.split()[1]) for line in more] == ([len(trials) - 15] if len(trials) > 15 else [])


def test_nothing_is_over_yet(tmp_path):
    assert "no trial is over yet" in grid(scored(tmp_path / "run", study(), [])).plain


def test_text_from_data_moves_no_cursor_and_is_no_markup(tmp_path):
    place = endings.folder(tmp_path / "a[red]b", study())
    progress, _, written = followed(live=False)
    progress.start(begun(6, 6))
    progress.finish(place)
    assert "a[red]b" in written()
    assert clean("a\x1b[2Jb\rc\nd") == "a?[2Jb?c?d"


def test_a_console_without_a_letter_shows_a_question_mark(tmp_path):
    place = endings.folder(tmp_path / "Grüße", study())
    progress, _, written = followed(live=False, encoding="ascii")
    progress.finish(place)
    assert f'pandas.read_parquet("{tmp_path.as_posix()}/Gr??e/trials")' in written()


def test_durations_are_for_people():
    assert [duration(x) for x in (3.4, 75, 3600 * 2 + 300)] == ["3 s", "1 min", "2 h 5 min"]


def test_the_use_of_slots_counts_until_the_queue_is_empty():
    tally = Tally(total=6, done=0)
    assert tally.use == "0 idle steps"
    tally.add(news(4, [], 0, 2.0, taken=37, idle=3))
    tally.add(news(4, [], 0, 2.0, taken=35, idle=5))
    assert tally.use == "slots busy 90.0% until the queue was empty, 8 idle steps, host 10.0% of the time"
    tally.add(news(1, [], 0, 2.0, taken=10, idle=1030, waiting=False))
    assert tally.use == "slots busy 90.0% until the queue was empty, 1,038 idle steps, host 10.0% of the time"
