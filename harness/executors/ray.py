"""The Ray executor: tiles over a cluster's GPUs or cores, and nothing lost with a process or a node.

The driver decides everything (`ray_schedule`), actors run tiles and commit their rows themselves
(`ray_worker`), and the pool follows the cluster as it grows and shrinks (`ray_pool`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from harness import rows, tokens
from harness.executors.local import Job
from harness.executors.ray_code import parcel
from harness.executors.ray_connect import connected
from harness.executors.ray_journal import Journal
from harness.executors.ray_options import ClusterOptions, require_ray
from harness.executors.ray_schedule import Call, Failure, Schedule
from harness.executors.ray_worker import Reply, Rows, Setup, joined, own_versions
from harness.kernels.study import profile_study
from harness.records import Store
from harness.sentences import plural
from harness.types import Component, Outcome, Tile, digest

WAIT_SECONDS = 0.5  # for an answer, before looking at the clock and at the user again
SHORT_CALL = 2.0  # seconds; a worker whose calls are shorter has the next one waiting
LIMIT_CHARGE = 2  # a call over its time limit does the same again: it is not tried as often as an accident
ENVIRONMENT = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "TF_CPP_MIN_LOG_LEVEL": "3"}


def prepare(options: ClusterOptions) -> None:
    """What must hold before planning: a token, and the driver's hands off the GPUs of its machine.

    Raises:
        UsageError: Ray is not installed, there is no token here, or it was switched off.
    """
    from harness.strategies import hands_off

    require_ray()
    tokens.require(options.insecure, make=options.address == "local")
    hands_off()  # the driver only plans


def execute(
    tiles: Sequence[Tile],
    job: Job,
    stop: threading.Event | None = None,
    *,
    options: ClusterOptions,
    fingerprint: str = "",
) -> Iterator[Outcome]:
    """Runs tiles on a cluster, yields their outcomes as they are committed.

    Setting `stop`, or closing the iterator, ends the tiles that run without committing them.

    Args:
        options: where the cluster is, and how it is used.
        fingerprint: of the study, which workers look for in the results folder that they see.
    Raises:
        UsageError: the cluster asks for no token, or there is none here.
        RunError: the cluster cannot be reached or gives no worker, or the results cannot be written.
    """
    files, sources = parcel(tiles)
    setup = Setup(
        address=str(job.store.local or job.store.address),
        study=job.study,
        layout=job.layout,
        curves=job.curves,
        gather=options.gather,
        fingerprint=fingerprint,
        versions=own_versions(),
        files=files,
        sources=sources,
        environment=ENVIRONMENT,
    )
    journal = Journal(job.store)
    try:
        with connected(options, job.workers, journal):
            pool = _pool(setup, options, job, journal)
            try:
                yield from Sweep(tiles, job, options, pool, journal, stop or threading.Event()).run()
            finally:
                pool.close()
    finally:
        journal.close()


def profile(
    optimizers: Sequence[Component], store: Store, options: ClusterOptions, workers: int | None
) -> str:
    """Profiles a study's optimizers once on every type of node; a sentence on what has no kernels."""
    if options.address == "local":  # this machine and no other
        return profile_study(optimizers, store)
    journal = Journal(store)
    try:
        with connected(options, workers, journal):
            from harness.executors.ray_kernels import profile_nodes

            return profile_nodes(optimizers, store, options.patience_seconds)
    finally:
        journal.close()


def _pool(setup: Setup, options: ClusterOptions, job: Job, journal: Journal) -> Workers:
    """A worker for each device, or, where a batch is split, one gang that has them all."""
    layout = job.layout
    if layout.split == "batch":
        from harness.executors.ray_gang import gangs

        return gangs(setup, options, layout, journal)
    from harness.executors.ray_pool import Pool

    return Pool(setup, options, job.workers or (layout.replicas if layout.mirrors else None), journal)


class Workers(Protocol):
    """A pool as the driver's loop wants it; members have `name`, `node`, `warm` and `calls`."""

    gpus: float

    @property
    def members(self) -> Mapping[str, Any]:
        """Workers by name."""
        ...

    def resize(self, useful: int) -> None:
        """Starts workers that are missing."""
        ...

    def ready(self) -> Sequence[Any]:
        """Members that can be given work."""
        ...

    def send(self, member: Any, number: int, tiles: Sequence[Tile]) -> None:
        """Gives a member a call."""
        ...

    def answers(self, wait: float) -> Iterator[Any]:
        """`(member, number, reply)`, or a loss with `member`, `cause` and `preempted`."""
        ...

    def lose(self, member: Any, cause: str) -> Any:
        """Ends a member; returns its loss."""
        ...

    def close(self) -> None:
        """Ends them all."""
        ...


