"""The host's side of a tile: which cell rides in which lane, and what was recorded for it.

Arrays only, one entry per lane or per cell, so that the cost per cell stays in microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.types import Cell, Lanes

EARLY_STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
# Steps between two looks at who is left, where points or views are kept or lanes are refilled.
LONGEST_SPAN = 25
# Of all lanes and steps of a call, 4 or 8 bytes each: many enough that a call's own cost, half a millisecond,
# is a tenth of it, few enough to stay in a cache.
VALUES_PER_CALL = 2**20

# Of what is evaluated at a call's recorded points, for all lanes; two more may be held than are asked for.
BYTES_OF_VIEWS = 2**23
# Of what is drawn ahead of a call's steps.
BYTES_OF_DRAWS = 2**24
# Of a call that comes back for several points at once: who asks for the end waits for it.
SECONDS_PER_CALL = 2.0


@dataclass(frozen=True)
class RecordPlan:
    """Which steps of a run are recorded: every `stride`-th, a few early ones, and the last.

    A stride is made of `rounds` spans, the device's inner loop.

    Args:
        kept: whether points are kept at all: the early ones are steps of nobody's otherwise.
    """

    budget: int
    stride: int
    kept: bool = True

    @classmethod
    def of(cls, budget: int, points: int, shortest: int = 1) -> RecordPlan:
        """About `points` recorded points, at least `shortest` steps apart; the stride is whole spans."""
        wanted = max(1, -(-budget // max(1, points)), min(shortest, budget))
        rounds = -(-wanted // LONGEST_SPAN)
        return cls(budget, rounds * -(-wanted // rounds))

    @property
    def rounds(self) -> int:
        return -(-self.stride // LONGEST_SPAN)

    @property
    def span(self) -> int:
        return self.stride // self.rounds

    @property
    def early(self) -> tuple[int, ...]:
        early = EARLY_STEPS if self.kept else ()
        return tuple(s for s in early if s < min(self.span, self.budget))

    @property
    def strides(self) -> int:
        return -(-self.budget // self.stride)

    def steps(self) -> np.ndarray:
        """All recorded steps of a run that uses its whole budget, ascending: int64."""
        grid = set(range(0, self.budget, self.stride)) | set(self.early) | {self.budget}
        return np.array(sorted(grid), np.int64)


def units(cells: Sequence[Cell], lanes: Lanes, shared_batch: bool) -> Sequence[Sequence[int]] | np.ndarray:
    """Cells that start together, as indices: one each, or up to `width` of one seed that share batches."""
    if not shared_batch:
        return np.arange(len(cells))[:, None]
    by_seed: dict[int, list[int]] = {}
    for i, cell in enumerate(cells):
        by_seed.setdefault(cell.seed, []).append(i)
    width = lanes.width
    return [run[i : i + width] for run in by_seed.values() for i in range(0, len(run), width)]


class Seats:
    """Lanes as seats that units of cells take, in order, as they fall free.

    Args:
        queue: what is to run.
        places: how many units ride at once.
        width: lanes of a place.
    """

    def __init__(self, queue: Sequence[Sequence[int]] | np.ndarray, places: int, width: int):
        # A tile has thousands of units of one cell: they are taken all at once.
        self.queue = np.asarray(queue).reshape(-1) if width == 1 else queue
        self.taken = 0  # of the queue
        self.places, self.width = places, width
        self.cell = np.full(places * width, -1)  # index of the cell in each lane; -1: idle
        self.fresh = np.zeros(places * width, bool)

    def fill(self, wait: bool = False) -> None:
        """Seats units in every place whose lanes are all idle; marks their lanes fresh.

        Args:
            wait: seat nobody until all places are idle.
        """
        self.fresh[:] = False
        if not self.waiting or (wait and (self.cell >= 0).any()):
            return
        idle = np.flatnonzero((self.cell.reshape(self.places, self.width) < 0).all(1))
        units = self.queue[self.taken : self.taken + len(idle)]
        self.taken += len(units)
        if self.width == 1:
            self.cell[idle[: len(units)]] = units
            self.fresh[idle[: len(units)]] = True
            return
        for place, unit in zip(idle, units, strict=False):  # more places than units, at the end
            begin = place * self.width
            self.cell[begin : begin + len(unit)] = unit
            self.fresh[begin : begin + len(unit)] = True

    def release(self, lanes: np.ndarray) -> None:
        self.cell[lanes] = -1

    @property
    def waiting(self) -> bool:
        """Whether there are units without a place."""
        return self.taken < len(self.queue)

    @property
    def busy(self) -> bool:
        return self.waiting or bool((self.cell >= 0).any())


@dataclass
class Ledger:
    """What a tile's cells came to; arrays are [cells] unless stated. NaN: not known, -1: never."""

    steps: np.ndarray
    diverged: np.ndarray
    initial_loss: np.ndarray
    initial_gradient: np.ndarray
    final: np.ndarray
    best: np.ndarray
    best_step: np.ndarray
    hits: np.ndarray  # [ladder, cells]
    last_miss: np.ndarray
    path: np.ndarray
    turns: np.ndarray
    displacement: np.ndarray
    tail_std: np.ndarray

    @classmethod
    def empty(cls, cells: int, ladder: int) -> Ledger:
        real, whole = np.full(cells, np.nan), np.full(cells, -1, np.int64)
        return cls(
            steps=np.zeros(cells, np.int64),
            diverged=np.zeros(cells, bool),
            initial_loss=real.copy(),
            initial_gradient=real.copy(),
            final=real.copy(),
            best=np.full(cells, np.inf),
            best_step=whole.copy(),
            hits=np.full((ladder, cells), -1, np.int64),
            last_miss=whole.copy(),
            path=real.copy(),
            turns=whole.copy(),
            displacement=real.copy(),
            tail_std=real.copy(),
        )


class Curves:
    """Recorded points of a tile's cells.

    Args:
        cells: how many.
        steps: the steps at which a full run is recorded, ascending.
        names: recorded quantities, in the program's order; then the monitored metrics.
    """

    def __init__(self, cells: int, steps: np.ndarray, names: Sequence[str], metrics: Sequence[str]):
        self.steps, self.names, self.metrics = steps, list(names), list(metrics)
        self.values = np.full((len(self.names) + len(self.metrics), cells, len(steps)), np.nan, np.float32)
        self.valid = np.zeros((cells, len(steps)), bool)
        self.last_step = np.full(cells, -1, np.int64)  # an off-grid last point, where a run stopped early
        self.last_loss = np.full(cells, np.nan, np.float32)

    def put(self, cells: np.ndarray, steps: np.ndarray, points: np.ndarray) -> None:
        """`points` [quantities, n] of `cells` [n] at `steps` [n], each of them on the grid."""
        at = np.searchsorted(self.steps, steps)
        self.values[: len(self.names), cells, at] = points[: len(self.names)]
        self.valid[cells, at] = True

    def put_metric(self, name: str, cells: np.ndarray, steps: np.ndarray, values: np.ndarray) -> None:
        at = np.searchsorted(self.steps, steps)
        self.values[len(self.names) + self.metrics.index(name), cells, at] = values
        self.valid[cells, at] = True

    def close(self, cells: np.ndarray, steps: np.ndarray, losses: np.ndarray) -> None:
        """Adds the last point of runs that stopped between two recorded steps."""
        at = np.searchsorted(self.steps, steps)
        off = self.steps[np.minimum(at, len(self.steps) - 1)] != steps
        self.last_step[cells[off]] = steps[off]
        self.last_loss[cells[off]] = losses[off]
