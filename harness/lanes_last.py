"""Single-run maths for many lanes at once, with lanes last: products are written out (`harness.products`).

TensorFlow's own vectorizer puts lanes first, and XLA follows the order of axes that it finds. So the maths is
traced for one run, and each of its operations made again for all lanes, with one more axis at the end.
Operations that are not known here go to TensorFlow's vectorizer one by one, turned before and after.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import tensorflow as tf

from harness import contractions, convolutions, convolved, lift, nodes, pools, products, static
from harness.kinds import ELEMENTWISE, IN_ONE_SHAPE, NO_PRODUCTS, OF_SHAPES, REDUCTIONS
from harness.tracing import trace

Nest = Any
Change = Callable[[tf.Tensor], tf.Tensor]
Made = tf.Tensor | Sequence[tf.Tensor] | None  # None: left to TensorFlow's vectorizer

NONE: Mapping[int, Change] = MappingProxyType({})

FOLDS: Mapping[str, products.Join] = {
    "Max": lambda parts: functools.reduce(nodes.maximum, parts),
    "Mean": products.total,
    "Min": lambda parts: functools.reduce(nodes.minimum, parts),
    "Sum": products.total,
}
COUNTED = frozenset({tf.bool, tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.int32, tf.int64})
SUMMED = frozenset({"MatMul", convolutions.OF_FILTERS})  # sums that may begin with something
MASKS = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
MADE_OF_NOTHING = frozenset({"Const", "Identity", "NoOp", "Placeholder", "Reshape"})


class NotLifted(ValueError):
    """Maths that TensorFlow's vectorizer may lift, and this module does not."""


@dataclass(frozen=True)
class Value:
    """A tensor of all lanes, [..., lanes], or one that they share."""

    tensor: tf.Tensor
    lanes: bool

    @property
    def aligned(self) -> tf.Tensor:
        """As it broadcasts with those of lanes."""
        shared = not self.lanes and self.tensor.shape.rank
        return nodes.expand_last(self.tensor) if shared else self.tensor


@dataclass(frozen=True)
class Traced:
    """A function of one run: its graph, and a nest in the structure of what it returns."""

    graph: Any
    like: Nest

    @property
    def bytes(self) -> int:
        """Of all that is computed on the way."""
        made = [op for op in self.graph.get_operations() if op.type not in MADE_OF_NOTHING]
        return sum((out.shape.num_elements() or 0) * out.dtype.size for op in made for out in op.outputs)


