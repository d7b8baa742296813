"""The loop: fill the slots, run a block on the devices, look at the scores, settle, write rows, refill."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxft import methods, models, optim, pool, tasks
from jaxft.data import batch
from jaxft.data.order import steps_per_epoch
from jaxft.errors import BadInput
from jaxft.pool import Pool
from jaxft.record import Record
from jaxft.replica import Entry, Recipe, Shared
from jaxft.scheduler import Scheduler
from jaxft.stop import Status
from jaxft.store import Ended, Store
from jaxft.study import Study, TaskConfig
from jaxft.trials import Seeds, Trial, expand, group, identify, shape
from jaxft.types import Task


class Block(NamedTuple):
    """What the loop tells of a block."""

    running: int
    """How many slots were training."""
    ended: list[Ended]
    examples: int
    seconds: float


class Group(NamedTuple):
    """Trials that share one program, and what it is made of."""

    name: str
    """A hash of what they have in common; the key of the group's values in the run folder."""
    trials: list[Trial]
    recipe: Recipe
    shared: Shared
    task: Task
    precision: str
    fixed: dict[str, object]
    """What is decided when the study starts, since it is part of the numerics."""


def run(study: Study, *, progress=None) -> Path:
    """Trains every trial of the study that its run folder does not hold yet. Returns the folder.

    Raises:
        BadInput: something in the study, its files or its folder cannot be used.
    """
    from jaxft.progress import Progress

    progress = progress or Progress.choose()
    trials = expand(study)
    path = folder(study)
    before = Store.peek(path) or {}
    groups = prepare(study, trials)
    widths = [slots(study, members, before) for members in groups]
    store = Store.open(path, study, {g.name: g.fixed for g in groups}, trials)
    progress.start(len(trials), len(store.done))
    for members, width in zip(groups, widths, strict=True):
        missing = [t for t in members.trials if t.id not in store.done]
        if not missing:
            continue
        training = pooled(members, width, devices(study))
        store.resolve(members.name, {"slots": training.slots_per_device})
        store.examples(members.task)
        progress.compiled(training.compile_seconds)
        for block in work(members, missing, training):
            store.append(block.ended)
            progress.block(block.running, block.ended, block.examples, block.seconds)
    progress.finish(path)
    return path


def work(members: Group, trials: Sequence[Trial], training: Pool) -> Iterator[Block]:
    """Trains these trials in the pool's slots and yields after each block."""
    scheduler = Scheduler(trials, training.slots)
    recipe, task = members.recipe, members.task
    records: dict[int, Record] = {}
    while scheduler.busy:
        began = time.monotonic()
        new = scheduler.fill()
        training.fill({slot: entry(trial, task) for slot, trial in new.items()})
        records |= {slot: _record(trial, slot, members) for slot, trial in new.items()}
        # The last block of a queue is as long as its longest trial needs.
        steps = min(recipe.every, max(record.left for record in records.values()))
        report = training.run(steps)
        status = {slot: Status(report.status[slot]) for slot in records}
        for slot, record in records.items():
            record.observe(
                int(report.step[slot]),
                report.losses[slot, :steps],
                {name: x[slot] for name, x in report.logits.items()},
                tried=status[slot].in_step,
            )
        ended = []
        for slot in scheduler.settle([slot for slot in records if status[slot].over]):
            where = {"slots_per_device": training.slots_per_device, "device": training.device(slot)}
            ended.append(records.pop(slot).ended(*status[slot].row, precision=members.precision, **where))
        running = len(records) + len(ended)
        yield Block(running, ended, int(report.examples.sum()), time.monotonic() - began)


