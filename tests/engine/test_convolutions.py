"""Convolutions by filters of each run's own: against TensorFlow's, a run at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from harness import convolutions, lift, nodes
from harness.lanes_last import Lifting

LANES = 16
SHAPES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((3, 8, 8, 3), (3, 3, 3, 4), {"padding": "SAME"}),
    ((3, 7, 9, 8), (3, 3, 8, 16), {"padding": "VALID"}),
    ((2, 9, 8, 8), (5, 2, 8, 5), {"padding": "SAME"}),  # sides of even and odd length
    ((2, 6, 5, 2), (3, 3, 2, 5), {"padding": "SAME"}),  # channels too few to make rounds of
    ((2, 6, 5, 8), (1, 1, 8, 17), {"padding": "SAME"}),  # a filter for which no divisor is near
    ((2, 6, 5, 8), (3, 3, 8, 5), {"padding": [[0, 0], [2, 1], [0, 3], [0, 0]]}),
    ((2, 8, 8, 8), (3, 3, 8, 5), {"padding": "SAME", "strides": 2}),
    ((2, 9, 12, 4), (3, 3, 4, 5), {"padding": "SAME", "strides": (2, 3)}),
    ((5, 4, 30, 4), (2, 2, 4, 3), {"padding": "VALID"}),  # rows longer than a round
    ((2, 4, 5, 24), (2, 3, 24, 3), {"padding": "SAME"}),  # channels of an offset in two rounds
    ((2, 4, 5, 17), (3, 3, 17, 3), {"padding": "SAME"}),  # channels for which no divisor is near
    ((4, 4, 4, 8), (3, 3, 8, 5), {"padding": "VALID"}),  # gradients by filters of two rounds
    ((2, 4, 4, 8), (3, 3, 8, 5), {"padding": "VALID"}),  # and of one
]
IDS = [f"{k[0]}x{k[1]}-{k[2]}-{k[3]}-{i}" for i, (_, k, _) in enumerate(SHAPES)]


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def convolved(filters: Any, maps: Any, strides: Any = 1, padding: Any = "SAME", **how: Any) -> list[Any]:
    """A convolution and both its gradients, of one run."""
    with tf.GradientTape() as tape:
        tape.watch([filters, maps])
        out = tf.nn.conv2d(maps, filters, strides, padding, **how)
        loss = tf.reduce_sum(tf.sin(out))
    return [out, *tape.gradient(loss, [filters, maps])]


def alone(filters: np.ndarray, maps: np.ndarray, **how: Any) -> list[np.ndarray]:
    """[lanes, ...] each, by TensorFlow, a run at a time."""
    runs = [convolved(tf.constant(f), tf.constant(m), **how) for f, m in zip(filters, maps, strict=True)]
    return [np.stack([np.asarray(value) for value in values]) for values in zip(*runs, strict=True)]


@pytest.mark.parametrize("shared", [False, True], ids=["own maps", "shared maps"])
@pytest.mark.parametrize(("maps", "filters", "how"), SHAPES, ids=IDS)
def test_lanes_are_runs(maps: Any, filters: Any, how: Any, shared: bool) -> None:
    w = numbers(LANES, *filters, seed=1)
    m = numbers(1 if shared else LANES, *maps, seed=2)
    expected = alone(w, np.repeat(m, LANES, 0) if shared else m, **how)

    def vectorized(w: Any, m: Any) -> Any:
        if shared:
            return lift.map_lanes(lambda f: convolved(f, m[0], **how), [w])
        return lift.map_lanes(lambda f, x: convolved(f, x, **how), [w, m])

    def last(w: Any, m: Any) -> Any:
        lifting, own = Lifting(LANES), [lift.store(w, True)]
        args, given = (own, [m[0]]) if shared else ([*own, lift.store(m, True)], [])
        found = lift.load(lifting(lambda f, x: convolved(f, x, **how), args, given), True)
        assert not lifting.foreign
        return found

    for way in (vectorized, last):
        found = tf.function(way, jit_compile=True, autograph=False)(w, m)
        for value, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(value, right, rtol=1e-11, atol=1e-11, err_msg=way.__name__)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("maps", "filters", "how"), SHAPES)
def test_gradients_are_added_to_what_is_given(maps: Any, filters: Any, how: Any, shared: bool) -> None:
    w, m = numbers(LANES, *filters, seed=1), numbers(*([1] if shared else [LANES]), *maps, seed=2)
    args, given = [lift.store(tf.constant(w), True)], []
    if shared:
        given.append(tf.constant(m[0]))
    else:
        args.append(lift.store(tf.constant(m), True))

    def of_filters(f: Any, x: Any) -> Any:
        return convolved(f, x, **how)[1]

    def alone(args: Any) -> Any:
        return Lifting(LANES)(of_filters, args, given)

    def summed(args: Any, begin: Any) -> Any:
        lifting = Lifting(LANES)
        return lifting.run(lifting.trace(of_filters, args, given), args, given, onto=[begin])

    made = tf.function(alone, jit_compile=True, autograph=False)(args)
    begin = tf.constant(numbers(*made.shape, seed=3))
    found = tf.function(summed, jit_compile=True, autograph=False)(args, begin)
    np.testing.assert_allclose(found, made + begin, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("maps", "filters", "how"), SHAPES[:2] + SHAPES[5:8])
def test_a_single_lane_is_made_by_products(maps: Any, filters: Any, how: Any) -> None:
    w, m = numbers(*filters, seed=1), numbers(*maps, seed=2)

    def single(w: Any, m: Any) -> Any:
        return lift.map_one(lambda f, x: convolved(f, x, **how), [w[None], m[None]], xla=True)

    compiled = tf.function(single, jit_compile=True, autograph=False)
    for value, right in zip(compiled(w, m), convolved(tf.constant(w), tf.constant(m), **how), strict=True):
        np.testing.assert_allclose(value[0], right, rtol=1e-11, atol=1e-11)
    assert not {*convolutions.KINDS} & made_by(compiled.get_concrete_function(w, m).graph)


def test_a_single_lane_needs_no_vectorised_form() -> None:
    def unknown(f: Any, x: Any) -> Any:
        out, of_filters, _ = convolved(f, x)
        return out, of_filters, tf.raw_ops.LinSpace(start=x[0, 0, 0, 0], stop=f[0, 0, 0, 0], num=x.shape[1])

    w, m = numbers(3, 3, 2, 4, seed=1), numbers(2, 6, 5, 2, seed=2)
    with pytest.raises(ValueError, match="LinSpace"):
        tf.function(lambda w, m: lift.map_lanes(unknown, [w[None], m[None]]), autograph=False)(w, m)
    single = tf.function(lambda w, m: lift.map_one(unknown, [w[None], m[None]], xla=True), autograph=False)
    for value, right in zip(single(w, m), unknown(tf.constant(w), tf.constant(m)), strict=True):
        np.testing.assert_allclose(value[0], right, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("flow", ["loop", "condition", "scan"])
def test_a_single_lane_may_have_loops_and_conditions(flow: str) -> None:
    def one(f: Any, x: Any) -> Any:
        out, *slopes = convolved(f, x)
        if flow == "loop":
            out = tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * out), (0, out))[1]
        elif flow == "condition":
            out = tf.cond(out[0, 0, 0, 0] > 0, lambda: out, lambda: -out)
        else:
            out = tf.scan(lambda a, b: a * b, out)
        return out, *slopes

    w, m = numbers(3, 3, 2, 4, seed=1), numbers(2, 6, 5, 2, seed=2)
    single = tf.function(
        lambda w, m: lift.map_one(one, [w[None], m[None]], xla=True), jit_compile=True, autograph=False
    )
    for value, right in zip(single(w, m), one(tf.constant(w), tf.constant(m)), strict=True):
        np.testing.assert_allclose(value[0], right, rtol=1e-11, atol=1e-11)


def made_by(graph: Any) -> set[str]:
    """Kinds of all operations that a graph's outputs are made by."""
    kinds, seen, waiting = set(), set(), [tensor.op for tensor in graph.outputs]
    while waiting:
        op = waiting.pop()
        if op not in seen:
            seen.add(op)
            kinds.add(op.type)
            waiting += [tensor.op for tensor in op.inputs]
    return kinds


