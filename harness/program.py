"""The engine: one XLA program advances all lanes of a tile by many steps.

A step s observes the loss at x_s, then makes update s + 1. Per step the device keeps as little as it can:
parameters, state, which lanes are still going, and a row of values in a trace. All else (first hits of every
target, best value, divergence, steps) another program reads from the trace after the call
(`harness.bookkeeping`): it is the same for all optimizers, and half of what there was to compile. A point is
recorded at the start of a segment; the host sees those points and what was read. A lane that is done is
frozen at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from harness import lift, nodes, products, segments
from harness.bookkeeping import Bookkeeper, Form, Found, Ran, after
from harness.calls import Calls
from harness.draws import Drawing, NotDrawn
from harness.graphs import Graph, Place
from harness.kept import Kept
from harness.lanemaths import Inputs, LaneMaths
from harness.runtime import xla_has_started
from harness.seating import Seating
from harness.segments import Carry, Moving, Recorded, Stand
from harness.tiling import RecordPlan
from harness.types import Lanes, Program

Nest = Any
Observe = Callable[[Moving, Stand, Inputs], tuple[tf.Tensor, tf.Tensor, Nest]]  # `LaneMaths.observe`

LONGEST_PATIENCE = 2**31 - 1  # of a call that is over when all its lanes are done, or its steps made


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
        books: of a form; programs share what keeps them.
        drawing: of the workload, where its steps can be drawn ahead; programs share it.
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
        books: Callable[[Form], Bookkeeper] = Bookkeeper,
        drawing: Drawing | None = None,
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
        self.ends_at_target = segments.ends_at_target(program, workload)
        self.tail_start = program.budget - max(1, program.budget // 10)
        leaves = tf.nest.flatten(self.start)
        self.coordinates = 2 if len(leaves) == 1 and tuple(leaves[0].shape) == (2,) else 0
        self.network = lift.is_network(self.start)
        self.metrics = sorted(workload.monitor(self.start))  # asked for once: it looks at whole data sets
        viewed = build_optimizer(None).eval_params(maths.start, maths.state)
        self.identity_view = viewed is maths.start and (maths.written_out or not self.trailing)
        # At recorded points: where somebody asks for it.
        self.monitored = bool(self.metrics) and (program.curves or workload.target_metric != "loss")
        ahead = drawing if self.stochastic and jit and loop is None else None
        self.calls = Calls(
            plan=self.plan,
            lanes=self.lanes.count,
            real=self.real,
            quantities=(3 + self.coordinates) * program.curves,
            monitored=self.monitored,
            drawn=ahead.bytes * self.lanes.groups if ahead is not None else 0,
            viewed=self._viewed_specs(viewed) if self.lockstep and loop is None else (),
        )
        self.halved = False  # known after it is traced: whether a step is two functions
        self.compile_seconds = 0.0
        self.seconds_per_step: float | None = None  # the least of all calls of a span or more
        self.traces = 0

        def graph(fn: Callable[..., Nest], like: Nest, *, jit: bool = jit) -> Graph:
            return Graph(fn, like, jit=jit, name=fn.__name__.strip("_"), place=place)

        kinds = {"stability": program.stability, "lockstep": self.lockstep}
        self.seating = Seating(maths, graph=graph, **kinds)
        carry = self.empty()
        self.books = books(Form(self.lanes.count, self.calls.rows, self.real, jit))
        self.draws = ahead.ahead(self.lanes.groups, self.calls.rows) if ahead is not None else None
        moving = segments.moving(carry)
        self.kept = Kept((moving._replace(going=()), self.calls.recorded), one_at_a_time=True)
        self._advance = graph(self._advance_lanes, 0)
        self._view = graph(self._view_lanes, self.start)
        self.loop = loop(self) if loop is not None else None

    def _traced_once(self) -> Observe:
        """`LaneMaths.observe` as a function of its own, traced where it is first called and called again
        wherever else: it saves an eighth of the time that tracing a point's program takes."""
        look = tf.function(self.maths.observe, autograph=False)

        def observe(moving: Moving, at: Stand, inputs: Inputs) -> tuple[tf.Tensor, tf.Tensor, Nest]:
            # Only what it reads, or other shapes of the rest would have it traced again.
            using = moving._replace(going=(), stability=())
            return look(using, at, inputs)

        return observe

    def _advance_step(
        self,
        observe: Observe,
        moving: Moving,
        trace: tf.Tensor,
        at: Stand,
        inputs: Inputs,
    ) -> tuple[Moving, tf.Tensor, tf.Tensor, Nest]:
        """One step of every lane.

        Args:
            observe: `LaneMaths.observe`, or what does the same.
            at: the step.

        Returns:
            What moves; the trace, with the value of the lanes that were going and are fine, else infinity;
            the loss and the gradients.
        """
        step = at.step  # updates done
        loss, value, gradients = observe(moving, at, inputs)
        fine = moving.going & (loss > -np.inf) & (loss < np.inf) & (value <= inputs.limit)
        seen = nodes.where(fine, value, tf.constant(np.inf, self.real))
        trace = nodes.put(trace, at.row, nodes.reshape(seen, [1, self.lanes.count]), xla=self.jit)
        # Read back, so that XLA has it in memory: it would compute the loss again for all that is masked by
        # it, and could then keep nothing in place (measured: a third of the time on Rosenbrock).
        row = nodes.row(trace, at.row)
        going = (row < np.inf) & (step < self.program.budget)
        if self.ends_at_target:
            going = going & (row > inputs.targets[-1])
        zero = lift.unknown_zero(at.row) if self.jit else None
        before = lift.opaque(moving, zero)
        params, state = self.maths.candidates(moving, gradients, step, inputs, going, before.state)
        stability = ()
        if self.program.stability:
            params = lift.materialize(params) if self.jit else params
            stability = segments.stabilise(moving, params, row < np.inf, going, step, self, before)
        after = Moving(
            params=lift.select(going, params, before.params, self.trailing),
            state=state,
            going=going,
            stability=stability,
        )
        return after, trace, loss, gradients

    def _step(
        self, observe: Observe, moving: Moving, trace: tf.Tensor, at: Stand, inputs: Inputs, *, seen: bool
    ) -> tuple[Moving, tf.Tensor, Nest]:
        """`_advance_step`, in two functions where that is worth it (`harness.halves`).

        Args:
            observe: see there.
            seen: whether the loss and the gradients are wanted.

        Returns:
            What moves, the trace, and both of them or ().
        """
        maths = self.maths
        halves = maths.in_halves(moving, inputs) if self.jit else None
        if halves is None:
            moving, trace, *found = self._advance_step(observe, moving, trace, at, inputs)
            return moving, trace, tuple(found) if seen else ()
        self.halved = True

        def first(at: Stand, _: Nest, using: Nest) -> tuple[Nest, Nest]:
            moving, inputs = using
            return (), maths.first_half(halves, moving, at, inputs)

        def second(at: Stand, old: Nest, using: Nest) -> tuple[Nest, Nest]:
            (moving, trace), (inputs, batches, between) = old, using
            now = maths.second_half(halves, moving, inputs, batches, between)
            moving, trace, *found = self._advance_step(lambda *_: now, moving, trace, at, inputs)
            return (moving, trace), tuple(found) if seen else ()

        # No more of them than is read, or XLA carries it along.
        ahead = inputs._replace(begin=(), learning_rate=(), targets=(), limit=(), go=())
        after = inputs._replace(begin=(), group_seeds=(), go=(), drawn=())
        after = after if self.ends_at_target else after._replace(targets=())
        _, between = segments.apart(first, (), maths.first_half_like(halves), (moving, ahead), at=at)
        like = (tf.TensorSpec([self.lanes.count], self.real), moving.params) if seen else ()
        kept, found = segments.apart(second, (moving, trace), like, (after, *between), at=at)
        return *kept, found

    def _segment(
        self, moving: Moving, trace: Any, stand: Stand, count: tf.Tensor, inputs: Inputs
    ) -> tuple[Moving, Any, tf.Tensor, Nest]:
        """`count` steps of every lane that is going, of a network fewer where none goes on.

        Args:
            trace: [rows, lanes], written to from the row on where the lanes stand.

        Returns:
            What moves, the trace, how many steps were made, and what is recorded of the first one,
            [quantities, lanes]; () where no points are kept.
        """
        if self.program.curves:
            moving, trace, record = self._recorded(moving, trace, stand, count, inputs)
            return moving, trace, count, record

        def step(i: Any, stand: Stand, moving: Moving, trace: Any) -> Any:
            observe = self.maths.observe
            moving, trace, _ = self._step(observe, moving, trace, stand.after(i), inputs, seen=False)
            return self._next(i), stand.changed(i), moving, trace

        def unfinished(i: Any, stand: Stand, moving: Moving, _: Any) -> tf.Tensor:
            # A step of a point is so short that to ask would cost a part of it.
            return (i < count) & tf.reduce_any(moving.going) if self.network else i < count

        begin = (nodes.constant(0), stand, moving, trace)
        made, _, moving, trace = nodes.loop(unfinished, step, begin)
        return moving, trace, made, ()

    def dot(self, a: Nest, b: Nest) -> tf.Tensor:
        """See `products.dot`."""
        return products.dot(a, b, self.trailing, self.real, vectors=self.maths.tiles is not None)

    def _next(self, i: tf.Tensor) -> tf.Tensor:
        """The number of the next step of a loop."""
        return (i if self.maths.as_function and not self.halved else lift.in_kernels(i)) + 1

    def _recorded(
        self, moving: Moving, trace: Any, stand: Stand, count: tf.Tensor, inputs: Inputs
    ) -> tuple[Moving, Any, tf.Tensor]:
        """`_segment` where points are kept."""
        # A point is looked at once more before its loop, which costs a small one less than to ask at every
        # step of the loop.
        ahead = not self.network and not inputs.given
        observe = self._traced_once() if ahead else self.maths.observe
        nan, before = tf.fill([self.lanes.count], tf.constant(np.nan, self.real)), moving.params

        # Squares in the loop: where both branches are computed, a root would be taken at every step.
        def square_of_move(_: tf.Tensor, using: Nest) -> tf.Tensor:
            params, going = using
            change = lift.subtract(params, before)
            square = self.dot(change, change)
            return tf.where(going, square, nan)  # a run that ended here made no update

        def seen(_: Nest, using: Nest) -> Nest:
            loss, gradients = using
            return loss, self.dot(gradients, gradients)

        def step(i: Any, stand: Stand, moving: Moving, trace: Any, loss: Any, slope: Any, move: Any) -> Any:
            move = segments.when(i == 1, square_of_move, move, (moving.params, moving.going), lanes=self)
            moving, trace, found = self._step(observe, moving, trace, stand.after(i), inputs, seen=not ahead)
            if not ahead:
                loss, slope = segments.when(i == 0, seen, (loss, slope), found, lanes=self)
            return self._next(i), stand.changed(i), moving, trace, loss, slope, move

        loss = slope = nan
        if ahead:
            loss, _, gradients = observe(moving, stand, inputs)
            loss, slope = seen((), (loss, gradients))
        begin = (nodes.constant(0), stand, moving, trace, loss, slope, nan)
        _, _, moving, trace, loss, slope, move = nodes.loop(lambda i, *_: i < count, step, begin)
        move = segments.when(count == 1, square_of_move, move, (moving.params, moving.going), lanes=self)
        points = [loss, tf.sqrt(slope), tf.sqrt(move)]
        if self.coordinates:
            points += [tf.cast(c, self.real) for c in tf.unstack(tf.nest.flatten(before)[0])]
        return moving, trace, tf.stack(points)

    def _advance_lanes(self, trace: Nest, handles: Nest, moving: Moving, *given: Nest) -> tf.Tensor:
        """`_steps`, whose outcome is kept; returns how many steps were made.

        Args:
            trace, handles: of the books' trace, and of `kept`.
            moving: where the lanes stand.
        """
        self.traces += 1
        values, kept = self.books.trace.read(trace), self.kept.read(handles)
        if self.trailing and self.jit:
            values, *kept, made = self._at_once(values, kept, (moving, *given))
        else:
            values, moving, recorded, made = self._steps(values, moving, kept[1], *given)
            kept = moving._replace(going=()), recorded
        done = [*self.books.trace.write(trace, values), *self.kept.write(handles, kept)]
        with tf.control_dependencies(done):
            return tf.identity(made)

    def _at_once(self, trace: tf.Tensor, kept: Nest, given: Nest) -> Any:
        """`_steps` as one function of XLA's, which makes one of a loop and of nothing else.

        Args:
            kept: of an earlier call; what moves is put in its place, since of an argument XLA makes a copy
                before the loop.
        """

        def once(k: Any, trace: tf.Tensor, _: Moving, recorded: Recorded, made: tf.Tensor) -> Any:
            # Made to depend on the round, or XLA would compute parts of it before the loop.
            k, (moving, *known) = lift.materialize((k, given))
            trace, moving, recorded, made = self._steps(trace, moving, recorded, *known)
            return k + 1, trace, moving._replace(going=()), recorded, made

        # One, which XLA must not know: it takes loops of one round apart.
        rounds = 1 + tf.minimum(given[-1], 0)
        zero = nodes.constant(0)
        return nodes.loop(lambda k, *_: k < rounds, once, (zero, trace, *kept, zero))[1:]

    def _steps(
        self,
        trace: tf.Tensor,
        moving: Moving,
        recorded: Recorded,
        step: tf.Tensor,
        inputs: Inputs,
        spans: Any,
        steps: Any,
        patience: Any,
    ) -> tuple[tf.Tensor, Moving, Recorded, tf.Tensor]:
        """`spans` × `steps` steps of every lane that is going (scalars int32, traced like the next).

        Where points are kept and runs begin, the first span is cut at the early steps that are recorded.
        Where runs end at their targets, the call is over at the first recorded step at which those lanes that
        were going and are done have waited for more than `patience` steps, all together, counted in whole
        segments; at the end of any span where nothing is recorded.

        Args:
            trace: [rows, lanes], of an earlier call.
            moving: where the lanes stand.
            recorded: in an earlier call.
            step: updates done, a scalar in lockstep, else [lanes].

        Returns:
            The trace, what moves, what is recorded, and how many steps were made.
        """
        stand, total = self._stand(moving.going, step, spans * steps)
        if self.lockstep and not self.program.curves and not self.calls.views:
            moving, trace, total, _ = self._segment(moving, trace, stand, total, inputs)
            return trace, moving, recorded, total
        cut = spans, steps, patience, total
        return self._segment_by_segment(moving, trace, recorded, stand, inputs, *cut)

    def _segment_by_segment(
        self,
        moving: Moving,
        trace: Any,
        recorded: Recorded,
        stand: Stand,
        inputs: Inputs,
        spans: Any,
        steps: Any,
        patience: Any,
        total: Any,
    ) -> Any:
        """The steps of a call in segments, each followed by a look at who is left; returns as `_steps`."""
        rounds, nowhere = self.plan.rounds, self.calls.nowhere
        early = self.plan.early
        cuts = tf.constant([0, *early, self.plan.span], tf.int32)
        pieces = len(early)  # the first span has one more
        last = tf.where(spans > 0, spans + pieces, 0)

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

        def how_many(moving: Moving) -> tf.Tensor:
            return tf.reduce_sum(tf.cast(moving.going, tf.int32))

        def outer(
            j: Any, stand: Stand, fresh: Any, waited: Any, moving: Moving, trace: Any, recorded: Recorded
        ) -> Any:
            count, slot = extent(j, fresh)
            count = tf.minimum(count, total - stand.row)
            views = recorded.views
            if self.calls.views:
                seen, place = self._viewed(moving, inputs), tf.minimum(slot, nowhere)
                views = tf.nest.map_structure(lambda old, new: self._put(old, place, new), views, seen)
            moving, trace, made, point = self._segment(moving, trace, stand, count, inputs)
            points = self._put(recorded.points, slot, point) if self.program.curves else ()
            following = tf.where(fresh, j, tf.maximum(j, pieces)) + 1  # only a run that begins is cut early
            if not self.lockstep:
                waited = waited + (began - how_many(moving)) * made
            recorded = Recorded(points, views)
            return following, stand.after(made), fresh & (j >= 0), waited, moving, trace, recorded

        def unfinished(j: Any, _: Stand, fresh: Any, waited: Any, moving: Moving, *__: Any) -> tf.Tensor:
            more = (j < last) & tf.reduce_any(moving.going)
            if self.lockstep:
                return more
            span = j - pieces
            on_point = (span > 0) & (span % (rounds if self.program.curves or self.monitored else 1) == 0)
            return more & (~on_point | (waited <= patience))

        fresh = stand.step == 0 if self.lockstep else tf.reduce_any(moving.going & (stand.step == 0))
        none = nodes.constant(0)
        began, waited = ((), ()) if self.lockstep else (how_many(moving), none)
        begin = (none, stand, fresh, waited, moving, trace, recorded)
        _, stand, _, _, moving, trace, recorded = nodes.loop(unfinished, outer, begin)
        return trace, moving, recorded, stand.row

    def _put(self, rows: tf.Tensor, place: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
        return nodes.put(rows, place, row[None], xla=self.jit)

    def _stand(self, going: tf.Tensor, step: tf.Tensor, asked: tf.Tensor) -> tuple[Stand, tf.Tensor]:
        """Where a call begins, and how many steps it makes of those that are asked for."""
        row = nodes.constant(0)
        if not self.lockstep:
            return Stand(row, step, self.maths.steps_of_groups(going, step)), asked
        at = step if step.shape.rank == 0 else tf.reduce_max(tf.where(going, step, 0))
        asked = tf.minimum(asked, self.program.budget - at + 1)  # at the budget, one observation
        return Stand(row, at, tf.fill([self.lanes.groups], at)), asked

    def _viewed_specs(self, viewed: Nest) -> Nest:
        """The specification of `_viewed`.

        Args:
            viewed: of a single run.
        """
        n, last = self.lanes.count, self.maths.written_out

        def spec(leaf: Any) -> tf.TensorSpec:
            leaf = tf.convert_to_tensor(leaf)
            return tf.TensorSpec([*leaf.shape, n] if last else [n, *leaf.shape], leaf.dtype)

        return tf.nest.map_structure(spec, viewed)

    @property
    def ends_by_itself(self) -> bool:
        """Whether a call that reaches the budget may be asked for one span more, to observe it."""
        return self.lockstep and (not self.monitored or bool(self.calls.views)) and self.loop is None

    def _viewed(self, at: Carry | Moving, inputs: Inputs) -> Nest:
        return at.params if self.identity_view else self._view_lanes(at, inputs)

    def _view_lanes(self, at: Carry | Moving, inputs: Inputs) -> Nest:
        def seen(traced: Any, params: Nest, state: Nest) -> Nest:
            return self.maths.build_optimizer(traced).eval_params(params, state)

        look, own = self.maths.with_traced(seen, inputs.traced)
        found = self.maths.lifted(look, [own, at.params, at.state])
        return found if self.maths.written_out else lift.load(found, self.trailing)

    # -- what the host calls -----------------------------------------------------------------------

    def empty(self) -> Carry:
        """A carry whose lanes are all idle."""
        return self.seating.empty()

    def view(self, carry: Carry, inputs: Inputs) -> Nest:
        """The parameters to evaluate, [lanes, ...], or [..., lanes] where products are written out: averaging
        methods look at others than they train."""
        return carry.params if self.identity_view else self._view(carry, inputs)

    def seat(self, carry: Carry, inputs: Inputs, fresh: tf.Tensor) -> Carry:
        """The carry with the runs of `inputs` begun in the lanes that are `fresh` (bool [lanes]); in lockstep
        all others are idle."""
        return self.seating.seat(carry, inputs, fresh)

    def advance(
        self, carry: Carry, inputs: Inputs, spans: int, steps: int, patience: int = LONGEST_PATIENCE
    ) -> tuple[Ran, Found]:
        """One call of the compiled program, and what is found in its trace.

        Args:
            spans, steps, patience: see `_steps`; spans of at most `calls.spans`.
        """
        if steps > self.plan.span or spans > self.calls.spans + self.ends_by_itself:
            raise ValueError(f"{spans} spans of {steps} steps do not fit a trace of {self.calls.rows} rows")
        ran = self._run(carry, inputs, spans, steps, patience)
        return ran, self.books.look(carry, ran, inputs.targets)

    def booked(self, carry: Carry, inputs: Inputs, ran: Ran, found: Found) -> Carry:
        """The carry after a call, by the host."""
        budget, go = self.program.budget, np.asarray(inputs.go)
        return after(carry, ran, found, go, inputs.targets, budget, at_target=self.ends_at_target)

    def _run(self, carry: Carry, inputs: Inputs, spans: int, steps: int, patience: int) -> Ran:
        if self.loop is not None:
            ran, trace = self.loop.advance(carry, inputs, spans, steps)
            self.books.trace.mine.put(trace)
            return ran
        made = self._advance(*self._asks(carry, inputs, spans, steps, patience))
        return Ran(*self.kept.mine.changed(), steps=int(made))

    def _asks(self, carry: Carry, inputs: Inputs, spans: int, steps: int, patience: int) -> Any:
        """The arguments of `_advance_lanes`."""
        step, going = np.asarray(carry.step), np.asarray(carry.live) & np.asarray(inputs.go)
        moving = segments.moving(carry)._replace(going=going)
        if self.lockstep:  # where one lane stands, all do
            step = np.int32(step[going].max(initial=0))
        size = np.int32(spans), np.int32(steps), np.int32(patience)
        if self.draws is not None and not tf.nest.flatten(inputs.drawn):
            inputs = inputs._replace(drawn=self._drawn(inputs, step, going, spans * steps))
        kept = self.books.trace.mine.handles, self.kept.mine.handles
        return *kept, moving, step, inputs._replace(begin=(), go=()), *size

    def _drawn(self, inputs: Inputs, step: Any, going: np.ndarray, count: int) -> Nest:
        """What the steps of a call draw, from where the lanes of each group stand on; as `_stand` has it."""
        assert self.draws is not None
        each = np.where(going, step, 0).reshape(self.lanes.groups, self.lanes.width).max(1)
        return self.draws(inputs.group_seeds, each.astype(np.int32), min(count, self.calls.rows))

    def step_given(self, moving: Moving, step: tf.Tensor, inputs: Inputs) -> tuple[Moving, tf.Tensor, Nest]:
        """One step of every lane from the loss and gradients in `inputs.given`, for a compiled function of
        the caller's.

        Args:
            moving: those lanes are `going` that take part.
            step: updates done, [lanes].

        Returns:
            What moves, the trace's row, and what is recorded of the step: see `_segment`.
        """

        def once(k: tf.Tensor, moving: Moving, step: tf.Tensor, *_: Nest) -> Any:
            stand, count = self._stand(moving.going, step, tf.constant(1))
            blank = tf.fill([1, self.lanes.count], tf.constant(np.inf, self.real))
            out = self._segment(moving, blank, stand, count, inputs)
            return k + 1, out[0], step + k, out[1][0], out[3]

        # A loop of one round, which changes where the lanes stand and who goes: outside of one, or where a
        # loop keeps them, XLA takes them for constants, and would compile anew for each of their values.
        record: Any = ()
        if self.program.curves:
            record = tf.zeros([3 + self.coordinates, self.lanes.count], self.real)
        begin = (tf.constant(0), moving, step, tf.zeros([self.lanes.count], self.real), record)
        _, moving, _, row, record = nodes.loop(lambda k, *_: k < 1, once, begin)
        return moving, row, record

    def compile(self, inputs: Inputs, run: Callable[[Callable[[], None]], Any] = lambda fn: fn()) -> None:
        """Traces and compiles; no lane moves, since all are idle. What draws, and the books' program, are
        compiled beside where they are new; only the first is waited for.

        Args:
            run: calls a function where this program runs, in any thread.

        Raises:
            LiftError: an operation has no vectorised form.
            NotDrawn: what draws ahead cannot be traced or compiled.
        """
        begin = time.perf_counter()
        carry = self.empty()
        with lifting():
            if self.draws is not None:
                inputs = inputs._replace(drawn=self.draws.none())
            if self.loop is None:
                self._advance.prepare(*self._asks(carry, inputs, 1, 1, 0))
            drawing = self.draws.compile(run) if self.draws is not None else None
            if self.trailing:  # one function, and one thread of XLA's: kernels keep all cores busy
                self.books.compile(run)
            self._run(carry, inputs, 1, 1, 0)
        if drawing is not None and (error := drawing.exception()) is not None:
            raise NotDrawn(str(error)) from error
        self.books.compile(run)
        xla_has_started()
        self.compile_seconds = time.perf_counter() - begin
