"""The pages of tasks and models are what these say of themselves; that of the studies has each with its command."""

import csv
import json
import re
from pathlib import Path

import pytest
from test_deberta import V3

from jaxft import members, tasks
from jaxft.bench.inputs import LENGTHS
from jaxft.data.files import Table
from jaxft.errors import BadInput
from jaxft.models import _reference as of_models
from jaxft.models import family
from jaxft.models.known import SIZES
from jaxft.study import TaskConfig, config
from jaxft.study.trials import expand
from jaxft.tasks import _reference as of_tasks

ROOT = Path(__file__).parents[1]
STUDIES = ROOT / "configs" / "README.md"
PAGES = {"tasks": of_tasks, "models": of_models}
NAMED = [name for name, module in of_tasks.ours().items() if hasattr(module, "TASKS")]
SHORT = [(name, short) for name in NAMED for short in ("hub", "tfds")]


def section(page: str, name: str) -> str:
    return page.split(f"\n## {name}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("room", PAGES)
def test_a_page_is_what_its_members_say(room):
    reference = PAGES[room]
    written = reference.PAGE.read_text(encoding="utf-8")
    assert written == reference.page(), f"{room}/README.md is out of date: run {reference.COMMAND}"


@pytest.mark.parametrize("room", PAGES)
def test_what_makes_a_page_is_no_member_and_writes_only_where_it_is_run(room):
    before = PAGES[room].PAGE.stat().st_mtime_ns
    tasks.find()
    family.find(SIZES["minilm"])
    __import__(f"jaxft.{room}.__main__")
    assert PAGES[room].PAGE.stat().st_mtime_ns == before
    assert not hasattr(PAGES[room], {"tasks": "read", "models": "FAMILY"}[room])
    found = [*of_tasks.ours(), *(module.__name__ for module in of_tasks.ours().values()), *of_models.families()]
    assert not [name for name in found if name.rpartition(".")[2].startswith("_")]


def test_what_a_program_added_is_not_on_the_page(monkeypatch):
    before, found = of_tasks.page(), tasks.find()
    monkeypatch.setattr(tasks, "find", lambda: {"films": found["text"].read, **found})
    assert of_tasks.page() == before


def test_every_task_is_on_the_page():
    page = of_tasks.page()
    for name, module in of_tasks.ours().items():
        room = module.__name__.rpartition(".")[2]
        assert f"\n| [`{name}`](#{room}) | " in page
        assert section(page, room)
    for name in NAMED:
        assert page.count(f"\n| `{name}` | ") == 2, "from files, and from a library"


@pytest.mark.parametrize("name", NAMED)
def test_files_as_the_page_has_them_are_read_as_it_says(tmp_path, name):
    told = of_tasks.facts(name)
    labels = told.codes if told.labels else ("0.5", "4.0")
    columns = told.header or tuple(column for column in told.files if column)
    for split in told.splits.values():
        rows = [dict.fromkeys(columns, "some words") | {told.files.label: label} for label in labels]
        write(tmp_path / split.file, columns, rows, header=not told.header)
    source = tasks.read(TaskConfig(name=name, path=str(tmp_path)))
    assert (source.labels, source.metric) == (told.labels, told.metric)
    assert list(source.splits) == list(told.splits)
    numbers = list(range(len(labels))) if told.labels else [0.5, 4.0]
    assert source.splits["dev"].labels == numbers
    assert {pair is None for _, pair in source.splits["train"].texts} == {told.files.pair is None}


@pytest.mark.parametrize(("name", "short"), [pair for pair in SHORT if pair[1] in of_tasks.facts(pair[0]).places])
def test_a_library_is_asked_for_what_the_page_says(monkeypatch, name, short):
    told, asked = of_tasks.facts(name), {}

    def tables(config, usual, read):
        asked.update(path=config.path, splits=usual)
        labels = told.labels or (0.5, 4.0)
        columns = {column: ["some words"] * len(labels) for column in told.library if column}
        table = Table("a library", columns | {told.library.label: list(labels)}, list(range(len(labels))))
        return dict.fromkeys(usual, table), True

    monkeypatch.setattr(of_tasks.ours()[name], "tables", tables)
    source = tasks.read(TaskConfig(name=name, path=short))
    assert asked == {"path": told.places[short], "splits": told.splits}
    assert source.labels == told.labels


@pytest.mark.parametrize(("name", "short"), [pair for pair in SHORT if pair[1] not in of_tasks.facts(pair[0]).places])
def test_no_other_name_is_short(name, short):
    with pytest.raises(BadInput, match=r"task\.path"):
        tasks.read(TaskConfig(name=name, path=short))


def test_examples_are_those_that_the_bench_counted():
    assert of_tasks.examples() == {name: (each.train, each.dev) for name, each in LENGTHS.items()}


@pytest.mark.parametrize("number", [0, 1])
def test_the_studies_of_own_texts_can_be_run(tmp_path, monkeypatch, number):
    blocks = re.findall(r"```yaml\n(.*?)```", section(of_tasks.page(), "text"), flags=re.DOTALL)
    assert len(blocks) == 2
    study = config.parse(blocks[number].encode(), "the page")
    assert len(expand(study)) == 25
    monkeypatch.chdir(tmp_path)
    task = study.task
    folder = Path(str(task.path))
    folder.mkdir()
    columns = [column for column in (task.text, task.text_pair, task.label) if column]
    for name in (task.train, task.dev):
        rows = [dict.fromkeys(columns, "some words") | {task.label: label} for label in ("1", "2")]
        write(folder / name, columns, rows, header=True)
    source = tasks.read(task)
    row = next(line for line in of_tasks.page().splitlines() if line.startswith("| [`text`]"))
    assert f"numbers {source.metric}" in row if task.regression else f"| {source.metric};" in row


def test_every_family_is_on_the_page():
    page, found = of_models.page(), of_models.families()
    assert set(of_models.PARITY) == set(found)
    for name, module in found.items():
        said = section(page, name)
        for kind in module.FAMILY.types:
            assert f"`{kind}`" in said
            assert family.find({"model_type": kind}) is module.FAMILY
        for path in of_models.PARITY[name]:
            assert f"`{path}`" in said
            assert "torch" in (ROOT / path).read_text(encoding="utf-8")
    for name in SIZES:
        assert f"\n| `{name}` | " in section(page, "sizes")


def test_every_network_is_on_the_page_with_its_arguments():
    page = of_models.page()
    for name in members.names("network"):
        said = page.split(f"\n### {name}\n")[1].split("\n## ")[0]
        for arg, declared in members.signature(name, "network").items():
            assert f"| `{arg}` | `{declared.default!r}` | {members.accepted(declared)} |" in said


def test_what_a_config_may_say_is_tried():
    found = {kind: said(kind) for kind in ("bert", "bart", "deberta_v2", "electra")}
    assert found["bert"]["hidden_size"] == ("a multiple of num_attention_heads", True)
    assert found["bert"]["is_decoder"] == ("False", False)
    assert found["bert"]["type_vocab_size"] == ("a positive integer", False)
    assert found["electra"]["embedding_size"] == ("a positive integer", False)
    assert found["bart"]["decoder_ffn_dim"] == ("the encoder's, encoder_ffn_dim", True)
    assert found["bart"]["encoder_ffn_dim"] == ("a positive integer", True)
    assert found["bart"]["d_model"] == ("a multiple of encoder_attention_heads", True)
    assert found["deberta_v2"]["conv_kernel_size"] == ("0", False)
    assert found["deberta_v2"]["embedding_size"] == ("hidden_size", False)
    assert found["deberta_v2"]["type_vocab_size"] == ("an integer from 0", False)
    assert V3["type_vocab_size"] == 0
    assert not [told for each in found.values() for told, _ in each.values() if of_models.WRONG in told]


def said(name: str) -> dict[str, tuple[str, bool]]:
    found = of_models.families()
    keys = of_models._keys(found.values())
    return {key: (told, needed) for key, told, needed in of_models.refused(found[name].FAMILY, keys)}


def test_every_study_is_on_the_page_with_its_command_and_its_trials():
    page = STUDIES.read_text(encoding="utf-8")
    paths = {path for path in (ROOT / "configs").rglob("*.yaml") if path.name != "base.yaml"}
    rows = dict(re.findall(r"^\| \[`[\w/.]+`\]\(([\w/.]+)\) \| (\d+) \|", page, flags=re.MULTILINE))
    assert {ROOT / "configs" / name for name in rows} == paths
    for path in paths:
        name = str(path.relative_to(ROOT / "configs"))
        assert int(rows[name]) == len(expand(config.load(path))), name
        assert re.search(rf"^jaxft run configs/{name}( |$)", page, flags=re.MULTILINE), name


def test_links_and_options_of_the_page_of_studies_lead_somewhere():
    page = STUDIES.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page):
        assert (STUDIES.parent / target).exists(), target
    names = {config.load(path).name for path in (ROOT / "configs").rglob("*.yaml") if path.name != "base.yaml"}
    assert set(re.findall(r"runs/([\w-]+)", page)) <= names | {"try", "corrected"}


@pytest.mark.parametrize("name", ["mrpc", "rte", "cola", "sst2"])
def test_hours_on_slices_are_those_of_the_launchers(name):
    launch = (ROOT / "launch" / "README.md").read_text(encoding="utf-8")
    page = STUDIES.read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| [`dodge2020/{name}.yaml`]"))
    for chips in ("TPU v4-32", "TPU v5e-256"):
        count = {"sst2": 225}.get(name, 625)
        hours = [
            re.findall(rf"\| {precision} \| {name} \| {count} \| {chips} \| ([\d.]+) \|", launch)[0]
            for precision in ("highest", "bfloat16")
        ]
        assert f"| {' / '.join(hours)} |" in row


def write(path: Path, columns, rows: list[dict[str, str]], *, header: bool) -> None:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return
    lines = [list(columns)] * header + [[row[column] for column in columns] for row in rows]
    if path.suffix == ".tsv":
        path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(lines)
