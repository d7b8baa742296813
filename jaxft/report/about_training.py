"""Parts of the report about training: outcomes and failures, early stopping, norms of gradients, ensembles."""

from typing import Any

import numpy as np
import pandas as pd

from jaxft.report import figures
from jaxft.report.part import Part
from jaxft.report.words import count, listed, number, percent, rows, signed
from jaxft.stats import curves, ensembles, failures, multibootstrap, stopping
from jaxft.stats.scores import Scores

DRAWS = 4_000
"""Of the simulations of early stopping; the paper took 50,000."""
BUDGETS = 30
"""Whole trainings at most, as in the paper; fewer where there are fewer trials."""


def outcomes(scores: Scores, at: str) -> Part:
    """Training curves by outcome, failures by definition."""
    part = Part(f"{at}-failures", "Which trials failed, and how did they train?", scores.name)
    found = part.attempt("Outcomes", failures.outcomes, scores)
    if found is not None:
        many = found.value_counts()
        part.facts["outcomes"] = many.to_dict()
        said = listed([f"{n} {kind} ({percent(n / len(found))})" for kind, n in many.items()])
        if scores.evals.empty:
            part.said.append(f"Of {count(len(found), 'trial')}: {said}.")
            part.refused.append(("Training curves", "no evaluations along training in this source"))
        else:
            part.draw(figures.curves(scores, found), f"Of {count(len(found), 'trial')}: {said}.{_lost(scores)}")
    rates = part.attempt("Failure rates", failures.rates, scores)
    if rates is not None and len(rates):
        part.facts["rates"] = rates.set_index("definition")["rate"].to_dict()
        said = [f"{r.definition} {r.failed} of {r.trials} ({percent(r.rate)})" for r in rows(rates)]
        part.draw(figures.failures(rates), f"Failed, by definition: {'; '.join(said)}.")
        part.table("failures", rates, "Failures by definition, with Wilson's 95 % interval", open=True)
    modes = part.attempt("Bimodality", failures.bimodality, scores)
    if modes is not None:
        groups = (
            f"{modes.below} around {number(modes.low)} and {modes.trials - modes.below} around "
            f"{number(modes.high)}, split at "
            f"{number(modes.threshold)} (separation {number(modes.separation, 1)}, coefficient "
            f"{number(modes.coefficient, 2)})"
        )
        verdict = (
            "The scores fall into two groups"
            if modes.bimodal
            else "The scores do not fall into two clear groups; split they are"
        )
        part.said.append(f"{verdict}: {groups}.")
        part.table("bimodality", pd.DataFrame([modes._asdict()]), "One group of scores, or two?", open=True)
    return part


def _lost(scores: Scores) -> str:
    """What the best of training hides."""
    fallen = (scores.trials["score"] - scores.trials["final_score"]).dropna()
    if not len(fallen) or float(np.max(fallen)) <= 0:
        return ""
    return (
        f" From its best to its end a trial lost {number(fallen.mean())} on average, at most "
        f"{number(fallen.max())}: a score "
        "is the best of training."
    )


