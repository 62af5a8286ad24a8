"""The nouns of a sweep: cells, programs, tiles, and the errors that a user can act on.

A `Cell` is one run. A `Program` is what one XLA compilation serves: every learning rate, seed and
float hyperparameter of one workload and one optimizer structure. A `Tile` is a set of cells of one
program that travels to a worker together. Nothing here imports TensorFlow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

SCHEMA_VERSION = 1

Status = Literal["converged", "budget", "diverged", "failed"]
STATUSES: tuple[Status, ...] = ("converged", "budget", "diverged", "failed")


class OptgridError(Exception):
    """A sentence for the user; `exit_code` is what the command line ends with."""

    exit_code = 1


class UsageError(OptgridError):
    """What was asked for cannot be done as written: exit code 2, before anything starts."""

    exit_code = 2


class RunError(OptgridError):
    """The run could not go on: exit code 1, whatever is committed stays."""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text, in every process."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


DIGEST_BYTES = 10


def digest(value: Any, size: int = DIGEST_BYTES) -> str:
    """Stable hexadecimal hash (BLAKE2b, `size` bytes) of a JSON-able value."""
    return hashlib.blake2b(canonical_json(value).encode(), digest_size=size).hexdigest()


@dataclass(frozen=True)
class Component:
    """An optimizer or a workload as data: catalogue name, resolved parameters, wrapped optimizers.

    Args:
        name: catalogue name (`adam`), or `file.py:Class` / `package.module:Class`.
        params: every parameter with its value, defaults included; JSON-able.
        inner: the wrapped optimizers of a transform, in order.
        tuned: names in `params` that are traced (float hyperparameters of an optimizer).
        label: what rows and axes call it, non-default parameters only.
        source: where the file of a `file.py:Class` is on this machine; it is no part of the identity.
    """

    name: str
    params: Mapping[str, Any]
    label: str
    inner: tuple[Component, ...] = ()
    tuned: tuple[str, ...] = ()
    source: str = field(default="", compare=False)

    def resolved(self) -> dict[str, Any]:
        """Every parameter, nested: what `optimizer_params` and `workload_params` hold."""
        out = dict(self.params)
        if self.inner:
            out["inner"] = [{"name": c.name, "params": c.resolved()} for c in self.inner]
        return out

    def static(self) -> dict[str, Any]:
        """What decides the compiled program: the name and all that is not traced."""
        fixed = {k: v for k, v in self.params.items() if k not in self.tuned}
        return {"name": self.name, "params": fixed, "inner": [c.static() for c in self.inner]}

    def traced(self) -> tuple[float, ...]:
        """Values of the traced hyperparameters, own first, then the wrapped optimizers'."""
        own = tuple(float(self.params[k]) for k in self.tuned)
        return own + tuple(v for c in self.inner for v in c.traced())


