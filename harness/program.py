"""The engine: one XLA program advances all lanes of a tile by many steps.

A step s observes the loss at x_s, then makes update s + 1. What is kept per lane stays on the device:
first hits of every target, the best value, divergence and the sums behind parameter stability; the host
sees the points that are recorded. A lane that is done is frozen at once. The loop has two levels: an
inner one of a span of steps, whose losses stay in a small trace, and an outer one over spans, which
reduces the trace and, once per stride, records a point.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from harness import lift
from harness.tiling import RecordPlan
from harness.types import Lanes, Program

Nest = Any

MAX_STRIDES_PER_CALL = 64
LADDER = 12  # targets per cell, the last one being the workload's own


class Inputs(NamedTuple):
    """What the host sends with every call; leaves are [lanes] unless stated."""

    begin: Nest  # [lanes, ...] initial parameters of the run in each lane
    group_seeds: tf.Tensor  # [groups] int32
    learning_rate: tf.Tensor  # float64
    traced: tuple[tf.Tensor, ...]  # float64, one per traced hyperparameter
    targets: tf.Tensor  # [LADDER, lanes]
    limit: tf.Tensor  # above it a run counts as diverged
    go: tf.Tensor  # bool, take part in this call
    given: Nest = ()  # the step's loss [lanes] and gradients [lanes, ...] where others computed them


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


class Observation(NamedTuple):
    """What the lifted step returns: per lane scalars, and the candidate parameters and state."""

    loss: tf.Tensor
    value: tf.Tensor
    gradient: tf.Tensor
    params: Nest
    state: Nest


class LiftError(Exception):
    """The maths cannot be vectorised over lanes."""


@contextmanager
def lifting() -> Iterator[None]:
    """Turns TensorFlow's complaint about an operation without a vectorised form into `LiftError`."""
    try:
        yield
    except ValueError as error:
        if "pfor" in str(error) or "vectoriz" in str(error):
            raise LiftError(str(error).strip().splitlines()[-1]) from error
        raise


def check_update(params: Nest, new_params: Nest, state: Nest, new_state: Nest) -> None:
    """An update must keep structure, shapes and dtypes; says which leaf does not."""
    for what, old, new in (("parameters", params, new_params), ("state", state, new_state)):
        try:
            tf.nest.assert_same_structure(old, new)
        except (TypeError, ValueError) as error:
            raise TypeError(f"update() changed the structure of the {what}.") from error
        for i, (a, b) in enumerate(zip(tf.nest.flatten(old), tf.nest.flatten(new), strict=True)):
            b = tf.convert_to_tensor(b)
            if a.dtype != b.dtype:
                raise TypeError(
                    f"update() returned {b.dtype.name} for leaf {i} of the {what}, expected {a.dtype.name}."
                )
            if not a.shape.is_compatible_with(b.shape):
                raise TypeError(
                    f"update() returned shape {tuple(b.shape)} for leaf {i} of the {what}, "
                    f"expected {tuple(a.shape)}."
                )


