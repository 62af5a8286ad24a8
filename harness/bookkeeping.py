"""What a call's trace of values comes to: first hits of targets, best and last values, steps, divergence.

The long part, over all steps, is a program of its own. None of it depends on the optimizer or the workload:
it is compiled once for all programs of a process that have as many lanes and rows. The short part, a number a
lane, is the host's.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from harness import nodes
from harness.graphs import Graph, Place
from harness.segments import LADDER, Carry, Moving, Stability

Nest = Any

# Rows that are looked at together: few enough to stay near the core while lanes look for their next targets.
BLOCK = 50


@dataclass(frozen=True)
class Form:
    """What the program depends on: lanes, rows of a trace, their dtype, and whether XLA compiles it."""

    lanes: int
    rows: int
    real: tf.DType
    jit: bool


class Trace:
    """Values of a call's steps, [rows, lanes]: infinity where a lane did not go or was not fine.

    They are kept in a variable, which programs change in place. Of an argument XLA makes a copy first, and of
    one of a megabyte in parts that it leaves to other threads, which may be at work on another tile.

    Args:
        form: decides the shape.
    """

    def __init__(self, form: Form):
        self.shape, self.dtype = [form.rows, form.lanes], form.real

    def make(self) -> tf.Tensor:
        """A variable's handle; the variable lives as long."""
        raw: Any = tf.raw_ops
        # Not a `tf.Variable`: strategies would make one for each of their replicas.
        handle = raw.VarHandleOp(dtype=self.dtype, shape=self.shape, shared_name=context.anonymous_name())
        self.write(handle, tf.zeros(self.shape, self.dtype))
        return handle

    def read(self, handle: tf.Tensor) -> tf.Tensor:
        value = tf.raw_ops.ReadVariableOp(resource=handle, dtype=self.dtype)
        return tf.ensure_shape(value, self.shape)

    def write(self, handle: tf.Tensor, value: tf.Tensor) -> Any:
        """Returns what was done, where it is traced."""
        return tf.raw_ops.AssignVariableOp(resource=handle, value=value)


class Ran(NamedTuple):
    """What a call of a lanes' program gives; [lanes] unless stated."""

    moving: Moving
    trace: Any  # a handle, see `Trace`
    count: Any  # steps that were made, of all alike; rows from it on mean nothing
    points: Nest  # [strides per call + 2, quantities, lanes], the last row for nothing; () where not kept
    early: Nest  # [early steps, quantities, lanes], likewise

    @property
    def steps(self) -> int:
        return int(np.asarray(self.count)[0])


class Found(NamedTuple):
    """What is looked for in a trace; the first three as in `Carry`."""

    best: Any
    best_step: Any
    hits: Any
    final: Any
    seen: Any  # values of each lane


class Bookkeeper:
    """Keeps the books of lanes.

    Args:
        form: decides the shapes.
        place: where its graph is kept for the next process.
    """

    def __init__(self, form: Form, place: Place | None = None):
        self.form = form
        self.trace = Trace(form)
        self._look = Graph(
            self._look_through, Found(*[0] * 5), jit=form.jit, name="look_through", place=place
        )
        self._mine = threading.local()
        self._compiled, self._lock = False, threading.Lock()

    def compile(self) -> None:
        """Traces and compiles, once, whoever asks: looks through a trace without rows."""
        with self._lock:
            if not self._compiled:
                self._idle()
            self._compiled = True

    def _idle(self) -> None:
        n, real = self.form.lanes, tf.zeros([self.form.lanes], self.form.real)
        whole, ladder = tf.zeros([n], tf.int32), tf.zeros([LADDER, n], tf.int32)
        old, targets = Found(real, whole, ladder, real, whole), tf.cast(ladder, self.form.real)
        self._look(self.handle, old, whole, tf.constant(0), targets)

    @property
    def handle(self) -> tf.Tensor:
        """A trace for this thread's calls, one after another."""
        if not hasattr(self._mine, "handle"):
            self._mine.handle = self.trace.make()
        return self._mine.handle

    def _look_through(self, handle: tf.Tensor, old: Found, step: Any, count: Any, targets: Any) -> Found:
        return look_through(old, step, self.trace.read(handle), count, targets)

    def look(self, carry: Carry, ran: Ran, targets: tf.Tensor) -> Found:
        """What was found before a call and in its trace.

        Args:
            carry: before the call.
            targets: [LADDER, lanes], none above the one before it.
        """
        none = np.zeros(self.form.lanes, np.int32)
        old = Found(carry.best, carry.best_step, carry.hits, carry.final, none)
        return self._look(ran.trace, old, carry.step, np.int32(ran.steps), targets)


def after(
    carry: Carry, ran: Ran, found: Found, go: np.ndarray, targets: tf.Tensor, budget: int, *, at_target: bool
) -> Carry:
    """The carry after a call.

    Args:
        carry: before it.
        go: bool [lanes], who might take part.
        targets: [LADDER, lanes].
        budget: of a run, in steps.
        at_target: whether a run ends at its last target.
    """
    live, step, seen = np.asarray(carry.live), np.asarray(carry.step), np.asarray(found.seen)
    moving, going = ran.moving, np.asarray(ran.moving.going)
    acting = live & go
    ended = acting & ~going
    done = ended & (seen > 0) & (step + seen > budget)
    if at_target:
        done |= ended & (seen > 0) & (np.asarray(found.final) <= np.asarray(targets)[-1])
    kept = moving.stability._asdict() if isinstance(moving.stability, Stability) else {}
    return carry._replace(
        params=moving.params,
        state=moving.state,
        step=step + seen - done,
        live=np.where(acting, going, live),
        diverged=np.asarray(carry.diverged) | (ended & ~done),
        final=found.final,
        best=found.best,
        best_step=found.best_step,
        hits=found.hits,
        last_miss=moving.last_miss,
        **kept,
    )


