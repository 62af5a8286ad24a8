"""The kernels of a study's optimizers on a cluster: profiled once on every type of node that it has."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.executors.ray_code import parcel_of
from harness.executors.ray_pool import alive, sentence
from harness.executors.ray_worker import arrow_bytes, joined, relocated, unpack
from harness.kernels import study
from harness.records import Store
from harness.types import Component, digest

GREET_SECONDS = 60.0


@dataclass(frozen=True)
class NodeType:
    """Nodes on which an update costs the same.

    Args:
        processor, cores: of the machine itself.
        accelerators: GPUs by the names that Ray has for them.
    """

    processor: str
    cores: int
    accelerators: tuple[tuple[str, float], ...]

    @property
    def key(self) -> str:
        """Names the file of its rows."""
        return f"node-{digest([self.processor, self.cores, self.accelerators], size=6)}"

    @property
    def words(self) -> str:
        """As a reader would name it."""
        cards = "".join(f", {count:g} x {name}" for name, count in self.accelerators)
        return f"{self.processor} with {self.cores} cores{cards}"


@ray.remote(num_cpus=0)
def _machine() -> tuple[str, int]:
    """Processor and cores of the node that this runs on."""
    from harness.runtime import cpu_count, processor

    return processor(), cpu_count()


@ray.remote(max_retries=0)
def _profile(
    optimizers: Sequence[Component], files: Mapping[str, bytes], sources: Mapping[str, str], sizes: str
) -> tuple[bytes | None, str]:
    """Rows of the optimizers on this node as an Arrow stream, or a sentence on why there are none."""
    import tempfile

    from harness.kernels.study import profile_study

    folder = unpack(files)
    here = [relocated(each, folder, sources) for each in optimizers]
    with tempfile.TemporaryDirectory(prefix="optgrid-kernels-") as place:
        store = Store(place)
        said = profile_study(here, store, sizes)
        rows = store.read("kernels")[0]
    return (arrow_bytes(rows) if rows.num_rows else None), said


def profile_nodes(optimizers: Sequence[Component], store: Store, patience_seconds: float) -> str:
    """Profile the optimizers on one node of each type, all of it at once, and commit the rows here.

    A type that has its rows already is left out: a resumed study profiles what is new. Runs inside
    `connected`.

    Args:
        optimizers: of the study.
        store: its results folder.
        patience_seconds: how long to wait for all of it.
    Returns:
        A sentence on the types of nodes that have no kernels; empty where all have.
    """
    files, sources = parcel_of(optimizers)
    types, problems = node_types()
    there = {Path(name).stem for name in store.files("kernels")}
    waiting: dict[Any, NodeType] = {}
    for kind, node in types.items():
        if kind.key in there:
            continue
        has = node["Resources"]
        call = _profile.options(
            num_cpus=has.get("CPU", 0),
            num_gpus=has.get("GPU", 0),
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        )
        waiting[call.remote(list(optimizers), files, sources, study.SIZES)] = kind
    end = time.monotonic() + patience_seconds
    while waiting:
        done, _ = ray.wait(list(waiting), num_returns=1, timeout=max(0.0, end - time.monotonic()))
        if not done:
            for ref, kind in waiting.items():
                ray.cancel(ref, force=True)
                problems.append(f"{kind.words}: not done within {patience_seconds:g} s")
            break
        kind = waiting.pop(done[0])
        said = _commit(done[0], kind, store)
        if said:
            problems.append(f"{kind.words}: {said}")
    return f"no kernels of some nodes: {'; '.join(problems)}" if problems else ""


def _commit(ref: Any, kind: NodeType, store: Store) -> str:
    """Writes one type's rows; a sentence where there are none."""
    try:
        data, said = ray.get(ref)
    except exceptions.RayError as error:
        return sentence(error)
    if data is not None:
        store.write_table("kernels", kind.key, joined([data]))
    return said


def node_types() -> tuple[dict[NodeType, Mapping[str, Any]], list[str]]:
    """A node of each type that has cores for work, and sentences on nodes that did not answer."""
    asked = {}
    for node in alive():
        if node["Resources"].get("CPU", 0) >= 1:
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[_machine.options(scheduling_strategy=place).remote()] = node
    found: dict[NodeType, Mapping[str, Any]] = {}
    problems = []
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=GREET_SECONDS) if asked else ([], [])
    problems += [f"{asked[ref].get('NodeManagerHostname', 'a node')} did not answer" for ref in late]
    for ref in done:
        node = asked[ref]
        try:
            processor, cores = ray.get(ref)
        except exceptions.RayError as error:
            problems.append(f"{node.get('NodeManagerHostname', 'a node')}: {sentence(error)}")
            continue
        found.setdefault(NodeType(processor, cores, _accelerators(node["Resources"])), node)
    return found, problems


def _accelerators(resources: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """GPUs of a node: Ray names their model as a resource of its own."""
    count = resources.get("GPU", 0)
    if not count:
        return ()
    names = sorted(key.partition(":")[2] for key in resources if key.startswith("accelerator_type:"))
    return tuple((name, count) for name in names or ["GPU"])