class Lifting:
    """Makes the operations of a traced function again, for all lanes. Shapes must be known while tracing.

    Args:
        lanes: how many.

    Attributes:
        foreign: whether it left to TensorFlow's vectorizer what may be a product. As a library's it is fast,
            and as a plain loop it is not.
    """

    def __init__(self, lanes: int):
        self.lanes, self.foreign = lanes, False
        self._patches: dict[Any, tf.Tensor] = {}  # of the maps of what is being lifted
        self._onto: dict[Any, tf.Tensor] = {}  # by what is made: what it is added to

    def __call__(self, fn: Callable[..., Nest], args: Nest, shared: Nest = ()) -> Nest:
        """`fn(*args, *shared)` for every lane; leaves of `args` and of the result are [..., lanes].

        Raises:
            NotLifted: an operation is not known, and holds others; or it is not the same at every call.
        """
        return self.run(self.trace(fn, args, shared), args, shared)

    def trace(self, fn: Callable[..., Nest], args: Nest, shared: Nest = ()) -> Traced:
        """`fn` as it is for one run."""
        one = tf.nest.map_structure(lambda leaf: tf.TensorSpec(leaf.shape[:-1], leaf.dtype), tuple(args))
        of_all = tf.nest.map_structure(lambda leaf: tf.TensorSpec(leaf.shape, leaf.dtype), tuple(shared))
        # What none of its results is made of is left out below, whatever was to be done in order.
        made = trace("one", fn, (*one, *of_all))
        return Traced(made, made.structured_outputs)

    def run(
        self,
        traced: Traced,
        args: Nest,
        shared: Nest = (),
        change: Mapping[int, Change] = NONE,
        onto: Sequence[tf.Tensor] = (),
    ) -> Nest:
        """What was traced, for every lane.

        Args:
            change: by the place of a leaf of the result: what becomes of it, and of all that is made of it.
            onto: what the leaves of the result are added to, not with `change`; none: they are not.

        Raises:
            NotLifted: an operation is not known, and holds others; or it is not the same at every call.
        """
        given = [Value(leaf, True) for leaf in tf.nest.flatten(args)]
        given += [Value(leaf, False) for leaf in tf.nest.flatten(shared)]
        given += [Value(outer, False) for outer, _ in traced.graph.captures]
        try:
            makers = _makers(traced.graph) if onto else {}
            for place, maker in makers.items():
                self._onto[maker.ref()] = nodes.reshape(onto[place], [*maker.shape, self.lanes])
            found = self._graph(traced.graph, given, change)
        except Exception as error:  # of TensorFlow's: what the user wrote has been traced already
            raise NotLifted(f"cannot be vectorized with lanes last: {error}") from error
        finally:
            left = {*self._onto}
            self._patches.clear()
            self._onto.clear()
        ends = zip(found, traced.graph.outputs, strict=True)
        made = [self._spread(value, out.shape) for value, out in ends]
        for place, begin in enumerate(onto):
            if place not in makers or makers[place].ref() in left:
                made[place] = nodes.add(begin, made[place])
        return tf.nest.pack_sequence_as(traced.like, made)

    def _graph(self, graph: Any, given: Sequence[Value], change: Mapping[int, Change] = NONE) -> list[Value]:
        """What a graph returns, of the values of its inputs."""
        early, late = {}, dict(change)
        for place in change:
            made = _source(graph.outputs[place]).ref()
            if made.deref().op.type != "Placeholder" and made not in early:  # what was given stays as it is
                early[made] = late.pop(place)
        known = {tensor.ref(): value for tensor, value in zip(graph.inputs, given, strict=True)}
        for op in _needed(graph):
            values = [known[tensor.ref()] for tensor in op.inputs]
            for out, value in zip(op.outputs, self._convert(op, values), strict=True):
                if out.ref() in early:
                    value = Value(early[out.ref()](self._spread(value, out.shape)), True)
                known[out.ref()] = value
        found = [known[tensor.ref()] for tensor in graph.outputs]
        for place, make in late.items():
            found[place] = Value(make(self._spread(found[place], graph.outputs[place].shape)), True)
        return found

    def _convert(self, op: Any, values: list[Value]) -> list[Value]:
        if op.type in OF_SHAPES:
            return [
                Value(tf.constant(_of_shape(op, i), out.dtype), False) for i, out in enumerate(op.outputs)
            ]
        if op.type == "IdentityN":  # of a gradient of the user's own
            return values
        if op.type in static.CALLS:
            return self._graph(op.graph._get_function(op.get_attr("f").name).graph, values)
        if op.op_def.is_stateful:
            raise ValueError(f"{op.type} is not the same at every call")
        if op.type == "Const" and op.outputs[0].dtype in COUNTED:
            return [Value(nodes.constant(tf.get_static_value(op.outputs[0]), op.outputs[0].dtype), False)]
        if not any(value.lanes for value in values):
            return [Value(out, False) for out in _again(op, [value.tensor for value in values])]
        made = self._made(op, values)
        if made is None:
            made = self._by_tensorflow(op, values)
        made = [made] if isinstance(made, tf.Tensor) else made
        for out, one in zip(made, op.outputs, strict=True):  # or broadcasting would hide it
            if out.dtype != one.dtype or not out.shape.is_compatible_with([*one.shape, self.lanes]):
                raise ValueError(f"{op.type} came to {out.dtype.name}{out.shape} of {self.lanes} lanes")
        return [Value(out, True) for out in made]

    def _made(self, op: Any, values: list[Value]) -> Made:
        if op.type in ELEMENTWISE:
            return _again(op, [value.aligned for value in values])
        if op.type in IN_ONE_SHAPE:
            return _again(op, [self._spread(value, op.outputs[0].shape) for value in values])
        if op.type in REDUCTIONS:
            return self._reduce(op, values)
        convert = CONVERTERS.get(op.type)
        return convert(self, op, values) if convert is not None else None

    def _by_tensorflow(self, op: Any, values: list[Value]) -> Sequence[tf.Tensor]:
        if op.type in static.FLOW:
            raise ValueError(f"{op.type} holds operations of its own")
        self.foreign = self.foreign or op.type not in NO_PRODUCTS

        def one(*own: tf.Tensor) -> list[tf.Tensor]:
            lane = iter(own)
            return list(_again(op, [next(lane) if value.lanes else value.tensor for value in values]))

        own = [lift.load(value.tensor, True) for value in values if value.lanes]
        return [lift.store(out, True) for out in lift.map_lanes(one, own)]

    def _spread(self, value: Value, shape: Any) -> tf.Tensor:
        """The value in [*shape, lanes], copied to all lanes where they share it."""
        full = [*shape, self.lanes]
        tensor = value.tensor if value.lanes else nodes.expand_last(value.tensor)
        return tensor if tensor.shape == full else tf.broadcast_to(tensor, full)

    # -- operations of one kind --------------------------------------------------------------------

    def _reduce(self, op: Any, values: list[Value]) -> Made:
        shape, axes = op.inputs[0].shape, _static(op, 1)
        if axes is None:
            return None
        axes = sorted({int(axis) % shape.rank for axis in axes.reshape(-1)}) if shape.rank else []
        if op.type not in FOLDS or not op.inputs[0].dtype.is_floating:
            return _again(op, [values[0].tensor, tf.constant(axes, op.inputs[1].dtype)])
        out = products.folded(values[0].tensor, axes, FOLDS[op.type])
        if op.type == "Mean":
            out = out / tf.constant(math.prod(int(shape[axis]) for axis in axes), out.dtype)
        return nodes.reshape(out, [*op.outputs[0].shape, self.lanes])

    def _matmul(self, op: Any, values: list[Value]) -> Made:
        a, b = (value.aligned for value in values)
        inner = 0 if op.get_attr("transpose_a") else 1, 1 if op.get_attr("transpose_b") else 0
        return products.product(a, b, inner, self._onto.pop(op.outputs[0].ref(), None))

    def _batch_matmul(self, op: Any, values: list[Value]) -> Made:
        return contractions.batch_matmul(op, *(value.aligned for value in values))

    def _einsum(self, op: Any, values: list[Value]) -> Made:
        given = [v.tensor if v.lanes else nodes.expand_last(v.tensor) for v in values]
        return contractions.einsum(op, given)

    def _half_square(self, op: Any, values: list[Value]) -> Made:
        if not products.exact(op):
            return None
        flat = nodes.reshape(values[0].tensor, [-1, self.lanes])
        return products.folded(flat * flat, [0], products.total) / 2

    def _softmax(self, op: Any, values: list[Value]) -> Made:
        logits, axis = values[0].tensor, op.inputs[0].shape.rank - 1
        if axis < 0 or not products.exact(op):
            return None
        shape = [*op.inputs[0].shape[:-1], 1, self.lanes]
        highest = nodes.reshape(products.fold(logits, axis, FOLDS["Max"]), shape)
        apart = logits - highest
        shares = tf.exp(apart)
        whole = nodes.reshape(products.fold(shares, axis, products.total), shape)
        return shares / whole if op.type == "Softmax" else apart - tf.math.log(whole)

    def _convolve(self, op: Any, values: list[Value]) -> Made:
        geometry = convolutions.Geometry.of(op)
        if geometry is None:
            return None
        maps, last = values[0], [value.aligned for value in values]
        onto = self._onto.get(op.outputs[0].ref())
        if maps.lanes or op.type == convolutions.OF_MAPS:
            made = convolved.convolution(op, last, geometry, onto)
        else:
            other = last[2 if op.type == convolutions.OF_FILTERS else 1]
            made = convolved.of_shared_maps(op, maps.tensor, other, geometry, self._patches, onto)
        if made is not None:
            self._onto.pop(op.outputs[0].ref(), None)
            return made
        return self._as_product(op, values, geometry)

    def _as_product(self, op: Any, values: list[Value], geometry: convolutions.Geometry) -> Made:
        def one(*given: tf.Tensor) -> tf.Tensor:
            return convolutions.as_product(op, given, geometry)

        shapes = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in op.inputs]
        made = trace("one", one, shapes)
        return self._graph(made, values)[0].tensor

    def _pool(self, op: Any, values: list[Value]) -> Made:
        given = [*zip(values, op.inputs, strict=True)][op.type == pools.MEAN_GRAD :]  # less a shape
        if not products.exact(op):
            return None
        return pools.pool(op, [self._spread(value, tensor.shape) for value, tensor in given])

    def _bias_add(self, op: Any, values: list[Value]) -> Made:
        return values[0].aligned + values[1].aligned if _channels_last(op) else None

    def _bias_add_grad(self, op: Any, values: list[Value]) -> Made:
        out = products.folded(values[0].tensor, range(op.inputs[0].shape.rank - 1), products.total)
        return out if _channels_last(op) else None

    def _reshape(self, op: Any, values: list[Value]) -> Made:
        if not values[0].lanes:
            return None
        return nodes.reshape(values[0].tensor, [*op.outputs[0].shape, self.lanes])

    def _broadcast_to(self, op: Any, values: list[Value]) -> Made:
        return self._spread(values[0], op.outputs[0].shape)

    def _transpose(self, op: Any, values: list[Value]) -> Made:
        order = _static(op, 1)
        return None if order is None else tf.transpose(values[0].tensor, [*order, len(order)])

    def _tile(self, op: Any, values: list[Value]) -> Made:
        times = _static(op, 1)
        if times is None:
            return None
        copies = all(1 in pair for pair in zip(times, op.inputs[0].shape, strict=True))
        return (
            self._spread(values[0], op.outputs[0].shape) if copies else tf.tile(values[0].tensor, [*times, 1])
        )

    def _pack(self, op: Any, values: list[Value]) -> Made:
        parts = [self._spread(value, op.inputs[0].shape) for value in values]
        return tf.stack(parts, op.get_attr("axis") % op.outputs[0].shape.rank)

    def _unpack(self, op: Any, values: list[Value]) -> Made:
        return nodes.unstack(values[0].tensor, op.get_attr("axis") % op.inputs[0].shape.rank)

    def _split(self, op: Any, values: list[Value]) -> Made:
        axis = _static(op, 0)
        if axis is None:
            return None
        return nodes.split(values[1].tensor, len(op.outputs), int(axis) % op.inputs[1].shape.rank)

    def _select(self, op: Any, values: list[Value]) -> Made:
        mask, yes, no = (self._spread(v, x.shape) for v, x in zip(values, op.inputs, strict=True))
        if op.inputs[0].shape.rank not in (0, op.inputs[1].shape.rank):
            return None  # a row for each number of the mask
        return nodes.where(mask, yes, no)

    def _gather(self, op: Any, values: list[Value]) -> Made:
        axis = _static(op, 2)
        if values[1].lanes or axis is None or op.get_attr("batch_dims"):
            return None
        axis = int(axis) % op.inputs[0].shape.rank
        return tf.gather(values[0].tensor, values[1].tensor, axis=axis)

    def _gather_nd(self, op: Any, values: list[Value]) -> Made:
        return None if values[1].lanes else tf.gather_nd(values[0].tensor, values[1].tensor)

    def _scatter_nd(self, op: Any, values: list[Value]) -> Made:
        if values[0].lanes:
            return None
        return tf.scatter_nd(values[0].tensor, values[1].tensor, [*op.outputs[0].shape, self.lanes])

    def _segment_sum(self, op: Any, values: list[Value]) -> Made:
        count = _static(op, 2)
        if values[1].lanes or count is None:
            return None
        return tf.math.unsorted_segment_sum(values[0].tensor, values[1].tensor, count)

    def _concat(self, op: Any, values: list[Value]) -> Made:
        axis = _static(op, len(values) - 1)
        if axis is None:
            return None
        parts = [
            self._spread(value, old.shape) for value, old in zip(values[:-1], op.inputs[:-1], strict=True)
        ]
        return tf.concat(parts, int(axis) % op.outputs[0].shape.rank)

    def _slice(self, op: Any, values: list[Value]) -> Made:
        begin = _static(op, 1)
        if begin is None:
            return None
        return tf.slice(values[0].tensor, [*begin, 0], [*op.outputs[0].shape, self.lanes])

    def _pad(self, op: Any, values: list[Value]) -> Made:
        widths = _static(op, 1)
        return None if widths is None else tf.pad(values[0].tensor, [*widths.tolist(), [0, 0]])

    def _strided_slice(self, op: Any, values: list[Value]) -> Made:
        if any(value.lanes for value in values[1:]):
            return None
        return tf.raw_ops.StridedSlice(input=values[0].tensor, **_whole_last(op, values[1:4]))

    def _strided_slice_grad(self, op: Any, values: list[Value]) -> Made:
        if any(value.lanes for value in values[:4]):
            return None
        shape = tf.constant([*op.outputs[0].shape, self.lanes], values[0].tensor.dtype)
        return tf.raw_ops.StridedSliceGrad(shape=shape, dy=values[4].tensor, **_whole_last(op, values[1:4]))


