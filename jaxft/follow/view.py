"""A run at a glance, as lines for a terminal: its seeds coloured by score, the best and worst trials, their curves.

What the colours say, letters and digits say too. No jax here.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

from rich.text import Text

from jaxft.folder import rows
from jaxft.follow.grid import clean, letters
from jaxft.stats.named import brief, models
from jaxft.study.trials import Trial

RAMP = ("#440154", "#482878", "#3e4a89", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725")
"""From the lowest score to the highest, in tenths (viridis)."""
LIGHT = 6
"""From this tenth on, letters on it are black."""
DROPPED = "bright_white on red"
BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "_.:-=+*#"
LISTED, CURVE, TITLE = 5, 16, 30
GAP = 3


class Shown(NamedTuple):
    """What is known of a trial that has begun."""

    over: bool
    reason: str
    """Why it was dropped; empty where it was not."""
    step: int
    """How many it has taken, as far as it is known."""
    scores: Sequence[float]
    """On dev, one for each evaluation so far."""

    @property
    def best(self) -> float:
        """NaN where it has no score yet."""
        return max((x for x in self.scores if not math.isnan(x)), default=math.nan)


class Scale(NamedTuple):
    """From the lowest score to the highest."""

    low: float
    high: float

    def tenth(self, score: float) -> int:
        """0 to 9."""
        width = self.high - self.low
        return min(9, int(10 * (score - self.low) / width)) if width > 0 else 9


def body(
    trials: Sequence[Trial], known: Mapping[str, Shown], width: int, height: int, *, ascii_only: bool = False
) -> list[Text]:
    """So many lines at most, none wider than the width.

    Args:
        trials: of the study, in order.
        known: those that have begun, by id.
        width: in columns.
        height: in lines; seeds come before lists where both do not fit.
        ascii_only: for a terminal without block letters.
    """
    begun = [known[trial.id] for trial in trials if trial.id in known]
    scores = [shown.best for shown in begun if not math.isnan(shown.best)]
    if height < 4 or not begun:
        return []
    scale = Scale(min(scores, default=math.nan), max(scores, default=math.nan))
    marks = letters(shown.reason for shown in begun)
    parts = _parts(trials)
    legend = _legend(scale, marks, bool(scores), len(begun) < len(trials), width)
    lists = _lists(trials, known, parts, width, BARS if not ascii_only else PLAIN_BARS)
    space = height - len(legend) - 1
    seeds = _grids(trials, known, scale, marks, parts, width, space) or _strip(trials, known, scale, marks, width)
    cut = seeds if len(seeds) <= space else [*seeds[: space - 1], Text(f"and {len(trials)} trials in all", "dim")]
    lines = [*cut, *legend]
    if lists and len(lines) + 1 + 2 <= height:
        lines += [Text(), *lists[: height - len(lines) - 1]]
    for each in lines:
        each.truncate(width)
    return lines


def _cell(shown: Shown | None, scale: Scale, marks: Mapping[str, str]) -> tuple[str, str]:
    """A letter, and its style."""
    if shown is None:
        return ".", "dim"
    if shown.reason:
        return marks[shown.reason], DROPPED
    if math.isnan(shown.best):
        return ("?", "yellow") if shown.over else ("+", "dim")
    tenth = scale.tenth(shown.best)
    return str(tenth), _ground(tenth) if shown.over else f"bold {RAMP[max(3, tenth)]}"


def _ground(tenth: int) -> str:
    return f"{'black' if tenth >= LIGHT else 'bright_white'} on {RAMP[tenth]}"


def _legend(scale: Scale, marks: Mapping[str, str], scored: bool, waiting: bool, width: int) -> list[Text]:
    ends = [(0, scale.low), (9, scale.high)] if scored else []
    items = [Text(str(tenth), _ground(tenth)).append(f" {score:.4f}", "none") for tenth, score in ends]
    items += [Text("bare: in training")] if scored else []
    items += [Text("+ no score yet"), *([Text(". to come")] if waiting else [])]
    items += [Text(mark, DROPPED).append(f" {clean(why).replace('_', ' ')}", "none") for why, mark in marks.items()]
    lines = [Text()]
    for item in items:
        if lines[-1].cell_len and lines[-1].cell_len + 2 + item.cell_len > width:
            lines.append(Text())
        lines[-1].append("  " if lines[-1].cell_len else "").append_text(item)
    return lines


def _varying(trials: Sequence[Trial]) -> list[str]:
    """The settings that tell trials apart, beside init and order seeds."""
    named = {"model", "method", "task.name", "task.n_train"}
    found = [name for name in sorted(named) if len({str(trial.fixed.get(name)) for trial in trials}) > 1]
    # An argument that all trials of its method have alike goes without saying.
    found += [name for name in rows.varying(trials) if len({x.hp[name] for x in trials if name in x.hp}) != 1]
    free = [
        f"{stream} seed"
        for stream in ("dropout", "noise", "data")
        if len({getattr(trial.seeds, stream) for trial in trials}) > 1
        and any(getattr(trial.seeds, stream) != trial.seeds.order for trial in trials)
    ]
    return [*found, *free]


def _parts(trials: Sequence[Trial]) -> dict[str, str]:
    """By trial, the settings that tell it from others, beside init and order seed."""
    names = _varying(trials)
    called = models(str(trial.fixed["model"]) for trial in trials) if "model" in names else {}
    found = {}
    for trial in trials:
        values = {**trial.fixed, **trial.hp, **{f"{name} seed": seed for name, seed in trial.seeds._asdict().items()}}
        values |= {"model": called.get(values["model"], ""), "method": brief(values["method"])}
        told = [f"{name.rpartition('.')[2]} {values[name]}" for name in names if values.get(name) is not None]
        found[trial.id] = clean(", ".join(told))
    return found


def _grids(
    trials: Sequence[Trial], known: Mapping[str, Shown], scale: Scale, marks: Mapping[str, str],
    parts: Mapping[str, str], width: int, height: int,
) -> list[Text]:  # fmt: skip
    """A grid for each setting, side by side as they fit; nothing where they do not fit, or the seeds make none."""
    alike: dict[str, list[Trial]] = {}
    for trial in trials:
        alike.setdefault(parts[trial.id], []).append(trial)
    for wide in (2, 1):
        blocks = [_grid(part, members, known, scale, marks, wide) for part, members in alike.items()]
        found = _beside(blocks, width) if all(blocks) else None
        if found is not None and len(found) <= height:
            return found
    return []


def _grid(
    title: str, trials: Sequence[Trial], known: Mapping[str, Shown], scale: Scale, marks: Mapping[str, str], wide: int
) -> list[Text]:
    """Rows are init seeds, columns order seeds; a cell is so many columns wide."""
    places = {(trial.seeds.init, trial.seeds.order): trial for trial in trials}
    inits, orders = (sorted({place[axis] for place in places}) for axis in (0, 1))
    if len(places) < len(trials) or len(inits) * len(orders) > 2 * len(places):
        return []
    label = max(len(str(init)) for init in inits) + 1
    lines = [Text(title, "bold")] if title else []
    lines.append(Text(f"{'':{label}}order {orders[0]} to {orders[-1]}" if len(orders) > 1 else "", "dim"))
    for init in inits:
        line = Text(f"{init:>{label - 1}} ", "dim")
        for order in orders:
            trial = places.get((init, order))
            letter, style = _cell(known.get(trial.id), scale, marks) if trial else (" ", "")
            line.append(f"{letter:{wide}}", style)
        lines.append(line)
    wanted = label + wide * len(orders)
    for line in lines[: 1 if title else 0]:
        line.truncate(max(wanted, TITLE), overflow="ellipsis")
    return lines


def _beside(blocks: Sequence[Sequence[Text]], width: int) -> list[Text] | None:
    """Blocks in rows, as many beside each other as fit; None where one is too wide."""
    widths = [max(line.cell_len for line in block) for block in blocks]
    if not blocks or max(widths) > width:
        return None
    lines: list[Text] = []
    each = max(widths) + GAP
    across = max(1, (width + GAP) // each)
    for first in range(0, len(blocks), across):
        for row in zip_longest(*blocks[first : first + across], fillvalue=Text()):
            line = Text()
            for number, part in enumerate(row):
                line.append(" " * (each * number - line.cell_len)).append_text(part)
            lines.append(line)
    return lines


def _strip(
    trials: Sequence[Trial], known: Mapping[str, Shown], scale: Scale, marks: Mapping[str, str], width: int
) -> list[Text]:
    """All trials in the order of the study."""
    lines = []
    for first in range(0, len(trials), width):
        line = Text()
        for trial in trials[first : first + width]:
            line.append(*_cell(known.get(trial.id), scale, marks))
        lines.append(line)
    return lines


def _lists(
    trials: Sequence[Trial], known: Mapping[str, Shown], parts: Mapping[str, str], width: int, bars: str
) -> list[Text]:
    """The best, the worst and some that were dropped, with their curves; two lists beside each other if wide."""
    begun = [(trial, known[trial.id]) for trial in trials if trial.id in known]
    scored = sorted((x for x in begun if not x[1].reason and not math.isnan(x[1].best)), key=lambda x: -x[1].best)
    dropped = [x for x in begun if x[1].reason]
    every = sorted(score for _, shown in begun for score in shown.scores if not math.isnan(score))
    scale = Scale(every[len(every) // 20], every[-1]) if every else Scale(0, 0)  # an early low one would flatten all
    wide = (width - GAP) // 2 if width >= 120 else width
    count = LISTED if len(scored) > LISTED else len(scored)
    worst = scored[max(count, len(scored) - LISTED) :][::-1]
    lists = [
        _list(title, part, parts, wide, bars, scale)
        for title, part in (("best", scored[:count]), ("worst", worst), ("dropped", dropped[-LISTED:][::-1]))
        if part
    ]
    if wide == width or not lists:
        return [line for part in lists for line in part]
    sides = [[line for part in side for line in part] for side in (lists[:1], lists[1:])]
    return _beside([side for side in sides if side], width) or []


def _list(
    title: str, members: Sequence[tuple[Trial, Shown]], parts: Mapping[str, str], width: int, bars: str, scale: Scale
) -> list[Text]:
    lines = [Text(title, "bold")]
    for trial, shown in members:
        line = Text(" -- " if math.isnan(shown.best) else f"{shown.best:.4f}")
        line.append(f"{'':{8 - line.cell_len}}").append(f"{_curve(shown.scores, bars, scale):{CURVE}}  ", "cyan")
        state = clean(shown.reason).replace("_", " ") if shown.reason else "over" if shown.over else "in training"
        seeds = f"init {trial.seeds.init}, order {trial.seeds.order}"
        line.append(", ".join(filter(None, (seeds, f"step {shown.step}", state, parts[trial.id]))))
        line.truncate(width, overflow="ellipsis")
        lines.append(line)
    return lines


def _curve(scores: Sequence[float], bars: str, scale: Scale) -> str:
    """A bar for each evaluation; of many every so many-th, the last always."""
    every = max(1, -(-len(scores) // CURVE))
    chosen = list(scores)[::-1][::every][::-1]
    width = scale.high - scale.low
    levels = [(x - scale.low) / width if width > 0 else 1.0 for x in chosen]
    return "".join(" " if math.isnan(x) else bars[max(0, min(len(bars) - 1, int(x * len(bars))))] for x in levels)
