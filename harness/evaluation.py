"""A workload's metrics for all lanes of a program at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from harness import lift, nodes
from harness.graphs import Graph, Place
from harness.lanes_last import Lifting, NotLifted, Traced
from harness.means import Means
from harness.tiles import Tiles

Nest = Any

# Of all that is computed on the way, for all lanes: above it, few lanes at a time are faster.
WRITTEN_OUT_BYTES = 64 * 2**20


class Evaluator:
    """A workload's metrics for all lanes at once: `monitor` at recorded points, `evaluate` at the end.

    Args:
        workload: an instance in the program's dtype.
        start: parameters of a single run, whatever their values.
        lanes: how many runs are evaluated together.
        place: where its graphs are kept for the next process.
        last: whether the parameters that are evaluated come as [..., lanes].
    """

    def __init__(
        self,
        workload: Any,
        start: Nest,
        lanes: int,
        *,
        jit: bool = True,
        place: Place | None = None,
        last: bool = False,
    ):
        self.lanes, self.jit = lanes, jit
        # Whole data sets ride in every lane: a few lanes at a time keep them in the cache.
        self.at_once = next(n for n in (4, 3, 2, 1) if lanes % n == 0)

        def lifted(fn: Callable[[Nest], dict[str, Any]], name: str) -> Graph:
            found = fn(start)
            means = Means.of(workload, name, start, found) if last else None

            def one(params: Nest) -> dict[str, Any]:
                return {k: tf.cast(v, tf.float64) for k, v in fn(params).items()}

            def spread(params: Nest, rounds: tf.Tensor) -> dict[str, Any]:
                if not last:
                    return self._spread(one, params)
                if means is not None:
                    with contextlib.suppress(NotLifted):
                        return means.of_lanes(Lifting(lanes), params, rounds)
                return self._written_out(one, params, rounds)

            return Graph(spread, dict.fromkeys(found, 0), jit=jit, name=name, place=place)

        self.graphs = {name: lifted(getattr(workload, name), name) for name in ("monitor", "evaluate")}

    def monitor(self, params: Nest) -> dict[str, tf.Tensor]:
        """The metrics of a recorded point, [lanes] each."""
        return self.graphs["monitor"](params, 1)

    def evaluate(self, params: Nest) -> dict[str, tf.Tensor]:
        """The metrics of a run's end, [lanes] each."""
        return self.graphs["evaluate"](params, 1)

    def _spread(self, one: Callable[[Nest], dict[str, Any]], params: Nest) -> dict[str, Any]:
        """`one` for every lane: [lanes, ...] → name → [lanes]."""
        if self.lanes == 1:
            single = one(tf.nest.map_structure(lambda leaf: leaf[0], params))
            return {k: v[None] for k, v in single.items()}
        rounds = self.lanes // self.at_once
        split = tf.nest.map_structure(
            lambda leaf: tf.reshape(leaf, [rounds, self.at_once, *leaf.shape[1:]]), params
        )
        graph: Any = tf.compat.v1.get_default_graph()
        first = tf.nest.map_structure(lambda leaf: leaf[0], params)
        before = len(graph.get_operations())
        names = list(one(first))
        tiles = Tiles.where_compiled(self.jit and self.at_once > 1)
        if tiles is not None:
            tiles.look(graph.get_operations()[before:], tf.nest.flatten(first))
        spec = {k: tf.TensorSpec([self.at_once], tf.float64) for k in names}

        def some(i: tf.Tensor) -> dict[str, Any]:
            at = lift.in_kernels(i) if tiles is None or tiles.foreign else i
            few = tf.nest.map_structure(lambda leaf: tf.gather(leaf, at), split)
            return lift.map_lanes(one, [few], tiles) if self.at_once > 1 else _alone(one, few)

        values = lift.map_in_turn(some, tf.range(rounds), spec)
        return {k: tf.reshape(v, [self.lanes]) for k, v in values.items()}

    def _written_out(self, one: Callable[[Nest], dict[str, Any]], params: Nest, rounds: tf.Tensor) -> Nest:
        """`one` for every lane: [..., lanes] → name → [lanes]; see `_in_a_loop`."""
        lifting = Lifting(self.lanes)
        traced = lifting.trace(one, [params])
        if traced.bytes * self.lanes <= WRITTEN_OUT_BYTES:
            with contextlib.suppress(NotLifted):
                return self._in_a_loop(lifting, traced, params, rounds)
        return self._spread(one, lift.load(params, True))

    def _in_a_loop(self, lifting: Lifting, traced: Traced, params: Nest, rounds: tf.Tensor) -> Nest:
        """What was traced, for every lane.

        Args:
            rounds: 1, which XLA must not know: it makes one function of a loop, and of nothing else.
        """
        names = list(traced.like)

        def once(k: tf.Tensor, *_: tf.Tensor) -> Any:
            k, given = lift.materialize((k, params))
            found = lifting.run(traced, [given])
            k = lift.in_kernels(k) if lifting.foreign else k
            return k + 1, *(found[name] for name in names)

        begin = [tf.zeros([self.lanes], tf.float64) for _ in names]
        _, *found = nodes.loop(lambda k, *_: k < rounds, once, (tf.constant(0), *begin))
        return dict(zip(names, found, strict=True))

    def compile(self, params: Nest) -> None:
        """Traces and compiles both; `params` are as they are evaluated."""
        self.monitor(params)
        self.evaluate(params)


def _alone(one: Callable[[Nest], dict[str, Any]], few: Nest) -> dict[str, Any]:
    return {k: v[None] for k, v in one(tf.nest.map_structure(lambda leaf: leaf[0], few)).items()}
