"""The page: one HTML file that needs nothing else, no network and no script. All text is escaped here and nowhere "
"else."""

import html
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from jaxft.report.css import CSS
from jaxft.report.part import Listing, Part
from jaxft.report.words import cell, factor


class Chapter(NamedTuple):
    """A heading of the page, with its parts."""

    name: str
    """Its anchor."""
    title: str
    about: str
    """One line below the title."""
    parts: Sequence[Part]


GLOSSARY = {
    "Trial, seed": "A trial is one training of the model. Trials of one study have the same settings and differ in "
    "seeds: the init seed "
    "draws the weights of the new head, the order seed the order of the training data (and, unless they have seeds "
    "of their own, "
    "dropout and noise).",
    "Score": "The best evaluation of a trial on the dev set during training, unless it says final. A best score is "
    "optimistic: the "
    "same examples chose it.",
    "Expected maximum": "What the best of n trials scores on average, from the scores that there are (Dodge et al. "
    "2019). The 95 % "
    "band holds the whole curve at once (Lourie et al. 2024), if trials are independent.",
    "Crossed grid": "Every init seed is trained with every order seed. Trials that share a seed are not "
    "independent, so n trials of a grid "
    "tell less than n trials with seeds of their own.",
    "Variance share": "How much of the spread of the scores comes from one factor. With one trial per pair of seeds "
    "what the seeds do "
    "together cannot be told from chance; both are in the residual.",
    "ANOVA, permutation test": "Could the means of the seeds differ so much if the seed did not matter? p is the "
    "probability of that.",
    "Best against worst": "The test of Dodge et al. (2020) between the best seed and the worst one. They were "
    "chosen after looking, so its p "
    "is far too small; the corrected p says how often the best and the worst of seeds that do not matter differ so "
    "much.",
    "Failed": "A trial that learned nothing, by several definitions: near the majority's score at its best or at "
    "its end, one constant "
    "prediction, a loss that is not finite, dropped by a rule of the study.",
    "Early stopping": "Start many trials, look after a fraction of training, go on with the best few. The budget is "
    "in whole trainings: "
    "start \N{MULTIPLICATION SIGN} fraction + continued \N{MULTIPLICATION SIGN} (1 \N{MINUS SIGN} fraction). "
    "Simulated on the curves of this study, drawn with replacement.",
    "Interval": "If the study were repeated with new seeds many times, 95 % of such intervals would hold the true "
    "value.",
}


SHOWN, FIRST = 10, 4
"""So many chapters at most are all linked to at the top; of more, so many, and the others folded away."""


def text(value: object) -> str:
    """Escaped, without what HTML cannot hold."""
    shown = "".join(
        c if c.isprintable() or c in "\n\t\N{NO-BREAK SPACE}" else "\N{REPLACEMENT CHARACTER}" for c in str(value)
    )
    return html.escape(shown, quote=True)


def render(title: str, lead: Sequence[str], chapters: Sequence[Chapter], settings: Iterable[tuple[str, str]]) -> str:
    """The page.

    Args:
        title: of it.
        lead: sentences below the title.
        chapters: in order.
        settings: titles and texts of the end: settings, versions.
    """
    links = [f'<li><a href="#{text(c.name)}">{text(c.title)}</a></li>' for c in chapters]
    ends = '<li><a href="#how">How to read this</a></li><li><a href="#settings">Settings and versions</a></li>'
    first, folded = (links[:FIRST], links[FIRST:]) if len(links) > SHOWN else (links, [])
    more = f"<details><summary>{len(folded)} more</summary><ul>{''.join(folded)}</ul></details>" if folded else ""
    words = "".join(f"<dt>{text(word)}</dt><dd>{text(meaning)}</dd>" for word, meaning in GLOSSARY.items())
    shown = "".join(f"<h4>{text(name)}</h4><pre>{text(what)}</pre>" for name, what in settings)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{text(title)}</title>
