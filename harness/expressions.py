"""Expressions: `clip_by_global_norm(adam(beta_1=[0.8, 0.9]), max_norm=1.0)`, and back.

One grammar serves labels, the command line and study files: a name, then in brackets the wrapped
optimizers and the hyperparameters by keyword. A list stands for each of its values, and several
lists for their product; where the hyperparameter is itself a tuple, a list that fits it is a value.
Values are literals. In study files the same may be written as mappings: `{adam: {beta_1: [0.8, 0.9]}}`.
"""

from __future__ import annotations

import ast
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import catalog, values
from .catalog import Entry, Family
from .sentences import listing, plural, unknown
from .source import Field
from .types import Component, UsageError

# `my_file.py:Class` (the path may hold spaces, no brackets, commas or quotes), or `package.module:Class`.
REFERENCE = re.compile(r"""[^\s(),='"\[\]][^(),='"\[\]]*?\.py:[A-Za-z_]\w*|[A-Za-z_][\w.]*:[A-Za-z_]\w*""")
WORDS = {"true": True, "false": False, "none": None, "null": None, "nan": math.nan, "inf": math.inf}
QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")


def parse_optimizer(text: str, base: Path | None = None) -> list[Component]:
    """Optimizers of an expression: one, or the product of its lists.

    Raises:
        UsageError: bad syntax, unknown names, values of the wrong type, no wrapped optimizer.
    """
    return parse("optimizer", text, base)


def parse_workload(text: str, base: Path | None = None) -> list[Component]:
    """Workloads of an expression: one, or the product of its lists."""
    return parse("workload", text, base)


def from_mapping(family: Family, data: Mapping[str, Any], base: Path | None = None) -> list[Component]:
    """Components of `{name: {hyperparameter: value or list}}`, wrapped optimizers by field name."""
    found: list[Component] = []
    for name, arguments in data.items():
        if arguments is not None and not isinstance(arguments, Mapping):
            raise UsageError(f"'{name}' takes a mapping of hyperparameters, not {values.show(arguments)}")
        found += _assemble(catalog.find(family, str(name), base), [], dict(arguments or {}), base)
    return found


def absolute_references(text: str, base: Path) -> str:
    """The expression with every `file.py:Class` made absolute, so that it means the same elsewhere."""

    def absolute(reference: str) -> str:
        where, _, name = reference.rpartition(":")
        return (
            f"{Path(base, Path(where).expanduser()).resolve()}:{name}" if where.endswith(".py") else reference
        )

    return _replace_references(text, absolute)


def parse(family: Family, text: str, base: Path | None = None) -> list[Component]:
    """Optimizers or workloads of an expression."""
    references: list[str] = []

    def placeholder(reference: str) -> str:
        references.append(reference)
        return f"__reference_{len(references) - 1}__"

    source = _replace_references(text, placeholder).strip()
    try:
        node = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError):
        example = "adam(beta_1=0.8)" if family == "optimizer" else "quadratic(dimension=10)"
        raise UsageError(f"cannot read {text!r}: write {example}") from None
    return _Reader(text, references, base).component(family, node)


def _replace_references(text: str, replace: Any) -> str:
    """Apply `replace` to every plug-in reference outside quotes."""
    out, at = [], 0
    for quoted in [*QUOTED.finditer(text), None]:
        end = quoted.start() if quoted else len(text)
        out.append(REFERENCE.sub(lambda match: replace(match.group()), text[at:end]))
        if quoted:
            out.append(quoted.group())
            at = quoted.end()
    return "".join(out)


class _Reader:
    """Turns the syntax tree of one expression into components."""

    def __init__(self, text: str, references: Sequence[str], base: Path | None) -> None:
        self.text, self.references, self.base = text, references, base

    def component(self, family: Family, node: ast.expr) -> list[Component]:
        """A name or a call of one."""
        call = node if isinstance(node, ast.Call) else None
        name = self.name(node if call is None else call.func)
        entry = catalog.find(family, name, self.base)
        if call is None:
            return _assemble(entry, [], {}, self.base)
        inner = [self.inner(entry, argument) for argument in call.args]
        given: dict[str, Any] = {}
        for keyword in call.keywords:
            if keyword.arg is None:
                raise UsageError(f"cannot read {self.text!r}: '**' is not part of an expression")
            given[keyword.arg] = self.value(entry, keyword.arg, keyword.value)
        return _assemble(entry, inner, given, self.base)

    def name(self, node: ast.expr) -> str:
        if not isinstance(node, ast.Name):
            raise UsageError(f"cannot read {self.text!r}: '{ast.unparse(node)}' is not a name")
        match = re.fullmatch(r"__reference_(\d+)__", node.id)
        return self.references[int(match[1])] if match else node.id

    def inner(self, entry: Entry, node: ast.expr) -> list[Component]:
        """A positional argument: a wrapped optimizer, or a list of alternatives."""
        if not isinstance(node, ast.Name | ast.Call | ast.List):
            first = next((f.name for f in entry.fields), "name")
            raise UsageError(
                f"in {self.text!r}: give hyperparameters by name, as {first}={ast.unparse(node)}"
            )
        if not entry.inner:
            raise UsageError(f"in {self.text!r}: '{entry.name}' wraps no optimizer")
        nodes = node.elts if isinstance(node, ast.List) else [node]
        return [component for each in nodes for component in self.component("optimizer", each)]

    def value(self, entry: Entry, name: str, node: ast.expr) -> Any:
        """A keyword's value: components for a wrapped optimizer, else a literal; a bare word is text."""
        if name in entry.inner:
            return self.inner(entry, node)
        if isinstance(node, ast.Name):
            return WORDS.get(node.id, self.name(node))
        if isinstance(node, ast.List):
            return [self.value(entry, name, item) for item in node.elts]
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError):
            if ast.unparse(node) == "-inf":
                return -math.inf
            raise UsageError(f"in {self.text!r}: {name}={ast.unparse(node)} is not a plain value") from None


