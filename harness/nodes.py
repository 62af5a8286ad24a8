"""Operations and loops of a graph that is being traced, made without TensorFlow's look at their arguments.

Tracing is a fifth of what a program takes to compile, and most of it is TensorFlow's own Python. An operation
that is made here takes a fifth of the time, a loop a third, a slice at a place that is not known while
tracing a tenth. Types and shapes are checked all the same, where TensorFlow makes the node. Outside of a
graph they are TensorFlow's own functions.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.attr_value_pb2 import AttrValue, NameAttrList
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow.core.function.polymorphism.function_type import FunctionType
from tensorflow.python.eager.polymorphic_function import atomic_function
from tensorflow.python.framework import ops

from harness.tracing import Tracing

Nest = Any
Size = int | tf.Tensor


@lru_cache(None, typed=True)  # a dtype equals its number in TensorFlow's list
def _attribute(value: Any) -> AttrValue:
    """A number of an operation, or the dtype of something of it, as TensorFlow writes it."""
    return AttrValue(type=value.as_datatype_enum) if isinstance(value, tf.DType) else AttrValue(i=value)


def operation(kind: str, inputs: Sequence[tf.Tensor], **attributes: Any) -> Any:
    """An operation of the graph that is being traced.

    Args:
        kind: TensorFlow's name of it.
        attributes: whole numbers, dtypes, or `AttrValue`; all that have no default.
    """
    graph: Any = ops.get_default_graph()
    given = {k: v if isinstance(v, AttrValue) else _attribute(v) for k, v in attributes.items()}
    return graph._create_op_internal(kind, inputs, attrs=given)


def make(kind: str, inputs: Sequence[tf.Tensor], **attributes: Any) -> Any:
    """The outputs of such an operation."""
    return operation(kind, inputs, **attributes).outputs


def constant(value: Any, dtype: tf.DType = tf.int32) -> tf.Tensor:
    """As `tf.constant`; equal ones of a graph are one."""
    if tf.executing_eagerly():
        return tf.constant(value, dtype)
    array = np.asarray(value, dtype.as_numpy_dtype)
    graph: Any = ops.get_default_graph()
    kept = getattr(graph, "_optgrid_constants", None)
    if kept is None:
        kept = graph._optgrid_constants = {}
    key = dtype, array.shape, array.tobytes()
    if key not in kept:
        sizes = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in array.shape])
        content = TensorProto(dtype=dtype.as_datatype_enum, tensor_shape=sizes, tensor_content=key[-1])
        with tf.control_dependencies(None):
            kept[key] = make("Const", [], value=AttrValue(tensor=content), dtype=dtype)[0]
    return kept[key]


# The type of functions that only loops call, by name: to find it out takes as long as to make the function.
UNSAID = FunctionType([])

PLAIN = {
    "AddV2": operator.add,
    "FloorDiv": operator.floordiv,
    "FloorMod": operator.mod,
    "Less": operator.lt,
    "Maximum": max,
    "Minimum": min,
    "Mul": operator.mul,
}


def binary(kind: str, x: Size, y: Size) -> Any:
    """An operation of TensorFlow's, by its name in `PLAIN`, of two tensors of a dtype; whole numbers of
    Python's are numbers of that dtype, and two of them come to one of Python's."""
    if isinstance(x, int) and isinstance(y, int):
        return PLAIN[kind](x, y)
    dtype = next(each.dtype for each in (x, y) if isinstance(each, tf.Tensor))
    one, other = (constant(each, dtype) if isinstance(each, int) else each for each in (x, y))
    if tf.executing_eagerly():
        return getattr(tf.raw_ops, kind)(x=one, y=other)
    return make(kind, [one, other], T=dtype)[0]


multiply, add, maximum, minimum = (partial(binary, kind) for kind in ("Mul", "AddV2", "Maximum", "Minimum"))
less, quotient, remainder = (partial(binary, kind) for kind in ("Less", "FloorDiv", "FloorMod"))


def add_n(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    """The sum of one tensor or more, in one shape."""
    if len(parts) == 1:
        return parts[0]
    if tf.executing_eagerly():
        return tf.add_n(parts)
    return make("AddN", parts, T=parts[0].dtype, N=len(parts))[0]


def where(mask: tf.Tensor, yes: tf.Tensor, no: tf.Tensor) -> tf.Tensor:
    if tf.executing_eagerly():
        return tf.where(mask, yes, no)
    return make("SelectV2", [mask, yes, no], T=yes.dtype)[0]


def sizes(x: tf.Tensor | tf.TensorSpec) -> list[Any]:
    """Its shape, all of which is known while tracing."""
    return x.shape.as_list()


def reshape(x: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    if tf.executing_eagerly():
        return tf.reshape(x, shape)
    return make("Reshape", [x, constant(shape)], T=x.dtype, Tshape=tf.int32)[0]


def expand_last(x: tf.Tensor) -> tf.Tensor:
    """`x[..., None]`."""
    if not x.shape.is_fully_defined():
        return tf.expand_dims(x, -1)
    sizes: Any = x.shape.as_list()
    return reshape(x, [*sizes, 1])


def stack_of(sizes: Sequence[Size]) -> tf.Tensor:
    """Whole numbers, some of which are known while tracing, as one int32 tensor."""
    if all(isinstance(size, int) for size in sizes):
        return constant(sizes)
    if tf.executing_eagerly():
        return tf.stack(sizes)
    each = [constant(size) if isinstance(size, int) else size for size in sizes]
    return make("Pack", each, T=tf.int32, N=len(each), axis=0)[0]


def cut(x: tf.Tensor, begin: Sequence[Size] | tf.Tensor, size: Sequence[Any]) -> tf.Tensor:
    """As `tf.slice`."""
    if tf.executing_eagerly():
        return tf.slice(x, begin, size)
    start = begin if isinstance(begin, tf.Tensor) else stack_of(begin)
    return make("Slice", [x, start, constant(size)], T=x.dtype, Index=tf.int32)[0]


def row(x: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    """`x[at]`."""
    rest = [int(size) for size in x.shape[1:]]  # pyright: ignore[reportArgumentType]  # known while tracing
    return reshape(cut(x, [at, *[0] * len(rest)], [1, *rest]), rest)


def put(x: tf.Tensor, at: tf.Tensor, rows: tf.Tensor, *, xla: bool) -> tf.Tensor:
    """`x` with `rows` from its row `at` on; in place where a loop carries it.

    Args:
        xla: whether XLA compiles it.
    """
    if not xla or tf.executing_eagerly():
        places = at + tf.range(rows.shape[0])
        return tf.tensor_scatter_nd_update(x, places[:, None], rows)
    begin = stack_of([at, *[0] * (len(x.shape) - 1)])
    return make("XlaDynamicUpdateSlice", [x, rows, begin], T=x.dtype, Tindices=tf.int32)[0]


def split(x: tf.Tensor, count: int, axis: int) -> list[tf.Tensor]:
    """As `tf.split`, in parts of one size."""
    if tf.executing_eagerly():
        return tf.split(x, count, axis)
    return make("Split", [constant(axis), x], T=x.dtype, num_split=count)


def unstack(x: tf.Tensor, axis: int) -> list[tf.Tensor]:
    if tf.executing_eagerly():
        return tf.unstack(x, axis=axis)
    count = int(x.shape[axis])  # pyright: ignore[reportArgumentType]  # shapes are known while tracing
    return make("Unpack", [x], T=x.dtype, num=count, axis=axis)


def barrier(leaves: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """XLA's optimization barrier: the same tensors, of which XLA makes nothing before all are there."""
    dtypes = [leaf.dtype for leaf in leaves]
    return make("XlaOptimizationBarrier", leaves, T=_list(dtypes))


