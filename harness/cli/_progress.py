"""A running study on standard error: a live bar in a terminal, a line every ten seconds elsewhere.

Workers report from their own threads; a view only keeps the latest `Progress` and draws it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

from ..sentences import plural
from ..types import Progress
from ._output import duration

if TYPE_CHECKING:
    from rich.console import Group

INTERVAL = 10.0  # seconds between plain lines
WINDOW = 15.0  # seconds that the rate is taken over


def view(title: str) -> LiveView | PlainView:
    """What fits standard error: a context manager, called with each `Progress` from any thread."""
    return LiveView(title) if sys.stderr.isatty() else PlainView(title)


class Speed:
    """Cells and cell-steps per second over the last seconds, and the time left, from the reports so far."""

    def __init__(self) -> None:
        self.reports: deque[tuple[float, int, int]] = deque()  # when, steps, cells
        self.first: tuple[float, int] | None = None

    def add(self, progress: Progress, now: float) -> None:
        """Take a report into account; what an earlier run left finished is not counted as speed."""
        if self.first is None:
            self.first = (now, progress.cells_done)
        self.reports.append((now, progress.steps_done, progress.cells_done))
        while len(self.reports) > 2 and now - self.reports[0][0] > WINDOW:
            self.reports.popleft()

    @property
    def steps_per_second(self) -> float:
        """Cell-steps per second; 0 before two reports."""
        return self._rate(1)

    @property
    def cells_per_second(self) -> float:
        """Cells that ended per second; 0 before two reports."""
        return self._rate(2)

    def _rate(self, place: int) -> float:
        if len(self.reports) < 2:
            return 0.0
        first, last = self.reports[0], self.reports[-1]
        seconds = last[0] - first[0]
        return max(0.0, (last[place] - first[place]) / seconds) if seconds > 0 else 0.0

    def seconds_left(self, progress: Progress, now: float) -> float | None:
        """Time for the cells that are missing at the pace so far; None before the first is done."""
        started, before = self.first or (now, progress.cells_done)
        done, missing = progress.cells_done - before, progress.cells_total - progress.cells_done
        return (now - started) / done * missing if done > 0 else None


def details(progress: Progress, speed: Speed, now: float) -> list[str]:
    """The counters in words: those that say something."""
    counts = progress.counts
    parts = [f"at target {counts.get('converged', 0):,}", f"diverged {counts.get('diverged', 0):,}"]
    if counts.get("failed"):
        parts.append(f"failed {counts['failed']:,}")
    if progress.workers:  # of a cluster
        parts.append(f"{progress.tiles_done:,}/{progress.tiles_total:,} tiles")
        parts.append(plural(progress.workers, "worker"))
    if speed.cells_per_second:
        rate = speed.cells_per_second
        parts.append(f"{rate:,.0f} cells/s" if rate >= 10 else f"{rate:.2g} cells/s")
    if speed.steps_per_second:
        parts.append(f"{_large(speed.steps_per_second)} cell-steps/s")
    left = speed.seconds_left(progress, now)
    if left is not None and progress.cells_done < progress.cells_total:
        parts.append(f"{duration(left)} left")
    if progress.compiling:
        parts.append(f"compiling {progress.compiling}")
    if progress.retries:
        parts.append(f"retried {progress.retries}")
    if progress.message:
        parts.append(progress.message)
    return parts


def _large(number: float) -> str:
    """`590`, `12,000`, `250 million`."""
    return f"{number / 1e6:,.3g} million" if number >= 1e6 else f"{number:,.0f}"


class PlainView:
    """A line at most every ten seconds and one at the end, for logs."""

    def __init__(self, title: str, interval: float = INTERVAL) -> None:
        self.title, self.interval = title, interval
        self._lock = threading.Lock()
        self._speed = Speed()
        self._latest: Progress | None = None
        self._printed: Progress | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="progress", daemon=True)

    def __enter__(self) -> PlainView:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._print()

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            self._latest = progress
            self._speed.add(progress, time.monotonic())

    def _beat(self) -> None:
        while not self._stop.wait(self.interval):
            self._print()

    def _print(self) -> None:
        with self._lock:
            latest, same = self._latest, self._latest is self._printed
            self._printed = latest
            parts = details(latest, self._speed, time.monotonic()) if latest else []
        if latest is None or same:
            return
        share = latest.cells_done / latest.cells_total if latest.cells_total else 1.0
        head = f"{self.title}: {latest.cells_done:,}/{latest.cells_total:,} cells ({share:.0%})"
        print(", ".join([head, *parts]), file=sys.stderr, flush=True)


class LiveView:
    """A bar and a line of counters, redrawn in place."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.console import Group as Stack
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn
        from rich.progress import Progress as Bar
        from rich.text import Text

        self._lock = threading.Lock()
        self._speed = Speed()
        self._latest: Progress | None = None
        console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("cells"),
            TaskProgressColumn(),
            console=console,
        )
        self._task = self._bar.add_task(title, total=None)
        self._text = Text("  starting")
        self._group = Stack(self._bar, self._text)
        self._live = Live(
            console=console, get_renderable=self._draw, refresh_per_second=4, redirect_stdout=False
        )

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            self._latest = progress
            self._speed.add(progress, time.monotonic())

    def _draw(self) -> Group:
        """What is on the screen, made anew at every refresh: the time left goes on between reports."""
        with self._lock:
            latest = self._latest
            parts = details(latest, self._speed, time.monotonic()) if latest else ["starting"]
        if latest is not None:
            self._bar.update(self._task, completed=latest.cells_done, total=latest.cells_total)
        self._text.plain = "  " + " · ".join(parts)
        return self._group
