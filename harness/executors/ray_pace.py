"""How fast programs run, as measured: what the length of calls and their limits follow. Pure: no clock."""

from __future__ import annotations

from collections.abc import Mapping

from harness.types import Tile

SHORTEST_CALL = 0.2  # seconds; a call costs the driver about a millisecond
SHARES = 3  # a call takes at most this share of what is left per worker
UNKNOWN_LIMIT = 1800.0  # seconds that a call of a program may take that never ran
KNOWN_LIMIT = 300.0  # and of one that did, little as may be expected: it may have to compile again
SLACK = 10.0  # times the expected duration


class Pace:
    """Speeds of programs, learned from the calls that came back.

    Args:
        call_seconds: how long a call is meant to take at most.
    """

    def __init__(self, call_seconds: float):
        self.call_seconds = call_seconds
        self.seconds_per_step: dict[str, float] = {}  # of a cell, per program
        self.compile_seconds: dict[str, float] = {}  # the longest that a worker took

    def learn(self, key: str, steps: int, seconds: float, compiling: float) -> None:
        """A call of a program came back.

        Args:
            steps: cell-steps of its tiles.
            seconds: that it took on the worker; `compiling` of them are not paid there again.
        """
        self.compile_seconds[key] = max(compiling, self.compile_seconds.get(key, 0.0))
        if seconds > compiling and steps:
            new = (seconds - compiling) / steps
            self.seconds_per_step[key] = (new + self.seconds_per_step.get(key, new)) / 2

    def knows(self, key: str) -> bool:
        """Whether a program has been measured."""
        return key in self.seconds_per_step

    def seconds(self, tile: Tile) -> float:
        """Expected seconds of a tile; 0 where nothing is known."""
        return self.seconds_per_step.get(tile.program.key, 0.0) * steps_of(tile)

    def left(self, waiting: Mapping[str, int]) -> float:
        """Worker-seconds of waiting cell-steps per program; what was never measured counts as the mean."""
        known = self.seconds_per_step
        if not known:
            return 0.0
        mean = sum(known.values()) / len(known)
        return sum(steps * known.get(key, mean) for key, steps in waiting.items())

    def aim(self, waiting: Mapping[str, int], workers: int) -> float:
        """Seconds that the next call should take: less and less as the work runs out."""
        share = self.left(waiting) / (SHARES * max(1, workers))
        return min(self.call_seconds, max(SHORTEST_CALL, share))

    def rest_takes_longer(self, key: str, steps: int, workers: int) -> bool:
        """Whether so many workers need longer for the rest of a program than compiling it takes elsewhere."""
        speed = self.seconds_per_step.get(key)
        return speed is None or speed * steps / workers > self.compile_seconds.get(key, 0.0)


def limit_of(tiles: int, expected: float, tile_seconds: float | None) -> float:
    """Seconds that a call may take.

    Args:
        expected: seconds; 0 where nothing is known.
        tile_seconds: a tile's limit, where the user set one.
    """
    if tile_seconds is not None:
        # Of many short tiles the first may hang: it must not be waited for as for all of them.
        return min(tile_seconds * tiles, tile_seconds + SLACK * expected)
    return max(KNOWN_LIMIT, SLACK * expected) if expected else UNKNOWN_LIMIT


def steps_of(tile: Tile) -> int:
    """Cell-steps of a tile, at most."""
    return tile.program.budget * len(tile.cells)
