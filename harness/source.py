"""What a Python file says about its classes, read with `ast`: nothing is imported or run.

Reading a catalogue of dozens of TensorFlow files this way takes milliseconds, and a file that
cannot even be imported can still be listed. The price: defaults must be literals. A field whose
default is an expression is listed with its source text, and construction leaves it to the class.
"""

from __future__ import annotations

import ast
import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from .types import UsageError


@dataclass(frozen=True)
class Field:
    """A dataclass field as its source states it.

    Args:
        name: the field's name.
        annotation: source text of its type, `tuple[float, ...] | None`.
        default: the literal default; None where there is none.
        required: no default of any kind.
        literal: False where the default is not a literal; then only the class knows it.
        text: source text of the default.
    """

    name: str
    annotation: str
    default: Any = None
    required: bool = False
    literal: bool = True
    text: str = ""


@dataclass
class ClassSource:
    """A class as its file states it, with what it inherits from classes whose files were found."""

    name: str
    doc: str
    fields: dict[str, Field] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    methods: set[str] = field(default_factory=set)
    complete: bool = True  # False: a base class could not be followed

    def inherit(self, base: ClassSource) -> None:
        """Take over what `base` declares; what is declared later wins and keeps its place."""
        self.fields.update(base.fields)
        self.constants.update(base.constants)
        self.methods |= base.methods
        self.complete = self.complete and base.complete


# Bases that bring no fields and no methods of a contract.
PLAIN_BASES = {"object", "Protocol", "Generic", "ABC"}


def parse(path: Path) -> ast.Module:
    """Syntax tree of a file.

    Raises:
        UsageError: the file cannot be read, or is not Python.
    """
    try:
        changed = path.stat().st_mtime_ns
        return _parse(path, changed)
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror or error}") from None
    except SyntaxError as error:
        raise UsageError(f"'{path}' is not valid Python: line {error.lineno}: {error.msg}") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise UsageError(f"'{path}' is not a Python file: {error}") from None


@lru_cache(maxsize=512)
def _parse(path: Path, changed: int) -> ast.Module:
    """`changed` is the modification time: an edited file is read again."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def class_names(path: Path) -> list[str]:
    """Public classes at the top of a file, in order."""
    return [c.name for c in _classes(parse(path)) if not c.name.startswith("_")]


def read_class(path: Path, name: str) -> ClassSource | None:
    """A class of a file with its inherited fields, or None where the file has no such class."""
    return _read(path, name, ())


def module_summary(path: Path) -> str:
    """First line of a module's docstring, or an empty string."""
    return _first_line(ast.get_docstring(parse(path)) or "")


def find_module(name: str, extra: Sequence[Path] = ()) -> Path | None:
    """File of a module, found on `sys.path` and in `extra` without importing it or its packages."""
    for search in (list(sys.path), [str(folder) for folder in extra]):
        where: list[str] | None = search
        found = None
        parts = name.split(".")
        for depth in range(len(parts)):
            found = importlib.machinery.PathFinder.find_spec(".".join(parts[: depth + 1]), where)
            if found is None:
                break
            where = list(found.submodule_search_locations or [])
        if found is not None and found.origin is not None and found.origin.endswith(".py"):
            return Path(found.origin)
    return None


def _first_line(doc: str) -> str:
    return doc.strip().split("\n", 1)[0].strip()


def _classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    return (node for node in tree.body if isinstance(node, ast.ClassDef))


def _read(path: Path, name: str, seen: tuple[tuple[Path, str], ...]) -> ClassSource | None:
    """`seen` stops a circle of base classes."""
    if (path, name) in seen:
        return None
    tree = parse(path)
    node = next((c for c in _classes(tree) if c.name == name), None)
    if node is None:
        return None
    out = ClassSource(name, ast.get_docstring(node) or "")
    for base in reversed(node.bases):  # as in dataclasses: the first base wins, so it comes last
        inherited = _base(path, tree, base, (*seen, (path, name)))
        if inherited is not None:
            out.inherit(inherited)
        elif _last_name(base) not in PLAIN_BASES:
            out.complete = False
    for statement in node.body:
        _declare(out, statement)
    return out


