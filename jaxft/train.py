"""The loop: fill the slots, run a block on the devices, look at the scores, settle, write rows, refill."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxft import methods, models, optim, replica, tasks
from jaxft.data import batch
from jaxft.errors import BadInput
from jaxft.models import compact
from jaxft.pool import Pool, widest
from jaxft.progress import News, Progress
from jaxft.record import Record
from jaxft.replica import Entry, Recipe, Replica, Shared
from jaxft.scheduler import Scheduler
from jaxft.stop import Status
from jaxft.store import Store
from jaxft.study import Study, TaskConfig
from jaxft.trials import Length, Seeds, Trial, expand, identify, shape
from jaxft.trials import group as alike
from jaxft.types import Hyper, Method, Model, Task


class Group(NamedTuple):
    """Trials that share one program, and what it is made of."""

    name: str
    """A hash of the settings that they have in common; the key of what is decided for them in the run folder."""
    trials: list[Trial]
    lengths: dict[str, Length]
    """By trial."""
    recipe: Recipe
    shared: Shared
    task: Task
    kept: compact.Kept
    """The rows of the model's tables that the task can touch; its tokens are renumbered in `shared`."""
    whole: Callable[[], tuple[Model, dict[str, np.ndarray]]]
    """The model with all rows of its tables, and its pretrained parameters."""
    precision: str
    decided: dict[str, object]
    """What is part of the numerics and stays with the study."""


def run(study: Study, *, progress=None) -> Path:
    """Trains every trial of the study that its run folder does not hold yet. Returns the folder.

    Raises:
        BadInput: something in the study, its files or its folder cannot be used.
    """
    progress = progress or Progress.choose()
    trials = expand(study)
    path = folder(study)
    there = devices(study)
    groups = prepare(study, trials)
    before = Store.decided(path)
    widths = [slots(study, group, before) for group in groups]
    store = Store.open(path, study, {group.name: group.decided for group in groups}, trials)
    progress.start(len(trials), len(store.done))
    for group, width in zip(groups, widths, strict=True):
        missing = [trial for trial in group.trials if trial.id not in store.done]
        if missing:
            _run_group(group, missing, pooled(group, width, there), store, progress)
    progress.finish(path)
    return path


def _run_group(group: Group, trials: Sequence[Trial], pool: Pool, store: Store, progress) -> None:
    """Of a pool that is gone, with its memory, when the next group's is made."""
    store.resolve(group.name, {"slots": {group.recipe.every: pool.slots_per_device}})
    store.examples(group.task)
    progress.compiled(pool.compile_seconds)
    for news in work(group, trials, pool):
        store.append(news.ended)
        progress.block(news)


def work(group: Group, trials: Sequence[Trial], pool: Pool) -> Iterator[News]:
    """Trains these trials in the pool's slots and tells after each block what came of it."""
    scheduler = Scheduler(trials, pool.slots)
    every = group.recipe.every
    records: dict[int, Record] = {}
    told = time.monotonic()
    while scheduler.busy:
        new = scheduler.fill()
        pool.fill({slot: entry(trial, group) for slot, trial in new.items()})
        records |= {slot: _record(trial, slot, group) for slot, trial in new.items()}
        # The last block of a queue is as long as its longest trial needs.
        steps = min(every, max(record.left for record in records.values()))
        began = time.monotonic()
        report = pool.run(steps)
        devices = time.monotonic() - began
        status = {slot: Status(report.status[slot]) for slot in records}
        for slot, record in records.items():
            record.observe(
                int(report.step[slot]),
                report.losses[slot, :steps],
                {name: x[slot] for name, x in report.logits.items()},
                tried=status[slot].in_step,
            )
        running, waiting = len(records), bool(scheduler.queue)
        examples, taken = (sum(int(count[slot]) for slot in records) for count in (report.examples, report.taken))
        ended = []
        for slot in scheduler.settle([slot for slot in records if status[slot].over]):
            where = {"slots_per_device": pool.slots_per_device, "device": pool.device(slot)}
            ended.append(records.pop(slot).ended(*status[slot].row, precision=group.precision, **where))
        before, told = told, time.monotonic()
        yield News(running, ended, examples, told - before, devices, taken, pool.slots * steps - taken, waiting)