def prepare(study: Study, trials: Sequence[Trial]) -> list[Group]:
    """Loads models and tasks, and sorts the trials into groups that share one program.

    Raises:
        BadInput: a checkpoint or a data set cannot be used, or does not fit the study.
    """
    checkpoints: dict[str, models.Checkpoint] = {}
    loaded: dict[tuple, Task] = {}
    groups = []
    for alike in group(trials):
        fixed = alike[0].fixed
        name = fixed["model"]
        checkpoint = checkpoints[name] = checkpoints.get(name) or models.open(name)
        config = TaskConfig(**{k.removeprefix("task."): v for k, v in fixed.items() if k.startswith("task.")})
        config = replace(config, n_train=None)
        key = (name, repr(config))
        if key not in loaded:
            loaded[key] = tasks.load(config, checkpoint.tokenizer, models.positions(checkpoint))
        task = loaded[key]
        model, pretrained = models.build(checkpoint, len(task.labels))
        by_every: dict[int, list[Trial]] = {}
        for trial in alike:
            by_every.setdefault(interval(trial, task), []).append(trial)
        for every, members in by_every.items():
            lengths = [length(trial, task) for trial in members]
            recipe = Recipe(
                model=model,
                method=methods.load(fixed["method"]),
                optimizer=partial(optim.make, fixed["train.optimizer"], fixed["train.clip_by"]),
                schedule=fixed["train.schedule"],
                batch=fixed["train.batch_size"],
                width=batch.width([task.train, *task.evals.values()], config.max_length),
                every=every,
                eval_batch=fixed["eval.batch_size"],
                max_n_train=max(n for n, _ in lengths),
                max_epochs=max(epochs for _, epochs in lengths),
            )
            shared = Shared(pretrained, task.train, task.evals)
            decided = {
                "width": recipe.width,
                "every": every,
                "model": checkpoint.fingerprint,
                "task": task.fingerprint,
            }
            label = identify(Seeds(0, 0, 0, 0, 0), {**shape(fixed), "every": every}, {})
            groups.append(Group(label, members, recipe, shared, task, fixed["train.precision"], decided))
    return groups


def length(trial: Trial, task: Task) -> tuple[int, int]:
    """The training examples and the epochs of a trial.

    Raises:
        BadInput: more examples than there are, or a batch that is larger than they are.
    """
    there = len(task.train.labels)
    n_train = trial.fixed["task.n_train"] or there
    batch = trial.fixed["train.batch_size"]
    if n_train > there:
        raise BadInput(f"task.n_train: {n_train}, but the training set of {task.name} has {there} examples")
    if batch > n_train:
        raise BadInput(f"train.batch_size: {batch}, but there are {n_train} training examples")
    return n_train, trial.fixed["train.epochs"]


def interval(trial: Trial, task: Task) -> int:
    """The steps from one evaluation of a trial to its next."""
    n_train, _ = length(trial, task)
    per_epoch = steps_per_epoch(n_train, trial.fixed["train.batch_size"])
    return trial.fixed["eval.every"] or max(1, per_epoch // trial.fixed["eval.per_epoch"])


def entry(trial: Trial, task: Task) -> Entry:
    """What fills a slot with this trial."""
    n_train, epochs = length(trial, task)
    return Entry(
        seeds=Seeds(*(np.uint32(seed) for seed in trial.seeds)),
        hp={name: np.float32(value) for name, value in trial.hp.items()},
        n_train=np.int32(n_train),
        epochs=np.int32(epochs),
    )


def pooled(members: Group, slots: int | str, devices: Sequence) -> Pool:
    """The pool of a group, with as many slots per device as given, or as fit."""

    def make(count: int) -> Pool:
        like = entry(members.trials[0], members.task)
        return Pool(members.recipe, members.shared, like, devices=devices, slots=count, precision=members.precision)

    return pool.widest(make, devices) if slots == "auto" else make(int(slots))


def folder(study: Study) -> Path:
    """The run folder of a study."""
    return Path(study.out or f"runs/{study.name}")


def slots(study: Study, members: Group, before: dict) -> int | str:
    """Slots per device: as the run folder has them, else as the study says.

    Raises:
        BadInput: the two differ.
    """
    kept = before.get(members.name, {}).get("slots", study.pool.slots)
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


def _record(trial: Trial, slot: int, members: Group) -> Record:
    task, recipe = members.task, members.recipe
    n_train, epochs = length(trial, task)
    per_epoch = steps_per_epoch(n_train, recipe.batch)
    lead = recipe.method(trial.hp.__getitem__).lead(per_epoch)
    labels = {name: np.asarray(split.labels) for name, split in task.evals.items()}
    return Record(trial, slot, task.metric, task.metrics, labels, per_epoch, per_epoch * epochs, n_train, step=-lead)