class LaneProgram:
    """A compiled program for one workload and one optimizer structure at one lane count.

    Args:
        program: what is compiled; its `lanes` decide the shapes.
        workload: an instance, already in the program's dtype.
        build_optimizer: traced values (scalars, in `Component.traced()` order) → optimizer.
        jit: compile with XLA. Off only where XLA cannot compile the maths.
        loop: makes what advances this program where it does not do so by itself (a split batch).
    """

    def __init__(
        self,
        program: Program,
        workload: Any,
        build_optimizer: Callable[[Sequence[Any] | None], Any],
        *,
        jit: bool = True,
        loop: Callable[[LaneProgram], Any] | None = None,
    ):
        self.program, self.workload, self.jit = program, workload, jit
        self.lanes: Lanes = program.lanes
        self.build_optimizer = build_optimizer
        self.plan = RecordPlan(program.budget, program.stride)
        self.tail_start = program.budget - max(1, program.budget // 10)
        self.start = tf.nest.map_structure(tf.convert_to_tensor, workload.init(0))
        self.trailing = lift.trailing_layout(self.start)
        self.state = build_optimizer(None).init(self.start)
        self.real = tf.float64 if program.dtype == "float64" else tf.float32
        probe = workload.batch(0, 0)
        self.stochastic = probe is not None
        self.batch_spec = tf.nest.map_structure(
            lambda leaf: tf.TensorSpec(leaf.shape, leaf.dtype),
            tf.nest.map_structure(tf.convert_to_tensor, probe) if self.stochastic else (),
        )
        leaves = tf.nest.flatten(self.start)
        self.coordinates = 2 if len(leaves) == 1 and tuple(leaves[0].shape) == (2,) else 0
        self.size = sum(leaf.shape.num_elements() for leaf in leaves)
        self.monitored = bool(workload.monitor(self.start))
        self.identity_view = self.start is build_optimizer(None).eval_params(self.start, self.state)
        self.compile_seconds = 0.0
        self.traces = 0
        self._advance = tf.function(self._advance_lanes, jit_compile=jit, autograph=False)
        self._concrete: Any = None
        # Moves values and makes zeros only, so XLA would add compile time and nothing else.
        self._seat = tf.function(self._seat_lanes, autograph=False)
        self._view = tf.function(self._view_lanes, jit_compile=jit, autograph=False)
        self.loop = loop(self) if loop is not None else None

    # -- one run -----------------------------------------------------------------------------------

    def differentiate(self, params: Nest, batch: Nest | None) -> tuple[tf.Tensor, Nest]:
        """Loss and gradients of a single run, in the structure of `params`."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(params)
            loss = self.workload.loss(params, batch)
        return loss, tape.gradient(loss, params, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def _step(self, params: Nest, state: Nest, rate: Any, traced: Any, step: Any, *batch: Nest) -> Nest:
        """One observation and one update of a single run."""
        loss, gradients = self.differentiate(params, batch[0] if self.stochastic else None)
        return self._update(params, state, rate, traced, step, (loss, gradients))

    def _update(self, params: Nest, state: Nest, rate: Any, traced: Any, step: Any, given: Nest) -> Nest:
        """The observation and the update of a single run whose loss and gradients are known."""
        loss, gradients = given
        optimizer = self.build_optimizer(traced)
        seen = optimizer.eval_params(params, state)
        same = all(a is b for a, b in zip(tf.nest.flatten(seen), tf.nest.flatten(params), strict=True))
        value = loss if same and not self.stochastic else self.workload.objective(seen)
        new_params, new_state = optimizer.update(params, gradients, state, rate, step)
        check_update(params, new_params, state, new_state)
        square = sum(tf.reduce_sum(tf.square(tf.cast(g, self.real))) for g in tf.nest.flatten(gradients))
        loss = tf.cast(loss, self.real)
        value = loss if value is None else tf.cast(value, self.real)
        return Observation(loss, value, tf.sqrt(square), new_params, new_state)

    def _observe(self, carry: Carry, inputs: Inputs) -> Observation:
        """The step lifted to all lanes; parameters and state come back in the memory layout."""
        args = [
            lift.load(carry.params, self.trailing),
            lift.load(carry.state, self.trailing),
            inputs.learning_rate,
            inputs.traced,
            carry.step,
        ]
        if inputs.given:
            out = self.lifted(self._update, [*args, inputs.given])
        elif self.stochastic:
            out = self.lifted(self._step, args, self.batches(carry, inputs))
        else:
            out = self.lifted(self._step, args)
        stored = Observation(
            out.loss,
            out.value,
            out.gradient,
            lift.store(out.params, self.trailing),
            lift.store(out.state, self.trailing),
        )
        return lift.materialize(stored) if self.jit else stored

    def lifted(self, fn: Callable[..., Nest], args: Sequence[Nest], batches: Nest | None = None) -> Nest:
        """`fn` for every lane: leaves of `args` and of the result are [lanes, ...], of `batches`, its last
        argument where there are any, [groups, ...]."""
        if self.lanes.count == 1:  # nothing to lift
            nests = [*args] if batches is None else [*args, batches]
            one = [tf.nest.map_structure(lambda leaf: leaf[0], nest) for nest in nests]
            return tf.nest.map_structure(lambda leaf: tf.convert_to_tensor(leaf)[None], fn(*one))
        if batches is None:
            return lift.map_lanes(fn, args)
        return lift.map_groups(fn, args, batches, self.lanes.groups, self.lanes.width)

    def batches(self, carry: Carry, inputs: Inputs) -> Nest:
        """The batches of this step, gathered once per seed: leaves are [groups, ...]."""
        step = tf.reduce_max(
            tf.reshape(tf.where(carry.live, carry.step, 0), [self.lanes.groups, self.lanes.width]), 1
        )
        return tf.map_fn(
            lambda pair: self.workload.batch(pair[0], pair[1]),
            (inputs.group_seeds, step),
            fn_output_signature=self.batch_spec,
        )

    # -- all lanes ---------------------------------------------------------------------------------

    def _zeros(self, nest: Nest) -> Nest:
        def zero(leaf: tf.Tensor) -> tf.Tensor:
            shape = [*leaf.shape, self.lanes.count] if self.trailing else [self.lanes.count, *leaf.shape]
            return tf.zeros(shape, leaf.dtype)

        return tf.nest.map_structure(zero, nest)

    def empty(self) -> Carry:
        """A carry whose lanes are all idle."""
        n, stability = self.lanes.count, self.program.stability
        whole, real = tf.zeros([n], tf.int32), tf.zeros([n], self.real)
        return Carry(
            params=self._zeros(self.start),
            state=self._zeros(self.state),
            previous=self._zeros(self.start) if stability else (),
            tail_mean=self._zeros(self.start) if stability else (),
            step=whole,
            live=tf.zeros([n], tf.bool),
            diverged=tf.zeros([n], tf.bool),
            initial_loss=real,
            initial_gradient=real,
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

    def _seat_lanes(self, carry: Carry, inputs: Inputs, fresh: tf.Tensor) -> Carry:
        """Lanes that are `fresh` begin at their run's start."""
        begin = inputs.begin

        def init(params: Nest, traced: Any) -> Nest:
            return self.build_optimizer(traced).init(params)

        if self.lanes.count > 1:
            state = lift.map_lanes(init, [begin, inputs.traced])
        else:
            one = [tf.nest.map_structure(lambda leaf: leaf[0], n) for n in (begin, inputs.traced)]
            state = tf.nest.map_structure(lambda leaf: tf.convert_to_tensor(leaf)[None], init(*one))
        reset = self.empty()._replace(
            params=lift.store(begin, self.trailing),
            state=lift.store(state, self.trailing),
            best=tf.fill([self.lanes.count], tf.constant(np.inf, self.real)),
            live=tf.ones([self.lanes.count], tf.bool),
        )
        nests = {"params", "state", "previous", "tail_mean"}
        fields = {}
        for name, new, old in zip(Carry._fields, reset, carry, strict=True):
            # All but the nests of parameters keep lanes last, whatever the layout.
            fields[name] = lift.select(fresh, new, old, self.trailing or name not in nests)
        return Carry(**fields)

    def _advance_step(self, carry: Carry, inputs: Inputs) -> tuple[Carry, tf.Tensor, list[tf.Tensor]]:
        """One step of every lane: the new carry, the trace's row, and the recordable quantities."""
        seen = self._observe(carry, inputs)
        acting = carry.live & inputs.go
        finite = tf.math.is_finite(seen.loss) & (seen.value <= inputs.limit)
        bad, fine = acting & ~finite, acting & finite
        done = fine & (carry.step >= self.program.budget)
        if self.program.stop == "target" and self.workload.target_metric == "loss":
            done = done | (fine & (seen.value <= inputs.targets[-1]))
        moving = fine & ~done
        change = lift.subtract(seen.params, carry.params)
        norm = tf.sqrt(lift.dot(change, change, self.trailing, self.real))
        first = acting & (carry.step == 0)
        fields = carry._asdict()
        if self.program.stability:
            fields |= self._stability(carry, change, norm, moving, fine)
        carry = carry._replace(
            **fields
            | {
                "params": lift.select(moving, seen.params, carry.params, self.trailing),
                "state": lift.select(moving, seen.state, carry.state, self.trailing),
                "step": carry.step + tf.cast(moving, tf.int32),
                "live": carry.live & ~bad & ~done,
                "diverged": carry.diverged | bad,
                "initial_loss": tf.where(first, seen.loss, carry.initial_loss),
                "initial_gradient": tf.where(first, seen.gradient, carry.initial_gradient),
                "final": tf.where(acting, seen.value, carry.final),
            }
        )
        row = tf.where(fine, seen.value, tf.constant(np.inf, self.real))
        points = [seen.loss if self.stochastic else seen.value, seen.gradient, norm]
        return carry, row, points

    def _stability(
        self, carry: Carry, change: Nest, norm: tf.Tensor, moving: tf.Tensor, fine: tf.Tensor
    ) -> dict[str, Any]:
        """Sums behind path length, turn-backs, and (Welford's way) the spread over the last tenth."""
        back = lift.dot(change, carry.previous, self.trailing, self.real) < 0
        tail = fine & (carry.step >= self.tail_start)
        count = carry.tail_count + tf.cast(tail, tf.int32)
        share = tf.cast(tail, self.real) / tf.cast(tf.maximum(count, 1), self.real)
        spread = lift.subtract(carry.params, carry.tail_mean)

        def moved(mean: tf.Tensor, gap: tf.Tensor) -> tf.Tensor:
            rank = mean.shape.rank or 0
            weight = share if self.trailing else tf.reshape(share, [-1] + [1] * (rank - 1))
            return mean + gap * tf.cast(weight, mean.dtype)

        mean = tf.nest.map_structure(moved, carry.tail_mean, spread)
        after = lift.subtract(carry.params, mean)
        square = lift.dot(spread, after, self.trailing, self.real)
        return {
            "previous": lift.select(moving, change, carry.previous, self.trailing),
            "path": tf.where(moving, carry.path + norm, carry.path),
            "turns": carry.turns + tf.cast(moving & back, tf.int32),
            "tail_mean": lift.select(tail, mean, carry.tail_mean, self.trailing),
            "tail_count": count,
            "tail_square": tf.where(tail, carry.tail_square + square, carry.tail_square),
        }

    def _absorb(self, carry: Carry, begin: tf.Tensor, trace: tf.Tensor, inputs: Inputs) -> Carry:
        """Reduces a span's trace [span, lanes] into best value, first hits and last miss."""
        none = self.plan.span
        rows = tf.range(none)
        low = tf.reduce_min(trace, 0)
        at = tf.reduce_min(tf.where(trace == low, rows[:, None], none), 0)
        better = low < carry.best
        reached = trace[:, None, :] <= inputs.targets[None]  # [span, LADDER, lanes]
        first = tf.reduce_min(tf.where(reached, rows[:, None, None], none), 0)
        new = (carry.hits < 0) & (first < none)
        miss = tf.math.is_finite(trace) & (trace > inputs.targets[-1])
        last = tf.reduce_max(tf.where(miss, rows[:, None], -1), 0)
        return carry._replace(
            best=tf.where(better, low, carry.best),
            best_step=tf.where(better, begin + at, carry.best_step),
            hits=tf.where(new, begin + first, carry.hits),
            last_miss=tf.where(last >= 0, begin + last, carry.last_miss),
        )

    def _advance_lanes(self, carry: Carry, inputs: Inputs, spans: Any, steps: Any) -> Any:
        """`spans` × `steps` steps of every lane that may go (both scalars int32, traced).

        Returns:
            The carry; `points` [strides per call + 1, quantities, lanes], whose last row means nothing;
            `early` [early steps, quantities, lanes] of the call's first span; `displacement` and `spread`
            [lanes].
        """
        self.traces += 1
        span, rounds, early = self.plan.span, self.plan.rounds, self.plan.early
        slots = np.full([span], len(early) + 1, np.int32)
        slots[0] = 0
        for k, s in enumerate(early):
            slots[s] = k + 1
        quantities = 3 + self.coordinates
        shape = [quantities, self.lanes.count]

        def array(size: int, row: list[int]) -> tf.TensorArray:
            out = tf.TensorArray(self.real, size, element_shape=row, clear_after_read=False)
            return out.unstack(tf.zeros([size, *row], self.real))

        def inner(i: Any, carry: Carry, trace: Any, fine: Any) -> Any:
            xy = tf.unstack(tf.nest.flatten(carry.params)[0]) if self.coordinates else []
            carry, row, points = self._advance_step(carry, inputs)
            record = tf.stack([*points, *(tf.cast(c, self.real) for c in xy)])
            return i + 1, carry, trace.write(i, row), fine.write(tf.gather(slots, i), record)

        def outer(j: Any, carry: Carry, points: Any, first: Any) -> Any:
            begin = carry.step
            empty = array(span, [self.lanes.count])
            inf = tf.fill([span, self.lanes.count], tf.constant(np.inf, self.real))
            trace, fine = empty.unstack(inf), array(len(early) + 2, shape)
            _, carry, trace, fine = tf.while_loop(
                lambda i, *_: i < steps, inner, (tf.constant(0), carry, trace, fine)
            )
            carry = self._absorb(carry, begin, trace.stack(), inputs)
            stacked = fine.stack()
            slot = tf.where(j % rounds == 0, j // rounds, self.strides_per_call)
            return j + 1, carry, points.write(slot, stacked[0]), tf.where(j == 0, stacked, first)

        points = array(self.strides_per_call + 1, shape)
        first = tf.zeros([len(early) + 2, *shape], self.real)
        _, carry, points, first = tf.while_loop(
            lambda j, c, *_: (j < spans) & tf.reduce_any(c.live & inputs.go),
            outer,
            (tf.constant(0), carry, points, first),
        )
        return carry, points.stack(), first[1 : len(early) + 1], *self.distances(carry, inputs)

    @property
    def strides_per_call(self) -> int:
        """Learning workloads come back to the host at every recorded point, to be evaluated."""
        return 1 if self.monitored else min(self.plan.strides, MAX_STRIDES_PER_CALL)

    def distances(self, carry: Carry, inputs: Inputs) -> tuple[tf.Tensor, tf.Tensor]:
        """How far from its start a lane is, and the spread of its parameters over the last tenth: the
        square root of the variance over steps, averaged over coordinates."""
        gap = lift.subtract(carry.params, lift.store(inputs.begin, self.trailing))
        displacement = tf.sqrt(lift.dot(gap, gap, self.trailing, self.real))
        count = tf.cast(tf.maximum(carry.tail_count, 1) * self.size, self.real)
        return displacement, tf.sqrt(carry.tail_square / count)

    def _view_lanes(self, carry: Carry, inputs: Inputs) -> Nest:
        args = [lift.load(n, self.trailing) for n in (carry.params, carry.state)]

        def view(params: Nest, state: Nest, traced: Any) -> Nest:
            return self.build_optimizer(traced).eval_params(params, state)

        if self.lanes.count > 1:
            return lift.map_lanes(view, [*args, inputs.traced])
        one = [tf.nest.map_structure(lambda leaf: leaf[0], n) for n in (*args, inputs.traced)]
        return tf.nest.map_structure(lambda leaf: leaf[None], view(*one))

    # -- what the host calls -----------------------------------------------------------------------

    def view(self, carry: Carry, inputs: Inputs) -> Nest:
        """The parameters to evaluate, [lanes, ...]: averaging methods look at others than they train."""
        if self.identity_view and not self.trailing:
            return carry.params
        return self._view(carry, inputs)

    def seat(self, carry: Carry, inputs: Inputs, fresh: tf.Tensor) -> Carry:
        """The carry with the runs of `inputs` begun in the lanes that are `fresh` (bool [lanes])."""
        return self._seat(carry, inputs, fresh)

    def advance(self, carry: Carry, inputs: Inputs, spans: int, steps: int) -> Any:
        """One call of the compiled program; see `_advance_lanes`."""
        if self.loop is not None:
            return self.loop.advance(carry, inputs, spans, steps)
        if self._concrete is None:
            self._concrete = self._advance.get_concrete_function(
                carry, inputs, tf.constant(spans), tf.constant(steps)
            )
        # The concrete function skips the search for a fitting trace: half the cost of a call.
        return self._concrete(carry, inputs, tf.constant(spans), tf.constant(steps))

    def step_given(self, carry: Carry, inputs: Inputs) -> tuple[Carry, tf.Tensor]:
        """One step of every lane from the loss and gradients in `inputs.given`, for a compiled function of
        the caller's.

        Returns:
            The carry, and what is recordable of the step, [quantities, lanes].
        """
        out = self._advance_lanes(carry, inputs, 1, 1)
        return out[0], out[1][0]

    def compile(self, inputs: Inputs) -> None:
        """Traces and compiles; no lane moves, since all are idle.

        Raises:
            LiftError: an operation has no vectorised form.
        """
        begin = time.perf_counter()
        with lifting():
            self.advance(self.empty(), inputs, 1, 1)
        self.compile_seconds = time.perf_counter() - begin


class Evaluator:
    """A workload's metrics for all lanes at once: `monitor` at recorded points, `evaluate` at the end.

    Args:
        workload: an instance in the program's dtype.
        lanes: how many runs are evaluated together.
    """

    def __init__(self, workload: Any, lanes: int, *, jit: bool = True):
        self.lanes = lanes
        # Whole data sets ride in every lane: a few lanes at a time keep them in the cache.
        self.at_once = next(n for n in (4, 3, 2, 1) if lanes % n == 0)

        def lifted(fn: Callable[[Nest], dict[str, Any]]) -> Callable[[Nest], dict[str, Any]]:
            def one(params: Nest) -> dict[str, Any]:
                return {k: tf.cast(v, tf.float64) for k, v in fn(params).items()}

            return tf.function(lambda params: self._spread(one, params), jit_compile=jit, autograph=False)

        self.monitor = lifted(workload.monitor)
        self.evaluate = lifted(workload.evaluate)

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
        values = tf.map_fn(
            lambda few: lift.map_lanes(one, [few]) if self.at_once > 1 else _alone(one, few),
            split,
            fn_output_signature=spec,
        )
        return {k: tf.reshape(v, [self.lanes]) for k, v in values.items()}

    def compile(self, params: Nest) -> None:
        """Traces and compiles both; `params` are [lanes, ...]."""
        self.monitor(params)
        self.evaluate(params)


def _alone(one: Callable[[Nest], dict[str, Any]], few: Nest) -> dict[str, Any]:
    return {k: v[None] for k, v in one(tf.nest.map_structure(lambda leaf: leaf[0], few)).items()}
