"""One tile on one device: the host's loop around the compiled program."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import Any

import numpy as np

from harness import tiling
from harness.runtime import tensorflow
from harness.types import Cell

tf = tensorflow()

from harness.bookkeeping import distances  # noqa: E402
from harness.graphs import tensor  # noqa: E402
from harness.kept import OnShelf  # noqa: E402
from harness.lanemaths import Inputs  # noqa: E402
from harness.program import LONGEST_PATIENCE  # noqa: E402
from harness.segments import LADDER, Carry  # noqa: E402

VISIT_SECONDS = 1e-3  # between two calls, before any is known
DIVERGENCE_FACTOR = 1e6  # a loss above this many times the larger of 1 and the initial one has diverged


# Held by the thread that prepares or books a tile, and not while a device works: without it threads hand
# Python's own lock to each other at every small operation, at 0.05 to 1 ms a time.
_HOST = threading.Lock()


@contextmanager
def _away() -> Iterator[None]:
    """Lets another thread at the host's work meanwhile."""
    _HOST.release()
    try:
        yield
    finally:
        _HOST.acquire()


# A slot of what a call records, the lanes that were recorded in it, and at which step each.
Observed = tuple[int, np.ndarray, np.ndarray]


def _value(leaf: Any) -> Any:
    return leaf.value() if isinstance(leaf, OnShelf) else leaf


class Stopped(Exception):
    """The run was asked to end; the tile's rows are not committed."""


@lru_cache(2**16)  # a tile's take as long as half of its call; all tiles have those of the same seeds
def ladder(initial: float, target: float, optimum: float | None) -> np.ndarray:
    """Targets of a run, [LADDER]: log-spaced from its initial gap to that of its own target, the last one.

    The gap is to the optimum where it is known, else to 0. A start below the target has one target. Nobody
    may change what is returned.
    """
    floor = 0.0 if optimum is None else optimum
    first, last = initial - floor, target - floor
    if not np.isfinite(initial) or first <= last:
        return np.full(LADDER, target)
    if last <= 0:  # a target below the optimum: no logarithm to space by
        return np.linspace(initial, target, LADDER + 1)[1:]
    spaced = floor + np.geomspace(first, last, LADDER + 1)[1:]
    spaced[-1] = target
    return spaced