def early_stopping(scores: Scores, at: str) -> Part:
    """How early one could have known, and what stopping early would have gained."""
    part = Part(f"{at}-stopping", "Whom to stop early?", scores.name)
    known = part.attempt("Early stopping", curves.scored, scores)
    if known is None:
        return part
    together = part.attempt("Correlation over time", stopping.correlation, known)
    if together is not None:
        part.draw(figures.correlation(together), _correlated(together))
        part.table("correlation", together, "Correlation of scores on the way with the end", shown=_spaced(together))
    budgets = range(1, min(BUDGETS, len(known.trials)) + 1)
    table = part.attempt("Start many, stop early, continue some", stopping.simulate, known, budgets, draws=DRAWS)
    best = None if table is None else part.attempt("Best setting by budget", stopping.optimum, table)
    if table is None or best is None:
        return part
    halving = part.attempt("Successive halving", stopping.halving, known, budgets, draws=DRAWS // 4)
    top = None if halving is None else part.attempt("Best successive halving by budget", stopping.optimum, halving)
    part.warned.append(
        f"Simulated on these {len(known.trials)} curves, drawn with replacement. The best of many settings is "
        "picked, so its gain is a "
        f"little too large; a setting that starts more than {len(known.trials)} trials tells of these trials, not "
        "of new ones."
    )
    part.draw(figures.early_stopping(best, top, scores.metric), _gained(best, top))
    part.table(
        "early_stopping_optimum",
        best,
        "Best setting by budget",
        shown=best[best["budget"].isin([1, 2, 3, 5, 10, 15, 20, 30])],
    )
    part.table("early_stopping", table, "All settings", shown=table.nlargest(8, "gain"))
    if halving is not None:
        part.table("successive_halving", halving, "Successive halving", shown=halving.nlargest(8, "gain"))
    return part


def _correlated(table: pd.DataFrame) -> str:
    said = []
    for fraction in (0.1, 0.25, 0.5):
        row = table.iloc[(table["fraction"] - fraction).abs().argmin()]
        said.append(f"{number(row['spearman'], 2)} after {percent(row['fraction'])} of training")
    return f"The best score so far and the final one have a rank correlation of {listed(said)}."


def _gained(best: pd.DataFrame, halving: pd.DataFrame | None) -> str:
    at = 5 if 5 in best["budget"].tolist() else int(best["budget"].iloc[len(best) // 2])
    row: Any = best[best["budget"] == at].iloc[0]
    if row["start"] == row["keep"]:
        said = f"At the cost of {count(at, 'whole training')} no setting is better than to train all to their end"
    else:
        said = _setting(row, at)
    most = best.loc[best["gain"].idxmax()]
    if most["gain"] > 0:
        said += f"; the largest gain is {signed(most['gain'])}, at a budget of {int(most['budget'])}"
    if halving is not None and at in halving["budget"].tolist():
        said += f". Successive halving gains {signed(halving.loc[halving['budget'] == at, 'gain'].iloc[0])} at {at}"
    return said + "."


def _setting(row: Any, at: int) -> str:
    return (
        f"At the cost of {count(at, 'whole training')} it is best to start {int(row['start'])} trials, look after "
        f"{percent(row['fraction'])} of training and go on with {int(row['keep'])}: the best then scores "
        f"{number(row['score'])} instead of {number(row['baseline'])} ({signed(row['gain'])})"
    )


def _spaced(table: pd.DataFrame, most: int = 12) -> pd.DataFrame:
    return table.iloc[sorted({*np.linspace(0, len(table) - 1, min(len(table), most)).astype(int).tolist()})]


def gradients(scores: Scores, at: str) -> Part:
    """Norms of gradients by layer and outcome: the diagnosis of vanishing gradients."""
    part = Part(f"{at}-gradients", "Do gradients vanish where trials fail?", scores.name)
    table = part.attempt("Norms of gradients", failures.gradients, scores)
    if table is not None:
        layers = list(dict.fromkeys(table["layer"]))
        bottom = table[table["layer"] == layers[0]].groupby("outcome")["median"].median()
        top = table[table["layer"] == layers[-1]].groupby("outcome")["median"].median()
        said = [f"{kind} {number(bottom[kind])} and {number(top[kind])}" for kind in bottom.index]
        part.draw(
            figures.gradients(table),
            f"Median norms of the gradient in {layers[0]} and in {layers[-1]}: {'; '.join(said)}. Where trials fail "
            "because gradients "
            "vanish (Mosbach et al. 2021), the lower layers of the failed are dark.",
        )
        part.table("gradient_norms", table, "Norms of gradients", shown=_spaced(table))
    return part


def together(scores: Scores, at: str) -> Part:
    """What stored predictions say: the uncertainty over seeds and examples, and ensembles."""
    part = Part(f"{at}-predictions", "How sure is the mean, and what do trials know together?", scores.name)
    sure = part.attempt("Multi-bootstrap", multibootstrap.multibootstrap, scores, drop=True)
    if sure is not None:
        part.said.append(
            f"Over new seeds and new examples the mean {sure.statistic} of {number(sure.estimate)} has a 95 % "
            "interval of "
            f"{number(sure.low)} to {number(sure.high)} (multi-bootstrap, {sure.draws:,} draws; standard error "
            f"{number(sure.error)}, by seeds alone {number(sure.error_of_seeds)}, by examples alone "
            f"{number(sure.error_of_examples)})."
        )
        part.table("multibootstrap", pd.DataFrame([sure._asdict()]), "Multi-bootstrap over seeds and examples")
    table = part.attempt("Ensembles", ensembles.ensemble, scores, drop=True)
    if table is not None:
        last = table.iloc[-1]
        part.draw(
            figures.ensembles(table, scores.metric),
            f"All {int(last['size'])} trials together score {number(last['mean'])}, one alone "
            f"{number(last['single'])} on average; the shade holds 90 % of ensembles of a size.",
        )
        part.warned.append(
            "These are predictions on dev at each trial's best evaluation, which was chosen on the same examples: "
            "all of these scores are "
            "optimistic. Which is better can be told from them, how good it is cannot."
        )
        part.table("ensembles", table, "Ensembles by size")
    return part
