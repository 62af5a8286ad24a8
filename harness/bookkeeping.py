"""What a call's trace of values comes to: first hits of targets, best and last values, steps, divergence.

The long part, over all steps, is a program of its own. None of it depends on the optimizer or the workload:
it is compiled once for all programs of a process that have as many lanes and rows. Nobody waits for that:
until it is there the host looks through traces by itself, and finds the same. The short part, a number a
lane, is the host's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from harness import nodes
from harness.graphs import Beside, Graph, Place
from harness.kept import Kept
from harness.segments import LADDER, Carry, Moving, Recorded, Stability

Nest = Any

# Rows that are looked at together: few enough to stay near the core while lanes look for their next targets.
BLOCK = 50
TOGETHER = 5  # that are looked at between two writes of what was found


@dataclass(frozen=True)
class Form:
    """What the program depends on: lanes, rows of a trace, their dtype, and whether XLA compiles it."""

    lanes: int
    rows: int
    real: tf.DType
    jit: bool


class Ran(NamedTuple):
    """What a call of a lanes' program gives, beside what it leaves in the books' trace."""

    moving: Moving
    recorded: Recorded  # [slots, ...]; points [slots, quantities, lanes], those of early steps last
    steps: int  # that were made, of all lanes alike; the trace's rows from it on mean nothing


class Found(NamedTuple):
    """What is looked for in a trace; all but the last as in `Carry`."""

    best: Any
    best_step: Any
    hits: Any
    last_miss: Any
    final: Any
    seen: Any  # values of each lane


FOUND = Found._fields[:-1]


class Bookkeeper:
    """Keeps the books of lanes.

    `trace` holds the values of a call's steps, [rows, lanes]: infinity where a lane did not go or was not
    fine.

    Args:
        form: decides the shapes.
        place: where its graph is kept for the next process.
    """

    def __init__(self, form: Form, place: Place | None = None):
        self.form = form
        self.trace = Kept(tf.TensorSpec([form.rows, form.lanes], form.real))
        self._look = Graph(
            self._look_through, Found(*[0] * 6), jit=form.jit, name="look_through", place=place
        )
        self._beside = Beside(self._idle)

    def compile(self, run: Callable[[Callable[[], None]], Any] = lambda fn: fn()) -> Future[None]:
        """Begins to trace and to compile; see `Beside.begin`. Until that is done, and where it fails, the
        host looks by itself."""
        return self._beside.begin(run)

    def _idle(self) -> None:
        """Looks through a trace without rows."""
        n, real = self.form.lanes, tf.zeros([self.form.lanes], self.form.real)
        whole, ladder = tf.zeros([n], tf.int32), tf.zeros([LADDER, n], tf.int32)
        old, targets = Found(real, whole, ladder, whole, real, whole), tf.cast(ladder, self.form.real)
        self._look(self.trace.mine.handles, old, whole, tf.constant(0), targets)

    def _look_through(self, handles: Nest, old: Found, step: Any, count: Any, targets: Any) -> Found:
        return look_through(old, step, self.trace.read(handles), count, targets)

    def look(self, carry: Carry, ran: Ran, targets: tf.Tensor) -> Found:
        """What was found before a call of this thread and in its trace.

        Args:
            carry: before the call.
            targets: [LADDER, lanes], none above the one before it.
        """
        none = np.zeros(self.form.lanes, np.int32)
        old = Found(*(getattr(carry, name) for name in FOUND), seen=none)
        compiled = self._beside.future or self.compile()
        if not compiled.done() or compiled.exception() is not None:
            trace = np.asarray(self.trace.mine.changed())
            return look_through_by_host(old, carry.step, trace, ran.steps, targets)
        return self._look(self.trace.mine.handles, old, carry.step, np.int32(ran.steps), targets)


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
    acting = live & go
    done = step + seen > budget
    if at_target:
        done |= np.asarray(found.final) <= np.asarray(targets)[-1]
    done &= acting & (seen > 0)
    diverged = acting & ~done & (seen < ran.steps)  # a lane that goes on has a value of every step
    stability = ran.moving.stability
    sums = stability._asdict() if isinstance(stability, Stability) else {}
    return carry._replace(
        params=ran.moving.params,
        state=ran.moving.state,
        step=step + seen - done,
        live=live & ~done & ~diverged,
        diverged=np.asarray(carry.diverged) | diverged,
        **{name: getattr(found, name) for name in FOUND},
        **sums,
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
        low, at, missed, final, seen = _look_down(trace, begin, size, old, targets[-1])
        hits = _first_hits(old.hits, trace, begin, size, step + begin, low, targets)
        best_step = nodes.where(low < old.best, step + begin + at, old.best_step)
        last_miss = nodes.where(missed >= 0, step + begin + missed, old.last_miss)
        best = nodes.where(low < old.best, low, old.best)
        return begin + BLOCK, Found(best, best_step, hits, last_miss, final, seen)

    return nodes.loop(lambda begin, _: begin < count, block, (nodes.constant(0), old))[1]


def _look_down(
    trace: tf.Tensor, begin: tf.Tensor, size: tf.Tensor, old: Found, target: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Of a block's rows: the lowest value of each lane (infinity where it has none) and its row in the block;
    the last row that missed the target (-1 where none did); and the last value, and how many there are, since
    the call began.

    Row by row, so that it is whole vectors of lanes: XLA makes a reduction by column.
    """

    def look(rows: int, k: tf.Tensor, found: Nest) -> Nest:
        low, at, missed, final, seen = found
        for j in (k + i for i in range(rows)):
            row = nodes.row(trace, begin + j)
            fine = row < np.inf
            lower = row < low  # not a minimum of the two: of zeros it may be either
            at, low = nodes.where(lower, j, at), nodes.where(lower, row, low)
            missed = nodes.where(fine & (row > target), j, missed)
            final, seen = nodes.where(fine, row, final), seen + tf.cast(fine, tf.int32)
        return k + rows, (low, at, missed, final, seen)

    infinity = tf.fill([trace.shape[1]], tf.constant(np.inf, trace.dtype))
    none = tf.zeros_like(old.seen)
    start = nodes.constant(0), (infinity, none, none - 1, old.final, old.seen)
    some = nodes.loop(lambda k, _: k <= size - TOGETHER, partial(look, TOGETHER), start)
    return nodes.loop(lambda k, _: k < size, partial(look, 1), some)[1]


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

        def earlier(rows: int, k: tf.Tensor, first: tf.Tensor) -> Nest:  # before row k, from the last one on
            for j in (k - i for i in range(1, rows + 1)):
                first = nodes.where(nodes.row(trace, begin + j) <= target, j, first)
            return k - rows, first

        some = nodes.loop(
            lambda k, _: k >= TOGETHER, partial(earlier, TOGETHER), (size, tf.zeros_like(reached))
        )
        _, first = nodes.loop(lambda k, _: k > 0, partial(earlier, 1), some)
        hits = tf.where((places == reached) & hit, place + first, hits)
        reached = reached + tf.cast(hit, tf.int32)
        return i + 1, reached, upcoming(reached), hits

    reached = tf.reduce_sum(tf.cast(hits >= 0, tf.int32), 0)
    return nodes.loop(more, look, (nodes.constant(0), reached, upcoming(reached), hits))[3]


