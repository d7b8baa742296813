"""Parts of the report about seeds: what each scored, the best of n, where variance comes from, good seeds and bad "
"ones."""

from typing import Any

import numpy as np
import pandas as pd

from jaxft.report import figures
from jaxft.report.part import Part
from jaxft.report.words import GLUE, TIMES, between, count, factor, listed, number, p_value, percent, rows
from jaxft.stats import maximum, seeds, variance
from jaxft.stats.scores import Scores

SHOWN = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
"""Numbers of trials whose rows stand in the page; the files have all."""

CHOSEN_AFTER = (
    "The best seed and the worst one were chosen after looking at the scores, so the p value of a test between them "
    "is far too "
    "small: on scores shuffled at random it is below 0.05 nearly always. It is here to replicate Dodge et al. (2020). "
    "The ANOVA, the permutation test and the corrected p value beside it are what to go by."
)


def grid(scores: Scores, at: str) -> Part:
    """Every score, by its seeds and as a histogram."""
    part = Part(f"{at}-scores", "What did each trial score?", scores.name)
    trials = scores.trials
    if scores.places:
        said = listed([f"{factor(name)}s" for name in scores.places])
        part.said.append(f"The source does not name its seeds: {said} are numbered by their place in the matrix.")
    table = part.attempt("Heat map", figures.grid, scores)
    if table is not None:
        by_row, by_column = table.mean(axis=1), table.mean(axis=0)
        down, along = (factor(name) for name in scores.factors[:2])
        empty = int(table.isna().to_numpy().sum())
        best, worst = (trials.loc[getattr(trials["score"], which)()] for which in ("idxmax", "idxmin"))
        more = ", each averaged over " + listed([factor(name) for name in scores.factors[2:]])
        more = more if len(scores.factors) > 2 else ""
        more += f", {count(empty, 'cell')} without a score ({TIMES})" if empty else ""
        part.draw(
            figures.heat_map(scores),
            f"{table.shape[0]} {down}s by {table.shape[1]} {along}s{more}: the best scores "
            f"{number(best['score'])} ({_seeds(best, scores)}), the worst {number(worst['score'])} "
            f"({_seeds(worst, scores)}); means of {down}s go from {between(by_row.min(), by_row.max())}, of {along}s "
            f"from {between(by_column.min(), by_column.max())}.",
        )
    values = trials["score"]
    low, middle, high = values.quantile([0.25, 0.5, 0.75])
    part.draw(
        figures.spread(scores),
        f"Half of the {count(len(values), 'trial')} score between {number(low)} and {number(high)}, with the "
        f"median at {number(middle)}; the mean is {number(values.mean())}.",
    )
    best_first = trials.sort_values("score", ascending=False, kind="stable")
    shown = best_first[[name for name in best_first if name != "majority_score"]].head(10)
    part.table("trials", trials, f"Trials, the best {len(shown)} of {len(trials)}", shown=shown)
    return part


def _seeds(trial: pd.Series, scores: Scores) -> str:
    return ", ".join(f"{factor(name)} {trial[name]}" for name in scores.factors)


def best_of(scores: Scores, at: str) -> Part:
    """The expected maximum, with its band, by schedule and by budget."""
    part = Part(f"{at}-best", "How good is the best of n trials?", scores.name)
    caveat = part.attempt("Caveat about crossed seeds", maximum.caveat, scores)
    if caveat:
        part.warned.append(caveat)
    table = part.attempt("Expected maximum", maximum.expected_maximum, scores)
    bands = part.attempt("Confidence band", maximum.bands, scores)
    if table is not None:
        by_n = table.set_index("n")
        part.facts["expected"] = by_n["mean"].to_dict()
        picked = [n for n in (1, 2, 5, 10, 50) if n in by_n.index]
        band = ""
        if bands is not None:
            n = max(n for n in picked if n <= 10)
            row = bands.set_index("n").loc[n]
            band = (
                f" With 95 % confidence, the curve at n = {n} lies between {between(row['low'], row['high'], 'and')}."
            )
        part.draw(
            figures.expected_maximum(table, bands, scores.metric),
            f"The best of {listed([str(n) for n in picked])} trials is expected to score "
            f"{listed([number(by_n.at[n, 'mean']) for n in picked])}; the shade holds 90 % of such draws.{band}",
        )
        part.table("expected_maximum", table, "Expected maximum of n trials", shown=_few(table))
    if bands is not None:
        part.table("expected_maximum_band", bands, "Its simultaneous 95 % confidence band", shown=_few(bands))
    schedules = part.attempt("By number of evaluations", maximum.by_schedule, scores)
    if schedules is not None:
        one = schedules[schedules["n"] == 1].set_index("schedule")["mean"]
        names = {"end": "where only its end counts", "epoch": "after every epoch", "all": "at every evaluation"}
        said = [f"{number(value)} {names.get(str(name), name)}" for name, value in one.items()]
        drawing = figures.schedules(schedules, scores.metric)
        part.draw(drawing, f"By how often trials are looked at, one is expected to score {listed(said)}.")
        part.table("by_schedule", schedules, "By number of evaluations", shown=_few(schedules))
    budgets = part.attempt("By budget", maximum.by_budget, scores)
    if budgets is not None:
        title = f"By whole trainings spent: the trials cost {number(budgets['budget'].iloc[-1], 1)} of them in all"
        part.table("by_budget", budgets, title, shown=budgets.iloc[_spaced(len(budgets))])
    return part