def _list(dtypes: Sequence[tf.DType]) -> AttrValue:
    return AttrValue(list=AttrValue.ListValue(type=[dtype.as_datatype_enum for dtype in dtypes]))


# -- loops ---------------------------------------------------------------------------------------------


def loop(more: Callable[..., Any], body: Callable[..., Any], begin: Sequence[Nest]) -> Any:
    """As `tf.while_loop`, of nests of tensors whose shapes stay as they are, without a way back through it.

    Returns:
        As many nests as there are in `begin`.
    """
    if tf.executing_eagerly():
        return tf.while_loop(more, body, begin)
    graph: Any = ops.get_default_graph()
    leaves = [tf.convert_to_tensor(leaf) for leaf in tf.nest.flatten(tuple(begin))]

    def asked(*now: tf.Tensor) -> list[tf.Tensor]:
        return [more(*tf.nest.pack_sequence_as(tuple(begin), now))]

    def changed(*now: tf.Tensor) -> list[tf.Tensor]:
        out = tuple(body(*tf.nest.pack_sequence_as(tuple(begin), now)))
        tf.nest.assert_same_structure(tuple(begin), out, check_types=False)
        return [tf.convert_to_tensor(leaf) for leaf in tf.nest.flatten(out)]

    question = inner_graph(f"more_{ops.uid()}", asked, leaves)
    spaces: list[Space] = []
    step = inner_graph(f"body_{ops.uid()}", changed, leaves, spaces)
    if any(op._is_stateful for inner in (question, step) for op in inner.get_operations()):
        return tf.while_loop(more, body, begin)  # which keeps side effects, and their order
    # Both see all that either closes over, in one order.
    with step.as_default():
        for tensor in question.external_captures:
            step.capture(tensor)
    closed, outer = step.internal_captures, step.external_captures
    count, around = len(leaves), [Space(graph, space.shape, space.dtype) for space in spaces]
    with question.as_default():
        asking = [_placeholder(space) for space in spaces] + [question.capture(tensor) for tensor in outer]
    step.inputs = step.inputs[:count] + [space.begin for space in spaces] + closed
    question.inputs = question.inputs[:count] + asking
    step.outputs = step.outputs + [space.end for space in spaces] + closed
    for old, new in zip(leaves, step.outputs, strict=False):
        if old.dtype != new.dtype or not old.shape.is_compatible_with(new.shape):
            raise ValueError(
                f"a loop begins with {old.dtype.name}{old.shape} and makes {new.dtype.name}{new.shape}"
            )
    given = [*leaves, *(space.begin for space in around), *outer]
    dtypes = [tensor.dtype for tensor in given]
    out = make(
        "StatelessWhile",
        given,
        T=_list(dtypes),
        cond=_function(question, graph),
        body=_function(step, graph),
        output_shapes=AttrValue(
            list=AttrValue.ListValue(shape=[tensor.shape.as_proto() for tensor in given])
        ),
        _lower_using_switch_merge=AttrValue(b=True),  # where XLA does not compile it
    )
    for space, end in zip(around, out[count:], strict=False):
        space.end = end
    return tf.nest.pack_sequence_as(tuple(begin), out[:count])


