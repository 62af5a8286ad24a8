"""The test functions against their published formulas, minima and SciPy."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize, stats

from workloads.ackley import Ackley
from workloads.beale import Beale
from workloads.branin import Branin
from workloads.himmelblau import Himmelblau
from workloads.quadratic import Quadratic, rotation
from workloads.quartic import Quartic
from workloads.rastrigin import Rastrigin
from workloads.rosenbrock import Rosenbrock
from workloads.styblinski_tang import StyblinskiTang

# The formulas as the literature writes them, for one point x.
PUBLISHED = {
    Quartic(): lambda x: 2 * x[0] ** 4 + 3 * x[0] ** 3 + 2,
    Quadratic(dimension=3, condition=100.0): lambda x: 0.5 * (x[0] ** 2 + 10 * x[1] ** 2 + 100 * x[2] ** 2),
    Rosenbrock(): lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2,
    Rosenbrock(dimension=5): optimize.rosen,
    Beale(): lambda x: sum((c - x[0] * (1 - x[1] ** (i + 1))) ** 2 for i, c in enumerate((1.5, 2.25, 2.625))),
    Himmelblau(): lambda x: (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2,
    Branin(): lambda x: (
        (x[1] - 5.1 / (4 * np.pi**2) * x[0] ** 2 + 5 / np.pi * x[0] - 6) ** 2
        + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x[0])
        + 10
    ),
    Rastrigin(dimension=3): lambda x: 10 * len(x) + np.sum(x**2 - 10 * np.cos(2 * np.pi * x)),
    Ackley(dimension=3): lambda x: (
        -20 * np.exp(-0.2 * np.sqrt(np.mean(x**2))) - np.exp(np.mean(np.cos(2 * np.pi * x))) + 20 + np.e
    ),
    StyblinskiTang(): lambda x: np.sum(x**4 - 16 * x**2 + 5 * x) / 2,
}
DOUBLE = {dataclasses.replace(function, dtype="float64"): value for function, value in PUBLISHED.items()}
double = pytest.mark.parametrize("function", DOUBLE, ids=repr)


def points_of(function, count, seed=0):
    low, high = np.array(function.domain).T
    return low + (high - low) * np.random.default_rng(seed).random((count, len(low)))


def value_and_gradient(function, point):
    x = tf.constant(point, function.dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function.objective(x)
    return float(value), tape.gradient(value, x).numpy()


@double
def test_value_is_the_published_formula(function):
    points = points_of(function, 200)
    expected = [DOUBLE[function](point) for point in points]
    np.testing.assert_allclose(function.value(tf.constant(points)), expected, rtol=1e-12, atol=1e-11)


@double
def test_leading_axes_are_many_points(function):
    points = points_of(function, 6).reshape(2, 3, -1)
    values = function.value(tf.constant(points)).numpy()
    assert values.shape == (2, 3)
    assert values[1, 2] == pytest.approx(float(function.value(tf.constant(points[1, 2]))), rel=1e-14)


@double
def test_gradient_is_scipys_difference_quotient(function):
    for point in points_of(function, 10, seed=1):
        _, gradient = value_and_gradient(function, point)
        approximate = optimize.approx_fprime(point, DOUBLE[function])
        np.testing.assert_allclose(gradient, approximate, rtol=2e-5, atol=2e-5 * np.abs(gradient).max())


@pytest.mark.parametrize("dimension", [2, 3, 10])
def test_rosenbrock_is_scipys(dimension):
    function = Rosenbrock(dimension=dimension, dtype="float64")
    for point in points_of(function, 20):
        value, gradient = value_and_gradient(function, point)
        assert value == pytest.approx(optimize.rosen(point), rel=1e-12)
        np.testing.assert_allclose(gradient, optimize.rosen_der(point), rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize(
    ("function", "optimum", "minimizers"),
    [
        (Quartic, 0.932129, [[-1.125]]),
        (Quadratic, 0, [[0, 0]]),
        (Rosenbrock, 0, [[1, 1]]),
        (Beale, 0, [[3, 0.5]]),
        (
            Himmelblau,
            0,
            [[3, 2], [-2.805118, 3.131312], [-3.779310, -3.283186], [3.584428, -1.848126]],
        ),
        (Branin, 0.397887, [[-3.14159, 12.275], [3.14159, 2.275], [9.42478, 2.475]]),
        (Rastrigin, 0, [[0, 0]]),
        (Ackley, 0, [[0, 0]]),
        (StyblinskiTang, 2 * -39.16617, [[-2.903534, -2.903534]]),
    ],
)
def test_optimum_and_minimizers_are_the_published_ones(function, optimum, minimizers):
    assert function().optimum == pytest.approx(optimum, abs=1e-5)
    np.testing.assert_allclose(function().minimizers, minimizers, atol=5e-6)  # as printed


@double
def test_scipy_finds_nothing_below_the_optimum_and_no_other_minimizer(function):
    found = []
    for start in points_of(function, 25, seed=2):
        result = optimize.minimize(DOUBLE[function], start, bounds=function.domain)
        assert result.fun >= function.optimum - 1e-12
        if result.fun < function.optimum + 1e-7:
            found.append(result.x)
    listed = np.array(function.minimizers)
    for point in found:
        assert np.abs(listed - point).max(axis=1).min() < 2e-3
    if isinstance(function, Himmelblau | Branin):
        nearest = {int(np.abs(listed - point).max(axis=1).argmin()) for point in found}
        assert nearest == set(range(len(listed)))


@double
def test_value_and_gradient_at_the_minimizers(function):
    for minimizer in function.minimizers:
        value, gradient = value_and_gradient(function, minimizer)
        assert value == pytest.approx(function.optimum, abs=1e-12)
        np.testing.assert_allclose(gradient, 0, atol=1e-12)


def test_quadratic_has_the_condition_number_and_orientation_asked_for():
    function = Quadratic(dimension=4, condition=50.0, rotated=True, dtype="float64")
    columns = [value_and_gradient(function, unit)[1] for unit in np.eye(4)]
    eigenvalues, vectors = np.linalg.eigh(np.stack(columns, axis=1))
    np.testing.assert_allclose(eigenvalues, np.geomspace(1, 50, 4), rtol=1e-12)
    np.testing.assert_allclose(np.abs(vectors.T @ rotation(4)), np.eye(4), atol=1e-12)
    assert np.abs(rotation(4) - np.eye(4)).max() > 0.1
    np.testing.assert_allclose(rotation(4) @ rotation(4).T, np.eye(4), atol=1e-14)


@pytest.mark.parametrize("rotated", [False, True])
def test_gradient_descent_contracts_quadratics_at_nesterovs_rate(rotated):
    condition = 10.0
    function = Quadratic(condition=condition, rotated=rotated, dtype="float64")
    x = function.init(3).numpy()
    for _ in range(20):
        before = np.linalg.norm(x)
        x = x - 2 / (1 + condition) * value_and_gradient(function, x)[1]
        # With two eigenvalues, 1 and the condition number, both errors shrink by the same factor.
        assert np.linalg.norm(x) == pytest.approx((condition - 1) / (condition + 1) * before, rel=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_ackley_is_a_cone_at_its_tip_with_a_finite_gradient(dtype, dimension):
    function = Ackley(dimension=dimension, dtype=dtype)
    value, gradient = value_and_gradient(function, np.zeros(dimension))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)
    for distance in (1e-4, 1e-7, 1e-12):
        point = np.full(dimension, distance)  # where the root mean square is `distance`
        value, gradient = value_and_gradient(function, point)
        assert value == pytest.approx(4 * distance, rel=1e-2)
        np.testing.assert_allclose(gradient, 4 / dimension, rtol=2e-2)
    assert np.isfinite(value_and_gradient(function, np.full(dimension, 1e-30))[1]).all()


@pytest.mark.parametrize("function", [Ackley(), Rastrigin()], ids=repr)
def test_float32_keeps_its_digits_near_the_minimum(function):
    wide = dataclasses.replace(function, dtype="float64")
    for point in np.geomspace(1e-6, 1e-1, 20)[:, None] * [1.0, -0.7]:
        point = point.astype(np.float32)
        exact = float(wide.value(tf.constant(point, tf.float64)))
        assert float(function.value(tf.constant(point))) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("function", PUBLISHED, ids=repr)
def test_starts_are_uniform_in_the_domain_and_the_same_in_every_dtype(function):
    low, high = np.array(function.domain).T
    wide = dataclasses.replace(function, dtype="float64")
    starts = np.array([wide.init(seed).numpy() for seed in range(200)])
    share = (starts - low) / (high - low)
    assert all(stats.kstest(column, "uniform").pvalue > 1e-3 for column in share.T)
    assert len(np.unique(starts)) == starts.size
    for dtype in ("float32", "bfloat16"):
        start = dataclasses.replace(function, dtype=dtype).init(5)
        assert start.dtype.name == dtype
        np.testing.assert_array_equal(start, tf.cast(starts[5], dtype))


def test_a_fixed_start_is_every_seeds_start():
    function = Rosenbrock(start=[-1.2, 1.0])
    assert function == Rosenbrock(start=(-1.2, 1.0))
    assert hash(function) == hash(Rosenbrock(start=(-1.2, 1.0)))
    for seed in (0, 1):
        np.testing.assert_array_equal(function.init(seed), np.float32([-1.2, 1.0]))
    assert float(function.objective(function.init(0))) == pytest.approx(24.2, rel=1e-6)  # Rosenbrock 1960


def test_noise_is_a_linear_term_with_the_given_deviation():
    function = Himmelblau(noise=0.5, dtype="float64")
    x = function.init(0)
    draws = np.array([function.batch(seed, step).numpy() for seed in range(10) for step in range(40)])
    assert draws.shape == (400, 2)
    assert np.abs(draws.mean(axis=0)).max() < 4 * 0.5 / np.sqrt(400)
    assert stats.kstest(draws.ravel() / 0.5, "norm").pvalue > 0.01
    assert abs(np.corrcoef(draws.T)[0, 1]) < 4 / np.sqrt(400)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        loss, objective = function.loss(x, function.batch(3, 7)), function.objective(x)
    assert float(loss - objective) == pytest.approx(float(tf.reduce_sum(function.batch(3, 7) * x)), rel=1e-9)
    noise = tape.gradient(loss, x) - tape.gradient(objective, x)
    np.testing.assert_allclose(noise, function.batch(3, 7), rtol=1e-9)


def test_without_noise_there_is_no_batch_and_the_loss_is_the_objective():
    function = Branin()
    x = function.init(1)
    assert function.batch(0, 0) is None
    assert float(function.loss(x, None)) == float(function.objective(x))
    assert function.monitor(x) == {}
    assert function.evaluate(x) == {}


def test_bfloat16_parameters_are_valued_in_float32():
    function = Beale(dtype="bfloat16", noise=1.0)
    x = function.init(0)
    assert function.loss(x, function.batch(0, 0)).dtype == tf.float32
    expected = DOUBLE[Beale(dtype="float64")](tf.cast(x, tf.float64).numpy())
    assert float(function.objective(x)) == pytest.approx(expected, rel=1e-5)


def test_styblinski_tang_asks_for_a_target_of_another_dimension():
    with pytest.raises(ValueError, match=r"-195\.831"):
        StyblinskiTang(dimension=5)
    assert StyblinskiTang(dimension=5, target=-195.7).optimum == pytest.approx(5 * -39.16617, abs=1e-3)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Beale(noise=-1.0), "noise = -1.0"),
        (lambda: Beale(noise=float("nan")), "noise = nan"),
        (lambda: Beale(start=(1.0,)), "1 coordinates and the function has 2"),
        (lambda: Beale(target=0.0), "above the optimum"),
        (lambda: Beale(target=float("nan")), "can never be reached"),
        (lambda: Beale(steps=0), "steps = 0"),
        (lambda: Beale(dtype="float16"), "float32, float64, bfloat16"),
        (lambda: Rosenbrock(dimension=1), "takes 2 or more"),
        (lambda: Rastrigin(dimension=0), "takes 1 or more"),
        (lambda: Quadratic(condition=0.5), "1 or more"),
        (lambda: Quadratic(condition=float("inf")), "condition = inf"),
    ],
)
def test_fields_that_cannot_be_used_are_refused_with_a_sentence(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()
