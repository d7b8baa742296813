"""Sources for the tests of the report, and a reader of its page."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd

VOID = {"meta", "link", "br", "img", "input", "hr"}


def scores(task: str, inits: int, orders: int, evaluations: int, seed: int = 0, dev: int = 277) -> pd.DataFrame:
    """Curves as a CSV holds them: a crossed grid, seeds that matter a little, a third of the trials at the majority."""
    rng = np.random.default_rng(seed)
    of_init, of_order = rng.normal(0, 0.03, inits), rng.normal(0, 0.01, orders)
    at = np.arange(1, evaluations + 1) / evaluations
    frames = []
    for i in range(inits):
        for j in range(orders):
            top = 0.53 if rng.random() < 0.3 else 0.72 + of_init[i] + of_order[j] + rng.normal(0, 0.02)
            curve = 0.53 + (top - 0.53) * (1 - np.exp(-4 * at)) + rng.normal(0, 0.01, evaluations)
            curve = np.round(np.clip(curve, 0, 1) * dev) / dev
            columns = {"step": (10 * evaluations * at).astype(int), "epoch": 3 * at, "score": curve}
            frames.append(pd.DataFrame({"init_seed": i + 1, "order_seed": j + 1, **columns}))
    return pd.concat(frames).assign(task=task, metric="accuracy", majority_score=0.527)


class Element:
    """One of a page: its name, attributes, children, and its text without that of its children."""

    def __init__(self, name: str, attributes: dict[str, str], parent: "Element | None"):
        self.name, self.attributes, self.parent = name, attributes, parent
        self.children: list[Element] = []
        self.own = ""

    def all(self, name: str | None = None, **attributes: str) -> list["Element"]:
        """Those below it, in order; `class_` for class, of which one word is enough."""
        wanted = {key.strip("_"): value for key, value in attributes.items()}
        found = []
        for child in self.children:
            if name in (None, child.name) and all(
                value in child.attributes.get(key, "").split() for key, value in wanted.items()
            ):
                found.append(child)
            found += child.all(name, **attributes)
        return found

    @property
    def text(self) -> str:
        """Its own and that of all below it, spaces as one."""
        return " ".join(" ".join([self.own, *(child.text for child in self.children)]).split())


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {}, None)
        self.here = self.root

    def handle_starttag(self, tag, attrs):
        made = Element(tag, {key: value or "" for key, value in attrs}, self.here)
        self.here.children.append(made)
        if tag not in VOID:
            self.here = made

    def handle_startendtag(self, tag, attrs):
        self.here.children.append(Element(tag, {key: value or "" for key, value in attrs}, self.here))

    def handle_endtag(self, tag):
        assert self.here.name == tag, f"</{tag}> closes <{self.here.name}>"
        self.here = self.here.parent

    def handle_data(self, data):
        self.here.own += data


def read(page: Path | str) -> Element:
    """The elements of a page; every one must be closed, in order."""
    reader = _Reader()
    reader.feed(page.read_text() if isinstance(page, Path) else page)
    reader.close()
    assert reader.here is reader.root, f"<{reader.here.name}> is not closed"
    return reader.root


def numbers(text: str) -> list[float]:
    """The numbers in a sentence."""
    return [float(found) for found in re.findall(r"\d+\.\d+|\d+", text.replace(",", ""))]
