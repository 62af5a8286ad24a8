"""How a study runs on a Ray cluster: where it is, what a worker asks for, how long anybody waits.

Nothing here imports Ray, so that the command line can make these options and show them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from harness.types import UsageError


@dataclass(frozen=True)
class ClusterOptions:
    """What the Ray executor needs to know beside the study.

    Args:
        address: `auto` (the cluster that this process runs in), `host:port` of a head, or `local` (a
            cluster of worker processes on this machine, for as long as the run lasts).
        gather: rows come back to the driver, which commits them; for clusters without shared storage.
        insecure: use a cluster that asks for no token.
        per_gpu: workers that share a GPU.
        gpus: GPUs that a worker asks for; None: 1/per_gpu where the cluster has GPUs, else 0.
        patience_seconds: how long a run may be without any worker before it gives up.
        tile_seconds: how long a tile may take; None: ten times what is expected, five minutes at least.
        call_seconds: calls are bundled to take about this long at most.
    """

    address: str
    gather: bool = False
    insecure: bool = False
    per_gpu: int = 1
    gpus: float | None = None
    patience_seconds: float = 600.0
    tile_seconds: float | None = None
    call_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.address.startswith(("http://", "https://")):
            raise UsageError(
                f"{self.address} is a dashboard's address, from where jobs are submitted: "
                "use 'optgrid submit', or give --address auto or HOST:PORT of the head"
            )
        if self.address not in ("auto", "local") and not _is_host_and_port(self.address):
            raise UsageError(f"--address {self.address}: write auto, local, or HOST:PORT of the head")
        if self.per_gpu < 1:
            raise UsageError("workers per GPU: at least one")
        if self.patience_seconds <= 0:
            raise UsageError("the patience without workers: more than nothing")
        if self.tile_seconds is not None and self.tile_seconds <= 0:
            raise UsageError("the time limit of a tile: more than nothing")


def require_ray() -> None:
    """Raises UsageError where Ray is not installed: it is an extra."""
    if find_spec("ray") is None:
        raise UsageError(
            "Ray is not installed here, and a cluster needs it: pip install 'optgrid[cluster]' (from a "
            "checkout: pip install '.[cluster]')"
        )


def _is_host_and_port(address: str) -> bool:
    host, _, port = address.rpartition(":")
    return bool(host) and port.isdigit()
