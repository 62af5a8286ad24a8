"""Every update rule, step by step, against Keras and Optax, and against closed forms."""

import keras
import numpy as np
import optax
import pytest
import tensorflow as tf

from optimizers._scalars import bias_correction, cast, power
from optimizers.adagrad import Adagrad
from optimizers.adam import Adam
from optimizers.adamw import Adamw
from optimizers.gradient_descent import GradientDescent
from optimizers.lion import Lion
from optimizers.momentum import Momentum
from optimizers.nadam import Nadam
from optimizers.rmsprop import Rmsprop

# Keras adds epsilon to √v, the paper and we to √v̂: with an epsilon of nothing they are one method.
TINY = 1e-40

# Keras takes hyperparameters through float32 on their way to float64: give both sides ones that it keeps.
LOW, HIGH, RATE, DECAY, HALF = 0.75, 0.9375, 0.125, 0.0625, 0.5

KERAS = {
    "gradient_descent": (GradientDescent(), lambda: keras.optimizers.SGD(RATE)),
    "momentum": (Momentum(LOW), lambda: keras.optimizers.SGD(RATE, momentum=LOW)),
    "nesterov": (
        Momentum(LOW, nesterov=True),
        lambda: keras.optimizers.SGD(RATE, momentum=LOW, nesterov=True),
    ),
    "rmsprop": (Rmsprop(rho=HIGH), lambda: keras.optimizers.RMSprop(RATE, rho=HIGH)),
    "rmsprop_momentum": (
        Rmsprop(rho=HIGH, momentum=HALF, epsilon=DECAY),
        lambda: keras.optimizers.RMSprop(RATE, rho=HIGH, momentum=HALF, epsilon=DECAY),
    ),
    "rmsprop_centered": (
        Rmsprop(rho=HIGH, epsilon=DECAY, centered=True),
        lambda: keras.optimizers.RMSprop(RATE, rho=HIGH, epsilon=DECAY, centered=True),
    ),
    "rmsprop_centered_momentum": (
        Rmsprop(rho=LOW, momentum=HALF, epsilon=DECAY, centered=True),
        lambda: keras.optimizers.RMSprop(RATE, rho=LOW, momentum=HALF, epsilon=DECAY, centered=True),
    ),
    "adagrad": (
        Adagrad(initial_accumulator=RATE),
        lambda: keras.optimizers.Adagrad(RATE, initial_accumulator_value=RATE),
    ),
    "adagrad_from_zero": (
        Adagrad(initial_accumulator=0.0, epsilon=DECAY),
        lambda: keras.optimizers.Adagrad(RATE, initial_accumulator_value=0.0, epsilon=DECAY),
    ),
    "adam": (
        Adam(beta_1=HIGH, beta_2=1 - 2.0**-10, epsilon=TINY),
        lambda: keras.optimizers.Adam(RATE, beta_1=HIGH, beta_2=1 - 2.0**-10, epsilon=TINY),
    ),
    "adam_short": (
        Adam(beta_1=HALF, beta_2=LOW, epsilon=TINY),
        lambda: keras.optimizers.Adam(RATE, beta_1=HALF, beta_2=LOW, epsilon=TINY),
    ),
    "amsgrad": (
        Adam(beta_1=HIGH, beta_2=LOW, epsilon=TINY, amsgrad=True),
        lambda: keras.optimizers.Adam(RATE, beta_1=HIGH, beta_2=LOW, epsilon=TINY, amsgrad=True),
    ),
    "adamw": (
        Adamw(beta_1=LOW, beta_2=HIGH, epsilon=TINY, weight_decay=DECAY),
        lambda: keras.optimizers.AdamW(RATE, beta_1=LOW, beta_2=HIGH, epsilon=TINY, weight_decay=DECAY),
    ),
    "lion": (
        Lion(beta_1=LOW, beta_2=HIGH),
        lambda: keras.optimizers.Lion(RATE, beta_1=LOW, beta_2=HIGH),
    ),
    "lion_decay": (
        Lion(beta_1=LOW, beta_2=HIGH, weight_decay=DECAY),
        lambda: keras.optimizers.Lion(RATE, beta_1=LOW, beta_2=HIGH, weight_decay=DECAY),
    ),
}

