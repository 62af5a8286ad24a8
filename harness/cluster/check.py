"""What is wrong with a cluster's file, a sentence per problem, before `ray up` is tried."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from harness import tokens
from harness.cluster import manifest
from harness.types import UsageError

UNFILLED = "FILL_IN"
OLD_KEYS = {
    "head_node": "available_node_types",
    "worker_nodes": "available_node_types",
    "initial_workers": "min_workers of a node type",
    "autoscaling_mode": "upscaling_speed",
    "min_workers": "min_workers of a node type; with provider 'local' all workers start",
}
_OPEN = re.compile(r"--dashboard-host[= ]\s*['\"]?(0\.0\.0\.0|::|\*)")
_CLIENT = re.compile(r"--ray-client-server-port[= ]\s*[1-9]")
_PUBLISHED = re.compile(
    r"(?:^|\s)(?:-p|--publish)[= ]?\s*(?!127\.0\.0\.1:)[\w.:\[\]]*\d+:\d+|-P\b|--publish-all"
)
ANYWHERE = ("0.0.0.0/0", "::/0")
SSH = 22
_RAY_PIN = re.compile(r"(?:ray(?:\[[^\]]*\])?==|:ray|-ray|rayproject/ray:)(\d+\.\d+\.\d+)")
_PYTHON_PIN = re.compile(r"py3(\d{1,2})\b|python3\.(\d{1,2})\b")


def problems(path: Path) -> list[str]:
    """Everything that is wrong with a launcher's file or a RayJob manifest; empty where it can be used.

    Raises:
        UsageError: the file cannot be read, or is not YAML.
    """
    config = _read(path)
    if config.get("kind") in manifest.KINDS:
        found = [*manifest.problems(config)]
    else:
        found = [*_schema(config), *_provider(config), *_security(config), *_token_here(config)]
    return [*_unfilled(config), *found, *_versions(config)]


def worker_types(path: Path) -> list[str]:
    """Types of workers that a launcher's file declares for an autoscaler; none for provider `local`."""
    config = _read(path)
    types = config.get("available_node_types") or {}
    head = config.get("head_node_type")
    return [
        str(name) for name, kind in types.items() if name != head and (kind or {}).get("max_workers") != 0
    ]


