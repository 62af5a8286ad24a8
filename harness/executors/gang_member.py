"""A process of a gang, whoever started it: it gives its address, joins the others, runs tiles with them."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from harness.executors.ray_worker import Hello, Reply, Setup, TileRunner
from harness.types import Tile


class GangMember:
    """`TileRunner` among others.

    Args:
        setup: what every process is told.
        gpus: how many GPUs it was given.
        host: its address, as the others can reach it.
    """

    def __init__(self, setup: Setup, gpus: float, host: str):
        self.runner, self.host = TileRunner(setup, gpus), host
        self.held: socket.socket | None = None

    def endpoint(self) -> str:
        """`host:port`, with a port that is free: it is held until the others are known, so that nobody
        takes it meanwhile."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self.held = socket.socket(family)
        self.held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.held.bind((self.host, 0))
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.held.getsockname()[1]}"

    def hello(self, peers: Sequence[str], index: int) -> Hello:
        """Joins the others at their addresses; waits until all have come."""
        if self.held is not None:
            self.held.close()
        return self.runner.hello(peers, index)

    def run(self, tiles: Sequence[Tile]) -> Reply:
        """Runs tiles, one after the other, with the others."""
        return self.runner.run(tiles)