# Where the two fields that differ between siblings stand in their identity's JSON.
_RATE, _SEED = "\0learning rate", "\0seed"
_OF_ONE_CELL = frozenset({"learning_rate", "seed", "cell_id"})


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: a workload, an optimizer, a learning rate, a seed, and what else decides the result."""

    workload: Component
    optimizer: Component
    learning_rate: float
    seed: int
    budget: int
    target: float
    stop: Literal["budget", "target"]
    dtype: str
    code: str = ""  # hash of the plug-in files that it uses; empty for the catalogue's own
    split: str = "lanes"
    replicas: int = 1  # decides the result only where a batch is split
    drop_remainder: bool = False  # likewise
    cell_id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cell_id", digest(self.identity()))

    def identity(self) -> dict[str, Any]:
        """Exactly what decides the result."""
        identity: dict[str, Any] = {
            "workload": [self.workload.name, self.workload.resolved()],
            "optimizer": [self.optimizer.name, self.optimizer.resolved()],
            "learning_rate": self.learning_rate,
            "seed": self.seed,
            "budget": self.budget,
            "target": self.target,
            "stop": self.stop,
            "dtype": self.dtype,
            "code": self.code,
        }
        return identity | self._parts()

    def siblings(self, rates: Iterable[float], seeds: Iterable[int]) -> Iterator[Cell]:
        """This cell at every learning rate and seed, in their order.

        The cells are those that `Cell(...)` makes. What they share is hashed once, not once per cell: a
        study has a million of them.
        """
        identity = self.identity() | {"learning_rate": _RATE, "seed": _SEED}
        head, rest = canonical_json(identity).split(canonical_json(_RATE))
        middle, tail = rest.split(canonical_json(_SEED))
        start = hashlib.blake2b(head.encode(), digest_size=DIGEST_BYTES)
        endings = [(seed, f"{canonical_json(seed)}{tail}".encode()) for seed in seeds]
        same = [(name, getattr(self, name)) for name in self.__slots__ if name not in _OF_ONE_CELL]
        make, put = object.__new__, object.__setattr__
        for rate in rates:
            begun = start.copy()
            begun.update(f"{canonical_json(rate)}{middle}".encode())
            for seed, ending in endings:
                hashed = begun.copy()
                hashed.update(ending)
                cell = make(Cell)
                for name, value in same:
                    put(cell, name, value)
                put(cell, "learning_rate", rate)
                put(cell, "seed", seed)
                put(cell, "cell_id", hashed.hexdigest())
                yield cell

    def program_identity(self) -> dict[str, Any]:
        """What decides the compiled program; rates, seeds and float hyperparameters are inputs."""
        identity: dict[str, Any] = {
            "workload": self.workload.static(),
            "optimizer": self.optimizer.static(),
            "budget": self.budget,
            "target": self.target,
            "stop": self.stop,
            "dtype": self.dtype,
            "code": self.code,
        }
        return identity | self._parts()

    def _parts(self) -> dict[str, Any]:
        """How a batch is cut into parts, where it is."""
        if self.split != "batch":
            return {}
        cut = {"drop_remainder": True} if self.drop_remainder else {}
        return {"replicas": self.replicas} | cut


@dataclass(frozen=True)
class Layout:
    """How a study's programs are spread over devices.

    Args:
        name: of the `tf.distribute` strategy.
        split: `lanes` (each replica its own runs) or `batch` (each its part of every batch).
        replicas: in all; None: one per device.
        devices: of each process, as `GPU:0`; None: every GPU, else the CPU.
        drop_remainder: leave out the examples of a batch that make no whole part for every replica.
        workers: threads, or processes of `multi_worker_mirrored`; None: as many as fit.
    """

    name: str = "default"
    split: Literal["lanes", "batch"] = "lanes"
    replicas: int | None = None
    devices: tuple[str, ...] | None = None
    drop_remainder: bool = False
    workers: int | None = None

    @property
    def mirrors(self) -> bool:
        """Whether the strategy has several replicas."""
        return self.name not in ("default", "one_device")

    @property
    def processes(self) -> int:
        """Processes that one split batch runs in."""
        if self.name != "multi_worker_mirrored":
            return 1
        if self.workers is not None:
            return self.workers
        return (self.replicas or 1) // max(1, len(self.devices or ()))

    @property
    def per_process(self) -> int:
        """Replicas in each process of a split batch."""
        return max(1, (self.replicas or len(self.devices or ()) or 1) // self.processes)

    def words(self) -> str:
        """As in "mirrored, 8 replicas, split: batch"."""
        parts = [self.name]
        if self.mirrors and self.replicas:
            parts.append(f"{self.replicas} replicas")
        if self.split == "batch" and self.processes > 1:
            parts.append(f"{self.processes} processes")
        if self.devices:
            parts.append("on " + " ".join(self.devices) + (" each" if self.processes > 1 else ""))
        return ", ".join([*parts, f"split: {self.split}"])


@dataclass(frozen=True)
class Lanes:
    """How many runs ride in one program: `groups` seeds of `width` cells each (groups = 1 where lanes
    are independent of one another's batches)."""

    groups: int
    width: int

    @property
    def count(self) -> int:
        return self.groups * self.width


@dataclass(frozen=True)
class Program:
    """What one compilation serves.

    Args:
        key: stable hash of `Cell.program_identity()`.
        workload, optimizer: representatives; only their static part matters.
        lanes: decided once per study and kept in `study.json`, since bits depend on it.
        stride: steps between recorded points.
        stability: whether parameter stability is summed on the device.
        curves: whether recorded points are kept.
        shared: per traced hyperparameter, whether all of the study's cells of this program have one value.
        split, replicas, drop_remainder: as in `Layout`; `replicas` counts where a batch is split.
        written_out: whether lanes come last and products are written out (`harness.products`), on CPUs.
        parts: of a batch, equal ones, which a step then looks at one after another: less to hold near a core.
    """

    key: str
    workload: Component
    optimizer: Component
    budget: int
    target: float
    stop: Literal["budget", "target"]
    dtype: str
    lanes: Lanes
    stride: int
    stability: bool = True
    curves: bool = True
    shared: tuple[bool, ...] = ()
    split: str = "lanes"
    replicas: int = 1
    drop_remainder: bool = False
    written_out: bool = False
    parts: int = 1


@dataclass(frozen=True)
class Tile:
    """Cells of one program that run together; its id names the file that its rows are committed to."""

    program: Program
    cells: tuple[Cell, ...]

    @cached_property
    def tile_id(self) -> str:
        return digest([self.program.key, sorted(c.cell_id for c in self.cells)])


@dataclass(frozen=True)
class Outcome:
    """What a worker returns for a tile; rows are already committed.

    `counts` maps a status to its number of cells; `steps` is the cell-steps run.
    """

    tile_id: str
    counts: Mapping[str, int]
    steps: int
    compile_seconds: float
    train_seconds: float
    evaluate_seconds: float
    worker: str
    cells: int
    detail: str = ""


@dataclass(frozen=True)
class Progress:
    """A running study's counters, handed to whoever draws them."""

    cells_total: int
    cells_done: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    steps_done: int = 0
    seconds: float = 0.0
    tiles_total: int = 0
    tiles_done: int = 0
    workers: int = 0
    retries: int = 0
    compiling: int = 0
    message: str = ""


ProgressCallback = Callable[[Progress], None]


class Interrupted(OptgridError):
    """The user stopped the run (Ctrl-C); what was committed stays and the same command resumes."""

    exit_code = 130
