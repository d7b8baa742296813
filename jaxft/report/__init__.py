"""The report: one HTML page about run folders and files of scores, and every table of it as CSV and JSON. No jax here.

In a notebook: `from jaxft import report`, then `report.build(["runs/mrpc"], "report")`; the figures alone are in
`jaxft.report.figures`, the numbers in `jaxft.stats`.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from jaxft.errors import BadInput, line

PAGE, TABLES = "report.html", "tables"
_NEEDED = ("matplotlib", "scipy", "statsmodels", "opda")


def build(sources: Sequence[str | Path], out: str | Path, metric: str | None = None) -> Path:
    """Analyses what the sources hold and writes the report.

    It writes report.html, and tables/NAME.csv and .json: for each analysis one table of all studies, whose first column
    `study` says which. Files of an earlier report there are replaced; the page is the last to be. The same sources give
    the same bytes.

    Args:
        sources: run folders, CSV files of scores, matrices, or JSON of the paper's release schema: `stats.scores.read`.
        out: a folder; made where there is none.
        metric: that scores; None: what each source says.

    Returns:
        The path of the page.

    Raises:
        BadInput: a source that cannot be read or is given twice, a library that is not installed, or a folder that
            cannot be written. What single analyses refuse stands in the page.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise BadInput(f"report: {', '.join(missing)} not installed; needed: pip install 'jaxft[analysis]'")
    from jaxft.report import chapters, tables
    from jaxft.stats import scores

    if not sources:
        raise BadInput("report: expected at least one run folder or file of scores")
    names = [str(source) for source in sources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadInput(f"report: {twice} is given twice; expected each source once")
    studies = [study for source in sources for study in scores.read(source, metric)]
    page, found = chapters.compose(studies, names)
    out = Path(out)
    try:
        folder = out / TABLES
        folder.mkdir(parents=True, exist_ok=True)
        for name, parts in found.items():
            tables.write(folder, name, *tables.stack(parts))
        for stale in (set(chapters.NAMES) - set(found)) & {path.stem for path in folder.iterdir()}:
            for end in ("csv", "json"):
                (folder / f"{stale}.{end}").unlink(missing_ok=True)
        tables.replace(out / PAGE, page)
    except OSError as error:
        raise BadInput(f"{out}: cannot be written ({line(error)}); give another --out") from None
    return out / PAGE
