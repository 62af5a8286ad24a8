"""The engine: one XLA program advances all lanes of a tile by many steps.

A step s observes the loss at x_s, then makes update s + 1. Per step the device keeps as little as it can:
parameters, state, which lanes are still going, and a row of values in a trace. All else (first hits of every
target, best value, divergence, steps) is read from the trace once a segment (`harness.segments`). A point is
recorded at the start of a segment, and the host sees nothing but those points. A lane that is done is frozen
at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from harness import lift, segments
from harness.graphs import Graph, Place
from harness.packing import Packing
from harness.runtime import xla_has_started
from harness.segments import LADDER, Carry, Moving
from harness.tiling import RecordPlan
from harness.types import Lanes, Program

Nest = Any

MAX_STRIDES_PER_CALL = 64
APART = 4  # coordinates


class Inputs(NamedTuple):
    """What the host sends with every call; leaves are [lanes] unless stated."""

    begin: Nest  # [lanes, ...] initial parameters of the run in each lane
    group_seeds: tf.Tensor  # [groups] int32
    learning_rate: tf.Tensor  # float64
    traced: tuple[tf.Tensor, ...]  # float64, one per traced hyperparameter; a scalar where all runs share it
    targets: tf.Tensor  # [LADDER, lanes]
    limit: tf.Tensor  # above it a run counts as diverged
    go: tf.Tensor  # bool, take part in this call
    given: Nest = ()  # the step's loss [lanes] and gradients [lanes, ...] where others computed them


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
        place: where its graphs are kept for the next process.
    """

    def __init__(
        self,
        program: Program,
        workload: Any,
        build_optimizer: Callable[[Sequence[Any] | None], Any],
        *,
        jit: bool = True,
        loop: Callable[[LaneProgram], Any] | None = None,
        place: Place | None = None,
    ):
        self.program, self.workload, self.jit = program, workload, jit
        self.lanes: Lanes = program.lanes
        self.build_optimizer = build_optimizer
        self.plan = RecordPlan(program.budget, program.stride, program.curves)
        # Runs that start together and end at their budget stand at one step: it is a scalar then, and what
        # an optimizer makes of it (bias corrections, schedules) is made once for all lanes.
        self.lockstep = program.stop == "budget"
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
        self.network = lift.is_network(self.start)
        # A point in a few coordinates, looked at along each.
        self.apart = len(leaves) == 1 and leaves[0].shape.rank == 1 and leaves[0].shape[0] <= APART
        self.size = sum(leaf.shape.num_elements() for leaf in leaves)
        self.metrics = sorted(workload.monitor(self.start))  # asked for once: it looks at whole data sets
        self.identity_view = self.start is build_optimizer(None).eval_params(self.start, self.state)
        self.compile_seconds = 0.0
        self.traces = 0
        self._empty: Carry | None = None
        self._unbegun: Carry | None = None
        self._first_state: Nest | None = None  # where it is the same for all runs
        carry = self.empty()

        def graph(fn: Callable[..., Nest], like: Nest, *, jit: bool = jit) -> Graph:
            return Graph(fn, like, jit=jit, name=fn.__name__.strip("_"), place=place)

        # Of points, all that a call gives is packed: see `_advance_at_once`.
        self.packing = Packing(self._call_gives(carry), self.lanes.count) if self.trailing and jit else None
        if self.packing is None:
            self._advance = graph(self._advance_lanes, (carry, 0, 0, 0, 0))
        else:
            self._advance = graph(self._advance_at_once, [0] * len(self.packing.dtypes))
        # These move values and make zeros only, so XLA would add compile time and nothing else.
        self._begin = graph(self._begin_lanes, self.state, jit=False)
        self._seat = graph(self._seat_lanes, carry, jit=False)
        self._view = graph(self._view_lanes, self.start)
        self.loop = loop(self) if loop is not None else None

    # -- one run -----------------------------------------------------------------------------------

    def differentiate(self, params: Nest, batch: Nest | None) -> tuple[tf.Tensor, Nest]:
        """Loss and gradients of a single run, in the structure of `params`."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(params)
            loss = self.workload.loss(params, batch)
        return loss, tape.gradient(loss, params, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def _look(self, traced: Any, params: Nest, state: Nest, *batch: Nest) -> Nest:
        """What a single run sees at its parameters; see `_seen`."""
        found = self.differentiate(params, batch[0] if self.stochastic else None)
        return self._seen(traced, params, state, found)

    def _look_along(self, traced: Any, coordinates: Sequence[tf.Tensor], state: Nest, *batch: Nest) -> Nest:
        """As `_look` at a point given as its coordinates, scalars; gradients are scalars too."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(coordinates)
            params = tf.nest.pack_sequence_as(self.start, [tf.stack(coordinates)])
            loss = self.workload.loss(params, batch[0] if self.stochastic else None)
        zero = tf.UnconnectedGradients.ZERO
        found = loss, tape.gradient(loss, coordinates, unconnected_gradients=zero)
        return self._seen(traced, params, state, found)

    def _seen(self, traced: Any, params: Nest, state: Nest, found: tuple[tf.Tensor, Nest]) -> Nest:
        """The loss, the value that targets are compared with (() where it is the loss), and gradients."""
        loss, gradients = found
        seen = self.build_optimizer(traced).eval_params(params, state)
        same = all(a is b for a, b in zip(tf.nest.flatten(seen), tf.nest.flatten(params), strict=True))
        value = None if same and not self.stochastic else self.workload.objective(seen)
        return tf.cast(loss, self.real), () if value is None else tf.cast(value, self.real), gradients

    def _move(self, traced: Any, params: Nest, gradients: Nest, state: Nest, rate: Any, step: Any) -> Nest:
        """One update of a single run."""
        new_params, new_state = self.build_optimizer(traced).update(params, gradients, state, rate, step)
        check_update(params, new_params, state, new_state)
        return new_params, new_state

    def with_traced(
        self, fn: Callable[..., Nest], traced: Sequence[tf.Tensor]
    ) -> tuple[Callable[..., Nest], list[tf.Tensor]]:
        """`fn(traced, ...)` as a function of those hyperparameters only that differ between lanes, and these.

        What all lanes share stays a scalar: what an optimizer makes of it is made once.
        """
        shared = [value.shape.rank == 0 for value in traced]

        def with_all(own: Sequence[tf.Tensor], *rest: Nest) -> Nest:
            lane = iter(own)
            return fn(tuple(v if s else next(lane) for v, s in zip(traced, shared, strict=True)), *rest)

        return with_all, [v for v, s in zip(traced, shared, strict=True) if not s]

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
        return self._batches_at(self._steps_of_groups(carry), inputs)

    def _steps_of_groups(self, carry: Carry) -> tf.Tensor:
        """Where the running lanes of each group stand, [groups] int32."""
        step = tf.where(carry.live, carry.step, 0)
        return tf.reduce_max(tf.reshape(step, [self.lanes.groups, self.lanes.width]), 1)

    def _batches_at(self, steps: tf.Tensor, inputs: Inputs) -> Nest:
        return tf.map_fn(
            lambda pair: self.workload.batch(pair[0], pair[1]),
            (inputs.group_seeds, steps),
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
        if self._empty is None:
            with tf.init_scope():
                self._empty = self._idle()
        return self._empty

    def _idle(self) -> Carry:
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

    def _begin_lanes(self, inputs: Inputs) -> Nest:
        """The state of every lane at its run's start, in the memory layout."""

        def init(traced: Any, params: Nest) -> Nest:
            return self.build_optimizer(traced).init(params)

        make, own = self.with_traced(init, inputs.traced)
        return lift.store(self.lifted(make, [own, inputs.begin]), self.trailing)

    def _stored(self, begin: Nest) -> Nest:
        """Parameters [lanes, ...] in the memory layout, turned by the host, which takes a tenth of a call."""
        if not self.trailing:
            return begin
        turned = tf.nest.map_structure(lambda leaf: np.moveaxis(leaf.numpy(), 0, -1), begin)
        return tf.nest.map_structure(tf.constant, turned)

    def _reset(self, params: Nest, state: Nest, live: tf.Tensor) -> Carry:
        """A carry whose `live` lanes begin."""
        if self._unbegun is None:
            with tf.init_scope():
                best = tf.fill([self.lanes.count], tf.constant(np.inf, self.real))
                self._unbegun = self.empty()._replace(best=best)
        return self._unbegun._replace(params=params, state=state, live=live)

    def _seat_lanes(self, carry: Carry, inputs: Inputs, fresh: tf.Tensor) -> Carry:
        begin, everyone = lift.store(inputs.begin, self.trailing), tf.ones([self.lanes.count], tf.bool)
        reset = self._reset(begin, self._begin_lanes(inputs), everyone)
        nests = {"params", "state", "previous", "tail_mean"}
        fields = {}
        for name, new, old in zip(Carry._fields, reset, carry, strict=True):
            # All but the nests of parameters keep lanes last, whatever the layout.
            fields[name] = lift.select(fresh, new, old, self.trailing or name not in nests)
        return Carry(**fields)

    def _observe(self, moving: Moving, steps: tf.Tensor, inputs: Inputs) -> tuple[tf.Tensor, tf.Tensor, Nest]:
        """Loss, value ([lanes]) and gradients (in the memory layout) where the lanes stand.

        Args:
            steps: of each group, [groups].
        """
        if self.apart and not inputs.given:
            return self._observe_apart(moving, steps, inputs)
        look, own = self.with_traced(self._seen if inputs.given else self._look, inputs.traced)
        args = [own, *(lift.load(n, self.trailing) for n in (moving.params, moving.state))]
        if inputs.given:
            found = self.lifted(look, [*args, inputs.given])
        elif self.stochastic:
            found = self.lifted(look, args, self._batches_at(steps, inputs))
        else:
            found = self.lifted(look, args)
        loss, value, gradients = found
        seen = loss, value, lift.store(gradients, self.trailing)
        loss, value, gradients = lift.materialize(seen) if self.jit else seen
        return loss, loss if isinstance(value, tuple) else value, gradients

    def _observe_apart(
        self, moving: Moving, steps: tf.Tensor, inputs: Inputs
    ) -> tuple[tf.Tensor, tf.Tensor, Nest]:
        """As `_observe`, of points in a few coordinates, each of which is a vector over lanes of its own.

        What picks coordinates leaves gradients with lanes first otherwise, and all that reads them strides.
        """
        look, own = self.with_traced(self._look_along, inputs.traced)
        (leaf,) = tf.nest.flatten(moving.params)
        args = [own, tf.unstack(leaf), lift.load(moving.state, self.trailing)]
        batches = [self._batches_at(steps, inputs)] if self.stochastic else []
        loss, value, gradients = self.lifted(look, args, *batches)
        seen = loss, value, tf.nest.pack_sequence_as(self.start, [tf.stack(gradients)])
        loss, value, gradients = lift.materialize(seen) if self.jit else seen
        return loss, loss if isinstance(value, tuple) else value, gradients

    def _candidates(self, moving: Moving, gradients: Nest, step: Any, inputs: Inputs) -> tuple[Nest, Nest]:
        """Parameters and state after an update of every lane, in the memory layout.

        Args:
            step: a scalar, or [lanes].
        """
        move, own = self.with_traced(self._move, inputs.traced)
        nests = (moving.params, gradients, moving.state)
        args = [own, *(lift.load(nest, self.trailing) for nest in nests), inputs.learning_rate]
        if step.shape.rank:
            params, state = self.lifted(move, [*args, step])
        else:
            params, state = self.lifted(lambda *lane: move(*lane, step), args)
        return lift.store(params, self.trailing), lift.store(state, self.trailing)

    def _traced_once(self) -> Callable[[Moving, tf.Tensor, Inputs], tuple[tf.Tensor, tf.Tensor, Nest]]:
        """`_observe` as a function of its own, which is traced where it is first called and called again
        wherever else, which saves an eighth of the time that tracing a point's program takes."""
        look = tf.function(self._observe, autograph=False)

        def observe(moving: Moving, steps: tf.Tensor, inputs: Inputs) -> tuple[tf.Tensor, tf.Tensor, Nest]:
            # Only what it reads, or other shapes of the rest would have it traced again.
            using = moving._replace(going=(), last_miss=(), stability=())
            return look(using, steps, inputs)

        return observe

    def _advance_step(
        self,
        observe: Callable[[Moving, tf.Tensor, Inputs], tuple[tf.Tensor, tf.Tensor, Nest]],
        moving: Moving,
        trace: tf.TensorArray,
        i: tf.Tensor,
        step: Any,
        groups: tf.Tensor,
        inputs: Inputs,
    ) -> tuple[Moving, tf.TensorArray, tf.Tensor, Nest]:
        """One step of every lane.

        Args:
            observe: `_observe`, or what does the same.
            i: the trace's row for it.
            step: updates done, a scalar or [lanes].
            groups: the same for each group, [groups].

        Returns:
            What moves; the trace, with the value of the lanes that were going and are fine, else infinity;
            the loss and the gradients.
        """
        loss, value, gradients = observe(moving, groups, inputs)
        fine = moving.going & (loss > -np.inf) & (loss < np.inf) & (value <= inputs.limit)
        trace = trace.write(i, tf.where(fine, value, tf.constant(np.inf, self.real)))
        # Read back, so that XLA has it in memory: it would compute the loss again for all that is masked by
        # it, and could then keep nothing in place (measured: a third of the time on Rosenbrock).
        row = trace.read(i)
        going = (row < np.inf) & (step < self.program.budget)
        if segments.ends_at_target(self.program, self.workload):
            going = going & (row > inputs.targets[-1])
        # Kept here and not read from the trace: a reduction over a conjunction is not vectorised, seven times
        # as slow as all others.
        missed = (row < np.inf) & (row > inputs.targets[-1])
        params, state = self._candidates(moving, gradients, step, inputs)
        stability = ()
        if self.program.stability:
            params = lift.materialize(params) if self.jit else params
            stability = segments.stabilise(moving, params, row < np.inf, going, step, self)
        after = Moving(
            params=lift.select(going, params, moving.params, self.trailing),
            state=lift.select(going, state, moving.state, self.trailing),
            going=going,
            last_miss=tf.where(missed, step, moving.last_miss),
            stability=stability,
        )
        return after, trace, loss, gradients

    def _segment(self, carry: Carry, trace: Any, count: tf.Tensor, inputs: Inputs) -> tuple[Carry, Any, Nest]:
        """`count` steps of every lane that may go, at most a span.

        Returns:
            The carry, the trace (a TensorArray of a span of rows, used again), and what is recorded of the
            first step: [quantities, lanes].
        """
        begin, acting = carry.step, carry.live & inputs.go
        groups = self._steps_of_groups(carry)
        base = begin
        if self.lockstep:
            base = tf.reduce_max(tf.where(acting, begin, 0))
            count = tf.minimum(count, self.program.budget - base + 1)  # at the budget, one observation
        first = acting & (begin == 0) & (count > 0)
        beginning = tf.reduce_any(first)
        # A point is looked at once more before its loop, which costs less than to ask at every step of it.
        ahead = not (self.network or inputs.given)
        observe = self._traced_once() if ahead else self._observe
        nan = tf.fill([self.lanes.count], tf.constant(np.nan, self.real))

        # Squares in the loop: where both branches are computed, a root would be taken at every step.
        def square_of_move(_: tf.Tensor, using: Nest) -> tf.Tensor:
            params, going = using
            change = lift.subtract(params, carry.params)
            square = lift.dot(change, change, self.trailing, self.real)
            return tf.where(going, square, nan)  # a run that ended here made no update

        def seen(_: Nest, using: Nest) -> Nest:
            loss, gradients = using
            return loss, lift.dot(gradients, gradients, self.trailing, self.real)

        def step(i: Any, moving: Moving, trace: Any, loss: Any, slope: Any, move: Any) -> Any:
            if self.program.curves:
                move = segments.when(i == 1, square_of_move, move, (moving.params, moving.going), lanes=self)
            out = self._advance_step(observe, moving, trace, i, base + i, groups + i, inputs)
            moving, trace, now, gradients = out

            if not ahead:
                at_start = (i == 0) if self.program.curves else (i == 0) & beginning
                loss, slope = segments.when(at_start, seen, (loss, slope), (now, gradients), lanes=self)
            i = i if self.trailing else lift.in_kernels(i)
            return i + 1, moving, trace, loss, slope, move

        stability = segments.stability_of(carry)
        moving = Moving(carry.params, carry.state, acting, carry.last_miss, stability)
        if ahead:
            loss, slope = self._look_ahead(observe, moving, groups, inputs, beginning, nan)
        else:
            loss = slope = nan
        state = (tf.constant(0), moving, trace, loss, slope, nan)
        _, moving, trace, loss, slope, move = tf.while_loop(lambda i, *_: i < count, step, state)
        if self.program.curves:
            move = segments.when(count == 1, square_of_move, move, (moving.params, moving.going), lanes=self)
        # One root of both: each costs 4 ms to compile, as some of TensorFlow's operations do.
        slope, move = tf.unstack(tf.sqrt(tf.stack([slope, move])))
        points = [loss, slope, move]
        if self.coordinates:
            points += [tf.cast(c, self.real) for c in tf.unstack(tf.nest.flatten(carry.params)[0])]
        after = segments.absorb(carry, moving, acting, trace.stack(), count, inputs.targets, self)
        after = after._replace(
            initial_loss=tf.where(first, loss, carry.initial_loss),
            initial_gradient=tf.where(first, slope, carry.initial_gradient),
        )
        return after, trace, tf.stack(points)

    def _look_ahead(
        self,
        observe: Callable[[Moving, tf.Tensor, Inputs], tuple[tf.Tensor, tf.Tensor, Nest]],
        moving: Moving,
        groups: tf.Tensor,
        inputs: Inputs,
        beginning: tf.Tensor,
        nan: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Loss and squared gradient norm where the lanes stand: where nothing is recorded, at a run's
        beginning only."""

        def seen(_: Nest, using: Nest) -> Nest:
            loss, _, gradients = observe(using, groups, inputs)
            return loss, lift.dot(gradients, gradients, self.trailing, self.real)

        if self.program.curves:
            return seen((), moving)
        return segments.loop_once(beginning, seen, (nan, nan), moving, jit=self.jit)

    def _advance_lanes(self, carry: Carry, inputs: Inputs, spans: Any, steps: Any, enough: Any) -> Any:
        """`spans` × `steps` steps of every lane that may go (scalars int32, traced like the next).

        Where runs begin, the first span is cut at the early steps that are recorded. Where runs end at their
        targets, it is over at the first recorded step at which no more than `enough` lanes are left.

        Returns:
            The carry; `points` [strides per call + 2, quantities, lanes], whose last row means nothing;
            `early` [early steps, quantities, lanes] of the call's first span; `displacement` and `spread`
            [lanes].
        """
        self.traces += 1
        # A row for the start of each stride, one for the end of the last, and one for all the rest.
        rounds, nowhere = self.plan.rounds, self.strides_per_call + 1
        early = self.plan.early
        cuts = tf.constant([0, *early, self.plan.span], tf.int32)
        pieces = len(early)  # the first span has one more
        fresh = tf.reduce_any(carry.live & inputs.go & (carry.step == 0))

        def extent(j: Any, fresh: tf.Tensor) -> tuple[Any, Any]:
            """Steps of segment j, and where its first one is recorded."""
            k = tf.minimum(j, pieces)
            begin, end = tf.gather(cuts, k), tf.gather(cuts, k + 1)
            piece = tf.maximum(tf.minimum(end, steps) - begin, 0)
            count = tf.where(j > pieces, steps, tf.where(fresh, piece, tf.where(j == 0, steps, 0)))
            span = tf.maximum(j - pieces, 0)
            slot = tf.where((span % rounds == 0) & (span > 0), span // rounds, nowhere)
            slot = tf.where((j > 0) & (j <= pieces) & (count > 0), nowhere + j, slot)
            return count, tf.where(j == 0, 0, slot)

        def outer(j: Any, go: Any, fresh: Any, carry: Carry, trace: Any, points: Any) -> Any:
            count, slot = extent(j, fresh)
            carry, trace, point = self._segment(carry, trace, count, inputs._replace(go=go))
            # Changed by the loop, as far as XLA can see: what a loop keeps it may take for a constant, and
            # would compile anew for each value of it.
            return j + 1, go & (j >= 0), fresh & (j >= 0), carry, trace, points.write(slot, point)

        def array(size: int, row: list[int]) -> tf.TensorArray:
            out = tf.TensorArray(self.real, size, element_shape=row, clear_after_read=False)
            return out.unstack(tf.zeros([size, *row], self.real))

        def unfinished(j: Any, go: Any, fresh: Any, carry: Carry, *_: Any) -> tf.Tensor:
            live = carry.live & go
            more = (j < last) & tf.reduce_any(live)
            if self.lockstep:
                return more
            span = j - pieces
            on_point = (span > 0) & (span % rounds == 0)
            return more & (~on_point | (tf.reduce_sum(tf.cast(live, tf.int32)) > enough))

        points = array(nowhere + 1 + len(self.plan.early), [3 + self.coordinates, self.lanes.count])
        trace = array(self.plan.span, [self.lanes.count])
        last = tf.where(spans > 0, spans + pieces, 0)
        _, _, _, carry, _, points = tf.while_loop(
            unfinished,
            outer,
            (tf.constant(0), inputs.go, fresh, carry, trace, points),
        )
        recorded = points.stack()
        return carry, recorded[: nowhere + 1], recorded[nowhere + 1 :], *self.distances(carry, inputs)

    def _call_gives(self, carry: Carry) -> Nest:
        """Specifications of what `_advance_lanes` returns."""
        quantities, lanes = 3 + self.coordinates, self.lanes.count
        points = tf.TensorSpec([self.strides_per_call + 2, quantities, lanes], self.real)
        early = tf.TensorSpec([len(self.plan.early), quantities, lanes], self.real)
        return carry, points, early, tf.TensorSpec([lanes], self.real), tf.TensorSpec([lanes], self.real)

    def _advance_at_once(self, carry: Carry, inputs: Inputs, spans: Any, steps: Any, enough: Any) -> Any:
        """`_advance_lanes` for a program that is one function of XLA's; what it gives is packed.

        XLA copies every array that a loop changes before the loop, as operations of their own, and hands half
        of those that can begin to other threads, which may be at work on another tile for milliseconds. The
        only arrays that this loop of one round changes are the packed ones.
        """
        packing = self.packing
        assert packing is not None

        def once(k: Any, *_: Any) -> Any:
            # Made to depend on the round, or XLA would compute parts of it before the loop.
            k, given = lift.materialize((k, (carry, inputs, spans, steps, enough)))
            return k + 1, *packing.pack(self._advance_lanes(*given))

        # One, which XLA must not know: it takes loops of one round apart.
        rounds = 1 + tf.minimum(spans, 0)
        _, *packed = tf.while_loop(lambda k, *_: k < rounds, once, (tf.constant(0), *packing.empty()))
        return packed

    @property
    def monitored(self) -> bool:
        """Whether the host evaluates the lanes at every recorded point."""
        return bool(self.metrics)

    @property
    def ends_by_itself(self) -> bool:
        """Whether a call that reaches the budget may be asked for one span more, to observe it."""
        return self.lockstep and not self.monitored and self.loop is None

    @property
    def strides_per_call(self) -> int:
        """Learning workloads come back to the host at every recorded point, to be evaluated."""
        return 1 if self.monitored else min(self.plan.strides, MAX_STRIDES_PER_CALL)

    def distances(self, carry: Carry, inputs: Inputs) -> tuple[tf.Tensor, tf.Tensor]:
        """How far from its start a lane is, and the spread of its parameters over the last tenth: the
        square root of the variance over steps, averaged over coordinates."""
        gap = lift.subtract(carry.params, lift.store(inputs.begin, self.trailing))
        square = lift.dot(gap, gap, self.trailing, self.real)
        count = tf.cast(tf.maximum(carry.tail_count, 1) * self.size, self.real)
        displacement, spread = tf.unstack(tf.sqrt(tf.stack([square, carry.tail_square / count])))
        return displacement, spread

    def _view_lanes(self, carry: Carry, inputs: Inputs) -> Nest:
        def seen(traced: Any, params: Nest, state: Nest) -> Nest:
            return self.build_optimizer(traced).eval_params(params, state)

        look, own = self.with_traced(seen, inputs.traced)
        return self.lifted(look, [own, *(lift.load(n, self.trailing) for n in (carry.params, carry.state))])

    # -- what the host calls -----------------------------------------------------------------------

    def view(self, carry: Carry, inputs: Inputs) -> Nest:
        """The parameters to evaluate, [lanes, ...]: averaging methods look at others than they train."""
        if self.identity_view and not self.trailing:
            return carry.params
        return self._view(carry, inputs)

    def seat(self, carry: Carry, inputs: Inputs, fresh: tf.Tensor) -> Carry:
        """The carry with the runs of `inputs` begun in the lanes that are `fresh` (bool [lanes]); in lockstep
        all others are idle."""
        if self.lockstep:  # to choose between old and new per field would take three times as long
            state = self._first_state if self._first_state is not None else self._begin(inputs)
            if self._begin.fixed:
                self._first_state = state
            return self._reset(self._stored(inputs.begin), state, fresh)
        return self._seat(carry, inputs, fresh)

    def advance(self, carry: Carry, inputs: Inputs, spans: int, steps: int, enough: int = 0) -> Any:
        """One call of the compiled program; see `_advance_lanes`."""
        if self.loop is not None:
            return self.loop.advance(carry, inputs, spans, steps)
        out = self._advance(carry, inputs, tf.constant(spans), tf.constant(steps), tf.constant(enough))
        return out if self.packing is None else self.packing.unpack([each.numpy() for each in out])

    def step_given(self, carry: Carry, inputs: Inputs) -> tuple[Carry, tf.Tensor]:
        """One step of every lane from the loss and gradients in `inputs.given`, for a compiled function of
        the caller's.

        Returns:
            The carry, and what is recordable of the step, [quantities, lanes].
        """
        rows, lanes, quantities = self.plan.span, self.lanes.count, 3 + self.coordinates
        trace = tf.TensorArray(self.real, rows, element_shape=[lanes], clear_after_read=False)
        trace = trace.unstack(tf.zeros([rows, lanes], self.real))

        def once(k: tf.Tensor, go: tf.Tensor, carry: Carry, trace: Any, _: tf.Tensor) -> Any:
            carry, trace, record = self._segment(carry, trace, tf.constant(1), inputs._replace(go=go))
            return k + 1, go & (k < 1), carry, trace, record

        # A loop of one round, which changes where the lanes stand and who goes: outside of one, or where a
        # loop keeps them, XLA takes them for constants, and would compile anew for each of their values.
        begin = (tf.constant(0), inputs.go, carry, trace, tf.zeros([quantities, lanes], self.real))
        _, _, carry, _, record = tf.while_loop(lambda k, *_: k < 1, once, begin)
        return carry, record

    def compile(self, inputs: Inputs) -> None:
        """Traces and compiles; no lane moves, since all are idle.

        Raises:
            LiftError: an operation has no vectorised form.
        """
        begin = time.perf_counter()
        with lifting():
            self.advance(self.empty(), inputs, 1, 1)
        xla_has_started()
        self.compile_seconds = time.perf_counter() - begin
