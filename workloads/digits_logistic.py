"""Multinomial logistic regression on handwritten digits."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from ._digits import CLASSES, PIXELS, DigitsClassifier, dense, initial_layers


@dataclass(frozen=True)
class DigitsLogistic(DigitsClassifier):
    """Logistic regression on 8x8 digits: convex, 650 parameters, gradients from batches.

    z = x W + b, loss = mean cross-entropy of softmax(z); no penalty.
    """

    target: float = 0.18
    steps: int = 400

    def init(self, seed):
        """({"weight": [64, 10], "bias": [10]},): Glorot uniform and zero."""
        return initial_layers(seed, [(PIXELS, CLASSES)], self.dtype)

    def logits(self, params, images: tf.Tensor) -> tf.Tensor:
        """[examples, 64] -> [examples, 10]."""
        return dense(params[0], images)
