import csv
import html
import json
import re
import shutil
import subprocess
import sys
import warnings
from importlib import util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages import numbers, scores
from pages import read as parse

from jaxft import cli, report
from jaxft.errors import BadInput
from jaxft.report import about_seeds, about_training, chapters, figures, tables
from jaxft.report.figures import svg
from jaxft.report.page import FIRST, SHOWN, Chapter, render
from jaxft.stats import maximum, stopping, variance
from jaxft.stats.scores import read

SHARED = Path(__file__).parents[2] / "shared"
NASTY = '<script>alert("x")</script> & $\\frac{ <img src=x onerror=alert(1)>'


@pytest.fixture(scope="module", autouse=True)
def few_draws():
    """How early stopping is simulated is tested with its functions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(about_training, "DRAWS", 100)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A study of two tasks with curves, one of two settings, and the report about both."""
    folder = tmp_path_factory.mktemp("report")
    pd.concat([scores("rte", 7, 6, 8), scores("mrpc", 7, 6, 8, seed=1)]).to_csv(folder / "two.csv", index=False)
    rates = [scores("rte", 4, 4, 5, seed=2).assign(**{"hp.train.lr": rate}) for rate in (2e-5, 5e-5)]
    pd.concat(rates).to_csv(folder / "rates.csv", index=False)
    scores("rte", 3, 3, 3).to_csv(folder / "tiny.csv", index=False)
    report.build([folder / "two.csv", folder / "rates.csv"], folder / "out")
    return folder


@pytest.fixture(scope="module")
def page(place):
    return parse(place / "out" / "report.html")


def rows_of(place, name):
    return json.loads((place / "out" / "tables" / f"{name}.json").read_text())


def test_the_page_refers_to_nothing_outside(place, page):
    text = (place / "out" / "report.html").read_text()
    assert "http" not in re.sub(r'http-equiv="', "", text)
    assert not page.all("script")
    assert "@import" not in text
    for element in page.all():
        for name in ("src", "href", "xlink:href", "data", "action", "poster", "srcset"):
            value = element.attributes.get(name, "#")
            assert value.startswith(("#", "data:", "tables/")), (element.name, name, value[:80])
        assert not any(name.startswith("on") for name in element.attributes)
    assert all(where.startswith("#") for where in re.findall(r"url\(([^)]*)\)", text))
    (policy,) = [m.attributes["content"] for m in page.all("meta") if "http-equiv" in m.attributes]
    assert policy.startswith("default-src 'none'")


def test_every_reference_within_the_page_and_to_its_tables_leads_somewhere(place, page):
    text = (place / "out" / "report.html").read_text()
    names = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(names) == len(set(names))
    inside = re.findall(r"url\(#([^)]*)\)", text) + re.findall(r'href="#([^"]*)"', text)
    assert inside
    assert set(inside) <= set(names)
    files = re.findall(r'href="(tables/[^"]*)"', text)
    assert files
    assert all((place / "out" / name).is_file() for name in files)


def test_every_figure_has_a_sentence_with_numbers(page):
    drawn = page.all("figure")
    assert len(drawn) >= 4 * 7
    for figure in drawn:
        (caption,), (svg,) = figure.all("figcaption"), figure.all("svg")
        assert numbers(caption.text), caption.text
        assert caption.text.endswith(".")
        assert svg.attributes["role"] == "img"
        assert " ".join(svg.attributes["aria-label"].split()) == caption.text
        assert "viewbox" in svg.attributes


def test_each_study_has_every_part_and_each_part_says_something(place, page):
    studies = [study.name for name in ("two.csv", "rates.csv") for study in read(place / name)]
    assert len(studies) == 4
    for number in range(1, 5):
        for name in (
            "summary",
            "scores",
            "best",
            "variance",
            "densities",
            "failures",
            "stopping",
            "gradients",
            "needed",
        ):
            (part,) = page.all("section", id=f"study-{number}-{name}")
            said = part.all("figure") + part.all("table") + part.all(class_="refused") + part.all(class_="tile")
            assert said, part.text
    assert page.all(id="how")
    assert "statsmodels" in page.all("pre")[-1].text