def _read(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UsageError(f"'{path}' cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"'{path}' is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise UsageError(f"'{path}' is not a cluster's file: it holds no keys")
    return config


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every scalar with its place, as `auth.ssh_user`, `provider.worker_ips[0]`."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from leaves(inner, f"{place}[{i}]")
    else:
        yield place, value


def _unfilled(config: Mapping[str, Any]) -> Iterator[str]:
    for place, value in leaves(config):
        if isinstance(value, str) and UNFILLED in value:
            yield f"{place} is not filled in: it says {value}"


def _schema(config: Mapping[str, Any]) -> Iterator[str]:
    """Against the schema that Ray itself validates with."""
    spec = find_spec("ray")
    if spec is None or not spec.submodule_search_locations:
        yield "Ray is not installed here, so its schema was not looked at: pip install 'optgrid[cluster]'"
        return
    from jsonschema import Draft7Validator

    schema = Path(next(iter(spec.submodule_search_locations)), "autoscaler", "ray-schema.json")
    errors = Draft7Validator(json.loads(schema.read_text())).iter_errors(dict(config))
    old = [key for key in OLD_KEYS if key in config]
    for key in old:
        yield f"'{key}' is no key of Ray's any more: use {OLD_KEYS[key]}"
    for error in sorted(errors, key=lambda e: list(map(str, e.absolute_path))):
        place = ".".join(map(str, error.absolute_path)) or "the file"
        if error.validator == "additionalProperties" and any(f"'{key}'" in error.message for key in old):
            continue
        yield f"{place}: {error.message.splitlines()[0]}"


def _provider(config: Mapping[str, Any]) -> Iterator[str]:
    provider = config.get("provider")
    if not isinstance(provider, Mapping):
        return
    kind = provider.get("type")
    if kind == "local":
        if not provider.get("head_ip"):
            yield "provider.head_ip is missing: the host name or address of the head"
        workers = provider.get("worker_ips") or []
        if not workers:
            yield "provider.worker_ips is empty: name at least one worker"
        if provider.get("head_ip") in workers:
            yield "provider.head_ip is among worker_ips: starting the worker would stop the head"
        if "available_node_types" in config:
            yield "available_node_types: provider 'local' takes none; its nodes are head_ip and worker_ips"
    elif kind in ("aws", "gcp", "azure"):
        types = config.get("available_node_types") or {}
        if not types:
            yield "available_node_types is missing: a head and a type of worker"
        elif config.get("head_node_type") not in types:
            yield f"head_node_type '{config.get('head_node_type')}' is none of {', '.join(map(str, types))}"
    if not (config.get("auth") or {}).get("ssh_user"):
        yield "auth.ssh_user is missing: the account on the hosts"


def _commands(config: Mapping[str, Any], key: str) -> list[str]:
    return [c for c in config.get(key) or [] if isinstance(c, str) and "ray start" in c]


def _security(config: Mapping[str, Any]) -> Iterator[str]:
    docker = config.get("docker") or {}
    options = " ".join(str(o) for key in docker if key.endswith("run_options") for o in docker[key] or [])
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        commands = _commands(config, key)
        if not commands:
            yield f"{key} has no 'ray start': Ray's own default starts nodes without a token"
        for command in commands:
            if f"{tokens.MODE}=token" not in command and f"{tokens.MODE}=token" not in options:
                yield (
                    f"{key}: 'ray start' without {tokens.MODE}=token: whoever reaches the node can run "
                    "code on it (with docker, set it in docker.run_options)"
                )
            if _OPEN.search(command):
                yield (
                    f"{key}: --dashboard-host is open to the world: use 127.0.0.1 and reach it through "
                    "ssh -L 8265:127.0.0.1:8265"
                )
            if _CLIENT.search(command):
                yield (f"{key}: --ray-client-server-port opens a door that nothing here needs: leave it out")
    if _PUBLISHED.search(options):
        yield "docker.run_options publish a port to the world: leave that out; ssh -L reaches it"
    yield from _open_rules(config)
    secret = any("auth_token" in f"{k}{v}" for k, v in leaves(config.get("setup_commands") or []))
    mounts = " ".join(f"{k} {v}" for k, v in (config.get("file_mounts") or {}).items())
    if "auth_token" not in mounts and not secret and tokens.TOKEN_PATH not in options:
        yield "file_mounts: the token does not travel; add '~/.ray/auth_token': '~/.ray/auth_token'"
    if any(tokens.TOKEN + "=" in str(value) for _, value in leaves(config)):
        yield f"{tokens.TOKEN} is written into the file: keep the secret in a file of mode 600, and mount it"


def _open_rules(config: Mapping[str, Any]) -> Iterator[str]:
    """Rules of a cloud's firewall that let everybody in, by anything but ssh (AWS)."""
    group = (config.get("provider") or {}).get("security_group") or {}
    for i, rule in enumerate(group.get("IpPermissions") or []):
        ranges = [
            r.get("CidrIp") or r.get("CidrIpv6")
            for k in ("IpRanges", "Ipv6Ranges")
            for r in rule.get(k) or []
        ]
        only_ssh = rule.get("FromPort") == rule.get("ToPort") == SSH
        if not only_ssh and any(r in ANYWHERE for r in ranges):
            yield (
                f"provider.security_group.IpPermissions[{i}] opens ports to the world: allow the nodes' own "
                "group, and ssh from where you are"
            )


def _token_here(config: Mapping[str, Any]) -> Iterator[str]:
    """The token file that is to be mounted."""
    for target, local in (config.get("file_mounts") or {}).items():
        named = "auth_token" in str(target)
        inside = str(target).rstrip("/").endswith(".optgrid")
        if not named and not inside:
            continue
        path = Path(str(local)).expanduser()
        path = path / "auth_token" if inside and not named else path
        if not path.is_file():
            yield f"there is no token at {path}: make one with 'optgrid cluster token'"
        elif tokens.readable_by_others(path):
            yield f"the token {path} can be read by others: chmod 600 {path}"


def _versions(config: Mapping[str, Any]) -> Iterator[str]:
    """Python and Ray that the file names, against those here: both must be the same on all machines."""
    try:
        own_ray = version("ray")
    except PackageNotFoundError:
        own_ray = None
    own_python = platform.python_version_tuple()[1]
    for place, value in leaves(config):
        if not isinstance(value, str):
            continue
        pinned = [value] if place.endswith("rayVersion") else _RAY_PIN.findall(value)
        for ray in pinned:
            if own_ray and ray != own_ray:
                yield f"{place} has Ray {ray}, this machine {own_ray}: they must be the same"
        for pair in _PYTHON_PIN.findall(value):
            minor = pair[0] or pair[1]
            if minor != own_python:
                yield f"{place} has Python 3.{minor}, this machine 3.{own_python}: they must be the same"
