"""The pool of Ray actors: a worker per GPU, share of one, or core, on whatever nodes are there now."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.executors.ray_options import ClusterOptions
from harness.executors.ray_worker import Hello, Reply, Setup, TileRunner
from harness.types import OptgridError, RunError, Tile

LOOK_SECONDS = 2.0  # between looks at the cluster's nodes
REST_SECONDS = 1.0  # after a loss, before a worker is started in its place
STARTS = 3  # failed starts on a node, before it is left alone
FAULTS = 3  # calls in a row whose rows could not be written, before the run ends


@ray.remote(max_restarts=0, max_task_retries=0)
class Actor:
    """`TileRunner` in a process of its own. Retries are the driver's: Ray must not repeat a call."""

    def __init__(self, setup: Setup, gpus: float):
        self.runner = TileRunner(setup, gpus)

    def hello(self) -> Hello:
        context = ray.get_runtime_context()
        log = ray.worker.global_worker.get_out_file_path()  # pyright: ignore[reportAttributeAccessIssue]
        return replace(self.runner.hello(), node=context.get_node_id(), log=log)

    def run(self, tiles: Sequence[Tile]) -> Reply:
        return self.runner.run(tiles)


@dataclass
class Member:
    """A worker of the pool; `hello` is None once it has reported that it is ready."""

    name: str
    node: str
    actor: Any
    starting: Any
    hello: Hello | None = None
    warm: frozenset[str] = frozenset()
    calls: dict[Any, int] = field(default_factory=dict)  # object reference → number of the call


@dataclass(frozen=True)
class Loss:
    """A member that is gone, and the end of the sentence "it lost its worker: …"."""

    member: Member
    cause: str
    preempted: bool = False


