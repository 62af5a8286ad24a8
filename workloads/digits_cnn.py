"""A small convolutional network on handwritten digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tensorflow as tf

from ._digits import CLASSES, SIDE, DigitsClassifier, check_classifier, dense, initial_layers, is_count
from ._types import Array

KERNEL = 3
LARGEST = 6  # side of the maps that the dense layer sees


def convolution(layer: dict[str, tf.Tensor], maps: Array, padding: Literal["SAME", "VALID"]) -> tf.Tensor:
    """3x3 convolution: [examples, h, w, channels] -> [examples, h, w, filters], less 2 each where `VALID`."""
    weight = layer["weight"]
    channels = maps.shape[-1]
    filters = tf.reshape(weight, [KERNEL, KERNEL, channels, weight.shape[-1]])
    return tf.nn.conv2d(maps, filters, 1, padding) + layer["bias"]


def average_pool(maps: Array) -> tf.Tensor:
    """Mean of each 2x2 square: [examples, h, w, channels] -> [examples, h // 2, w // 2, channels].

    An odd last row or column is left out.
    """
    _, height, width, channels = maps.shape
    height, width = height // 2 * 2, width // 2 * 2
    maps = maps[:, :height, :width]
    return tf.reduce_mean(tf.reshape(maps, [-1, height // 2, 2, width // 2, 2, channels]), axis=[2, 4])


def pooled_side(side: int) -> int:
    """The side of maps after means of 2x2 until they are at most `LARGEST`."""
    while side > LARGEST:
        side //= 2
    return side


@dataclass(frozen=True)
class DigitsCnn(DigitsClassifier):
    """Convolutional network on digits: two 3x3 convolutions and a dense layer, 1,898 parameters at 8x8.

    8x8 -> convolution 3x3, 8 filters, zero-padded, ReLU -> mean of 2x2 -> 4x4
        -> convolution 3x3, 16 filters, ReLU -> 2x2 -> dense -> 10 logits; loss = mean cross-entropy.

    Images may be scaled up; the last maps are then averaged over 2x2 until they are 6x6 or less: 28x28 ->
    14x14 -> 12x12 -> 6x6 -> dense.

    Args:
        filters: of the first and of the second convolution.
        side: of the images in pixels, even, 8 or more.
    """

    target: float = 0.13
    steps: int = 400
    filters: tuple[int, int] = (8, 16)
    side: int = 8  # pyright: ignore[reportIncompatibleVariableOverride]  # the other files' constant

    def __post_init__(self):
        object.__setattr__(self, "filters", tuple(self.filters))  # a list, as YAML gives it, becomes a tuple
        if len(self.filters) != 2 or not all(map(is_count, self.filters)):
            raise ValueError(f"DigitsCnn: filters = {self.filters!r}; two whole numbers, 1 or more each.")
        if not is_count(self.side) or self.side < SIDE or self.side % 2:
            raise ValueError(
                f"DigitsCnn: side = {self.side!r}; images are {SIDE} pixels wide or more, an even number."
            )
        check_classifier(self)

    def init(self, seed):
        """Three {"weight", "bias"}: He uniform for the convolutions, Glorot uniform for the last layer."""
        first, second = self.filters
        patch, last = KERNEL * KERNEL, pooled_side(self.side // 2 - KERNEL + 1)
        features = last * last * second
        shapes = [(patch, first), (patch * first, second), (features, CLASSES)]
        return initial_layers(seed, shapes, self.dtype)

    def logits(self, params, images: Array) -> tf.Tensor:
        """[examples, side * side] -> [examples, 10]."""
        first, second, last = params
        maps: Array = tf.reshape(images, [-1, self.side, self.side, 1])
        maps = average_pool(tf.nn.relu(convolution(first, maps, "SAME")))
        maps = tf.nn.relu(convolution(second, maps, "VALID"))
        while maps.shape[1] > LARGEST:
            maps = average_pool(maps)
        return dense(last, tf.reshape(maps, [-1, maps.shape[1] * maps.shape[2] * maps.shape[3]]))
