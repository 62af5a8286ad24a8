"""Which tiles a worker runs next, and what becomes of those that it loses. Pure: no Ray, no clock.

The driver asks `assign` for each worker that is free, and says what came of a call with `done` or `lost`.
Tiles travel in calls of several, sized by the measured speed so that a call takes seconds; the calls get
shorter as the work runs out, so that all workers end together. A tile whose worker was lost three times is
halved until the guilty cell stands alone; only a cell that lost three workers all by itself fails.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from harness.executors.queueing import TileQueue
from harness.types import Outcome, Program, Tile

ATTEMPTS = 3  # runs of a tile that end with its worker lost, before it is halved
PREEMPTIONS = 10  # those that Ray itself calls a preemption; beyond, they count as losses
CULPRITS = 3  # single cells of a program of which none ever ran: the rest of it is not tried
SHORTEST_CALL = 0.2  # seconds; a call costs the driver about a millisecond
LONG = 2.0  # times what a call should take: a tile of several rounds of lanes that takes longer is cut
SHARES = 3  # a call takes at most this share of what is left per worker
FIRST_ROUNDS = 2  # of lanes, in the call that a program's speed is measured by
UNKNOWN_LIMIT = 1800.0  # seconds that a call of a program may take that never ran
KNOWN_LIMIT = 300.0  # and of one that did, little as may be expected: it may have to compile again
SLACK = 10.0  # times the expected duration


@dataclass(frozen=True)
class Call:
    """Tiles that a worker was given together.

    Args:
        expected: seconds; 0 where the program's speed is not known.
        begun: when, in the driver's clock; None while another call of the worker runs before it.
        suspect: its tile has lost a worker before, and runs alone.
    """

    number: int
    worker: str
    tiles: tuple[Tile, ...]
    expected: float
    begun: float | None
    suspect: bool = False


@dataclass(frozen=True)
class Failure:
    """Cells that will not run, and the sentence why."""

    tile: Tile
    reason: str


class Schedule:
    """The state of a sweep's tiles: waiting, suspected, in flight.

    Args:
        tiles: what is to run.
        call_seconds: how long a call is meant to take at most.
        tile_seconds: limit of a tile; None: from what is expected.
    """

    def __init__(self, tiles: Iterable[Tile], call_seconds: float = 30.0, tile_seconds: float | None = None):
        tiles = list(tiles)
        self.queue = TileQueue(tiles)
        self.call_seconds, self.tile_seconds = call_seconds, tile_seconds
        self.suspects: list[Tile] = []  # last in, first out: the smallest part first
        self.waiting: Counter[str] = Counter()  # cell-steps per program
        self.busy: Counter[str] = Counter()  # calls in flight per program
        self.seconds_per_step: dict[str, float] = {}
        self.compile_seconds: dict[str, float] = {}  # the longest that a worker took
        self.losses: Counter[str] = Counter()
        self.lost_on: dict[str, str] = {}  # a suspect's tile id → the node that it was lost on last
        self.preemptions: Counter[str] = Counter()
        self.ran: set[str] = set()  # programs of which a tile came back
        self.culprits: Counter[str] = Counter()
        self.condemned: dict[str, str] = {}  # programs that are not tried any more, and why
        self.calls: dict[int, Call] = {}
        self.by_worker: dict[str, list[int]] = {}
        self.total = len(tiles)
        self.left = len(tiles)
        self.retries = 0
        self._numbers = itertools.count()
        for tile in tiles:
            self.waiting[tile.program.key] += _steps(tile)

    # -- giving out ----------------------------------------------------------------------------------

    def assign(
        self, worker: str, warm: Collection[str], now: float, workers: int, node: str = "", nodes: int = 1
    ) -> Call | None:
        """The next call of a worker; None where nothing waits, or what waits must not be queued up.

        Args:
            warm: keys of the programs that the worker has compiled.
            workers: how many are there to share what is left.
            node: where the worker is. nodes: how many have workers: a suspect runs on another one.
        """
        held = self.by_worker.get(worker, [])
        if any(self.calls[number].suspect for number in held):
            return None  # nothing is queued behind a suspect
        suspect = None if held else self._suspect(node, nodes)
        if suspect is not None:
            return self._begin(worker, (suspect,), now, suspect=True)
        first = self.queue.take(warm, self._worth)
        if first is None:
            return None
        first = self._cut(first, workers)
        self.waiting[first.program.key] -= _steps(first)
        return self._begin(worker, self._bundle(first, workers), None if held else now)

    def _worth(self, key: str) -> bool:
        """Whether those who run a program would need longer for its rest than compiling it takes."""
        busy, speed = self.busy[key], self.seconds_per_step.get(key)
        if not busy or speed is None:
            return True
        return speed * self.waiting[key] / busy > self.compile_seconds.get(key, 0.0)

    def _suspect(self, node: str, nodes: int) -> Tile | None:
        """The next suspect that may run on a node: the last in, unless it was lost there and others are."""
        for i in reversed(range(len(self.suspects))):
            if nodes < 2 or not node or self.lost_on.get(self.suspects[i].tile_id) != node:
                return self.suspects.pop(i)
        return None

    def _cut(self, tile: Tile, workers: int) -> Tile:
        """The first part of a tile that takes too long, or would keep others idle; the rest waits.

        Whole rounds of lanes: a part of one would take as long as the whole.
        """
        lanes = tile.program.lanes.count
        rounds = -(-len(tile.cells) // lanes)
        keep, seconds, aim = rounds, self._seconds(tile), self._aim(workers)
        if tile.program.key in self.seconds_per_step:
            if seconds > LONG * aim:
                keep = max(1, int(rounds * aim / seconds))
        else:
            if rounds > 2 * FIRST_ROUNDS:
                keep = FIRST_ROUNDS
            if len(self.queue) + len(self.calls) < workers:
                keep = min(keep, -(-rounds // 2))
        if keep >= rounds:
            return tile
        self.queue.add(Tile(tile.program, tile.cells[keep * lanes :]))
        self.total += 1
        self.left += 1
        return Tile(tile.program, tile.cells[: keep * lanes])

    def _bundle(self, first: Tile, workers: int) -> tuple[Tile, ...]:
        """Tiles of one program that take about as long as a call should."""
        if first.program.key not in self.seconds_per_step:
            return (first,)  # one to measure the speed by
        aim = self._aim(workers)
        tiles, seconds = [first], self._seconds(first)
        key = first.program.key
        while (line := self.queue.tiles.get(key)) and seconds + self._seconds(line[0]) <= aim:
            tile = self.queue.next_of(key)
            self.waiting[tile.program.key] -= _steps(tile)
            seconds += self._seconds(tile)
            tiles.append(tile)
        return tuple(tiles)

    def _aim(self, workers: int) -> float:
        """Seconds that the next call should take: less and less as the work runs out."""
        share = self.seconds_left() / (SHARES * max(1, workers))
        return min(self.call_seconds, max(SHORTEST_CALL, share))

    def _begin(self, worker: str, tiles: tuple[Tile, ...], now: float | None, suspect: bool = False) -> Call:
        expected = sum(self._seconds(t) for t in tiles)
        call = Call(next(self._numbers), worker, tiles, expected, now, suspect)
        self.calls[call.number] = call
        self.busy[tiles[0].program.key] += 1
        self.by_worker.setdefault(worker, []).append(call.number)
        return call

    def _seconds(self, tile: Tile) -> float:
        return self.seconds_per_step.get(tile.program.key, 0.0) * _steps(tile)

    def seconds_left(self) -> float:
        """Worker-seconds of what waits, by the speeds so far; what was never measured counts as the mean."""
        known = self.seconds_per_step
        if not known:
            return 0.0
        mean = sum(known.values()) / len(known)
        return sum(steps * known.get(key, mean) for key, steps in self.waiting.items())

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be given out."""
        return not self.suspects and not len(self.queue)

    # -- what came of it -----------------------------------------------------------------------------

    def done(
        self, number: int, outcomes: Sequence[Outcome], now: float, seconds: float | None = None
    ) -> None:
        """A call came back whole.

        Args:
            seconds: that it took on the worker, commits and all; None: the sum of the tiles' clocks.
        """
        call = self._end(number, now)
        key = call.tiles[0].program.key
        self.ran.add(key)
        self.left -= len(call.tiles)
        compiling = sum(o.compile_seconds for o in outcomes)
        self.compile_seconds[key] = max(compiling, self.compile_seconds.get(key, 0.0))
        if seconds is None:
            seconds = compiling + sum(o.train_seconds + o.evaluate_seconds for o in outcomes)
        seconds -= compiling  # which the worker's next call does not pay again
        steps = sum(_steps(t) for t in call.tiles)
        if seconds > 0 and steps:
            new = seconds / steps
            self.seconds_per_step[key] = (new + self.seconds_per_step.get(key, new)) / 2

    def kept(self, tile: Tile) -> None:
        """A tile of a lost call turned out to be committed."""
        self.ran.add(tile.program.key)
        self.left -= 1

    def lost(
        self,
        worker: str,
        cause: str,
        now: float,
        committed: Collection[str] | None = None,
        preempted: bool = False,
        charge: int = 1,
        node: str = "",
    ) -> list[Failure]:
        """A worker is gone; what it held runs again, or is found guilty.

        Args:
            cause: the end of the sentence "it lost its worker: …".
            committed: ids of tiles whose rows are there all the same (`kept` has been told), so that the
                first of the others is the one that ran; None: nobody knows.
            charge: by how much this counts; a tile over its time limit counts double.
            node: where the worker was.
        Returns:
            Cells that will not be tried again.
        """
        failures: list[Failure] = []
        for place, number in enumerate(list(self.by_worker.get(worker, ()))):
            tiles = self._end(number, now).tiles
            if committed is not None:
                tiles = tuple(t for t in tiles if t.tile_id not in committed)
            # Calls behind the first had not begun.
            charged = 0 if place else 1 if committed is not None else len(tiles)
            for tile in reversed(tiles[charged:]):
                self._requeue(tile)
            for tile in tiles[:charged]:
                self.lost_on[tile.tile_id] = node
                failures += self._charge(tile, cause, preempted, charge)
        self.by_worker.pop(worker, None)
        return failures

    def _charge(self, tile: Tile, cause: str, preempted: bool, charge: int) -> list[Failure]:
        self.retries += 1
        if preempted and self.preemptions[tile.tile_id] < PREEMPTIONS:
            self.preemptions[tile.tile_id] += 1
            self._requeue(tile)
            return []
        if tile.program.key in self.condemned:
            return self._fail(tile, self.condemned[tile.program.key])
        self.losses[tile.tile_id] += charge
        if self.losses[tile.tile_id] < ATTEMPTS:
            # Whole tiles wait behind parts; neither is ever bundled again.
            self.suspects.insert(0 if len(tile.cells) > 1 else len(self.suspects), tile)
            return []
        if len(tile.cells) == 1:
            self.culprits[tile.program.key] += 1
            guilty = self._fail(tile, f"it lost its worker every time that it ran alone: {cause}")
            return guilty + self._condemn(tile.program, cause)
        self._halve(tile)
        return []

    def _halve(self, tile: Tile) -> None:
        """Two parts, each with one attempt before it is halved again; a cell alone has all of them.

        An accident that hits an innocent cell just when it is alone must not cost it its row.
        """
        middle = len(tile.cells) // 2
        parts = [Tile(tile.program, tile.cells[middle:]), Tile(tile.program, tile.cells[:middle])]
        for part in parts:
            self.losses[part.tile_id] = ATTEMPTS - 1 if len(part.cells) > 1 else 0
            self.lost_on[part.tile_id] = self.lost_on.get(tile.tile_id, "")
        self.suspects += parts
        self.total += 1
        self.left += 1

    def _condemn(self, program: Program, cause: str) -> list[Failure]:
        """Gives up a program of which nothing ever ran and several cells, each alone, lost their worker."""
        if program.key in self.ran or self.culprits[program.key] < CULPRITS:
            return []
        reason = (
            f"nothing of its program ever ran, and {CULPRITS} cells of it, alone, lost their worker: {cause}"
        )
        self.condemned[program.key] = reason
        line = self.queue.tiles.pop(program.key, ())
        suspected = [t for t in self.suspects if t.program.key == program.key]
        self.suspects = [t for t in self.suspects if t.program.key != program.key]
        self.waiting.pop(program.key, None)
        return [f for t in (*line, *suspected) for f in self._fail(t, reason)]

    def _fail(self, tile: Tile, reason: str) -> list[Failure]:
        self.left -= 1
        return [Failure(tile, reason)]

    def _requeue(self, tile: Tile) -> None:
        if self.losses[tile.tile_id]:
            self.suspects.append(tile)
            return
        self.queue.put_back(tile)
        self.waiting[tile.program.key] += _steps(tile)

    def _end(self, number: int, now: float) -> Call:
        """Takes a call from its worker; the one behind it begins."""
        call = self.calls.pop(number)
        self.busy[call.tiles[0].program.key] -= 1
        held = self.by_worker[call.worker]
        held.remove(number)
        if held and self.calls[held[0]].begun is None:
            self.calls[held[0]] = replace(self.calls[held[0]], begun=now)
        return call

    def overdue(self, now: float) -> list[Call]:
        """Calls that are over their time limit."""
        return [c for c in self.calls.values() if c.begun is not None and now - c.begun > self.limit(c)]

    def limit(self, call: Call) -> float:
        """Seconds that a call may take."""
        if self.tile_seconds is not None:
            # Of many short tiles the first may hang: it must not be waited for as for all of them.
            return min(self.tile_seconds * len(call.tiles), self.tile_seconds + SLACK * call.expected)
        return max(KNOWN_LIMIT, SLACK * call.expected) if call.expected else UNKNOWN_LIMIT


def _steps(tile: Tile) -> int:
    return tile.program.budget * len(tile.cells)
