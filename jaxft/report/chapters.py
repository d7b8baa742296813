"""All analyses of all studies, in the order of the page."""

from collections.abc import Iterator, Sequence
from importlib.metadata import version

import numpy as np
import pandas as pd

import jaxft
from jaxft.report import about_methods, about_seeds, about_sizes, about_studies, about_training, page
from jaxft.report.part import Part
from jaxft.report.summary import summary
from jaxft.report.words import count, listed
from jaxft.stats.scores import Scores
from jaxft.study import config

PARTS = (
    about_seeds.grid,
    about_seeds.best_of,
    about_seeds.sources,
    about_seeds.densities,
    about_training.outcomes,
    about_training.early_stopping,
    about_training.gradients,
    about_training.together,
    about_studies.seeds_needed,
)
"""Of each study: `(scores, anchor) -> Part`."""

NAMES = (
    "across_tasks",
    "anova",
    "best_against_worst",
    "bimodality",
    "by_budget",
    "by_schedule",
    "comparison",
    "correlation",
    "densities",
    "early_stopping",
    "early_stopping_optimum",
    "ensembles",
    "expected_maximum",
    "expected_maximum_band",
    "failures",
    "gradient_norms",
    "learning_curve",
    "method_settings",
    "methods",
    "multibootstrap",
    "permutation",
    "seeds_needed",
    "size_costs",
    "size_crossing",
    "size_gap",
    "size_needed",
    "studies",
    "successive_halving",
    "trials",
    "variance_components",
)
"""Of all tables that there may be: files of these names in a report's folder are the report's."""

Tables = dict[str, list[tuple[str, pd.DataFrame]]]
"""By name, for each study that has it."""


def compose(studies: Sequence[Scores], sources: Sequence[str]) -> tuple[str, Tables]:
    """The page, and all tables.

    Args:
        studies: at least one.
        sources: what they were read from, for the end of the page.
    """
    scored = [_scored(study) for study in studies]
    left_out = [len(study.trials) - len(with_score.trials) for study, with_score in zip(studies, scored, strict=True)]
    tables: Tables = {"studies": [("", about_studies.overview(studies, scored))]}
    texts = about_studies.names(studies)
    chapters = [
        _of_study(*each, f"study-{i}") for i, each in enumerate(zip(texts, studies, scored, left_out, strict=True), 1)
    ]
    for study, chapter in zip(studies, chapters, strict=True):
        for part in chapter.parts:
            for name, frame in part.tables.items():
                tables.setdefault(name, []).append((study.name, frame))
    if len(studies) > 1:
        chapters.insert(0, _of_all(scored, tables))
        chapters[:0] = _apart(about_methods.chapters(studies), tables)
        chapters[:0] = _apart(about_sizes.chapters(studies), tables)
    trials = sum(len(study.trials) for study in studies)
    tasks = list(dict.fromkeys(study.task for study in studies))
    title = f"What the seeds decide: {listed(tasks, 4)}"
    lead = [f"{count(trials, 'trial')} in {count(len(studies), 'study', 'studies')}, from {listed(sources)}."]
    return page.render(title, lead, chapters, list(_settings(studies))), tables


def _scored(study: Scores) -> Scores:
    """Trials that were never evaluated have no score that statistics could be about."""
    known = np.isfinite(study.trials["score"].to_numpy(float))
    if known.all():
        return study
    trials = study.trials[known].reset_index(drop=True)
    factors = tuple(name for name in study.factors if len(set(trials[name])) > 1)
    return study._replace(
        trials=trials, factors=factors, evals=study.evals[np.isin(study.evals["trial"], trials["trial"])]
    )


def _of_study(name: str, study: Scores, scored: Scores, unscored: int, at: str) -> page.Chapter:
    # Whether a trial failed is known of those without a score too.
    whole = {about_training.outcomes}
    parts = [make(study if make in whole else scored, at) for make in PARTS] if len(scored.trials) else []
    facts = {name: fact for part in parts for name, fact in part.facts.items()}
    setting = ", ".join(f"{name} {value}" for name, value in study.setting.items())
    about = f"{study.name}: task {study.task}, scored by {study.metric}{f'; {setting}' if setting else ''}."
    return page.Chapter(at, name, about, [summary(scored, at, unscored, facts), *parts])


def _of_all(scored: Sequence[Scores], tables: Tables) -> page.Chapter:
    found = [study for study in scored if len(study.trials)]
    first = Part("overview", "What did each study score?")
    frame = tables["studies"][0][1]
    told = ["study", "trials", "mean", "sd", "median", "max", "mean_final", "task", "metric"]
    shown = frame.assign(study=about_studies.names(scored))[told]
    first.table("studies", frame, "All studies", shown=shown, open=True)
    parts = [*about_studies.comparisons(found), about_studies.across(found)]
    for part in parts:
        for name, table in part.tables.items():
            tables.setdefault(name, []).append(("", table))
    return page.Chapter("all", "All studies", "", [first, *parts])


def _apart(chapters: list[page.Chapter], tables: Tables) -> list[page.Chapter]:
    """Chapters about settings, whose tables are kept by what they are about."""
    for chapter in chapters:
        for part in chapter.parts:
            for name, table in part.tables.items():
                tables.setdefault(name, []).append((chapter.about, table))
    return chapters


def _settings(studies: Sequence[Scores]) -> Iterator[tuple[str, str]]:
    runs = {str(study.run.folder): study.run for study in studies if study.run is not None}
    for folder, run in runs.items():
        yield f"{folder}: study.yaml", config.dump(run.study).strip()
        kept = ("device", "precision", "versions")
        said = [
            f"{name}: {listed(run.trials[name].drop_duplicates().tolist(), 20)}" for name in kept if name in run.trials
        ]
        yield f"{folder}: trained on and with", "\n".join(said)
    for study in studies:
        if study.run is None:
            yield study.name, f"scores alone: {count(len(study.trials), 'trial')}; settings and versions are not known"
    packages = ("numpy", "scipy", "pandas", "statsmodels", "opda", "matplotlib")
    yield (
        "This report was made with",
        ", ".join([f"jaxft {jaxft.__version__}", *(f"{n} {version(n)}" for n in packages)]),
    )