@pytest.mark.parametrize("shared", [False, True], ids=["own maps", "shared maps"])
@pytest.mark.parametrize("channels", [2, 8])
def test_zeros_around_maps_stay_zeros_in_every_round_of_a_loop(channels: int, shared: bool) -> None:
    filters, maps = numbers(LANES, 3, 3, channels, 4, seed=1), numbers(LANES, 2, 5, 6, channels, seed=2)
    maps = np.repeat(maps[:1], LANES, 0) if shared else maps

    def lifted(w: Any, m: Any) -> Any:
        w = tf.transpose(w, [1, 2, 3, 4, 0])
        m = m[0] if shared else tf.transpose(m, [1, 2, 3, 4, 0])

        def round_(k: tf.Tensor, sums: Any) -> Any:
            scaled = m * tf.cast(k - 1, m.dtype)
            found = (
                Lifting(LANES)(convolved, [w], [scaled]) if shared else Lifting(LANES)(convolved, [w, scaled])
            )
            return [tf.nest.map_structure(tf.add, sums, found)]

        of_maps = tf.zeros([2, 5, 6, channels, LANES], w.dtype)
        zeros = [tf.zeros([2, 5, 6, 4, LANES], w.dtype), tf.zeros_like(w), of_maps]
        return nodes.repeat(round_, [zeros], 3)[0]

    found = tf.function(lifted, jit_compile=True, autograph=False)(filters, maps)
    rounds = [alone(filters, maps * (k - 1)) for k in range(3)]
    for got, each in zip(found, zip(*rounds, strict=True), strict=True):
        np.testing.assert_allclose(np.moveaxis(got.numpy(), -1, 0), sum(each), rtol=1e-10, atol=1e-10)


