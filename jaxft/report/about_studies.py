"""Parts of the report about several studies: what each scored, comparisons, seeds across tasks, how many seeds are "
"needed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from jaxft.report import figures
from jaxft.report.part import Part
from jaxft.report.words import count, factor, listed, number, p_value, percent, rows, signed
from jaxft.stats import compare, maximum, power, seeds
from jaxft.stats.scores import Scores


def overview(studies: Sequence[Scores], scored: Sequence[Scores]) -> pd.DataFrame:
    """A row per study: study, task, metric, trials, unscored, completed, stopped, diverged, mean, sd, min, median, max,
    mean_final, majority_score. `sd` has n - 1 below; numbers are NaN where there are no scores.
    """
    found = []
    for study, known in zip(studies, scored, strict=True):
        score, status = known.trials["score"], study.trials["status"]
        found.append(
            {
                "study": study.name,
                "task": study.task,
                "metric": study.metric,
                "trials": len(status),
                "unscored": len(status) - len(score),
                **{name: int(np.sum(status == name)) for name in ("completed", "stopped", "diverged")},
                "mean": score.mean(),
                "sd": score.std() if len(score) > 1 else float("nan"),
                "min": score.min(),
                "median": score.median(),
                "max": score.max(),
                "mean_final": study.trials["final_score"].mean(),
                "majority_score": study.trials["majority_score"].mean(),
            }
        )
    return pd.DataFrame(found)


def names(studies: Sequence[Scores]) -> list[str]:
    """As figures have room for: without the beginning that all share, and settings without their section."""
    texts = [study.name.replace(", hp.train.", ", ").replace(", hp.", ", ") for study in studies]
    if len(texts) < 2:
        return texts
    shared = 0
    while all(len(text) > shared and text[shared] == texts[0][shared] for text in texts):
        shared += 1
    while shared and not texts[0][:shared].endswith(("/", ", ")):
        shared -= 1
    return [text[shared:] or text for text in texts]


def comparisons(studies: Sequence[Scores]) -> list[Part]:
    """One part for each task and metric that several studies share."""
    groups: dict[tuple[str, str], list[Scores]] = {}
    for study in studies:
        groups.setdefault((study.task, study.metric), []).append(study)
    found = [
        _compared(group, f"compare-{number}", len(groups) > 1)
        for number, group in enumerate((g for g in groups.values() if len(g) > 1), 1)
    ]
    texts = dict(zip((study.name for study in studies), names(studies), strict=True))
    alone = [texts[group[0].name] for group in groups.values() if len(group) == 1]
    if alone:
        part = found[-1] if found else Part("compare", "How do the studies compare?")
        part.refused.append(
            (
                f"Comparison of {listed(alone)}",
                "a difference of scores means something on one task and in one metric; no other study here has the "
                "same",
            )
        )
        found = found or [part]
    return found


def _compared(group: list[Scores], at: str, several: bool) -> Part:
    on = f" on {group[0].task}" if several else ""
    part = Part(at, f"How do the studies compare{on}?")
    texts, metric = names(group), group[0].metric
    medians = [f"{text} {number(study.trials['score'].median())}" for text, study in zip(texts, group, strict=True)]
    part.draw(
        figures.distributions(group, texts),
        f"Every trial is a dot; the bar spans the quartiles and the diamond is the median {metric}: {listed(medians)}.",
    )
    curves = [part.attempt(f"Expected maximum of {study.name}", maximum.expected_maximum, study) for study in group]
    if all(curve is not None for curve in curves):
        known = [curve for curve in curves if curve is not None]
        n = min(5, *(int(np.max(curve["n"])) for curve in known))
        best = [f"{text} {number(c.loc[c['n'] == n, 'mean'].iloc[0])}" for text, c in zip(texts, known, strict=True)]
        part.draw(figures.maxima(known, texts, metric), f"The best of {n} trials is expected to score: {listed(best)}.")
    table = part.attempt("Comparison table", compare.table, group)
    if table is not None:
        told(part, table, texts, metric)
        columns = [
            "study",
            "trials",
            "mean",
            "sd",
            "expected_best",
            "difference",
            "low",
            "high",
            "mean_p",
            "mean_p_holm",
            "paired",
        ]
        shown = table.assign(study=texts)[columns]
        part.table("comparison", table, f"Each study, and its difference from {texts[0]}", shown=shown, open=True)
    return part


def told(part: Part, table: pd.DataFrame, texts: list[str], metric: str) -> None:
    """Adds the differences from the first study: a figure, sentences, and what could not be tested.

    Args:
        part: to add to.
        table: from `stats.compare.table`.
        texts: names of the studies.
        metric: theirs.
    """
    tested = table.iloc[1:].assign(label=texts[1:])
    for row in rows(tested[tested["note"] != ""]):
        part.refused.append((f"Test of {row.study}", str(row.note)))
    tested = tested[tested["difference"].notna()].rename(columns={"difference": "estimate"})
    if tested.empty:
        return
    said = [
        f"{row.label} {signed(row.estimate)} (95 % interval {signed(row.low)} to {signed(row.high)}; "
        f"{p_value(row.mean_p)}, "
        f"Holm-corrected {p_value(row.mean_p_holm)})"
        for row in rows(tested)
    ]
    part.draw(figures.differences(tested, metric), f"Difference of means from {texts[0]}: {listed(said)}.")
    paired = tested["paired"].fillna(False).astype(bool)
    how = (
        "all pairs of the same seeds"
        if paired.all()
        else "unpaired"
        if not paired.any()
        else "paired where seeds are the same"
    )
    part.said.append(f"Comparisons are {how}.")
    part.warned.append(
        "Several studies and several measures are compared: an uncorrected p below 0.05 among many is expected by "
        "chance. Trials of a "
        "crossed grid share seeds and are not independent, so that intervals are somewhat too narrow."
    )


def across(studies: Sequence[Scores]) -> Part:
    """Whether seeds that are good on one task are good on others."""
    part = Part("across", "Are good seeds good on other tasks and in other studies too?")
    shared = [name for name in ("init_seed", "order_seed") if sum(name in study.factors for study in studies) > 1]
    others = sorted({name for study in studies for name in study.factors} - {"init_seed", "order_seed"})
    shared += [name for name in others if sum(name in study.factors for study in studies) > 1]
    if not shared:
        part.refused.append(("Seeds across tasks", "no seed varies in more than one of the studies"))
    tables = []
    for name in shared:
        having = [study for study in studies if name in study.factors]
        table = part.attempt(f"Across tasks, {factor(name)}", seeds.across_tasks, having, name)
        if table is not None and len(table):
            tables.append(table.assign(factor=name)[["factor", *table.columns.drop("factor", errors="ignore")]])
            top = table.loc[table["rho"].abs().idxmax()]
            part.draw(
                figures.across_tasks(table, name),
                f"{factor(name).capitalize()}s on {count(len(table), 'pair')} of tasks or studies: the strongest rank "
                "correlation of their means is "
                f"{number(top['rho'], 2)}, between {top['task_a']} and {top['task_b']} "
                f"({count(int(top['seeds']), 'seed')}; "
                f"{p_value(top['p'])}, Holm-corrected {p_value(top['corrected_p'])}); "
                f"{int(np.sum(table['corrected_p'] < 0.05))} of them hold after the correction.",
            )
    if tables:
        part.table("across_tasks", pd.concat(tables, ignore_index=True), "Rank correlations of seeds' means", open=True)
    return part


def seeds_needed(scores: Scores, at: str) -> Part:
    """How many seeds a comparison with such a spread needs."""
    part = Part(f"{at}-needed", "How many seeds does a comparison need?", scores.name)
    table = part.attempt("Seeds needed", power.needed, scores)
    if table is not None:
        said = [f"{row.seeds:,} for {row.difference:g}" for row in rows(table.dropna())]
        part.said.append(
            f"With the spread of these trials (standard deviation {number(scores.trials['score'].std())}), each of "
            "two studies needs, to "
            f"find a difference of means with {percent(0.8)} power at the level of {percent(0.05)}: {listed(said)}. "
            "Where trials fail, the "
            "scores are far from normal, and more are needed."
        )
        part.table("seeds_needed", table, "Seeds that a comparison needs", open=True)
    return part
