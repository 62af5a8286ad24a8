"""Operations and loops made directly: TensorFlow's own are the reference, in graphs, compiled and eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.runtime import tensorflow

tf = tensorflow()

from harness import nodes  # noqa: E402

HOW: dict[str, Callable[[Any], Any]] = {
    "eager": lambda fn: fn,
    "graph": lambda fn: tf.function(fn, autograph=False),
    "compiled": lambda fn: tf.function(fn, autograph=False, jit_compile=True),
}
how = pytest.mark.parametrize("run", HOW.values(), ids=HOW.keys())

OPERATIONS = {
    "multiply": (lambda x, y, k: nodes.multiply(x, y[:1]), lambda x, y, k: x * y[:1]),
    "add": (lambda x, y, k: nodes.add(x, y[:, :1]), lambda x, y, k: x + y[:, :1]),
    "add a number": (lambda x, y, k: nodes.add(3, k), lambda x, y, k: 3 + k),
    "maximum": (lambda x, y, k: nodes.maximum(x, y), lambda x, y, k: tf.maximum(x, y)),
    "minimum": (lambda x, y, k: nodes.minimum(x, y), lambda x, y, k: tf.minimum(x, y)),
    "less": (lambda x, y, k: nodes.less(x, y), lambda x, y, k: x < y),
    "quotient": (lambda x, y, k: nodes.quotient(k - 7, 3), lambda x, y, k: (k - 7) // 3),
    "remainder": (lambda x, y, k: nodes.remainder(k - 7, 3), lambda x, y, k: (k - 7) % 3),
    "repeat": (
        lambda x, y, k: nodes.repeat(lambda i, z: [z * x + tf.cast(i, x.dtype)], [y], 9, 2, 3)[0],
        lambda x, y, k: ((y * x + 2) * x + 5) * x + 8,
    ),
    "expand_last": (lambda x, y, k: nodes.expand_last(x), lambda x, y, k: x[..., None]),
    "add_n": (lambda x, y, k: nodes.add_n([x, y, x]), lambda x, y, k: x + y + x),
    "add_n of one": (lambda x, y, k: nodes.add_n([x]), lambda x, y, k: x),
    "where": (lambda x, y, k: nodes.where(x[:, :1] > 0, x, y), lambda x, y, k: tf.where(x[:, :1] > 0, x, y)),
    "reshape": (lambda x, y, k: nodes.reshape(x, [2, 3, 2]), lambda x, y, k: tf.reshape(x, [2, 3, 2])),
    "cut": (lambda x, y, k: nodes.cut(x, [1, 0], [2, 2]), lambda x, y, k: x[1:3, :2]),
    "cut somewhere": (lambda x, y, k: nodes.cut(x, [k, 0], [2, 2]), lambda x, y, k: x[k : k + 2, :2]),
    "split": (lambda x, y, k: nodes.split(x, 2, 0)[1], lambda x, y, k: x[2:]),
    "unstack": (lambda x, y, k: nodes.unstack(x, 1)[2], lambda x, y, k: x[:, 2]),
    "stack_of": (lambda x, y, k: nodes.stack_of([k, 7]), lambda x, y, k: tf.stack([k, 7])),
    "constant": (
        lambda x, y, k: nodes.constant([0.5], tf.float64),
        lambda x, y, k: tf.constant([0.5], tf.float64),
    ),
}


@how
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_tensorflow(name: str, run: Any) -> None:
    x, y = (tf.random.stateless_normal([4, 3], [seed, 0]) for seed in (1, 2))
    ours, theirs = OPERATIONS[name]
    found, expected = run(ours)(x, y, tf.constant(2)), run(theirs)(x, y, tf.constant(2))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_a_last_axis_where_sizes_are_not_known() -> None:
    grown = tf.function(nodes.expand_last, input_signature=[tf.TensorSpec([None, 3])], autograph=False)
    assert grown(tf.ones([2, 3])).shape == (2, 3, 1)


@pytest.mark.parametrize("kind", nodes.PLAIN)
def test_whole_numbers_come_to_one_as_tensors_do(kind: str) -> None:
    for x, y in ((7, 3), (-7, 3), (7, -3), (2, 2)):
        tensor = getattr(tf.raw_ops, kind)(x=tf.constant(x), y=tf.constant(y))
        assert nodes.binary(kind, x, y) == tensor.numpy()


def test_equal_constants_of_a_graph_are_one() -> None:
    with tf.Graph().as_default():
        assert nodes.constant([1, 2]) is nodes.constant((1, 2))
        assert nodes.constant(1) is not nodes.constant(1, tf.int64)
        assert nodes.constant([1]) is not nodes.constant(1)
        first = nodes.constant(3)
    with tf.Graph().as_default():
        assert nodes.constant(3) is not first


def powers(loop: Any) -> Any:
    """A loop in a loop, both of which close over tensors; a nest is carried along."""

    def fn(x, y, k):
        def outer(i, kept):
            def inner(j, total):
                return j + 1, total + y * tf.cast(j, y.dtype)

            _, total = loop(lambda j, _: j < k, inner, (tf.constant(0), kept["total"]))
            return i + 1, {"total": total * x, "steps": kept["steps"] + k}

        begin = (tf.constant(0), {"total": x, "steps": tf.constant(0)})
        _, kept = loop(lambda i, _: i < 3, outer, begin)
        return kept["total"] + tf.cast(kept["steps"], x.dtype)

    return fn


@how
def test_a_loop_in_a_loop_is_that_of_tensorflow(run: Any) -> None:
    x, y, k = tf.constant([0.5, 1.5]), tf.constant([2.0, 3.0]), tf.constant(4)
    np.testing.assert_array_equal(run(powers(nodes.loop))(x, y, k), run(powers(tf.while_loop))(x, y, k))


def test_a_loop_is_one_operation_without_counters_of_its_own() -> None:
    made = tf.function(
        lambda x: nodes.loop(lambda i, _: i < 3, lambda i, x: (i + 1, 2.0 * x), (tf.constant(0), x))
    )
    graph = made.get_concrete_function(tf.TensorSpec([2])).graph
    (loop,) = [op for op in graph.get_operations() if "While" in op.type]
    assert loop.type == "StatelessWhile"
    assert len(loop.inputs) == 2


def framed(x: tf.Tensor, rounds: int, change: Any = lambda n, out: out) -> tf.Tensor:
    """The sum over rounds of `x` times the round's number, a row of zeros before and behind it."""

    def add(n: tf.Tensor, total: tf.Tensor) -> list[tf.Tensor]:
        def row(i: tf.Tensor, out: tf.Tensor) -> tf.Tensor:
            own = nodes.cut(x, [i, 0], [1, 3]) * tf.cast(n, x.dtype)
            return nodes.put(out, i + 1, own, xla=False)

        return [total + change(n, nodes.written(row, [6, 3], x.dtype, 4))]

    return nodes.repeat(add, [tf.zeros([6, 3], x.dtype)], rounds)[0]


