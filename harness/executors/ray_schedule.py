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
from harness.executors.ray_pace import Pace, limit_of, steps_of
from harness.types import Outcome, Program, Tile

ATTEMPTS = 3  # runs of a tile that end with its worker lost, before it is halved
PREEMPTIONS = 10  # those that Ray itself calls a preemption; beyond, they count as losses
CULPRITS = 3  # single cells of a program of which none ever ran: the rest of it is not tried
LONG = 2.0  # times what a call should take: a tile of several rounds of lanes that takes longer is cut
FIRST_ROUNDS = 2  # of lanes, in the call that a program's speed is measured by


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
        self.pace, self.tile_seconds = Pace(call_seconds), tile_seconds
        self.suspects: list[Tile] = []  # last in, first out: the smallest part first
        self.waiting: Counter[str] = Counter()  # cell-steps per program
        self.busy: Counter[str] = Counter()  # calls in flight per program
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
            self.waiting[tile.program.key] += steps_of(tile)

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
        self.waiting[first.program.key] -= steps_of(first)
        return self._begin(worker, self._bundle(first, workers), None if held else now)

    def _worth(self, key: str) -> bool:
        """Whether those who run a program would need longer for its rest than compiling it takes."""
        busy = self.busy[key]
        return not busy or self.pace.rest_takes_longer(key, self.waiting[key], busy)

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
        keep, seconds, aim = rounds, self.pace.seconds(tile), self.pace.aim(self.waiting, workers)
        if self.pace.knows(tile.program.key):
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
        if not self.pace.knows(first.program.key):
            return (first,)  # one to measure the speed by
        aim = self.pace.aim(self.waiting, workers)
        tiles, seconds = [first], self.pace.seconds(first)
        key = first.program.key
        while (line := self.queue.tiles.get(key)) and seconds + self.pace.seconds(line[0]) <= aim:
            tile = self.queue.next_of(key)
            self.waiting[tile.program.key] -= steps_of(tile)
            seconds += self.pace.seconds(tile)
            tiles.append(tile)
        return tuple(tiles)

    def _begin(self, worker: str, tiles: tuple[Tile, ...], now: float | None, suspect: bool = False) -> Call:
        expected = sum(self.pace.seconds(t) for t in tiles)
        call = Call(next(self._numbers), worker, tiles, expected, now, suspect)
        self.calls[call.number] = call
        self.busy[tiles[0].program.key] += 1
        self.by_worker.setdefault(worker, []).append(call.number)
        return call

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
        if seconds is None:
            seconds = compiling + sum(o.train_seconds + o.evaluate_seconds for o in outcomes)
        self.pace.learn(key, sum(map(steps_of, call.tiles)), seconds, compiling)

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
        self.waiting[tile.program.key] += steps_of(tile)

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
        return limit_of(len(call.tiles), call.expected, self.tile_seconds)
