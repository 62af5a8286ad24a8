"""Connecting to a cluster: with a token, quietly, and only for as long as it is needed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from harness import tokens
from harness.executors.ray_options import ClusterOptions
from harness.types import RunError, UsageError

# Any cheap method of the head's own service: what matters is whether it is refused.
_PROBE = "/ray.rpc.NodeInfoGcsService/CheckAlive"


@contextmanager
def connected(
    options: ClusterOptions, workers: int | None, event: Callable[..., None] = lambda *name, **fields: None
) -> Iterator[None]:
    """Within the block, this process is a driver of the cluster. A connection that is there is used.

    Args:
        workers: processes of the cluster that `local` makes; None: one per core.
        event: takes what Ray would have printed, `event("ray", lines=[…])`.
    Raises:
        UsageError: there is no token, or the cluster asks for none.
        RunError: the cluster cannot be reached.
    """
    local = options.address == "local"
    tokens.require(options.insecure, make=local)
    import ray

    mine = not ray.is_initialized()
    if mine:
        with _kept_signals():
            _connect(ray, options, workers)
        _hush(event)
    try:
        if not options.insecure and asks_for_no_token(ray.get_runtime_context().gcs_address):
            raise UsageError(
                "the cluster asks for no token: whoever reaches it can run code on it; start it with "
                "RAY_AUTH_MODE=token (see 'optgrid cluster token'), or say --insecure"
            )
        yield
    finally:
        # A submitted job's folder goes when its driver leaves the cluster: there, it leaves at its exit.
        if mine and "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
            ray.shutdown()


def _connect(ray: Any, options: ClusterOptions, workers: int | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _read_mode_again()
    try:
        if options.address == "local":
            ray.init(
                num_cpus=workers,
                include_dashboard=False,
                object_store_memory=256 * 2**20,
                **quiet,
            )
        else:
            ray.init(address=options.address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        where = "this machine" if options.address == "local" else options.address
        raise RunError(
            f"no Ray cluster could be reached at {where}: {reason} (a token that differs from the "
            "head's looks the same)"
        ) from error


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


def asks_for_no_token(address: str, timeout: float = 5.0) -> bool:
    """Whether a head answers a caller without a token."""
    import grpc

    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(_PROBE, request_serializer=bytes, response_deserializer=bytes)
        try:
            call(b"", timeout=timeout)
        except grpc.RpcError as error:
            refused = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
            return error.code() not in refused  # pyright: ignore[reportAttributeAccessIssue]
    return True