OPTAX = {
    "gradient_descent": (GradientDescent(), 0.1, optax.sgd(0.1)),
    "momentum": (Momentum(), 0.1, optax.sgd(0.1, momentum=0.9)),
    "nesterov": (Momentum(nesterov=True), 0.1, optax.sgd(0.1, momentum=0.9, nesterov=True)),
    "rmsprop": (Rmsprop(), 0.01, optax.rmsprop(0.01, decay=0.9, eps=1e-7)),
    "rmsprop_momentum": (
        Rmsprop(momentum=0.7, epsilon=1e-3),
        0.01,
        optax.rmsprop(0.01, decay=0.9, eps=1e-3, momentum=0.7),
    ),
    "rmsprop_centered": (
        Rmsprop(centered=True, momentum=0.5),
        0.01,
        optax.rmsprop(0.01, decay=0.9, eps=1e-7, centered=True, momentum=0.5),
    ),
    "adagrad": (Adagrad(), 0.5, optax.adagrad(0.5, initial_accumulator_value=0.1, eps=1e-7)),
    "adam": (Adam(), 0.1, optax.adam(0.1, eps=1e-7)),
    "adam_epsilon": (Adam(epsilon=0.1), 0.1, optax.adam(0.1, eps=0.1)),
    "adamw": (Adamw(epsilon=1e-3), 0.1, optax.adamw(0.1, eps=1e-3, weight_decay=0.004)),
    # Optax has no momentum schedule: μ stays at β₁, which ours reaches at once for a large ψ.
    "nadam": (Nadam(momentum_decay=1e6, epsilon=1e-3), 0.1, optax.nadam(0.1, eps=1e-3)),
    "lion": (Lion(weight_decay=0.3), 0.02, optax.lion(0.02, weight_decay=0.3)),
}


@pytest.mark.parametrize("case", KERAS)
def test_follows_keras(case, descend, ours, by_keras, assert_same):
    optimizer, peer = KERAS[case]
    assert_same(descend(ours(optimizer, RATE)), descend(by_keras(peer())))


def test_nadam_follows_keras(descend, ours, by_keras, assert_same):
    """Keras' momentum schedule has no ψ: it is 1. Its 0.96 is a float32, hence the tolerance of one."""
    optimizer = Nadam(beta_1=LOW, beta_2=HIGH, momentum_decay=1.0)
    peer = keras.optimizers.Nadam(RATE, beta_1=LOW, beta_2=HIGH)
    assert_same(descend(ours(optimizer, RATE)), descend(by_keras(peer)), rtol=1e-6)


@pytest.mark.parametrize("case", OPTAX)
def test_follows_optax(case, descend, ours, by_optax, assert_same):
    optimizer, rate, peer = OPTAX[case]
    assert_same(descend(ours(optimizer, rate)), descend(by_optax(peer)))


def test_nadam_default_decay_lies_between_its_limits(descend, ours):
    """ψ sets how fast μ rises from β₁ / 2 to β₁: the default is neither Keras' nor the constant."""
    default, keras_like = (descend(ours(Nadam(momentum_decay=psi), 0.1)) for psi in (0.004, 1.0))
    assert np.abs(default[10][1] - keras_like[10][1]).max() > 1e-3


def _quadratic(optimizer, rate, curvature, start, steps):
    """Final parameter of f(x) = a x² / 2 from `start`, in float64."""
    params, state = tf.constant(start), optimizer.init(tf.constant(start))
    for t in range(steps):
        params, state = optimizer.update(params, curvature * params, state, rate, tf.constant(t))
    return params.numpy()


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_gradient_descent_on_a_quadratic_is_a_power(rate):
    curvature, start = np.array([0.5, 1.0, 2.0]), np.array([1.0, -2.0, 3.0])
    final = _quadratic(GradientDescent(), rate, curvature, start, 50)
    np.testing.assert_allclose(final, (1 - rate * curvature) ** 50 * start, rtol=1e-12)


@pytest.mark.parametrize("mu", [0.0, 0.5, 0.9])
def test_heavy_ball_on_a_quadratic_is_polyaks_recurrence(mu):
    """x_{t+1} = (1 + μ − α a) x_t − μ x_{t-1}: the powers of its companion matrix, by eigenvalues."""
    rate, curvature, steps = 0.3, 1.7, 60
    values, vectors = np.linalg.eig(np.array([[1 + mu - rate * curvature, -mu], [1.0, 0.0]]))
    expected = (vectors @ np.diag(values**steps) @ np.linalg.inv(vectors) @ np.array([2.0, 2.0]))[0].real
    np.testing.assert_allclose(
        _quadratic(Momentum(mu), rate, curvature, np.array(2.0), steps), expected, rtol=1e-9
    )


