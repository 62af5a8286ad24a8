"""A small convolutional network on handwritten digits."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from ._digits import CLASSES, SIDE, DigitsClassifier, check_classifier, dense, initial_layers, is_count
from ._types import Array

KERNEL = 3
LARGEST = 6  # side of the maps that the dense layer sees


def patches(maps: Array) -> tf.Tensor:
    """Every 3x3 patch as a row: [examples, h, w, channels] -> [examples, h - 2, w - 2, 9 channels].

    Nine shifted views, stacked: static slices, no gather. Rows run over the kernel's row, its column and
    the channel, the order of a `tf.nn.conv2d` filter [3, 3, channels, filters] reshaped to two dimensions.
    """
    _, height, width, channels = maps.shape
    rows, columns = height - KERNEL + 1, width - KERNEL + 1
    views = [maps[:, i : i + rows, j : j + columns] for i in range(KERNEL) for j in range(KERNEL)]
    return tf.reshape(tf.stack(views, axis=3), [-1, rows, columns, KERNEL * KERNEL * channels])


def convolution(layer: dict[str, tf.Tensor], maps: Array) -> tf.Tensor:
    """3x3 convolution without padding, as patches and one product: [..., channels] -> [..., filters]."""
    rows = patches(maps)
    _, height, width, inputs = rows.shape
    outputs = dense(layer, tf.reshape(rows, [-1, inputs]))
    return tf.reshape(outputs, [-1, height, width, outputs.shape[-1]])


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

    A convolution is written as patches and a matrix product, which lifts to lanes; `tf.nn.conv2d` with a
    filter per lane does not (TensorFlow 2.21: "expected to be loop invariant").

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
        maps = tf.pad(maps, [[0, 0], [1, 1], [1, 1], [0, 0]])
        maps = average_pool(tf.nn.relu(convolution(first, maps)))
        maps = tf.nn.relu(convolution(second, maps))
        while maps.shape[1] > LARGEST:
            maps = average_pool(maps)
        return dense(last, tf.reshape(maps, [-1, maps.shape[1] * maps.shape[2] * maps.shape[3]]))
