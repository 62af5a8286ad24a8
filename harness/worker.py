"""Runs tiles: fills lanes with cells, steps the program, and turns what came back into rows."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Any

from harness import catalog, rows, runtime, tiling
from harness.records import Store
from harness.runtime import stable_names, tensorflow
from harness.types import Cell, Component, Lanes, Outcome, Program, RunError, Tile, digest

tf = tensorflow()

from harness import halves  # noqa: E402
from harness.batchsplit import BatchLoop  # noqa: E402
from harness.bookkeeping import Bookkeeper, Form  # noqa: E402
from harness.draws import Drawing, NotDrawn  # noqa: E402
from harness.evaluation import Evaluator  # noqa: E402
from harness.graphs import Place  # noqa: E402
from harness.lanemaths import Inputs  # noqa: E402
from harness.program import LaneProgram, LiftError  # noqa: E402
from harness.segments import LADDER  # noqa: E402
from harness.starts import StartingPoints, Starts  # noqa: E402
from harness.strategies import Placement  # noqa: E402
from harness.tilerun import Stopped, TileRun, ladder  # noqa: E402

WARM_PROGRAMS = 32
LONGEST = 300  # characters of a failed row's reason


@dataclass
class Warm:
    """A compiled program and what belongs to it.

    Args:
        compiled: the lanes' program.
        evaluator: the workload's metrics over the same lanes; None where it has none.
        points: where the workload's runs start.
        note: a sentence for the rows where the maths could not ride in lanes or could not be compiled.
    """

    compiled: LaneProgram
    evaluator: Evaluator | None
    points: StartingPoints
    note: str = ""
    last: Starts | None = None

    def starts(self, seeds: Sequence[int]) -> Starts:
        """Where the runs of these seeds start; the last answer is kept, for tiles often have the same."""
        last = self.last  # other threads may replace it
        if last is None or last.seeds != tuple(seeds):
            program, optimum = self.compiled.program, self.compiled.workload.optimum
            self.last = last = self.points.of(seeds, partial(ladder, target=program.target, optimum=optimum))
        return last


class Programs:
    """Compiled programs, the last used kept; each is compiled once, whoever asks first.

    Args:
        placement: where they run.
        compiling: called with +1 and -1 as compiling begins and ends.
    """

    def __init__(self, placement: Placement, compiling: Callable[[int], None] = lambda change: None):
        self.placement, self.compiling = placement, compiling
        self._warm: OrderedDict[str, Warm] = OrderedDict()
        self._evaluators: dict[str, Evaluator] = {}
        self._books: dict[Form, Bookkeeper] = {}
        self._drawings: dict[str, Drawing | None] = {}  # by workload
        self._points: dict[str, StartingPoints] = {}  # by workload
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def get(self, program: Program) -> tuple[Warm, float]:
        """The warm program, and the seconds that compiling it took just now (0 where it was warm).

        Raises:
            Exception: what the optimizer or workload raised while it was traced.
        """
        with self._guard:
            lock = self._locks.setdefault(program.key, threading.Lock())
        with lock:
            with self._guard:
                if program.key in self._warm:
                    self._warm.move_to_end(program.key)
                    return self._warm[program.key], 0.0
            begin = time.perf_counter()
            self.compiling(1)
            try:
                warm = self._compile(program)
            finally:
                self.compiling(-1)
            seconds = time.perf_counter() - begin
            with self._guard:
                self._warm[program.key] = warm
                while len(self._warm) > WARM_PROGRAMS:
                    self._warm.popitem(last=False)
            return warm, seconds

    def warm_keys(self) -> set[str]:
        with self._guard:
            return set(self._warm)

    def _compile(self, program: Program) -> Warm:
        workload = catalog.build_workload(program.workload, program.dtype)

        def build(traced: Sequence[Any] | None) -> Any:
            return catalog.build_optimizer(program.optimizer, traced)

        def split(lanes: LaneProgram) -> BatchLoop:
            return BatchLoop(lanes, self.placement)

        loop = split if program.split == "batch" else None
        alone = replace(program, lanes=Lanes(1, 1), written_out=False)
        attempts = [
            (replace(program, written_out=False), True, ""),
            (alone, True, "ran one lane at a time: {}"),
        ]
        if program.written_out and "CPU" in self.placement.device:
            attempts.insert(0, (program, True, ""))
        attempts.append((alone, False, "ran without XLA, one lane at a time: {}"))
        reason = ""
        known = _known(program)
        for i, (attempt, jit, note) in enumerate(attempts):
            try:
                drawing = self._drawing(known, attempt, workload) if jit and loop is None else None
                names = [
                    program.key,
                    asdict(attempt.lanes),
                    attempt.written_out,
                    attempt.parts,
                    jit,
                    program.stride,
                    program.curves,
                    program.shared,
                    tiling.VALUES_PER_CALL,
                    tiling.BYTES_OF_VIEWS,
                    tiling.BYTES_OF_DRAWS,
                    halves.LEAST,
                    runtime.MASKED_STORES,
                    drawing is not None,
                ]
                if loop is not None:  # its functions know their devices
                    names += [self.placement.name, self.placement.device]
                key = digest(names)
                place = self._place(key, attempt, jit)
                shared = {"loop": loop, "place": place, "books": self._bookkeeper, "drawing": drawing}
                compiled = LaneProgram(attempt, workload, build, jit=jit, **shared)
                with stable_names(key):
                    self.placement.run(compiled.compile, idle_inputs(compiled), self.placement.run)
                evaluator = self._evaluator(known, compiled, jit)
                return Warm(compiled, evaluator, self._starting(known, compiled), note.format(reason))
            except NotDrawn:  # but each step may draw its own
                with self._guard:
                    self._drawings[known] = None
                attempts.insert(i + 1, (attempt, jit, note))
            except (LiftError, ValueError, TypeError, NotImplementedError, tf.errors.OpError) as error:
                reason = last_line(error)
                if i == len(attempts) - 1 or not isinstance(error, LiftError | tf.errors.OpError):
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _place(self, key: str, program: Program, jit: bool, *, workload_only: bool = False) -> Place:
        """Where graphs are kept: nowhere with a plug-in, whose files may change unseen."""
        own = _own("workload", program.workload) and (workload_only or _own("optimizer", program.optimizer))
        decides = [jit, self.placement.device, self.placement.split, program.dtype, program.workload.static()]
        if not workload_only:
            values = {f.name: getattr(program, f.name) for f in fields(program)}
            decides += [values | {"workload": "", "optimizer": program.optimizer.static()}]
        return Place.of(key, decides) if own else Place(key, None)

    def _starting(self, known: str, compiled: LaneProgram) -> StartingPoints:
        parts = compiled.loop.examples if compiled.loop is not None else []
        key = digest([known, parts])
        with self._guard:  # shared by programs of a workload
            if key not in self._points:
                self._points[key] = StartingPoints(compiled.workload, compiled.real, parts)
            return self._points[key]

    def _bookkeeper(self, form: Form) -> Bookkeeper:
        with self._guard:
            if form not in self._books:
                key = digest([form.lanes, form.rows, form.real.name, form.jit])
                self._books[form] = Bookkeeper(form, Place.of(key, [self.placement.device]))
            return self._books[form]

    def _drawing(self, known: str, program: Program, workload: Any) -> Drawing | None:
        def place(shape: list[int]) -> Place:
            return self._place(digest([known, *shape]), program, True, workload_only=True)

        with self._guard:
            lock = self._locks.setdefault(f"drawing {known}", threading.Lock())
        with lock:  # shared by programs of a workload
            if known not in self._drawings:
                self._drawings[known] = self.placement.run(Drawing.of, workload, place)
            return self._drawings[known]

    def _evaluator(self, known: str, compiled: LaneProgram, jit: bool) -> Evaluator | None:
        workload, start = compiled.workload, compiled.start
        if not compiled.monitored and not workload.evaluate(start):
            return None
        last = compiled.maths.written_out
        key = digest([known, compiled.lanes.count, jit, last])
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:  # optimizers of one workload share it, and compile it once
            if key not in self._evaluators:
                place = self._place(key, compiled.program, jit, workload_only=True)
                made = Evaluator(workload, start, compiled.lanes.count, jit=jit, place=place, last=last)
                view = self.placement.run(compiled.view, compiled.empty(), idle_inputs(compiled))
                self.placement.run(made.compile, view)
                self._evaluators[key] = made
            return self._evaluators[key]


def _known(program: Program) -> str:
    """Names a workload, what of which programs share: a plug-in's by its file, too, and what is in it."""
    entry = catalog.entry_of("workload", program.workload)
    code = [] if entry.builtin else [str(entry.path), catalog.code_hash(entry)]
    return digest([program.workload.static(), program.dtype, code])


