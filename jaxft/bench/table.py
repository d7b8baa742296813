"""What a bench prints."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from jaxft.bench.rounds import EPOCHS, EVALUATIONS
from jaxft.cost import Bound
from jaxft.engine.memory import size

WIDTH = 120  # where no terminal says more


def show(rows: Sequence[Mapping[str, Any]], fastest: str, console: Console | None = None) -> None:
    """Prints two tables, of speed and of what it takes, from rows as the record has them."""
    rows = sorted(rows, key=lambda row: "absent" in row)
    console = console or Console()
    if console.width < WIDTH:
        console = Console(file=console.file, width=WIDTH)
    console.print(_speed(rows, fastest))
    console.print(_needs(rows))


def methods(rows: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Prints the table of a comparison of methods, from rows as the record has them."""
    console = console or Console()
    if console.width < WIDTH:
        console = Console(file=console.file, width=WIDTH)
    there = [row for row in rows if "absent" not in row]
    many = max(len(row["rounds"]) for row in there)
    title = f"Methods at width {there[0]['replicas']}: a step of one replica, medians of {many} round(s)"
    heads = ("ms a step", "times vanilla's", "it trains", "its state", "memory a replica", "compiled")
    table = Table("method", *(_right(name) for name in heads), title=title, title_justify="left")
    for row in there:
        spread = row["figures"]["ratio"]
        table.add_row(
            Text(row["row"]),
            f"{row['figures']['step'] * 1e3:.3g}",
            "" if spread is None else f"{spread[0]:.2f} ({spread[1]:.2f} to {spread[2]:.2f})",
            f"{row['owned']:,}",
            size(row["state_bytes"]),
            size(row["per_replica"]),
            f"{row['compile_seconds']:.1f} s",
        )
    console.print(table)
    for row in rows:
        if "absent" in row:
            console.print(Text(f"{row['row']}: not measured: {row['absent']}"), soft_wrap=True)


def bound(name: str, least: Bound, step: float) -> str:
    """What binds the fastest of ours: predicted figures, which have no column."""
    shares = ", ".join(f"{field} {seconds * 1e3:.3g} ms" for field, seconds in zip(least._fields, least, strict=True))
    return (
        f"{name}: a step of one replica took {step * 1e3:.3g} ms, measured. By the formula, at the ceilings, it needs "
        f"at least {least.seconds * 1e3:.3g} ms ({shares}): {least.binds} binds."
    )


def _speed(rows: Sequence[Mapping[str, Any]], fastest: str) -> Table:
    rounds = max(len(row.get("rounds", ())) for row in rows)
    table = Table(
        "row",
        *(_right(name) for name in ("examples/s", "tokens/s", "trials/h", f"trials/h, {EVALUATIONS} ev.", "ms a step")),
        _right(f"{fastest} is faster by"),
        title=f"Speed: medians of {rounds} round(s); trials of {EPOCHS} epochs; ms of a step by the number of replicas",
        title_justify="left",
    )
    for row in rows:
        if "figures" not in row:
            table.add_row(row["row"], *[""] * 5, Text(row["absent"]))  # not as markup: [bench] is a part of it
            continue
        f = row["figures"]
        rates = [_rate(f[name]) for name in ("examples", "tokens", "trials", "evaluated")]
        spread = f["ratio"]
        times = "" if spread is None else f"{spread[0]:.2f} ({spread[1]:.2f} to {spread[2]:.2f})"
        table.add_row(row["row"], *rates, f"{f['step'] * 1e3:.3g}", times)
    return table


def _needs(rows: Sequence[Mapping[str, Any]]) -> Table:
    heads = ("model FLOP/s", "of roofline", "memory", "a replica", "compiled", "evaluation")
    title = "What it takes, on all devices; seconds of an evaluation by the number of replicas"
    settings = Column("settings", no_wrap=True)
    table = Table("row", *(_right(name) for name in heads), settings, title=title, title_justify="left")
    for row in rows:
        if "figures" not in row:
            continue
        f, memory, took = row["figures"], row["memory"], row["compile_seconds"]
        table.add_row(
            row["row"],
            f"{f['flops'] / 1e9:,.4g} G",
            f"{f['roofline']:.0%}",
            "-" if memory is None else size(memory),
            "-" if memory is None else size(memory / row["replicas"]),
            "-" if took is None else f"{took:.1f} s",
            f"{f['evaluation']:.3g} s",
            " ".join(
                _setting(name, value)
                for name, value in row["settings"].items()
                if value is not False and name != "peak_bytes"
            ),
        )
    return table


def _setting(name: str, value: Any) -> str:
    return name if value is True else value if isinstance(value, str) else f"{name.removesuffix('_per_device')} {value}"


def _right(name: str) -> Column:
    return Column(name, justify="right")


def _rate(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
