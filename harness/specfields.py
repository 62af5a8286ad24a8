"""The fields of a study, each brought to one form while it is read.

Expressions become `Component`s, seeds a tuple, learning rates tuples. What is wrong is one sentence
(`SpecError`) that knows where in the study it stands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)

from . import catalog, expressions, rates
from .catalog import Family
from .sentences import listing, unknown
from .types import Component, UsageError

Location = tuple[str | int, ...]
MOST_SEEDS = 1_000_000

# Folder that relative `file.py:Class` references start from, while a study is being read.
_base: ContextVar[Path | None] = ContextVar("base", default=None)


class SpecError(UsageError):
    """A study that cannot be run as written; `location` says where, `sentence` what."""

    def __init__(self, location: Location, sentence: str) -> None:
        super().__init__(sentence)
        self.location, self.sentence = location, sentence

    def below(self, *above: str | int) -> SpecError:
        """The same, seen from further up."""
        return SpecError((*above, *self.location), self.sentence)


@contextmanager
def references_from(base: Path | None) -> Iterator[None]:
    """While the block runs, relative plug-in files are looked up in `base`."""
    token = _base.set(base)
    try:
        yield
    finally:
        _base.reset(token)


def base_folder() -> Path | None:
    """Where relative plug-in files are looked up; None is the current folder."""
    return _base.get()


def from_validation(error: ValidationError, model: type[BaseModel]) -> SpecError:
    """The first thing that pydantic found wrong, as one sentence; a misspelt key before the one it is not."""
    found = error.errors(include_url=False)
    unlike = [e for e in found if e["type"] == "extra_forbidden"]
    first = unlike[0] if unlike and found[0]["type"] == "missing" else found[0]
    location: Location = first["loc"]
    key, given, kind = ".".join(map(str, location)), first["input"], first["type"]
    if kind == "extra_forbidden":
        return SpecError(location, unknown("key", str(location[-1]), model.model_fields))
    if key == "name":
        key = model.__name__.lower()  # `strategy: mirored` is short for its name
    if kind == "missing":
        return SpecError(location[:-1], f"'{key}' is missing")
    if kind == "invalid_key":
        return SpecError(location[:-1], f"a key must be text, not {given!r}")
    if kind == "literal_error":
        options = re.findall(r"'([^']*)'", first.get("ctx", {}).get("expected", ""))
        if isinstance(given, str):
            return SpecError(location, unknown(key, given, options))
        return SpecError(location, f"'{key}' must be {listing(options)}, not {given!r}")
    expected = {
        "bool_type": "true or false",
        "string_type": "text",
        "tuple_type": "a list",
        "model_type": "a mapping",
    }
    return SpecError(location, f"'{key}' must be {expected.get(kind, first['msg'])}, not {given!r}")


def _whole(name: str, value: Any, least: int) -> int:
    """A whole number of at least `least`; `1e3` is one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise SpecError((name,), f"'{name}' must be a whole number, not {value!r}")
    if value < least:
        raise SpecError((name,), f"'{name}' must be at least {least}, not {value}")
    return value


def _count(value: Any, info: ValidationInfo) -> int | None:
    return None if value is None else _whole(info.field_name or "", value, 1)


def _points(value: Any, info: ValidationInfo) -> int:
    return _whole(info.field_name or "", value, 2)


def _name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\w[\w.+-]{0,99}", value):
        raise SpecError(
            ("name",), f"'name' must be letters, digits and . _ + - (it names a folder), not {value!r}"
        )
    return value


def _components(value: Any, info: ValidationInfo) -> tuple[Component, ...]:
    """Every component of a list of expressions and mappings."""
    name = info.field_name or ""
    family: Family = "workload" if name == "workloads" else "optimizer"
    if isinstance(value, Mapping):
        value = [{key: each} for key, each in value.items()]
    elif isinstance(value, str | Component):
        value = [value]
    if not isinstance(value, Sequence):
        raise SpecError((name,), f"'{name}' must be a list of {family}s, not {value!r}")
    if not value:
        raise SpecError((name,), f"'{name}' is empty: name at least one {family}")
    found: dict[str, Component] = {}
    for index, item in enumerate(value):
        for component in _item(family, (name, index), item):
            same = found.setdefault(component.label, component)
            if same is component:
                continue
            if same.source != component.source:
                raise SpecError((name, index), f"two different files both give '{component.label}'")
            raise SpecError((name, index), f"the {family} '{component.label}' is given twice")
    return tuple(found.values())


def _item(family: Family, location: Location, item: Any) -> list[Component]:
    try:
        if isinstance(item, Component):
            return [item]
        if isinstance(item, str):
            return expressions.parse(family, item, _base.get())
        if isinstance(item, Mapping):
            return expressions.from_mapping(family, item, _base.get())
    except UsageError as error:
        raise SpecError(location, str(error)) from None
    what = catalog.article(family)
    raise SpecError(location, f"{what} is a name or name(hyperparameter=value), not {item!r}")


