"""The local executor: a thread per core or GPU of this machine, in one process, without Ray.

XLA's programs run without Python's lock, so threads keep the cores busy and share compiled programs.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.executors.queueing import TileQueue
from harness.records import Store
from harness.runtime import cpu_count
from harness.types import Layout, Outcome, Tile


@dataclass(frozen=True)
class Job:
    """What an executor needs beside the tiles.

    Args:
        store: the results folder.
        study: its name.
        layout: the strategy, its devices, and what is split over them.
        workers: threads; None: one per core, or per GPU.
        curves: whether recorded points are kept.
        compiling: called with +1 and -1 as a worker begins and ends to compile.
        changed: called with fields of `Progress` that are not counted from outcomes.
    """

    store: Store
    study: str
    layout: Layout = field(default_factory=lambda: Layout("one_device"))
    workers: int | None = None
    curves: bool = True
    compiling: Callable[[int], None] = lambda change: None
    changed: Callable[..., None] = lambda **fields: None


def worker_count(layout: Layout, devices: Sequence[str], wanted: int | None) -> int:
    """Threads to start: what was asked for, else a thread per GPU, or per core on the CPU.

    A split batch takes all devices at once, so its tiles run one after the other.
    """
    if layout.split == "batch":
        return 1
    if wanted is not None:
        return wanted
    if layout.mirrors:
        return len(devices)
    return len(devices) if devices[0].startswith("GPU") else cpu_count()


def execute(tiles: Sequence[Tile], job: Job, stop: threading.Event | None = None) -> Iterator[Outcome]:
    """Runs tiles, yields their outcomes as they are committed.

    Setting `stop`, or closing the iterator, ends the tiles that run without committing them.

    Raises:
        RunError: the results folder cannot be written.
    """
    from harness.strategies import placements, prepare
    from harness.worker import Programs, Worker

    stop = stop or threading.Event()
    names = prepare(job.layout)
    count = max(1, min(worker_count(job.layout, names, job.workers), len(tiles)))
    programs = [Programs(place, job.compiling) for place in placements(job.layout, names)]
    waiting, lock = TileQueue(tiles), threading.Lock()
    done: queue.Queue[Outcome | BaseException | None] = queue.Queue()

    def serve(number: int) -> None:
        mine = programs[number % len(programs)]
        name = f"{mine.placement.device}/{number}"
        worker = Worker(job.store, mine, job.study, name, job.curves, stop.is_set)
        try:
            while not stop.is_set():
                with lock:
                    tile = waiting.take(mine.warm_keys())
                if tile is None:
                    break
                done.put(worker.run(tile))
        except BaseException as error:
            done.put(error)
        finally:
            done.put(None)

    threads = [
        threading.Thread(target=serve, args=(i,), name=f"optgrid-{i}", daemon=True) for i in range(count)
    ]
    for thread in threads:
        thread.start()
    try:
        yield from _drain(done, count, stop)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _drain(done: queue.Queue[Any], count: int, stop: threading.Event) -> Iterator[Outcome]:
    from harness.tilerun import Stopped

    running = count
    while running:
        item = done.get()
        if item is None:
            running -= 1
        elif isinstance(item, Stopped):
            continue
        elif isinstance(item, BaseException):
            stop.set()
            raise item
        else:
            yield item