def look_through_by_host(old: Found, step: Any, trace: np.ndarray, count: int, targets: Any) -> Found:
    """`look_through` without anything to compile; it takes a few times as long.

    Args:
        trace: each lane's values come first, and then infinity.
    """
    old, step, targets = Found(*map(np.asarray, old)), np.asarray(step), np.asarray(targets)
    if count == 0:
        return old
    rows, every = trace[:count], np.arange(trace.shape[1])
    lowest = rows.copy()
    for above, row in itertools.pairwise(lowest):  # NumPy's own `accumulate` takes twelve times as long
        np.minimum(above, row, out=row)
    at = _first_row(lowest, every, lambda value: value <= lowest[-1])
    low = rows[at, every]
    seen = _first_row(rows, every, lambda value: value == np.inf)
    final = np.where(seen > 0, rows[seen - 1, every], old.final)
    missed = (rows > targets[-1]) & (rows < np.inf)
    last = count - 1 - missed[::-1].argmax(0)
    last_miss = np.where(missed.any(0), step + last, old.last_miss)
    hits = np.array(old.hits)
    place, lane = np.nonzero((hits < 0) & (low <= targets))
    wanted = targets[place, lane]
    hits[place, lane] = step[lane] + _first_row(lowest, lane, lambda value: value <= wanted)
    better = low < old.best
    whole = np.where(better, step + at, old.best_step), hits, last_miss
    best_step, hits, last_miss = (each.astype(np.int32) for each in whole)
    found = np.where(better, low, old.best), best_step, hits, last_miss, final
    return Found(*found, seen=old.seen + seen.astype(np.int32))


def _first_row(rows: np.ndarray, lane: np.ndarray, holds: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The first row in which something holds of the value in each of these lanes; how many rows there are,
    where it never does.

    Args:
        holds: from some row on, for each lane.
    """
    low, high = np.zeros(len(lane), np.intp), np.full(len(lane), len(rows))
    for _ in range(len(rows).bit_length()):
        middle = (low + high) // 2
        there = holds(rows[np.minimum(middle, len(rows) - 1), lane]) | (middle == len(rows))
        high, low = np.where(there, middle, high), np.where(there, low, np.minimum(middle + 1, high))
    return high


def distances(
    params: Nest, starts: Nest, tail_count: np.ndarray, tail_square: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How far from its start a run is, and the spread of its parameters over the last tenth: the square root
    of the variance over steps, averaged over coordinates; [runs] each, float64.

    Args:
        params, starts: leaves [runs, ...], of starts also [1, ...].
        tail_count, tail_square: of these runs, see `Carry`.
    """
    square, size = np.zeros(len(tail_count)), 0
    for now, start in zip(tf.nest.flatten(params), tf.nest.flatten(starts), strict=True):
        # In one order in memory, so that a run's sum is the same whoever else is there.
        gap = np.subtract(now, start, order="C", dtype=np.float64).reshape(len(square), -1)
        square += np.einsum("ij,ij->i", gap, gap)
        size += gap.shape[1]
    return np.sqrt(square), np.sqrt(tail_square / (np.maximum(tail_count, 1.0) * size))
