"""Maxima and means of windows of maps, of many lanes with lanes last, and their gradients.

TensorFlow's vectorizer would turn all maps to have lanes first and back, and XLA's CPU backend looks for the
place of a maximum window by window. Written out, both are a few operations on whole vectors of lanes.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from harness import nodes, products
from harness.convolutions import pads_of

MAX, MAX_GRAD, MEAN, MEAN_GRAD = KINDS = "MaxPool", "MaxPoolGrad", "AvgPool", "AvgPoolGrad"
MOST = 64  # numbers of a window: each is an operation of its own


@dataclass(frozen=True)
class Windows:
    """Where the windows of an operation lie on its maps.

    Args:
        shape: of the maps of one run, [examples, h, w, channels].
        kernel, stride: of the windows, down and across.
        pads: ((above, below), (left, right)) of the maps; what is there belongs to no window.
        places: of the result, down and across.
    """

    shape: tuple[int, int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]
    places: tuple[int, int]

    @classmethod
    def of(cls, op: Any) -> Windows | None:
        """Of an operation of TensorFlow's, one of `KINDS`; None where it is not known here: channels first,
        windows over channels or examples, or of many numbers, sizes that are not known while tracing."""
        maps = op.outputs[0].shape if op.type == MEAN_GRAD else op.inputs[0].shape
        out = (op.inputs[1] if op.type in (MAX_GRAD, MEAN_GRAD) else op.outputs[0]).shape
        sizes = [op.get_attr(name) for name in ("ksize", "strides")]
        if op.get_attr("data_format") != b"NHWC" or any(size[0] != 1 or size[3] != 1 for size in sizes):
            return None
        if not (maps.is_fully_defined() and out.is_fully_defined()) or math.prod(sizes[0]) > MOST:
            return None
        (kernel, stride), places = (tuple(size[1:3]) for size in sizes), (int(out[1]), int(out[2]))
        shape = maps.as_list()
        return cls(tuple(shape), kernel, stride, pads_of(op, shape, places, kernel, stride), places)

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Of a window's numbers, row by row."""
        return [(i, j) for i in range(self.kernel[0]) for j in range(self.kernel[1])]

    @property
    def tiled(self) -> bool:
        """Whether windows lie side by side, and on the maps."""
        return self.kernel == self.stride and not any(itertools.chain(*self.pads))

    @property
    def counts(self) -> np.ndarray:
        """How many numbers of the maps are in each window, [rows, columns, 1, 1]."""
        each = []
        for size, n, k, s, (before, _) in zip(
            self.shape[1:3], self.places, self.kernel, self.stride, self.pads, strict=True
        ):
            begin = np.arange(n) * s - before
            each.append(np.minimum(begin + k, size) - np.maximum(begin, 0))
        return np.outer(*each)[:, :, None, None]

    def parts(self, maps: tf.Tensor, outside: float) -> list[tf.Tensor]:
        """The numbers at each offset of all windows, [examples, rows, columns, channels, lanes] each.

        Args:
            maps: [examples, h, w, channels, lanes].
            outside: what lies around them.
        """
        examples, _, _, channels, lanes = nodes.sizes(maps)
        (rows, columns), (high, wide), (down, across) = self.places, self.kernel, self.stride
        if self.tiled:
            blocks = nodes.reshape(
                nodes.cut(maps, [0] * 5, [examples, rows * high, columns * wide, channels, lanes]),
                [examples, rows, high, columns, wide, channels, lanes],
            )
            size, shape = (
                [examples, rows, 1, columns, 1, channels, lanes],
                [examples, *self.places, channels, lanes],
            )
            return [
                nodes.reshape(nodes.cut(blocks, [0, 0, i, 0, j, 0, 0], size), shape) for i, j in self.offsets
            ]
        if any(itertools.chain(*self.pads)):
            maps = tf.pad(maps, [[0, 0], *self.pads, [0, 0], [0, 0]], constant_values=outside)
        ends = (rows - 1) * down + 1, (columns - 1) * across + 1
        return [maps[:, i : i + ends[0] : down, j : j + ends[1] : across] for i, j in self.offsets]

    def spread(self, slopes: tf.Tensor, where: tf.Tensor | None) -> tf.Tensor:
        """Slopes by the maps: each window's at every offset, or at the one that `where` names.

        Args:
            slopes: [examples, rows, columns, channels, lanes].
            where: in one shape with them, int32; None: everywhere.
        """
        examples, height, width, channels = self.shape
        lanes, (rows, columns), (high, wide) = nodes.sizes(slopes)[4], self.places, self.kernel
        if self.tiled:
            # By broadcasting, and the offset by counting: XLA makes copies of what is put side by side.
            apart = [examples, rows, 1, columns, 1, channels, lanes]
            full = [examples, rows, high, columns, wide, channels, lanes]
            made = nodes.reshape(slopes, apart)
            if where is None:
                made = tf.broadcast_to(made, full)
            else:
                number = np.arange(high * wide, dtype=np.int32).reshape(1, 1, high, 1, wide, 1, 1)
                here = tf.equal(nodes.reshape(where, apart), nodes.constant(number))
                made = nodes.where(here, made, tf.zeros([], slopes.dtype))
            made = nodes.reshape(made, [examples, rows * high, columns * wide, channels, lanes])
            left = [[0, height - rows * high], [0, width - columns * wide]]
            return tf.pad(made, [[0, 0], *left, [0, 0], [0, 0]]) if np.any(left) else made
        (above, below), (left, right) = self.pads
        around = [examples, height + above + below, width + left + right, channels, lanes]
        (down, across), total = self.stride, []
        for k, (i, j) in enumerate(self.offsets):
            part = slopes if where is None else nodes.where(tf.equal(where, k), slopes, tf.zeros_like(slopes))
            ends = [examples, i + (rows - 1) * down + 1, j + (columns - 1) * across + 1, channels, lanes]
            lie = {"begin": [0, i, j, 0, 0], "end": ends, "strides": [1, down, across, 1, 1]}
            total.append(tf.raw_ops.StridedSliceGrad(shape=around, dy=part, **lie))
        return nodes.add_n(total)[:, above : above + height, left : left + width]


def pool(op: Any, given: Sequence[tf.Tensor]) -> tf.Tensor | None:
    """What one of `KINDS` computes for all lanes, [..., lanes].

    Args:
        given: its inputs that are maps or slopes, each [..., lanes].

    Returns:
        None where it is not known here.
    """
    windows = Windows.of(op)
    if windows is None:
        return None
    if op.type == MAX:
        return functools.reduce(nodes.maximum, windows.parts(given[0], -math.inf))
    if op.type == MEAN:
        return products.total(windows.parts(given[0], 0.0)) / _counts(windows, given[0].dtype)
    if op.type == MEAN_GRAD:
        return windows.spread(given[0] / _counts(windows, given[0].dtype), None)
    # The first number that is the maximum, as TensorFlow has it. Found anew, not compared with the maximum
    # that was made: XLA may make the maps twice, and not to the same bit.
    highest, *others = windows.parts(given[0], -math.inf)
    where = tf.zeros(highest.shape, tf.int32)
    for k, part in enumerate(others, 1):
        where = nodes.where(part > highest, nodes.constant(k), where)
        highest = nodes.maximum(highest, part)
    return windows.spread(given[2], where)


def _counts(windows: Windows, dtype: tf.DType) -> tf.Tensor:
    counts = windows.counts
    return tf.constant(counts if np.ptp(counts) else counts.flat[0], dtype)
