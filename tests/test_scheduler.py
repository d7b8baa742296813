"""The queue on the studies of Dodge et al. 2020, without any training: how busy slots are until it is empty."""

import random

import pytest
from endings import study

from jaxft.loop.scheduler import Scheduler
from jaxft.study.trials import expand

STUDIES = {
    # steps of the trials, steps between evaluations
    "MRPC": ([690], 23),
    "RTE": ([468], 15),
    "CoLA": ([1605], 53),
    "SST-2": ([12630], 100),
    "three sizes": ([230, 690, 2300], 23),
}


@pytest.mark.parametrize("dropped", [0.0, 0.3])
@pytest.mark.parametrize("name", STUDIES)
def test_slots_are_busy_until_the_queue_is_empty(name, dropped):
    """Blocks as in train.py; a share of the trials is dropped somewhere on its way, at a step of any number."""
    lengths, every = STUDIES[name]
    draw, (one, *_) = random.Random(0), expand(study())
    trials = [one._replace(id=str(number)) for number in range(400)]
    left = {}
    for trial in trials:
        total = draw.choice(lengths)
        left[trial.id] = (total, draw.randrange(1, total) if draw.random() < dropped else total)
    scheduler, taken, offered = Scheduler(trials, 16), 0, 0
    while scheduler.busy:
        scheduler.fill()
        running = scheduler.running
        steps = min(every, max(left[trial.id][0] for trial in running.values()))
        over = []
        for slot, trial in running.items():
            total, alive = left[trial.id]
            done = min(steps, total, alive)
            if scheduler.queue:
                taken += done
            left[trial.id] = (total - done, alive - done)
            over += [slot] if min(left[trial.id]) == 0 else []
        offered += 16 * steps if scheduler.queue else 0
        scheduler.settle(over)
    print(f"{name}, {dropped:.0%} dropped: busy {taken / offered:.1%}")
    assert taken / offered > 0.95
