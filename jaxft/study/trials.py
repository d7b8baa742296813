"""Which trials a study consists of. No jax here."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from hashlib import sha256
from itertools import pairwise, product
from typing import Any, NamedTuple

from jaxft import networks
from jaxft.errors import BadInput
from jaxft.members import spec
from jaxft.study import KEYS, Numbers, SeedGrid, StopConfig, Study, build, flat
from jaxft.study.check import FREE, NEWER, WHOLE, check, swept

MOST = 1_000_000
LENGTHS = ("train.epochs", "train.t_total", "task.n_train")
"""Settings that make a trial longer or shorter, and no other program."""


class Seeds(NamedTuple):
    """The five independent random streams of a trial, each a number below 2**32."""

    init: Any
    order: Any
    dropout: Any
    noise: Any
    data: Any


class Trial(NamedTuple):
    """One seed variant with its settings."""

    id: str
    """A hash of all that determines the result: the three fields below."""
    seeds: Seeds
    fixed: dict[str, Any]
    """Every setting that is not a float, by its dotted name: {"model": ..., "train.batch_size": 16, ...}."""
    hp: dict[str, float]
    """Every float, by its dotted name: {"train.lr": 2e-5, ...}; these may differ within one program."""


class Length(NamedTuple):
    """How long a trial is; each a number, or an array of one."""

    n_train: Any
    """Its training examples."""
    epochs: Any
    per_epoch: Any
    """Steps of an epoch; the last may be a partial batch."""
    lead: Any
    """Gradient-only steps before step 0, which its method asks for."""
    t_total: Any
    """What its schedule takes for the number of steps."""

    @property
    def total(self) -> Any:
        """Its steps, without the lead-in."""
        return self.epochs * self.per_epoch

    def begin(self, every: int) -> Any:
        """The step that it starts at, for evaluations every so many steps: a lead-in fills whole intervals."""
        return -(-(-self.lead // every) * every)


def seeds(numbers: Numbers) -> list[int]:
    """The seeds that `3`, `"1..25"` or `[1, 5]` stand for.

    Raises:
        BadInput: no seed, one twice, or one that is not below 2**32.
    """
    if isinstance(numbers, str):
        first, dots, last = numbers.partition("..")
        words = (first.strip(), (last if dots else first).strip())
        if not all(word.isascii() and word.isdigit() and len(word) < 20 for word in words):
            raise BadInput(f"expected a number, a range such as 1..25 or a list, found {numbers!r}")
        found = range(int(words[0]), int(words[1]) + 1)
        if not found:
            raise BadInput(f"the range {numbers} is empty: expected the smaller end first")
    else:
        found = [numbers] if isinstance(numbers, int) else numbers
        if not found:
            raise BadInput("expected at least one seed, found an empty list")
    ends = (found[0], found[-1]) if isinstance(found, range) else (min(found), max(found))
    for seed in ends:
        if not 0 <= seed < 2**32:
            raise BadInput(f"expected seeds from 0 to {2**32 - 1}, found {seed}")
    if len(found) > MOST:
        raise BadInput(f"expected at most {MOST} seeds, found {len(found)}")
    for seed, after in pairwise(sorted(found)):
        if seed == after:
            raise BadInput(f"{seed} is there twice")
    return list(found)


def expand(study: Study) -> list[Trial]:
    """All trials: every combination of the sweep with every row of seeds.

    The order is that of the sweep as written, its last key fastest; within, that of the rows, or of a grid
    whose init varies slowest.

    Raises:
        BadInput: a value out of range, an unknown sweep key or policy, no seeds, or a trial that is there twice.
    """
    check(study)
    if study.policy:
        from jaxft import policies  # which takes numpy's time

        policies.load(study.policy)
    rows = _rows(study.seeds)
    sweep = {key: swept(key, values) for key, values in study.sweep.items()}
    twice = [name for name, count in Counter(name for key in sweep for name in keys_of(key)).items() if count > 1]
    if twice:
        raise BadInput(f"sweep.{twice[0]}: there twice")
    count = len(rows) * math.prod(len(values) for values in sweep.values())
    if count > MOST:
        raise BadInput(f"seeds and sweep: {count} trials, expected at most {MOST}")
    trials: dict[str, Trial] = {}
    for values in product(*sweep.values()):
        changes = {}
        for key, value in zip(sweep, values, strict=True):
            changes |= dict(zip(keys_of(key), value if "," in key else [value], strict=True))
        fixed, hp = _settings(study, changes)
        for row in rows:
            trial = Trial(identify(row, fixed, hp), row, fixed, hp)
            if trial.id in trials:
                name = ", ".join(f"{k} {v}" for k, v in {**row._asdict(), **changes}.items())
                raise BadInput(f"seeds and sweep: the trial with {name} is there twice")
            trials[trial.id] = trial
    return list(trials.values())


def keys_of(key: str) -> list[str]:
    """The settings that a key of a sweep changes together."""
    return [name.strip() for name in key.split(",")]


def size(n_train: int | str | None, there: int) -> int:
    """How many of the examples that are there `task.n_train` stands for: all for None, of a share what it holds whole.

    Raises:
        BadInput: more than there are, or none.
    """
    found = there if n_train is None else n_train
    if isinstance(found, str):
        found = int(Fraction(found.removesuffix("%")) * there / 100)
    if not 1 <= found <= there:
        raise BadInput(f"task.n_train: {n_train} is not between 1 and the {there} training examples")
    return found


def group(trials: Iterable[Trial]) -> list[list[Trial]]:
    """The trials that share one compiled program, by `shape`; groups and trials in the order given."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(_canonical(shape(trial.fixed)), []).append(trial)
    return list(groups.values())


