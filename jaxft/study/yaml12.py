"""YAML with the plain words of version 1.2: `3e-5` is a number, `no` a word, a key given twice an error."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import yaml

from jaxft.errors import BadInput

_TAG = "tag:yaml.org,2002:"
_WORDS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}


class Entry(NamedTuple):
    """A key with its value, and where it stands."""

    key: str
    """Dotted: "train.lr"."""
    value: Any
    line: int
    """Counted from 1."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012  (PyYAML's own way)

    def construct_yaml_int(self, node):
        return int(self.construct_scalar(node))  # PyYAML's would read 010 as 8


class _Dumper(yaml.SafeDumper):
    """Writes for this module and for plain YAML 1.1 readers: quotes what either takes for a number."""

    def ignore_aliases(self, data) -> bool:
        return True


_Loader.add_constructor(f"{_TAG}int", _Loader.construct_yaml_int)
_Dumper.add_representer(list, lambda self, x: self.represent_sequence(f"{_TAG}seq", x, flow_style=True))
# Between single quotes PyYAML writes U+0085 and its like so that they come back as spaces.
_Dumper.add_representer(
    str, lambda self, x: self.represent_scalar(f"{_TAG}str", x, style=None if x.isprintable() else '"')
)
for _name, _pattern in _WORDS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), None)


def value(text: str) -> Any:
    """The one value that a text stands for.

    Raises:
        BadInput: not YAML.
    """
    return _guarded("", lambda loader: loader.get_single_data(), text)


def entries(text: str, source: str, section: Callable[[str], bool]) -> list[Entry]:
    """The keys of a document, dotted. A mapping is entered where `section` says so of its key, else a value.

    Args:
        text: the document.
        source: how messages call it.
        section: whether a dotted key holds other keys.

    Raises:
        BadInput: not YAML, empty, not a mapping, or a key that is given twice.
    """

    def read(loader: _Loader) -> list[Entry]:
        root = loader.get_single_node()
        if root is None:
            raise BadInput(f"{source}: empty; expected at least one key, such as `name: study`")
        if not isinstance(root, yaml.MappingNode):
            raise BadInput(f"{source}: expected a mapping such as `name: study`, found something else")
        found: dict[str, Entry] = {}
        walk(loader, root, "", found)
        return list(found.values())

    def walk(loader: _Loader, node: yaml.MappingNode, prefix: str, found: dict[str, Entry]) -> None:
        for key_node, value_node in node.value:
            key = prefix + str(loader.construct_object(key_node, deep=True))
            line = key_node.start_mark.line + 1
            if isinstance(value_node, yaml.MappingNode) and section(key):
                walk(loader, value_node, f"{key}.", found)
            elif key in found:
                raise BadInput(f"{source}, line {line}: {key} is given twice, first in line {found[key].line}")
            else:
                found[key] = Entry(key, loader.construct_object(value_node, deep=True), line)

    return _guarded(source, read, text)


def write(nested: dict[str, Any]) -> str:
    """The text of nested mappings, one key to a line, lists in one line.

    Raises:
        BadInput: something in them is no number, text, list or mapping.
    """
    try:
        return yaml.dump(nested, Dumper=_Dumper, sort_keys=False, width=10**6, allow_unicode=True)
    except yaml.representer.RepresenterError as error:
        found = error.args[-1]
        raise BadInput(f"expected numbers, texts, lists and mappings, found {type(found).__name__} {found!r}") from None


def _guarded(source: str, read: Callable[[_Loader], Any], text: str) -> Any:
    """What `read` gives; its errors as one line."""
    try:
        loader = _Loader(text)
        try:
            return read(loader)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise BadInput(f"{source}{line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise BadInput(f"{source}, line {line}: not valid YAML: {error.reason}") from None
    except RecursionError:
        raise BadInput(f"{source}: nested too deeply") from None
    except (ValueError, KeyError) as error:  # an integer of thousands of digits, a wrong word under a tag
        raise BadInput(f"{source}: not valid YAML: {str(error).splitlines()[0]}") from None
