"""Graphs that are traced by a shorter way: what is in them is what TensorFlow puts there."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tensorflow.python.autograph.core import ag_ctx
from tensorflow.python.framework.func_graph import FuncGraph, func_graph_from_py_func

from harness.runtime import tensorflow

tf = tensorflow()

from harness import lift, nodes, tracing  # noqa: E402
from harness.graphs import Graph  # noqa: E402
from harness.tracing import Tracing, trace  # noqa: E402


def gradient(x: Any) -> Any:
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(tf.nn.softplus(x) * [1.0, 2.0, 3.0]) ** 2
    return tape.gradient(loss, x)


def lists(x: Any) -> Any:
    a, b, c = tf.split(x, 3)
    return tf.concat([tf.stack([a, b]), tf.add_n([c, c, c])[None]], 0), tf.unstack(x)


def scopes(x: Any) -> Any:
    with tf.name_scope("outer"), tf.name_scope("inner"):
        y = tf.sin(x, name="mine")
    return y + tf.sin(x, name="mine")


def after_others(x: Any) -> Any:
    with tf.control_dependencies([tf.debugging.check_numerics(x, "x")]):
        y = tf.identity(x)
        with tf.control_dependencies(None):
            z = tf.exp(x)
    return y + z


def on_a_device(x: Any) -> Any:
    with tf.device("CPU:0"):
        return x * 2


def beside_another(x: Any) -> Any:
    with tf.compat.v1.colocate_with(x):
        return x * 2


@tf.custom_gradient
def with_own_gradient(x: Any) -> Any:
    return tf.tanh(x), lambda dy: dy * x


def own_gradient(x: Any) -> Any:
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = with_own_gradient(x)
    return tape.gradient(y, x)


def randomness(x: Any) -> Any:
    return x + tf.random.stateless_uniform([3], [1, 2])


FUNCTIONS = [gradient, lists, scopes, after_others, on_a_device, beside_another, own_gradient, randomness]


def texts(graph: Any) -> list[str]:
    # Gradients of the user's own are numbered by a counter of the process.
    return [re.sub(r"CustomGradient-\d+", "", str(node)) for node in graph.as_graph_def().node]


@pytest.mark.parametrize("fn", FUNCTIONS)
def test_the_same_operations_under_the_same_names(fn: Callable[[Any], Any]) -> None:
    spec = tf.TensorSpec([3], tf.float32)
    graphs = [
        func_graph_from_py_func("f", fn, [spec], {}, func_graph=kind("f"), add_control_dependencies=False)
        for kind in (FuncGraph, Tracing)
    ]
    assert texts(graphs[0]) == texts(graphs[1])
    assert [out.shape for out in graphs[0].outputs] == [out.shape for out in graphs[1].outputs]


LOSSES = {
    "cond": lambda x: tf.cond(x[0] > 0, lambda: tf.sin(x) * tf.exp(x), lambda: tf.tanh(x) ** 2),
    "switch_case": lambda x: tf.switch_case(
        tf.cast(x[1], tf.int32), [lambda: x * x, lambda: tf.sin(x), lambda: tf.exp(x) * x]
    ),
    "while_loop": lambda x: tf.while_loop(
        lambda i, y: i < 3, lambda i, y: (i + 1, tf.sin(y) * x), (0, x), maximum_iterations=3
    )[1],
    "map_fn": lambda x: tf.map_fn(lambda a: tf.sin(a) * a, x),
    "scan": lambda x: tf.scan(lambda a, b: tf.sin(a) * b, x),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_branches_and_loops_of_the_user_and_their_gradients(kind: str) -> None:
    def look(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(LOSSES[kind](x))
        return loss, tape.gradient(loss, x)

    x = tf.constant([0.5, 2.0, 3.0])
    for ours, theirs in zip(Graph(look, (0, 0), jit=True, name="f")(x), look(x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_python_is_not_rewritten() -> None:
    found: list[Any] = []

    def asks(x: Any) -> Any:
        found.append(ag_ctx.control_status_ctx().status)  # which `tf.map_fn` and others go by
        return x

    Graph(asks, 0, jit=True, name="f")(tf.ones([3]))
    assert found == [ag_ctx.Status.DISABLED]


def test_the_vectorizer_says_what_it_cannot_do() -> None:
    def gradient_of_a_map(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(LOSSES["map_fn"](x))
        return tape.gradient(loss, x)

    def lifted(x: Any) -> Any:
        return lift.map_lanes(gradient_of_a_map, [x])

    with pytest.raises(TypeError, match="variant"):
        Graph(lifted, 0, jit=True, name="f")(tf.ones([4, 3]))


def test_what_a_graph_closes_over() -> None:
    small, large, variable = tf.constant(2.0), tf.ones([200]), tf.Variable(3.0)
    outer = Tracing("outer")
    with outer.as_default():
        x = tf.ones([3])

        def inner(y: Any) -> Any:
            return y * x + small + large[0] + variable

        graph = trace("inner", inner, [tf.TensorSpec([3], tf.float32)])
    assert graph.external_captures[0] is x
    assert [leaf.dtype for leaf in graph.external_captures].count(tf.resource) == 1
    assert len(graph.inputs) == 1 + len(graph.external_captures)


def test_the_lines_that_operations_come_from_are_there() -> None:
    """TensorFlow points to compiled code of Python's without holding it, and reads it when XLA asks."""
    lines = tracing.HERE
    assert len(lines) == len(tracing._HELD)
    assert [line.name for line in lines] == [code.co_name for code in reversed(tracing._HELD)]


def test_complaints_are_tensorflow_s() -> None:
    def wrong(x: Any) -> Any:
        return x + tf.ones([4])

    with pytest.raises(ValueError, match="Dimensions must be equal, but are 3 and 4"):
        trace("f", wrong, [tf.TensorSpec([3], tf.float32)])


def test_a_tensor_that_is_used_where_it_is_not() -> None:
    kept: list[Any] = []

    def leaks(x: Any) -> Any:
        kept.append(tf.sin(x))
        return x

    def outside(x: Any) -> Any:
        trace("inner", leaks, [x])
        return x + kept[0]

    with pytest.raises(ValueError, match=r"Sin.*is out of scope"):
        trace("f", outside, [tf.TensorSpec([3], tf.float32)])


@pytest.mark.parametrize(
    "dtype", [tf.int32, tf.int64, tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.bool]
)
def test_constants_are_what_they_were(dtype: Any) -> None:
    for value in (np.arange(6).reshape(2, 3), np.zeros([0, 2]), np.array(3)):
        array = value.astype(dtype.as_numpy_dtype)
        graph = trace("f", lambda: nodes.constant(array, dtype), [])  # noqa: B023
        found = tf.get_static_value(graph.outputs[0])
        assert found.dtype == array.dtype and found.shape == array.shape
        np.testing.assert_array_equal(found, array)
