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
from typing import Any

import numpy as np
import tensorflow as tf

from harness import lift, nodes, products, segments
from harness.graphs import Graph, Place
from harness.lanemaths import Inputs, LaneMaths
from harness.packing import Packing
from harness.runtime import xla_has_started
from harness.seating import Seating
from harness.segments import Carry, Moving
from harness.tiling import RecordPlan
from harness.types import Lanes, Program

Nest = Any

MAX_STRIDES_PER_CALL = 64


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
        self.maths = maths = LaneMaths(program, workload, build_optimizer, jit=jit)
        self.start, self.real, self.trailing = maths.start, maths.real, maths.trailing
        self.stochastic = maths.stochastic
        self.plan = RecordPlan(program.budget, program.stride, program.curves)
        # Runs that start together and end at their budget stand at one step: it is a scalar then, and what
        # an optimizer makes of it (bias corrections, schedules) is made once for all lanes.
        self.lockstep = program.stop == "budget"
        self.tail_start = program.budget - max(1, program.budget // 10)
        leaves = tf.nest.flatten(self.start)
        self.coordinates = 2 if len(leaves) == 1 and tuple(leaves[0].shape) == (2,) else 0
        self.network = lift.is_network(self.start)
        self.metrics = sorted(workload.monitor(self.start))  # asked for once: it looks at whole data sets
        self.identity_view = maths.start is build_optimizer(None).eval_params(maths.start, maths.state)
        self.compile_seconds = 0.0
        self.traces = 0

        def graph(fn: Callable[..., Nest], like: Nest, *, jit: bool = jit) -> Graph:
            return Graph(fn, like, jit=jit, name=fn.__name__.strip("_"), place=place)

        kinds = {"stability": program.stability, "lockstep": self.lockstep}
        self.seating = Seating(maths, graph=graph, **kinds)
        carry = self.empty()
        # Of points, all that a call gives is packed: see `_advance_at_once`.
        self.packing = Packing(self._call_gives(carry), self.lanes.count) if self.trailing and jit else None
        if self.packing is None:
            self._advance = graph(self._advance_lanes, (carry, 0, 0, 0, 0))
        else:
            self._advance = graph(self._advance_at_once, [0] * len(self.packing.dtypes))
        self._view = graph(self._view_lanes, self.start)
        self.loop = loop(self) if loop is not None else None

    def _traced_once(self) -> Callable[[Moving, tf.Tensor, Inputs], tuple[tf.Tensor, tf.Tensor, Nest]]:
        """`LaneMaths.observe` as a function of its own, traced where it is first called and called again
        wherever else: it saves an eighth of the time that tracing a point's program takes."""
        look = tf.function(self.maths.observe, autograph=False)

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
            observe: `LaneMaths.observe`, or what does the same.
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
        params, state = self.maths.candidates(moving, gradients, step, inputs, going)
        stability = ()
        if self.program.stability:
            params = lift.materialize(params) if self.jit else params
            stability = segments.stabilise(moving, params, row < np.inf, going, step, self)
        after = Moving(
            params=lift.select(going, params, moving.params, self.trailing),
            state=state,
            going=going,
            last_miss=tf.where(missed, step, moving.last_miss),
            stability=stability,
        )
        return after, trace, loss, gradients

    def _segment(
        self, carry: Carry, trace: Any, count: tf.Tensor, inputs: Inputs, at: tf.Tensor
    ) -> tuple[Carry, Any, Nest]:
        """`count` steps of every lane that may go, at most a span.

        Args:
            at: where all of them stand, in lockstep.

        Returns:
            The carry, the trace (a TensorArray of a span of rows, used again), and what is recorded of the
            first step: [quantities, lanes].
        """
        begin, acting = carry.step, carry.live & inputs.go
        first = acting & (begin == 0) & (count > 0)
        # A reduction over lanes is four loops to compile: in lockstep one number says what they would.
        if self.lockstep:
            base, groups = at, tf.fill([self.lanes.groups], at)
            beginning = (at == 0) & (count > 0)
        else:
            base, groups = begin, self.maths.steps_of_groups(carry)
            beginning = tf.reduce_any(first)
        # A point is looked at once more before its loop, which costs less than to ask at every step of it.
        ahead = not (self.network or inputs.given)
        observe = self._traced_once() if ahead else self.maths.observe
        nan = tf.fill([self.lanes.count], tf.constant(np.nan, self.real))

        # Squares in the loop: where both branches are computed, a root would be taken at every step.
        def square_of_move(_: tf.Tensor, using: Nest) -> tf.Tensor:
            params, going = using
            change = lift.subtract(params, carry.params)
            square = products.dot(change, change, self.trailing, self.real)
            return tf.where(going, square, nan)  # a run that ended here made no update

        def seen(_: Nest, using: Nest) -> Nest:
            loss, gradients = using
            return loss, products.dot(gradients, gradients, self.trailing, self.real)

        def step(i: Any, moving: Moving, trace: Any, loss: Any, slope: Any, move: Any) -> Any:
            if self.program.curves:
                move = segments.when(i == 1, square_of_move, move, (moving.params, moving.going), lanes=self)
            out = self._advance_step(observe, moving, trace, i, base + i, groups + i, inputs)
            moving, trace, now, gradients = out

            if not ahead:
                at_start = (i == 0) if self.program.curves else (i == 0) & beginning
                loss, slope = segments.when(at_start, seen, (loss, slope), (now, gradients), lanes=self)
            i = i if self.trailing and not self.maths.lifting.foreign else lift.in_kernels(i)
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
            return loss, products.dot(gradients, gradients, self.trailing, self.real)

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
        start = self._stand(carry, inputs.go)
        fresh = start == 0 if self.lockstep else tf.reduce_any(carry.live & inputs.go & (carry.step == 0))

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

        def outer(j: Any, at: Any, go: Any, fresh: Any, carry: Carry, trace: Any, points: Any) -> Any:
            count, slot = extent(j, fresh)
            if self.lockstep:  # at the budget, one observation
                count = tf.minimum(count, self.program.budget - at + 1)
            carry, trace, point = self._segment(carry, trace, count, inputs._replace(go=go), at)
            # Changed by the loop, as far as XLA can see: what a loop keeps it may take for a constant, and
            # would compile anew for each value of it.
            return j + 1, at + count, go & (j >= 0), fresh & (j >= 0), carry, trace, points.write(slot, point)

        def array(size: int, row: list[int]) -> tf.TensorArray:
            out = tf.TensorArray(self.real, size, element_shape=row, clear_after_read=False)
            return out.unstack(tf.zeros([size, *row], self.real))

        def unfinished(j: Any, at: Any, go: Any, fresh: Any, carry: Carry, *_: Any) -> tf.Tensor:
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
        begin = (tf.constant(0), start, inputs.go, fresh, carry, trace, points)
        *_, carry, _, points = tf.while_loop(unfinished, outer, begin)
        recorded = points.stack()
        return carry, recorded[: nowhere + 1], recorded[nowhere + 1 :], *self.distances(carry, inputs)

    def _stand(self, carry: Carry, go: tf.Tensor) -> tf.Tensor:
        """The step of all lanes that may go, in lockstep; else 0, which nobody reads."""
        if not self.lockstep:
            return tf.constant(0)
        return tf.reduce_max(tf.where(carry.live & go, carry.step, 0))

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
        _, *packed = nodes.loop(lambda k, *_: k < rounds, once, (nodes.constant(0), *packing.empty()))
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
        square = products.dot(gap, gap, self.trailing, self.real)
        count = tf.cast(tf.maximum(carry.tail_count, 1) * self.maths.size, self.real)
        displacement, spread = tf.unstack(tf.sqrt(tf.stack([square, carry.tail_square / count])))
        return displacement, spread

    def _view_lanes(self, carry: Carry, inputs: Inputs) -> Nest:
        def seen(traced: Any, params: Nest, state: Nest) -> Nest:
            return self.maths.build_optimizer(traced).eval_params(params, state)

        look, own = self.maths.with_traced(seen, inputs.traced)
        found = self.maths.lifted(look, [own, carry.params, carry.state])
        return found if self.maths.written_out else lift.load(found, self.trailing)

    # -- what the host calls -----------------------------------------------------------------------

    def empty(self) -> Carry:
        """A carry whose lanes are all idle."""
        return self.seating.empty()

    def view(self, carry: Carry, inputs: Inputs) -> Nest:
        """The parameters to evaluate, [lanes, ...], or [..., lanes] where products are written out: averaging
        methods look at others than they train."""
        if self.identity_view and (self.maths.written_out or not self.trailing):
            return carry.params
        return self._view(carry, inputs)

    def seat(self, carry: Carry, inputs: Inputs, fresh: tf.Tensor) -> Carry:
        """The carry with the runs of `inputs` begun in the lanes that are `fresh` (bool [lanes]); in lockstep
        all others are idle."""
        return self.seating.seat(carry, inputs, fresh)

    def advance(self, carry: Carry, inputs: Inputs, spans: int, steps: int, enough: int = 0) -> Any:
        """One call of the compiled program; see `_advance_lanes`."""
        if self.loop is not None:
            return self.loop.advance(carry, inputs, spans, steps)
        out = self._advance(carry, inputs, tf.constant(spans), tf.constant(steps), tf.constant(enough))
        return out if self.packing is None else self.packing.unpack([np.asarray(each) for each in out])

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
            here = self._stand(carry, go)
            carry, trace, record = self._segment(carry, trace, tf.constant(1), inputs._replace(go=go), here)
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