def _assemble(
    entry: Entry, positional: Sequence[list[Component]], given: Mapping[str, Any], base: Path | None
) -> list[Component]:
    """Every component that the arguments describe: wrapped optimizers vary slowest, then
    hyperparameters in the order in which they were written."""
    inner = _inner(entry, positional, given, base)
    fields = {f.name: f for f in entry.fields}
    choices: dict[str, list[Any]] = {}
    for name, value in given.items():
        if name in entry.inner:
            continue
        if name not in fields:
            raise UsageError(unknown(f"hyperparameter of '{entry.name}'", str(name), [*fields, *entry.inner]))
        choices[name] = _alternatives(entry, name, value, fields[name].annotation)
    missing = [f.name for f in entry.fields if f.required and f.name not in given]
    if missing:
        raise UsageError(f"'{entry.name}' needs {listing(missing, 'and')}, as {entry.name}({_usage(entry)})")
    return [
        make(entry, dict(zip(choices, picked, strict=True)), wrapped)
        for wrapped in itertools.product(*inner)
        for picked in itertools.product(*choices.values())
    ]


def _inner(
    entry: Entry, positional: Sequence[list[Component]], given: Mapping[str, Any], base: Path | None
) -> list[list[Component]]:
    """Alternatives for each wrapped optimizer, in the order of the fields."""
    if len(positional) > len(entry.inner):
        wraps = plural(len(entry.inner), "optimizer")
        raise UsageError(f"'{entry.name}' wraps {wraps}, not {len(positional)}")
    found: list[list[Component]] = []
    for index, name in enumerate(entry.inner):
        if index < len(positional):
            if name in given:
                raise UsageError(f"'{entry.name}' is given its '{name}' twice")
            found.append(positional[index])
        elif name in given:
            found.append(_wrapped(given[name], base))
        else:
            raise UsageError(f"'{entry.name}' wraps an optimizer: write {entry.name}({_usage(entry)})")
    return found


def _wrapped(value: Any, base: Path | None) -> list[Component]:
    """A wrapped optimizer as study files write it: an expression, a mapping, or a list of them."""
    if isinstance(value, Component):
        return [value]
    if isinstance(value, str):
        return parse_optimizer(value, base)
    if isinstance(value, Mapping):
        return from_mapping("optimizer", value, base)
    if isinstance(value, list):
        return [component for item in value for component in _wrapped(item, base)]
    raise UsageError(
        f"a wrapped optimizer is an expression such as adam(beta_1=0.8), not {values.show(value)}"
    )


def _alternatives(entry: Entry, name: str, value: Any, annotation: str) -> list[Any]:
    """The values that an argument stands for, each in the form that the annotation asks for."""
    spread = isinstance(value, list) and not values.fits(value, annotation)
    if spread and not value:
        raise UsageError(f"'{name}' of '{entry.name}' is an empty list: give at least one value")
    try:
        return [values.coerce(v, annotation) for v in (value if spread else [value])]
    except values.Mismatch as mismatch:
        raise UsageError(f"'{name}' of '{entry.name}' {mismatch}") from None


def _usage(entry: Entry) -> str:
    """How to write an entry's required arguments."""
    stand_ins = dict(zip(entry.inner, ("adam", "gradient_descent", "momentum"), strict=False))
    wrapped = [stand_ins.get(name, "adam") for name in entry.inner]
    return ", ".join([*wrapped, *(f"{f.name}=…" for f in entry.fields if f.required)])


def make(entry: Entry, given: Mapping[str, Any], inner: Sequence[Component] = ()) -> Component:
    """The component of an entry with these values; defaults fill the rest.

    A default that is no literal is left out of `params`: the class itself supplies it.
    """
    params = {
        f.name: given.get(f.name, f.default)
        for f in entry.fields
        if f.name in given or (f.literal and not f.required)
    }
    for f in entry.fields:
        if f.name in params and f.name not in given and values.fits(f.default, f.annotation):
            params[f.name] = values.coerce(f.default, f.annotation)  # `1` for a float is 1.0 here too
    tuned = () if entry.kind == "workload" else _tuned(entry, params)
    name = entry.name
    return Component(name, params, _label(entry, params, inner), tuple(inner), tuned, entry.source)


def _tuned(entry: Entry, params: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f.name for f in entry.fields if values.is_traced(f.annotation) and f.name in params)


def _label(entry: Entry, params: Mapping[str, Any], inner: Sequence[Component]) -> str:
    """The expression that gives this component, with only what differs from the defaults."""
    arguments = [component.label for component in inner]
    for f in entry.fields:
        if f.name in params and (f.required or not f.literal or _differs(params[f.name], f)):
            arguments.append(f"{f.name}={values.show(params[f.name])}")
    return f"{entry.name}({', '.join(arguments)})" if arguments else entry.name


def _differs(value: Any, field: Field) -> bool:
    default = field.default
    if values.fits(default, field.annotation):
        default = values.coerce(default, field.annotation)
    return value != default or type(value) is not type(default)
