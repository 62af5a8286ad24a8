"""Two profiles, row by row: what became slower or faster beyond noise, and what takes more passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .schema import KEYS, Frame

LEAST = 0.05  # a change under this is none, however quiet the machine
PASSES = 0.25  # a difference in passes that counts


@dataclass(frozen=True)
class Comparison:
    """What differs between two profiles.

    Args:
        table: a row per measurement that both have: keys, `old_seconds`, `new_seconds`, `change` (+1 is twice
            the time), `noise` (what change could be chance), `old_passes`, `new_passes`, `verdict`
            (`slower`, `faster`, `more passes`, `fewer passes`, `same`).
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

    A time differs where the medians do by more than 5 % and by more than both rows' noise together, and the
    quartiles do not overlap. Passes are read from the program and have no noise: they are judged where time
    says nothing.
    """
    keys = list(KEYS)
    columns = [*keys, "update_seconds", "update_seconds_low", "update_seconds_high", "noise", "passes"]
    sides = [_latest(frame)[columns] for frame in (old, new)]
    both = sides[0].merge(sides[1], on=keys, suffixes=("_old", "_new"))
    before, after = both["update_seconds_old"].to_numpy(float), both["update_seconds_new"].to_numpy(float)
    change = after / before - 1
    chance = np.maximum(both["noise_old"].to_numpy(float) + both["noise_new"].to_numpy(float), LEAST)
    apart_up = both["update_seconds_low_new"].to_numpy(float) > both["update_seconds_high_old"].to_numpy(
        float
    )
    apart_down = both["update_seconds_high_new"].to_numpy(float) < both["update_seconds_low_old"].to_numpy(
        float
    )
    walks = both["passes_new"].to_numpy(float) - both["passes_old"].to_numpy(float)
    # The same noise upwards and downwards: twice as slow and twice as fast are the same distance from none.
    slower = apart_up & (change > chance)
    faster = apart_down & (before / after - 1 > chance)
    verdicts = np.select(
        [slower, faster, walks > PASSES, walks < -PASSES],
        ["slower", "faster", "more passes", "fewer passes"],
        "same",
    )
    table = both[keys].assign(
        old_seconds=before,
        new_seconds=after,
        change=change,
        noise=chance,
        old_passes=both["passes_old"],
        new_passes=both["passes_new"],
        verdict=verdicts,
    )
    return Comparison(table, len(sides[0]) - len(both), len(sides[1]) - len(both))


def _latest(frame: Frame) -> Frame:
    """Measured rows, the last of each measurement."""
    measured = frame[frame["status"] == "measured"].sort_values("measured_at", kind="stable")
    return measured.drop_duplicates(list(KEYS), keep="last")
