"""What `sign_descent.py` imports from its own folder."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar


def halve(value):
    return value / 2


@dataclass(frozen=True)
class Bowl:
    """A bowl, with a default that is no literal."""

    dimension: int = 2
    target: float = 0.5
    steps: int = 10
    dtype: str = "float32"
    angle: float = math.pi / 4
    names: tuple[str, ...] = field(default_factory=tuple)
    cached: int = field(default=0, init=False)
    target_metric: ClassVar[str] = "loss"
    optimum: ClassVar[float] = -0.0

    def init(self, seed):
        return seed

    def batch(self, seed, step):
        return None

    def loss(self, params, batch):
        raise NotImplementedError

    def objective(self, params):
        return self.loss(params, None)

    def monitor(self, params):
        return {}

    def evaluate(self, params):
        return {}