def test_nesterov_on_a_quadratic_is_a_matrix_power():
    """With y the look-ahead point and x the iterate: x_{t+1} = (1 − α a) y_t, y = x + μ (x − x_before)."""
    mu, rate, curvature, steps = 0.9, 0.3, 1.7, 60
    shrink = 1 - rate * curvature
    powers = np.linalg.matrix_power(np.array([[(1 + mu) * shrink, -mu * shrink], [1.0, 0.0]]), steps)
    expected = (powers @ np.array([2.0, 2.0 / shrink]))[0]
    final = _quadratic(Momentum(mu, nesterov=True), rate, curvature, np.array(2.0), steps)
    np.testing.assert_allclose(final, expected, rtol=1e-9)


@pytest.mark.parametrize("dtype, units", [(tf.float32, 4), (tf.float64, 4)])
@pytest.mark.parametrize("compiled", [False, True])
def test_bias_correction_keeps_its_digits(dtype, units, compiled):
    t = np.arange(1, 20001)
    for beta in (0.0, 0.5, 0.9, 0.999, 0.99999):
        exact = -np.expm1(t.astype(np.longdouble) * np.log1p(np.longdouble(beta) - 1)) if beta else 1.0
        correct = tf.function(lambda t, beta=beta: bias_correction(beta, t), jit_compile=compiled)
        found = correct(tf.cast(t, dtype)).numpy()
        # log(beta) and t·log(beta) are each rounded once, which a steep exponential passes on.
        error = np.abs(found / exact - 1).astype(float).max()
        assert error < units * np.finfo(dtype.as_numpy_dtype).eps


def test_power_is_a_power():
    exponents = tf.constant([0.0, 0.5, 1.0, 7.0, 300.0], tf.float64)
    np.testing.assert_allclose(power(0.96, exponents), 0.96 ** exponents.numpy(), rtol=1e-14)


def test_numbers_reach_float64_whole():
    assert cast(0.1, tf.float64).numpy() == 0.1
    assert cast(tf.constant(0.1, tf.float64), tf.float64).numpy() == 0.1


@pytest.mark.parametrize(
    "optimizer", [Momentum(), Rmsprop(centered=True), Adagrad(), Adam(), Adamw(), Nadam(), Lion()]
)
def test_bfloat16_is_float32_rounded(optimizer):
    """Arithmetic in float32: in bfloat16 beta_2 = 0.999 would be 1."""
    params = tf.cast([1.0, -0.3, 7.0], tf.bfloat16)
    state = optimizer.init(params)
    for t in range(3):
        grads = tf.cast([0.1 * (t + 1), 2.0, -1.0], tf.bfloat16)
        wide = tf.nest.map_structure(lambda leaf: tf.cast(leaf, tf.float32), (params, grads, state))
        expected = optimizer.update(*wide, 0.01, tf.constant(t))
        params, state = optimizer.update(params, grads, state, 0.01, tf.constant(t))
        for found, exact in zip(tf.nest.flatten((params, state)), tf.nest.flatten(expected), strict=True):
            assert found.dtype == (tf.bfloat16 if found.shape.rank else tf.float32)
            np.testing.assert_array_equal(
                tf.cast(found, tf.float32), tf.cast(tf.cast(exact, found.dtype), tf.float32)
            )


def test_centered_rmsprop_survives_large_steady_gradients():
    """In float32 v − a² rounds below −ε here, and a root of it would be NaN."""
    grads = tf.constant(np.random.default_rng(0).uniform(-2000.0, 2000.0, 1000), tf.float32)
    params = tf.zeros_like(grads)
    optimizer = Rmsprop(centered=True)
    state = optimizer.init(params)
    below = False
    for t in range(300):
        params, state = optimizer.update(params, grads, state, 1e-6, tf.constant(t))
        below |= bool(tf.reduce_any(state["v"] - tf.square(state["a"]) < -1e-7))
    assert below
    assert np.isfinite(params.numpy()).all()