def test_warnings_stand_with_the_numbers_that_they_are_about(page):
    (part,) = page.all("section", id="study-1-variance")
    assert "chosen after looking" in part.all(class_="warning")[0].text
    assert "corrected" in part.text
    (part,) = page.all("section", id="study-1-best")
    assert "not independent" in part.all(class_="warning")[0].text


def test_the_summary_has_the_main_numbers_in_words(place, page):
    study = read(place / "two.csv")[0]
    (part,) = page.all("section", id="study-1-summary")
    said = " ".join(p.text for p in part.all("p"))
    assert f"{study.trials['score'].max():.4f}" in said
    expected = maximum.expected_maximum(study).set_index("n").loc[5, "mean"]
    assert f"the best of 5 is expected to score {expected:.4f}" in said
    assert "of 42 trials did not converge" in said
    shares = variance.components(study).set_index("factor")["share"]
    assert f"{100 * shares['init_seed']:.1f}".removesuffix(".0") in said


def test_what_this_input_does_not_allow_says_why_in_its_place(page):
    (part,) = page.all("section", id="study-1-gradients")
    assert "grad" in part.all(class_="refused")[0].text.lower()
    (part,) = page.all("section", id="study-1-predictions")
    assert "run folder" in part.all(class_="refused")[0].text


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("expected_maximum", maximum.expected_maximum),
        ("expected_maximum_band", maximum.bands),
        ("by_budget", maximum.by_budget),
        ("anova", variance.anova),
        ("variance_components", variance.components),
        ("correlation", stopping.correlation),
    ],
)
def test_tables_are_what_the_functions_return(place, name, function):
    table = pd.DataFrame(rows_of(place, name))
    for study in (read(place / "two.csv")[1], read(place / "rates.csv")[0]):
        mine = table[table["study"] == study.name].drop(columns="study").reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, function(study), check_dtype=False, check_exact=True)


def test_csv_and_json_have_the_same_values(place):
    found = sorted(path.stem for path in (place / "out" / "tables").glob("*.csv"))
    assert found == sorted(path.stem for path in (place / "out" / "tables").glob("*.json"))
    assert set(found) <= set(chapters.NAMES)
    assert {"studies", "trials", "comparison", "across_tasks", "early_stopping_optimum", "failures"} <= set(found)
    for name in found:
        with (place / "out" / "tables" / f"{name}.csv").open(newline="") as file:
            lines = list(csv.DictReader(file))
        rows = rows_of(place, name)
        assert [list(line) for line in lines] == [list(row) for row in rows]
        for line, row in zip(lines, rows, strict=True):
            assert line == {key: "" if value is None else str(value) for key, value in row.items()}


def test_the_page_shows_the_numbers_of_its_tables(place, page):
    (part,) = page.all("section", id="study-1-variance")
    shown = part.all("table")[0]
    name = read(place / "two.csv")[0].name
    rows = [row for row in rows_of(place, "variance_components") if row["study"] == name]
    for line, row in zip(shown.all("tbody")[0].all("tr"), rows, strict=True):
        cells = [cell.text for cell in line.all("td")]
        assert cells[0] == row["factor"]
        assert f"{row['share']:.4f}".replace("-", "\N{MINUS SIGN}") in cells


def test_the_command_gives_the_same_bytes_and_takes_what_is_stale(place, tmp_path, capsys):
    one, two = tmp_path / "one", tmp_path / "two"
    (two / "tables").mkdir(parents=True)
    (two / "tables" / "ensembles.csv").write_text("of an earlier report")
    (two / "tables" / "mine.csv").write_text("mine")
    assert report.build([place / "tiny.csv"], one) == one / "report.html"
    assert cli.main(["report", str(place / "tiny.csv"), "--out", str(two)]) == 0
    assert capsys.readouterr() == (f"{two / 'report.html'}\n", "")
    mine = {path.relative_to(one): path.read_bytes() for path in one.rglob("*") if path.is_file()}
    his = {path.relative_to(two): path.read_bytes() for path in two.rglob("*") if path.is_file()}
    assert his.pop(Path("tables/mine.csv")) == b"mine"
    assert mine == his


