"""The pages that people read: what they link to is there, and what they tell to type is a command."""

import re
from pathlib import Path

import pytest
import yaml

from jaxft import cli
from jaxft.study import config, options, trials

ROOT = Path(__file__).parents[1]
FOLDERS = ("jaxft", "configs", "launch", "notebooks")
PAGES = sorted([*ROOT.glob("*.md"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.md"))])
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_commands_are_ours(path):
    known = {*cli.COMMANDS, *options.HELP, "bench", "doctor"}
    for block in re.findall(r"```bash\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL):
        for command in re.findall(r"^(?:\.venv/bin/)?jaxft (\S+)", block, flags=re.MULTILINE):
            assert command in known or command.startswith("--"), f"{path.name}: jaxft {command}"


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_studies_that_are_run_are_there(path):
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"\b(configs/[\w/]+\.yaml)\b", text):
        assert (ROOT / name).is_file(), f"{path.name}: {name}"


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "jaxft" / "GUIDE.md"], ids=lambda path: path.name)
def test_examples_of_studies_are_studies(path, tmp_path, monkeypatch):
    """Each key and value in them is known."""
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        keys = yaml.safe_load(block)
        base = keys.pop("base", None)
        study = config.make(base, **keys)
        assert len(trials.expand(study)) > 1


def test_every_extra_that_a_page_names_is_there():
    import tomllib

    known = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    for path in PAGES:
        if path.name != "CHANGELOG.md":
            for extras in re.findall(r"(?:jaxft|\.)\[([\w,-]+)\]'", path.read_text(encoding="utf-8")):
                assert set(extras.split(",")) <= known, f"{path.name}: {extras}"
