"""The flags of a cluster, shared by `optgrid run` and `optgrid submit`."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from ..executors.ray_options import ClusterOptions
from ..types import UsageError

Address = Annotated[
    str | None, typer.Option("--address", help="Ray cluster to run on: auto, HOST:PORT, or local processes.")
]
Gather = Annotated[
    bool, typer.Option("--gather", help="Bring rows back to this process: no storage need be shared.")
]
Insecure = Annotated[bool, typer.Option("--insecure", help="Use a cluster that asks for no token.")]
PerGpu = Annotated[
    int | None, typer.Option("--workers-per-gpu", help="Workers that share a GPU of a cluster; 1 by default.")
]
Patience = Annotated[
    float | None,
    typer.Option(
        "--patience", help="Minutes that a run on a cluster may be without any worker; 10 by default."
    ),
]
TileLimit = Annotated[
    float | None,
    typer.Option("--tile-limit", help="Seconds that a tile may take; ten times what is expected by default."),
]


def options(
    address: str | None,
    *,
    gather: bool,
    insecure: bool,
    per_gpu: int | None,
    patience: float | None,
    tile_limit: float | None,
) -> ClusterOptions | None:
    """The cluster that the flags ask for; None: this process.

    Raises:
        UsageError: a flag of a cluster without one, or a value that cannot be.
    """
    if address is None:
        flags = flags_of(
            gather=gather, insecure=insecure, per_gpu=per_gpu, patience=patience, tile_limit=tile_limit
        )
        if flags:
            raise UsageError(f"{flags[0]} is for a Ray cluster: say which with --address")
        return None
    seconds = {} if patience is None else {"patience_seconds": 60 * patience}
    return ClusterOptions(
        address,
        gather=gather,
        insecure=insecure,
        per_gpu=1 if per_gpu is None else per_gpu,
        tile_seconds=tile_limit,
        **seconds,
    )


def flags_of(
    *,
    gather: bool = False,
    insecure: bool = False,
    per_gpu: int | None = None,
    patience: float | None = None,
    tile_limit: float | None = None,
) -> list[str]:
    """The flags again, as words of a command."""
    words = ["--gather"] if gather else []
    words += ["--insecure"] if insecure else []
    values = {"--workers-per-gpu": per_gpu, "--patience": patience, "--tile-limit": tile_limit}
    for flag, value in values.items():
        words += [] if value is None else [flag, shlex.quote(f"{value:g}")]
    return words