def test_a_report_that_cannot_be_written_leaves_the_old_page(place, tmp_path, monkeypatch):
    (tmp_path / "report.html").write_text("old")
    monkeypatch.setattr(chapters, "compose", lambda studies, names: ("new", {}))

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tables.os, "replace", full)
        with pytest.raises(BadInput, match="No space left on device"):
            report.build([place / "tiny.csv"], tmp_path)
    assert (tmp_path / "report.html").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "tables"]
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"file: cannot be written \(.*\); give another --out"):
        report.build([place / "tiny.csv"], tmp_path / "file")


def test_text_from_data_is_escaped(tmp_path):
    source = tmp_path / "<b>&'.csv"
    frames = [scores(NASTY, 3, 2, 3, seed=i).assign(metric=NASTY, setting=text) for i, text in enumerate((NASTY, "x"))]
    pd.concat(frames).to_csv(source, index=False)
    page = parse(report.build([source], tmp_path / "out"))
    assert not page.all("script") + page.all("img") + page.all("b", class_="x")
    assert {bold.parent.attributes["class"] for bold in page.all("b")} <= {"tile", "refused"}
    assert not any(name.startswith("on") for element in page.all() for name in element.attributes)
    assert "<script>alert" in page.text
    assert "<b>&'.csv" in page.all("h2")[0].text + page.text


@pytest.mark.parametrize(
    ("made", "part", "reason"),
    [
        (lambda frame: frame[frame["order_seed"] == 1], "scores", "two seeds"),
        (lambda frame: frame[frame["order_seed"] == 1].head(4), "variance", "."),
        (lambda frame: frame.assign(score=0.5), "variance", "no variance"),
        (
            lambda frame: frame.drop(columns=["step", "epoch"]).drop_duplicates(["init_seed", "order_seed"]),
            "stopping",
            "curves",
        ),
    ],
    ids=["one factor", "one trial", "all equal", "no curves"],
)
def test_poor_sources_give_a_page_with_reasons(tmp_path, made, part, reason):
    made(scores("rte", 4, 3, 4)).to_csv(tmp_path / "s.csv", index=False)
    page = parse(report.build([tmp_path / "s.csv"], tmp_path / "out"))
    (found,) = page.all("section", id=f"study-1-{part}")
    refused = " ".join(each.text for each in found.all(class_="refused"))
    assert re.search(reason, refused), found.text
    assert all(numbers(caption.text) for caption in page.all("figcaption"))


def test_trials_without_a_score_are_told_of(tmp_path):
    frame = scores("rte", 4, 4, 4)
    frame["status"] = "completed"
    lost = (frame["init_seed"] == 2) & (frame["order_seed"] == 3)
    frame.loc[lost, "score"] = np.nan
    frame.loc[lost, "status"] = "diverged"
    frame.to_csv(tmp_path / "s.csv", index=False)
    page = parse(report.build([tmp_path / "s.csv"], tmp_path / "out"))
    (part,) = page.all("section", id="study-1-summary")
    assert "1 trial of 16 was never evaluated" in part.all(class_="warning")[0].text
    (part,) = page.all("section", id="study-1-scores")
    assert "1 cell without a score" in part.all("figcaption")[0].text
    (study,) = json.loads((tmp_path / "out" / "tables" / "studies.json").read_text())
    assert (study["trials"], study["unscored"], study["diverged"]) == (16, 1, 1)


def test_bad_sources_are_refused_before_anything_is_written(place, tmp_path):
    for sources, said in [
        ([], "at least one"),
        ([place / "two.csv", place / "two.csv"], "given twice"),
        ([tmp_path / "no.csv"], "no.csv"),
    ]:
        with pytest.raises(BadInput, match=said):
            report.build(sources, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_library_that_is_missing_is_named_with_the_command(place, tmp_path, monkeypatch):
    monkeypatch.setattr(
        report, "find_spec", lambda name: None if name in ("opda", "matplotlib") else util.find_spec(name)
    )
    with pytest.raises(
        BadInput, match=re.escape("matplotlib, opda not installed; needed: pip install 'jaxft[analysis]'")
    ):
        report.build([place / "two.csv"], tmp_path)


def test_the_help_of_the_command(capsys):
    assert cli.main(["report", "--help"]) == 0
    assert "usage: jaxft report RUN|SCORES" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["x.csv"], ["--out", "o"], ["x.csv", "--out", "a", "--out", "b"]])
