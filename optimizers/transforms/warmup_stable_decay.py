"""Warm-up, a plateau, decay."""

from dataclasses import dataclass

import tensorflow as tf

from .._scalars import cast
from .._types import Optimizer, Scalar, Structure
from ._schedule import budget, ramp, scaled, time


@dataclass(frozen=True)
class WarmupStableDecay:
    """Schedule: a linear rise, a plateau, a linear fall (WSD, a trapezoid).

    α_t = α min(c₀ + (1 − c₀) t / (w · steps),  1,  c₁ + (1 − c₁) (steps − t) / (d · steps))

    t counts updates from 0; w and d are shares of `steps`, w + d ≤ 1. After `steps` updates the learning rate
    stays at c₁ α (at α where d = 0).

    Source: S. Hu et al., "MiniCPM: unveiling the potential of small language models with scalable training
    strategies", 2024, section 4.2; with a linear fall A. Hägele et al., "Scaling laws and compute-optimal
    training beyond fixed training durations", NeurIPS 2024.
    """

    optimizer: Optimizer
    steps: int | None = None  # updates the schedule spans; None: the study's budget
    warmup: float = 0.1  # w, a share of `steps`
    decay: float = 0.2  # d, a share of `steps`
    initial: float = 0.0  # c₀
    final: float = 0.0  # c₁

    def factor(self, t: tf.Tensor) -> tf.Tensor:
        """What the learning rate is multiplied by after t updates (t: a float scalar)."""
        steps = budget(self.steps, "warmup_stable_decay")
        initial, final = cast(self.initial, t.dtype), cast(self.final, t.dtype)
        rise = initial + (1 - initial) * ramp(t, self.warmup * steps)
        left = ramp(tf.maximum(steps - t, 0), self.decay * steps)
        return tf.minimum(rise, final + (1 - final) * left)

    @property
    def learning_rates(self) -> tuple[float, float]:
        return self.optimizer.learning_rates

    def init(self, params: Structure) -> Structure:
        return self.optimizer.init(params)

    def update(
        self, params: Structure, grads: Structure, state: Structure, lr: Scalar, step: tf.Tensor
    ) -> tuple[Structure, Structure]:
        rate = scaled(lr, self.factor(time(params, step)))
        return self.optimizer.update(params, grads, state, rate, step)

    def eval_params(self, params: Structure, state: Structure) -> Structure:
        return self.optimizer.eval_params(params, state)
