"""A stranger's optimizer, transform and workload in plain Python: catalogue tests need no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from neighbour import Bowl, halve

Optimizer = Any


@dataclass(frozen=True)
class SignDescent:
    """Sign descent: a step of one size against the gradient's sign.

    x_t = x_{t-1} - lr sign(g)
    """

    scale: float = 1
    decay: float = 0.0
    sizes: tuple[int, ...] = (2, 3)
    mode: str | None = None
    learning_rates: ClassVar[tuple[float, float]] = (1e-3, 1e0)

    def init(self, params):
        return {"count": 0}

    def update(self, params, grads, state, lr, step):
        return params - lr * self.scale, state

    def eval_params(self, params, state):
        return params


@dataclass(frozen=True)
class Halved:
    """Halves the learning rate of what it wraps."""

    inner: Optimizer
    at: int
    factor: float = 0.5
    steps: int | None = None

    def init(self, params):
        return self.inner.init(params)

    def update(self, params, grads, state, lr, step):
        return self.inner.update(params, grads, state, halve(lr), step)

    def eval_params(self, params, state):
        return self.inner.eval_params(params, state)


@dataclass(frozen=True)
class Dish(Bowl):
    """A dish: its fields are a neighbour's, two of them with defaults of its own."""

    steps: int = 20
    dimension: int = 3
    depth: float = 2.0

    def loss(self, params, batch):
        return params


class NotAnOptimizer:
    """It has nothing that an optimizer needs."""

    size: int = 1
