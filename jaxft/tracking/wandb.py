"""Weights & Biases."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from jaxft.errors import BadInput, line
from jaxft.study import Study, flat
from jaxft.tracking import Tracker, absent


def wandb(project: str = "jaxft", entity: str = "", mode: Literal["", "online", "offline"] = "") -> Tracker:
    """One run of a project, with the study's settings; its curves as tables, each with a plot.

    `mode` is that of wandb, which otherwise goes by WANDB_MODE and by who is logged in.
    """
    try:
        import wandb as client
    except ImportError as error:
        raise absent("wandb", error) from None

    def open(study: Study, run: str) -> "_Run":
        try:
            made = client.init(
                project=project, entity=entity or None, mode=mode or None, name=study.name, config=flat(study),
            )  # fmt: skip
        except Exception as error:  # it has many
            raise BadInput(f"track: wandb: {line(error)}") from None
        return _Run(client, made)

    return Tracker(open)


class _Run:
    def __init__(self, client: Any, run: Any):
        self._client, self._run = client, run

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def curve(self, name: str, points: Sequence[tuple[int, float]]) -> None:
        table = self._client.Table(columns=["step", "value"], data=[list(point) for point in points])
        self._run.log({name: self._client.plot.line(table, "step", "value", title=name)})

    def close(self) -> None:
        self._run.finish()
