"""What the nodes of a cluster that is up are made of: asked by a job on each kind of node."""

from __future__ import annotations

import json
import logging
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.cluster.submit import Remote, follow, send
from harness.types import RunError

MARK = "OPTGRID-NODE "
NODE_SECONDS = 120.0


def own() -> dict[str, Any]:
    """Versions of this process."""
    import ray

    return {"python": platform.python_version(), "ray": ray.__version__}


def look(gpus: float) -> dict[str, Any]:
    """What a worker process sees: run on a node, with its GPUs."""
    import socket

    from harness.runtime import tensorflow

    tf = tensorflow()
    seen = len(tf.config.list_physical_devices("GPU"))
    return own() | {"host": socket.gethostname(), "tensorflow": tf.__version__, "gpus": gpus, "seen": seen}


def report() -> list[dict[str, Any]]:
    """A line per kind of node of the cluster that this process runs in: what a worker there sees.

    Nodes with equal resources are one kind; one node of each that is up is asked.
    """
    import ray
    from ray.exceptions import GetTimeoutError, RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    kinds: dict[tuple[float, float], str] = {}
    for node in ray.nodes():
        has = node["Resources"]
        if node["Alive"] and has.get("CPU", 0) >= 1:
            kinds.setdefault((has["CPU"], has.get("GPU", 0.0)), node["NodeID"])
    lines = []
    for (cpus, gpus), node in kinds.items():
        where: Any = NodeAffinitySchedulingStrategy(node, soft=False)  # Ray's own annotation leaves it out
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0, scheduling_strategy=where)(look)
        try:
            lines.append({"cpus": cpus, **ray.get(task.remote(gpus), timeout=NODE_SECONDS)})
        except GetTimeoutError:
            why = f"no answer for {NODE_SECONDS:g} s: does another run hold its cores or GPUs?"
            lines.append({"cpus": cpus, "gpus": gpus, "problem": why})
        except RayError as error:
            last = str(error).strip().splitlines()[-1]
            lines.append({"cpus": cpus, "gpus": gpus, "problem": f"{type(error).__name__}: {last}"})
    return lines


def problems(remote: Remote, say: Callable[[str], None], types: Sequence[str] = ()) -> list[str]:
    """What is wrong with a cluster that is up; empty where its nodes can do the work.

    Args:
        types: of workers that the cluster's file declares; an autoscaler may not have started all of them.
    Raises:
        RunError: the job cannot be run.
    """
    client = remote.client()
    job = send(client, entrypoint="optgrid cluster probe", submission_id=f"optgrid-probe-{time.time_ns()}")
    say(f"job {job} asks the nodes")
    text: list[str] = []
    status = follow(client, job, text.append)
    found = [json.loads(line) for line in re.findall(f"^{MARK}(.*)$", "".join(text), re.MULTILINE)]
    if status != "SUCCEEDED" or not (found or types):
        last = "".join(text).strip().splitlines()[-1:] or ["it printed nothing; is optgrid on the nodes?"]
        raise RunError(f"the nodes could not be asked: {last[0]}")
    return [sentence for node in found for sentence in judged(node, own())] + unasked(types, len(found))


def unasked(types: Sequence[str], asked: int) -> list[str]:
    """A sentence where fewer kinds of nodes are up than a cluster's file declares."""
    if asked >= len(types):
        return []
    return [
        f"{asked} of the {len(types)} types of workers ({', '.join(types)}) are up, and what the others' "
        "TensorFlow sees is not known: give each min_workers: 1 for a check, or check again during a run"
    ]


def judged(node: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    """Sentences about one kind of node."""
    kind = f"nodes with {node['cpus']:g} CPU and {node['gpus']:g} GPU"
    if "problem" in node:
        return [f"{kind}: {node['problem']}"]
    kind += f" (as {node['host']})"
    found = []
    for name in ("python", "ray"):
        here, there = str(mine[name]), str(node[name])
        if name == "python":
            here, there = here.rpartition(".")[0], there.rpartition(".")[0]
        if here != there:
            found.append(f"{kind} have {name} {there}, this machine {here}: they must be the same")
    if node["seen"] < node["gpus"]:
        found.append(
            f"{kind}: TensorFlow sees {node['seen']} of the {node['gpus']:g} GPUs: install "
            "tensorflow[and-cuda] there, or look at the driver"
        )
    return found
