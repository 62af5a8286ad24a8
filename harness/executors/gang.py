"""Gangs: processes that run every tile together, for batches that are split over several of them.

All processes of a gang run the same tile, step by step; the first, the chief, alone commits its rows. One
that is lost takes the others with it: a process cannot join a TensorFlow cluster again, so all are ended,
new ones are started, and the tile runs again whole. A gang runs many tiles, since forming one takes seconds.
A pool may also hold several gangs of one process each, which run tiles of their own.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.executors.ray_options import ClusterOptions
from harness.executors.ray_worker import Hello, Reply
from harness.types import OptgridError, RunError, Tile

STARTS = 3  # failed starts in a row, before the run gives up
GRACE_SECONDS = 2.0  # for the process that was lost to be heard of, after those that miss it
REST_SECONDS = 0.5  # after a loss, before a new gang is started


class Death(Exception):
    """A process is gone; the message is the end of the sentence "it lost its worker: …"."""

    preempted = False


class Seat(Protocol):
    """A process of a gang; what it is asked, it answers in order."""

    def ask(self, call: str, *arguments: Any) -> None:
        """Has the process call `endpoint`, `hello` or `run`."""
        ...


class Yard(Protocol):
    """Where processes come from."""

    def start(self, size: int) -> list[Seat]:
        """Processes of a new gang."""
        ...

    def answers(self, seats: Sequence[Seat], wait: float) -> list[tuple[Seat, Any]]:
        """What came back: values and exceptions, `Death` among them; waits for the first of it."""
        ...

    def end(self, seats: Sequence[Seat]) -> None:
        """Makes sure that all processes of a gang end."""
        ...

    def missing(self) -> str:
        """What is waited for where no gang comes to be, as the end of a sentence."""
        ...


@dataclass
class Gang:
    """Processes and what they have to answer; `hello` is None until they have formed."""

    name: str
    seats: list[Seat]
    heard: dict[int, deque[Any]]  # seat → answers that others have not given yet
    hello: Hello | None = None
    warm: frozenset[str] = frozenset()
    calls: dict[int, int] = field(default_factory=dict)  # running number → number of the call
    node: str = ""  # on several: a suspect has no other place to go


@dataclass(frozen=True)
class Loss:
    """A gang that is gone, and the end of the sentence "it lost its worker: …"."""

    member: Gang
    cause: str
    preempted: bool = False


class Gangs:
    """A pool of gangs, as the driver's loop wants it.

    Args:
        yard: where processes come from.
        size: processes of a gang.
        count: gangs at most.
        gpus: of each process, for the journal.
        event: called with a name and fields, for the journal.
    """

    def __init__(
        self,
        yard: Yard,
        options: ClusterOptions,
        *,
        size: int,
        count: int,
        gpus: float,
        event: Callable[..., None],
    ):
        self.yard, self.options, self.size, self.count = yard, options, size, count
        self.gpus, self.event = gpus, event
        self.members: dict[str, Gang] = {}
        self.bad_starts, self.last_fault = 0, ""
        self.rest_until = 0.0
        self.last_ready = time.monotonic()
        self._numbers = itertools.count()

    # -- size ------------------------------------------------------------------------------------------

    def resize(self, useful: int) -> None:
        """Starts gangs, up to `useful` of them.

        Raises:
            RunError: none can be started, or there has been none for too long.
        """
        now = time.monotonic()
        if self.ready():
            self.last_ready = now
        if self.bad_starts >= STARTS:
            raise RunError(f"no worker could start: {self.last_fault}")
        if now - self.last_ready > self.options.patience_seconds:
            raise RunError(f"no worker for {self.options.patience_seconds:g} s: {self.yard.missing()}")
        if now < self.rest_until:
            return
        for _ in range(min(self.count, useful) - len(self.members)):
            name = f"g{next(self._numbers)}"
            seats = self.yard.start(self.size)
            gang = Gang(name, seats, {i: deque() for i in range(len(seats))})
            self.members[name] = gang
            self.event("gang_started", worker=name, processes=len(seats))
            for seat in seats:
                seat.ask("endpoint") if self.size > 1 else seat.ask("hello", (), 0)

    def ready(self) -> list[Gang]:
        """Gangs that have formed."""
        return [g for g in self.members.values() if g.hello is not None]

    # -- work ------------------------------------------------------------------------------------------

    def send(self, member: Gang, number: int, tiles: Sequence[Tile]) -> None:
        """Gives all processes of a gang the same call."""
        member.calls[next(self._numbers)] = number
        for seat in member.seats:
            seat.ask("run", list(tiles))

    def answers(self, wait: float) -> Iterator[tuple[Gang, int, Reply] | Loss]:
        """What came back since the last time; waits up to `wait` seconds for the first of it.

        Raises:
            RunError: the chief cannot write its rows, or a process says that it can never do this work.
        """
        owners = {id(seat): gang for gang in self.members.values() for seat in gang.seats}
        if not owners:
            time.sleep(wait)
            return
        seats = [seat for gang in self.members.values() for seat in gang.seats]
        for seat, value in self.yard.answers(seats, wait):
            gang = owners[id(seat)]
            if gang.name not in self.members:
                continue  # lost by an answer before this one
            if isinstance(value, Exception):
                yield from self._fault(gang, seat, value)
                continue
            gang.heard[gang.seats.index(seat)].append(value)
            if all(gang.heard.values()):
                yield from self._all_said(gang, [line.popleft() for line in gang.heard.values()])

    def _all_said(self, gang: Gang, values: list[Any]) -> Iterator[tuple[Gang, int, Reply]]:
        """Every process has answered: addresses, hellos, or a call's replies, of which the chief's counts."""
        chief = values[0]
        if isinstance(chief, str):
            for index, seat in enumerate(gang.seats):
                seat.ask("hello", tuple(values), index)
        elif isinstance(chief, Hello):
            gang.hello = chief
            self.bad_starts, self.last_ready = 0, time.monotonic()
            for index, each in enumerate(values):
                where = {"host": each.host, "pid": each.pid, "device": each.device}
                self.event("worker_ready", worker=gang.name, process=index, **where)
        else:
            gang.warm = chief.warm
            yield gang, gang.calls.pop(next(iter(gang.calls))), chief

    def _fault(self, gang: Gang, seat: Seat, error: Exception) -> Iterator[Loss]:
        """A process raised or is gone: the whole gang ends."""
        error = self._root(gang, error)
        if _is_final(error):
            raise RunError(str(error)) from error
        preempted = bool(getattr(error, "preempted", False))
        if gang.hello is not None:
            yield self.lose(gang, str(error), preempted)
            return
        self.drop(gang)
        self.bad_starts += 1
        self.last_fault = str(error)
        self.event("worker_failed_to_start", worker=gang.name, cause=self.last_fault)

    def _root(self, gang: Gang, error: Exception) -> Exception:
        """The first cause: who misses a peer is often heard of before the peer's end is."""
        deadline = time.monotonic() + GRACE_SECONDS
        while not isinstance(error, Death) and not _is_final(error) and time.monotonic() < deadline:
            for _, value in self.yard.answers(gang.seats, 0.1):
                if isinstance(value, Exception) and (isinstance(value, Death) or _is_final(value)):
                    return value
        return error

    def lose(self, member: Gang, cause: str, preempted: bool = False) -> Loss:
        """Takes a gang out of the pool and makes sure that its processes end."""
        self.drop(member)
        self.rest_until = time.monotonic() + REST_SECONDS
        return Loss(member, cause, preempted)

    def drop(self, member: Gang) -> None:
        self.members.pop(member.name, None)
        self.yard.end(member.seats)

    def close(self) -> None:
        for member in list(self.members.values()):
            self.drop(member)


def _is_final(error: Exception) -> bool:
    """Whether an error would come again with any other gang: a sentence of ours, not of a lost peer."""
    from harness.strategies import PeerLost

    return isinstance(error, OptgridError) and not isinstance(error, PeerLost)