class Sweep:
    """The driver's loop: gives out calls, takes answers, charges losses.

    Args:
        tiles: what is to run.
        pool: the workers.
        event: the journal.
        stop: ends the loop.
    """

    def __init__(
        self,
        tiles: Sequence[Tile],
        job: Job,
        options: ClusterOptions,
        pool: Workers,
        event: Journal,
        stop: threading.Event,
    ):
        self.job, self.options, self.pool, self.event, self.stop = job, options, pool, event, stop
        self.schedule = Schedule(tiles, options.call_seconds, options.tile_seconds)

    def run(self) -> Iterator[Outcome]:
        """Outcomes, until every tile is done or `stop` is set."""
        self.event("begin", study=self.job.study, tiles=self.schedule.left, gpus_per_worker=self.pool.gpus)
        begin = time.monotonic()
        while self.schedule.left and not self.stop.is_set():
            self.pool.resize(self._useful())
            self._give()
            for answer in self.pool.answers(WAIT_SECONDS):
                if isinstance(answer, tuple):
                    yield from self._take(*answer)
                else:
                    yield from self._mourn(answer)
                self._give()
            for call in self.schedule.overdue(time.monotonic()):
                yield from self._end(call)
            self._report()
        seconds = round(time.monotonic() - begin, 3)
        self.event("end", left=self.schedule.left, retries=self.schedule.retries, seconds=seconds)

    def _report(self) -> None:
        """Progress that is not counted from outcomes."""
        ready = len(self.pool.ready())
        starting = len(self.pool.members) - ready
        self.job.changed(
            workers=ready,
            retries=self.schedule.retries,
            tiles_total=self.schedule.total,
            message=f"{plural(starting, 'worker')} starting" if starting else "",
        )

    def _useful(self) -> int:
        """Workers that there is something to do for."""
        busy = sum(bool(m.calls) for m in self.pool.members.values())
        return busy + len(self.schedule.queue) + len(self.schedule.suspects)

    def _give(self) -> None:
        """Gives every free worker a call; one whose calls are short gets the next in advance."""
        ready = self.pool.ready()
        nodes = len({member.node for member in ready})
        for depth in (1, 2):
            for member in ready:
                if self.schedule.idle:
                    return
                if len(member.calls) < depth and (depth == 1 or self._short(member)):
                    self._assign(member, len(ready), nodes)

    def _short(self, member: Any) -> bool:
        calls = [self.schedule.calls[n] for n in member.calls.values()]
        many = len(self.schedule.queue) > 2 * len(self.pool.members)
        return many and all(0 < c.expected < SHORT_CALL for c in calls)

    def _assign(self, member: Any, workers: int, nodes: int) -> None:
        now = time.monotonic()
        call = self.schedule.assign(member.name, member.warm, now, workers, member.node, nodes)
        if call is not None:
            # What it will have compiled: the queue asks before the worker can say so.
            member.warm |= {call.tiles[0].program.key}
            self.pool.send(member, call.number, call.tiles)

    def _take(self, member: Any, number: int, reply: Reply) -> Iterator[Outcome]:
        """A call's answer: gathered rows are committed, then they count."""
        if reply.rows:
            self._commit(reply.rows)
        self.schedule.done(number, reply.outcomes, time.monotonic(), reply.seconds)
        for outcome in reply.outcomes:
            self.event(
                "tile_done",
                tile=outcome.tile_id,
                worker=member.name,
                cells=outcome.cells,
                compile_seconds=round(outcome.compile_seconds, 4),
                train_seconds=round(outcome.train_seconds, 4),
            )
            yield outcome

    def _commit(self, parts: Sequence[Rows]) -> None:
        """Gathered rows of a call, in one file: a commit costs the driver milliseconds."""
        names = [part.name for part in parts]
        name = names[0] if len(names) == 1 else f"call-{digest(names)}"
        cells = joined([part.cells for part in parts])
        kept = [part.curves for part in parts if part.curves is not None]
        self.job.store.commit(name, cells, joined(kept) if kept else None)

    def _end(self, call: Call) -> Iterator[Outcome]:
        """Ends a call that is over its time limit, with its worker."""
        member = self.pool.members.get(call.worker)
        if member is not None:
            limit = self.schedule.limit(call)
            loss = self.pool.lose(member, f"it was over its time limit of {limit:g} s")
            yield from self._mourn(loss, LIMIT_CHARGE)

    def _mourn(self, loss: Any, charge: int = 1) -> Iterator[Outcome]:
        """A worker is gone: what it had committed counts, the rest runs again or is found guilty."""
        held = [self.schedule.calls[n] for n in self.schedule.by_worker.get(loss.member.name, ())]
        tiles = [tile for call in held for tile in call.tiles]
        self.event("worker_lost", worker=loss.member.name, cause=loss.cause, tiles=[t.tile_id for t in tiles])
        committed: set[str] | None = None
        if not self.options.gather:
            committed = set()
            for tile in tiles:
                outcome = recovered(self.job.store, tile)
                if outcome is not None:
                    committed.add(tile.tile_id)
                    self.schedule.kept(tile)
                    yield outcome
        member, now = loss.member, time.monotonic()
        for failure in self.schedule.lost(
            member.name, loss.cause, now, committed, loss.preempted, charge, member.node
        ):
            yield self._fail(failure)

    def _fail(self, failure: Failure) -> Outcome:
        tile = failure.tile
        self.event("tile_failed", tile=tile.tile_id, cells=len(tile.cells), cause=failure.reason)
        provenance: dict[str, Any] = {f"{clock}_seconds": 0.0 for clock in ("compile", "train", "evaluate")}
        layout = self.job.layout
        provenance |= {"strategy": layout.name, "replicas": layout.replicas or 1, "split": layout.split}
        provenance |= {"device": "", "study": self.job.study}
        provenance |= {"worker": "", "lanes": tile.program.lanes.count}
        self.job.store.commit(
            tile.tile_id, rows.failed_table(tile, tile.cells, failure.reason, provenance), None
        )
        n = len(tile.cells)
        return Outcome(tile.tile_id, {"failed": n}, 0, 0.0, 0.0, 0.0, "", n, failure.reason)


def recovered(store: Any, tile: Tile) -> Outcome | None:
    """The outcome of a tile whose worker was lost after it had committed; None where it had not."""
    table = store.read_part("cells", tile.tile_id, ["cell_id", "status", "steps"])
    if table is None or set(table.column("cell_id").to_pylist()) != {c.cell_id for c in tile.cells}:
        return None
    counts = Counter(table.column("status").to_pylist())
    steps = sum(table.column("steps").to_pylist())
    return Outcome(tile.tile_id, dict(counts), steps, 0.0, 0.0, 0.0, "", len(tile.cells))
