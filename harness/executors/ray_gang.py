"""Gangs of Ray actors: a placement group holds room for all processes of one, or for none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray import exceptions
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from harness.executors.gang import Death, Gangs
from harness.executors.gang_member import GangMember
from harness.executors.ray_options import ClusterOptions
from harness.executors.ray_pool import alive, last_line, sentence
from harness.executors.ray_worker import Hello, Reply, Setup
from harness.types import Layout, OptgridError, Tile


@ray.remote(max_restarts=0, max_task_retries=0)
class Actor:
    """`GangMember` in an actor: a cluster of TensorFlow's cannot be joined again, so nothing is restarted."""

    def __init__(self, setup: Setup, gpus: float):
        self.member = GangMember(setup, gpus, ray.util.get_node_ip_address())

    def endpoint(self) -> str:
        return self.member.endpoint()

    def hello(self, peers: Sequence[str], index: int) -> Hello:
        return self.member.hello(peers, index)

    def run(self, tiles: Sequence[Tile]) -> Reply:
        return self.member.run(tiles)


class Chair:
    """An actor of a gang, its placement group, and what it was asked and has not answered."""

    def __init__(self, actor: Any, group: Any):
        self.actor, self.group = actor, group
        self.asked: list[Any] = []

    def ask(self, call: str, *arguments: Any) -> None:
        self.asked.append(getattr(self.actor, call).remote(*arguments))


class Actors:
    """The cluster as a place for processes.

    Args:
        setup: what every process is told.
        cpus, gpus: of each process.
    """

    def __init__(self, setup: Setup, cpus: int, gpus: float):
        self.setup, self.cpus, self.gpus = ray.put(setup), cpus, gpus

    @property
    def bundle(self) -> dict[str, float]:
        """What a process asks for."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    def start(self, size: int) -> list[Any]:
        """Actors of a new gang; they wait until the cluster has room for all of them."""
        group = placement_group([self.bundle] * size, strategy="PACK")
        chairs = []
        for index in range(size):
            where = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
            options = Actor.options(num_cpus=self.cpus, num_gpus=self.gpus, scheduling_strategy=where)
            chairs.append(Chair(options.remote(self.setup, self.gpus), group))
        return chairs

    def answers(self, seats: Sequence[Any], wait: float) -> list[tuple[Any, Any]]:
        """The next answer of every actor that has one."""
        first = {chair.asked[0]: chair for chair in seats if chair.asked}
        if not first:
            return []
        found, _ = ray.wait(list(first), num_returns=1, timeout=wait)
        if found:
            found, _ = ray.wait(list(first), num_returns=len(first), timeout=0)
        return [(first[ref], _value(first[ref].asked.pop(0))) for ref in found]

    def end(self, seats: Sequence[Any]) -> None:
        for chair in seats:
            ray.kill(chair.actor, no_restart=True)
        for group in {id(chair.group): chair.group for chair in seats}.values():
            remove_placement_group(group)

    def missing(self) -> str:
        """What was asked for and what there is."""
        asked = " and ".join(f"{count:g} {name}" for name, count in self.bundle.items())
        has, free = ray.cluster_resources(), ray.available_resources()
        total = ", ".join(f"{has.get(k, 0):g} {k} ({free.get(k, 0):g} free)" for k in ("CPU", "GPU"))
        return (
            f"processes of {asked} each, all at once, were asked for, and the cluster has "
            f"{len(alive())} nodes with {total} in all"
        )


def _value(ref: Any) -> Any:
    """What an actor returned, or what went wrong as an exception."""
    try:
        return ray.get(ref)
    except exceptions.RayTaskError as error:
        cause = error.cause
        return cause if isinstance(cause, OptgridError) else RuntimeError(f"it raised {last_line(error)}")
    except exceptions.RayError as error:
        death = Death(sentence(error))
        death.preempted = bool(getattr(error, "preempted", False))
        return death


def gangs(setup: Setup, options: ClusterOptions, layout: Layout, event: Callable[..., None]) -> Gangs:
    """The pool for a split batch: one gang of as many processes as the study's replicas need."""
    named = layout.devices or ()
    has = any(node["Resources"].get("GPU") for node in alive())
    on_gpus = any(d.startswith("GPU") for d in named) or (has and not any(d.startswith("CPU") for d in named))
    each = layout.per_process
    yard = Actors(setup, 1 if on_gpus else each, float(each) if on_gpus else 0.0)
    return Gangs(yard, options, size=layout.processes, count=1, gpus=yard.gpus, event=event)
