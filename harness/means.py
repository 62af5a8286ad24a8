"""Means over whole data sets, some examples after others, so that what a pass makes stays near the core."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from harness import lanes, lift, nodes, products
from harness.lanes_last import Lifting

Nest = Any

SOME = 8  # examples, by which it is measured how much one makes on its way
CLOSE = 1e-4  # metrics that differ by more are others


@dataclass(frozen=True)
class Means:
    """The metrics of a workload that says what each example gives to them.

    Args:
        measure: parameters and a batch → name → values [examples].
        sets: examples by the name of their set, leaves [examples, ...].
    """

    measure: Callable[[Nest, Nest], Mapping[str, tf.Tensor]]
    sets: Mapping[str, Nest]

    @classmethod
    def of(cls, workload: Any, which: str, params: Nest, metrics: Mapping[str, Any]) -> Means | None:
        """Of `monitor` or `evaluate`; None where the workload does not say, or its metrics are others.

        Args:
            params: of a single run.
            metrics: that it gives there.
        """
        if not (hasattr(workload, "measure") and hasattr(workload, "measured")):
            return None
        means = cls(workload.measure, workload.measured(which))
        found = means.alone(params)
        same = found.keys() == metrics.keys() and all(
            close(value, metrics[name]) for name, value in found.items()
        )
        return means if same else None

    def alone(self, params: Nest) -> dict[str, float]:
        """Every metric of a single run."""
        return {
            f"{name}_{k}": float(np.mean(np.asarray(values, np.float64)))
            for name, examples in self.sets.items()
            for k, values in self.measure(params, _constants(examples)).items()
        }

    def of_lanes(self, lifting: Lifting, params: Nest, rounds: tf.Tensor) -> dict[str, tf.Tensor]:
        """Every metric of all lanes, [lanes] float64; `params` are [..., lanes].

        Args:
            rounds: 1, which XLA must not know: it makes one function of a loop, and of nothing else.

        Raises:
            NotLifted: see `Lifting`.
        """
        whole = tf.nest.map_structure(lambda *leaves: np.concatenate(leaves), *self.sets.values())
        sizes = [len(tf.nest.flatten(part)[0]) for part in self.sets.values()]
        total, some = sum(sizes), tf.nest.map_structure(lambda leaf: leaf[:SOME], whole)
        bytes_of_one = lifting.trace(self.measure, [params], [_constants(some)]).bytes / min(SOME, total)
        most = max(1, int(lanes.PART_BYTES / (bytes_of_one * lifting.lanes)))
        count = -(-total // most)
        each = -(-total // count)
        rows = np.arange(count * each) % total  # the last part is filled up, with what does not count
        parts = _constants(
            tf.nest.map_structure(lambda leaf: leaf[rows].reshape(count, each, *leaf.shape[1:]), whole)
        )
        belongs = np.zeros([len(sizes), count * each])
        for i, (last, size) in enumerate(zip(np.cumsum(sizes), sizes, strict=True)):
            belongs[i, last - size : last] = 1 / size
        shares = tf.constant(belongs.reshape(-1, count, each).transpose(1, 2, 0)[:, :, :, None])
        traced = lifting.trace(self.measure, [params], [tf.nest.map_structure(lambda leaf: leaf[0], parts)])
        names = list(traced.like)

        def once(k: tf.Tensor, sums: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            found = lifting.run(traced, [params], [tf.nest.map_structure(lambda leaf: leaf[k], parts)])
            share = shares[k]  # [each, sets, 1]
            more = []
            for name in names:
                values = tf.cast(found[name], tf.float64)[:, None]
                counted = tf.where(share > 0, values * share, 0.0)  # what does not count may be no number
                more.append(products.fold(counted, 0, products.total))
            k = lift.in_kernels(k) if lifting.foreign else k
            return k + 1, sums + tf.stack(more)

        zeros = tf.zeros([len(names), len(sizes), lifting.lanes], tf.float64)
        _, sums = nodes.loop(lambda k, _: k < rounds * count, once, (tf.constant(0), zeros))
        return {f"{s}_{k}": sums[j, i] for i, s in enumerate(self.sets) for j, k in enumerate(names)}


def close(told: float, metric: Any, within: float = CLOSE) -> bool:
    """Whether a mean of what examples give is a metric that the workload gives."""
    return bool(np.isclose(told, float(metric), rtol=within, atol=within, equal_nan=True))


def _constants(nest: Nest) -> Nest:
    return tf.nest.map_structure(tf.constant, nest)