@dataclass
class TileRun:
    """Runs cells of one program to their end.

    Args:
        warm: the compiled program with its evaluator and its seeds' starting points.
        cells: what to run.
        call: runs a function in the strategy's replica context.
        curves: whether points are kept.
        stopped: asked between calls; true ends the run with `Stopped`.
    """

    warm: Any
    cells: tuple[Cell, ...]
    call: Callable[..., Any]
    curves: bool = True
    stopped: Callable[[], bool] = lambda: False
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    visit_seconds: float = VISIT_SECONDS  # of the last ones, on average
    metrics: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with _HOST:
            self._prepare()

    def _prepare(self) -> None:
        compiled = self.warm.compiled
        self.compiled, self.program, self.plan = compiled, compiled.program, compiled.plan
        lanes, n = compiled.lanes, len(self.cells)
        self.workload = compiled.workload
        queue = tiling.units(self.cells, lanes, compiled.stochastic)
        places, width = (lanes.groups, lanes.width) if compiled.stochastic else (lanes.count, 1)
        self.seats = tiling.Seats(queue, places, width)
        self.by_metric = self.workload.target_metric != "loss"
        self.ledger = tiling.Ledger.empty(n, LADDER)
        names = ["loss", "gradient_norm", "update_norm", "x", "y"][: 3 + compiled.coordinates]
        steps = self.plan.steps()
        self.record = tiling.Curves(n, steps, names, compiled.metrics) if self.curves else None
        self._describe_cells()
        self.was_step = np.zeros(lanes.count, np.int64)
        self.live = np.zeros(lanes.count, bool)

    def _describe_cells(self) -> None:
        """Per-cell inputs as arrays: start, rate, hyperparameters, targets, divergence limit."""
        count = len(self.cells)

        def column(name: str, dtype: type) -> np.ndarray:
            return np.fromiter(map(attrgetter(name), self.cells), dtype, count)

        self.seed, self.rate = column("seed", np.int64), column("learning_rate", np.float64)
        unique, self.seed_row = np.unique(self.seed, return_inverse=True)
        seeds = unique.tolist()
        if not self.warm.points.knows(seeds):
            with _away():  # the first look at a seed may take long
                self.call(self.warm.starts, seeds)
        starts = self.call(self.warm.starts, seeds)
        self.starts, self.first = starts.params, (starts.losses, starts.gradients)
        self.traced = self._traced_columns()
        real = self.compiled.real.as_numpy_dtype
        # Of the seeds: few, whose values are then taken by lane.
        self.ladders = starts.targets
        limit = DIVERGENCE_FACTOR * np.maximum(1.0, np.abs(starts.values))
        self.limit = np.minimum(limit, np.finfo(real).max).astype(real)
        # Where the target is on a monitored metric, the host looks for hits; the device must find none.
        ladders = np.full_like(self.ladders, -np.inf) if self.by_metric else self.ladders
        self.device_ladders = ladders.astype(real)

    @cached_property
    def targets(self) -> np.ndarray:
        """[LADDER, cells]."""
        return self.ladders[:, self.seed_row]

    def _traced_columns(self) -> np.ndarray:
        """[traced hyperparameters, cells] float64."""
        count = len(self.cells)
        if all(self.program.shared):
            values = self.cells[0].optimizer.traced()
            return np.repeat(np.array(values, np.float64)[:, None], count, 1)  # there may be none
        optimizers = list(map(attrgetter("optimizer"), self.cells))  # cells of one setting have one object
        settings = {id(each): each for each in optimizers}
        places = {key: i for i, key in enumerate(settings)}
        place = np.fromiter(map(places.__getitem__, map(id, optimizers)), np.intp, count)
        return np.array([each.traced() for each in settings.values()], np.float64).T[:, place]

    # -- the loop ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Steps until every cell is done.

        Raises:
            Stopped: the run was asked to end.
        """
        with _HOST:
            self._run()

    def _run(self) -> None:
        carry = self.compiled.empty()
        inputs = None
        while self.seats.busy:
            if self.stopped():
                raise Stopped
            begin = time.perf_counter()
            # Where all lanes stand at one step, the next units wait until the last lane is done.
            self.seats.fill(wait=self.compiled.lockstep)
            fresh = self.seats.fresh
            if fresh.any():
                row = self.seed_row[np.maximum(self.seats.cell, 0)]
                self.begin = tf.nest.map_structure(lambda leaf, row=row: leaf[row], self.starts)
                self.was_step[fresh] = 0
                self.live |= fresh
            if inputs is None or fresh.any():  # of a lane that is done they may be what they were
                inputs = self._inputs()
            if fresh.any():
                carry = self.call(self.compiled.seat, carry, inputs, tensor(fresh.copy()))
            if self.compiled.monitored and not self.compiled.calls.views:
                carry = self._monitor(carry, inputs)
            carry, steps = self._call(carry, inputs)
            self._visited(time.perf_counter() - begin, steps)

    def _inputs(self) -> Inputs:
        cell = np.maximum(self.seats.cell, 0)
        row = self.seed_row[cell]
        return Inputs(
            begin=self.begin,
            group_seeds=tensor(self._group_seeds()),
            learning_rate=tensor(self.rate[cell]),
            traced=tuple(
                tensor(column[0] if shared else column[cell])
                for column, shared in zip(self.traced, self.program.shared, strict=True)
            ),
            targets=tensor(np.take(self.device_ladders, row, 1)),
            limit=tensor(self.limit[row]),
            go=tensor(self.live.copy()),
        )

    def _group_seeds(self) -> np.ndarray:
        """The seed of each group, int32: that of any cell still in it, since its first may have ended."""
        groups = self.compiled.lanes.groups
        held = (
            self.seats.cell.reshape(groups, -1).max(1) if self.compiled.stochastic else np.zeros(groups, int)
        )
        return self.seed[np.maximum(held, 0)].astype(np.int32)

    def _call(self, carry: Carry, inputs: Inputs) -> tuple[Carry, int]:
        """The carry after a call, and how many steps were made in it."""
        if not self.live.any():
            return carry, 0
        go, spans, steps = self._extent(self.plan.budget - self.was_step)
        inputs = inputs._replace(go=tensor(go))
        patience = self._patience()
        with _away():
            begin = time.perf_counter()
            ran, found = self.call(self.compiled.advance, carry, inputs, spans, steps, patience)
            np.asarray(found.seen)  # waits for the device
            seconds = time.perf_counter() - begin
        self.train_seconds += seconds
        if ran.steps >= self.plan.span:  # of fewer, a call's own cost is the most
            known = self.compiled.seconds_per_step
            pace = seconds / ran.steps
            self.compiled.seconds_per_step = pace if known is None else min(pace, known)
        carry = self.compiled.booked(carry, inputs, ran, found)
        step = np.asarray(carry.step).astype(np.int64)
        live = np.asarray(carry.live)
        seen = np.where(live, step - 1, step)  # a lane observes the step where it stands only where it ended
        observed = list(self._observed(go, seen))
        if self.record is not None:
            self._record(observed, go, seen, np.asarray(ran.recorded.points))
        if self.compiled.calls.views:
            self._look_back(observed, ran.recorded.views)
        finished = go & ~live
        self.was_step, self.live = step, live & (self.seats.cell >= 0)
        if finished.any():
            self._finish(carry, inputs, finished)
        return carry, ran.steps

    def _extent(self, left: np.ndarray) -> tuple[np.ndarray, int, int]:
        """Which lanes go, by how many spans of how many steps, so that all stay on recorded steps.

        Lanes at their budget need one observation; lanes nearer to it than a stride, the rest of a stride.
        """
        span, stride, most = self.plan.span, self.plan.stride, self.compiled.calls.spans
        if not (self.program.curves or self.compiled.monitored or self.compiled.lockstep):
            # Nothing is recorded in between, and each lane ends at its own budget.
            return self.live.copy(), min(int(left[self.live].max()) // span + 1, most), span
        at_end, near = self.live & (left == 0), self.live & (left < stride)
        if at_end.any():
            return at_end, 1, 1
        if near.any():
            rest = int(left[near].min())
            go = near & (left == rest)
            return (go, min(rest // span, most), span) if rest >= span else (go, 1, rest)
        # A stride longer than a call is finished by those who began it before anybody begins another.
        within = self.was_step % stride
        begun = self.live & (within > 0)
        if begun.any():
            furthest = int(within[begun].max())
            return begun & (within == furthest), min((stride - furthest) // span, most), span
        if most < self.plan.rounds:
            return self.live.copy(), most, span
        least = int(left[self.live].min())
        strides = min(least // stride, self.compiled.calls.strides)
        if self.compiled.calls.views:  # of how long a step takes nothing is known at first
            pace = self.compiled.seconds_per_step
            strides = min(strides, 1 if pace is None else int(tiling.SECONDS_PER_CALL / pace) // stride or 1)
        # Where all stand at one step, the call that brings them to their budget also observes them there.
        last = self.compiled.ends_by_itself and strides * stride == least
        return self.live.copy(), strides * self.plan.rounds + last, span

    @property
    def _on_grid(self) -> np.ndarray:
        """Which lanes stand at a whole number of strides, or at their budget."""
        return (self.was_step % self.plan.stride == 0) | (self.was_step == self.plan.budget)

    def _visited(self, seconds: float, steps: int) -> None:
        """Notes what a call took with all that belongs to it: of that, what its steps do not account for is
        the visit's (a call's own cost, what was drawn ahead in vain, metrics of who has ended)."""
        stepping = steps * (self.compiled.seconds_per_step or 0.0)
        self.visit_seconds += (seconds - stepping - self.visit_seconds) / 2

    def _patience(self) -> int:
        """How many steps lanes that are done may wait for a call's end, all together, while others wait for
        their places: as many as take as long as a visit does. So neither costs much more than twice what the
        better choice would, however alike runs are.
        """
        refills = self.seats.waiting and self.seats.width == 1 and not self.compiled.lockstep
        if not refills:
            return LONGEST_PATIENCE
        pace = self.compiled.seconds_per_step
        steps = self.plan.span if pace is None else self.visit_seconds / pace  # of all lanes
        return min(int(steps * self.compiled.lanes.count), LONGEST_PATIENCE)

    def _observed(self, go: np.ndarray, seen: np.ndarray) -> Iterator[Observed]:
        """The points on the grid that were recorded in a call.

        Args:
            seen: the last step that each lane observed.
        """
        if self.record is None and not self.compiled.calls.views:
            return
        begun = go & self._on_grid
        for slot in range(self.compiled.calls.strides + 1):
            at = self.was_step + slot * self.plan.stride
            lanes = np.flatnonzero(begun & (at <= seen))
            if not lanes.size:
                break
            yield slot, lanes, at[lanes]

    def _record(
        self, observed: Sequence[Observed], go: np.ndarray, seen: np.ndarray, points: np.ndarray
    ) -> None:
        """Keeps the points that lanes observed, the early ones among them."""
        assert self.record is not None
        for slot, lanes, at in observed:
            self.record.put(self.seats.cell[lanes], at, points[slot][:, lanes])
        fresh = go & (self.was_step == 0)
        if not fresh.any():
            return
        early = self.plan.early
        for at, values in zip(early, points[len(points) - len(early) :], strict=True):
            lanes = np.flatnonzero(fresh & (at <= seen))
            self.record.put(self.seats.cell[lanes], np.full(len(lanes), at), values[:, lanes])

    def _look_back(self, observed: Sequence[Observed], views: Any) -> None:
        """Evaluates the monitored metrics where a call kept what is evaluated at its recorded points."""

        def rows(leaf: Any) -> Any:
            value = _value(leaf)
            return np.asarray(value) if "CPU" in value.device else value

        def look(kept: Any, slot: int) -> dict[str, Any]:
            return self.warm.evaluator.monitor(tf.nest.map_structure(lambda leaf: leaf[slot], kept))

        found = []
        with _away():
            begin, kept = time.perf_counter(), tf.nest.map_structure(rows, views)
            for slot, _, _ in observed:
                values = self.call(look, kept, slot)
                found.append({name: value.numpy() for name, value in values.items()})
            self.evaluate_seconds += time.perf_counter() - begin
        for values, (_, lanes, at) in zip(found, observed, strict=True):
            self._keep_metrics(values, lanes, at)

    def _keep_metrics(self, values: dict[str, np.ndarray], lanes: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Keeps what metrics are of lanes at their steps; returns which of them end there, at their target.

        Args:
            values: [lanes] each, of all lanes.
        """
        cell = self.seats.cell[lanes]
        if self.record is not None:
            for name in self.record.metrics:
                self.record.put_metric(name, cell, step, values[name][lanes])
        if not self.by_metric:
            return np.zeros(len(lanes), bool)
        return self._judge(cell, step, values[self.workload.target_metric][lanes])

    def _finish(self, carry: Carry, inputs: Inputs, lanes: np.ndarray) -> None:
        """Moves what the lanes came to into the ledger and frees them."""
        book, at = self.ledger, np.flatnonzero(lanes)
        cell = self.seats.cell[at]
        final = np.asarray(carry.final)[at]
        book.steps[cell] = np.asarray(carry.step)[at]
        book.diverged[cell] = np.asarray(carry.diverged)[at]
        book.initial_loss[cell], book.initial_gradient[cell] = (of[self.seed_row[cell]] for of in self.first)
        book.path[cell] = np.asarray(carry.path)[at]
        book.turns[cell] = np.asarray(carry.turns)[at]
        params = tf.nest.map_structure(_value, carry.params)
        with _away():
            book.displacement[cell], book.tail_std[cell] = self._distances(carry, params, at, cell)
        if not self.by_metric:
            book.final[cell] = final
            book.best[cell] = np.asarray(carry.best)[at]
            book.best_step[cell] = np.asarray(carry.best_step)[at]
            book.hits[:, cell] = np.asarray(carry.hits)[:, at]
            book.last_miss[cell] = np.asarray(carry.last_miss)[at]
        if self.record is not None:
            ended = ~book.diverged[cell]
            self.record.close(cell[ended], book.steps[cell[ended]], final[ended])
        self._evaluate(carry, inputs, at, cell)
        self.seats.release(at)

    def _distances(
        self, carry: Carry, params: Any, at: np.ndarray, cell: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `bookkeeping.distances`."""
        last = self.compiled.trailing

        everyone = len(at) == self.compiled.lanes.count

        def of_lanes(leaf: Any) -> np.ndarray:
            axis = -1 if last else 0
            if isinstance(leaf, tf.Tensor) and "CPU" not in leaf.device:
                found = tf.gather(leaf, at, axis=axis).numpy()  # what is asked for, and no more
            else:
                found = np.asarray(leaf) if everyone else np.take(np.asarray(leaf), at, axis)
            return np.moveaxis(found, -1, 0) if last else found

        row = self.seed_row[cell]
        row = row[:1] if (row == row[0]).all() else row  # one start, broadcast
        ends = tf.nest.map_structure(of_lanes, params)
        starts = tf.nest.map_structure(lambda leaf: leaf[row], self.starts)
        tail = np.asarray(carry.tail_count)[at], np.asarray(carry.tail_square)[at]
        return distances(ends, starts, *tail)

    # -- metrics -----------------------------------------------------------------------------------

    def _monitor(self, carry: Carry, inputs: Inputs) -> Carry:
        """Evaluates the monitored metrics of all lanes that stand at a recorded point, finds hits of
        targets that are on one of them, and stops the lanes whose study ends there."""
        at = np.flatnonzero(self.live & self._on_grid)
        if not at.size:  # within a stride that is longer than a call
            return carry
        values = self._look(self.warm.evaluator.monitor, carry, inputs)
        halt = self._keep_metrics(values, at, self.was_step[at])
        return self._halt(carry, inputs, at[halt]) if halt.any() else carry

    def _judge(self, cell: np.ndarray, step: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Books a metric's values; returns which of the cells end here, at their target."""
        book = self.ledger
        better = value < book.best[cell]
        book.best[cell] = np.where(better, value, book.best[cell])
        book.best_step[cell] = np.where(better, step, book.best_step[cell])
        book.final[cell] = value
        new = (book.hits[:, cell] < 0) & (value <= self.targets[:, cell])
        book.hits[:, cell] = np.where(new, step, book.hits[:, cell])
        missed = ~(value <= self.targets[-1, cell])
        book.last_miss[cell] = np.where(missed, step, book.last_miss[cell])
        return ~missed if self.program.stop == "target" else np.zeros(len(cell), bool)

    def _halt(self, carry: Carry, inputs: Inputs, lanes: np.ndarray) -> Carry:
        """Freezes lanes at the point where they stand and books them."""
        mask = np.zeros_like(self.live)
        mask[lanes] = True
        carry = carry._replace(live=tensor(np.asarray(carry.live) & ~mask))
        self._finish(carry, inputs, mask)
        self.live &= ~mask
        return carry

    def _evaluate(self, carry: Carry, inputs: Inputs, at: np.ndarray, cell: np.ndarray) -> None:
        """Final metrics of the lanes that ended without diverging."""
        well = ~self.ledger.diverged[cell]
        if self.warm.evaluator is None or not well.any():
            return
        for name, value in self._look(self.warm.evaluator.evaluate, carry, inputs).items():
            column = self.metrics.setdefault(name, np.full(len(self.cells), np.nan))
            column[cell[well]] = value[at[well]]

    def _look(self, evaluate: Callable[[Any], Any], carry: Carry, inputs: Inputs) -> dict[str, np.ndarray]:
        """The metrics of all lanes where they stand, [lanes] each."""
        with _away():
            begin = time.perf_counter()
            view = self.call(self.compiled.view, carry, inputs)
            values = {name: value.numpy() for name, value in self.call(evaluate, view).items()}
            self.evaluate_seconds += time.perf_counter() - begin
        return values
