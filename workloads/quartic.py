"""The quartic of TensorFlow's guide to optimizers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from ._functions import Function
from ._types import Array, Box, Points


@dataclass(frozen=True)
class Quartic(Function):
    """Quartic of TensorFlow's optimizer guide: one minimum, one flat saddle where descent stalls, 1-D.

    f(x) = 2 x^4 + 3 x^3 + 2
    f'(x) = x^2 (8 x + 9), so the minimum is at -9/8 and x = 0 is a stationary point of inflection:
    from x > 0, plain gradient descent creeps up to 0 and needs a step large enough to pass it.

    Source: TensorFlow guide "Optimizers with TensorFlow Core" (core/optimizers_core).
    """

    target: float = 0.9331
    steps: int = 300
    domain: ClassVar[Box] = ((-2.0, 2.0),)
    minimizers: ClassVar[Points] = ((-1.125,),)
    optimum: ClassVar[float] = 0.93212890625  # 2 - 2187/2048

    def value(self, x: Array) -> tf.Tensor:
        """f over the last axis: [..., 1] -> [...]."""
        x = x[..., 0]
        return x * x * x * (2.0 * x + 3.0) + 2.0
