"""Two profiles, row by row: what became slower or faster beyond noise, and what takes more passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .schema import KEYS, Frame
from .words import QUIET

LEAST = 0.05  # a change under this is none, however quiet the machine
PASSES = 0.25  # a difference in passes that counts
ENOUGH = 9  # windows from which a row's noise is an estimate; of five, three may be lucky together


@dataclass(frozen=True)
class Comparison:
    """What differs between two profiles.

    Args:
        table: a row per measurement that both have: keys, `old_seconds`, `new_seconds`, `change` (of the time
            in copies; +1 is twice), `noise` (what change could be chance), `old_passes`, `new_passes` and
            `verdict` (`slower`, `faster`, `more passes`, `fewer passes`, `same`).
        only_old, only_new: measurements that the other lacks.
    """

    table: Frame
    only_old: int
    only_new: int

    @property
    def regressions(self) -> Frame:
        """Rows that became slower, or walk over memory more often."""
        return self.table[self.table["verdict"].isin(["slower", "more passes"])]

    @property
    def gains(self) -> Frame:
        """Rows that became faster, or walk over memory less often."""
        return self.table[self.table["verdict"].isin(["faster", "fewer passes"])]


def compare(old: Frame, new: Frame) -> Comparison:
    """Compare two profiles.

    Times are compared in copies: seconds of an update times the bandwidth of the copy that took turns with
    it, so that a machine that is slower as a whole is no regression of a rule. They differ where they do by
    more than 5 % and by more than both rows' noise together, and the quartiles do not overlap. Passes are
    read from the program and have no noise: more of them are a regression, fewer a gain, whatever the time
    says, unless both machines were quiet, and looked at often enough to know that they were.
    """
    keys = list(KEYS)
    measures = ["update_seconds", "update_seconds_low", "update_seconds_high", "copy_gigabytes_per_second"]
    columns = [*keys, *measures, "noise", "copy_noise", "windows", "passes"]
    sides = [_latest(frame)[columns] for frame in (old, new)]
    both = sides[0].merge(sides[1], on=keys, suffixes=("_old", "_new"))
    before, after = (_Side(both, side) for side in ("_old", "_new"))
    change = after.copies / before.copies - 1
    chance = np.maximum(before.noise + after.noise, LEAST)
    # The same noise upwards and downwards: twice as slow and twice as fast are the same distance from none.
    slower = (after.low > before.high) & (change > chance)
    faster = (after.high < before.low) & (before.copies / after.copies - 1 > chance)
    walks = after.passes - before.passes
    trusted = before.quiet & after.quiet
    verdicts = np.select(
        [slower & trusted, faster & trusted, walks > PASSES, walks < -PASSES, slower, faster],
        ["slower", "faster", "more passes", "fewer passes", "slower", "faster"],
        "same",
    )
    table = both[keys].assign(
        old_seconds=before.seconds,
        new_seconds=after.seconds,
        change=change,
        noise=chance,
        old_passes=both["passes_old"],
        new_passes=both["passes_new"],
        verdict=verdicts,
    )
    return Comparison(table, len(sides[0]) - len(both), len(sides[1]) - len(both))


class _Side:
    """One of the two profiles: columns of the rows that both have, as arrays [rows]."""

    def __init__(self, both: Frame, side: str):
        def column(name: str) -> np.ndarray:
            return both[name + side].to_numpy(float)

        copied = column("copy_gigabytes_per_second")
        self.seconds = column("update_seconds")
        self.copies, self.low, self.high = (
            column(name) * copied for name in ("update_seconds", "update_seconds_low", "update_seconds_high")
        )
        shared, alone = column("copy_noise"), column("noise")
        self.noise, self.passes = np.where(np.isnan(shared), alone, shared), column("passes")
        steady = np.maximum(self.noise, alone) <= QUIET
        self.quiet = steady & (column("windows") >= ENOUGH)


def _latest(frame: Frame) -> Frame:
    """Measured rows, the last of each measurement."""
    measured = frame[frame["status"] == "measured"].sort_values("measured_at", kind="stable")
    return measured.drop_duplicates(list(KEYS), keep="last")
