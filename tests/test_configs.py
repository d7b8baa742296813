"""The studies that come with jaxft: each can be run as its header says, and is what it says of the paper."""

import re
from pathlib import Path

import numpy as np
import pytest

from jaxft import methods, tasks
from jaxft.engine import groups
from jaxft.members import spec
from jaxft.study import config, flat, others
from jaxft.study.trials import expand
from jaxft.tasks.others import match
from jaxft.types import Split, Task

ROOT = Path(__file__).parents[1]
CONFIGS = {str(path.relative_to(ROOT)): path for path in sorted((ROOT / "configs").rglob("*.yaml"))}
STUDIES = [name for name in CONFIGS if not name.endswith("base.yaml")]

# Of the released scores: training examples, steps, t_total, and every how many steps an evaluation comes.
DODGE = {
    "mrpc": (3668, 690, 687, 23, 625),
    "rte": (2490, 468, 466, 15, 625),
    "cola": (8551, 1605, 1603, 53, 625),
    "sst2": (67349, 12630, 12627, 100, 225),
}


def task(examples: int) -> Task:
    zeros = np.zeros(examples, np.int32)
    split = Split(zeros, np.arange(examples + 1, dtype=np.int32), zeros, zeros)
    return Task("x", ("a", "b"), split, {"dev": split}, "accuracy", ("accuracy",), "")


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_says_its_command_and_can_be_expanded(name):
    text = CONFIGS[name].read_text()
    header = re.match(r"(#.*\n)+", text)[0]
    assert f"jaxft run {name}" in header
    study = config.load(CONFIGS[name])
    assert f"configs/{study.name}.yaml" == re.sub("[/_]", "-", name).replace("configs-", "configs/")
    assert len({trial.id for trial in expand(study)}) >= 16


@pytest.mark.parametrize("name", DODGE)
@pytest.mark.parametrize("released", [False, True])
def test_the_studies_of_dodge_are_as_long_as_the_papers(name, released):
    examples, steps, t_total, every, count = DODGE[name]
    trials = expand(config.load(CONFIGS[f"configs/dodge2020/{name}{'_as_released' * released}.yaml"]))
    assert len(trials) == count
    found = groups.length(trials[0], task(examples), methods.load("vanilla"))
    assert (found.total, found.t_total) == (steps, t_total)
    assert groups.interval(trials[0], task(examples)) == every
    assert trials[0].seeds.dropout == trials[0].seeds.order


@pytest.mark.parametrize("name", DODGE)
def test_released_and_described_differ_in_the_two_quirks_only(name):
    described, released = (
        flat(config.load(CONFIGS[f"configs/dodge2020/{name}{end}.yaml"])) for end in ("", "_as_released")
    )
    changed = {key: (described[key], released[key]) for key in described if described[key] != released[key]}
    assert changed == {
        "name": (f"dodge2020-{name}", f"dodge2020-{name}-as-released"),
        "train.schedule": ("linear_unscaled", "linear_twice"),
        "train.dropout_at": ("every_step", "epoch_start"),
    }


@pytest.mark.parametrize(
    ("name", "examples", "steps"), [("mrpc", 3668, 4600), ("rte", 2490, 3120), ("cola", 8551, 10700)]
)
def test_the_studies_of_mosbach_are_long_and_corrected(name, examples, steps):
    study = config.load(CONFIGS[f"configs/mosbach2021/{name}.yaml"])
    trials = expand(study)
    assert len(trials) == 25
    assert groups.length(trials[0], task(examples), methods.load("vanilla")).total == steps
    assert str(steps) in CONFIGS[f"configs/mosbach2021/{name}.yaml"].read_text()
    assert (study.train.optimizer, study.train.epochs) == ("adamw", 20)


ZHANG = {"rte": (2490, 468), "mrpc": (3668, 690), "stsb": (5749, 1080), "cola": (8551, 1605)}


def without_methods(name: str, **changes) -> config.Study:
    """A study of Zhang et al. with vanilla alone, which is always there."""
    return config.load(CONFIGS[f"configs/zhang2022/{name}.yaml"], ["--sweep.method", "[vanilla]"])


@pytest.mark.parametrize("name", ZHANG)
@pytest.mark.parametrize("end", ["", "_no_dropout"])
def test_the_studies_of_zhang_are_as_long_as_the_papers(name, end):
    examples, steps = ZHANG[name]
    study = without_methods(name + end)
    trials = expand(study)
    assert groups.length(trials[0], task(examples), methods.load("vanilla")).total == steps
    assert study.model.endswith("bert-large-cased")
    train = study.train
    assert (train.batch_size, train.lr, train.warmup, train.weight_decay) == (16, 2e-5, 0.1, 0.01)
    assert (study.task.max_length, train.dropout) == (128, 0.0 if end else 0.1)
    text = CONFIGS[f"configs/zhang2022/{name}{end}.yaml"].read_text()
    count = re.search(r"(\d+) trials", text)[1]
    swept = config.load(CONFIGS[f"configs/zhang2022/{name}{end}.yaml"]).sweep["method"]
    assert int(count) == len(trials) * len(swept)


@pytest.mark.parametrize(
    ("name", "steps", "count"),
    [("mnli_out_of_domain", {1500}, 20), ("snli_out_of_domain", {1500}, 20), ("low_resource", {96, 189}, 160),
     ("probes", {690}, 20), ("minilm", {96}, 16)],
)  # fmt: skip
def test_the_other_studies_of_zhang_have_vanilla_at_both_rates(name, steps, count):
    study = without_methods(name)
    trials = expand(study)
    assert len(trials) == count
    there = task(3668 if name == "probes" else 100_000)
    assert {groups.length(trial, there, methods.load("vanilla")).total for trial in trials} == steps
    drawn = {trial.fixed["task.stratified"] for trial in trials}
    assert drawn == {name != "probes"}
    assert {trial.hp["train.dropout"] for trial in trials} == ({0.0} if name == "minilm" else {0.0, 0.1})
    methods_there = config.load(CONFIGS[f"configs/zhang2022/{name}.yaml"]).sweep["method"]
    assert all(spec.bind(spec.parse(method)) for method in methods_there)


@pytest.mark.parametrize("name", ["mnli_out_of_domain", "snli_out_of_domain"])
def test_every_class_counts_as_a_label_of_every_set(name):
    study = without_methods(name)
    known = tasks.find()
    labels = {task: known[task].TASKS[task].labels for task in ("mnli", "snli", "sick", "scitail", "rte")}
    sets = others.also(study.eval.also)
    assert {each.name for each in sets} | {study.task.name} == set(labels)
    for each in sets:
        common = match(labels[study.task.name], labels[each.name], each.labels)
        assert common.ours == ((0, 1, 2) if len(labels[each.name]) == 3 else (0, 1, 1)), each.name
