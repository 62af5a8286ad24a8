"""Convolutions whose filters differ between runs, as patches and one product of matrices.

TensorFlow's vectorizer refuses a convolution by filters of each lane's own, or makes a loop over lanes of it,
and XLA's CPU backend makes plain loops of one in groups. A product of matrices both know well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.python.ops.parallel_for import pfor

from harness import nodes

FORWARD, OF_MAPS, OF_FILTERS = KINDS = "Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"


@dataclass(frozen=True)
class Geometry:
    """Where the filters of a convolution lie on its maps.

    Args:
        kernel: height and width of the filters.
        stride: of the places, down and across.
        dilation: of the filters, down and across.
        pads: zeros ((above, below), (left, right)) of the maps.
        places: of the result, down and across.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]
    places: tuple[int, int]

    @classmethod
    def of(cls, op: Any) -> Geometry | None:
        """Of an operation of TensorFlow's, one of `KINDS`; None where it is not known here: channels first,
        filters in groups, sizes that are not known while tracing."""
        maps, filters, out = _shapes(op)
        if op.get_attr("data_format") != b"NHWC" or None in (*maps, *filters, *out) or maps[3] != filters[2]:
            return None
        stride, dilation = (tuple(op.get_attr(name)[1:3]) for name in ("strides", "dilations"))
        kernel, places = (filters[0], filters[1]), (out[1], out[2])
        pads = pads_of(op, maps, places, kernel, stride, dilation)
        return cls(kernel, stride, dilation, pads, places)

    @property
    def plain(self) -> bool:
        """Whether places and filters leave out nothing."""
        return self.stride == self.dilation == (1, 1)

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Where each number of a filter lies, from a place's corner on."""
        rows, columns = self.kernel
        return [(i * self.dilation[0], j * self.dilation[1]) for i in range(rows) for j in range(columns)]


def _shapes(op: Any) -> list[list[Any]]:
    """Of maps, filters and the result, [examples, h, w, channels], [h, w, channels, filters]."""
    maps, filters, out = {
        FORWARD: lambda: (op.inputs[0], op.inputs[1], op.outputs[0]),
        OF_MAPS: lambda: (op.outputs[0], op.inputs[1], op.inputs[2]),
        OF_FILTERS: lambda: (op.inputs[0], op.outputs[0], op.inputs[2]),
    }[op.type]()
    return [[None] * 4 if x.shape.rank is None else x.shape.as_list() for x in (maps, filters, out)]


Pair = tuple[int, int]


def pads_of(
    op: Any, maps: Sequence[Any], places: Pair, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)
) -> tuple[Pair, Pair]:
    """What an operation puts around its maps, ((above, below), (left, right)).

    Args:
        maps: their shape, [examples, h, w, channels].
    """
    padding = op.get_attr("padding")
    if padding == b"EXPLICIT":
        explicit = op.get_attr("explicit_paddings")
        return tuple(explicit[2:4]), tuple(explicit[4:6])
    if padding != b"SAME":
        return (0, 0), (0, 0)
    down, across = zip(maps[1:3], places, kernel, stride, dilation, strict=True)
    return _same(*down), _same(*across)


def _same(size: int, places: int, kernel: int, stride: int, dilation: int) -> Pair:
    """How many numbers before and behind TensorFlow's `SAME` puts around `size` of them."""
    need = max(0, (places - 1) * stride + (kernel - 1) * dilation + 1 - size)
    return need // 2, need - need // 2


# -- patches and a product --------------------------------------------------------------------


def as_product(op: Any, given: Sequence[tf.Tensor], geometry: Geometry) -> tf.Tensor:
    """What one of `KINDS` computes for one run, by operations that TensorFlow's vectorizer lifts.

    Args:
        op: it says what is computed, in which shapes.
        given: its three or two inputs; sizes are not looked at.
    """
    maps, filters, out = _shapes(op)
    patch = math.prod(filters[:3])
    rows = math.prod(out[:3])
    if op.type == FORWARD:
        made = tf.matmul(patches(given[0], geometry), tf.reshape(given[1], [patch, filters[3]]))
        return tf.reshape(made, out)
    slopes = tf.reshape(given[2], [rows, filters[3]])
    if op.type == OF_FILTERS:
        return tf.reshape(tf.matmul(patches(given[0], geometry), slopes, transpose_a=True), filters)
    made = tf.matmul(slopes, tf.reshape(given[1], [patch, filters[3]]), transpose_b=True)
    return _scattered(tf.reshape(made, [*out[:3], len(geometry.offsets), maps[3]]), geometry, maps)


