"""Trained trials as checkpoints that Hugging Face loads, with a model card that says where they come from."""

import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformers import CONFIG_MAPPING

from jaxft import models
from jaxft.engine import groups
from jaxft.engine.groups import Group
from jaxft.errors import BadInput, line
from jaxft.folder import store
from jaxft.folder.store import Run
from jaxft.members import nearest, spec
from jaxft.models import checkpoint
from jaxft.stats.cells import Frame
from jaxft.study.trials import Trial
from jaxft.trained.mixed import KINDS, mixed
from jaxft.trained.replay import AT, Again, replay


class Exported(NamedTuple):
    """A checkpoint that was written."""

    folder: Path
    trial: str
    """Its id; empty for an average of several."""
    what: str
    """What it is, in words."""
    said: str
    """Whether it is the recorded trial bit for bit, or what differs and by how much."""


def export(
    source: str | Path, out: str | Path, trials: Sequence[str] = (), best: int | None = None, at: str = "end",
    soup: str | None = None,
) -> Iterator[Exported]:  # fmt: skip
    """Writes trials of a run as checkpoints for `AutoModelForSequenceClassification.from_pretrained`.

    What a run kept (`eval.soups`) is taken from its folder, another trial is trained once more from its seeds
    (`replay`). One goes to `out` itself, several to folders in it, by id.

    Args:
        source: a run folder.
        out: a folder that is not there yet, or is empty.
        trials: ids, or beginnings that only one completed trial has.
        best: so many of the best instead: by their score on dev at the end, or with `at="best"` by their best one.
        at: "end" of training, or "best": the step at which the score on dev was best.
        soup: "greedy" or "uniform": the average of trials of this kind instead that scored best on dev (`eval.soups`).

    Raises:
        BadInput: no such trial, a model that Hugging Face has no class for, or `out` cannot be written.
    """
    run = store.load(source)
    if at not in AT:
        raise BadInput(f"export: --at: expected end or best, found {at!r}")
    if soup is not None:
        yield _soup(run, Path(out), soup)
        return
    done = _completed(run)
    names = _best(run, done, best, at) if best is not None else [_found(run, done, name) for name in trials]
    _refuse(run, done[done["trial"].isin(names)])
    out = Path(out)
    _refuse_full(out)
    for again in replay(run, names, at):
        folder = out if len(names) == 1 else out / again.trial.id
        said = _said(again)
        about = _about(run, again, at, said)
        _written(folder, again.group, groups.weights(again.group, again.replica), about, _card(run, again, about))
        yield Exported(folder, again.trial.id, f"trial {again.trial.id}", said)


def _soup(run: Run, out: Path, kind: str) -> Exported:
    if kind not in KINDS:
        raise BadInput(f"export: --soup: expected {' or '.join(KINDS)}, found {kind!r}")
    _refuse_full(out)
    made = mixed(run, kind)
    _refuse(run, _completed(run).query("trial in @names", local_dict={"names": [t.id for t in made.members]}))
    said = f"its loss on dev is within {made.off:.2g} of the recorded one"
    first = made.members[0]
    about = {
        "study": run.study.name,
        "soup": kind,
        "members": [trial.id for trial in made.members],
        "of": made.of,
        "init_seed": made.init,
        **_settings(first, made.group),
        "metric": made.metric,
        "dev": made.score,
        "test": made.test,
        "replay": said,
    }
    lines = [
        f"The mean of the parameters of {len(made.members)} fine-tunings of `{about['model']}` on {about['task']} by "
        f"jaxft: a {kind} soup (Wortsman et al. 2022, arXiv 2203.05482) of the {made.of} best trials"
        + (f" of init seed {made.init}" if made.init is not None else "")
        + f" of the study `{run.study.name}`.",
        "",
        f"- Classes: {_labels(made.group)}",
        f"- {made.metric} on dev, which chose it: {made.score:.4f}",
        f"- On test: {made.test:.4f}" if made.test is not None else "- On test: not measured",
        f"- Method: `{about['method']}`",
        f"- Members: {', '.join(about['members'])}",
        "",
        f"Made of what the run kept: {said}. All settings are in `jaxft.json`.",
    ]
    _written(out, made.group, made.weights, about, _page(about, lines))
    return Exported(out, "", f"{kind} soup of {len(made.members)} trials", said)


def _completed(run: Run) -> Frame:
    trials: Frame = run.trials
    return trials[trials["status"] == "completed"]


def _best(run: Run, done: Frame, count: int, at: str) -> list[str]:
    if done["metric"].nunique() > 1 or done["task"].nunique() > 1:
        raise BadInput(f"{run.folder}: --best: its trials have several tasks; name some with --trial")
    if not 1 <= count <= len(done):
        raise BadInput(f"{run.folder}: --best {count}: expected 1 to {len(done)}, its completed trials")
    return _ranked(done, at)[:count]


def _ranked(done: Frame, at: str) -> list[str]:
    """Ids, the best first; of equal ones the lowest id."""
    score = -done["final_score" if at == "end" else "best_score"]
    return done.assign(worse=score).sort_values(["worse", "trial"])["trial"].tolist()