def look_through(
    old: Found, step: tf.Tensor, trace: tf.Tensor, count: tf.Tensor, targets: tf.Tensor
) -> Found:
    """What was found before a call and in its trace.

    Args:
        step: of each lane, before the call.
        trace: [rows, lanes].
        count: a scalar, of its rows that mean something.
        targets: [LADDER, lanes], none above the one before it.
    """

    def block(begin: tf.Tensor, old: Found) -> Nest:
        size = tf.minimum(count - begin, BLOCK)
        low, at, final, seen = _look_down(trace, begin, size, old)
        hits = _first_hits(old.hits, trace, begin, size, step + begin, low, targets)
        best_step = nodes.where(low < old.best, step + begin + at, old.best_step)
        return begin + BLOCK, Found(tf.minimum(old.best, low), best_step, hits, final, seen)

    return nodes.loop(lambda begin, _: begin < count, block, (nodes.constant(0), old))[1]


def _look_down(
    trace: tf.Tensor, begin: tf.Tensor, size: tf.Tensor, old: Found
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Of a block's rows: the lowest value of each lane (infinity where it has none) and its row in the block;
    and the last value, and how many there are, since the call began.

    Row by row, so that it is whole vectors of lanes: XLA makes a reduction by column.
    """

    def look(j: tf.Tensor, low: tf.Tensor, at: tf.Tensor, final: tf.Tensor, seen: tf.Tensor) -> Nest:
        row = nodes.row(trace, begin + j)
        fine = row < np.inf
        at = nodes.where(row < low, j, at)
        return j + 1, tf.minimum(low, row), at, nodes.where(fine, row, final), seen + tf.cast(fine, tf.int32)

    infinity = tf.fill([trace.shape[1]], tf.constant(np.inf, trace.dtype))
    start = (nodes.constant(0), infinity, tf.zeros_like(old.seen), old.final, old.seen)
    return nodes.loop(lambda j, *_: j < size, look, start)[1:]


def _first_hits(
    hits: tf.Tensor,
    trace: tf.Tensor,
    begin: tf.Tensor,
    size: tf.Tensor,
    place: tf.Tensor,
    low: tf.Tensor,
    targets: tf.Tensor,
) -> tf.Tensor:
    """The hits with those of a block: in each round every lane looks for the target that comes next for it,
    until none reaches another. Few lanes reach more than one or two of the twelve in a block.

    Args:
        hits: before the block, [LADDER, lanes].
        trace: of which `size` rows from `begin` on are the block.
        place: of its first row, a step of each lane's.
        low: the lowest values of the block, [lanes].
    """
    places = tf.range(LADDER)[:, None]

    def upcoming(reached: tf.Tensor) -> tf.Tensor:
        """The first target that is not reached yet; minus infinity where all are."""
        return tf.reduce_max(tf.where(places == reached, targets, -np.inf), 0)

    def more(i: tf.Tensor, reached: tf.Tensor, target: tf.Tensor, hits: tf.Tensor) -> tf.Tensor:
        return (i < LADDER) & tf.reduce_any(low <= target)

    def look(i: tf.Tensor, reached: tf.Tensor, target: tf.Tensor, hits: tf.Tensor) -> Nest:
        hit = low <= target

        def earlier(j: tf.Tensor, first: tf.Tensor) -> Nest:  # from the last row on
            return j - 1, nodes.where(nodes.row(trace, begin + j) <= target, j, first)

        _, first = nodes.loop(lambda j, _: j >= 0, earlier, (size - 1, tf.zeros_like(reached)))
        hits = tf.where((places == reached) & hit, place + first, hits)
        reached = reached + tf.cast(hit, tf.int32)
        return i + 1, reached, upcoming(reached), hits

    reached = tf.reduce_sum(tf.cast(hits >= 0, tf.int32), 0)
    return nodes.loop(more, look, (nodes.constant(0), reached, upcoming(reached), hits))[3]


def distances(
    params: Nest, starts: Nest, tail_count: np.ndarray, tail_square: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How far from its start a run is, and the spread of its parameters over the last tenth: the square root
    of the variance over steps, averaged over coordinates; [runs] each, float64.

    Args:
        params, starts: leaves [runs, ...].
        tail_count, tail_square: of these runs, see `Carry`.
    """
    square, size = np.zeros(len(tail_count)), 0
    for now, start in zip(tf.nest.flatten(params), tf.nest.flatten(starts), strict=True):
        gap = (now.astype(np.float64) - start.astype(np.float64)).reshape(len(square), -1)
        # In one order in memory, so that a run's sum is the same whoever else is there.
        square += np.einsum("ij,ij->i", *[np.ascontiguousarray(gap)] * 2)
        size += gap.shape[1]
    return np.sqrt(square), np.sqrt(tail_square / (np.maximum(tail_count, 1.0) * size))
