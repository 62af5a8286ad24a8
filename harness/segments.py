"""What is kept of every lane, and what is summed of it along the way.

A call's trace holds a row per step: the value of lanes that went on and were fine, infinity for all others
(`harness.bookkeeping`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from harness import lift, nodes
from harness.types import Program

Nest = Any

LADDER = 12  # targets per cell, the last one being the workload's own


class Carry(NamedTuple):
    """What is kept between calls; `params`, `state`, `previous` and `tail_mean` are in the
    memory layout of `harness.lift`, the rest is [lanes]."""

    params: Nest
    state: Nest
    previous: Nest  # last update; () without stability
    tail_mean: Nest
    step: tf.Tensor
    live: tf.Tensor
    diverged: tf.Tensor
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
    stability: Nest  # `Stability`, or () where it is not kept


class Recorded(NamedTuple):
    """What a call keeps of the points that are recorded in it; () where it does not. See
    `harness.calls.Calls.recorded`."""

    points: Nest
    views: Nest  # what is evaluated there


class Stand(NamedTuple):
    """Where the lanes stand when a segment begins."""

    row: tf.Tensor  # of the call's trace
    step: tf.Tensor  # a scalar in lockstep, else [lanes]
    groups: tf.Tensor  # the same for each group, [groups]

    def after(self, steps: tf.Tensor) -> Stand:
        """So many steps later."""
        return Stand(*(nodes.add(each, steps) for each in self))

    def changed(self, i: tf.Tensor) -> Stand:
        """The same, changed by a loop as far as TensorFlow can see: what a loop keeps it may take for a
        constant, and XLA would compile anew for each value of it.

        Args:
            i: the loop's counter.
        """
        return self.after(i - i)


class Stability(NamedTuple):
    """The part of the carry behind parameter stability."""

    previous: Nest
    path: tf.Tensor
    turns: tf.Tensor
    tail_mean: Nest
    tail_count: tf.Tensor
    tail_square: tf.Tensor


def moving(carry: Carry) -> Moving:
    """What moves of a carry; those lanes are going that are live."""
    return Moving(carry.params, carry.state, carry.live, stability_of(carry))


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


def apart(
    then: Callable[..., tuple[Nest, Nest]], kept: Nest, made: Nest, using: Nest, *, at: Stand
) -> tuple[Nest, Nest]:
    """`then(at, kept, using)`, two nests, as a loop of one round, which XLA makes a function of where the
    loop around is none (`lift.in_kernels`).

    Args:
        kept: what it changes, in place: the first of what it returns.
        made: specifications of the second.
        using: what it computes with, beside.
        at: where the lanes stand.
    """
    graph: Any = tf.compat.v1.get_default_graph()
    spaces = [nodes.Space(graph, spec.shape, spec.dtype) for spec in tf.nest.flatten(made)]

    def body(k: tf.Tensor, *old: Nest) -> Nest:
        # Made to depend on the round, as in `loop_once`; where the lanes stand apart from the rest, or all of
        # it is a constant for TensorFlow if a place in memory depends on that, and XLA compiles it anew for
        # each value.
        after, known = lift.materialize((k + 1, using))
        return after, *then(at.after(k), old[0], known)

    begin = tf.nest.pack_sequence_as(made, [space.begin for space in spaces])
    # One, which XLA must not know: it takes loops of one round apart.
    rounds = 1 + tf.minimum(at.row, 0)
    _, kept, out = nodes.loop(lambda k, *_: k < rounds, body, (nodes.constant(0), kept, begin))
    for space, end in zip(spaces, tf.nest.flatten(out), strict=True):
        space.end = end
    return kept, out


def stabilise(
    moving: Moving,
    params: Nest,
    fine: tf.Tensor,
    going: tf.Tensor,
    step: tf.Tensor,
    lanes: Any,
    before: Moving,
) -> Stability:
    """Sums behind path length, turn-backs, and (Welford's way) the spread over the last tenth.

    Args:
        params: candidates, in the memory layout.
        fine: lanes whose value of this step counts.
        going: lanes that take the candidates.
        step: a scalar or [lanes].
        lanes: the `LaneProgram`.
        before: `moving` as what stays is chosen from it (`lift.opaque`).
    """
    trailing, real, old, stays = lanes.trailing, lanes.real, moving.stability, before.stability
    change = lift.subtract(params, moving.params)
    norm = tf.sqrt(lanes.dot(change, change))
    back = lanes.dot(change, old.previous) < 0
    late = step >= lanes.tail_start
    tail = fine & late

    def welford(kept: Any, using: Any) -> Any:
        (mean, count, square), (params, tail) = kept, using
        count = count + tf.cast(tail, tf.int32)
        share = tf.cast(tail, real) / tf.cast(tf.maximum(count, 1), real)
        gap = lift.subtract(params, mean)
        new = tf.nest.map_structure(lambda m, g: m + g * _per_lane(share, m, trailing), mean, gap)
        rest = lift.subtract(params, new)
        square = square + lanes.dot(gap, rest) * tf.cast(tail, real)
        return lift.select(tail, new, mean, trailing), count, square

    kept = (old.tail_mean, old.tail_count, old.tail_square)
    using = moving.params, tail
    wanted = tf.reduce_any(tail) if late.shape.rank else late
    mean, count, square = loop_once(wanted, welford, kept, using, jit=lanes.jit)
    return Stability(
        previous=lift.select(going, change, stays.previous, trailing),
        path=tf.where(going, old.path + norm, stays.path),
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