class Space:
    """An array that something is written to. In the graph of a loop's rounds it is the array of the round
    before: one for all rounds, which nobody has to fill at the beginning of each.

    Args:
        graph: the one that is being traced.

    Attributes:
        begin: what it holds before: zeros, or what the round before wrote.
        end: what it holds after; the same until something is written.
    """

    def __init__(self, graph: Any, shape: Any, dtype: tf.DType):
        self.shape, self.dtype = tf.TensorShape(shape), dtype
        spaces = getattr(graph, "_optgrid_spaces", None)
        if spaces is None:
            self.begin = tf.zeros(shape, dtype)
        else:
            self.begin = _placeholder(self)
            spaces.append(self)
        self.end = self.begin


def written(
    body: Callable[..., tf.Tensor],
    shape: Sequence[int],
    dtype: tf.DType,
    last: int,
    onto: tf.Tensor | None = None,
) -> tf.Tensor:
    """`out = body(k, out)` for every whole number k below `last`.

    Args:
        body: writes to `out`, and does not read it: at first it holds what was written in the round before
            of a loop around. The places that are written are the same in every round of every such loop; all
            others are zero. What is written is computed even where nobody reads it: a loop around keeps it.
        onto: what `out` holds at first, and `body` may read.
    """
    if onto is not None:
        return repeat(lambda k, out: [body(k, out)], [onto], last)[0]
    space = Space(ops.get_default_graph(), shape, dtype)
    (space.end,) = repeat(lambda k, out: [body(k, out)], [space.begin], last)
    return space.end


def repeat(
    body: Callable[..., Sequence[Nest]], begin: Sequence[Nest], last: int, first: int = 0, each: int = 1
) -> Any:
    """`now = body(k, *now)` for every `each`th whole number k from `first` on, below `last`.

    Returns:
        As many nests as there are in `begin`.
    """

    def more(k: tf.Tensor, *_: Nest) -> tf.Tensor:
        return less(k, last)

    def step(k: tf.Tensor, *now: Nest) -> Sequence[Nest]:
        return add(k, each), *body(k, *now)

    return loop(more, step, (constant(first), *begin))[1:]


def inner_graph(
    name: str, fn: Callable[..., Any], like: Sequence[Any], spaces: list[Space] | None = None
) -> Any:
    """The `FuncGraph` of a function of tensors like these, inside of the one that is being traced.

    Args:
        spaces: takes each `Space` that the function asks for; None: they begin with zeros at every call.
    """
    outer: Any = ops.get_default_graph()
    graph: Any = Tracing(name, collections=outer._collections)
    graph._add_control_dependencies, graph._optgrid_spaces = False, spaces
    with graph.as_default():
        graph.inputs += [_placeholder(tensor) for tensor in like]
        graph.outputs = [graph.capture(tensor) for tensor in fn(*graph.inputs)]
    return graph


def _placeholder(like: Any) -> tf.Tensor:
    """A placeholder for what has the shape and the dtype of another."""
    return make("Placeholder", [], dtype=like.dtype, shape=AttrValue(shape=like.shape.as_proto()))[0]


def _function(inner: Any, outer: Any) -> AttrValue:
    """A graph as a function that operations of the outer one call by its name."""
    made = atomic_function.from_func_graph(inner.name, inner, {}, function_type=UNSAID)
    outer._add_function_recursive(made)
    return AttrValue(func=NameAttrList(name=inner.name))