def test_the_command_without_sources_or_folder(words, capsys):
    assert cli.main(["report", *words]) == 2
    expected = (
        "report: expected run folders or files of scores, and one folder, such as jaxft report runs/mrpc --out page"
    )
    assert capsys.readouterr().err == f"jaxft: {expected}\n"


def test_the_paper_s_numbers_are_on_the_page(tmp_path):
    source = SHARED / "dodge2020" / "digitized_best_val_rte.csv"
    if not source.is_file():
        pytest.skip("no scores of the paper: put its CSV files into ../shared/dodge2020")
    page = parse(report.build([source], tmp_path))
    (part,) = page.all("section", id="study-1-best")
    # FACTS of the paper, to the digits given: n = 1, 2, 5, 10, 50.
    assert "score 0.6260, 0.6656, 0.7073, 0.7268 and 0.7511" in part.all("figcaption")[0].text
    (part,) = page.all("section", id="study-1-variance")
    assert "init seed 3.9 %" in part.all("figcaption")[0].text


def test_no_figure_needs_pyplot():
    """A report must not depend on a display, or disturb a notebook's figures."""
    code = "import sys, jaxft.report.chapters; print('matplotlib.pyplot' in sys.modules, 'jax' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert found.stdout.split() == ["False", "False"], found.stderr


def test_the_warning_about_the_paper_s_test_is_not_empty():
    assert "0.05 nearly always" in about_seeds.CHOSEN_AFTER


@pytest.fixture(scope="module")
def browser():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name):
            return name
    pytest.skip("no Chromium on this machine")


@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser_nothing_is_wider_than_the_window_and_the_console_is_silent(place, browser, tmp_path, width):
    text = (place / "out" / "report.html").read_text()
    # Measured from around it, since the page itself forbids scripts; windows under 500 pixels are not to be had.
    measure = "f.contentDocument.documentElement.scrollWidth + '/' + f.contentWindow.innerWidth"
    (tmp_path / "around.html").write_text(
        f'<!doctype html><title></title><iframe id="f" style="border: 0; width: {width}px; height: 900px" '
        f'srcdoc="{html.escape(text)}"></iframe><script>onload = () => {{ document.title = {measure} }}</script>'
    )
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr",
        "--window-size=1400,1000", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
    ]  # fmt: skip
    found = subprocess.run(
        [browser, *flags, f"file://{tmp_path / 'around.html'}"], capture_output=True, text=True, timeout=120
    )
    assert "CONSOLE" not in found.stderr, found.stderr
    title = re.search(r"<title>(\d+)/(\d+)</title>", found.stdout)
    assert title, found.stdout[:500]
    assert int(title[1]) <= int(title[2]) == width


def test_sixteen_studies_leave_room_for_their_curves():
    """Their legend took all of the figure, which matplotlib warned of."""
    table = pd.DataFrame({"n": [1, 2, 3], "mean": [0.5, 0.6, 0.65]})
    texts = [f"model | lstm(hidden={n}), epochs 10, lr 0.0001, n_train 3000" for n in range(16)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = svg.inline(figures.maxima([table] * 16, texts, "accuracy"), "x", "said")
    assert drawn.count("n_train 3000") == 16


@pytest.mark.parametrize("count", [3, 10, 11, 40])
def test_the_contents_of_many_chapters_are_folded(count):
    parts = [Chapter(f"c{n}", f"Chapter {n}", "", []) for n in range(count)]
    nav = re.search(r"<nav.*?</nav>", render("Title", [], parts, []), flags=re.DOTALL)[0]
    assert [f"c{n}" for n in range(count)] == re.findall(r'href="#(c\d+)"', nav), "all are linked to"
    before, _, folded = nav.partition("<details>")
    assert before.count('href="#c') == (count if count <= SHOWN else FIRST)
    assert folded.count('href="#c') == (0 if count <= SHOWN else count - FIRST)
