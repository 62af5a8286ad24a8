"""How the workload suite measures: numbers of nests, differences between them, slopes, lanes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
from scipy import stats

from harness import lift

DIFFERENCE = 1e-6  # step of the central differences, in float64
DIRECTIONS = 8


def leaves(nest: Any) -> list[tf.Tensor]:
    """The tensors of a nest, in order."""
    return [tf.convert_to_tensor(leaf) for leaf in tf.nest.flatten(nest)]


def numbers(nest: Any) -> np.ndarray:
    """Every number of a nest in one vector, [numbers] float64."""
    return np.concatenate([leaf.numpy().astype(np.float64).ravel() for leaf in leaves(nest)])


def unflatten(vectors: np.ndarray, like: Any) -> Any:
    """Numbers as a nest with the structure and dtypes of `like`.

    Args:
        vectors: [..., numbers]; leading axes, where there are any, lead in every leaf.
        like: a nest that holds as many numbers.

    Raises:
        ValueError: it holds another count.
    """
    tensors = leaves(like)
    sizes = [leaf.numpy().size for leaf in tensors]
    if sum(sizes) != vectors.shape[-1]:
        raise ValueError(f"a point has {vectors.shape[-1]} coordinates and the parameters have {sum(sizes)}")
    parts = np.split(vectors, np.cumsum(sizes)[:-1], axis=-1)
    shaped = [
        tf.constant(part.reshape(*vectors.shape[:-1], *leaf.shape), leaf.dtype)
        for part, leaf in zip(parts, tensors, strict=True)
    ]
    return tf.nest.pack_sequence_as(like, shaped)


def finite(nest: Any) -> bool:
    """Whether no number is infinite or NaN."""
    return bool(np.isfinite(numbers(nest)).all())


def equal(one: Any, other: Any) -> bool:
    """Whether every number is the same."""
    return np.array_equal(numbers(one), numbers(other))


def difference(one: Any, other: Any) -> float:
    """Largest difference between two nests, each leaf's relative to 1 + the largest number in it.

    Infinite where one has a number that is not finite and the other has not the same there.
    """
    tf.nest.assert_same_structure(one, other)
    worst = 0.0
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        if a is None and b is None:
            continue
        x, y = numbers(a), numbers(b)
        if np.array_equal(x, y, equal_nan=True):
            continue
        gap = float(np.max(np.abs(x - y)) / (1.0 + np.max(np.abs(y))))
        worst = max(worst, gap if math.isfinite(gap) else math.inf)
    return worst


def lively(nests: list, count: int) -> np.ndarray:
    """The numbers that take most values over some nests of one structure.

    Returns:
        [count or fewer, nests] float64, a row per number.
    """
    rows = np.stack([numbers(nest) for nest in nests], axis=1)
    values = [len(np.unique(row)) for row in rows]
    return rows[np.argsort(values, kind="stable")[-count:]]


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation of two vectors; 0 where one of them is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(stats.spearmanr(one, other)[0])  # pyright: ignore[reportArgumentType]  # its stub is a union


def scaled(nest: Any, factor: float) -> Any:
    """Every number times `factor`, in the nest's own dtypes."""
    return unflatten(numbers(nest) * factor, nest)


def stack(nests: list) -> Any:
    """Nests of one structure as one nest, with a leading axis over them."""
    return tf.nest.map_structure(lambda *tensors: tf.stack(tensors), *nests)


def lane(nest: Any, place: int) -> Any:
    """One place of the leading axis; None stays None."""
    return tf.nest.map_structure(lambda leaf: None if leaf is None else leaf[place], nest)


def vectorized(function: Any, arguments: Any) -> Any:
    """`function` over the leading axis, with an error where an operation cannot be lifted."""
    return lift.map_lanes(function, [arguments])


def value_and_gradients(function: Any, params: Any, *rest: Any) -> tuple[tf.Tensor, Any]:
    """A function of parameters and its gradient; None for a tensor that it does not depend on."""
    with tf.GradientTape() as tape:
        tape.watch(params)
        value = function(params, *rest)
    return value, tape.gradient(value, params)


def everything(workload: Any, params: Any, batch: Any) -> dict[str, Any]:
    """All that is computed from parameters, for one run."""
    loss, gradients = value_and_gradients(workload.loss, params, batch)
    values = {"loss": loss, "gradients": gradients, "monitor": workload.monitor(params)}
    values["evaluate"] = workload.evaluate(params)
    objective = workload.objective(params)
    return values if objective is None else {**values, "objective": objective}


def slope_error(workload: Any, params: Any, batch: Any, seed: int) -> float:
    """Largest error of gradient . direction against central differences of the loss.

    Args:
        workload: in float64.
        params: where.
        batch: the same at all points.
        seed: of the `DIRECTIONS` random unit directions.

    Returns:
        The error relative to 1 + the gradient's norm; NaN where the loss is not a number.
    """
    _, gradients = value_and_gradients(workload.loss, params, batch)
    flat, slope = numbers(params), numbers(gradients)
    generator = np.random.default_rng(seed)
    errors = []
    for _ in range(DIRECTIONS):
        direction = generator.standard_normal(flat.size)
        direction /= np.linalg.norm(direction)
        ahead, behind = (
            float(workload.loss(unflatten(flat + step * direction, params), batch))
            for step in (DIFFERENCE, -DIFFERENCE)
        )
        errors.append(abs((ahead - behind) / (2.0 * DIFFERENCE) - slope @ direction))
    return float(np.max(errors)) / (1.0 + float(np.linalg.norm(slope)))


def bias(workload: Any, params: Any, draws: int) -> float:
    """How far loss and gradient are from the objective's, on average over batches.

    Args:
        workload: one with batches and an objective.
        params: where.
        draws: how many batches.

    Returns:
        The largest of the mean differences of the loss and of the gradient along `DIRECTIONS` random
        directions, each in standard errors of its mean.
    """
    generator = np.random.default_rng(0)
    directions = generator.standard_normal((DIRECTIONS, numbers(params).size))

    def seen(value: tf.Tensor, gradients: Any) -> np.ndarray:
        return np.append(directions @ numbers(gradients), float(value))

    expected = seen(*value_and_gradients(workload.objective, params))
    drawn = np.stack(
        [seen(*value_and_gradients(workload.loss, params, workload.batch(0, step))) for step in range(draws)]
    )
    errors = np.maximum(drawn.std(axis=0) / math.sqrt(draws), np.finfo(float).tiny)
    return float(np.max(np.abs(drawn.mean(axis=0) - expected) / errors))


def values_over_domain(workload: Any, points: int) -> np.ndarray:
    """The objective at random points of the domain, uniform: [points] float64."""
    low, high = np.array(workload.domain, np.float64).T
    places = low + (high - low) * np.random.default_rng(0).random((points, len(low)))
    return numbers(vectorized(workload.objective, unflatten(places, workload.init(0))))
