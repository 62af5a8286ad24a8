"""Which tile a worker takes next: the order that compiles each program as few times as possible."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable

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
            self.add(tile)

    def take(self, warm: Collection[str], worth: Callable[[str], bool] = lambda key: True) -> Tile | None:
        """The next tile for a worker whose compiled programs are `warm`; None where there is none for it.

        Args:
            worth: whether a program that others run is worth compiling once more.
        """
        key = next((key for key in self.tiles if key in warm), None)
        if key is None:
            key = next((key for key in self.tiles if key not in self.begun), None)
        if key is None:
            # Programs with most cells first: what is long must not begin last.
            others = [key for key in self.tiles if worth(key)]
            key = max(others, key=lambda k: len(self.tiles[k]), default=None)
        if key is None:
            return None
        self.begun.add(key)
        return self.next_of(key)

    def next_of(self, key: str) -> Tile:
        """The next tile of a program that has some."""
        queue = self.tiles[key]
        tile = queue.popleft()
        if not queue:
            del self.tiles[key]  # what is asked for often must not look through what is done
        return tile

    def add(self, tile: Tile) -> None:
        """Puts a tile at the end of its program's queue."""
        self.tiles.setdefault(tile.program.key, deque()).append(tile)

    def put_back(self, tile: Tile) -> None:
        """Puts a tile at the head of its program's queue."""
        self.tiles.setdefault(tile.program.key, deque()).appendleft(tile)

    def __len__(self) -> int:
        return sum(len(queue) for queue in self.tiles.values())
