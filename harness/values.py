"""Hyperparameter values: checked against their annotation, brought to one form, written as text.

Two ways to write one value must give one run: `1` for a float becomes `1.0`, a list for a tuple
becomes a tuple, `1e3` for an integer becomes `1000`. Annotations are source text (see `source.py`);
one that is not understood accepts any literal.
"""

from __future__ import annotations

import ast
import math
from functools import lru_cache
from typing import Any

NAMES = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "str": "text",
    "None": "none",
}


class Mismatch(ValueError):
    """The value does not fit the annotation."""


def coerce(value: Any, annotation: str) -> Any:
    """`value` in the form that `annotation` asks for.

    Raises:
        Mismatch: it does not fit; the message says what is expected and what was given.
    """
    bad = not_finite(value)
    if bad is not None:
        raise Mismatch(f"must be finite, not {bad}")
    try:
        return _fit(value, _tree(annotation))
    except Mismatch:
        raise Mismatch(f"must be {describe(annotation)}, not {show(value)}") from None


def fits(value: Any, annotation: str) -> bool:
    """Whether `coerce` would accept it."""
    try:
        coerce(value, annotation)
    except Mismatch:
        return False
    return True


def is_traced(annotation: str) -> bool:
    """Whether a field is a float hyperparameter: an input of the compiled program, not a part of it."""
    return annotation == "float"


def allows_none(annotation: str) -> bool:
    """Whether None is among the types of an annotation."""
    return any(_name(part) in ("None", "Any") for part in _alternatives(_tree(annotation)))


def show(value: Any) -> str:
    """A value as it is written in a label; reading it back gives the value."""
    if isinstance(value, list):
        return f"[{', '.join(show(v) for v in value)}]"
    return repr(value)


def describe(annotation: str) -> str:
    """An annotation in words: `a whole number or none`."""
    return " or ".join(_describe(part) for part in _alternatives(_tree(annotation)))


def not_finite(value: Any) -> float | None:
    """The first NaN or infinity in a value, or None."""
    if isinstance(value, float) and not math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return next((bad for bad in map(not_finite, value) if bad is not None), None)
    return None


@lru_cache(maxsize=1024)
def _tree(annotation: str) -> ast.expr:
    return ast.parse(annotation, mode="eval").body


def _alternatives(node: ast.expr) -> list[ast.expr]:
    """The members of `A | B`, `Optional[A]` and `Union[A, B]`; of anything else, itself."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_alternatives(node.left), *_alternatives(node.right)]
    if isinstance(node, ast.Subscript) and _name(node.value) == "Union":
        return [part for item in _items(node) for part in _alternatives(item)]
    if isinstance(node, ast.Subscript) and _name(node.value) == "Optional":
        return [*_alternatives(node.slice), ast.Constant(None)]
    return [node]


def _items(node: ast.Subscript) -> list[ast.expr]:
    return list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and node.value is None:
        return "None"
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _fit(value: Any, node: ast.expr) -> Any:
    """The value in the form of the first alternative that accepts it, an exact type before a near one."""
    alternatives = _alternatives(node)
    exact = [part for part in alternatives if _name(part) == type(value).__name__]
    for part in exact + alternatives:
        try:
            return _fit_one(value, part)
        except Mismatch:
            continue
    raise Mismatch


def _fit_one(value: Any, node: ast.expr) -> Any:
    if isinstance(node, ast.Subscript):
        head = _name(node.value)
        if head in ("tuple", "Tuple", "Sequence"):
            return _fit_tuple(value, _items(node))
        if head == "Literal":
            return _fit_literal(value, node)
        return value
    name = _name(node)
    if name == "float":
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif name == "int":
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
    elif name in ("bool", "str"):
        if type(value).__name__ == name:
            return value
    elif name == "None":
        if value is None:
            return None
    elif name == "tuple":
        return _fit_tuple(value, [ast.Name("Any"), ast.Constant(...)])
    else:
        return tuple(value) if isinstance(value, list) else value
    raise Mismatch


def _fit_tuple(value: Any, items: list[ast.expr]) -> tuple[Any, ...]:
    """`tuple[T, ...]` or `tuple[T1, T2]`."""
    if not isinstance(value, list | tuple):
        raise Mismatch
    if len(items) == 2 and isinstance(items[1], ast.Constant) and items[1].value is ...:
        return tuple(_fit(v, items[0]) for v in value)
    if len(items) != len(value):
        raise Mismatch
    return tuple(_fit(v, item) for v, item in zip(value, items, strict=True))


def _fit_literal(value: Any, node: ast.Subscript) -> Any:
    for item in _items(node):
        if isinstance(item, ast.Constant) and item.value == value and type(item.value) is type(value):
            return value
    raise Mismatch


def _describe(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript):
        head, items = _name(node.value), _items(node)
        if head == "Literal":
            return " or ".join(ast.unparse(item) for item in items)
        if head in ("tuple", "Tuple", "Sequence"):
            if len(items) == 2 and isinstance(items[1], ast.Constant) and items[1].value is ...:
                return f"a tuple, each item {describe(ast.unparse(items[0]))}"
            return f"a tuple of {len(items)}"
    return NAMES.get(_name(node), ast.unparse(node))
