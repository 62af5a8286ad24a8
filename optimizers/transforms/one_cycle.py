"""The one-cycle learning rate."""

from dataclasses import dataclass

import tensorflow as tf

from .._scalars import cast
from .._types import Optimizer, Scalar, Structure
from ._schedule import budget, half_cosine, ramp, scaled, time


@dataclass(frozen=True)
class OneCycle:
    """Schedule: one cycle, up and down along half cosines; the learning rate is its peak.

    s = min(t / (w · steps), 1),   up from c₀ α to α
    α_t = α (1 − (1 − c₀) (1 + cos(π s)) / 2)
    s = min((t − w · steps) / ((1 − w) steps), 1),   then down from α to c₁ α
    α_t = α (c₁ + (1 − c₁) (1 + cos(π s)) / 2)

    t counts updates from 0. The defaults are those of fastai, Optax and PyTorch: c₀ = 1 / 25 and
    c₁ = c₀ / 10⁴. Only the learning rate goes through the cycle; the momentum stays.

    Source: L. Smith and N. Topin, "Super-convergence: very fast training of neural networks using large
    learning rates", 2018, section 2, with cosines for lines as in fastai.
    """

    optimizer: Optimizer
    steps: int | None = None  # updates the schedule spans; None: the study's budget
    warmup: float = 0.3  # w, a share of `steps`
    initial: float = 0.04  # c₀
    final: float = 4e-6  # c₁

    def factor(self, t: tf.Tensor) -> tf.Tensor:
        """What the learning rate is multiplied by after t updates (t: a float scalar)."""
        steps = budget(self.steps, "one_cycle")
        peak = self.warmup * steps
        initial, final = cast(self.initial, t.dtype), cast(self.final, t.dtype)
        rises = t < cast(peak, t.dtype)
        since = t - cast(peak, t.dtype)
        # One cosine for both halves: they never overlap.
        fall = half_cosine(tf.where(rises, ramp(t, peak), ramp(since, steps - peak)))
        return tf.where(rises, 1 - (1 - initial) * fall, final + (1 - final) * fall)

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
