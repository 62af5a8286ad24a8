"""The catalogue: the folders `optimizers/`, `optimizers/transforms/` and `workloads/`, and plug-ins.

A file's name is its catalogue name, and the class of that name in CamelCase is the entry; files
that begin with `_` are not entries. Files are read, not imported (see `source.py`), so that listing and
validation need no TensorFlow. Plug-ins are given as `file.py:Class`, as `package.module:Class`, or
by the name of an entry point of the groups `optgrid.optimizers` and `optgrid.workloads`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

from . import importing, source
from .sentences import listing, unknown
from .source import Field
from .types import Component, UsageError

Kind = Literal["optimizer", "transform", "workload"]
Family = Literal["optimizer", "workload"]

ROOT = Path(__file__).resolve().parents[1]  # the three packages lie side by side, installed or not
FOLDERS: dict[Kind, tuple[str, ...]] = {
    "optimizer": ("optimizers",),
    "transform": ("optimizers", "transforms"),
    "workload": ("workloads",),
}
FAMILIES: tuple[Family, ...] = ("optimizer", "workload")
METHODS: dict[Family, tuple[str, ...]] = {
    "optimizer": ("init", "update", "eval_params"),
    "workload": ("init", "batch", "loss", "objective", "monitor", "evaluate"),
}


@dataclass(frozen=True)
class Entry:
    """An optimizer, transform or workload, as its file states it.

    Args:
        kind: `optimizer`, `transform` (an optimizer that wraps others) or `workload`.
        name: what it is called: `adam`, `my_file.py:Mine`, `package.module:Mine`.
        class_name, path, module: where it is; `module` is empty for `file.py:Class`.
        summary, doc: first line and whole of the class's docstring.
        fields: hyperparameters in order, wrapped optimizers not among them.
        constants: literal class constants and literal defaults (`learning_rates`, `target`, `steps`, …).
        inner: names of the fields that hold wrapped optimizers.
        builtin: part of this project, so that no hash of its code belongs to a cell.
    """

    kind: Kind
    name: str
    class_name: str
    path: Path
    module: str
    summary: str
    doc: str
    fields: tuple[Field, ...]
    constants: Mapping[str, Any]
    inner: tuple[str, ...] = ()
    builtin: bool = True

    def field(self, name: str) -> Field | None:
        """The hyperparameter of that name, or None."""
        return next((f for f in self.fields if f.name == name), None)

    @property
    def source(self) -> str:
        """Absolute path of a `file.py:Class` plug-in; empty for what is found by name."""
        return "" if self.module else str(self.path)


def entries(kind: Kind) -> dict[str, Entry]:
    """Everything of one kind that is known by name, the project's own first, then entry points."""
    found = {name: _builtin(kind, path) for name, path in _files(kind).items()}
    family: Family = "workload" if kind == "workload" else "optimizer"
    for name in _plugin_names(family):
        if name not in found:
            entry = find(family, name)
            if entry.kind == kind:
                found[name] = entry
    return found


def names(family: Family) -> list[str]:
    """Names that `find` knows; transforms count as optimizers. Reads no file."""
    kinds: tuple[Kind, ...] = ("workload",) if family == "workload" else ("optimizer", "transform")
    return sorted({*(n for kind in kinds for n in _files(kind)), *_plugin_names(family)})


