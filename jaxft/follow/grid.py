"""The closing table of a study: its scores by seed, as text for a terminal. No jax here."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.text import Text

from jaxft.folder.store import Run

LETTERS = {
    "non_finite_loss": "N",
    "non_finite_gradient": "G",
    "non_finite_logits": "E",
    "loss_above": "L",
    "one_class": "C",
    "majority": "M",
}
MOST_GRIDS = 6
MOST_ROWS = 15

Row = Mapping[str, Any]
"""A trial, by column."""


class Cell(NamedTuple):
    """How a score is shown."""

    number: str
    mark: str
    """Says in a letter what the colour says."""
    style: str


def grid(run: Run, width: int = 80) -> Text:
    """The best score of every trial by init and order seed, a grid for each setting; then where to look next.

    Many settings, or seeds that fill no grid, give a list of the best instead.
    """
    rows = [{str(name): value for name, value in row.items()} for row in run.trials.to_dict("records")]
    if not rows:
        return Text(f"no trial is over yet in {clean(str(run.folder))}\n")
    names = _varying(rows)
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(_settings(row, names), []).append(row)
    marks = letters(row["reason"] for row in rows)
    best = max((row for row in rows if _completed(row)), key=lambda row: row["best_score"], default=None)
    if len(parts) <= MOST_GRIDS and all(_is_grid(part) for part in parts.values()):
        tables = [_grid(title, part, marks, best, width) for title, part in parts.items()]
    else:
        tables = [_ranked(rows, names, marks, best)]
    return Text("\n").join([*tables, _summary(rows, names, marks, best), _next(clean(str(run.folder)))])


def clean(text: str) -> str:
    """Text without what would move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _varying(rows: Sequence[Row]) -> list[str]:
    """The columns that tell settings apart; dropout and noise seeds where they do not follow the order."""
    names = ["model", "task", "method", "n_train", *(name for name in rows[0] if name.startswith("hp."))]
    free = [n for n in ("dropout_seed", "noise_seed") if any(row[n] != row["order_seed"] for row in rows)]
    return [name for name in [*names, "data_seed", *free] if len({str(row[name]) for row in rows}) > 1]


def _settings(row: Row, names: Sequence[str]) -> str:
    """What a row has of these columns; the arguments of another row's method it has not."""
    had = [name for name in names if row[name] is not None and row[name] == row[name]]
    return clean(", ".join(f"{n.removeprefix('hp.').removesuffix('_seed')} {row[n]}" for n in had))


def _seeds(row: Row) -> tuple[int, int]:
    return row["init_seed"], row["order_seed"]


def _completed(row: Row) -> bool:
    return not row["reason"] and row["best_score"] == row["best_score"]


def _failed(row: Row) -> bool:
    """Completed, yet in the end no better than a constant prediction: the best score would hide it."""
    return not row["reason"] and not row["final_score"] > row["majority_score"]


def _is_grid(rows: Sequence[Row]) -> bool:
    places = {_seeds(row) for row in rows}
    cells = len({init for init, _ in places}) * len({order for _, order in places})
    return len(places) == len(rows) and 1 < cells <= 2 * len(rows)


def letters(reasons: Iterable[str]) -> dict[str, str]:
    """A letter for each reason, another for each."""
    marks: dict[str, str] = {}
    for reason in sorted(set(reasons) - {""}):
        wanted = [LETTERS.get(reason, ""), *filter(str.isalpha, reason.upper())]
        marks[reason] = next((x for x in wanted if x and x not in marks.values()), "?")
    return marks


def _cell(row: Row, marks: Mapping[str, str], best: Row | None, digits: int) -> Cell:
    """With so many decimals, or in hundredths where there are none."""
    score = row["best_score"]
    number = "--" if score != score else f"{score:.{digits}f}" if digits else f"{100 * score:.0f}"
    if row is best:
        return Cell(number, "*", "bold green")
    if row["reason"]:
        return Cell(number, marks[row["reason"]], "red")
    if _failed(row):
        return Cell(number, "-", "yellow")
    top = best["best_score"] if best else score
    return Cell(number, " ", "green" if 2 * score >= top + row["majority_score"] else "cyan")


