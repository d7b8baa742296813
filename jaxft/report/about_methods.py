"""A chapter about the settings of one source, ways to fine-tune above all: what each scored, against the first."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxft.errors import BadInput
from jaxft.members import spec
from jaxft.report import figures
from jaxft.report.about_studies import told
from jaxft.report.page import Chapter
from jaxft.report.part import Part
from jaxft.report.words import count, listed, number, p_value, percent, rows
from jaxft.stats import compare
from jaxft.stats.scores import Scores

APART = ("model", "n_train")
"""Settings whose scores are not compared: each value is a comparison of its own."""
FAILURES = ("failed", "failure_rate", "failure_low", "failure_high", "failures_p", "failures_p_holm")
OPTIMISTIC = (
    "Settings were chosen by the very scores that are compared here, which flatters whoever had more of them to choose "
    "from. A study with `task.split_dev` chooses by one half of the dev set and compares by the other."
)


class Arm(NamedTuple):
    """One of those that are compared."""

    name: str
    tried: list[Scores]
    """With each of its settings."""
    chosen: Scores
    """That with the best mean on dev."""


def chapters(studies: Sequence[Scores]) -> list[Chapter]:
    """One for each source and task with trials of several methods, or of several settings where there is one method.

    Args:
        studies: all trials, those without a score too.
    """
    groups: dict[tuple[Any, ...], list[Scores]] = {}
    for study in studies:
        if np.isfinite(study.trials["score"].to_numpy(float)).any():
            key = study.source, study.task, study.metric, *(study.setting.get(name) for name in APART)
            groups.setdefault(key, []).append(study)
    found = [(key, group) for key, group in groups.items() if len(group) > 1]
    return [_chapter(key, group, f"methods-{i}", len(found) > 1) for i, (key, group) in enumerate(found, 1)]


def arms(group: Sequence[Scores]) -> list[Arm]:
    """By method, vanilla first, else in the order of the source; of each the setting with the best mean on dev.

    A trial that was never evaluated counts with the majority's score there, where that is known. Where all have one
    method, each setting is an arm.
    """
    methods: dict[Any, list[Scores]] = {}
    for study in group:
        methods.setdefault(study.setting.get("method"), []).append(study)
    if len(methods) == 1:
        return [Arm(setting(study), [study], study) for study in group]
    texts = dict(zip(methods, _short([str(method) for method in methods]), strict=True))
    found = [Arm(texts[method], tried, max(tried, key=_dev)) for method, tried in methods.items()]
    return sorted(found, key=lambda arm: arm.name != "vanilla")


def setting(study: Scores) -> str:
    """What tells its trials from others of its method: "train.lr 2e-05"."""
    said = {name: value for name, value in study.setting.items() if name not in ("method", *APART)}
    return ", ".join(f"{name.removeprefix('hp.')} {value}" for name, value in said.items())


def on_test(study: Scores) -> Scores | None:
    """The same trials, with the scores on the test set at their best step; None where the source has none."""
    if study.run is None or "test_at_best" not in study.run.trials:
        return None
    test = study.run.trials.set_index("trial")["test_at_best"].reindex(study.trials["trial"]).to_numpy(float)
    return study._replace(trials=study.trials.assign(score=test)) if np.isfinite(test).any() else None


def _chapter(key: tuple[Any, ...], group: list[Scores], at: str, several: bool) -> Chapter:
    found = arms(group)
    many = len({study.setting.get("method") for study in group}) > 1
    title = "Methods" if many else "Settings"
    apart = [f"{name} {value}" for name, value in zip(APART, key[3:], strict=True) if value is not None]
    about = ", ".join([f"{key[0]}: task {key[1]}, scored by {key[2]}", *apart])
    return Chapter(at, ": ".join([title, *([str(key[1])] if several else [])]), f"{about}.", [_part(found, at, many)])


def _part(found: list[Arm], at: str, many: bool) -> Part:
    first = found[0].name
    part = Part(f"{at}-compared", f"How do {'methods' if many else 'settings'} compare with {first}?")
    tests = [on_test(arm.chosen) for arm in found]
    judged = [test for test in tests if test is not None]
    held = len(judged) == len(found)
    sides = judged if held else [arm.chosen for arm in found]
    where = "the test set" if held else "dev"
    chosen = any(len(arm.tried) > 1 for arm in found)
    if chosen:
        said = [f"{arm.name}: {setting(arm.chosen)}" for arm in found if len(arm.tried) > 1]
        part.said.append(
            f"Of each method the setting with the best mean on dev was chosen ({'; '.join(said)}), and is compared by "
            f"its scores on {where}."
        )
        if not held:
            part.warned.append(OPTIMISTIC)
        part.table("method_settings", _tried(found), "All settings, by their scores on dev")
    elif held:
        part.said.append("Compared by the scores on the test set, at the step that is best on dev.")
    table = part.attempt("Comparison", _table, found, sides, held)
    shown = [side._replace(trials=side.trials[np.isfinite(side.trials["score"].to_numpy(float))]) for side in sides]
    names, metric = [arm.name for arm in found], sides[0].metric
    if table is not None:
        part.draw(figures.distributions(shown, names), _scored(table, metric, where, held))
        told(part, table, names, metric)
        part.said += list(_varied(table))
        columns = ["method", "trials", "mean", "sd", "best", "failure_rate", "difference", "low", "high"]
        columns += ["mean_p", "mean_p_holm", "spread_p_holm"]
        title = f"Each against {first}, on {where}"
        part.table("methods", table, title, shown=table[columns], open=True)
    return part


def _table(found: list[Arm], sides: list[Scores], held: bool) -> pd.DataFrame:
    """`compare.table` with `method`, `setting` and `judged_on`.

    Judged on test, who failed is still a matter of dev, as is which trial is the best.
    """
    table = compare.table(sides, drop=True)
    if held:
        try:
            dev = compare.table([arm.chosen for arm in found], drop=True)
            table = table.assign(**{name: dev[name] for name in FAILURES})
        except BadInput:  # dev has too little to compare: nor is it known who failed
            table = table.assign(**dict.fromkeys(FAILURES, np.nan))
        best = [_best(arm.chosen, side) for arm, side in zip(found, sides, strict=True)]
        table = table.assign(best=best).drop(columns=["expected_best", "best_of"])
    table.insert(1, "method", [arm.name for arm in found])
    table.insert(2, "setting", [setting(arm.chosen) for arm in found])
    table.insert(3, "judged_on", "test" if held else "dev")
    return table


def _best(dev: Scores, test: Scores) -> float:
    """The test score of the trial that is best on dev."""
    return float(test.trials["score"].to_numpy(float)[np.nanargmax(dev.trials["score"].to_numpy(float))])


def _tried(found: list[Arm]) -> pd.DataFrame:
    """A row per method and setting: method, setting, trials, mean, sd, best (on dev), chosen."""
    tried = []
    for arm in found:
        for study in arm.tried:
            score = study.trials["score"].to_numpy(float)
            known = score[np.isfinite(score)]
            tried.append(
                {
                    "method": arm.name,
                    "setting": setting(study),
                    "trials": len(score),
                    "mean": _dev(study),
                    "sd": known.std(ddof=1) if len(known) > 1 else float("nan"),
                    "best": known.max() if len(known) else float("nan"),
                    "chosen": study is arm.chosen,
                }
            )
    return pd.DataFrame(tried)


def _scored(table: pd.DataFrame, metric: str, where: str, held: bool) -> str:
    said = []
    for row in rows(table):
        sd = f", standard deviation {number(row.sd)}" if row.trials > 1 else ""
        failed = "" if np.isnan(row.failure_rate) else f", {percent(row.failure_rate)} failed"
        said.append(f"{row.method} {number(row.mean)} (best {number(row.best)}{sd}{failed})")
    many = count(int(np.sum(table["trials"])), "trial")
    best = " (best: of the trial that is best on dev)" if held else ""
    return f"Mean {metric} on {where} of {many}{best}: {'; '.join(said)}."


def _varied(table: pd.DataFrame) -> list[str]:
    """What the test of equal spread says."""
    tested = [row for row in rows(table.iloc[1:]) if not np.isnan(row.spread_p)]
    if not tested:
        return []
    said = [f"{row.method} {p_value(row.spread_p)}, Holm-corrected {p_value(row.spread_p_holm)}" for row in tested]
    return [f"Whether scores vary as much as those of {table['method'].iloc[0]} (Brown and Forsythe): {listed(said)}."]


def _dev(study: Scores) -> float:
    score, majority = (study.trials[name].to_numpy(float) for name in ("score", "majority_score"))
    filled = np.where(np.isnan(score), majority, score)
    return float(filled[~np.isnan(filled)].mean())


def _short(methods: list[str]) -> list[str]:
    """Without their arguments, where that still tells them apart."""

    def bare(method: str) -> str:
        try:
            return "|".join(call.name for call in spec.parse(method))
        except BadInput:  # from a file, where it may be any text
            return method

    names = [bare(method) for method in methods]
    return [name if names.count(name) == 1 else method for name, method in zip(names, methods, strict=True)]
