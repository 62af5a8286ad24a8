"""The process on a cluster's node that runs tiles: what the pool's actor does, without Ray in it."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.records import Store
from harness.types import Component, Layout, Outcome, Program, RunError, Tile, UsageError


@dataclass(frozen=True)
class Setup:
    """What every worker of a run is told once.

    Args:
        address: of the results folder.
        study: its name.
        layout: the strategy, what is split, and devices by name; without: the GPUs that the worker was
            given, else the CPU.
        curves: whether recorded points are kept.
        gather: rows go back to the driver instead of to the results folder.
        fingerprint: of the study, which must be in the results folder that the worker sees.
        versions: the driver's, of what decides bits: a worker with others is turned away.
        files: the user's plug-ins, relative path → content.
        sources: a plug-in's path on the driver's machine → its path in `files`.
        environment: variables to set before TensorFlow is imported.
    """

    address: str
    study: str
    layout: Layout
    curves: bool
    gather: bool
    fingerprint: str
    versions: Mapping[str, str]
    files: Mapping[str, bytes] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Hello:
    """A worker, ready: where it is, what it computes on, and where what it prints goes."""

    host: str
    pid: int
    device: str
    node: str = ""
    log: str = ""


@dataclass(frozen=True)
class Rows:
    """A tile's tables as Arrow streams, for the driver to commit."""

    name: str
    cells: bytes
    curves: bytes | None


@dataclass(frozen=True)
class Reply:
    """What came of a call.

    Args:
        outcomes: one per tile.
        warm: keys of the programs that the worker has compiled by now.
        seconds: that the call took here, commits and all.
        rows: the tiles' tables where the driver gathers.
    """

    outcomes: tuple[Outcome, ...]
    warm: frozenset[str]
    seconds: float
    rows: tuple[Rows, ...] = ()


def own_versions() -> dict[str, str]:
    """Versions that must be the same on every machine of a run, or rows would differ."""
    python = platform.python_version().rpartition(".")[0]
    return {"python": python, "tensorflow": version("tensorflow"), "optgrid code": own_code()}


@cache
def own_code() -> str:
    """A hash of this project's files that decide rows: a checkout that lags behind has the same version."""
    top = Path(__file__).resolve().parents[2]
    found = hashlib.sha256()
    for pattern in ("optimizers/**/*.py", "workloads/**/*.py", "harness/*.py"):
        for path in sorted(top.glob(pattern)):
            found.update(path.relative_to(top).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:12]


class Gathered(Store):
    """A results folder that keeps what is committed until it is taken away."""

    def __init__(self, address: str):
        super().__init__(address)
        object.__setattr__(self, "held", [])

    held: list[Rows]

    def commit(self, tile_id: str, cells: Any, curves: Any) -> None:
        kept = None if curves is None or not curves.num_rows else arrow_bytes(curves)
        self.held.append(Rows(tile_id, arrow_bytes(cells), kept))

    def take(self) -> tuple[Rows, ...]:
        """What was committed since the last time."""
        taken = tuple(self.held)
        self.held.clear()
        return taken