def _grid(title: str, rows: Sequence[Row], marks: Mapping[str, str], best: Row | None, width: int) -> Text:
    inits = sorted({init for init, _ in map(_seeds, rows)})
    orders = sorted({order for _, order in map(_seeds, rows)})
    label = max(len(str(init)) for init in inits) + 2
    for digits, gap in ((3, 2), (0, 1)):  # decimals where they fit
        cells = {_seeds(row): _cell(row, marks, best, digits) for row in rows}
        wide = max(len(text) for text in [*(cell.number for cell in cells.values()), *map(str, orders)]) + gap
        if label + wide * len(orders) <= width:
            break
    metric = clean("/".join(sorted({row["metric"] for row in rows}))) + ("" if digits else " in hundredths")
    text = Text().append(f"{title}\n" if title else "", "bold")
    text.append(f"best dev {metric}; a row per init seed, a column per order seed\n")
    step = max(1, (width - label) // wide)
    for band in (orders[at : at + step] for at in range(0, len(orders), step)):
        text.append(" " * label + "".join(f"{order:>{wide - 1}} " for order in band).rstrip() + "\n", "dim")
        for init in inits:
            text.append(f"{init:>{label - 1}} ", "dim")
            for order in band:
                number, mark, style = cells.get((init, order), Cell("", " ", ""))
                text.append(" " * (wide - 1 - len(number))).append(number + mark, style)
            text.rstrip()
            text.append("\n")
    return text


def _ranked(rows: Sequence[Row], names: Sequence[str], marks: Mapping[str, str], best: Row | None) -> Text:
    evaluated = [row for row in rows if row["best_score"] == row["best_score"]]
    ordered = sorted(evaluated, key=lambda row: -row["best_score"])
    text = Text(f"best dev {clean('/'.join(sorted({row['metric'] for row in rows})))}, and the final one\n")
    for rank, row in enumerate(ordered[:MOST_ROWS], start=1):
        number, mark, style = _cell(row, marks, best, 4)
        text.append(f"{rank:>4} ", "dim").append(f"{number:>8}{mark}", style)
        text.append(f"{row['final_score']:>8.4f}  {_trial(row, names)}\n")
    if len(rows) > MOST_ROWS:
        text.append(f"     and {len(rows) - MOST_ROWS} more\n", "dim")
    return text


def _trial(row: Row, names: Sequence[str]) -> str:
    return _settings(row, ["init_seed", "order_seed", *names])


def _summary(rows: Sequence[Row], names: Sequence[str], marks: Mapping[str, str], best: Row | None) -> Text:
    dropped = Counter(row["reason"] for row in rows if row["reason"])
    why = [f"{n} {clean(why).replace('_', ' ')} ({marks[why]})" for why, n in dropped.most_common()]
    counts = f"{len(rows)} trials: {len(rows) - dropped.total()} completed, {dropped.total()} dropped"
    lines = [counts + (f": {', '.join(why)}" if why else "")]
    failed = sum(map(_failed, rows))
    if failed:
        lines.append(f"{failed} completed, but ended no better than a constant prediction (-)")
    if best:
        lines.append(f"best {best['best_score']:.4f} (*): {_trial(best, names)}, step {best['best_step']}")
        if best["test_at_best"] == best["test_at_best"]:
            lines.append(f"its score on test at that step, by which nothing was chosen: {best['test_at_best']:.4f}")
    scores = [row["best_score"] for row in rows if row["best_score"] == row["best_score"]]
    if len(scores) > 1:
        lines.append(
            f"of {len(scores)} evaluated: mean {statistics.fmean(scores):.4f}, "
            f"standard deviation {statistics.stdev(scores):.4f}, lowest {min(scores):.4f}"
        )
    return Text("\n".join(lines) + "\n")


def _next(folder: str) -> Text:
    return Text(
        f"rows     {folder}: trials, evals, losses, predictions, examples\n"
        f'pandas   pandas.read_parquet("{folder}/trials")\n'
        f"figures  notebooks/quickstart.ipynb, with JAXFT_RUN={folder}\n"
    )
