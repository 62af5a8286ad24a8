"""What is random in the steps of a call, drawn ahead of them.

Where a workload says what its batches are made of (`workloads._types.Drawing`), that of a call's steps is
drawn at once, by a program of its own that is the same for all optimizers. Drawn in the loop of steps it is
many small operations: a tenth of what a network's program takes to compile, and four fifths of what a noisy
function takes to run.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import tensorflow as tf

from harness import nodes
from harness.graphs import Beside, Graph, Place

Nest = Any

TOGETHER = 256  # steps, of one group: vectors long enough that a loop's own cost is little
LARGE = 2**16  # bytes of a step, of one group: more is drawn by the step itself, or a call could hold few


class NotDrawn(Exception):
    """Steps cannot be drawn ahead where the workload says so; each may still draw its own."""


class Drawing:
    """What a workload's steps draw; makes what draws it, once for all programs of a shape.

    Args:
        workload: offers `draws` and `batch_of`.
        place: of a shape, where the graph is kept for the next process.
    """

    def __init__(self, workload: Any, place: Callable[[list[int]], Place | None] = lambda shape: None):
        self.workload, self.place = workload, place
        probe = tf.nest.map_structure(tf.convert_to_tensor, workload.draws(0, tf.constant([0])))
        self.specs = tf.nest.map_structure(lambda leaf: tf.TensorSpec(leaf.shape[1:], leaf.dtype), probe)
        self._made: dict[tuple[int, int], Draws] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, workload: Any, *place: Callable[[list[int]], Place | None]) -> Drawing | None:
        """None where the workload does not offer it or draws much, or where batches are not made of draws."""
        try:
            made = cls(workload, *place) if agrees(workload) else None
        except Exception:  # a plug-in's: each step draws its own, which the user may have seen to work
            return None
        return made if made is not None and 0 < made.bytes <= LARGE else None

    @property
    def bytes(self) -> int:
        """Of a step."""
        leaves = tf.nest.flatten(self.specs)
        return sum(math.prod(nodes.sizes(spec)) * spec.dtype.size for spec in leaves)

    def ahead(self, groups: int, rows: int) -> Draws:
        """What draws for calls of so many steps at most, and groups of lanes with one seed each."""
        with self._lock:
            if (groups, rows) not in self._made:
                place = self.place([groups, rows])
                self._made[groups, rows] = Draws(self.workload, self.specs, groups, rows, place)
            return self._made[groups, rows]


class Draws:
    """The draws of a call's steps; see `Drawing`.

    Args:
        specs: of one step.
    """

    def __init__(self, workload: Any, specs: Nest, groups: int, rows: int, place: Place | None = None):
        self.workload, self.specs, self.groups = workload, specs, groups
        rounds = -(-rows // TOGETHER)
        self.together = -(-rows // rounds)
        self.rows = rounds * self.together
        self._draw = Graph(self._drawn, specs, jit=True, name="drawn", place=place)
        nobody = np.zeros(groups, np.int32)
        self._beside = Beside(lambda: self(nobody, nobody, 0))

    def compile(self, run: Callable[[Callable[[], None]], Any] = lambda fn: fn()) -> Future[None]:
        """Begins to trace and to compile; see `Beside.begin`."""
        return self._beside.begin(run)

    def __call__(self, seeds: Any, steps: Any, count: int) -> Nest:
        """Leaves [groups, rows, ...]: of each group `count` steps from one on; rows behind them mean nothing.

        Args:
            seeds, steps: int32 [groups].
        """
        return self._draw(seeds, steps, np.int32(count))

    def none(self) -> Nest:
        """What has the shape of draws."""
        return tf.nest.map_structure(lambda spec: tf.zeros(self._shape(spec), spec.dtype), self.specs)

    def _shape(self, spec: tf.TensorSpec) -> list[int]:
        return [self.groups, self.rows, *nodes.sizes(spec)]

    def _drawn(self, seeds: tf.Tensor, steps: tf.Tensor, count: tf.Tensor) -> Nest:
        along = nodes.constant(np.arange(self.together))
        specs = tf.nest.flatten(self.specs)

        def some(k: tf.Tensor, *drawn: tf.Tensor) -> tuple[tf.Tensor, ...]:
            group = nodes.remainder(k, self.groups)
            begin = nodes.multiply(nodes.quotient(k, self.groups), self.together)
            new = self.workload.draws(nodes.row(seeds, group), nodes.row(steps, group) + begin + along)
            at = nodes.add(nodes.multiply(group, self.rows), begin)
            leaves = zip(drawn, tf.nest.flatten(new), strict=True)
            return k + 1, *(nodes.put(old, at, leaf, xla=True) for old, leaf in leaves)

        last = (count + self.together - 1) // self.together * self.groups
        flat = [tf.zeros([self.groups * self.rows, *nodes.sizes(spec)], spec.dtype) for spec in specs]
        _, *drawn = nodes.loop(lambda k, *_: k < last, some, (nodes.constant(0), *flat))
        leaves = [nodes.reshape(leaf, self._shape(spec)) for leaf, spec in zip(drawn, specs, strict=True)]
        return tf.nest.pack_sequence_as(self.specs, leaves)


def agrees(workload: Any) -> bool:
    """Whether the workload says what its batches are made of, and makes them of that, to the bit: as far as
    is looked, and unless a class wrote `batch` anew and took the rest from another."""
    if not (hasattr(workload, "draws") and hasattr(workload, "batch_of")) or workload.batch(0, 0) is None:
        return False
    if _written_at(workload, "batch") < min(_written_at(workload, name) for name in ("draws", "batch_of")):
        return False
    return all(_agrees_at(workload, *place) for place in ((3, 5), (0, int(workload.steps))))


def _written_at(workload: Any, name: str) -> int:
    """By how many classes a method was inherited; -1: it is the object's own."""
    if name in getattr(workload, "__dict__", {}):
        return -1
    return next((i for i, each in enumerate(type(workload).__mro__) if name in vars(each)), -1)


def _agrees_at(workload: Any, seed: int, step: int) -> bool:
    draw = tf.nest.map_structure(lambda leaf: leaf[0], workload.draws(seed, tf.constant([step])))
    batches = workload.batch(seed, step), workload.batch_of(draw)
    tf.nest.assert_same_structure(*batches)
    one, other = ([np.asarray(leaf) for leaf in tf.nest.flatten(batch)] for batch in batches)
    return all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(one, other, strict=True)
    )


def of_step(drawn: Nest, row: tf.Tensor) -> Nest:
    """The draws of one of a call's steps, leaves [groups, ...]."""

    def at(leaf: tf.Tensor) -> tf.Tensor:
        groups, _, *rest = nodes.sizes(leaf)
        found = nodes.cut(leaf, [0, row, *[0] * len(rest)], [groups, 1, *rest])
        return nodes.reshape(found, [groups, *rest])

    return tf.nest.map_structure(at, drawn)
