"""Shapes of the parameters that an update is measured on."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..sentences import listing, near_matches
from ..types import UsageError

Shape = tuple[int, ...]
SPREAD = 1000.0  # largest to smallest tensor of a `network`


@dataclass(frozen=True)
class Layout:
    """Parameters of one measurement: `name` says where the shapes come from."""

    name: str
    shapes: tuple[Shape, ...]

    @property
    def parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def tensors(self) -> int:
        return len(self.shapes)


def uniform(parameters: int, tensors: int) -> Layout:
    """`tensors` vectors of one size, together about `parameters`."""
    return Layout("uniform", ((max(parameters // tensors, 1),),) * tensors)


def network(parameters: int, tensors: int) -> Layout:
    """Few large vectors and many small ones: sizes fall by a constant factor, 1,000 from first to last."""
    ratio = SPREAD ** (-1 / max(tensors - 1, 1))
    weights = [ratio**i for i in range(tensors)]
    sizes = [max(int(parameters * weight / sum(weights)), 1) for weight in weights]
    return Layout("network", tuple((size,) for size in sizes))


def from_file(path: Path) -> Layout:
    """Shapes of a JSON or YAML file: a list of lists of sizes, as `[[784, 32], [32]]`.

    Raises:
        UsageError: it cannot be read, or is no list of shapes.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the shapes in '{path}': {error.strerror}") from error
    try:
        data = json.loads(text) if path.suffix == ".json" else _yaml(text)
    except ValueError as error:
        raise UsageError(f"'{path}' is neither JSON nor YAML: {str(error).splitlines()[0]}") from error
    if isinstance(data, dict):
        data = list(data.values())
    if not isinstance(data, list) or not data or not all(_is_shape(shape) for shape in data):
        raise UsageError(f"'{path}' must hold a list of shapes, as [[784, 32], [32]]")
    return Layout(path.name, tuple(tuple(shape) for shape in data))


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in value
    )


def of_model(name: str) -> Layout:
    """Shapes of a model's trainable variables: `resnet50` is `keras.applications.ResNet50`, without weights.

    Imports Keras.

    Raises:
        UsageError: Keras has no such application.
    """
    import keras

    known = {
        each.lower(): each
        for each in dir(keras.applications)
        if each[:1].isupper() and callable(getattr(keras.applications, each))
    }
    wanted = name.lower().replace("_", "").replace("-", "")
    if wanted not in known:
        near = near_matches(wanted, known)
        hint = f"did you mean {listing(near)}?" if near else f"known are {listing(sorted(known), 'and')}"
        raise UsageError(f"no shapes called '{name}': neither a file nor a model of Keras; {hint}")
    model = getattr(keras.applications, known[wanted])(weights=None)
    return Layout(wanted, tuple(tuple(v.shape) for v in model.trainable_variables))
