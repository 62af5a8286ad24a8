"""Values that are known while a graph is being traced."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context, execute

FLOW = frozenset({"Case", "If", "StatelessCase", "StatelessIf", "StatelessWhile", "While"})
CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
UNKNOWN = FLOW | CALLS | {"Placeholder"}


def value(tensor: tf.Tensor) -> Any:
    """An array; None where it is not known.

    As `tf.get_static_value`; and of whole numbers (over which axes a gradient is summed, an order of axes)
    also what TensorFlow does not look for: what they are made of is made again, outside of the graph.
    """
    return _value(tensor, {})


def _value(tensor: tf.Tensor, found: dict[Any, Any]) -> Any:
    """`value`; takes what has been found from a dictionary, and puts it there."""
    if tensor.ref() not in found:
        known = tf.get_static_value(tensor)
        found[tensor.ref()] = _made_again(tensor, found) if known is None else known
    return found[tensor.ref()]


def _made_again(tensor: tf.Tensor, found: dict[Any, Any]) -> Any:
    op: Any = tensor.op
    if not tensor.dtype.is_integer or op.type in UNKNOWN or op.op_def.is_stateful:
        return None
    given = [_value(each, found) for each in op.inputs]
    if not given or any(each is None for each in given):
        return None
    attributes: list[Any] = []
    for name in (each.name for each in op.op_def.attr):
        attribute = op.get_attr(name)
        attributes += [name, attribute.as_datatype_enum if isinstance(attribute, tf.DType) else attribute]
    with tf.init_scope():
        inputs = [tf.constant(each, x.dtype) for each, x in zip(given, op.inputs, strict=True)]
        made = execute.execute(op.type, len(op.outputs), inputs, tuple(attributes), context.context())
        return made[tensor.value_index].numpy()