@how
def test_what_is_written_in_a_round_is_of_that_round(run: Any) -> None:
    x = tf.random.stateless_normal([4, 3], [1, 0])
    found = run(lambda x: framed(x, 4))(x)
    np.testing.assert_allclose(found, np.pad(6 * x.numpy(), [(1, 1), (0, 0)]), rtol=1e-6)


def test_all_rounds_of_all_loops_write_to_one_array() -> None:
    def nested(x: tf.Tensor) -> tf.Tensor:
        return nodes.repeat(lambda k, out: [out + framed(x, 4)], [tf.zeros([6, 3])], 3)[0]

    graph = tf.function(nested).get_concrete_function(tf.TensorSpec([4, 3])).graph
    (outer,) = (op for op in graph.get_operations() if op.type == "StatelessWhile")
    sums_and_space = [i for i in outer.inputs if i.shape == [6, 3]]
    assert len(sums_and_space) == 2, "the array is not an argument of the outermost loop"


@pytest.mark.parametrize("run", [HOW["graph"], HOW["eager"]], ids=["graph", "eager"])
def test_side_effects_in_a_loop_that_writes(run: Any) -> None:
    seen = tf.Variable(0)

    def change(n: tf.Tensor, out: tf.Tensor) -> tf.Tensor:
        seen.assign_add(1)
        return out

    x = tf.ones([4, 3])
    np.testing.assert_allclose(run(lambda x: framed(x, 4, change))(x)[1], [6, 6, 6])
    assert seen.numpy() == 4


@pytest.mark.parametrize("run", [HOW["graph"], HOW["eager"]], ids=["graph", "eager"])
def test_side_effects_in_a_loop_happen_every_round(run: Any) -> None:
    counter = tf.Variable(0)

    def body(i, x):
        counter.assign_add(1)
        return i + 1, x + 1.0

    run(lambda: nodes.loop(lambda i, _: i < 5, body, (tf.constant(0), tf.constant(0.0))))()
    assert int(counter) == 5


@pytest.mark.parametrize("run", [HOW["graph"], HOW["compiled"]], ids=["graph", "compiled"])
@pytest.mark.parametrize(
    "change", [lambda x: tf.cast(x, tf.float64), lambda x: tf.concat([x, x], 0)], ids=["dtype", "shape"]
)
def test_a_loop_keeps_dtypes_and_shapes(change: Any, run: Any) -> None:
    with pytest.raises(ValueError, match=r"begins with float32\(2,\) and makes"):
        run(lambda x: nodes.loop(lambda i, _: i < 5, lambda i, x: (i + 1, change(x)), (tf.constant(0), x)))(
            tf.zeros([2])
        )


def test_a_loop_keeps_its_structure() -> None:
    with pytest.raises(ValueError, match="structure"):
        tf.function(
            lambda: nodes.loop(
                lambda i, _: i < 5, lambda i, x: (i + 1, (x, x)), (tf.constant(0), tf.constant(0.0))
            )
        )()