CONVERTERS: Mapping[str, Callable[[Lifting, Any, list[Value]], Made]] = {
    **dict.fromkeys(contractions.BATCHED, Lifting._batch_matmul),
    "BiasAdd": Lifting._bias_add,
    "BiasAddGrad": Lifting._bias_add_grad,
    "BroadcastTo": Lifting._broadcast_to,
    "ConcatV2": Lifting._concat,
    **dict.fromkeys(convolutions.KINDS, Lifting._convolve),
    "Einsum": Lifting._einsum,
    "ExpandDims": Lifting._reshape,
    "GatherNd": Lifting._gather_nd,
    "GatherV2": Lifting._gather,
    "L2Loss": Lifting._half_square,
    "LogSoftmax": Lifting._softmax,
    "MatMul": Lifting._matmul,
    "Pack": Lifting._pack,
    "Pad": Lifting._pad,
    **dict.fromkeys(pools.KINDS, Lifting._pool),
    "Reshape": Lifting._reshape,
    "ScatterNd": Lifting._scatter_nd,
    "Select": Lifting._select,
    "Slice": Lifting._slice,
    "Softmax": Lifting._softmax,
    "Split": Lifting._split,
    "Squeeze": Lifting._reshape,
    "StridedSlice": Lifting._strided_slice,
    "StridedSliceGrad": Lifting._strided_slice_grad,
    "Tile": Lifting._tile,
    "Transpose": Lifting._transpose,
    "Unpack": Lifting._unpack,
    "UnsortedSegmentSum": Lifting._segment_sum,
}


