"""A step of many lanes in two halves, so that XLA compiles it on two cores.

Of what XLA's CPU backend makes one function, one thread compiles all; of two functions, two threads compile
one each. What the first half finds and the second one reads is in memory between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from harness import lift
from harness.tiles import Tiles, made_of, products_of
from harness.types import Lanes

Nest = Any

# Of numbers in a run's parameters times examples in its batch: below, a step is too short to be called in
# halves, and compiles soon enough.
LEAST = 1 << 20
# A step's update and its books count as so many products. With 3 to 6 compiling takes the same time; running
# takes less the more of the products come before (64-256-256-10: 0.92, 0.90, 0.87 of the time in one function
# with 3, 4 and 6).
REST = 6


class Halves:
    """A function of one lane, cut where about half of what a step has to compile comes before.

    Args:
        fn: of some arguments and a batch.
        args: those arguments, as of all lanes, [lanes, ...].
        batch: specifications of one group's batch.
        tiles: makes its products.

    Attributes:
        worth: whether it can be cut: two products are of what each lane has of its own, and nothing has side
            effects, or would have to stay out of functions.
    """

    def __init__(self, fn: Callable[..., Nest], args: Nest, batch: Nest, lanes: Lanes, tiles: Tiles):
        self.lanes = lanes
        if lanes.groups == 1:
            self.lane = lift.Lane(fn, args, (batch,), tiles)
        else:
            self.lane = lift.Lane(fn, (*args, many(batch, lanes.count)), (), tiles)
        operations = self.lane.operations
        own, kinds = made_of(self.lane.own, operations), {*products_of(operations)}
        at = [i for i, op in enumerate(operations) if op in own and op in kinds]
        self.worth = len(at) > 1 and not self.lane.stateful and not tiles.foreign
        self._between: list[tf.Tensor] = []  # in the lane's graph
        if self.worth:
            last = min((len(at) + REST) // 2, len(at) - 1)  # of the first half's products
            cuts = [self._crossing(own, i) for i in range(at[last - 1] + 1, at[last] + 1)]
            self._between = min(cuts, key=_bytes)

    def _crossing(self, own: set[Any], cut: int) -> list[tf.Tensor]:
        """What the operations from a place on read of those before it, as far as lanes do not share it."""
        read = {x.ref() for op in self.lane.operations[cut:] for x in op.inputs}
        read |= {x.ref() for x in self.lane.graph.outputs}
        before = (op for op in self.lane.operations[:cut] if op in own)
        return [x for op in before for x in op.outputs if x.ref() in read]

    @property
    def between(self) -> list[tf.TensorSpec]:
        """Specifications of what `first` returns."""
        return many(self._between, self.lanes.count)

    def first(self, args: Nest, batches: Nest) -> list[tf.Tensor]:
        """What the second half reads of the first one.

        Args:
            batches: [groups, ...].
        """
        return self.lane.of_all(self._between, *self._given(args, batches))

    def second(self, args: Nest, batches: Nest, between: Sequence[tf.Tensor]) -> Nest:
        """What the function returns, for all lanes."""
        known = zip(self._between, between, strict=True)
        found = self.lane.of_all(self.lane.graph.outputs, *self._given(args, batches), known)
        return tf.nest.pack_sequence_as(self.lane.like, found)

    def _given(self, args: Nest, batches: Nest) -> tuple[Nest, Nest]:
        """What each lane has of its own, and what all share; see `lift.map_groups`."""
        if self.lanes.groups == 1:
            return args, (tf.nest.map_structure(lambda leaf: leaf[0], batches),)
        each = tf.nest.map_structure(lambda leaf: tf.repeat(leaf, self.lanes.width, 0), batches)
        return (*args, each), ()


def many(nest: Nest, count: int) -> Nest:
    """Specifications of so many of each."""
    return tf.nest.map_structure(lambda x: tf.TensorSpec([count, *x.shape], x.dtype), nest)


def _bytes(tensors: Sequence[Any]) -> int:
    return sum(x.shape.num_elements() * x.dtype.size for x in tensors)
