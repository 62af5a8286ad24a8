"""A multilayer perceptron on handwritten digits."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import tensorflow as tf

from ._digits import CLASSES, PIXELS, DigitsClassifier, check_classifier, dense, initial_layers, is_count


@dataclass(frozen=True)
class DigitsMlp(DigitsClassifier):
    """Multilayer perceptron on 8x8 digits: ReLU layers, 2,410 parameters as it comes.

    h_0 = x, h_l = max(0, h_{l-1} W_l + b_l), z = h_L W + b, loss = mean cross-entropy of softmax(z).

    Args:
        hidden: units of each hidden layer, in order.
    """

    target: float = 0.15
    steps: int = 300
    hidden: tuple[int, ...] = (32,)

    def __post_init__(self):
        object.__setattr__(self, "hidden", tuple(self.hidden))  # a list, as YAML gives it, becomes a tuple
        if not all(map(is_count, self.hidden)):
            raise ValueError(f"DigitsMlp: hidden = {self.hidden!r}; layers have 1 unit or more each.")
        check_classifier(self)

    def init(self, seed):
        """One {"weight", "bias"} per layer: He uniform for hidden layers, Glorot uniform for the last."""
        widths = (PIXELS, *self.hidden, CLASSES)
        return initial_layers(seed, list(itertools.pairwise(widths)), self.dtype)

    def logits(self, params, images: tf.Tensor) -> tf.Tensor:
        """[examples, 64] -> [examples, 10]."""
        *hidden_layers, last = params
        activations = images
        for layer in hidden_layers:
            activations = tf.nn.relu(dense(layer, activations))
        return dense(last, activations)