def _learning_rates(value: Any) -> dict[str, tuple[float, ...]] | tuple[float, ...] | None:
    """For all optimizers, per optimizer, or (None) each optimizer's own range."""
    where: Location = ("learning_rates",)
    if value is None:
        return None
    try:
        if not isinstance(value, Mapping) or set(value) & set(rates.RANGE_KEYS):
            return rates.parse_rates(value)
    except ValueError as error:
        raise SpecError(where, str(error)) from None
    if not value:
        raise SpecError(where, "'learning_rates' is empty: leave it out for each optimizer's own range")
    found: dict[str, tuple[float, ...]] = {}
    for key, each in value.items():
        try:
            found[str(key)] = rates.parse_rates(each)
        except ValueError as error:
            raise SpecError((*where, key), f"for '{key}': {error}") from None
    return found


def _seeds(value: Any) -> tuple[int, ...]:
    """How many (`10`: 0 to 9), or which (`[0, 7]`, `"0,7"`)."""
    where: Location = ("seeds",)
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",") if part.strip()]
        if not parts or not all(re.fullmatch(r"[-+]?\d+", part) for part in parts):
            raise SpecError(where, f"'seeds' must be a count or a list as 0,1,2, not '{value}'")
        value = [int(part) for part in parts] if "," in value else int(parts[0])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MOST_SEEDS:
            raise SpecError(where, f"'seeds' must be at least 1 and at most {MOST_SEEDS:,}, not {value}")
        return tuple(range(value))
    if not isinstance(value, list | tuple):
        raise SpecError(where, f"'seeds' must be a count or a list of whole numbers, not {value!r}")
    if not value:
        raise SpecError(where, "'seeds' is empty: give at least one")
    seen: set[int] = set()
    for index, seed in enumerate(value):
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
            why = f"a seed must be a whole number from 0 to {2**31 - 1}, not {seed!r}"
            raise SpecError((*where, index), why)
        if seed in seen:
            raise SpecError((*where, index), f"the seed {seed} is given twice")
        seen.add(seed)
    return tuple(value)


def _budgets(value: Any, info: ValidationInfo) -> dict[str, int] | int | None:
    """Steps for all workloads, or per workload."""
    if isinstance(value, Mapping):
        name = info.field_name or ""
        return {str(key): _prefixed(name, key, each) for key, each in value.items()}
    return _count(value, info)


def _prefixed(name: str, key: Any, value: Any) -> int:
    try:
        return _whole(name, value, 1)
    except SpecError as error:
        raise SpecError((name, key), f"{error.sentence} (for '{key}')") from None


def _targets(value: Any) -> dict[str, float] | float | None:
    """A target for all workloads, or per workload."""
    if isinstance(value, Mapping):
        return {str(key): _target(("target", key), each) for key, each in value.items()}
    return None if value is None else _target(("target",), value)


def _target(location: Location, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecError(location, f"'target' must be a number, not {value!r}")
    if not math.isfinite(value):
        raise SpecError(location, f"'target' must be finite, not {value}")
    return float(value)


def _plain(value: Any) -> Any:
    """As JSON has it: lists for tuples."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _labels(components: tuple[Component, ...]) -> list[str]:
    return [component.label for component in components]


_POSITIVE: dict[str, Any] = {"type": "number", "exclusiveMinimum": 0}
_STEPS: dict[str, Any] = {"type": "integer", "minimum": 1}
_NULL: dict[str, Any] = {"type": "null"}
_ONE_SET_OF_RATES: list[Any] = [
    {"type": "array", "items": _POSITIVE, "minItems": 1},
    {"type": "string", "description": "low:high:points, as 1e-4:1e0:9, or a list with commas"},
    {
        "type": "object",
        "properties": {
            "low": _POSITIVE,
            "high": _POSITIVE,
            "points": _STEPS,
            "points_per_decade": _POSITIVE,
        },
        "required": ["low", "high"],
        "additionalProperties": False,
    },
]
_PER_OPTIMIZER = {"type": "object", "additionalProperties": {"anyOf": _ONE_SET_OF_RATES}}
_ITEM: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "object"}]}


def _schema(*alternatives: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": list(alternatives)})


_EXPRESSIONS = _schema(
    {"type": "array", "items": _ITEM, "minItems": 1}, {"type": "object"}, {"type": "string"}
)

Name = Annotated[str, PlainValidator(_name), WithJsonSchema({"type": "string", "pattern": r"^\w[\w.+-]*$"})]
Count = Annotated[int | None, PlainValidator(_count), _schema(_STEPS, _NULL)]
Points = Annotated[int, PlainValidator(_points), WithJsonSchema({"type": "integer", "minimum": 2})]
Components = Annotated[
    tuple[Component, ...], PlainValidator(_components), PlainSerializer(_labels), _EXPRESSIONS
]
LearningRates = Annotated[
    dict[str, tuple[float, ...]] | tuple[float, ...] | None,
    PlainValidator(_learning_rates),
    PlainSerializer(_plain),
    _schema(*_ONE_SET_OF_RATES, _PER_OPTIMIZER, _NULL),
]
Seeds = Annotated[
    tuple[int, ...],
    PlainValidator(_seeds),
    PlainSerializer(_plain),
    _schema(_STEPS, {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}),
]
Budgets = Annotated[
    dict[str, int] | int | None,
    PlainValidator(_budgets),
    PlainSerializer(_plain),
    _schema(_STEPS, {"type": "object", "additionalProperties": _STEPS}, _NULL),
]
Targets = Annotated[
    dict[str, float] | float | None,
    PlainValidator(_targets),
    PlainSerializer(_plain),
    _schema({"type": "number"}, {"type": "object", "additionalProperties": {"type": "number"}}, _NULL),
]