def prepare(study: Study, trials: Sequence[Trial]) -> list[Group]:
    """Loads models and tasks, and sorts the trials into groups that share one program.

    Raises:
        BadInput: a checkpoint or a data set cannot be used, or does not fit the study.
    """
    checkpoint = cache(models.open)

    @cache
    def loaded(name: str, config: str) -> Task:
        """A task, as the tokenizer of a model reads it; `config` is JSON, for a dataclass with a list has no hash."""
        found = checkpoint(name)
        return tasks.load(TaskConfig(**json.loads(config)), found.tokenizer, models.positions(found))

    @cache
    def cut(name: str, config: str, dtype: str):
        """For such a task: the rows that it keeps, how to make the whole model, and the model of those rows."""
        task = loaded(name, config)
        kept = compact.kept(checkpoint(name).config, [task.train, *task.evals.values()])
        whole = partial(models.build, checkpoint(name), len(task.labels) or 1, dtype)
        return kept, whole, *whole(kept=kept)

    groups = []
    for similar in alike(trials):
        fixed = similar[0].fixed
        config = {k.removeprefix("task."): v for k, v in fixed.items() if k.startswith("task.")} | {"n_train": None}
        named = fixed["model"], json.dumps(config)
        task = loaded(*named)
        dtype = "bfloat16" if fixed["train.precision"] == "bfloat16" else "float32"
        kept, whole, model, pretrained = cut(*named, dtype)
        method = methods.load(fixed["method"])
        layout = batch.layout(task.train, task.evals.values(), fixed["train.batch_size"])
        shared = Shared(
            pretrained,
            compact.renumbered(task.train, kept),
            {
                name: batch.pack(compact.renumbered(split, kept), fixed["eval.batch_size"], layout.width)
                for name, split in task.evals.items()
            },
        )
        by_every: dict[int, list[Trial]] = {}
        for trial in similar:
            by_every.setdefault(interval(trial, task), []).append(trial)
        for every, members in by_every.items():
            lengths = {trial.id: length(trial, task, method) for trial in members}
            recipe = Recipe(
                model=model,
                method=method,
                optimizer=partial(optim.make, fixed["train.optimizer"], fixed["train.clip_by"]),
                schedule=fixed["train.schedule"],
                dropout_at=fixed["train.dropout_at"],
                batch=fixed["train.batch_size"],
                layout=layout,
                every=every,
                steps=max(long.total for long in lengths.values()),
                max_epochs=max(long.epochs for long in lengths.values()),
                before=max(-long.begin(every) for long in lengths.values()),
            )
            decided = {
                "rows": layout.rows,
                "width": layout.width,
                "model": checkpoint(fixed["model"]).fingerprint,
                "task": task.fingerprint,
            }
            # Of the settings alone: other data under the same name must meet its fingerprint.
            name = identify(Seeds(0, 0, 0, 0, 0), shape(fixed), {})
            precision = fixed["train.precision"]
            groups.append(Group(name, members, lengths, recipe, shared, task, kept, whole, precision, decided))
    return groups


def length(trial: Trial, task: Task, method: Callable[[Hyper], Method]) -> Length:
    """How long a trial is.

    Raises:
        BadInput: more examples than there are, or a batch that is larger than they are.
    """
    there = len(task.train.labels)
    n_train = _n_train(trial, task)
    size = trial.fixed["train.batch_size"]
    if n_train > there:
        raise BadInput(f"task.n_train: {n_train}, but the training set of {task.name} has {there} examples")
    if size > n_train:
        raise BadInput(f"train.batch_size: {size}, but there are {n_train} training examples")
    per_epoch = -(-n_train // size)
    epochs, lead = trial.fixed["train.epochs"], method(trial.hp.__getitem__).lead(per_epoch)
    # With fractions of a batch, in floating point, as the old code reckoned.
    t_total = epochs * per_epoch if trial.fixed["train.t_total"] == "steps" else max(1, int(n_train / size * epochs))
    return Length(n_train, epochs, per_epoch, lead, t_total)


def interval(trial: Trial, task: Task) -> int:
    """The steps from one evaluation of a trial to its next."""
    per_epoch = -(-_n_train(trial, task) // trial.fixed["train.batch_size"])
    return trial.fixed["eval.every"] or max(1, per_epoch // trial.fixed["eval.per_epoch"])


def _n_train(trial: Trial, task: Task) -> int:
    """As many examples as the trial says, or all."""
    return trial.fixed["task.n_train"] or len(task.train.labels)


def entry(trial: Trial, group: Group) -> Entry:
    """What fills a slot with this trial."""
    return Entry(
        seeds=Seeds(*(np.uint32(seed) for seed in trial.seeds)),
        hp={name: np.float32(value) for name, value in trial.hp.items()},
        length=Length(*(np.int32(number) for number in group.lengths[trial.id])),
    )


def weights(group: Group, trained: Replica) -> dict[str, np.ndarray]:
    """All parameters of the model that a replica of this group was trained to, rows that no example touches included.

    Args:
        group: of the trial.
        trained: what `Pool.take` gave.
    """
    model, pretrained = group.whole()
    recipe = group.recipe._replace(model=model)
    at_rest = jax.jit(partial(replica.untouched, recipe, tables=tuple(group.kept)))(pretrained, trained)
    return compact.restored(at_rest, trained.params, group.kept)


def pooled(group: Group, slots: int | str, devices: Sequence) -> Pool:
    """The pool of a group, with as many slots per device as given, or as fit."""

    def make(count: int) -> Pool:
        like = entry(group.trials[0], group)
        return Pool(group.recipe, group.shared, like, devices=devices, slots=count, precision=group.precision)

    return widest(make, devices) if slots == "auto" else make(int(slots))


def folder(study: Study) -> Path:
    """The run folder of a study."""
    return Path(study.out or f"runs/{study.name}")


def slots(study: Study, group: Group, before: dict) -> int | str:
    """Slots per device: as the run folder has them, else as the study says.

    Raises:
        BadInput: the two differ.
    """
    kept = before.get(group.name, {}).get("slots", {}).get(group.recipe.every, study.pool.slots)
    if kept != "auto" and (type(kept) is not int or kept < 1):
        raise BadInput(f"{folder(study)}/resolved.yaml: slots: expected an integer of at least 1, found {kept!r}")
    if study.pool.slots not in ("auto", kept):
        raise BadInput(
            f"pool.slots: {study.pool.slots}, but {folder(study)} was started with {kept}: "
            "the width is part of the numerics and stays with the study"
        )
    return kept


def devices(study: Study) -> list:
    """The devices that the study runs on.

    Raises:
        BadInput: more than there are.
    """
    there = jax.local_devices()
    wanted = len(there) if study.pool.devices == "auto" else study.pool.devices
    if wanted > len(there):
        raise BadInput(f"pool.devices: {wanted}, but this machine has {len(there)}")
    return there[:wanted]


def _record(trial: Trial, slot: int, group: Group) -> Record:
    task, long = group.task, group.lengths[trial.id]
    labels = {name: np.asarray(split.labels) for name, split in task.evals.items()}
    return Record(trial, slot, long, task.metric, task.metrics, labels, step=long.begin(group.recipe.every))
