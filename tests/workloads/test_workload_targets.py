"""Default targets can be reached within the default budgets, from the share of seeds that is said here.

The update rules are written out again here, in two lines each: a workload is tested without optimizers.
"""

import importlib

import numpy as np
import pytest
import tensorflow as tf

SEEDS = 32


def vectorized(function, arguments):
    return tf.vectorized_map(function, arguments, fallback_to_while_loop=False)


def momentum(learning_rate, decay):
    def update(p, g, m, v, t):
        m = decay * m + g
        return p - learning_rate * m, m, v

    return update


def adam(learning_rate):
    def update(p, g, m, v, t):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        corrected = m / (1.0 - 0.9**t), v / (1.0 - 0.999**t)
        return p - learning_rate * corrected[0] / (tf.sqrt(corrected[1]) + 1e-7), m, v

    return update


def first_hits(workload, update, seeds, every):
    """Updates done when each seed first met the target, [seeds] int32; -1 where it did not."""
    is_function = workload.target_metric == "loss"

    def metric(params):
        return workload.objective(params) if is_function else workload.monitor(params)[workload.target_metric]

    def one(place):
        params, m, v, t, *batch = place
        with tf.GradientTape() as tape:
            tape.watch(params)
            loss = workload.loss(params, batch[0] if batch else None)
        gradients = tape.gradient(loss, params)
        leaves = (tf.nest.flatten(nest) for nest in (params, gradients, m, v))
        new = zip(*(update(*each, t) for each in zip(*leaves, strict=True)), strict=True)
        return tuple(tf.nest.pack_sequence_as(params, list(nest)) for nest in new)

    def batches(step):
        example = workload.batch(0, 0)
        if example is None:
            return ()
        signature = tf.nest.map_structure(tf.TensorSpec.from_tensor, example)
        places = tf.range(seeds)
        return (tf.map_fn(lambda seed: workload.batch(seed, step), places, fn_output_signature=signature),)

    starts = tf.nest.map_structure(lambda *each: tf.stack(each), *map(workload.init, range(seeds)))
    zeros = tf.nest.map_structure(tf.zeros_like, starts)

    @tf.function(jit_compile=True)
    def race():
        def one_update(step, params, m, v):
            t = tf.fill([seeds], tf.cast(step + 1, tf.float32))
            return step + 1, *vectorized(one, (params, m, v, t, *batches(step)))

        def body(step, params, m, v, hits):
            values = vectorized(metric, params)
            hits = tf.where((values <= workload.target) & (hits < 0), step, hits)
            block = tf.while_loop(lambda now, *_: now < step + every, one_update, (step, params, m, v))
            return *block, hits

        state = (0, starts, zeros, zeros, tf.fill([seeds], -1))
        return tf.while_loop(lambda step, *_: step <= workload.steps, body, state)[-1]

    return race().numpy()


@pytest.mark.parametrize(
    ("name", "update", "share"),
    [
        ("quartic", adam(0.3), 1.0),
        ("quadratic", momentum(0.018, 0.0), 1.0),
        ("rosenbrock", momentum(5e-4, 0.9), 0.9),
        ("rosenbrock", adam(1.0), 0.9),
        ("beale", adam(1.0), 0.6),
        ("himmelblau", momentum(0.01, 0.0), 1.0),
        ("branin", momentum(0.05, 0.0), 1.0),
        ("rastrigin", momentum(0.05, 0.0), 0.3),
        ("ackley", momentum(0.1, 0.0), 0.9),
        ("styblinski_tang", momentum(0.018, 0.0), 0.25),
        ("digits_logistic", adam(0.05), 1.0),
        ("digits_mlp", adam(0.02), 0.9),
        ("digits_cnn", adam(0.02), 0.9),
    ],
)
def test_the_default_target_is_reached(name, update, share):
    camel = "".join(part.capitalize() for part in name.split("_"))
    workload = getattr(importlib.import_module(f"workloads.{name}"), camel)()
    learns = name.startswith("digits")
    hits = first_hits(workload, update, seeds=6 if learns else SEEDS, every=10 if learns else 1)
    assert np.mean(hits >= 0) >= share
    assert np.median(hits[hits >= 0]) < 0.8 * workload.steps
