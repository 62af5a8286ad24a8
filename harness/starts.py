"""Where the runs of a workload start, by seed: the same for every optimizer and learning rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

Nest = Any


class Start(NamedTuple):
    """Of one seed."""

    params: Nest  # arrays
    value: float  # of the target metric
    loss: float  # of the first batch
    gradient: float  # norm of its gradient


@dataclass(frozen=True)
class Starts:
    """Of some seeds.

    Args:
        seeds: S of them.
        params: initial parameters, arrays [S, ...].
        values, losses, gradients: see `Start`, [S] float64.
        targets: ladders, [LADDER, S] float64.
    """

    seeds: tuple[int, ...]
    params: Nest
    values: np.ndarray
    losses: np.ndarray
    gradients: np.ndarray
    targets: np.ndarray


class StartingPoints:
    """Where the runs of a workload start, each seed looked at once.

    Args:
        workload: an instance in the program's dtype.
        real: dtype of losses and sums.
        parts: of a batch that is looked at a part after another: where each begins, how many examples it
            has, and its share of the loss; empty: it is looked at whole.
    """

    def __init__(self, workload: Any, real: tf.DType, parts: Sequence[tuple[int, int, float]] = ()):
        self.workload, self.real, self.parts = workload, real, parts
        self._known: dict[int, Start] = {}
        self._seen = tf.function(self._look, autograph=False)

    def knows(self, seeds: Sequence[int]) -> bool:
        """Whether all of these seeds have been asked for before."""
        return all(seed in self._known for seed in seeds)

    def of(self, seeds: Sequence[int], ladder: Callable[[float], np.ndarray]) -> Starts:
        """Where the runs of these seeds start.

        Args:
            ladder: makes the targets of a run, [LADDER], from its initial value.
        """
        found = [self._start(seed) for seed in seeds]
        params, *numbers = zip(*found, strict=True)
        return Starts(
            tuple(seeds),
            tf.nest.map_structure(lambda *leaves: np.stack(leaves), *params),
            *(np.array(each) for each in numbers),
            targets=np.stack([ladder(start.value) for start in found], 1),
        )

    def _start(self, seed: int) -> Start:
        if seed not in self._known:
            params = tf.nest.map_structure(tf.convert_to_tensor, self.workload.init(seed))
            loss, gradient, value = self._seen(tf.constant(seed), params)
            if self.workload.target_metric != "loss":
                value = self.workload.monitor(params)[self.workload.target_metric]
            kept = tf.nest.map_structure(lambda leaf: leaf.numpy(), params)
            self._known[seed] = Start(kept, float(value), float(loss), float(gradient))
        return self._known[seed]

    def _look(self, seed: tf.Tensor, params: Nest) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Loss of a run's first batch, the norm of its gradient, and what a target on the loss is compared
        with."""
        batch = self.workload.batch(seed, 0)
        value = self.workload.objective(params)
        found = [self._differentiate(params, batch)] if not self.parts else []
        for first, size, share in self.parts:
            some = tf.nest.map_structure(lambda leaf, i=first, n=size: leaf[i : i + n], batch)
            seen = self._differentiate(params, some)
            found.append([tf.constant(share, each.dtype) * each for each in seen])
        loss, *leaves = (tf.add_n(each) for each in zip(*found, strict=True))
        squares = [tf.reduce_sum(tf.square(tf.cast(leaf, self.real))) for leaf in leaves]
        return loss, tf.sqrt(tf.add_n(squares)), loss if value is None else value

    def _differentiate(self, params: Nest, batch: Nest) -> list[tf.Tensor]:
        """The loss, and its gradient by each leaf of the parameters."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(params)
            loss = self.workload.loss(params, batch)
        none = tf.UnconnectedGradients.ZERO
        gradients = tape.gradient(loss, params, unconnected_gradients=none)
        return [loss, *(tf.convert_to_tensor(leaf) for leaf in tf.nest.flatten(gradients))]
