"""Many replicas: bit for bit what each would be in any other slot, beside any other neighbour."""

import jax
import numpy as np
import pytest
import toys
from conftest import USERS
from jax import monitoring

from jaxft.data.batch import Layout
from jaxft.engine import programs
from jaxft.engine.pool import Pool
from jaxft.loop.scheduler import Scheduler
from jaxft.status import Status

pytestmark = pytest.mark.usefixtures("all_optimised")


def make(devices=1, slots=3, recipe=None, shared=None, first=0, together=None) -> Pool:
    there = jax.devices()[first : first + devices]
    return Pool(
        recipe or toys.recipe(), shared or toys.shared(), toys.entry(), devices=there, slots=slots,
        precision="highest", together=together,
    )  # fmt: skip


@pytest.fixture(scope="module", params=[("bag", True), ("bag", False), ("bert", True), ("bert", False)], ids=str)
def pools(request, all_optimised):
    """A pool of 2 devices with 3 slots each, and one of the same shape on two other devices.

    For the bag of words a batch has fewer rows than some need, which are passed over one by one,
    each replica at other steps. Slots of a device take their steps together, or in turn. Of BERT many batches do with
    fewer rows, and have them where slots go in turn.
    """
    kind, together = request.param
    recipe, pretrained = toys.recipe(layout=Layout(2, 8, most=4)), None
    if kind == "bert":
        model, pretrained = toys.bert()
        recipe = toys.recipe(model, layout=Layout(4, 8, most=4, fewer=3))
    shared = toys.shared(pretrained=pretrained)
    return [make(2, 3, recipe, shared, first, together) for first in (0, 4)]


def train(pool: Pool, entries: dict, blocks: int = 2) -> list:
    """Fills slots, runs blocks of 5 steps, and gives the reports."""
    pool.fill(entries)
    return [pool.run(5) for _ in range(blocks)]


