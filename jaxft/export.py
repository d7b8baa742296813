"""Trained trials as checkpoints that Hugging Face loads, with a model card that says where they come from."""

import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformers import CONFIG_MAPPING

from jaxft import groups, models, spec, store
from jaxft.errors import BadInput, line
from jaxft.members import nearest
from jaxft.models import checkpoint
from jaxft.replay import AT, Again, replay
from jaxft.stats.cells import Frame
from jaxft.store import Run


class Exported(NamedTuple):
    """A checkpoint that was written."""

    folder: Path
    trial: str
    said: str
    """Whether it is the recorded trial bit for bit, or what differs and by how much."""


def export(
    source: str | Path, out: str | Path, trials: Sequence[str] = (), best: int | None = None, at: str = "end"
) -> Iterator[Exported]:
    """Writes trials of a run as checkpoints for `AutoModelForSequenceClassification.from_pretrained`.

    Each is trained once more from its seeds (`replay`). One goes to `out` itself, several to folders in it, by id.

    Args:
        source: a run folder.
        out: a folder that is not there yet, or is empty.
        trials: ids, or beginnings that only one completed trial has.
        best: so many of the best instead: by their score on dev at the end, or with `at="best"` by their best one.
        at: "end" of training, or "best": the step at which the score on dev was best.

    Raises:
        BadInput: no such trial, a model that Hugging Face has no class for, or `out` cannot be written.
    """
    run = store.load(source)
    if at not in AT:
        raise BadInput(f"export: --at: expected end or best, found {at!r}")
    done = _completed(run)
    names = _best(run, done, best, at) if best is not None else [_found(run, done, name) for name in trials]
    _refuse(run, done[done["trial"].isin(names)])
    out = Path(out)
    _refuse_full(out)
    for again in replay(run, names, at):
        folder = out if len(names) == 1 else out / again.trial.id
        said = _said(again)
        _written(folder, run, again, at, said)
        yield Exported(folder, again.trial.id, said)


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


def _written(folder: Path, run: Run, again: Again, at: str, said: str) -> None:
    """All of it, or nothing."""
    found = models.open(again.trial.fixed["model"])
    weights = groups.weights(again.group, again.replica)
    part = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        checkpoint.save(part, found.config, weights, found.tokenizer, again.group.task.labels)
        about = _about(run, again, at, said)
        (part / "jaxft.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        (part / "README.md").write_text(_card(run, again, about), encoding="utf-8")
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
        "model": again.trial.fixed["model"],
        "task": again.trial.fixed["task.name"],
        "method": again.trial.fixed["method"],
        "seeds": again.trial.seeds._asdict(),
        "pairs": again.group.task.pairs,
        "settings": {**again.trial.fixed, **again.trial.hp},
        "step": again.step,
        "at": at,
        "metric": row["metric"],
        **{name: None if math.isnan(value) else float(value) for name, value in scores.items()},
        "rank": _ranked(alike, at).index(again.trial.id) + 1,
        "of": len(alike),
        "recorded": {name: str(row[name]) for name in ("slots_per_device", "device", "precision", "versions")},
        "replay": said,
    }


def _said(again: Again) -> str:
    other = "; ".join(again.unlike)
    if not again.off:
        return "its predictions on dev are the recorded ones, bit for bit" + (f", though: {other}" if other else "")
    return f"its logits on dev are within {again.off:.2g} of the recorded ones: {other or 'nothing known differs'}"


def _card(run: Run, again: Again, about: dict[str, Any]) -> str:
    done = _completed(run)
    done = done[done["task"] == about["task"]]
    score = "final_score" if about["at"] == "end" else "best_score"
    test = about["test_at_final" if about["at"] == "end" else "test_at_best"]
    seeds = ", ".join(f"{name} {seed}" for name, seed in about["seeds"].items())
    labels = ", ".join(again.group.task.labels) or "none: it predicts a number"
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-classification",
        "tags: [jaxft]",
        "---",
        "",
        f"# {about['study']}: {about['task']}",
        "",
        f"`{about['model']}`, fine-tuned on {about['task']} by jaxft: one of the {about['of']} completed trials of the "
        f"study `{about['study']}`.",
        "",
        f"- Classes: {labels}",
        f"- {about['metric']} on dev: {about[score]:.4f}, after step {about['step']}"
        + (", where it was best during training" if about["at"] == "best" else ", the last"),
        f"- On test: {test:.4f}" if test is not None else "- On test: not measured",
        f"- Seeds: {seeds}",
        f"- Method: `{about['method']}`",
        f"- Rank by this score: {about['rank']} of {about['of']}, whose mean is {done[score].mean():.4f} and whose "
        f"standard deviation is {done[score].std(ddof=1) if len(done) > 1 else 0.0:.4f}. The score of a trial that was "
        "chosen by it is too high for what new data would give.",
        "",
        f"Trained again from its seeds: {about['replay']}. All settings are in `jaxft.json`.",
        "",
        "```python",
        "from transformers import pipeline",
        "",
        'classify = pipeline("text-classification", model=".")  # this folder',
        "```",
    ]
    return "\n".join(lines) + "\n"