def read_shard(text: str) -> tuple[int, int]:
    """What `3/8` stands for: the third of eight shares.

    Raises:
        BadInput: anything else.
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    index, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= index <= count:
        raise BadInput(f"--shard: expected I/N, the I-th of N shares, such as 1/8 to 8/8; found {text!r}")
    return index, count


def share(trials: Sequence[Trial], shard: tuple[int, int]) -> list[Trial]:
    """The trials of one shard: every n-th, so that each setting of a sweep is spread over all shards.

    The shares of 1/n to n/n are each trial once, and differ in size by at most one. They depend on the
    order of `trials` alone, which for a study is that of `expand`: not on what is finished.

    Args:
        trials: all trials of a study.
        shard: (i, n), the i-th of n, counted from 1.
    """
    index, count = shard
    return list(trials[index - 1 :: count])


def shape(fixed: Mapping[str, Any]) -> dict[str, Any]:
    """What of the fixed settings shapes the program: trials of unequal length share one."""
    return {name: value for name, value in fixed.items() if name not in LENGTHS}


def identify(seeds: Seeds, fixed: Mapping[str, Any], hp: Mapping[str, float]) -> str:
    """Twelve hexadecimal digits that depend on what is given, not on its order or the process.

    A setting that is younger than run folders are counts only where it is not what it was before it was a setting.
    """
    numbers = {name: float(value) + 0.0 for name, value in hp.items()}  # 1 is 1.0, and -0.0 is 0.0
    counted = {name: value for name, value in fixed.items() if name not in NEWER or value != NEWER[name]}
    content = {"seeds": seeds._asdict(), "fixed": counted, "hp": numbers}
    return sha256(_canonical(content).encode()).hexdigest()[:12]


def _rows(grid: SeedGrid) -> list[Seeds]:
    """The seeds of each trial of a sweep's combination."""
    if grid.rows is not None:
        return [_row(number, row) for number, row in enumerate(grid.rows, start=1)]
    axes = {name: _axis(name, getattr(grid, name)) for name in Seeds._fields}
    if math.prod(len(axis) for axis in axes.values()) > MOST:
        raise BadInput(f"seeds: expected at most {MOST} trials")
    return [
        Seeds(init, order, order if dropout is None else dropout, order if noise is None else noise, data)
        for init, order, dropout, noise, data in product(*axes.values())
    ]


def _axis(name: str, numbers: Numbers | None) -> Sequence[int | None]:
    if numbers is None:
        return [None]
    try:
        return seeds(numbers)
    except BadInput as error:
        raise BadInput(f"seeds.{name}: {error}") from None


def _row(number: int, row: Mapping[str, int]) -> Seeds:
    place = f"seeds.rows: row {number}"
    for name in row:
        if name not in Seeds._fields:
            raise BadInput(f"{place}: unknown seed {name!r}; {spec.nearest(name, Seeds._fields)}")
    for name in ("init", "order"):
        if name not in row:
            raise BadInput(f"{place}: no {name}, expected at least init and order")
    try:
        for value in row.values():
            seeds(value)
    except BadInput as error:
        raise BadInput(f"{place}: {error}") from None
    return Seeds(**{"dropout": row["order"], "noise": row["order"], "data": 0, **row})


def _settings(study: Study, changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """`fixed` and `hp` of the trials for which the sweep makes these changes."""
    methods = {key: value for key, value in changes.items() if key.startswith("method.")}
    leaves = {**flat(study), **{key: value for key, value in changes.items() if key not in methods}}
    method, numbers = spec.numbers(leaves["method"], methods)
    checkpoint, network = networks.read(leaves["model"])
    leaves["model"] = f"{checkpoint}|{spec.write([network])}" if network else checkpoint
    rules = _stop(build(leaves).stop)
    leaves = {key: value for key, value in leaves.items() if not key.startswith((*FREE, *WHOLE, "stop."))}
    fixed = {key: value for key, value in leaves.items() if KEYS.get(key) is not float}
    hp = {key: float(value) for key, value in leaves.items() if KEYS.get(key) is float}
    return {**fixed, "method": method}, {**hp, **numbers, **rules}


def _stop(rules: StopConfig) -> dict[str, float]:
    """Every rule as a bound, which is infinite where the rule is off."""
    off = not rules.enabled
    return {
        "stop.non_finite": float(rules.non_finite and rules.enabled),
        "stop.loss_above": math.inf if off or rules.loss_above is None else float(rules.loss_above),
        "stop.loss_patience": math.inf if off else float(rules.loss_patience or math.inf),
        "stop.one_class": math.inf if off else float(rules.one_class or math.inf),
        "stop.majority": math.inf if off else float(rules.majority or math.inf),
    }


def _canonical(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))
