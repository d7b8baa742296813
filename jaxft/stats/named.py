"""What tables and figures call the settings of trials: as briefly as tells them apart."""

from collections.abc import Iterable
from typing import Any

from jaxft import members
from jaxft.errors import BadInput
from jaxft.members import spec
from jaxft.stats.cells import short


def settings(column: str, values: Iterable[Any]) -> dict[Any, str]:
    """For each value of a column a text, cut where that leaves them different."""
    values = list(dict.fromkeys(values))
    texts = models(map(str, values)) if column == "model" else {str(value): str(value) for value in values}
    cut = {text: short(text) for text in texts.values()}
    return {
        value: cut[texts[str(value)]] if len(set(cut.values())) == len(cut) else texts[str(value)] for value in values
    }


def models(values: Iterable[str]) -> dict[str, str]:
    """For each value of the column `model` a name: the end of its folder, as many parts of it as are needed for no two
    folders to have the same, and the network in its place, without the arguments that are as usual.
    """
    values = list(dict.fromkeys(values))
    folders = {value: value.partition("|")[0].rstrip("/").split("/") for value in values}
    distinct = len({tuple(parts) for parts in folders.values()})
    most = max(map(len, folders.values()), default=1)
    enough = (n for n in range(1, most) if len({tuple(parts[-n:]) for parts in folders.values()}) == distinct)
    kept = next(enough, most)
    return {
        value: " | ".join(filter(None, ["/".join(parts[-kept:]), brief(value.partition("|")[2], "network")]))
        for value, parts in folders.items()
    }


def brief(text: str, kind: str = "method") -> str:
    """A spec without the arguments that are as usual; any other text as it is."""
    try:
        calls = spec.parse(text)
        usual = [{name: a.default for name, a in members.signature(call.name, kind).items()} for call in calls]
    except (BadInput, ValueError):  # from a file, where it may be any text
        return text
    return spec.write(
        call._replace(args={k: v for k, v in call.args.items() if before.get(k) != v})
        for call, before in zip(calls, usual, strict=True)
    )
