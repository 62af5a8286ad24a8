"""Traced functions in other operations: what XLA computes is the same to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness import bridge, catalog, graphs, tracing
from harness.runtime import tensorflow

tf = tensorflow()

DTYPES = ["float32", "float64", "float16"]


def values(dtype: str) -> np.ndarray:
    """Ordinary numbers, tiny and huge ones, both zeros and infinities, and what is no number."""
    rng = np.random.default_rng(0)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 0.5, 1.0, -1.0, 1.5, 2.5, -0.5, 6.0]
    with np.errstate(over="ignore"):
        return np.array([*rng.normal(0, 3, 500), *np.exp(rng.normal(0, 20, 500)), *special]).astype(dtype)


def compiled(fn: Callable[..., Any], *args: Any) -> tuple[bytes, bytes]:
    """What XLA makes of it as it was traced, and reworded."""
    plain = tf.function(fn, jit_compile=True, autograph=False)(*args)
    return plain.numpy().tobytes(), graphs.Graph(fn, 0, jit=True, name="f")(*args).numpy().tobytes()


def kinds(fn: Callable[..., Any], *args: Any) -> set[str]:
    """The operations of a function and of those that it calls, reworded."""
    functions = graphs._functions(tracing.function(fn, args), jit=True)
    return {node.op for function in functions for node in function.node_def}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [*bridge.UNARY, "Inv", "IsFinite", "Reciprocal", "Sign"])
def test_operations_of_one_tensor(kind: str, dtype: str) -> None:
    make = getattr(tf.raw_ops, kind)
    name = "features" if bridge.UNARY.get(kind) == "activations" else "x"
    x = tf.constant(values(dtype))
    plain, reworded = compiled(lambda x: make(**{name: x}), x)
    assert plain == reworded
    assert kind not in kinds(lambda x: make(**{name: x}), x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_of_a_rectifier(dtype: str) -> None:
    features = tf.constant(values(dtype))
    gradients = tf.reverse(features, [0])

    def fn(gradients: Any, features: Any) -> Any:
        return tf.raw_ops.ReluGrad(gradients=gradients, features=features)

    plain, reworded = compiled(fn, gradients, features)
    assert plain == reworded
    assert "ReluGrad" not in kinds(fn, gradients, features)


def test_inside_of_loops_and_where_a_result_is_used_twice_and_returned() -> None:
    def fn(x: Any) -> Any:
        def body(i: Any, x: Any) -> Any:
            root = tf.sqrt(tf.nn.relu(x) + 1.0)
            return i + 1, root * root + tf.sign(root) - root

        _, x = tf.while_loop(lambda i, _: i < 3, body, (0, x))
        return tf.tanh(x)

    x = tf.constant([-1.0, 0.5, 3.0])
    plain, reworded = compiled(fn, x)
    assert plain == reworded
    assert not kinds(fn, x) & {"Sqrt", "Sign", "Relu", "Tanh"}


def test_all_that_is_returned_has_its_new_name() -> None:
    def many(x: Any) -> list[Any]:
        out = [tf.raw_ops.ReluGrad(gradients=x + k, features=x) for k in range(40)]
        return [*out, *(tf.sign(x + k) for k in range(40))]

    x = tf.constant(values("float32"))
    found = graphs.Graph(many, [0] * 80, jit=True, name="many")(x)
    plain = tf.function(many, jit_compile=True, autograph=False)(x)
    for one, other in zip(found, plain, strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_dtypes_are_left() -> None:
    assert "Abs" in kinds(tf.abs, tf.constant([1, -2]))
    assert "Sqrt" in kinds(tf.sqrt, tf.constant([1.0], tf.bfloat16))
    assert compiled(tf.abs, tf.constant([1, -2]))[1] == np.array([1, 2], np.int32).tobytes()


def test_what_happens_after_another_operation_still_does() -> None:
    def fn(x: Any) -> Any:
        with tf.control_dependencies([tf.debugging.assert_positive(x)]):
            return tf.sign(x)

    (function, *_) = graphs._functions(tracing.function(fn, [tf.constant([1.0])]), jit=True)
    (chosen,) = (node for node in function.node_def if node.op == "SelectV2" and node.name.endswith("Sign"))
    assert any(name.startswith("^") for name in chosen.input)


def test_names_that_another_function_has_already() -> None:
    def traced(fn: Callable[..., Any], name: str = "") -> Any:
        made = tracing.function(fn, [tf.TensorSpec([1], tf.float32)])
        made.definition.signature.name = name or made.definition.signature.name
        return made

    def root(x: Any) -> Any:
        return tf.sqrt(x)

    def square(x: Any) -> Any:
        return tf.square(x)

    x = [tf.constant([4.0])]
    first = traced(root)
    name = first.definition.signature.name
    functions = [graphs._functions(made, jit=True) for made in (first, traced(root, name))]
    calls = [graphs._called(each, list) for each in functions]
    assert functions[0][0].signature.name == functions[1][0].signature.name
    functions.append(graphs._functions(traced(square, name), jit=True))
    calls.append(graphs._called(functions[-1], list))
    assert functions[0][0].signature.name != functions[2][0].signature.name
    assert [call(x)[0].numpy() for call in calls] == [2.0, 2.0, 16.0]


def costly(fn: Callable[..., Any], *args: Any) -> set[str]:
    return kinds(fn, *args) & {*bridge.UNARY, "Sign", "ReluGrad", "Select", "IsFinite", "IsNan", "IsInf"}


@pytest.mark.parametrize("name", sorted(catalog.entries("optimizer")))
def test_no_rule_of_ours_costs_much(name: str) -> None:
    made = catalog.load(catalog.find("optimizer", name))()
    params = {"w": tf.ones([3, 4]), "b": tf.ones([4])}
    state = made.init(params)

    def update(params: Any, gradients: Any, state: Any, step: Any) -> Any:
        return tf.nest.flatten(made.update(params, gradients, state, tf.constant(0.1, tf.float64), step))

    assert costly(update, params, params, state, tf.constant(3)) == set()