def equal(a, b) -> bool:
    """Whether two trees agree in every bit; NaN equals NaN."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


def outcome(pool: Pool, slot: int, reports: list):
    """All that can be known of the replica in a slot."""
    shown = [(r.step[slot], r.status[slot], r.losses[slot], r.logits["dev"][slot]) for r in reports]
    return pool.take(slot), shown


TRIAL = {"init": 3, "order": 7, "train.dropout": 0.1}


@pytest.fixture(scope="module")
def alone(pools):
    """The trial in slot 0, its neighbours empty copies of one another."""
    pool = pools[0]
    neighbours = {slot: toys.entry(0, 0) for slot in range(1, 6)}
    reports = train(pool, {0: toys.entry(**TRIAL)} | neighbours)
    return outcome(pool, 0, reports)


def test_some_steps_take_further_rows_in_some_slots(pools):
    pool = pools[0]
    pool.fill({s: toys.entry(s, s) for s in range(6)})
    rows = np.array([pool.take(s).places[:10].max(axis=1) // 8 + 1 for s in range(6)])
    further = np.maximum(rows - pool.recipe.layout.rows, 0)
    some = set(further.ravel()) == {0, 1, 2} and (further.min(axis=0) < further.max(axis=0)).any()
    assert some != pool.recipe.layout.always
    if pool.recipe.layout.fewer:
        assert set((rows <= pool.recipe.layout.fewer).ravel()) == {True, False}


@pytest.mark.parametrize("slot", [1, 5], ids=["another slot", "another device"])
def test_the_slot_does_not_matter(pools, alone, slot):
    pool = pools[0]
    reports = train(pool, {s: toys.entry(0, 0) for s in range(6)} | {slot: toys.entry(**TRIAL)})
    assert equal(outcome(pool, slot, reports), alone)


def test_other_devices_of_the_same_number_do_not_matter(pools, alone):
    reports = train(pools[1], {s: toys.entry(0, 0) for s in range(6)} | {2: toys.entry(**TRIAL)})
    assert equal(outcome(pools[1], 2, reports), alone)


def test_neighbours_do_not_matter_even_those_that_turn_nan(pools, alone):
    pool = pools[0]
    wild = {s: toys.entry(s, 2 * s, **{"train.lr": 1e30, "stop.non_finite": 0.0}) for s in range(6)}
    reports = train(pool, wild | {0: toys.entry(**TRIAL)})
    assert np.isnan(pool.take(1).params["classifier/kernel"]).any(), "the neighbour did not turn NaN"
    assert equal(outcome(pool, 0, reports), alone)


def test_a_refilled_slot_is_as_good_as_a_new_one(pools, alone):
    pool = pools[0]
    wild = {s: toys.entry(s, s, **{"train.lr": 1e30, "stop.non_finite": 0.0}) for s in range(6)}
    train(pool, wild, blocks=1)
    others = {slot: pool.take(slot) for slot in (0, 1, 2, 3, 5)}
    pool.fill({4: toys.entry(**TRIAL)})
    assert all(equal(pool.take(slot), before) for slot, before in others.items()), "filling touched a neighbour"
    reports = [pool.run(5), pool.run(5)]
    assert equal(outcome(pool, 4, reports), alone)


def test_a_parked_trial_continues_in_any_slot(pools, alone):
    pool, other = pools
    pool.fill({s: toys.entry(0, 0) for s in range(6)} | {0: toys.entry(**TRIAL)})
    first = pool.run(5)
    parked = pool.take(0)
    train(other, {s: toys.entry(s, s) for s in range(6)}, blocks=1)
    other.put({4: parked})
    second = other.run(5)
    whole, shown = alone
    assert equal(other.take(4), whole)
    assert equal((first.losses[0], second.losses[4]), (shown[0][2], shown[1][2]))


def test_a_mask_that_is_never_triggered_changes_no_bit(pools, alone):
    pool = pools[0]
    guarded = toys.entry(
        **TRIAL,
        **{"stop.loss_above": 1e9, "stop.loss_patience": 1, "stop.one_class": 99, "stop.majority": 99},
    )
    reports = train(pool, {s: toys.entry(0, 0) for s in range(6)} | {0: guarded})
    replica, shown = outcome(pool, 0, reports)
    whole, expected = alone
    assert equal((replica.params, replica.opt, shown), (whole.params, whole.opt, expected))


def test_a_replica_that_diverges_stops_in_that_very_step(pools):
    pool = pools[0]
    reports = train(pool, {s: toys.entry(1, 1, **{"train.lr": 1e30}) for s in range(6)})
    stopped = pool.take(0)
    assert Status(stopped.status) in (Status.NON_FINITE_LOSS, Status.NON_FINITE_GRADIENT)
    step = int(stopped.step)
    losses = np.concatenate([r.losses[0] for r in reports])
    assert 0 < step < 10
    assert np.isfinite(losses[:step]).all()
    assert not np.isfinite(losses[step:]).any()
    # Its parameters are those before the step that broke the rule.
    pool.fill({s: toys.entry(1, 1, **{"train.lr": 1e30}) for s in range(6)})
    pool.run(min(step, 5))
    if step > 5:
        pool.run(step - 5)
    until = pool.take(0)
    assert int(until.step) == step
    assert equal((stopped.params, stopped.opt), (until.params, until.opt))


def test_looping_over_trials_gives_the_same_up_to_rounding(pools):
    pool = pools[0]
    entries = {s: toys.entry(s, s + 1, **{"train.lr": 1e-4 * (s + 1), "train.weight_decay": 0.1 * s}) for s in range(6)}
    train(pool, entries)
    one = make(1, 1, pool.recipe, pool.shared)
    for slot, entry in entries.items():
        train(one, {0: entry})
        for a, b in zip(jax.tree.leaves(one.take(0).params), jax.tree.leaves(pool.take(slot).params), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("devices", [2, 8])
def test_the_block_talks_to_nobody(pools, devices):
    """No callback, no transfer to or from the host, no collective between devices."""
    pool = pools[0] if devices == 2 else make(8, 2, pools[0].recipe, pools[0].shared)
    text = pool.programs.block.as_text()
    for word in (
        "infeed",
        "outfeed",
        "send(",
        "recv(",
        "callback",
        "all-reduce",
        "all-gather",
        "all-to-all",
        "collective-permute",
        "reduce-scatter",
        "collective-broadcast",
    ):
        assert word not in text, f"{word} in the compiled block"


@pytest.mark.parametrize("together", [True, False])
def test_memory_is_linear_in_the_slots(monkeypatch, together):
    """Each slot more takes the same; the first alone may take a little more or less, as its axis is none.

    Compiled as fast as can be: what LLVM optimises is not how much memory there is.
    """
    monkeypatch.setitem(programs.OPTIONS, "cpu", {k: v for k, v in programs.OPTIONS["cpu"].items() if k not in USERS})
    model, pretrained = toys.bert()
    shared = toys.shared(pretrained=pretrained)
    totals = {n: make(1, n, toys.recipe(model), shared, together=together).memory.total for n in (2, 4, 8)}
    print("bytes of a pool by slots:", totals)
    assert (totals[8] - totals[4]) / 4 == pytest.approx((totals[4] - totals[2]) / 2, rel=0.1)


def test_slots_together_have_one_program_for_all_rows():
    """Under vmap both of two would be run."""

    def text(fewer: int, together: bool) -> str:
        recipe = toys.recipe(layout=Layout(4, 8, most=4, fewer=fewer))
        return make(1, 2, recipe, together=together).programs.block.as_text()

    plain, one, two = text(0, True), text(3, True), text(3, False)
    assert one.count(" dot(") == plain.count(" dot(") < two.count(" dot(")
    assert ["conditional(" in each for each in (plain, one, two)] == [False, False, True]


def test_nothing_compiles_after_the_first_block(pools):
    pool = pools[0]
    train(pool, {0: toys.entry()}, blocks=1)
    pool.take(0)
    compiled = []
    monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **_: compiled.append(name) if "backend_compile" in name else None
    )
    try:
        train(pool, {1: toys.entry(2, 2), 2: toys.entry(4, 4)})
        pool.put({3: pool.take(1)})
        assert compiled == []
        jax.jit(lambda x: x + 1.25)(np.float32(1.0))  # the listener does hear
        assert compiled
    finally:
        monitoring.clear_event_listeners()


class Watched(Pool):
    """A pool that keeps the parameters of what leaves its slots."""

    def follow(self, scheduler: Scheduler, blocks: int = 100) -> tuple[dict, list]:
        """Runs a queue of (name, entry); final replicas by name, and who was in each slot in each block."""
        final, timeline = {}, []
        for _ in range(blocks):
            if not scheduler.busy:
                break
            self.fill({slot: entry for slot, (_, entry) in scheduler.fill().items()})
            timeline.append([scheduler.running.get(slot, ("-",))[0] for slot in range(self.slots)])
            report = self.run(5)
            over = [slot for slot in scheduler.running if Status(report.status[slot]).over]
            for slot in over:
                final[scheduler.running[slot][0]] = self.take(slot)
            scheduler.settle(over)
        return final, timeline


def test_unequal_trials_keep_three_slots_busy(capsys):
    """11 trials of 5 to 20 steps, one of which diverges, in 3 slots: no slot waits for another."""
    queue = [
        (f"{number:02d}", toys.entry(number, number, epochs=1 + number % 4, n_train=20 - number % 3))
        for number in range(10)
    ]
    queue.insert(4, ("nan", toys.entry(99, 99, **{"train.lr": 1e30})))
    pool = Watched(toys.recipe(), toys.shared(), toys.entry(), devices=jax.devices()[:1], slots=3, precision="highest")
    final, timeline = pool.follow(Scheduler(queue, 3))
    with capsys.disabled():
        print("\nslot timeline, a column per block of 5 steps (the trial's number; nan diverges):")
        for slot in range(3):
            print(f"  slot {slot}: " + " ".join(f"{row[slot]:>3}" for row in timeline))
    assert len(final) == 11
    assert Status(final["nan"].status) in (Status.NON_FINITE_LOSS, Status.NON_FINITE_GRADIENT)
    started: set[str] = set()
    for row in timeline:
        started |= set(row)
        if "-" in row:  # a slot stands empty only when the queue is
            assert {name for name, _ in queue} <= started
    other, _ = pool.follow(Scheduler(queue[::-1], 3))
    assert all(equal(final[name], other[name]) for name in final)


def gap(a, b) -> float:
    """The largest difference of two trees of the same shape; infinite if not both are finite in the same places."""
    trees = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    pairs = [(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in trees]
    if any((np.isfinite(x) != np.isfinite(y)).any() for x, y in pairs):
        return np.inf
    return max(float(np.abs(np.nan_to_num(x) - np.nan_to_num(y)).max(initial=0)) for x, y in pairs)


def test_the_number_of_devices_moves_the_last_bits_at_most(capsys):
    """Two devices or eight: equal in every bit. One: XLA skips the pipeline that it runs for partitioned programs, with
    its simplifications, so that some sums are fused otherwise.
    """
    model, pretrained = toys.bert()
    recipe, shared = toys.recipe(model), toys.shared(pretrained=pretrained)
    results = {}
    for devices in (1, 2, 8):
        pool = make(devices, 2, recipe, shared)
        entries = {s: toys.entry(s, s, **{"train.lr": 1e-3}) for s in range(pool.slots)}
        reports = train(pool, entries)
        results[devices] = [outcome(pool, s, reports) for s in range(2)]
    with capsys.disabled():
        for devices in (2, 8):
            print(
                f"\n1 against {devices} devices, 10 steps: largest difference {gap(results[1], results[devices]):.2g}"
            )
    assert equal(results[2], results[8])
    assert gap(results[1], results[2]) < 1e-5
