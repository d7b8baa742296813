"""A figure as SVG that may stand in a page, beside others: the same figure gives the same text."""

import html
import io
import re
import warnings

import matplotlib
from matplotlib.figure import Figure

from jaxft.report.figures.style import RC

_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}
_DPI = 160
"""Of what is drawn as an image within a figure."""


def inline(figure: Figure, name: str, description: str) -> str:
    """The <svg> element of a figure.

    Args:
        figure: to be drawn.
        name: of the figure within the page: makes the ids within it unique.
        description: for who cannot see it.
    """
    file = io.StringIO()
    with matplotlib.rc_context({**RC, "svg.fonttype": "none", "svg.hashsalt": "jaxft"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's browser has the font, or not
        if (engine := figure.get_layout_engine()) is not None:
            engine.execute(figure)
            figure.set_layout_engine("none")  # else savefig draws everything once more, to lay it out
        figure.savefig(file, format="svg", metadata=_METADATA, dpi=_DPI)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(|href=")#([\w.-]+)', text))
    text = re.sub(r' id="([\w.-]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(url\(|href=")#', rf"\1#{name}-", text)
    text = text.replace("'DejaVu Sans', ", "").replace('font-family="DejaVu Sans"', 'font-family="sans-serif"')
    text = re.sub(r"\n\s*", "\n", text)
    box = re.search(r'viewBox="[^"]*"', text[: text.index(">")])
    body = text[text.index(">") + 1 :]
    label = html.escape(description, quote=True)
    return f'<svg {box[0] if box else ""} role="img" aria-label="{label}">{body.rstrip()}'
