"""`lift.choose`: a state that is chosen where it is made, and parameters made of what was chosen."""

from __future__ import annotations

import numpy as np

from harness.runtime import tensorflow

tf = tensorflow()

from harness import lift  # noqa: E402  # after TensorFlow is set up


def momentum(params, gradient, velocity):
    new = 0.9 * velocity + gradient
    return params - 0.1 * new, new


def test_lanes_that_go_are_updated_and_others_keep_their_state():
    go = np.array([True, False, True])
    p, g, v = (np.arange(6, dtype=np.float32).reshape(3, 2) + k for k in range(3))

    def lane(params, gradient, velocity, go):
        params, new = momentum(params, gradient, velocity)
        return params, lift.choose(go, new, velocity)

    @tf.function(jit_compile=True)
    def run(*args):
        return lift.map_lanes(lane, args)

    params, state = (out.numpy() for out in run(*map(tf.constant, (p, g, v, go))))
    expected = momentum(p, g, v)
    np.testing.assert_allclose(params[go], expected[0][go], rtol=1e-6)
    np.testing.assert_allclose(state, np.where(go[:, None], expected[1], v), rtol=1e-6)


def test_parameters_are_made_of_what_was_chosen():
    graph = tf.Graph()
    with graph.as_default():
        params, gradient, velocity = (tf.compat.v1.placeholder(tf.float32, [2]) for _ in range(3))
        go = tf.compat.v1.placeholder(tf.bool, [])
        params, new = momentum(params, gradient, velocity)
        chosen = lift.choose(go, new, velocity)
    assert [op.type for op in new.consumers()] == ["SelectV2"]
    product = params.op.inputs[1].op
    assert chosen.op in [read.op for read in product.inputs]


def test_a_history_that_is_shifted_stays_where_a_lane_does_not_go():
    def lane(params, gradient, last, before, go):
        new = tf.identity(gradient)
        state = lift.choose(go, (new, last), (last, before))
        return params - new - last, state

    args = [tf.constant(x) for x in ([0.0, 0.0], [1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [True, False])]
    _, (last, before) = tf.function(lambda *a: lift.map_lanes(lane, a))(*args)
    assert last.numpy().tolist() == [1.0, 4.0]
    assert before.numpy().tolist() == [3.0, 6.0]


def test_what_was_there_before_is_read_as_it_is():
    graph = tf.Graph()
    with graph.as_default():
        step, old = (tf.compat.v1.placeholder(tf.float32, []) for _ in range(2))
        other = step + 1.0  # of the caller's
        go = tf.compat.v1.placeholder(tf.bool, [])
        lift.choose(go, step, old)
    assert step in list(other.op.inputs)
