"""Study files: YAML whose every value remembers its line, so that an error can name it.

Numbers are read as YAML 1.2 reads them: `1e-4` is a number (PyYAML alone makes it text), `1:10:3`
is text (PyYAML alone makes it 3603), and only `true` and `false` are booleans.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

from .sentences import unknown
from .types import UsageError

BUILTIN = Path(__file__).resolve().parent / "studies"


@dataclass(frozen=True)
class StudyFile:
    """A study file as read: its values, and where each of them stands.

    Args:
        path: the file.
        data: its values.
        node: its YAML tree, which knows the lines.
    """

    path: Path
    data: Mapping[str, Any]
    node: yaml.Node

    def line(self, loc: tuple[str | int, ...]) -> int:
        """Line, counted from 1, of a place such as `("optimizers", 2)`; of the nearest known one above."""
        node, line = self.node, self.node.start_mark.line + 1
        for step in loc:
            found = _child(node, step)
            if found is None:
                break
            line, node = found
        return line

    def where(self, loc: tuple[str | int, ...]) -> str:
        """`study.yaml, line 7: `, to stand before a sentence."""
        return f"{_shown(self.path)}, line {self.line(loc)}: "


def builtin_studies() -> dict[str, Path]:
    """The studies that come with the project, by name."""
    return {path.stem: path for path in sorted(BUILTIN.glob("*.yaml"))}


def find_study(name: str) -> Path:
    """The file of a built-in study's name, or of a path.

    Raises:
        UsageError: neither.
    """
    known = builtin_studies()
    if name in known:
        return known[name]
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.suffix in (".yaml", ".yml") or path.is_dir() or len(path.parts) > 1:
        raise UsageError(f"there is no study file '{name}'")
    raise UsageError(f"{unknown('study', name, known)}; a study of your own is given as file.yaml")


def read_study(path: Path) -> StudyFile:
    """Read a study file.

    Raises:
        UsageError: it cannot be read, is not YAML, is no mapping, or has a key twice.
    """
    shown = _shown(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read '{shown}': {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"'{shown}' is not a text file in UTF-8") from None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise UsageError(
                f"{shown}: a study file holds 'key: value' lines, such as 'workloads: [rosenbrock]'"
            )
        _check_keys(node, shown, ())
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"{shown}{line}: this is not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{shown}: this is not valid YAML: {str(error).splitlines()[0]}") from None
    return StudyFile(path, data, node)


def _shown(path: Path) -> str:
    """A path as short as it can be said: from the current folder where it lies below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _child(node: yaml.Node, step: str | int) -> tuple[int, yaml.Node] | None:
    """Line and node of a key's value, of a list's item, or of a mapping's n-th value."""
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        child = node.value[step]
        return child.start_mark.line + 1, child
    if isinstance(node, yaml.MappingNode):
        for index, (key, value) in enumerate(node.value):
            if key.value == str(step) or index == step:
                return key.start_mark.line + 1, value
    return None


def _check_keys(node: yaml.Node, shown: str, above: tuple[int, ...]) -> None:
    """No key twice in one mapping (PyYAML keeps the last silently), and nothing inside itself."""
    if id(node) in above:
        raise UsageError(f"{shown}, line {node.start_mark.line + 1}: this refers to itself")
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(item, shown, (*above, id(node)))
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode):
            if key.value in lines:
                first = lines[key.value]
                raise UsageError(f"{shown}, line {line}: '{key.value}' stands here and in line {first}")
            lines[key.value] = line
        _check_keys(value, shown, (*above, id(node)))


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


def _number(loader: yaml.SafeLoader, node: yaml.Node) -> int | float:
    text = str(node.value).replace("_", "")
    if text.lstrip("+-").lower() in (".inf", ".nan"):
        return float(text.replace(".", ""))
    return int(text) if text.lstrip("+-").isdecimal() else float(text)


_TAGS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "merge": (r"<<", "<"),
}
for _tag, (_pattern, _first) in _TAGS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:float", _number)
