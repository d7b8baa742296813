"""The studies that come with jaxft: each can be run as its header says, and is what it says of the paper."""

import re
from pathlib import Path

import numpy as np
import pytest

from jaxft import config, groups, methods
from jaxft.study import flat
from jaxft.trials import expand
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
    assert len({trial.id for trial in expand(study)}) >= 16
    assert f"configs/{study.name}.yaml" == re.sub("[/_]", "-", name).replace("configs-", "configs/")


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
