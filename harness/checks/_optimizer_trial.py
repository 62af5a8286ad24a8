"""What the optimizer checks share: walking hyperparameters, test data, comparing structures."""

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any

import tensorflow as tf

STEPS = 4  # updates in the checks that compare two ways to compute them
RATE = 0.05
LANES = 5

# Two right ways to compute an update differ by rounding: allow 16 units in the last place per step,
# relative to the largest entry of a tensor. bfloat16 is rounded from float32 results that differ little:
# 2 units. (Machine epsilon is the unit at 1.)
_UNITS = {tf.bfloat16: 2, tf.float16: 2, tf.float32: 16, tf.float64: 16}
_EPSILON = {tf.bfloat16: 2.0**-7, tf.float16: 2.0**-10, tf.float32: 2.0**-23, tf.float64: 2.0**-52}


class Broken(Exception):
    """A broken contract; the message is the sentence for the user."""


def children(optimizer: Any) -> dict[str, Any]:
    """Fields of a dataclass by name; none for anything else."""
    if not dataclasses.is_dataclass(optimizer) or isinstance(optimizer, type):
        return {}
    return {field.name: getattr(optimizer, field.name) for field in dataclasses.fields(optimizer)}


def _is_optimizer(value: Any) -> bool:
    return callable(getattr(value, "update", None)) and bool(dataclasses.is_dataclass(value))


def with_budget(optimizer: Any, steps: int) -> Any:
    changes: dict[str, Any] = {}
    for name, value in children(optimizer).items():
        if name == "steps" and value is None:
            changes[name] = steps
        elif _is_optimizer(value):
            changes[name] = with_budget(value, steps)
    return dataclasses.replace(optimizer, **changes) if changes else optimizer


def floats_of(optimizer: Any, prefix: str = "") -> dict[str, float]:
    """Float hyperparameters by dotted path, those of wrapped optimizers too."""
    found: dict[str, float] = {}
    for name, value in children(optimizer).items():
        if isinstance(value, float):
            found[prefix + name] = value
        elif _is_optimizer(value):
            found |= floats_of(value, f"{prefix}{name}.")
    return found


def with_floats(optimizer: Any, values: dict[str, Any], prefix: str = "") -> Any:
    changes: dict[str, Any] = {}
    for name, value in children(optimizer).items():
        if prefix + name in values:
            changes[name] = values[prefix + name]
        elif _is_optimizer(value):
            changes[name] = with_floats(value, values, f"{prefix}{name}.")
    return dataclasses.replace(optimizer, **changes) if changes else optimizer


def says(optimizer: Any, attribute: str) -> bool:
    """Whether an optimizer or one inside it carries a true class attribute."""
    inner = [value for value in children(optimizer).values() if _is_optimizer(value)]
    return bool(getattr(optimizer, attribute, False)) or any(says(value, attribute) for value in inner)


def _normal(seed: int) -> Any:
    """Standard normal tensors in a nested structure of three dtypes, with a scalar."""

    def draw(shape: list[int], dtype: tf.DType, stream: int) -> tf.Tensor:
        return tf.cast(tf.random.stateless_normal(shape, (seed, stream), dtype=tf.float64), dtype)

    return {
        "matrix": draw([3, 2], tf.float32, 0),
        "pair": (draw([], tf.float64, 1), [draw([4], tf.bfloat16, 2)]),
    }