def _base(
    path: Path, tree: ast.Module, base: ast.expr, seen: tuple[tuple[Path, str], ...]
) -> ClassSource | None:
    """The class that a base expression names: of the same file, or of an imported file."""
    if not isinstance(base, ast.Name):
        return None
    here = _read(path, base.id, seen)
    if here is not None:
        return here
    for node in tree.body:
        if not isinstance(node, ast.ImportFrom):
            continue
        for alias in node.names:
            if (alias.asname or alias.name) == base.id:
                file = _imported_file(path, node)
                return None if file is None else _read(file, alias.name, seen)
    return None


def _imported_file(path: Path, node: ast.ImportFrom) -> Path | None:
    """File of `from X import ...` as seen from `path`."""
    if node.level == 0:
        return find_module(node.module or "", [path.parent])
    folder = path.parents[node.level - 1]
    target = folder.joinpath(*(node.module or "__init__").split("."))
    for candidate in (target.with_suffix(".py"), target / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _declare(out: ClassSource, statement: ast.stmt) -> None:
    """Take over one statement of a class body."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        out.methods.add(statement.name)
        out.fields.pop(statement.name, None)  # a property or method hides an inherited field
    elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
        if isinstance(target, ast.Name):
            _assign(out, target.id, statement.value)
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        _annotate(out, statement.target.id, statement)


def _assign(out: ClassSource, name: str, value: ast.expr) -> None:
    """`name = value`: a constant, or a new default of an inherited field."""
    is_literal, literal = _literal(value)
    inherited = out.fields.get(name)
    if inherited is not None:
        out.fields[name] = Field(name, inherited.annotation, literal, False, is_literal, ast.unparse(value))
    if is_literal:
        out.constants[name] = literal


def _annotate(out: ClassSource, name: str, statement: ast.AnnAssign) -> None:
    """`name: type = value`: a field, or a constant where the type is `ClassVar`."""
    outer = statement.annotation
    if isinstance(outer, ast.Constant) and isinstance(outer.value, str):
        outer = ast.parse(outer.value, mode="eval").body
    kind = _last_name(outer.value if isinstance(outer, ast.Subscript) else outer)
    if kind == "KW_ONLY":
        return
    value = _default(statement.value)
    is_literal, literal = (True, None) if value is None else _literal(value)
    if kind == "ClassVar":
        out.fields.pop(name, None)
        if value is not None and is_literal:
            out.constants[name] = literal
        return
    if _not_an_argument(statement.value):
        out.fields.pop(name, None)
        return
    text = "" if value is None else ast.unparse(value)
    out.fields[name] = Field(name, ast.unparse(outer), literal, value is None, is_literal, text)
    out.constants.pop(name, None)
    if value is not None and is_literal:
        out.constants[name] = literal


def _default(value: ast.expr | None) -> ast.expr | None:
    """The default's expression, seen through `field(default=...)`."""
    if isinstance(value, ast.Call) and _last_name(value.func) == "field":
        for keyword in value.keywords:
            if keyword.arg in ("default", "default_factory"):
                return keyword.value
        return None
    return value


def _not_an_argument(value: ast.expr | None) -> bool:
    """`field(init=False)`: computed by the class, never given."""
    if not isinstance(value, ast.Call):
        return False
    init = next((k.value for k in value.keywords if k.arg == "init"), None)
    return isinstance(init, ast.Constant) and init.value is False


def _literal(node: ast.expr) -> tuple[bool, Any]:
    """Whether an expression is a literal, and its value."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False, None
    return True, value


def _last_name(node: ast.expr) -> str:
    """`dataclasses.field` and `field` are both `field`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript):
        return _last_name(node.value)
    return node.id if isinstance(node, ast.Name) else ""