<style>{CSS}</style>
</head>
<body>
<header><h1>{text(title)}</h1>{"".join(f"<p>{text(said)}</p>" for said in lead)}</header>
<nav aria-label="Contents"><ul>{"".join(first)}{ends}</ul>{more}</nav>
<main>
{"".join(_chapter(chapter) for chapter in chapters)}
<h2 id="how">How to read this</h2>
<section class="part"><dl>{words}</dl></section>
<h2 id="settings">Settings and versions</h2>
<section class="part">{shown}</section>
</main>
<footer>Beside this page, tables/ has every table as CSV and JSON, whole and with all digits.</footer>
</body>
</html>
"""


def _chapter(chapter: Chapter) -> str:
    about = f'<p class="soft">{text(chapter.about)}</p>' if chapter.about else ""
    return f'<h2 id="{text(chapter.name)}">{text(chapter.title)}</h2>{about}\n{"".join(map(_part, chapter.parts))}'


def _part(part: Part) -> str:
    tiles = "".join(
        f"<div class=tile><b>{text(value)}</b><span>{text(what)}</span></div>" for what, value in part.tiles
    )
    tiles = f'<div class="tiles">{tiles}</div>' if tiles else ""
    warned = "".join(f'<p class="warning" role="note">{text(warning)}</p>' for warning in part.warned)
    drawn = "".join(
        f"<figure>{drawing.svg}<figcaption>{text(drawing.sentence)}</figcaption></figure>\n"
        for drawing in part.drawings
    )
    drawn = f'<div class="figures">{drawn}</div>' if drawn else ""
    said = "".join(f"<p>{text(sentence)}</p>" for sentence in part.said)
    reasons: dict[str, list[str]] = {}
    for what, why in part.refused:
        reasons.setdefault(why, []).append(what)
    refused = "".join(
        f'<p class="refused"><b>{text("; ".join(what))}:</b> {text(why)}</p>' for why, what in reasons.items()
    )
    listed = "".join(map(_listing, part.listings))
    # One figure alone stands beside the words and tables about it, where there is room.
    shape = "part beside" if len(part.drawings) == 1 else "part"
    words = f'<div class="words">{tiles}{said}{warned}</div>' if tiles or said or warned else ""
    narrow = len(part.listings) > 1 and all(listing.shown.shape[1] < 9 for listing in part.listings)
    rest = f'<div class="{"rest pairs" if narrow else "rest"}">{refused}{listed}</div>' if refused or listed else ""
    head = f'<section class="{shape}" id="{text(part.name)}"><h3>{text(part.title)}</h3>'
    return f"{head}{words}{drawn}{rest}</section>\n"


def _listing(listing: Listing) -> str:
    name = text(listing.name)
    files = f'<a href="tables/{name}.csv">CSV</a>, <a href="tables/{name}.json">JSON</a>'
    if listing.shown.empty:
        return f"<p class=note>{text(listing.title)}: {files}</p>"
    opened = " open" if listing.open else ""
    head = f"<details{opened}><summary>{text(listing.title)}</summary>"
    return f"{head}{table(listing.shown)}<p class=note>{files}</p></details>"


def table(frame: pd.DataFrame) -> str:
    """A <table> of a frame."""
    kinds = {name: _is_text(frame[name].tolist()) for name in frame}
    head = "".join(f'<th scope="col"{_class(kinds[name])}>{text(factor(str(name)))}</th>' for name in frame)
    columns: list[list[Any]] = [frame[name].tolist() for name in frame]
    rows = [
        "".join(
            f"<td{_class(kinds[name])}>{text(cell(value, str(name)))}</td>"
            for name, value in zip(frame, row, strict=True)
        )
        for row in zip(*columns, strict=True)
    ]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _is_text(column: Iterable[object]) -> bool:
    return any(isinstance(value, str) and value for value in column)


def _class(is_text: bool) -> str:
    return ' class="text"' if is_text else ""