def _few(table: pd.DataFrame) -> Any:
    return table[table["n"].isin(SHOWN) | (table["n"] == table["n"].max())]


def _spaced(length: int, most: int = 12) -> list[int]:
    return sorted({*np.linspace(0, length - 1, min(length, most)).astype(int).tolist()})


def sources(scores: Scores, at: str) -> Part:
    """Where variance comes from."""
    part = Part(f"{at}-variance", "Where does the variance come from?", scores.name)
    components = part.attempt("Variance components", variance.components, scores)
    if components is not None:
        known = components[components["factor"].str.lower() != "residual"]
        part.facts["shares"] = dict(zip(known["factor"], known["share"], strict=True))
        said = [
            f"{factor(row.factor)} {percent(row.share)} (95 % interval {percent(row.share_low)} to "
            f"{percent(row.share_high)})"
            for row in rows(known)
        ]
        rest = components.loc[components["factor"].str.lower() == "residual", "share"]
        what = f"; the rest, {percent(rest.iloc[0])}, is what the seeds do together and chance" if len(rest) else ""
        part.draw(
            figures.variance_shares(components),
            f"Shares in the variance of the scores: {listed(said)}{what}.",
        )
        part.table("variance_components", components, "Variance components", open=True)
    anova = part.attempt("ANOVA", variance.anova, scores)
    if anova is not None:
        tested = anova[anova["p"].notna()]
        said = [f"{factor(r.factor)} F{GLUE}={GLUE}{number(r.f, 3)}, {p_value(r.p)}" for r in rows(tested)]
        part.said.append(f"Analysis of variance: {'; '.join(said)}.")
        part.table("anova", anova, "Analysis of variance", open=True)
    permutations = _each(part, scores, "Permutation test", variance.permutation)
    if permutations is not None:
        said = [f"{factor(r.factor)} {p_value(r.p)}" for r in rows(permutations)]
        draws = int(permutations["draws"].iloc[0])
        part.said.append(
            f"Is the range of the seeds' means larger than by chance? By {draws:,} permutations: {'; '.join(said)}."
        )
        part.table("permutation", permutations, "Permutation test on the range of means", open=True)
    pairs = _each(part, scores, "Best seed against worst seed", variance.best_against_worst)
    if pairs is not None:
        said = [
            f"{factor(r.factor)} {r.best} against {r.worst}: {p_value(r.p)}, corrected {p_value(r.corrected_p)}"
            for r in rows(pairs)
        ]
        part.said.append(f"The paper's test, as replication: {'; '.join(said)}.")
        part.warned.append(CHOSEN_AFTER)
        part.table(
            "best_against_worst", pairs, "Best seed against worst seed (replication; see the warning)", open=True
        )
    return part


def _each(part: Part, scores: Scores, what: str, function: Any) -> pd.DataFrame | None:
    """What a function of one factor finds, a row per factor."""
    told = []
    for name in scores.factors:
        found = part.attempt(f"{what}, {factor(name)}", function, scores, name)
        if found is not None:
            told.append({"factor": name, **found._asdict()})
    return pd.DataFrame(told) if told else None


def densities(scores: Scores, at: str) -> Part:
    """The best and the worst seed of each factor."""
    part = Part(f"{at}-densities", "How far apart are the best seed and the worst?", scores.name)
    if not scores.factors:
        part.refused.append(("Densities", "no seed varies; at least one must"))
    tables = []
    for name in scores.factors:
        found = part.attempt(f"Densities, {factor(name)}", seeds.densities, scores, name)
        if found is not None:
            tables.append(found)
    if tables:
        low, high = float(np.min(scores.trials["score"])), float(np.max(scores.trials["score"]))
        beyond = (high - low) / 12
        said = []
        for table in tables:
            name = str(table["factor"].iloc[0])
            means: Any = scores.trials.groupby(name)["score"].mean()
            best, worst = (int(table["seed"].to_numpy()[table["which"] == which][0]) for which in ("best", "worst"))
            said.append(f"{factor(name)} {best} has a mean of {number(means[best])}, {worst} of {number(means[worst])}")
        part.draw(
            figures.densities(tables, scores.metric, (low - beyond, high + beyond)),
            f"Of the seeds with the best and the worst mean: {'; '.join(said)}.",
        )
        part.warned.append(
            "These two seeds were chosen after looking: some distance between them there would be by chance alone."
        )
        part.table("densities", pd.concat(tables, ignore_index=True), "Kernel densities", shown=tables[0].iloc[:0])
    return part