class Trial:
    """One optimizer under test, with what several checks share."""

    def __init__(self, optimizer: Any, steps: int):
        self.optimizer = optimizer
        self.steps = steps
        self.params = _normal(0)
        self.gradients = [_normal(i + 1) for i in range(STEPS)]

    def run(self, update: Callable[..., Any], rate: Any, gradients: list[Any] | None = None) -> list[Any]:
        """(params, state) before the first update and after each."""
        trajectory = [(self.params, self.optimizer.init(self.params))]
        for i, gradient in enumerate(self.gradients if gradients is None else gradients):
            params, state = trajectory[-1]
            trajectory.append(update(params, gradient, state, rate, tf.constant(i, tf.int32)))
        return trajectory

    @cached_property
    def eager(self) -> list[Any]:
        """The trajectory that others are compared to: eager, the rate a tensor as in a study."""
        return self.run(self.optimizer.update, tf.constant(RATE, tf.float64))

    @cached_property
    def over_lanes(self) -> Callable[..., Any]:
        """Compiled updates of many lanes, each with hyperparameters of its own."""

        def single(arguments):
            params, gradient, state, rate, step, floats = arguments
            return with_floats(self.optimizer, floats).update(params, gradient, state, rate, step)

        @tf.function(autograph=False, jit_compile=True)
        def update(*arguments):
            return tf.vectorized_map(single, arguments, fallback_to_while_loop=False)

        return update

    @cached_property
    def lanes(self) -> tuple[Any, ...]:
        """Arguments for `over_lanes`: every lane with other parameters, rate, step and hyperparameters."""
        singles = [(_normal(10 + i), _normal(20 + i)) for i in range(LANES)]
        rates = tf.constant([RATE / (i + 1) for i in range(LANES)], tf.float64)
        steps = tf.range(LANES, dtype=tf.int32)
        floats = {
            name: tf.constant([nearby(value, i) for i in range(LANES)], tf.float64)
            for name, value in floats_of(self.optimizer).items()
        }
        rows = [(p, g, self.optimizer.init(p)) for p, g in singles]
        stacked = tf.nest.map_structure(lambda *leaves: tf.stack(leaves), *rows)
        return (*stacked, rates, steps, floats)


def nearby(value: float, i: int) -> float:
    """The i-th of a few values near a hyperparameter, on the side of 0 and below (a beta stays below 1)."""
    return value * (1 - 0.05 * i) if value else 0.01 * i


def require_own_dtype(optimizer: Any) -> None:
    """State as large as the parameters is of their dtype; a single number may have one of its own.

    Raises:
        Broken: it is not.
    """
    for dtype in (tf.float64, tf.bfloat16):
        for leaf in tf.nest.flatten(optimizer.init({"weights": tf.zeros([3], dtype)})):
            if leaf.shape.rank and leaf.dtype.is_floating and leaf.dtype != dtype:
                raise Broken(
                    f"The state of {dtype.name} parameters holds a {leaf.dtype.name} tensor: make it from "
                    "the parameters, as by tf.zeros_like."
                )


def require_same_form(before: Any, after: Any, what: str) -> None:
    """Same nested structure, and each tensor with the shape and dtype it had."""
    try:
        tf.nest.assert_same_structure(before, after)
    except (TypeError, ValueError) as error:
        raise Broken(f"{what} changed structure: return the one that came in.") from error
    for old, new in zip(tf.nest.flatten(before), tf.nest.flatten(after), strict=True):
        new = tf.convert_to_tensor(new)
        if old.dtype != new.dtype:
            raise Broken(
                f"{what} went from {old.dtype.name} to {new.dtype.name}: cast scalars to the dtype of each "
                "tensor (params may be float32, float64 and bfloat16 at once)."
            )
        if old.shape != new.shape:
            raise Broken(f"{what} went from shape {old.shape} to {new.shape}: keep each tensor's shape.")


def identical(a: Any, b: Any) -> bool:
    """Equal to the bit; NaN equals NaN."""
    pairs = zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True)
    return all(_numpy(x).tobytes() == _numpy(y).tobytes() for x, y in pairs)


def _numpy(tensor: Any) -> Any:
    return tf.convert_to_tensor(tensor).numpy()


def _distance(a: Any, b: Any) -> float:
    """Largest difference of two structures, in units of what rounding may explain in one step."""
    worst = 0.0
    for x, y in zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True):
        x, y = tf.convert_to_tensor(x), tf.convert_to_tensor(y)
        if not x.dtype.is_floating or not tf.size(x):
            continue
        unit = _UNITS[x.dtype] * _EPSILON[x.dtype]
        x, y = tf.cast(x, tf.float64), tf.cast(y, tf.float64)
        scale = tf.maximum(tf.reduce_max(tf.abs(x)), 1e-30)
        difference = float(tf.reduce_max(tf.abs(x - y)) / scale / unit)
        # A NaN on one side is a difference beyond any rounding.
        worst = max(worst, difference if difference == difference else float("inf"))
    return worst


def require_close(a: Any, b: Any, sentence: str) -> None:
    distance = _distance(a, b)
    if distance > STEPS:
        raise Broken(f"{sentence} They differ {distance / STEPS:.2g} times more than rounding explains.")
