"""The methods' page is what the methods say of themselves."""

import json

import pytest

from jaxft import members
from jaxft.methods import _reference as reference

ROW = {
    "when": "2026-11-01T00:00:00+00:00",
    "model": "minilm",
    "lengths": "mrpc",
    "machine": {"kind": "cpu"},
    "replicas": 2,
}

DOCSTRING = """What.

Rule:

    p <- p

more.

Owns: all
of it.
Off: at x = 0.

Args:
    x: so
        much.
    y: little.

Raises:
    BadInput: no such layer (when the method is traced).

Source:
    A (arXiv 1.2)."""


def section(page: str, name: str) -> str:
    return page.split(f"\n## {name}\n")[1].split("\n## ")[0]


def test_the_page_is_what_the_methods_say():
    written = reference.PAGE.read_text(encoding="utf-8")
    assert written == reference.page(), f"methods/README.md is out of date: run {reference.COMMAND}"


@pytest.mark.parametrize("name", [name for name in members.names() if name != "vanilla"])
def test_each_method_has_a_section_with_all_that_there_is_to_know(name):
    said = section(reference.page(), name)
    found = reference.parts(members.docstring(name))
    assert found.rule in said
    assert set(found.marked) == {"Owns", "Off", "Hazards"}
    assert all(text in said for text in found.marked.values())
    assert found.source in said
    assert set(found.arguments) == set(members.signature(name)), "each argument is explained"
    for arg, declared in members.signature(name).items():
        assert f"| `{arg}` | `{declared.default!r}` | {members.accepted(declared)} |" in said
    for other, reason in members.clashes(name).items():
        if other in members.names():
            assert f"`{name}`: {reason}." in section(reference.page(), other), "a clash stands with both"


def test_a_docstring_is_taken_apart():
    found = reference.parts(DOCSTRING)
    assert found.rule == "Rule:\n\n    p <- p\n\nmore."
    assert found.marked == {"Owns": "all of it.", "Off": "at x = 0."}
    assert found.arguments == {"x": "so much.", "y": "little."}
    assert found.refused == {"Refused": "no such layer."}
    assert found.source == "A (arXiv 1.2)."


def test_what_was_measured_stands_with_its_method(tmp_path):
    rows = [
        {"row": "ours x2", **ROW, "figures": {}},  # of another bench
        {**ROW, "method": "vanilla", "per_replica": 2**30, "figures": {"step": 0.1, "ratio": None}},
        {
            **ROW,
            "method": "mixout(p=0.9)",
            "per_replica": 3 * 2**29,
            "figures": {"step": 0.12, "ratio": [1.2, 1.1, 1.3]},
        },
        {**ROW, "method": "mixout(p=0.1)", "per_replica": 2**29, "figures": {"step": 0.5, "ratio": [5, 5, 5]}},
        {**ROW, "method": "gone", "per_replica": 2**29, "figures": {"step": 0.5, "ratio": [5, 5, 5]}},
        {**ROW, "method": "lora", "absent": "failed"},
    ]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)) + '\n{"met')
    page = reference.page(tmp_path)
    told = "120 ms, 1.20 times vanilla's time of a step (1.10 to 1.30); 1,536 MiB a replica (vanilla 1,024)"
    assert f"**Measured:** {told}; minilm, mrpc, 2 replicas, cpu, 2026-11-01 (`r.jsonl`)." in section(page, "mixout")
    assert "**Measured:** 100 ms, the yardstick; 1,024 MiB a replica;" in section(page, "vanilla")
    assert section(page, "lora").rstrip().endswith("**Measured:** not yet.")
    assert "| 1.20 | 1.50 |" in page
    assert "5.00" not in page