def arrow_bytes(table: Any) -> bytes:
    """A table as an Arrow stream, compressed."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def joined(streams: Sequence[bytes]) -> Any:
    """The rows of several Arrow streams as one table."""
    import pyarrow as pa

    tables = []
    for data in streams:
        with pa.ipc.open_stream(data) as reader:
            tables.append(reader.read_all())
    return pa.concat_tables(tables, promote_options="default")


class Discarded(Store):
    """A results folder that forgets what is committed: another process writes the same rows."""

    def commit(self, tile_id: str, cells: Any, curves: Any) -> None:
        pass


class TileRunner:
    """Runs tiles in this process, on the device or devices that it was given.

    Args:
        setup: what every worker of the run is told.
        gpus: how many GPUs (or which share of one) the cluster gave to this process.
    """

    def __init__(self, setup: Setup, gpus: float):
        self.setup, self.gpus = setup, gpus
        self.relocated: dict[str, Program] = {}

    def hello(self, peers: Sequence[str] = (), index: int = 0) -> Hello:
        """Imports TensorFlow and checks that this worker can do the work.

        Args:
            peers: addresses of the processes that run tiles together, this one's among them; none: it
                runs them alone.
            index: its own place among them; the first alone commits rows.
        Raises:
            RunError: a sentence that says on which host what is missing.
        """
        host = socket.gethostname()
        mine = own_versions()
        for name, wanted in self.setup.versions.items():
            if mine.get(name) != wanted:
                raise RunError(
                    f"worker {host} has {name} {mine.get(name)}, the driver {wanted}: "
                    "rows would differ between them; install the same on every node"
                )
        self.folder = unpack(self.setup.files)
        self.store = self._store(host) if index == 0 else Discarded(self.setup.address)
        os.environ.update(self.setup.environment)
        placement = self._placement(host, peers, index)
        from harness.runtime import keep_imports
        from harness.worker import Programs, Worker

        keep_imports()

        self.programs = Programs(placement)
        name = f"{host}/{os.getpid()}/{placement.device}"
        self.worker = Worker(self.store, self.programs, self.setup.study, name, self.setup.curves)
        return Hello(host, os.getpid(), placement.device)

    def _placement(self, host: str, peers: Sequence[str], index: int) -> Any:
        from harness.strategies import joined, placements, prepare, visible

        layout = self.setup.layout
        seen = visible()
        if self.gpus and not layout.devices and not any(d.startswith("GPU") for d in seen):
            raise RunError(
                f"worker {host} was given a GPU that its TensorFlow does not see: install "
                "tensorflow[and-cuda] there, or name what to use, as 'strategy: {devices: [\"CPU:0\"]}'"
            )
        if layout.split == "lanes":
            # One of the replicas: its device is what it was given, under whatever name the study has it.
            on_gpu = any(d.startswith("GPU") for d in layout.devices or ())
            mine = replace(layout, replicas=None, devices=None if on_gpu else layout.devices)
            found = placements(mine, prepare(replace(mine, name="one_device"))[:1])[0]
            found.replicas = self.setup.layout.replicas or 1
            return found
        try:
            names = prepare(layout)
        except UsageError as error:
            raise RunError(f"worker {host}: {error}") from error
        return joined(layout, names, peers, index) if peers else placements(layout, names)[0]

    def run(self, tiles: Sequence[Tile]) -> Reply:
        """Runs tiles one after the other; each is committed as it ends."""
        begin = time.perf_counter()
        outcomes = tuple(self.worker.run(self._relocate(tile)) for tile in tiles)
        rows = self.store.take() if isinstance(self.store, Gathered) else ()
        seconds = time.perf_counter() - begin
        return Reply(outcomes, frozenset(self.programs.warm_keys()), seconds, rows)

    def _store(self, host: str) -> Store:
        if self.setup.gather:
            return Gathered(self.setup.address)
        store = Store(self.setup.address)
        try:
            seen = store.read_study().get("fingerprint")
        except UsageError:
            seen = None
        if seen != self.setup.fingerprint:
            raise RunError(
                f"worker {host} does not see the results folder {self.setup.address}: give --out an address "
                "that every node shares (a network folder, s3://, gs://), or --gather to bring rows back "
                "to the driver"
            )
        return store

    # -- the user's own code -------------------------------------------------------------------------

    def _relocate(self, tile: Tile) -> Tile:
        """The tile with its plug-ins' paths as they are on this machine."""
        if not self.setup.sources:
            return tile
        key = tile.program.key
        if key not in self.relocated:
            program = tile.program
            self.relocated[key] = replace(
                program,
                workload=relocated(program.workload, self.folder, self.setup.sources),
                optimizer=relocated(program.optimizer, self.folder, self.setup.sources),
            )
        return Tile(self.relocated[key], tile.cells)


def unpack(files: Mapping[str, bytes]) -> Path:
    """Lays the plug-ins' files in a folder of this process and makes its modules importable."""
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(name.encode() + b"\0" + data)
    folder = Path(tempfile.mkdtemp(prefix=f"optgrid-code-{digest.hexdigest()[:12]}-")) if files else Path()
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for top in sorted({folder / Path(name).parts[0] for name in files}):
        sys.path.append(str(top))
    return folder


def relocated(component: Component, folder: Path, sources: Mapping[str, str]) -> Component:
    """The component with its plug-ins' paths as they are on this machine.

    Args:
        folder, sources: where the files lie here, and each path's place among them.
    """
    source = sources.get(component.source)
    path = str(folder / source) if source else component.source
    inner = tuple(relocated(each, folder, sources) for each in component.inner)
    return replace(component, source=path, inner=inner)
