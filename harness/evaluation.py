"""A workload's metrics for all lanes of a program at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from harness import lift
from harness.graphs import Graph, Place

Nest = Any


class Evaluator:
    """A workload's metrics for all lanes at once: `monitor` at recorded points, `evaluate` at the end.

    Args:
        workload: an instance in the program's dtype.
        start: parameters of a single run, whatever their values.
        lanes: how many runs are evaluated together.
        place: where its graphs are kept for the next process.
    """

    def __init__(
        self, workload: Any, start: Nest, lanes: int, *, jit: bool = True, place: Place | None = None
    ):
        self.lanes = lanes
        # Whole data sets ride in every lane: a few lanes at a time keep them in the cache.
        self.at_once = next(n for n in (4, 3, 2, 1) if lanes % n == 0)

        def lifted(fn: Callable[[Nest], dict[str, Any]], name: str) -> Graph:
            def one(params: Nest) -> dict[str, Any]:
                return {k: tf.cast(v, tf.float64) for k, v in fn(params).items()}

            like = dict.fromkeys(fn(start), 0)
            return Graph(lambda p: self._spread(one, p), like, jit=jit, name=name, place=place)

        self.monitor = lifted(workload.monitor, "monitor")
        self.evaluate = lifted(workload.evaluate, "evaluate")

    def _spread(self, one: Callable[[Nest], dict[str, Any]], params: Nest) -> dict[str, Any]:
        """`one` for every lane: [lanes, ...] → name → [lanes]."""
        if self.lanes == 1:
            single = one(tf.nest.map_structure(lambda leaf: leaf[0], params))
            return {k: v[None] for k, v in single.items()}
        rounds = self.lanes // self.at_once
        split = tf.nest.map_structure(
            lambda leaf: tf.reshape(leaf, [rounds, self.at_once, *leaf.shape[1:]]), params
        )
        names = list(one(tf.nest.map_structure(lambda leaf: leaf[0], params)))
        spec = {k: tf.TensorSpec([self.at_once], tf.float64) for k in names}

        def some(i: tf.Tensor) -> dict[str, Any]:
            at = lift.in_kernels(i)
            few = tf.nest.map_structure(lambda leaf: tf.gather(leaf, at), split)
            return lift.map_lanes(one, [few]) if self.at_once > 1 else _alone(one, few)

        values = tf.map_fn(some, tf.range(rounds), fn_output_signature=spec)
        return {k: tf.reshape(v, [self.lanes]) for k, v in values.items()}

    def compile(self, params: Nest) -> None:
        """Traces and compiles both; `params` are [lanes, ...]."""
        self.monitor(params)
        self.evaluate(params)


def _alone(one: Callable[[Nest], dict[str, Any]], few: Nest) -> dict[str, Any]:
    return {k: v[None] for k, v in one(tf.nest.map_structure(lambda leaf: leaf[0], few)).items()}
