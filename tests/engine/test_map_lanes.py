"""A function for every lane at once, by TensorFlow's vectorizer, with nothing around it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness import lift
from harness.runtime import tensorflow

tf = tensorflow()

RNG = np.random.default_rng(0)
LANES = 5


def arguments() -> tuple[Any, Any, Any]:
    w, x = RNG.normal(size=(LANES, 3, 4)), RNG.normal(size=(LANES, 4))
    return {"w": tf.constant(w), "x": tf.constant(x)}, tf.constant(RNG.normal(size=3)), tf.constant(2)


def one(params: Any, seen: Any, count: Any) -> Any:
    """What is each lane's own, what all see, and what is the same for all."""
    with tf.GradientTape() as tape:
        tape.watch(params)
        y = tf.linalg.matvec(params["w"], params["x"]) * seen
        loss = tf.reduce_sum(tf.nn.relu(y) ** 2)
    slopes = tape.gradient(loss, params)

    def halve(i: Any, z: Any) -> Any:
        return i + 1, z / 2.0

    _, z = tf.while_loop(lambda i, _: i < count, halve, (0, y))
    return slopes, {"loss": loss, "half": z, "same": seen + 1.0, "number": 3.0}


def mapped(map_lanes: Any, jit: bool) -> Any:
    args = arguments()

    def fn(params: Any, seen: Any, count: Any) -> Any:
        return map_lanes(lambda p: one(p, seen, count), [params])

    return tf.function(fn, jit_compile=jit, autograph=False), args


@pytest.mark.parametrize("jit", [True, False], ids=["compiled", "not compiled"])
def test_the_same_as_one_by_one(jit: bool) -> None:
    fn, args = mapped(lift.map_lanes, jit)
    params, seen, count = args
    slopes, rest = fn(*args)
    assert (sorted(slopes), sorted(rest)) == (["w", "x"], ["half", "loss", "number", "same"])
    for lane in range(LANES):
        mine = one({name: leaf[lane] for name, leaf in params.items()}, seen, count)
        for ours, theirs in zip(tf.nest.flatten((slopes, rest)), tf.nest.flatten(mine), strict=True):
            np.testing.assert_allclose(ours[lane], theirs, rtol=1e-12)


@pytest.mark.parametrize("map_lanes", [lift.map_lanes, lift._map_lanes], ids=["ours", "TensorFlow's"])
def test_nothing_is_traced_but_the_lanes(map_lanes: Any) -> None:
    fn = tf.function(lambda x: map_lanes(lambda v: tf.nn.relu(v) * 2.0, [x]), jit_compile=True)
    kinds = {op.type for op in fn.get_concrete_function(tf.ones([2, 3])).graph.get_operations()}
    around = {"PartitionedCall", "StatefulPartitionedCall"} & kinds
    assert bool(around) == (map_lanes is not lift.map_lanes)
    assert "Relu" in kinds or around


def test_side_effects_are_left_to_tensorflow(capfd: pytest.CaptureFixture[str]) -> None:
    def lane(x: Any) -> Any:
        tf.print("looked at")
        return x * 2.0

    fn = tf.function(lambda x: lift.map_lanes(lane, [x]), autograph=False)
    np.testing.assert_array_equal(fn(tf.constant([1.0, 2.0])), [2.0, 4.0])
    assert "looked at" in capfd.readouterr().err


def test_what_has_no_vectorised_form() -> None:
    fn = tf.function(lambda x: lift.map_lanes(lambda v: tf.unique(v)[0][:1], [x]), autograph=False)
    with pytest.raises(ValueError, match="pfor"):
        fn(tf.ones([2, 3]))


@pytest.mark.parametrize("places", ["each lane's", "all lanes'"])
def test_what_tensorflow_does_not_vectorize(places: str) -> None:
    """Penalties, and gradients of what is picked."""
    x = tf.constant(RNG.normal(size=(LANES, 4, 6)))

    def penalized(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            picked = tf.math.top_k(x, 2)[0] if places == "each lane's" else tf.gather_nd(x, [[1, 2], [1, 2]])
            loss = tf.nn.l2_loss(x) + tf.reduce_sum(picked**3)
        return loss, tape.gradient(loss, x)

    found = tf.function(lambda x: lift.map_lanes(penalized, [x]), jit_compile=True, autograph=False)(x)
    for lane in range(LANES):
        for value, right in zip(found, penalized(x[lane]), strict=True):
            np.testing.assert_allclose(value[lane], right, rtol=1e-12)