def _found(run: Run, done: Frame, name: str) -> str:
    found = [trial for trial in done["trial"] if name and trial.startswith(name)]
    if len(found) > 1:
        raise BadInput(f"{run.folder}: --trial {name}: {len(found)} trials begin so; give more of the id")
    if found:
        return found[0]
    other = run.trials[run.trials["trial"].str.startswith(name)] if name else run.trials.iloc[:0]
    if len(other):
        row = other.iloc[0]
        raise BadInput(f"{run.folder}: --trial {name}: it was not completed ({row['reason'] or row['status']})")
    raise BadInput(f"{run.folder}: --trial {name!r}: no finished trial; {nearest(name, done['trial'].tolist())}")


def _refuse(run: Run, chosen: Frame) -> None:
    """Before anything is trained."""
    for name in chosen["model"].unique():
        if models.open(str(name)).family not in CONFIG_MAPPING:
            raise BadInput(f"{run.folder}: model: {name}: Hugging Face has no class for it")
    for name in chosen["method"].unique():
        if any(call.name == "adapter" for call in spec.parse(str(name), "method")):
            raise BadInput(f"{run.folder}: method: {name}: the plain model has no place for adapters")


def _refuse_full(out: Path) -> None:
    try:
        if out.is_dir() and any(out.iterdir()):
            raise BadInput(f"{out}: is not empty; give another --out")
        if out.exists() and not out.is_dir():
            raise BadInput(f"{out}: is no folder; give another --out")
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{out}: cannot be written ({line(error)})") from None


def _written(folder: Path, group: Group, weights: dict[str, Any], about: dict[str, Any], card: str) -> None:
    """All of it, or nothing."""
    found = models.open(group.trials[0].fixed["model"])
    part = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        checkpoint.save(part, found.config, weights, found.tokenizer, group.task.labels)
        (part / "jaxft.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        (part / "README.md").write_text(card, encoding="utf-8")
        part.chmod(0o755)
        if folder.is_dir():
            folder.rmdir()
        part.rename(folder)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({line(error)})") from None
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


def _about(run: Run, again: Again, at: str, said: str) -> dict[str, Any]:
    alike = _completed(run)
    alike = alike[alike["task"] == again.trial.fixed["task.name"]]
    row = alike.set_index("trial").loc[again.trial.id]
    scores = {name: row[name] for name in ("final_score", "best_score", "test_at_final", "test_at_best")}
    return {
        "study": run.study.name,
        "trial": again.trial.id,
        **_settings(again.trial, again.group),
        "seeds": again.trial.seeds._asdict(),
        "step": again.step,
        "at": at,
        "metric": row["metric"],
        **{name: None if math.isnan(value) else float(value) for name, value in scores.items()},
        "rank": _ranked(alike, at).index(again.trial.id) + 1,
        "of": len(alike),
        "recorded": {name: str(row[name]) for name in ("slots_per_device", "device", "precision", "versions")},
        "replay": said,
    }


def _settings(trial: Trial, group: Group) -> dict[str, Any]:
    return {
        "model": trial.fixed["model"],
        "task": trial.fixed["task.name"],
        "method": trial.fixed["method"],
        "pairs": group.task.pairs,
        "settings": {**trial.fixed, **trial.hp},
    }


def _labels(group: Group) -> str:
    return ", ".join(group.task.labels) or "none: it predicts a number"


def _said(again: Again) -> str:
    other = "; ".join(again.unlike)
    if again.kept:
        return f"as the run kept it: its logits on dev, of another program, are those recorded within {again.off:.2g}"
    if not again.off:
        return "its predictions on dev are the recorded ones, bit for bit" + (f", though: {other}" if other else "")
    return f"its logits on dev are within {again.off:.2g} of the recorded ones: {other or 'nothing known differs'}"


def _card(run: Run, again: Again, about: dict[str, Any]) -> str:
    done = _completed(run)
    done = done[done["task"] == about["task"]]
    score = "final_score" if about["at"] == "end" else "best_score"
    test = about["test_at_final" if about["at"] == "end" else "test_at_best"]
    seeds = ", ".join(f"{name} {seed}" for name, seed in about["seeds"].items())
    lines = [
        f"`{about['model']}`, fine-tuned on {about['task']} by jaxft: one of the {about['of']} completed trials of the "
        f"study `{about['study']}`.",
        "",
        f"- Classes: {_labels(again.group)}",
        f"- {about['metric']} on dev: {about[score]:.4f}, after step {about['step']}"
        + (", where it was best during training" if about["at"] == "best" else ", the last"),
        f"- On test: {test:.4f}" if test is not None else "- On test: not measured",
        f"- Seeds: {seeds}",
        f"- Method: `{about['method']}`",
        f"- Rank by this score: {about['rank']} of {about['of']}, whose mean is {done[score].mean():.4f} and whose "
        f"standard deviation is {done[score].std(ddof=1) if len(done) > 1 else 0.0:.4f}. The score of a trial that was "
        "chosen by it is too high for what new data would give.",
        "",
        f"Its parameters: {about['replay']}. All settings are in `jaxft.json`.",
    ]
    return _page(about, lines)


def _page(about: dict[str, Any], lines: Sequence[str]) -> str:
    """A model card around these lines."""
    head = ["---", "library_name: transformers", "pipeline_tag: text-classification", "tags: [jaxft]", "---", ""]
    use = ["```python", "from transformers import pipeline", ""]
    use += ['classify = pipeline("text-classification", model=".")  # this folder', "```"]
    return "\n".join([*head, f"# {about['study']}: {about['task']}", "", *lines, "", *use]) + "\n"
