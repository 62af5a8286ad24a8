"""What is wrong with a KubeRay manifest: fields that the operator does not know, ways in without a token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness import tokens
from harness.sentences import near_matches

KINDS = ("RayJob", "RayCluster", "RayService")
PUBLIC_SERVICES = ("LoadBalancer", "NodePort")

# Field names of KubeRay 1.6's API (ray.io/v1): what Kubernetes would refuse, or silently drop.
JOB_KEYS = frozenset(
    [
        "activeDeadlineSeconds",
        "backoffLimit",
        "clusterSelector",
        "deletionPolicy",
        "deletionStrategy",
        "entrypoint",
        "entrypointNumCpus",
        "entrypointNumGpus",
        "entrypointResources",
        "jobId",
        "managedBy",
        "metadata",
        "preRunningDeadlineSeconds",
        "rayClusterSpec",
        "runtimeEnvYAML",
        "shutdownAfterJobFinishes",
        "submissionMode",
        "submitterConfig",
        "submitterPodTemplate",
        "suspend",
        "ttlSecondsAfterFinished",
    ]
)
CLUSTER_KEYS = frozenset(
    [
        "authOptions",
        "autoscalerOptions",
        "enableInTreeAutoscaling",
        "gcsFaultToleranceOptions",
        "headGroupSpec",
        "headServiceAnnotations",
        "managedBy",
        "rayVersion",
        "suspend",
        "upgradeStrategy",
        "workerGroupSpecs",
    ]
)
HEAD_KEYS = frozenset(
    ["enableIngress", "headService", "labels", "rayStartParams", "resources", "serviceType", "template"]
)
WORKER_KEYS = frozenset(
    [
        "groupName",
        "idleTimeoutSeconds",
        "labels",
        "maxReplicas",
        "minReplicas",
        "numOfHosts",
        "rayStartParams",
        "replicas",
        "resources",
        "scaleStrategy",
        "suspend",
        "template",
    ]
)
REQUIRED_OF_WORKERS = ("groupName", "template", "rayStartParams")


def problems(config: Mapping[str, Any]) -> Iterator[str]:
    """A sentence per problem of a RayJob, RayCluster or RayService."""
    if config.get("apiVersion") != "ray.io/v1":
        yield f"apiVersion is {config.get('apiVersion')!r}: KubeRay's is 'ray.io/v1'"
    spec = config.get("spec") or {}
    kind = config["kind"]
    cluster = spec if kind == "RayCluster" else spec.get(_cluster_key(kind)) or {}
    if kind == "RayJob":
        yield from _unknown("spec", spec, JOB_KEYS)
        if not spec.get("entrypoint"):
            yield "spec.entrypoint is missing: the command that the job runs"
    yield from _unknown(_cluster_key(kind), cluster, CLUSTER_KEYS)
    if not cluster.get("rayVersion"):
        yield "rayVersion is missing: the operator guesses what the image holds"
    yield from _groups(cluster)
    yield from _doors(cluster)


def _cluster_key(kind: str) -> str:
    return {"RayJob": "rayClusterSpec", "RayService": "rayClusterConfig"}.get(kind, "spec")


def _unknown(place: str, found: Mapping[str, Any], known: frozenset[str]) -> Iterator[str]:
    for key in found:
        if key not in known:
            near = near_matches(key, known)
            yield f"{place}: '{key}' is no field of KubeRay's" + (
                f": did you mean '{near[0]}'?" if near else ""
            )


def _groups(cluster: Mapping[str, Any]) -> Iterator[str]:
    """Head and workers: their fields, and a token for each container."""
    head, workers = cluster.get("headGroupSpec") or {}, cluster.get("workerGroupSpecs") or []
    yield from _unknown("headGroupSpec", head, HEAD_KEYS)
    yield from _containers("headGroupSpec", head, cluster)
    if not workers:
        yield "workerGroupSpecs is empty: nothing would run"
    for i, group in enumerate(workers):
        name = f"workerGroupSpecs[{i}]"
        yield from _unknown(name, group, WORKER_KEYS)
        for key in REQUIRED_OF_WORKERS:
            if key not in group:
                yield f"{name}: '{key}' is missing"
        if group.get("minReplicas", 0) > group.get("maxReplicas", 2**31 - 1):
            yield f"{name}: minReplicas is above maxReplicas"
        yield from _containers(name, group, cluster)


def _containers(name: str, group: Mapping[str, Any], cluster: Mapping[str, Any]) -> Iterator[str]:
    containers = ((group.get("template") or {}).get("spec") or {}).get("containers") or []
    if not containers:
        yield f"{name} has no container"
    if (cluster.get("authOptions") or {}).get("mode") == "token":
        return  # the operator gives mode and token to every container, the autoscaler and the submitter too
    for container in containers:
        env = {e.get("name"): e for e in container.get("env") or []}
        if env.get(tokens.MODE, {}).get("value") != "token":
            yield f"{name}: container '{container.get('name')}' has no {tokens.MODE}=token"
        if tokens.TOKEN_PATH not in env and "valueFrom" not in env.get(tokens.TOKEN, {}):
            yield f"{name}: container '{container.get('name')}' gets no token: mount it from a Secret"


def _doors(cluster: Mapping[str, Any]) -> Iterator[str]:
    """Ways from outside to the head."""
    head = cluster.get("headGroupSpec") or {}
    service = (head.get("headService") or {}).get("spec") or {}
    for place, kind in (("serviceType", head.get("serviceType")), ("headService", service.get("type"))):
        if kind in PUBLIC_SERVICES:
            yield (
                f"headGroupSpec.{place} {kind} opens the head to the world: leave it at ClusterIP, and reach "
                "the dashboard through kubectl port-forward"
            )
    if head.get("enableIngress"):
        yield "headGroupSpec.enableIngress opens the head to the world: use kubectl port-forward"