def test_holes_in_filters() -> None:
    """TensorFlow has no gradients of such on CPUs: the sum over patches that it takes itself."""
    w, m = numbers(LANES, 3, 3, 4, 5, seed=1), numbers(LANES, 2, 9, 8, 4, seed=2)

    def expected(f: Any, x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([f, x])
            rows = tf.image.extract_patches(x, [1, 3, 3, 1], [1, 1, 1, 1], [1, 2, 2, 1], "VALID")
            out = rows @ tf.reshape(f, [36, 5])
            loss = tf.reduce_sum(tf.sin(out))
        return [out, *tape.gradient(loss, [f, x])]

    found = tf.function(
        lambda w, m: lift.map_lanes(lambda f, x: convolved(f, x, padding="VALID", dilations=2), [w, m]),
        jit_compile=True,
        autograph=False,
    )(w, m)
    for i in range(LANES):
        for value, right in zip(found, expected(tf.constant(w[i]), tf.constant(m[i])), strict=True):
            np.testing.assert_allclose(value[i], right, rtol=1e-11, atol=1e-11)


def test_filters_that_all_lanes_share_are_left_as_they_were() -> None:
    w, m = numbers(3, 3, 4, 5, seed=1), numbers(LANES, 2, 6, 5, 4, seed=2)
    found = lift.map_lanes(lambda x: tf.nn.conv2d(x, w, 1, "SAME"), [tf.constant(m)])
    np.testing.assert_allclose(found[3], tf.nn.conv2d(m[3], w, 1, "SAME"), rtol=1e-12, atol=1e-12)


def test_channels_first_and_groups_of_filters_are_not_known() -> None:
    def op(maps: Any, filters: Any, **how: Any) -> Any:
        graph = tf.Graph()
        with graph.as_default():
            x, f = tf.zeros(maps), tf.zeros(filters)
            return tf.nn.conv2d(x, f, 1, "SAME", **how).op

    assert convolutions.Geometry.of(op([2, 4, 6, 6], [3, 3, 4, 8], data_format="NCHW")) is None
    assert convolutions.Geometry.of(op([2, 6, 6, 4], [3, 3, 2, 8])) is None
    assert convolutions.patch_bytes(op([2, 6, 6, 4], [3, 3, 4, 8])) == 2 * 36 * 9 * 4 * 4


def test_no_patch_is_made_where_lanes_come_last() -> None:
    def last(w: Any, m: Any) -> Any:
        return Lifting(LANES)(lambda f, x: tf.nn.conv2d(x, f, 1, "SAME"), [w, m])

    function = tf.function(last, jit_compile=True, autograph=False)
    w, m = tf.zeros([3, 3, 8, 4, LANES]), tf.zeros([2, 6, 6, 8, LANES])
    text = function.experimental_get_compiler_ir(w, m)(stage="optimized_hlo")
    assert " dot(" not in text and "custom-call" not in text and "convolution" not in text
    assert f"72,{LANES}]" not in text
