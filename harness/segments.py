"""What is kept of every lane, and how a segment's trace of values is read into it.

A segment is at most a span of steps. Its trace holds a row per step: the value of lanes that went on and
were fine, infinity for all others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from harness import lift, nodes, products
from harness.types import Program

Nest = Any

LADDER = 12  # targets per cell, the last one being the workload's own


class Carry(NamedTuple):
    """What lives on the device between calls; `params`, `state`, `previous` and `tail_mean` are in the
    memory layout of `harness.lift`, the rest is [lanes]."""

    params: Nest
    state: Nest
    previous: Nest  # last update; () without stability
    tail_mean: Nest
    step: tf.Tensor
    live: tf.Tensor
    diverged: tf.Tensor
    initial_loss: tf.Tensor
    initial_gradient: tf.Tensor
    final: tf.Tensor
    best: tf.Tensor
    best_step: tf.Tensor
    hits: tf.Tensor  # [LADDER, lanes] int32, -1 where not reached
    last_miss: tf.Tensor
    path: tf.Tensor
    turns: tf.Tensor
    tail_count: tf.Tensor
    tail_square: tf.Tensor


class Moving(NamedTuple):
    """What changes with every step."""

    params: Nest
    state: Nest
    going: tf.Tensor  # bool [lanes]
    last_miss: tf.Tensor  # as in `Carry`
    stability: Nest  # `Stability`, or () where it is not kept


class Stability(NamedTuple):
    """The part of the carry behind parameter stability."""

    previous: Nest
    path: tf.Tensor
    turns: tf.Tensor
    tail_mean: Nest
    tail_count: tf.Tensor
    tail_square: tf.Tensor


def stability_of(carry: Carry) -> Nest:
    """The sums behind stability; () where they are not kept."""
    if isinstance(carry.previous, tuple) and not carry.previous:
        return ()
    return Stability(*(getattr(carry, name) for name in Stability._fields))


def ends_at_target(program: Program, workload: Any) -> bool:
    """Whether a run ends on the device at its target; targets on a metric are judged by the host."""
    return program.stop == "target" and workload.target_metric == "loss"


def when(
    condition: tf.Tensor, then: Callable[..., Nest], value: Nest, using: Nest = (), *, lanes: Any
) -> Nest:
    """`then(value, using)` where the scalar condition holds, else `value`: a tensor, or a tuple of nests.

    Small points: both are computed, which costs less than to keep `using` in memory for the branch.
    Networks: `loop_once`.

    Args:
        using: what `then` computes with.
        lanes: the `LaneProgram`.
    """
    if lanes.network or not lanes.trailing:
        return loop_once(condition, then, value, using, jit=lanes.jit)
    return tf.nest.map_structure(lambda a, b: nodes.where(condition, a, b), then(value, using), value)


def loop_once(
    condition: tf.Tensor, then: Callable[..., Nest], value: Nest, using: Nest = (), *, jit: bool
) -> Nest:
    """As `when`, by a loop of at most one round: unlike a conditional's, its untaken branch copies nothing.

    Args:
        using: XLA would compute all that does not depend on the round before the loop, whether it is wanted
            or not, so these are made to.
        jit: whether XLA compiles this.
    """
    single = isinstance(value, tf.Tensor)
    limit = tf.cast(condition, tf.int32)

    def body(k: tf.Tensor, *old: Nest) -> Nest:
        k, known = lift.materialize((k, using)) if jit else (k, using)
        new = then(old[0] if single else old, known)
        return (k + 1, new) if single else (k + 1, *new)

    begin = (nodes.constant(0), value) if single else (nodes.constant(0), *value)
    _, *out = nodes.loop(lambda k, *_: k < limit, body, begin)
    return out[0] if single else tuple(out)


def stabilise(
    moving: Moving, params: Nest, fine: tf.Tensor, going: tf.Tensor, step: tf.Tensor, lanes: Any
) -> Stability:
    """Sums behind path length, turn-backs, and (Welford's way) the spread over the last tenth.

    Args:
        params: candidates, in the memory layout.
        fine: lanes whose value of this step counts.
        going: lanes that take the candidates.
        step: a scalar or [lanes].
        lanes: the `LaneProgram`.
    """
    trailing, real, old = lanes.trailing, lanes.real, moving.stability
    change = lift.subtract(params, moving.params)
    norm = tf.sqrt(products.dot(change, change, trailing, real))
    back = products.dot(change, old.previous, trailing, real) < 0
    late = step >= lanes.tail_start
    tail = fine & late

    def welford(kept: Any, using: Any) -> Any:
        (mean, count, square), (params, tail) = kept, using
        count = count + tf.cast(tail, tf.int32)
        share = tf.cast(tail, real) / tf.cast(tf.maximum(count, 1), real)
        gap = lift.subtract(params, mean)
        new = tf.nest.map_structure(lambda m, g: m + g * _per_lane(share, m, trailing), mean, gap)
        rest = lift.subtract(params, new)
        square = square + products.dot(gap, rest, trailing, real) * tf.cast(tail, real)
        return lift.select(tail, new, mean, trailing), count, square

    kept = (old.tail_mean, old.tail_count, old.tail_square)
    using = moving.params, tail
    wanted = tf.reduce_any(tail) if late.shape.rank else late
    mean, count, square = loop_once(wanted, welford, kept, using, jit=lanes.jit)
    return Stability(
        previous=lift.select(going, change, old.previous, trailing),
        path=tf.where(going, old.path + norm, old.path),
        turns=old.turns + tf.cast(going & back, tf.int32),
        tail_mean=mean,
        tail_count=count,
        tail_square=square,
    )


def _per_lane(values: tf.Tensor, like: tf.Tensor, trailing: bool) -> tf.Tensor:
    """[lanes] values in a shape that goes with a leaf in the memory layout, in its dtype."""
    rank = like.shape.rank or 0
    shaped = values if trailing else tf.reshape(values, [-1] + [1] * (rank - 1))
    return tf.cast(shaped, like.dtype)


def absorb(
    carry: Carry,
    moving: Moving,
    acting: tf.Tensor,
    trace: tf.Tensor,
    count: tf.Tensor,
    targets: tf.Tensor,
    lanes: Any,
) -> Carry:
    """The carry after a segment.

    Args:
        carry: before it.
        moving: where its last step left the lanes.
        acting: lanes that took part, bool [lanes].
        trace: [span, lanes]; rows from `count` on mean nothing.
        targets: [LADDER, lanes].
        lanes: the `LaneProgram`.
    """
    ended = tf.logical_and(acting, tf.logical_not(moving.going))
    low, at, seen, last_value = _look_down(trace, count)
    final = tf.where(seen > 0, last_value, carry.final)
    better = low < carry.best
    done = ended & (seen > 0) & (carry.step + seen > lanes.program.budget)
    if ends_at_target(lanes.program, lanes.workload):
        done = done | (ended & (seen > 0) & (last_value <= targets[-1]))
    kept = moving.stability._asdict() if lanes.program.stability else {}
    return carry._replace(
        params=moving.params,
        state=moving.state,
        step=carry.step + seen - tf.cast(done, tf.int32),
        live=tf.where(acting, moving.going, carry.live),
        diverged=carry.diverged | (ended & ~done),
        final=final,
        best=tf.where(better, low, carry.best),
        best_step=tf.where(better, carry.step + at, carry.best_step),
        hits=_first_hits(carry, trace, count, low, targets),
        last_miss=moving.last_miss,
        **kept,
    )


def _look_down(trace: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Of a segment's rows: the lowest value of each lane, its row, how many it has, and the last of them;
    infinity, 0, 0 and 0 where it has none.

    Row by row, so that it is whole vectors of lanes: XLA makes a reduction by column.
    """

    def look(j: tf.Tensor, low: tf.Tensor, at: tf.Tensor, seen: tf.Tensor, last: tf.Tensor) -> Nest:
        row = trace[j]
        fine = row < np.inf
        at = tf.where(row < low, j, at)
        return j + 1, tf.minimum(low, row), at, seen + tf.cast(fine, tf.int32), tf.where(fine, row, last)

    real = tf.zeros_like(trace[0])
    whole = tf.zeros_like(real, tf.int32)
    begin = (nodes.constant(0), real + tf.constant(np.inf, real.dtype), whole, whole, real)
    _, low, at, seen, last = nodes.loop(lambda j, *_: j < count, look, begin)
    return low, at, seen, last


def _first_hits(
    carry: Carry, trace: tf.Tensor, count: tf.Tensor, low: tf.Tensor, targets: tf.Tensor
) -> tf.Tensor:
    """The carry's hits with those of a segment: in each round every lane looks for the target that comes next
    for it, until none reaches another. Few lanes reach more than one or two of the twelve in a segment.

    Args:
        carry: before the segment.
        trace: [span, lanes], of which `count` rows mean something; infinity where a lane has no value.
        low: the lowest of them, [lanes].
        targets: [LADDER, lanes], none above the one before it.
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
            return j - 1, tf.where(trace[j] <= target, j, first)

        begin = (count - 1, tf.zeros_like(reached))
        _, first = nodes.loop(lambda j, _: j >= 0, earlier, begin)
        hits = tf.where((places == reached) & hit, carry.step + first, hits)
        reached = reached + tf.cast(hit, tf.int32)
        return i + 1, reached, upcoming(reached), hits

    reached = tf.reduce_sum(tf.cast(carry.hits >= 0, tf.int32), 0)
    return nodes.loop(more, look, (nodes.constant(0), reached, upcoming(reached), carry.hits))[3]