def patches(maps: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """[examples, h, w, channels] → [places, kernel h × kernel w × channels]: shifted views, stacked."""
    (above, below), (left, right) = geometry.pads
    if any((above, below, left, right)):
        maps = tf.pad(maps, [[0, 0], [above, below], [left, right], [0, 0]])
    (down, across), (rows, columns) = geometry.stride, geometry.places
    sizes = [-1, (rows - 1) * down + 1, (columns - 1) * across + 1, -1]
    views = [nodes.cut(maps, [0, i, j, 0], sizes) for i, j in geometry.offsets]
    if down > 1 or across > 1:
        views = [view[:, ::down, ::across] for view in views]
    stacked = tf.stack(views, axis=3)
    return tf.reshape(stacked, [math.prod(stacked.shape[:3]), math.prod(stacked.shape[3:])])


def patch_bytes(op: Any) -> int:
    """Bytes of the patches that an operation of a loss is computed by; 0 of what is no convolution."""
    geometry = Geometry.of(op) if op.type == FORWARD else None
    if geometry is None:
        return 0
    maps, _, out = _shapes(op)
    return math.prod(out[:3]) * len(geometry.offsets) * maps[3] * op.outputs[0].dtype.size


def _scattered(parts: tf.Tensor, geometry: Geometry, maps: Sequence[Any]) -> tf.Tensor:
    """The transpose of `patches`: [examples, rows, columns, offsets, channels] → maps, summed."""
    (above, below), (left, right) = geometry.pads
    height, width = maps[1] + above + below, maps[2] + left + right
    (down, across), (rows, columns) = geometry.stride, geometry.places
    shape = [maps[0], height, width, maps[3]]
    total = []
    for (i, j), part in zip(geometry.offsets, tf.unstack(parts, axis=3), strict=True):
        if geometry.stride == (1, 1):
            around = [[0, 0], [i, height - i - rows], [j, width - j - columns], [0, 0]]
            total.append(tf.pad(part, around))
            continue
        ends = [maps[0], i + (rows - 1) * down + 1, j + (columns - 1) * across + 1, maps[3]]
        spread = {"begin": [0, i, j, 0], "end": ends, "strides": [1, down, across, 1]}
        total.append(tf.raw_ops.StridedSliceGrad(shape=shape, dy=part, **spread))
    return tf.add_n(total)[:, above : height - below, left : width - right]


# -- TensorFlow's vectorizer ---------------------------------------------------------------------------


def teach_vectorizer() -> None:
    """Has `tf.vectorized_map` lift convolutions by filters that differ: it refuses them, or makes loops."""
    known = pfor._pfor_converter_registry
    for kind in KINDS:
        if getattr(known.get(kind), "__module__", "") != __name__:
            known[kind] = _converter(kind, known.get(kind))


def _converter(kind: str, before: Any) -> Callable[..., Any]:
    """What lifts a kind of operation; `before` does where filters are shared, or are not known here."""

    def convert(pfor_input: Any) -> list[Any]:
        op = pfor_input.op
        values = [pfor_input.input(i) for i in range(pfor_input.num_inputs)]
        own = {FORWARD: 1, OF_MAPS: 1, OF_FILTERS: 2}[kind]
        geometry = Geometry.of(op)
        if geometry is None or not values[own].is_stacked:
            return before(pfor_input)

        def one(lane: Sequence[tf.Tensor]) -> tf.Tensor:
            rest = iter(lane)
            return as_product(op, [next(rest) if v.is_stacked else v.t for v in values], geometry)

        stacked = tuple(value.t for value in values if value.is_stacked)
        out = tf.vectorized_map(one, stacked, fallback_to_while_loop=False)
        return [pfor.wrap(out, True)]

    return convert
