"""Which runs are in the lanes: empty lanes, and lanes whose runs begin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from harness import lift
from harness.graphs import Graph, tensor
from harness.lanemaths import Inputs, LaneMaths
from harness.segments import LADDER, Carry

Nest = Any


class Seating:
    """Makes carries in which runs begin.

    Args:
        maths: of the lanes.
        stability: whether the sums behind parameter stability are kept.
        lockstep: whether all lanes begin together.
        graph: makes what keeps a traced function; see `LaneProgram`.
    """

    def __init__(self, maths: LaneMaths, *, stability: bool, lockstep: bool, graph: Callable[..., Graph]):
        self.maths, self.stability, self.lockstep = maths, stability, lockstep
        self._empty: Carry | None = None
        self._unbegun: Carry | None = None
        self._first_state: Nest | None = None  # where it is the same for all runs
        # These move values and make zeros only, so XLA would add compile time and nothing else.
        self._begin = graph(maths.begin, maths.state, jit=False)
        self._seat = graph(self._seat_lanes, self.empty(), jit=False)

    def seat(self, carry: Carry, inputs: Inputs, fresh: tf.Tensor) -> Carry:
        """The carry with the runs of `inputs` begun in the lanes that are `fresh` (bool [lanes]); in lockstep
        all others are idle."""
        if not self.lockstep:
            return self._seat(carry, inputs, fresh)
        # To choose between old and new per field would take three times as long.
        state = self._first_state if self._first_state is not None else self._begin(inputs)
        if self._begin.fixed:
            self._first_state = state
        return self._reset(self._stored(inputs.begin), state, fresh)

    def _zeros(self, nest: Nest) -> Nest:
        count = self.maths.lanes.count

        def zero(leaf: tf.Tensor) -> tf.Tensor:
            return tf.zeros([*leaf.shape, count] if self.maths.trailing else [count, *leaf.shape], leaf.dtype)

        return tf.nest.map_structure(zero, nest)

    def empty(self) -> Carry:
        """A carry whose lanes are all idle."""
        if self._empty is None:
            with tf.init_scope():
                self._empty = self._idle()
        return self._empty

    def _idle(self) -> Carry:
        n, stability = self.maths.lanes.count, self.stability
        whole, real = tf.zeros([n], tf.int32), tf.zeros([n], self.maths.real)
        return Carry(
            params=self._zeros(self.maths.start),
            state=self._zeros(self.maths.state),
            previous=self._zeros(self.maths.start) if stability else (),
            tail_mean=self._zeros(self.maths.start) if stability else (),
            step=whole,
            live=tf.zeros([n], tf.bool),
            diverged=tf.zeros([n], tf.bool),
            final=real,
            best=real,
            best_step=whole,
            hits=tf.fill([LADDER, n], -1),
            last_miss=tf.fill([n], -1),
            path=real,
            turns=whole,
            tail_count=whole,
            tail_square=real,
        )

    def _stored(self, begin: Nest) -> Nest:
        """Parameters [lanes, ...] in the memory layout, turned by the host, which takes a tenth of a call."""
        turn = self.maths.trailing

        def stored(leaf: Any) -> tf.Tensor:
            return tensor(np.moveaxis(np.asarray(leaf), 0, -1) if turn else np.asarray(leaf))

        return tf.nest.map_structure(stored, begin)

    def _reset(self, params: Nest, state: Nest, live: tf.Tensor) -> Carry:
        """A carry whose `live` lanes begin."""
        if self._unbegun is None:
            with tf.init_scope():
                best = tf.fill([self.maths.lanes.count], tf.constant(np.inf, self.maths.real))
                self._unbegun = self.empty()._replace(best=best)
        return self._unbegun._replace(params=params, state=state, live=live)

    def _seat_lanes(self, carry: Carry, inputs: Inputs, fresh: tf.Tensor) -> Carry:
        begin, everyone = (
            lift.store(inputs.begin, self.maths.trailing),
            tf.ones([self.maths.lanes.count], tf.bool),
        )
        reset = self._reset(begin, self.maths.begin(inputs), everyone)
        nests = {"params", "state", "previous", "tail_mean"}
        fields = {}
        for name, new, old in zip(Carry._fields, reset, carry, strict=True):
            # All but the nests of parameters keep lanes last, whatever the layout.
            fields[name] = lift.select(fresh, new, old, self.maths.trailing or name not in nests)
        return Carry(**fields)