class Pool:
    """Actors on the nodes that the cluster has; it follows the cluster as that grows and shrinks.

    Args:
        setup: what every worker is told.
        options: what a worker asks for.
        wanted: how many workers at most; None: as many as the nodes have room for.
        event: called with a name and fields, for the journal.
    """

    def __init__(self, setup: Setup, options: ClusterOptions, wanted: int | None, event: Callable[..., None]):
        self.options, self.wanted, self.event = options, wanted, event
        self.setup = ray.put(setup)
        self.gpus = self._gpus(setup)
        self.members: dict[str, Member] = {}
        self.bad_starts: Counter[str] = Counter()
        self.last_fault = ""
        self.faults = 0
        self.looked = -math.inf
        self.rest_until = -math.inf
        self.last_ready = time.monotonic()
        self._numbers = itertools.count()

    def _gpus(self, setup: Setup) -> float:
        """GPUs that a worker asks for."""
        if self.options.gpus is not None:
            return self.options.gpus
        named = setup.layout.devices or ()
        only_cpu = bool(named) and all(d.startswith("CPU") for d in named)
        has = any(node["Resources"].get("GPU") for node in alive())
        return 1 / self.options.per_gpu if has and not only_cpu else 0.0

    # -- size ------------------------------------------------------------------------------------------

    def room(self) -> dict[str, int]:
        """Workers that fit on each node, other work not counted."""
        found = {}
        for node in alive():
            has = node["Resources"]
            fits = int(has.get("CPU", 0))
            if self.gpus:
                fits = min(fits, int(has.get("GPU", 0) / self.gpus + 1e-9))
            found[node["NodeID"]] = fits
        return found

    def resize(self, useful: int) -> None:
        """Starts workers where there is room, up to `useful` of them.

        Raises:
            RunError: workers cannot start on any node, or there has been no worker for too long.
        """
        now = time.monotonic()
        if self.ready():
            self.last_ready = now
        if now - self.looked < LOOK_SECONDS or now < self.rest_until:
            return
        self.looked = now
        room = self.room()
        held = Counter(m.node for m in self.members.values())
        limit = useful if self.wanted is None else min(useful, self.wanted)
        good = {n: fits for n, fits in room.items() if self.bad_starts[n] < STARTS}
        # Evenly: the emptiest node first.
        places = sorted((i, node) for node, fits in good.items() for i in range(held[node], fits))
        missing = max(0, limit - len(self.members))
        for _, node in places[:missing]:
            self._start(node)
        if self.bad_starts and not self.members and not any(good.values()):
            raise RunError(f"no worker could start: {self.last_fault}")
        # A worker that no node has room for tells an autoscaler that nodes are wanted.
        spare = max(0, limit - len(self.members)) if self.wanted is not None else 0
        if not self.members:
            spare = max(spare, 1)
        for _ in range(spare if not held[""] else 0):
            self._start("")
        if now - self.last_ready > self.options.patience_seconds:
            raise RunError(self._nobody(limit))

    def _start(self, node: str) -> None:
        needs: dict[str, Any] = {"num_cpus": 1}
        if self.gpus:
            needs["num_gpus"] = self.gpus
        if node:
            needs["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=False)
        actor = Actor.options(**needs).remote(self.setup, self.gpus)
        name = f"w{next(self._numbers)}"
        self.members[name] = Member(name, node, actor, actor.hello.remote())
        self.event("worker_started", worker=name, node=node)

    def _nobody(self, limit: int) -> str:
        asked = "1 CPU" + (f" and {self.gpus:g} GPU" if self.gpus else "")
        has, free = ray.cluster_resources(), ray.available_resources()
        total = ", ".join(f"{has.get(k, 0):g} {k} ({free.get(k, 0):g} free)" for k in ("CPU", "GPU"))
        last = f"; the last worker that failed to start said: {self.last_fault}" if self.last_fault else ""
        return (
            f"no worker for {self.options.patience_seconds:g} s: {max(1, limit)} of {asked} each were asked "
            f"for, and the cluster has {len(alive())} nodes with {total} in all{last}"
        )

    # -- work ------------------------------------------------------------------------------------------

    def ready(self) -> list[Member]:
        """Workers that have said hello."""
        return [m for m in self.members.values() if m.hello is not None]

    def send(self, member: Member, number: int, tiles: Sequence[Tile]) -> None:
        """Gives a worker a call; its answer comes out of `answers`."""
        member.calls[member.actor.run.remote(list(tiles))] = number

    def answers(self, wait: float) -> Iterator[tuple[Member, int, Reply] | Loss]:
        """What came back since the last time; waits up to `wait` seconds for the first of it.

        Raises:
            RunError: a worker cannot write its rows.
        """
        members = list(self.members.values())
        owners = {ref: m for m in members for ref in ([m.starting] if m.hello is None else [*m.calls])}
        if not owners:
            time.sleep(wait)
            return
        refs = list(owners)
        # One answer may be long in coming, many come at once: wait for one, then take all there are.
        found, _ = ray.wait(refs, num_returns=1, timeout=wait, fetch_local=False)
        if found:
            found, _ = ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
        # In the order in which calls were given, so that the oldest of a lost worker comes first.
        for ref in [r for r in refs if r in set(found)]:
            member = owners[ref]
            if member.name not in self.members:
                continue  # lost by an answer before this one
            if member.hello is None:
                self._greet(member, ref)
            else:
                yield self._answer(member, ref)

    def _greet(self, member: Member, ref: Any) -> None:
        """A worker started, or did not.

        Raises:
            RunError: it says that no worker can do this work.
        """
        try:
            hello: Any = ray.get(ref)
        except exceptions.RayTaskError as error:
            self.drop(member)
            self.bad_starts[member.node] += STARTS
            cause = error.cause
            self.last_fault = str(cause) if isinstance(cause, OptgridError) else last_line(error)
        except exceptions.RayError as error:
            self.drop(member)
            self.bad_starts[member.node] += 1
            self.last_fault = sentence(error)
        else:
            member.hello = hello
            member.node = hello.node
            self.bad_starts.pop(member.node, None)
            self.last_ready = time.monotonic()
            self.looked = -math.inf
            where = {"host": hello.host, "pid": hello.pid, "device": hello.device, "log": hello.log}
            self.event("worker_ready", worker=member.name, **where)
            return
        self.event("worker_failed_to_start", worker=member.name, node=member.node, cause=self.last_fault)

    def _answer(self, member: Member, ref: Any) -> tuple[Member, int, Reply] | Loss:
        try:
            reply: Any = ray.get(ref)
        except exceptions.RayTaskError as error:
            if not isinstance(error.cause, RunError):
                return self.lose(member, f"the call raised {last_line(error)}")
            self.faults += 1
            if self.faults >= FAULTS:
                raise RunError(str(error.cause)) from None
            # One node's trouble with the storage is no reason to end the run, and no cell's fault.
            return self.lose(member, str(error.cause), preempted=True)
        except exceptions.RayError as error:
            return self.lose(member, sentence(error), bool(getattr(error, "preempted", False)))
        self.faults = 0
        member.warm = reply.warm
        return member, member.calls.pop(ref), reply

    def lose(self, member: Member, cause: str, preempted: bool = False) -> Loss:
        """Takes a worker out of the pool and makes sure that its process ends."""
        where = f" (on {member.hello.host}, process {member.hello.pid})" if member.hello else ""
        self.drop(member)
        self.rest_until = time.monotonic() + REST_SECONDS
        return Loss(member, f"{cause}{where}", preempted)

    def drop(self, member: Member) -> None:
        self.members.pop(member.name, None)
        self.looked = -math.inf
        ray.kill(member.actor, no_restart=True)

    def close(self) -> None:
        for member in list(self.members.values()):
            self.drop(member)


def alive() -> list[Mapping[str, Any]]:
    """Nodes that are up."""
    return [node for node in ray.nodes() if node["Alive"]]


def sentence(error: BaseException) -> str:
    """What Ray says of a loss, in its first line."""
    if isinstance(error, exceptions.OutOfMemoryError):
        return "out of memory"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
