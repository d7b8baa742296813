"""Trials that share one program: what it is made of, and how long each of them is."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import NamedTuple

import jax
import numpy as np

from jaxft import keys, members, methods, models, optim, tasks
from jaxft.data import batch
from jaxft.engine import probe, replica
from jaxft.engine.memory import limit, widest
from jaxft.engine.pool import Pool
from jaxft.engine.probe import Probe, Ready
from jaxft.engine.recipe import Entry, Recipe, Replica, Shared
from jaxft.engine.rehearse import rehearse
from jaxft.errors import BadInput
from jaxft.members import spec
from jaxft.models import compact
from jaxft.study import Study, TaskConfig, others
from jaxft.study.trials import Length, Seeds, Trial, identify, shape, size
from jaxft.study.trials import group as alike
from jaxft.tasks.others import joined
from jaxft.types import Hyper, Method, Model, Task

MOST_TOKENS = 0.25
"""The share of a device's memory that the training set's tokens may take before they stay on the host."""

TWICE = 2e6
"""From so many parameters on, word embeddings aside, a step is worth a second program, of fewer rows: it is compiled in
seconds, and saves some of a step each time."""


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
    probes: Mapping[str, Ready] = {}
    """By name, what the encoders of completed trials are probed by."""


def prepare(study: Study, trials: Sequence[Trial]) -> list[Group]:
    """Loads models and tasks, and sorts the trials into groups that share one program.

    Raises:
        BadInput: a checkpoint or a data set cannot be used or does not fit the study, or a method does not fit them.
    """
    checkpoint = cache(models.open)
    also, probed = others.also(study.eval.also), others.probe(study.eval.probe)

    @cache
    def loaded(name: str, config: str) -> Task:
        """A task, as the tokenizer of a model reads it; `config` is JSON, for a dataclass with a list has no hash."""
        found = checkpoint(name)
        told, tokenizer, positions = TaskConfig(**json.loads(config)), found.tokenizer, models.positions(found)
        return joined(tasks.load(told, tokenizer, positions), also, tokenizer, positions, told.max_length)

    @cache
    def probes(name: str, max_length: int) -> dict[str, Probe]:
        found = checkpoint(name)
        return probe.load(probed, found.tokenizer, models.positions(found), max_length) if probed else {}

    @cache
    def cut(name: str, config: str, dtype: str):
        """For such a task: the rows that it keeps, how to make the whole model, and the model of those rows."""
        task = loaded(name, config)
        further = [each.examples for each in probes(name, json.loads(config)["max_length"]).values()]
        models.check(checkpoint(name), [task.train, *task.evals.values(), *further])
        kept = compact.kept(checkpoint(name).config, [task.train, *task.evals.values(), *further])
        whole = partial(models.build, checkpoint(name), len(task.labels) or 1, dtype)
        return kept, whole, *whole(kept=kept)

    groups = []
    for similar in alike(trials):
        fixed = similar[0].fixed
        config = {k.removeprefix("task."): v for k, v in fixed.items() if k.startswith("task.")}
        config |= {"n_train": None, "subset": "nested", "stratified": False}  # of which the data know nothing
        named = fixed["model"], json.dumps(config)
        task = loaded(*named)
        dtype = "bfloat16" if fixed["train.precision"] == "bfloat16" else "float32"
        kept, whole, model, pretrained = cut(*named, dtype)
        method = methods.load(fixed["method"])
        own = [split for name, split in task.evals.items() if name not in task.also]  # others change no training
        parameters = jax.eval_shape(model.init, jax.random.key(0, impl=keys.IMPL))
        large = sum(x.size for name, x in parameters.items() if name != model.words) > TWICE
        serial = models.serial(checkpoint(fixed["model"]))
        layout = batch.layout(task.train, own, fixed["train.batch_size"], serial, large)
        shared = Shared(
            pretrained,
            compact.renumbered(task.train, kept),
            {
                name: batch.pack(compact.renumbered(split, kept), fixed["eval.batch_size"], layout.width)
                for name, split in task.evals.items()
            },
        )
        learned = probes(fixed["model"], fixed["task.max_length"])
        packed = probe.ready(learned, kept, fixed["eval.batch_size"])
        by_every: dict[int, list[Trial]] = {}
        for trial in similar:
            by_every.setdefault(interval(trial, task), []).append(trial)
        for every, same in by_every.items():
            lengths = {trial.id: length(trial, task, method) for trial in same}
            recipe = Recipe(
                model=model,
                method=method,
                optimizer=optim.maker(fixed["train.optimizer"], fixed["train.clip_by"]),
                schedule=fixed["train.schedule"],
                dropout_at=fixed["train.dropout_at"],
                batch=fixed["train.batch_size"],
                layout=layout,
                every=every,
                steps=max(long.total for long in lengths.values()),
                max_epochs=max(long.epochs for long in lengths.values()),
                before=max(-long.begin(every) for long in lengths.values()),
                gradient_norms=study.eval.gradient_norms,
                strata=len(task.labels) if fixed["task.stratified"] else 0,
                nested=fixed["task.subset"] == "nested",
            )
            decided = {
                "rows": layout.rows,
                "width": layout.width,
                "model": checkpoint(fixed["model"]).fingerprint,
                "task": task.fingerprint,
            }
            if layout.fewer:
                decided["fewer"] = layout.fewer
            if study.eval.gradient_norms:  # not `False` otherwise: older checkpoints do not say so
                decided["gradient_norms"] = True
            added = {call.name: members.own(call.name) for call in spec.parse(fixed["method"])}
            if any(added.values()):  # a method that a program added may change behind its name
                decided["own"] = {name: found.fingerprint for name, found in added.items() if found}
            if learned:
                decided["probe"] = {name: each.fingerprint for name, each in learned.items()}
            # Of the settings alone: other data under the same name must meet its fingerprint.
            name = identify(Seeds(0, 0, 0, 0, 0), shape(fixed), {})
            precision = fixed["train.precision"]
            made = Group(name, same, lengths, recipe, shared, task, kept, whole, precision, decided, packed)
            rehearse(recipe, shared, entry(same[0], made))
            groups.append(made)
    return groups


def length(trial: Trial, task: Task, method: Callable[[Hyper], Method]) -> Length:
    """How long a trial is.

    Raises:
        BadInput: more examples than there are, or none, a batch larger than they are, or strata of a regression.
    """
    n_train = _n_train(trial, task)
    size = trial.fixed["train.batch_size"]
    if trial.fixed["task.stratified"] and not task.labels:
        raise BadInput(f"task.stratified: {task.name} has no classes: its labels are numbers to be predicted")
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
    """As many examples as the trial says."""
    return size(trial.fixed["task.n_train"], len(task.train.labels))


def entry(trial: Trial, group: Group) -> Entry:
    """What fills a slot with this trial."""
    return Entry(
        seeds=Seeds(*(np.uint32(seed) for seed in trial.seeds)),
        hp={name: np.float32(value) for name, value in trial.hp.items()},
        length=Length(*(np.int32(number) for number in group.lengths[trial.id])),
    )


def weights(group: Group, trained: Replica) -> dict[str, np.ndarray]:
    """All parameters of the model that a replica of this group was trained to, rows that no example touches included.

    What LoRA has trained is folded in.

    Args:
        group: of the trial.
        trained: what `Pool.take` gave.

    Raises:
        BadInput: its method trains adapters, which the plain model has no place for.
    """
    model, pretrained = group.whole()
    recipe = group.recipe._replace(model=model)
    at_rest = jax.jit(partial(replica.untouched, recipe, tables=tuple(group.kept)))(pretrained, trained)
    return models.merged(compact.restored(at_rest, trained.params, group.kept))


def pooled(group: Group, slots: int | str, devices: Sequence, tokens: str = "auto") -> Pool:
    """The pool of a group, with as many slots per device as given, or as fit; `tokens` as in `pool.tokens`."""
    large = np.asarray(group.shared.train.tokens).nbytes > MOST_TOKENS * limit(devices)
    streamed = tokens == "host" or (tokens == "auto" and large)

    def make(count: int) -> Pool:
        like = entry(group.trials[0], group)
        return Pool(
            group.recipe, group.shared, like, devices=devices, slots=count, precision=group.precision,
            streamed=streamed,
        )  # fmt: skip

    return widest(make, devices) if slots == "auto" else make(int(slots))
