"""Plug-ins that go wrong, each in one way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unruly_base import Missing  # type: ignore[import-not-found]  # there is no such module


@dataclass(frozen=True)
class Unimportable(Missing):
    """Its file cannot be imported, but it can be read."""

    learning_rates: ClassVar[tuple[float, float]] = (1e-3, 1e-1)
    rate_of_decay: float = -1e-3

    def init(self, params): ...

    def update(self, params, grads, state, lr, step): ...

    def eval_params(self, params, state): ...


@dataclass(frozen=True)
class Rangeless:
    """It has no learning rates of its own."""

    def init(self, params): ...

    def update(self, params, grads, state, lr, step): ...

    def eval_params(self, params, state): ...


@dataclass(frozen=True)
class Targetless:
    """A workload without target, budget or dtype."""

    def init(self, seed): ...

    def batch(self, seed, step): ...

    def loss(self, params, batch): ...

    def objective(self, params): ...

    def monitor(self, params): ...

    def evaluate(self, params): ...
