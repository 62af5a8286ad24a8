"""Which tile a worker takes next: the order that compiles each program as few times as possible."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable

from harness.types import Tile


class TileQueue:
    """Tiles by program.

    A worker takes (1) a tile of a program that is warm where it is, (2) of one that nobody has begun, (3) of
    the longest queue.
    """

    def __init__(self, tiles: Iterable[Tile]):
        self.tiles: dict[str, deque[Tile]] = {}
        self.begun: set[str] = set()
        for tile in tiles:
            self.tiles.setdefault(tile.program.key, deque()).append(tile)

    def take(self, warm: Collection[str]) -> Tile | None:
        """The next tile for a worker whose compiled programs are `warm`; None where there is none left."""
        waiting = [key for key, queue in self.tiles.items() if queue]
        if not waiting:
            return None
        mine = [key for key in waiting if key in warm]
        new = [key for key in waiting if key not in self.begun]
        # Programs with most cells first: what is long must not begin last.
        key = mine[0] if mine else new[0] if new else max(waiting, key=lambda k: len(self.tiles[k]))
        self.begun.add(key)
        return self.tiles[key].popleft()

    def put_back(self, tile: Tile) -> None:
        self.tiles.setdefault(tile.program.key, deque()).appendleft(tile)

    def __len__(self) -> int:
        return sum(len(queue) for queue in self.tiles.values())
