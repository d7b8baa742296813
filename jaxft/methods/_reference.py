"""The methods as a page, `README.md` beside this file: of their signatures, docstrings and the bench's records."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxft import members
from jaxft.errors import BadInput
from jaxft.members import spec
from jaxft.members.sections import parts

PAGE = Path(__file__).with_name("README.md")
RECORDS = Path(__file__).parents[1] / "bench" / "records"
COMMAND = "python -m jaxft.methods"

HEAD = f"""# The methods

Ways to fine-tune, as `method:` of a study has them: `mixout(p=0.1)`, or a chain such as `reinit(layers=2)|mixout`.
Time and memory are those of one replica against `vanilla` in the same pool, as records of `jaxft bench --methods` have
them, a number for each record; "-" is not measured.

This page is made by `{COMMAND}` from the methods' signatures and docstrings: change those, not the page.
"""


def page(records: Path = RECORDS) -> str:
    """The whole page.

    Args:
        records: a folder with records of the bench.
    """
    names, measured = members.names(), list(_measured(records))
    rows = [
        ("method", "what it does", "paper", "time of a step", "memory"),
        ("---", "---", "---", "---", "---"),
        *(_row(name, [each for each in measured if each["method"] == name]) for name in names),
    ]
    table = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
    sections = [_section(name, [each for each in measured if each["method"] == name]) for name in names]
    return "\n".join([HEAD, table, "", *sections])


def _row(name: str, measured: list[dict[str, Any]]) -> tuple[str, ...]:
    section = parts(members.docstring(name))
    paper = re.search(r"arXiv (\d+\.\d+)", section.source)
    times = [f"{each['time'][0]:.2f}" for each in measured if each["time"]]
    memory = [f"{each['memory'] / each['vanilla']:.2f}" for each in measured if each["vanilla"]]
    return (
        f"[`{name}`](#{name})",
        section.line,
        f"[{paper[1]}](https://arxiv.org/abs/{paper[1]})" if paper else "-",
        ", ".join(times) or "-",
        ", ".join(memory) or "-",
    )


def _section(name: str, measured: list[dict[str, Any]]) -> str:
    section, declared = parts(members.docstring(name)), members.signature(name)
    shown = ", ".join(f"{arg}={each.default!r}" for arg, each in declared.items())
    lines = [f"## {name}", "", f"`{name}({shown})`" if declared else f"`{name}`", "", section.line, ""]
    lines += [section.rule, ""] if section.rule else []
    if declared:
        lines += ["| argument | default | accepted | |", "| --- | --- | --- | --- |"]
        for arg, each in declared.items():
            about = section.arguments.get(arg, "").replace("|", r"\|")
            lines.append(f"| `{arg}` | `{each.default!r}` | {members.accepted(each)} | {about} |")
        fixed = [f"`{arg}`" for arg, each in declared.items() if each.type is not float]
        own = [f"`{arg}`" for arg, each in declared.items() if each.type is float]
        lines += ["", *([f"Replicas of one program may differ in {_listed(own)}."] if own else [])]
        lines += [f"Each value of {_listed(fixed)} is a program of its own."] if fixed else []
        lines += [""]
    for word, text in (section.marked | section.refused).items():
        lines += [f"**{word}:** {text}", ""]
    clashes = _clashes(name)
    if clashes:
        lines += ["**Does not go with:** " + " ".join(f"`{other}`: {why}." for other, why in clashes.items()), ""]
    lines += [f"**Source:** {section.source}", ""] if section.source else []
    lines += [f"**Measured:** {_told(each)}" for each in measured] or ["**Measured:** not yet."]
    return "\n".join([*lines, ""])


def _clashes(name: str) -> dict[str, str]:
    """As either file says."""
    theirs = {other: members.clashes(other) for other in members.names()}
    return dict(sorted((members.clashes(name) | {o: why[name] for o, why in theirs.items() if name in why}).items()))


def _told(each: dict[str, Any]) -> str:
    time = "the yardstick"
    if each["time"]:
        median, least, most = each["time"]
        time = f"{median:.2f} times vanilla's time of a step ({least:.2f} to {most:.2f})"
    memory = f"{each['memory'] / 2**20:,.0f} MiB a replica"
    memory += f" (vanilla {each['vanilla'] / 2**20:,.0f})" if each["time"] and each["vanilla"] else ""
    return f"{each['step'] * 1e3:.3g} ms, {time}; {memory}; {each['where']}."


def _measured(folder: Path) -> Iterator[dict[str, Any]]:
    """What records say of single methods at their defaults."""
    for path in sorted(folder.glob("*.jsonl")):
        rows = [row for row in map(_read, path.read_text(encoding="utf-8").splitlines()) if "method" in row]
        bases = {row["when"]: row["per_replica"] for row in rows if row["method"] == "vanilla" and "figures" in row}
        for row in rows:
            name = row["method"].partition("(")[0]
            if "figures" not in row or not _at_defaults(row["method"], name):
                continue
            where = f"{row['model']}, {row['lengths']}, {row['replicas']} replicas, {row['machine']['kind']}"
            yield {
                "method": name,
                "step": row["figures"]["step"],
                "time": row["figures"]["ratio"],
                "memory": row["per_replica"],
                "vanilla": bases.get(row["when"]),
                "where": f"{where}, {row['when'][:10]} (`{path.name}`)",
            }


def _at_defaults(text: str, name: str) -> bool:
    try:
        return spec.bind(spec.parse(text)) == spec.bind(spec.parse(name))
    except BadInput:  # of another version
        return False


def _read(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:  # a bench was interrupted
        return {}
    return found if isinstance(found, dict) else {}


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
