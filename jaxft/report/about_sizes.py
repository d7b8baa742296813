"""A chapter about the size of the training set: how several models' scores grow with it, and where one overtakes."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from jaxft.report import figures
from jaxft.report.page import Chapter
from jaxft.report.part import Part
from jaxft.report.words import between, count, listed, number, percent, rows, signed
from jaxft.stats import sizes
from jaxft.stats.cells import Frame
from jaxft.stats.scores import Scores

MOST = 4
"""Models whose gaps are shown: all of their pairs, or else each against the first."""


def chapters(studies: Sequence[Scores]) -> list[Chapter]:
    """One for each source and task whose trials have several sizes of the training set.

    Args:
        studies: all trials, those without a score too.
    """
    groups: dict[tuple[Any, ...], list[Scores]] = {}
    for study in studies:
        if sizes.SIZE in study.setting and np.isfinite(study.trials["score"].to_numpy(float)).any():
            groups.setdefault((study.source, study.task, study.metric), []).append(study)
    found = {key: group for key, group in groups.items() if len({s.setting[sizes.SIZE] for s in group}) > 1}
    return [_chapter(key, group, f"sizes-{i}", len(found) > 1) for i, (key, group) in enumerate(found.items(), 1)]


def _chapter(key: tuple[Any, ...], group: list[Scores], at: str, several: bool) -> Chapter:
    title = f"Training size: {key[1]}" if several else "Training size"
    parts = [_curves(group, at)]
    table = parts[0].tables.get("learning_curve")
    if table is not None:
        arms = list(table["arm"].unique())
        pairs = list(combinations(arms, 2)) if len(arms) <= MOST else [(arms[0], other) for other in arms[1:]]
        if pairs:
            parts.append(_gaps(group, table, pairs, at))
        parts.append(_costs(table, str(key[2]), at))
    return Chapter(at, title, f"{key[0]}: task {key[1]}, scored by {key[2]}.", parts)


def _curves(group: list[Scores], at: str) -> Part:
    part = Part(f"{at}-curve", "How do scores grow with the training set?")
    table = part.attempt("Learning curve", sizes.curve, group)
    if table is not None:
        where = "the test set, at the step that is best on dev" if table["judged_on"].iloc[0] == "test" else "dev"
        ends = []
        for arm in table["arm"].unique():
            own = table[table["arm"] == arm]
            first, last = own.iloc[0], own.iloc[-1]
            ends.append(
                f"{arm} {number(first['mean'])} with {first['n_train']:,}, {number(last['mean'])} with "
                f"{last['n_train']:,}"
            )
        said = f"Mean {group[0].metric} on {where}; bands hold the mean with 95 % (Student's t over trials)."
        part.draw(figures.learning_curves(table, group[0].metric), f"{said} {'; '.join(ends)}.")
        if (table["setting"] != "").any():
            part.said.append("Of several settings of a model at a size, the one with the best mean on dev is shown.")
        shown = table[["arm", "n_train", "trials", "mean", "sd", "low", "high", "best"]]
        part.table("learning_curve", table, "Each model at each size", shown=shown, open=True)
    return part


def _gaps(group: list[Scores], curve: Frame, pairs: list[tuple[str, str]], at: str) -> Part:
    part = Part(f"{at}-gap", "Who is ahead, and from which size on?")
    gaps, crossings, needs = [], [], []
    for one, other in pairs:
        names = {"one": one, "other": other}
        gap = part.attempt(f"{one} against {other}", sizes.gap, group, one, other)
        if gap is None:
            continue
        gaps.append(gap.assign(**names))
        if len(gap) < 2:
            continue
        first, last = gap.iloc[0], gap.iloc[-1]
        part.draw(
            figures.gaps(gap, group[0].metric),
            f"{one} less {other}: {signed(first['difference'])} with {first['n_train']:,} examples "
            f"({between(first['low'], first['high'])}), {signed(last['difference'])} with "
            f"{last['n_train']:,} ({between(last['low'], last['high'])}).",
        )
        crossing = sizes.crossing(group, one, other)
        crossings.append(crossing.assign(**names))
        if crossing.empty:
            leads = one if last["difference"] > 0 else other
            part.said.append(f"{leads} leads {other if leads == one else one} at all sizes that were measured.")
        for row in rows(crossing):
            part.said.append(
                f"{row.ahead} leads {other if row.ahead == one else one} from about {row.n_train:,.0f} examples on "
                f"({row.low:,.0f} to {row.high:,.0f}, in the {percent(row.share)} of bootstrap samples that cross)."
            )
        leader, follower = (one, other) if first["difference"] > 0 else (other, one)
        need = sizes.needed(curve, follower, leader)
        needs.append(need.assign(one=follower, other=leader))
        start = need.iloc[0]
        if np.isfinite(start["n_train"]):
            part.said.append(
                f"For what {leader} has with {start['other_n_train']:,.0f} examples, {follower} needs "
                f"{start['n_train']:,.0f}, {start['times']:.1f} times as many."
            )
    for name, title, found in (
        ("size_gap", "By how much one model is ahead", gaps),
        ("size_crossing", "Where the lead changes", crossings),
        ("size_needed", "Examples that one needs for the other's score", needs),
    ):
        if found:
            table: Frame = pd.concat(found, ignore_index=True)
            part.table(name, table[["one", "other", *[c for c in table if c not in ("one", "other")]]], title)
    return part


def _costs(curve: Frame, metric: str, at: str) -> Part:
    part = Part(f"{at}-costs", "What does a score cost?")
    table = part.attempt("Costs", sizes.costs, curve)
    if table is not None:
        front = [f"{row.arm} with {row.n_train:,}" for row in rows(table) if row.front]
        part.draw(
            figures.by_compute(table, metric),
            f"Mean {metric} by the FLOPs of one trial's training, evaluations left out. For its FLOPs none is better "
            f"than {listed(front, 12)}.",
        )
        speed = table.groupby("arm", sort=False)[["infer_seconds", "faster"]].mean()
        said = [f"{arm} {1 / row.infer_seconds:,.0f} ({row.faster:.1f} times)" for arm, row in speed.iterrows()]
        part.said.append(
            "Inference, examples per second on one device with all replicas of its slots together, and against the "
            f"slowest: {'; '.join(said)}. {count(len(table), 'point')}."
        )
        part.table("size_costs", table, "What each score cost")
    return part
