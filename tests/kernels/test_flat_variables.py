"""Parameters in one buffer: the same training as with a variable per tensor."""

import numpy as np
import pytest
import tensorflow as tf

from optimizers import FlatVariables, VariableOptimizer
from optimizers.adam import Adam


def values() -> dict[str, tf.Tensor]:
    return {
        "w": tf.random.stateless_normal([5, 3], [1, 0]),
        "b": tf.random.stateless_normal([3], [2, 0]),
        "wide": tf.cast(tf.random.stateless_normal([2], [3, 0]), tf.float64),
    }


def loss_of(params) -> tf.Tensor:
    out = tf.matmul(tf.ones([4, 5]), params["w"]) + params["b"]
    return tf.reduce_sum(tf.square(out)) + tf.cast(tf.reduce_sum(params["wide"] ** 4), tf.float32)


@pytest.mark.parametrize("compiled", [False, True])
def test_training_is_that_of_separate_variables(compiled):
    flat = FlatVariables(values())
    separate = {key: tf.Variable(value) for key, value in values().items()}
    one, many = VariableOptimizer(Adam(), 0.1), VariableOptimizer(Adam(), 0.1)
    one.build(flat.buffers)
    many.build(separate.values())

    @tf.function(jit_compile=compiled)
    def step():
        with tf.GradientTape() as tape:
            loss = loss_of(flat())
        one.apply_gradients(zip(tape.gradient(loss, flat.buffers), flat.buffers, strict=True))
        with tf.GradientTape() as tape:
            loss = loss_of(separate)
        listed = list(separate.values())
        many.apply_gradients(zip(tape.gradient(loss, listed), listed, strict=True))

    for _ in range(5):
        step()
    for key, value in flat().items():
        np.testing.assert_allclose(value, separate[key], rtol=1e-6)
        assert value.shape == separate[key].shape and value.dtype == separate[key].dtype


def test_there_is_one_buffer_per_dtype_and_a_checkpoint_keeps_it(tmp_path):
    flat = FlatVariables(values())
    assert {(b.dtype.name, *b.shape) for b in flat.buffers} == {("float32", 18), ("float64", 2)}
    path = tf.train.Checkpoint(parameters=flat).save(str(tmp_path / "ckpt"))
    other = FlatVariables({key: tf.zeros_like(value) for key, value in values().items()})
    tf.train.Checkpoint(parameters=other).restore(path).assert_consumed()
    for key, value in values().items():
        np.testing.assert_array_equal(other()[key], value)


def test_mistakes_are_sentences():
    with pytest.raises(ValueError, match="only floats"):
        FlatVariables([tf.constant(1)])
    with pytest.raises(ValueError, match="no parameters"):
        FlatVariables([])