def _own(kind: catalog.Kind, component: Component) -> bool:
    """Whether a component and all that it wraps is part of this project."""
    return catalog.entry_of(kind, component).builtin and all(_own(kind, c) for c in component.inner)


def last_line(error: BaseException) -> str:
    """The last line of an error's traceback, as a sentence's part."""
    text = str(error).strip()
    if not text:
        return type(error).__name__
    if not text.startswith("in user code"):
        # Below the first line of TensorFlow's own are its operations.
        kept = text.splitlines()[0] if isinstance(error, tf.errors.OpError) else text
        return _cut(f"{type(error).__name__}: {' '.join(kept.split())}")
    # TensorFlow puts the traceback of traced code into the message, and the cause below its last place.
    place, _, cause = text.rpartition('File "')[2].partition("\n\n")
    cause = " ".join((cause or place).split())
    return _cut(cause)


def _cut(sentence: str) -> str:
    return sentence if len(sentence) <= LONGEST else f"{sentence[: LONGEST - 1]}…"


def idle_inputs(compiled: LaneProgram) -> Inputs:
    """Inputs with which every lane stays idle: what compiling is done with."""
    n = compiled.lanes.count
    rate = tf.zeros([n], tf.float64)
    return Inputs(
        begin=tf.nest.map_structure(lambda leaf: tf.stack([leaf] * n), compiled.start),
        group_seeds=tf.zeros([compiled.lanes.groups], tf.int32),
        learning_rate=rate,
        traced=tuple(rate[0] if shared else rate for shared in compiled.program.shared),
        targets=tf.zeros([LADDER, n], compiled.real),
        limit=tf.zeros([n], compiled.real),
        go=tf.zeros([n], tf.bool),
    )


