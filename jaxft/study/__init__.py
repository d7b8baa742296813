"""A study, as frozen dataclasses, and as a flat dict of its leaves. No jax here."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, get_type_hints

Numbers = int | str | list[int]
"""Seeds: one (`3`), a range with both ends (`1..25`), or a list (`[1, 5, 7]`)."""

Scalar = int | float | str | bool | None


@dataclass(frozen=True)
class TaskConfig:
    """What is learned: a GLUE task, texts of your own with classes or numbers, or the generated task.

    Args:
        name: a GLUE task: cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte or wnli; snli, scitail or sick; yelp_review,
            yelp_polarity, amazon_reviews, amazon_polarity, imdb or ag_news; `text` for your own data; `generated` for
            the one that jaxft makes.
        path: folder that holds the files, that `datasets` saved, or that TFDS prepared (as array_record);
            `hub:OWNER/NAME` or `hub:OWNER/NAME:CONFIG` loads through `datasets`, `tfds:NAME` or
            `tfds:NAME/CONFIG` what TFDS has prepared; a GLUE task needs only `hub` or `tfds`.
        train: training file below path, or an absolute path (for `text`: .tsv, .csv or .jsonl); the name of the
            split where `datasets` or TFDS is the source.
        dev: validation file; for mnli dev_matched.tsv, and dev_mismatched.tsv is read too, when not given.
        test: test file; there is no test set when not given.
        split_dev: a seed that splits the validation set at random into two halves: the first scores the trials
            (as dev), the second is for the unbiased score of the best (as test); not split when not given.
        text: column of the text, or of the first of two.
        text_pair: column of the second text, if there are two.
        label: column of the label.
        labels: names of the labels, in the order of their numbers; found in the training file when not
            given.
        regression: the labels of `text` are numbers to be predicted, not names of classes.
        metric: what scores a trial: accuracy, f1, mcc or accuracy_f1 (their mean); for numbers pearson,
            spearman or pearson_spearman (their mean); the task's own when not given.
        max_length: examples are cut to so many tokens.
        n_train: train on so many examples only, drawn by the data seed, or on a share of them such as 10% (rounded
            down); all when not given.
        subset: nested (of one data seed, a larger n_train has the examples of a smaller one and more), or independent
            (each n_train is a draw of its own).
        stratified: the examples of n_train have the classes in the proportions of the training set, as near as whole
            numbers come (by largest remainder); not for a regression.
    """

    name: str = "generated"
    path: str | None = None
    train: str = "train.tsv"
    dev: str = "dev.tsv"
    test: str | None = None
    split_dev: int | None = None
    text: str = "sentence"
    text_pair: str | None = None
    label: str = "label"
    labels: list[str] | None = None
    regression: bool = False
    metric: str | None = None
    max_length: int = 128
    n_train: int | str | None = None
    subset: Literal["nested", "independent"] = "nested"
    stratified: bool = False


@dataclass(frozen=True)
class TrainConfig:
    """How one trial is trained. Every float may be swept.

    Args:
        optimizer: adamw (bias-corrected), or bertadam (no bias correction, as BERT was released).
        lr: peak learning rate.
        batch_size: examples per step.
        epochs: passes over the training set.
        schedule: linear (warm-up, then down to 0), linear_unscaled (the old 1 - x, which drops where the
            warm-up ends), linear_twice (the latter of the step times that of the step within its epoch, as
            Dodge et al. 2020 released it), cosine, or constant.
        warmup: share of the steps in which the rate rises from 0.
        t_total: what the schedule takes for the number of steps: steps (as many as there are), or examples
            (examples / batch_size * epochs, rounded down: the old code's, a little less).
        weight_decay: decoupled; not on biases and LayerNorm.
        b1: decay of Adam's first moment.
        b2: decay of Adam's second moment.
        eps: added to the root of the second moment.
        clip: largest gradient norm; 0 for no clipping.
        clip_by: global (one norm over all parameters) or tensor (each parameter its own, as in BertAdam).
        dropout: rate after embeddings, attention and layers, and before the head.
        dropout_at: every_step, or epoch_start (only in the first step of each epoch, as Dodge et al. 2020
            released it).
        precision: highest (true float32), high (three passes of bfloat16 on a TPU, TF32 on a GPU), default (the
            platform's fastest for float32), or bfloat16 (computes in bfloat16; weights and Adam in float32).
    """

    optimizer: Literal["adamw", "bertadam"] = "adamw"
    lr: float = 2e-5
    batch_size: int = 16
    epochs: int = 3
    schedule: Literal["linear", "linear_unscaled", "linear_twice", "cosine", "constant"] = "linear"
    warmup: float = 0.1
    t_total: Literal["steps", "examples"] = "steps"
    weight_decay: float = 0.01
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-6
    clip: float = 1.0
    clip_by: Literal["global", "tensor"] = "global"
    dropout: float = 0.1
    dropout_at: Literal["every_step", "epoch_start"] = "every_step"
    precision: Literal["highest", "high", "default", "bfloat16"] = "highest"


@dataclass(frozen=True)
class SeedGrid:
    """The seeds of the trials: every init with every order (and so on), or rows that name each trial.

    Args:
        init: seeds of the new parameters.
        order: seeds of the order of the training data.
        dropout: seeds of dropout; follows order when not given.
        noise: seeds of the method's own noise; follows order when not given.
        data: seeds of the training subset.
        rows: a list of mappings such as {init: 1, order: 7}, instead of a grid.
    """

    init: Numbers = "1..4"
    order: Numbers = "1..4"
    dropout: Numbers | None = None
    noise: Numbers | None = None
    data: Numbers = 0
    rows: list[dict[str, int]] | None = None


@dataclass(frozen=True)
class EvalConfig:
    """When and how trials are evaluated.

    Args:
        per_epoch: evaluations in an epoch, evenly spaced; one more at the end where they do not divide it.
        every: an evaluation every so many steps instead.
        batch_size: rows of a dev batch.
        gradient_norms: keep with each evaluation on dev, per layer, the L2 norm of the loss's gradient in the last
            step before it, over what the trial trains there: of the whole batch, before clipping. In evals/ as
            grad_norm.embeddings, grad_norm.layers/0 and so on; not a number where no step was taken. Another
            program, so all trials of a study have them or none.
        also: other data sets that trials are evaluated on, at the same steps; no trial is chosen, ranked or stopped by
            them. A list of mappings with a name, by which evals/ and predictions/ call the set; the task that reads it
            (the name itself when not given); path, dev (the file or split that is evaluated), text, text_pair, label,
            regression and max_length as in task; and labels: for each of its labels the classes of the training task
            that count as it, such as {entailment: entailment, not_entailment: [neutral, contradiction]}, when the
            names differ. For all trials of a study the same.
        probe: other tasks that a logistic regression learns from the encoder of a completed trial, frozen: from its
            last hidden state at the first token, on the training set; trials/ has its accuracy on dev as probe.NAME. A
            list of mappings with a name; the task that reads it (the name itself when not given); path, train, dev,
            text, text_pair, label, labels and max_length as in task; and n_train for so many of its training
            examples, the same ones for all trials. For all trials of a study the same.
        soups: keep the parameters of so many of the best completed trials, by their dev score at their end, of those
            that share a program; and once all of these are over, evaluate averages of them: each with its start
            (WiSE-FT, Wortsman et al. 2022a), and of several the mean and the greedy soup (model soups, Wortsman et al.
            2022b). In soups/ and best/. For all trials of a study the same; none when not given.
        costs: keep in trials/ what a trial costs: train_flops, FLOPs of the matmuls of all its steps (by the formula of
            `jaxft plan`), and infer_per_second, examples per second that one device evaluates, all its slots together,
            timed on empty slots before the first block. For all trials of a study the same.
    """

    per_epoch: int = 1
    every: int | None = None
    batch_size: int = 16
    gradient_norms: bool = False
    also: list[dict[str, Any]] | None = None
    probe: list[dict[str, Any]] | None = None
    soups: int | None = None
    costs: bool = False


@dataclass(frozen=True)
class StopConfig:
    """The early-stopping mask: rules about one replica, checked inside the compiled block.

    Args:
        enabled: false switches all rules off.
        non_finite: drop a replica whose loss or gradient is not finite, in that very step, or whose logits
            are not at an evaluation.
        loss_above: drop a replica whose training loss stays above this bound.
        loss_patience: for so many steps in a row.
        one_class: drop a replica that predicts one class only (in a regression one number) in so many
            evaluations in a row; 0 for never.
        majority: drop a replica whose accuracy is no better than the largest class's share (in a regression its
            squared error no less than that of the labels' mean) in so many evaluations in a row; 0 for never.
    """

    enabled: bool = True
    non_finite: bool = True
    loss_above: float | None = None
    loss_patience: int = 10
    one_class: int = 0
    majority: int = 0


@dataclass(frozen=True)
class PoolConfig:
    """How many trials are trained at once.

    Args:
        slots: trials per device, or auto for what fits. Part of the numerics: fixed when the study starts.
        devices: how many devices, or auto for all of them; on a CPU, one virtual device per core.
        tokens: where the tokens of the training set lie: device; host, from which those that a block reads go to the
            devices before it, with the same bits; or auto, which is host where they would take more than a quarter of a
            device's memory.
        checkpoint_minutes: how often trials in flight are set down in the run folder, to go on from there after a
            kill; 0 for never but when the run is asked to stop. Finished trials do not depend on it.
    """

    slots: int | Literal["auto"] = "auto"
    devices: int | Literal["auto"] = "auto"
    tokens: Literal["auto", "device", "host"] = "auto"
    checkpoint_minutes: float = 10.0


@dataclass(frozen=True)
class Study:
    """Many trials of one encoder on one task that differ in their seeds, and in what is swept.

    Args:
        name: what the study is called.
        model: folder with a Hugging Face checkpoint, a hub name, or `embedded` for the tiny one that comes
            with jaxft. After a bar, what is trained in its place, with its tokenizer: `FOLDER|scratch` is the encoder
            without its pretraining, `FOLDER|lstm(layers=4, hidden=256)` an LSTM in both directions.
        task: what is learned.
        method: how it is fine-tuned, such as `vanilla` or `a(x=1)|b`.
        train: how one trial is trained.
        seeds: which trials there are.
        sweep: more trials: lists of values for any key, such as {train.lr: [1e-5, 2e-5]}, or for an argument
            of the method ({method.mixout.p: [0, 0.9]}). Keys with commas between them go together, a list of a value
            for each: {"method,train.lr": [[vanilla, 1e-4], [bitfit, 1e-3]]}.
        eval: when trials are evaluated.
        stop: when they are dropped.
        pool: how many are trained at once.
        policy: who goes on, by the scores of all trials so far: `start_many(start=12, fraction=0.3, keep=2)`,
            `successive_halving`, `median`; all do when not given. Trials that share one program are ranked together.
        out: the run folder, a path or a URL such as gs://bucket/runs/mrpc; runs/NAME when not given.
    """

    name: str = "study"
    model: str = "embedded"
    task: TaskConfig = field(default_factory=TaskConfig)
    method: str = "vanilla"
    train: TrainConfig = field(default_factory=TrainConfig)
    seeds: SeedGrid = field(default_factory=SeedGrid)
    sweep: dict[str, list[Any]] = field(default_factory=dict)
    eval: EvalConfig = field(default_factory=EvalConfig)
    stop: StopConfig = field(default_factory=StopConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)
    policy: str | None = None
    out: str | None = None


SECTIONS = {
    "task": TaskConfig,
    "train": TrainConfig,
    "seeds": SeedGrid,
    "eval": EvalConfig,
    "stop": StopConfig,
    "pool": PoolConfig,
}

KEYS: dict[str, Any] = {
    **{name: hint for name, hint in get_type_hints(Study).items() if name not in (*SECTIONS, "sweep")},
    **{f"{s}.{name}": hint for s, part in SECTIONS.items() for name, hint in get_type_hints(part).items()},
}
"""The type of every key by its dotted name, but for `sweep`."""


def flat(study: Study) -> dict[str, Any]:
    """The leaves of a study by their dotted names: {"name": "study", "train.lr": 2e-5, ...}."""
    leaves = {}
    for part in fields(study):
        value = getattr(study, part.name)
        if is_dataclass(value):
            leaves |= {f"{part.name}.{leaf.name}": getattr(value, leaf.name) for leaf in fields(value)}
        else:
            leaves[part.name] = value
    return leaves


def build(leaves: Mapping[str, Any]) -> Study:
    """The study with these leaves; those that are not given keep their defaults. The inverse of `flat`."""
    top = {name: value for name, value in leaves.items() if "." not in name}
    parts = {
        section: part(**{n.split(".")[1]: x for n, x in leaves.items() if n.startswith(f"{section}.")})
        for section, part in SECTIONS.items()
    }
    return Study(**top, **parts)