def find(kind: Kind, name: str, base: Path | None = None) -> Entry:
    """The entry of a name; `optimizer` finds transforms too.

    Args:
        kind: what it must be.
        name: catalogue name, entry point, `file.py:Class` or `package.module:Class`.
        base: folder that a relative `file.py` starts from; the current folder by default.
    Raises:
        UsageError: no such name (with the near ones), file, module or class, or not of that kind.
    """
    if ":" in name:
        return _plugin(kind, name, name, base or Path.cwd())
    family: Family = "workload" if kind == "workload" else "optimizer"
    kinds: tuple[Kind, ...] = (kind,) if kind != "optimizer" else ("optimizer", "transform")
    for each in kinds:
        path = _files(each).get(name)
        if path is not None:
            return _builtin(each, path)
    target = _plugin_names(family).get(name)
    if target is not None:
        return _plugin(kind, name, target, base or Path.cwd())
    other: Family = "optimizer" if family == "workload" else "workload"
    if name in names(other):
        raise UsageError(f"'{name}' is {article(other)}, not {article(family)}")
    if name.endswith(".py") or "/" in name:
        raise UsageError(f"'{name}' names no class: write {name}:ClassName")
    raise UsageError(unknown(kind, name, names(family)))


def find_any(name: str, base: Path | None = None) -> Entry:
    """The entry of a name, optimizer, transform or workload, whichever it is."""
    if ":" not in name and not name.endswith(".py"):
        for family in FAMILIES:
            if name in names(family):
                return find(family, name, base)
        known = [each for family in FAMILIES for each in names(family)]
        raise UsageError(unknown("optimizer or workload", name, known))
    problems: list[str] = []
    for family in FAMILIES:
        try:
            return find(family, name, base)
        except UsageError as problem:
            problems.append(str(problem))
    raise UsageError("; ".join(dict.fromkeys(problems)))


def entry_of(kind: Kind, component: Component) -> Entry:
    """The entry that a component was parsed from."""
    if component.source:
        class_name = component.name.rpartition(":")[2]
        return _plugin(kind, component.name, f"{component.source}:{class_name}", Path.cwd())
    return find(kind, component.name)


def load(entry: Entry) -> type:
    """Import an entry's class. This is where TensorFlow is loaded.

    Raises:
        UsageError: its file cannot be imported; the last line of the error is in the sentence.
    """
    try:
        module = _module(entry)
    except (Exception, SystemExit) as error:
        why = f"{type(error).__name__}: {error}"
        raise UsageError(f"cannot import '{entry.name}' from '{entry.path}': {why}") from error
    found = getattr(module, entry.class_name, None)
    if not isinstance(found, type):
        raise UsageError(f"'{entry.path}' has no class '{entry.class_name}' once it is imported")
    return found


def code_hash(entry: Entry) -> str:
    """SHA-256 of a plug-in's file, empty for the project's own. Files that it imports do not count."""
    return "" if entry.builtin else hashlib.sha256(entry.path.read_bytes()).hexdigest()


def build_optimizer(component: Component, traced: Sequence[Any] | None = None) -> Any:
    """Make the optimizer that a component describes, wrapped ones first.

    Args:
        component: an optimizer or transform.
        traced: values for the float hyperparameters, floats or scalar tensors, in the order of
            `component.traced()`; the component's own values by default.
    Raises:
        UsageError: the class cannot be imported, or does not accept its hyperparameters.
    """
    left = list(component.traced() if traced is None else traced)
    if len(left) != (expected := len(component.traced())):
        raise UsageError(f"'{component.label}' takes {expected} traced values, not {len(left)}")
    return _build_optimizer(component, iter(left))


def build_workload(component: Component, dtype: str | None = None) -> Any:
    """Make the workload that a component describes, computing in `dtype` (its own by default)."""
    entry = entry_of("workload", component)
    arguments = dict(component.params)
    if dtype is not None and entry.field("dtype") is not None:
        arguments["dtype"] = dtype
    return _construct(entry, component.label, arguments)


def _build_optimizer(component: Component, traced: Iterator[Any]) -> Any:
    entry = entry_of("optimizer", component)
    arguments = dict(component.params)
    arguments.update({name: next(traced) for name in component.tuned})
    for name, inner in zip(entry.inner, component.inner, strict=True):
        arguments[name] = _build_optimizer(inner, traced)
    return _construct(entry, component.label, arguments)


