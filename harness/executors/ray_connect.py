"""Connecting to a cluster: with a token, quietly, and only for as long as it is needed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import tokens
from harness.executors.ray_options import ClusterOptions, require_ray
from harness.types import RunError, UsageError

# Any cheap method of the head's own service: what matters is whether it is refused.
_PROBE = "/ray.rpc.NodeInfoGcsService/CheckAlive"
_NO_START = "Ray could not start on this machine"
_FROM_OUTSIDE = (
    "the cluster answers, and this machine cannot drive it (only its nodes can: from outside, send the "
    "study with 'optgrid submit')"
)


@contextmanager
def connected(
    options: ClusterOptions, workers: int | None, event: Callable[..., None] = lambda *name, **fields: None
) -> Iterator[None]:
    """Within the block, this process is a driver of the cluster. A connection that is there is used.

    Args:
        workers: processes of the cluster that `local` makes; None: one per core.
        event: takes what Ray would have printed, `event("ray", lines=[…])`.
    Raises:
        UsageError: Ray is not installed, there is no token, or the cluster asks for none.
        RunError: the cluster cannot be reached.
    """
    require_ray()
    local = options.address == "local"
    tokens.require(options.insecure, make=local)
    import ray

    mine = not ray.is_initialized()
    if mine:
        address = "local" if local else _found(options.address)
        if not local:
            greet(address, options.insecure)  # Ray itself would try for minutes, and not say why
        with _kept_signals():
            _connect(ray, address, workers)
        _hush(event)
    try:
        greet(ray.get_runtime_context().gcs_address, options.insecure)
        yield
    finally:
        # A submitted job's folder goes when its driver leaves the cluster: there, it leaves at its exit.
        if mine and "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
            ray.shutdown()


def _found(address: str) -> str:
    """`host:port` of the head; `auto` is looked up on this machine, or in RAY_ADDRESS."""
    if address != "auto":
        return address
    from ray._private.services import canonicalize_bootstrap_address

    try:
        found = canonicalize_bootstrap_address(address)
    except (ConnectionError, ValueError) as error:
        raise RunError(
            "this machine is no node of a Ray cluster that runs: from outside, send the study with "
            "'optgrid submit'; for processes on this machine, give --address local"
        ) from error
    return str(found)


def _connect(ray: Any, address: str, workers: int | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _read_mode_again()
    try:
        if address == "local":
            ray.init(
                address="local",  # left out, it would join whatever cluster was started here last
                num_cpus=workers,
                include_dashboard=False,
                object_store_memory=256 * 2**20,
                **quiet,
            )
        else:
            ray.init(address=address, **quiet)
    except Exception as error:  # whatever Ray raises here, it is the cluster that cannot be used
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        problem = _NO_START if address == "local" else _FROM_OUTSIDE
        raise RunError(f"{problem}: {reason}") from error


def _hush(event: Callable[..., None]) -> None:
    """What Ray's nodes report goes to the journal; Ray prints it on standard output, past every setting."""
    from ray._private import worker

    def take(data: Mapping[str, Any], ignore_prefix: bool = False) -> None:
        event("ray", lines=[str(line)[:500] for line in data.get("lines", ())])

    worker.print_to_stdstream = take


def _read_mode_again() -> None:
    """Where Ray was imported before the mode was set, it remembers the mode of that time."""
    from ray._raylet import Config  # pyright: ignore[reportAttributeAccessIssue]

    Config.initialize("")


@contextmanager
def _kept_signals() -> Iterator[None]:
    """`ray.init` takes SIGTERM for itself; the command line's own handler ends a run in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def greet(address: str, insecure: bool, timeout: float = 10.0) -> None:
    """Asks a head, with a token and without, before anything is trusted to it.

    Args:
        address: `host:port` of the head.
        insecure: one that asks for no token is used.
    Raises:
        UsageError: it asks for no token, or for another one.
        RunError: nobody answers.
    """
    if _answers(address, None, timeout):
        if not insecure:
            raise UsageError(
                "the cluster asks for no token: whoever reaches it can run code on it; start it with "
                "RAY_AUTH_MODE=token (see 'optgrid cluster token'), or say --insecure"
            )
        return
    token = tokens.find_token()
    if token is None or not _answers(address, token, timeout):
        raise UsageError(
            f"the head at {address} asks for another token than the one here: copy its "
            f"~/.ray/auth_token to {tokens.token_path()} (mode 600)"
        )


def _answers(address: str, token: str | None, timeout: float) -> bool:
    """Whether a head lets a caller in; RunError where there is none."""
    import grpc

    header = (("authorization", f"Bearer {token}"),) if token else ()
    refusals = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
    absences = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    with _channel(address) as channel:
        call = channel.unary_unary(_PROBE, request_serializer=bytes, response_deserializer=bytes)
        try:
            call(b"", timeout=timeout, metadata=header)
        except grpc.RpcError as error:
            code = error.code()  # pyright: ignore[reportAttributeAccessIssue]
            if code in absences:
                raise RunError(
                    f"nobody answers at {address}: is the head up, is this its port (6379 by default), and "
                    "does a firewall let this machine through? From outside, use 'optgrid submit'"
                ) from error
            return code not in refusals
    return True


def _channel(address: str) -> Any:
    """A connection as Ray makes it: with certificates where its own variables name them."""
    import grpc

    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        return grpc.insecure_channel(address)
    names = ("RAY_TLS_CA_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_SERVER_CERT")
    authority, key, certificate = (Path(os.environ[name]).read_bytes() for name in names)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority, key, certificate))
