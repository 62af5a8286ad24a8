"""The workload contract, as types."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import tensorflow as tf

# A tf.Tensor. The type stubs know neither `x[..., 0]` nor that a shape is static, hence not tf.Tensor itself.
Array = Any

# Any tf.nest structure of tensors: parameters, batches.
Structure = Any

# Lowest and highest value of each coordinate; points, coordinate by coordinate.
Box = tuple[tuple[float, float], ...]
Points = tuple[tuple[float, ...], ...]


class Workload(Protocol):
    """What every workload offers, for one run; nothing inherits from it.

    All is pure: `init` and `batch` depend on nothing but their arguments, and no method changes anything.
    Everything but those two also works for many runs at once under `tf.vectorized_map`, without its
    fallback, and all of it compiles by XLA.
    """

    target_metric: ClassVar[str]  # "loss" (then `objective` counts), or a name of `monitor`; lower is better

    @property
    def target(self) -> float:
        """The value of `target_metric` to reach."""
        ...

    @property
    def steps(self) -> int:
        """Budget of updates."""
        ...

    @property
    def dtype(self) -> str:
        """Of the parameters: float32, float64 or bfloat16."""
        ...

    @property
    def optimum(self) -> float | None:
        """The lowest possible objective; None where it is not known."""
        ...

    @property
    def minimizers(self) -> Points:
        """Every point where the objective is `optimum`; empty where they are not known."""
        ...

    @property
    def domain(self) -> Box | None:
        """Where the function is looked at; None for parameters that are no point in space."""
        ...

    def init(self, seed) -> Structure:
        """First parameters of a seed (Python int or integer scalar tensor), in `dtype`."""
        ...

    def batch(self, seed, step) -> Structure | None:
        """What is random in a step: a pure function of (seed, step). None where nothing is."""
        ...

    def loss(self, params: Structure, batch: Structure | None) -> tf.Tensor:
        """What is differentiated, a scalar of at least float32; `batch` is None only if `batch()` is."""
        ...

    def objective(self, params: Structure) -> tf.Tensor | None:
        """The loss without its randomness, a scalar; None where that is too dear for every step."""
        ...

    def monitor(self, params: Structure) -> dict[str, tf.Tensor]:
        """Scalars worth having at every recorded point; cheap."""
        ...

    def evaluate(self, params: Structure) -> dict[str, tf.Tensor]:
        """Scalars of the whole evaluation at the end."""
        ...


class Measured(Protocol):
    """What a workload may offer beside, where its metrics are means over examples: they are then taken some
    examples after others, which stay near the core."""

    def measured(self, name: str) -> dict[str, Structure]:
        """The sets whose means `name`, "monitor" or "evaluate", gives: numpy arrays [examples, ...]."""
        ...

    def measure(self, params: Structure, batch: Structure) -> dict[str, tf.Tensor]:
        """Values of each example, [examples]: the metric `test_loss` is the mean of `loss` over `test`."""
        ...


class Drawing(Protocol):
    """What a workload may offer beside, where batches are made of little (noise; which rows of a table): that
    of many steps is then drawn at once, ahead of them, by a program that all optimizers share."""

    def draws(self, seed, steps) -> Structure:
        """What several steps draw, [steps, ...]: of each step what `(seed, step)` alone decides.

        Args:
            steps: [steps] int32; how many is known while tracing.
        """
        ...

    def batch_of(self, draw: Structure) -> Structure:
        """The batch of one of those steps: what `batch` gives for it, to the bit."""
        ...