def _construct(entry: Entry, label: str, arguments: Mapping[str, Any]) -> Any:
    # Lists come back from JSON where tuples went in; a frozen dataclass must be hashable.
    fixed = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}
    made = load(entry)
    try:
        return made(**fixed)
    except (Exception, SystemExit) as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise UsageError(f"cannot make '{label}': {kind}{error}") from error


def _module(entry: Entry) -> Any:
    """Import the module that holds an entry's class."""
    if entry.builtin:
        return importing.by_name(entry.module)
    if entry.module:
        depth = entry.module.count(".") + (2 if entry.path.name == "__init__.py" else 1)
        return importing.by_name(entry.module, entry.path.parents[depth - 1])
    return importing.by_path(entry.path)


@cache  # the project's own files do not change while it runs
def _files(kind: Kind) -> dict[str, Path]:
    """Catalogue files by name, in alphabetical order."""
    files = sorted(ROOT.joinpath(*FOLDERS[kind]).glob("*.py"))
    return {path.stem: path for path in files if not path.name.startswith("_")}


@cache
def _builtin(kind: Kind, path: Path) -> Entry:
    """The entry of a catalogue file: the class that bears the file's name in CamelCase."""
    wanted = path.stem.replace("_", "")
    candidates = [name for name in source.class_names(path) if name.lower() == wanted]
    if not candidates:
        raise UsageError(f"'{path}' has no class '{path.stem.title().replace('_', '')}' to be its entry")
    module = ".".join((*FOLDERS[kind], path.stem))
    return _entry(kind, path.stem, path, module, candidates[0], builtin=True)


def _plugin(kind: Kind, name: str, target: str, base: Path) -> Entry:
    """The entry of `file.py:Class` or `package.module:Class`; `name` is what it goes by."""
    where, _, class_name = target.rpartition(":")
    if where.endswith(".py"):
        path = Path(base, Path(where).expanduser()).resolve()
        if not path.is_file():
            raise UsageError(f"there is no file '{where}' (looked for '{path}')")
        shown = f"{path.name}:{class_name}" if name == target else name
        return _entry(kind, shown, path, "", class_name, builtin=False)
    path = source.find_module(where, [base])
    if path is None:
        raise UsageError(f"there is no module '{where}' on the Python path or in '{base}'")
    return _entry(kind, name, path, where, class_name, builtin=False)


def _entry(kind: Kind, name: str, path: Path, module: str, class_name: str, *, builtin: bool) -> Entry:
    found = source.read_class(path, class_name)
    if found is None:
        raise UsageError(f"in '{path}': {unknown('class', class_name, source.class_names(path))}")
    inner = tuple(f.name for f in found.fields.values() if _is_optimizer(f.annotation))
    if kind in ("optimizer", "transform"):
        kind = "transform" if inner else "optimizer"
    family: Family = "workload" if kind == "workload" else "optimizer"
    missing = [m for m in METHODS[family] if m not in found.methods]
    if missing and found.complete:
        raise UsageError(
            f"class '{class_name}' in '{path}' is not {article(family)}: "
            f"it has no {'method' if len(missing) == 1 else 'methods'} {listing(missing, 'and')}"
        )
    doc = found.doc.strip()
    summary = doc.split("\n", 1)[0].strip() or source.module_summary(path)
    fields = tuple(f for f in found.fields.values() if f.name not in inner)
    return Entry(
        kind, name, class_name, path, module, summary, doc, fields, dict(found.constants), inner, builtin
    )


def _is_optimizer(annotation: str) -> bool:
    return annotation.strip("'\"").rpartition(".")[2] == "Optimizer"


def article(family: Family) -> str:
    """`an optimizer`, `a workload`."""
    return "an optimizer" if family == "optimizer" else "a workload"


@cache
def _plugin_names(family: Family) -> dict[str, str]:
    """Entry points of installed packages: name → `package.module:Class`."""
    return {point.name: point.value for point in entry_points(group=f"optgrid.{family}s")}