@dataclass
class Worker:
    """Runs tiles on one device and commits their rows.

    Args:
        store: the results folder.
        programs: compiled programs, shared by the workers of a process that use the same device.
        study: the study's name.
        name: the worker's, for the rows.
        curves: whether recorded points are kept.
        stopped: true ends the tile that runs, uncommitted.
    """

    store: Store
    programs: Programs
    study: str
    name: str
    curves: bool = True
    stopped: Any = lambda: False

    def run(self, tile: Tile) -> Outcome:
        """Runs and commits a tile; cells that raise become `failed` rows.

        Raises:
            Stopped: the run was asked to end; nothing of this tile is committed.
            RunError: the results folder cannot be written.
        """
        try:
            warm, seconds = self.programs.get(tile.program)
        except RunError:
            raise
        except (Exception, SystemExit) as error:  # a plug-in may raise anything, or exit
            return self._fail(tile, tile.cells, last_line(error))
        try:
            return self._commit(tile, warm, seconds)
        except (Stopped, RunError):
            raise
        except (Exception, SystemExit) as error:
            return self._isolate(tile, error)

    def _commit(self, tile: Tile, warm: Warm, compile_seconds: float) -> Outcome:
        run = TileRun(warm, tile.cells, self.programs.placement.run, self.curves, self.stopped)
        reduced = _all_reduce_seconds(warm)
        run.run()
        reduced = _all_reduce_seconds(warm) - reduced
        provenance = self._provenance(tile, warm.compiled.lanes.count) | {
            "target_metric": warm.compiled.workload.target_metric,
            "stability": tile.program.stability,
            "note": warm.note,
            "compile_seconds": compile_seconds,
            "train_seconds": run.train_seconds,
            "evaluate_seconds": run.evaluate_seconds,
            # Of all that the loops took, the waiting for the slowest replica included.
            "all_reduce_share": reduced / run.train_seconds if warm.compiled.loop is not None else None,
        }
        table = rows.cells_table(tile, run.ledger, run.targets, run.metrics, provenance)
        curves = rows.curves_table(tile, run.record) if run.record is not None else None
        self.store.commit(tile.tile_id, table, curves)
        counts = Counter(rows.statuses(run.ledger).tolist())
        return Outcome(
            tile_id=tile.tile_id,
            counts=dict(counts),
            steps=int(run.ledger.steps.sum()),
            compile_seconds=compile_seconds,
            train_seconds=run.train_seconds,
            evaluate_seconds=run.evaluate_seconds,
            worker=self.name,
            cells=len(tile.cells),
        )

    def _provenance(self, tile: Tile, lanes: int) -> dict[str, Any]:
        clocks = {f"{clock}_seconds": 0.0 for clock in ("compile", "train", "evaluate")}
        placement = self.programs.placement
        place = {"strategy": placement.name, "device": placement.device}
        place |= {"replicas": placement.replicas, "split": placement.split}
        return place | clocks | {"study": self.study, "worker": self.name, "lanes": lanes}

    def _isolate(self, tile: Tile, error: BaseException) -> Outcome:
        """A tile that raised: its halves run apart, until the guilty cell stands alone.

        Where both halves raise the same, the fault is in the maths and not in a cell: all fail at once.
        """
        if len(tile.cells) == 1:
            return self._fail(tile, tile.cells, last_line(error))
        middle = len(tile.cells) // 2
        halves = [Tile(tile.program, tile.cells[:middle]), Tile(tile.program, tile.cells[middle:])]
        warm, _ = self.programs.get(tile.program)
        outcomes: list[Outcome | BaseException] = []
        for half in halves:
            try:
                outcomes.append(self._commit(half, warm, 0.0))
            except (Stopped, RunError):
                raise
            except (Exception, SystemExit) as again:
                outcomes.append(again)
        faults = [o for o in outcomes if not isinstance(o, Outcome)]
        if len(faults) == 2 and last_line(faults[0]) == last_line(faults[1]):
            return self._fail(tile, tile.cells, last_line(faults[0]))
        done = [
            outcome if isinstance(outcome, Outcome) else self._isolate(half, outcome)
            for half, outcome in zip(halves, outcomes, strict=True)
        ]
        return _joined(tile, done)

    def _fail(self, tile: Tile, cells: Sequence[Cell], reason: str) -> Outcome:
        table = rows.failed_table(tile, cells, reason, self._provenance(tile, tile.program.lanes.count))
        self.store.commit(tile.tile_id, table, None)
        counts = {"failed": len(cells)}
        return Outcome(tile.tile_id, counts, 0, 0.0, 0.0, 0.0, self.name, len(cells), reason)


def _all_reduce_seconds(warm: Warm) -> float:
    """Seconds that a program's loops have waited for sums so far; 0 where nothing is summed."""
    loop = warm.compiled.loop
    return 0.0 if loop is None else loop.all_reduce_seconds


def _joined(tile: Tile, outcomes: Sequence[Outcome]) -> Outcome:
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        counts.update(outcome.counts)
    return Outcome(
        tile_id=tile.tile_id,
        counts=dict(counts),
        steps=sum(o.steps for o in outcomes),
        compile_seconds=sum(o.compile_seconds for o in outcomes),
        train_seconds=sum(o.train_seconds for o in outcomes),
        evaluate_seconds=sum(o.evaluate_seconds for o in outcomes),
        worker=outcomes[0].worker,
        cells=len(tile.cells),
        detail="; ".join(o.detail for o in outcomes if o.detail),
    )
