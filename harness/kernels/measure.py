"""Seconds of an update: windows of many calls, taken in turns with those of a copy of the same size."""

from __future__ import annotations

import gc
import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .cases import Case, Prepared
from .device import Device, tensorflow

MOST_CALLS = 2000  # in a window
FEWEST_WINDOWS = 5


@dataclass(frozen=True)
class Pace:
    """How long to measure.

    Args:
        windows: at most, per implementation.
        window_seconds: what a window lasts at least; slow updates have one call in it.
        row_seconds: after this, no more windows than `FEWEST_WINDOWS` are begun for a row.
    """

    windows: int = 21
    window_seconds: float = 0.01
    row_seconds: float = 1.5


@dataclass
class Timed:
    """An implementation between its first call and its last window."""

    prepared: Prepared
    first_seconds: float = 0.0
    calls: int = 1
    rounds: int = FEWEST_WINDOWS
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Timing:
    """Windows of one implementation, summed up; seconds are of one update."""

    median: float
    low: float
    high: float
    windows: int
    calls: int
    compile_seconds: float | None
    noise: float


def start(prepared: Prepared, pace: Pace) -> Timed:
    """First call, warm-up, and how many calls make a window."""
    timed = Timed(prepared)
    timed.first_seconds = _seconds(prepared, 1)
    once = min(_seconds(prepared, 1) for _ in range(3))
    if once < pace.window_seconds:
        several = max(1, min(20, int(pace.window_seconds / max(once, 1e-7))))
        once = _seconds(prepared, several) / several
    timed.calls = max(1, min(MOST_CALLS, math.ceil(pace.window_seconds / max(once, 1e-7))))
    fit = int(pace.row_seconds / (timed.calls * max(once, 1e-7)))
    timed.rounds = max(FEWEST_WINDOWS, min(pace.windows, fit))
    return timed


def take_turns(group: list[Timed]) -> None:
    """Windows of all of a group, one of each in turn, so that what disturbs the machine disturbs all."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(max((timed.rounds for timed in group), default=0)):
            for timed in group:
                if turn < timed.rounds:
                    if timed.calls > 1:
                        _seconds(timed.prepared, 1)  # what the others left in the caches is not its own
                    timed.seconds.append(_seconds(timed.prepared, timed.calls) / timed.calls)
    finally:
        if collecting:
            gc.enable()


def summary(timed: Timed) -> Timing:
    """Median, quartiles and noise of an implementation's windows."""
    values = np.asarray(timed.seconds)
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    spent = timed.first_seconds - float(median)
    return Timing(
        median=float(median),
        low=float(low),
        high=float(high),
        windows=len(values),
        calls=timed.calls,
        compile_seconds=max(spent, 0.0) if timed.prepared.compiles else None,
        noise=noise(values),
    )


def noise(values: np.ndarray) -> float:
    """How far off another run's median may be, as a share of the median.

    The larger of the 95 % half-width of a median, 1.57 IQR / √n (McGill, Tukey and Larsen 1978), and the
    distance between the medians of the first and the second half of the windows, which sees a drift.

    Args:
        values: seconds of windows [n].
    """
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    width = 1.57 * (high - low) / math.sqrt(len(values))
    half = len(values) // 2
    drift = abs(np.median(values[:half]) - np.median(values[half:])) if half else 0.0
    return float(max(width, drift) / median)


def copy(device: Device, size: int) -> Prepared:
    """The ceiling: XLA reads `size` bytes and writes them back in place, times a number that is 1.

    In place like an update: a copy to other memory would first have to read what it overwrites (a CPU's
    cache does so before a write), and would put the ceiling too low.
    """
    tf = tensorflow()
    buffer = tf.Variable(tf.ones([max(size // 4, 1)], tf.float32))
    one = tf.constant(1.0)
    program = tf.function(lambda scale: buffer.assign(buffer * scale), autograph=False, jit_compile=True)
    bound = tf.function(lambda scale: (program(scale), None)[1], autograph=False, jit_compile=True)
    return Prepared(lambda: bound(one), device.wait)


def copy_bytes(size: int) -> int:
    """Bytes that `copy` moves: each read once and written once."""
    return 2 * 4 * max(size // 4, 1)


def _seconds(prepared: Prepared, calls: int) -> float:
    call = prepared.call
    begun = time.perf_counter()
    for _ in range(calls):
        call()
    prepared.wait()
    return time.perf_counter() - begun


def needs_bytes(case: Case, implementation: str) -> int:
    """Memory that an implementation takes at its most, outputs beside inputs where it is not in place."""
    own = case.working_bytes - case.layout.parameters * tensorflow().as_dtype(case.dtype).size
    twice = implementation in ("eager", "function", "xla_fresh", "keras")
    return case.working_bytes + (own if twice else 0)


def describe(error: BaseException) -> str:
    """An error of a measurement as one line."""
    text: Any = getattr(error, "message", None) or str(error)
    line = next((part.strip() for part in str(text).splitlines() if part.strip()), "")
    return f"{type(error).__name__}: {line}"[:300]
