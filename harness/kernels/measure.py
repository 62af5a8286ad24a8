"""Seconds of an update: windows of many calls, taken in turns with those of a copy of the same size."""

from __future__ import annotations

import gc
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import binom

from .cases import Case, Prepared
from .device import Device, tensorflow

BLOCK = 4096  # numbers
MOST_CALLS = 2000  # in a window
FEWEST_WINDOWS = 5
SITTINGS = 3
COVERAGE = 0.95  # of the interval of a median


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
    """An implementation between its first call and its last window.

    Args:
        seconds: of an update, window by window, a list per sitting.
    """

    prepared: Prepared
    first_seconds: float = 0.0
    calls: int = 1
    rounds: int = FEWEST_WINDOWS
    seconds: list[list[float]] = field(default_factory=list)


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


def renew(timed: Timed, prepared: Prepared) -> None:
    """Goes on with the same program over other memory: where a buffer lies decides a tenth of its time."""
    timed.prepared = prepared
    for _ in range(2):
        _seconds(prepared, 1)


def take_turns(group: list[Timed], sitting: int = 0, sittings: int = 1) -> None:
    """Windows of all of a group, one of each in turn, so that what disturbs the machine disturbs all.

    Args:
        group: whose first calls are done.
        sitting: which part of the windows, from 0; what happens between sittings spreads them over time.
        sittings: in how many parts.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        turns = {id(timed): len(range(sitting, timed.rounds, sittings)) for timed in group}
        for timed in group:
            timed.seconds.append([])
        for turn in range(max(turns.values(), default=0)):
            for timed in group:
                if turn < turns[id(timed)]:
                    if timed.calls > 1:
                        _seconds(timed.prepared, 1)  # what the others left in the caches is not its own
                    timed.seconds[-1].append(_seconds(timed.prepared, timed.calls) / timed.calls)
    finally:
        if collecting:
            gc.enable()


def summary(timed: Timed) -> Timing:
    """Median, quartiles and noise of an implementation's windows."""
    values = np.concatenate([np.asarray(part) for part in timed.seconds])
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    spent = timed.first_seconds - float(median)
    return Timing(
        median=float(median),
        low=float(low),
        high=float(high),
        windows=len(values),
        calls=timed.calls,
        compile_seconds=max(spent, 0.0) if timed.prepared.compiles else None,
        noise=noise(timed.seconds),
    )


def shared_noise(timed: Timed, ceiling: Timed) -> float:
    """Noise of an update's time in copies: what slows the machine as a whole is in both and cancels."""
    pairs = zip(timed.seconds, ceiling.seconds, strict=True)
    return noise([[a / b for a, b in zip(mine, other, strict=False)] for mine, other in pairs])


def noise(sittings: Sequence[Sequence[float]]) -> float:
    """How far off another run's median may be, as a share of the median.

    The larger of two: how far the ends of the median's 95 % interval lie from it (order statistics: no
    assumption on the distribution; with fewer than six windows there is none, and it is all of the range),
    and the distance between the medians of the first and the second half of the time, sittings where there
    are several: windows beside each other do not see a machine that changes over seconds.

    Args:
        sittings: values of windows, in order, a list per sitting.
    """
    values = np.concatenate([np.asarray(part, float) for part in sittings])
    median, count = float(np.median(values)), len(values)
    ordered = np.sort(values)
    rank = max(int(binom.ppf((1 - COVERAGE) / 2, count, 0.5)), 1)  # the rank-th from both ends
    width = max(median - ordered[rank - 1], ordered[count - rank] - median)
    parts = [part for part in sittings if len(part)] if len(sittings) > 1 else np.array_split(values, 2)
    middles = [float(np.median(part)) for part in parts if len(part)]
    return float(max(width, max(middles) - min(middles)) / median)


def copy(device: Device, size: int) -> Prepared:
    """The ceiling: XLA reads `size` bytes and writes them back in place, times a number that is 1.

    In place like an update: a copy to other memory would first have to read what it overwrites (a CPU's
    cache does so before a write), and would put the ceiling too low.
    """
    tf = tensorflow()
    buffer = tf.Variable(tf.ones([_copied(size)], tf.float32))
    one = tf.constant(1.0)
    program = tf.function(lambda scale: buffer.assign(buffer * scale), autograph=False, jit_compile=True)
    bound = tf.function(lambda scale: (program(scale), None)[1], autograph=False, jit_compile=True)
    return Prepared(lambda: bound(one), device.wait)


def copy_bytes(size: int) -> int:
    """Bytes that `copy` moves: each read once and written once."""
    return 2 * 4 * _copied(size)


def _copied(size: int) -> int:
    """Numbers in the copy's buffer: whole blocks, for XLA walks over an odd size on one core."""
    numbers = max(size // 4, 1)
    return numbers if numbers < BLOCK else numbers // BLOCK * BLOCK


MATRIX = 1024  # rows and columns of the product that the peak is measured with


def matmul_peak(device: Device, dtype: str, pace: Pace) -> float:
    """Operations per second that one large matrix product reaches, compiled by XLA: its best quarter."""
    tf = tensorflow()
    with tf.device(f"/device:{device.name}"):
        a, b = (tf.cast(tf.random.stateless_normal([MATRIX, MATRIX], [seed, 0]), dtype) for seed in (1, 2))
        program = tf.function(tf.matmul, autograph=False, jit_compile=True)
        timed = start(Prepared(lambda: program(a, b), device.wait), pace)
        take_turns([timed])
    return 2 * MATRIX**3 / summary(timed).low


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


_UNSUPPORTED = re.compile(r"Detected unsupported operations .*? on (\w+): (\w+) ", re.DOTALL)


def describe(error: BaseException) -> str:
    """An error of a measurement as one line."""
    text = str(getattr(error, "message", None) or error)
    if found := _UNSUPPORTED.search(text):
        return f"XLA cannot compile it: there is no {found[2]} on {found[1]}; use operations that XLA has"
    line = next((part.strip() for part in text.splitlines() if part.strip()), "")
    return f"{type(error).__name__}: {line}"[:300]