def _needed(graph: Any) -> list[Any]:
    """The operations that a graph's outputs are made by, in order, less its inputs."""
    given = {tensor.op for tensor in graph.inputs}
    needed, waiting = set(), [tensor.op for tensor in graph.outputs]
    while waiting:
        op = waiting.pop()
        if op not in needed:
            needed.add(op)
            waiting += [tensor.op for tensor in op.inputs]
    return [op for op in graph.get_operations() if op in needed - given]


def _again(op: Any, inputs: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
    """The outputs of an operation like `op`, of other inputs."""
    graph: Any = tf.compat.v1.get_default_graph()
    kept = {key: value for key, value in op.node_def.attr.items() if not key.startswith("_")}
    types = [out.dtype for out in op.outputs]
    return graph._create_op_internal(
        op.type, list(inputs), types, attrs=kept, name=op.name.split("/")[-1]
    ).outputs


def _whole_last(op: Any, named: list[Value]) -> dict[str, Any]:
    """A strided slice's begin, end, strides and masks, with the last axis whole.

    It is that anyway, being behind all that is named, unless an ellipsis stands for what is not.
    """
    attributes = op.node_def.attr
    masks = {f"{name}_mask": attributes[f"{name}_mask"].i for name in MASKS}
    given = [value.tensor for value in named]
    if masks["ellipsis_mask"]:
        last = 1 << int(given[0].shape[0] or 0)
        masks["begin_mask"], masks["end_mask"] = masks["begin_mask"] | last, masks["end_mask"] | last
        given = [_and_one(tensor) for tensor in given]
    return dict(zip(("begin", "end", "strides"), given, strict=True)) | masks


def _and_one(tensor: tf.Tensor) -> tf.Tensor:
    """A vector of whole numbers with a one behind it; made while tracing where it is known."""
    known = tf.get_static_value(tensor)
    if known is None:
        return tf.concat([tensor, tf.ones([1], tensor.dtype)], 0)
    return nodes.constant([*known, 1], tensor.dtype)


def _static(op: Any, i: int) -> Any:
    """An argument's value; None where it is not known while tracing."""
    return static.value(op.inputs[i])


def _of_shape(op: Any, i: int) -> Any:
    """The value of an output of one of `OF_SHAPES`."""
    shape = op.inputs[i].shape.as_list()
    return {"Rank": len(shape), "Size": math.prod(shape)}.get(op.type, shape)


def _channels_last(op: Any) -> bool:
    return op.get_attr("data_format") in (b"NHWC", "NHWC")


def _makers(graph: Any) -> dict[int, Any]:
    """By the place of a leaf of the result: the tensor that it is but for its shape, where that can be added
    to something as it is made, and nothing else is made of it."""
    found = {}
    for place, tensor in enumerate(graph.outputs):
        others = [*graph.outputs[:place], *graph.outputs[place + 1 :]]
        users: list[Any] = []
        while tensor.consumers() == users and not any(tensor is other for other in others):
            if tensor.op.type in ("Identity", "Reshape"):
                users, tensor = [tensor.op], tensor.op.inputs[0]
                continue
            if tensor.op.type in SUMMED and tensor.shape.is_fully_defined():
                found[place] = tensor
            break
    return found


def _source(tensor: Any) -> Any:
    """What a tensor is, behind operations that pass it on."""
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    return tensor
