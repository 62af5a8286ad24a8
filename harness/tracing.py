"""A graph of a function that is being traced, to which operations are added by a shorter way.

TensorFlow's own way writes down for each operation the lines of source that it comes from, colocation,
devices, control flow of the first version and more: 90 µs, of which its core's check of types and shapes is a
fifth. Where none of that was asked for, nothing of it is looked at here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from types import CodeType
from typing import Any

import tensorflow as tf
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.python.client import pywrap_tf_session as core
from tensorflow.python.eager.polymorphic_function import atomic_function
from tensorflow.python.eager.polymorphic_function.polymorphic_function import OptionalXlaContext
from tensorflow.python.framework import errors, op_def_registry, ops
from tensorflow.python.framework.func_graph import FuncGraph, func_graph_from_py_func
from tensorflow.python.framework.ops import Operation
from tensorflow.python.util import tf_stack

# Of which TensorFlow keeps more than dtype and shape.
HANDLES = (tf.resource, tf.variant)


def _here() -> tuple[Any, list[CodeType]]:
    """The lines of source that are being run, and what TensorFlow points to in them without holding it:
    Python gives up what a module's own lines were compiled to once it is imported."""
    frame, held = sys._getframe(), []
    while frame is not None:
        held.append(frame.f_code)
        frame = frame.f_back
    return tf_stack.extract_stack(stacklevel=1), held


# Lines of source that an operation comes from: these, whatever it is, since TensorFlow's vectorizer and XLA
# count on some.
HERE, _HELD = _here()


class Tracing(FuncGraph):
    """As TensorFlow's graph of a function."""

    def _create_op_internal(
        self,
        op_type: str,
        inputs: Sequence[tf.Tensor],
        dtypes: Any = None,
        input_types: Any = None,
        name: str | None = None,
        attrs: dict[str, AttrValue] | None = None,
        op_def: Any = None,
        compute_device: bool = True,
    ) -> Any:
        if self.asks_for_more():
            return super()._create_op_internal(
                op_type, inputs, dtypes, input_types, name, attrs, op_def, compute_device
            )
        return self.add(op_type, inputs, attrs or {}, name)

    def asks_for_more(self) -> bool:
        """Whether the user wants operations to be more than what is computed: after others, on some device,
        with gradients of their own."""
        return bool(
            any(each.control_inputs for each in self._control_dependencies_stack)
            or not (self._control_flow_context is None or self._control_flow_context.IsXLAContext())
            or self._attr_scope_map
            or self._gradient_override_map
            or self._gradient_function_map
            or self._op_to_kernel_label_map
            or self._container
            or self._colocation_stack
            or self._device_function_stack
            or self.capture_by_value
        )

    def add(
        self, kind: str, inputs: Sequence[tf.Tensor], attrs: dict[str, AttrValue], name: str | None = None
    ) -> Any:
        """An operation.

        Args:
            kind: TensorFlow's name of it.
            inputs: of this graph, or of others, which it closes over then.
            attrs: all that have no default.
            name: made one that nothing in the graph has; as it is where it ends with a slash.
        """
        own: list[Any] = [x if getattr(x, "graph", None) is self else self.capture(x) for x in inputs]
        name = name[:-1] if name and name[-1] == "/" else self.unique_name(name or kind)
        with self._c_graph.get() as graph:
            made = core.TF_NewOperation(graph, kind, name)
        begin = 0
        for many in _lists(kind):
            if many is None:
                core.TF_AddInput(made, own[begin]._as_tf_output())
                begin += 1
            else:
                given = attrs[many]
                end = begin + (given.i or len(given.list.type))
                core.TF_AddInputList(made, [x._as_tf_output() for x in own[begin:end]])
                begin = end
        for key, value in attrs.items():
            core.TF_SetAttrValueProto(made, key, value.SerializeToString())
        try:
            finished = core.TF_FinishOperation(made)
        except errors.InvalidArgumentError as error:
            raise ValueError(error.message) from None
        core.TF_SetOpStackTrace(finished, HERE)
        return Operation._from_c_op(finished, self)

    def _validate_in_scope(self, tensor: tf.Tensor) -> None:
        try:
            super()._validate_in_scope(tensor)
        except errors.InaccessibleTensorError:  # which quotes no lines of source here
            words = "is out of scope and cannot be used here: only what a function returns can be used later"
            raise errors.InaccessibleTensorError(f"{tensor!r} {words}") from None

    def _capture_helper(self, tensor: tf.Tensor, name: str) -> tf.Tensor:
        """What stands for a tensor of another graph in this one."""
        if tensor.dtype in HANDLES:
            return super()._capture_helper(tensor, name)
        known = self._function_captures.by_val_internal.get(id(tensor))
        if known is None:
            shape = AttrValue(shape=tensor.shape.as_proto())
            dtype = AttrValue(type=tensor.dtype.as_datatype_enum)
            known = self.add("Placeholder", [], {"dtype": dtype, "shape": shape}, name).outputs[0]
            self._function_captures.add_or_replace(id(tensor), tensor, known)
            self.inputs.append(known)
        known._record_tape(tensor)
        return known


@dataclass(frozen=True)
class Function:
    """What was traced.

    Args:
        graph: TensorFlow's.
        definition: a `FunctionDef`.
    """

    graph: Any
    definition: Any

    @property
    def closed_over(self) -> Sequence[tf.Tensor]:
        """What it is given behind its own arguments."""
        asked = [each() for each in self.graph.deferred_external_captures]
        return [*self.graph.external_captures, *tf.nest.flatten(asked, expand_composites=True)]


def trace(name: str, fn: Callable[..., Any], like: Sequence[Any]) -> Any:
    """The graph of a function of tensors, or nests of them, like these. Operations are done in no order."""
    return func_graph_from_py_func(
        name, fn, like, {}, func_graph=Tracing(name), add_control_dependencies=False
    )


def function(fn: Callable[..., Sequence[tf.Tensor]], like: Sequence[Any]) -> Function:
    """The same as a function that XLA compiles."""
    # Nor is rewritten what TensorFlow calls in it, as `tf.map_fn` does.
    plain = tf.autograph.experimental.do_not_convert(fn)

    def for_xla(*args: tf.Tensor) -> Sequence[tf.Tensor]:
        with OptionalXlaContext(True):  # gradients of branches and loops are made in another way then
            return plain(*args)

    name = f"{fn.__name__}_{ops.uid()}"
    graph = trace(name, for_xla, like)
    made = atomic_function.from_func_graph(name, graph, {"_XlaMustCompile": True, "_noinline": True})
    return Function(graph, made.definition)


@cache
def _lists(kind: str) -> list[str | None]:
    """For each argument of an operation, what says how many tensors it is; None where it is one."""
    given = op_def_registry.get(kind)
    if given is None:
        raise ValueError(f"no operation is named {kind}")
    return [argument.number_attr or argument.type_list_attr or None for argument in given.input_arg]
