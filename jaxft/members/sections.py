"""Docstrings taken apart, for the pages that are made of them. No jax here."""

import re
from typing import NamedTuple


class Section(NamedTuple):
    """A docstring, in parts."""

    line: str
    rule: str
    """What comes between its first line and the next part."""
    marked: dict[str, str]
    """By its word: "Owns", "Off", "Hazards"."""
    refused: dict[str, str]
    """As "Refused": what raises BadInput."""
    arguments: dict[str, str]
    source: str


def parts(text: str) -> Section:
    """A docstring, taken apart.

    Args:
        text: as `members.docstring` gives it, with "Owns:", "Off:", "Hazards:", "Args:" and "Source:" where there.
    """
    words = ("Owns", "Off", "Hazards", "Args", "Raises", "Source")
    first, *pieces = re.split(rf"^({'|'.join(words)}):", text, flags=re.MULTILINE)
    line, _, rule = first.partition("\n")
    found = {word: body.strip("\n") for word, body in zip(pieces[::2], pieces[1::2], strict=True)}
    described = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", found.get("Args", ""), flags=re.MULTILINE)
    marked = {word: _flat(found[word]) for word in words[:3] if word in found}
    arguments = {name: _flat(about) for name, about in described}
    raised = re.sub(r"BadInput: | \(when the method is traced\)", "", _flat(found.get("Raises", "")))
    refused = {"Refused": raised} if raised else {}
    return Section(line, rule.strip("\n"), marked, refused, arguments, _flat(found.get("Source", "")))


def _flat(text: str) -> str:
    return " ".join(text.split())
