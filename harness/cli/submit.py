"""`optgrid submit`: send a study to a cluster from outside, follow it, fetch its results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..sentences import plural
from ._app import fail, say
from ._cluster import Insecure, Patience, PerGpu, TileLimit, flags_of
from ._output import print_json, shown_path
from .run import (
    AsJson,
    Dtype,
    NoReport,
    Optimizers,
    Rates,
    Seeds,
    Steps,
    Stop,
    Strategy,
    Study,
    Target,
    Workers,
    Workloads,
    chosen_study,
)

ORDER = 70


def register(app: typer.Typer) -> None:
    """Add `optgrid submit`."""
    app.command("submit")(submit)


def submit(
    address: Annotated[
        str, typer.Option("--address", help="The cluster's dashboard, as http://127.0.0.1:8265.")
    ],
    study: Study = None,
    workload: Workloads = None,
    optimizer: Optimizers = None,
    lr: Rates = None,
    seeds: Seeds = None,
    steps: Steps = None,
    target: Target = None,
    stop: Stop = None,
    dtype: Dtype = None,
    strategy: Strategy = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the study.")] = None,
    out: Annotated[
        str | None,
        typer.Option("--out", help="Leave results there: an address that all nodes share (s3://, gs://)."),
    ] = None,
    workers: Workers = None,
    workers_per_gpu: PerGpu = None,
    patience: Patience = None,
    tile_limit: TileLimit = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over: rows of this name are deleted.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Print the job's id and leave; the same command follows it.")
    ] = False,
    insecure: Insecure = False,
    as_json: AsJson = False,
    no_report: NoReport = False,
) -> None:
    """Send a study to a Ray cluster, follow it, and fetch its results.

    Results come to results/<name> here, unless --out names an address that all nodes share: then they
    stay there. Given again, the command follows the job that runs, or goes on where an ended one stopped.
    """
    given = {
        "name": name,
        "workloads": workload,
        "optimizers": optimizer,
        "learning_rates": lr,
        "seeds": seeds,
        "steps": steps,
        "target": target,
        "stop": stop,
        "dtype": dtype,
        "strategy": strategy,
    }
    spec = chosen_study(study, {key: value for key, value in given.items() if value is not None})
    flags = ["--fresh"] if fresh else []
    flags += ["--workers", str(workers)] if workers else []
    flags += flags_of(insecure=insecure, per_gpu=workers_per_gpu, patience=patience, tile_limit=tile_limit)
    from ..cluster import submit as jobs

    client, job, folder = jobs.submit(spec, jobs.Remote(address, insecure), out=out, flags=flags, say=say)
    found: dict[str, Any] = {"job": job, "status": "RUNNING", "path": folder, "report": None}
    if detach:
        say(f"job {job} is on its way; the same command without --detach follows it")
        print_json(found) if as_json else print(job)
        return
    say(f"job {job} (Ctrl-C leaves it running)")
    try:
        found["status"] = jobs.follow(client, job, _show)
    except KeyboardInterrupt:
        fail(f"\njob {job} goes on: the same command follows it again", 130, prefix="")
    cut = f"job {job} ended as {found['status']}; the same command goes on where it stopped"
    if found["status"] == "STOPPED":
        fail(cut, 1)
    if out is None:  # after a failed job too: cells that fail make it one, and have their rows
        here = Path(spec.folder)
        files = jobs.fetch(client, job, folder, here)
        found["path"] = str(here)
        say(f"{files} files in {shown_path(here)}")
    failed = 0 if found["status"] == "SUCCEEDED" else _failed(found["path"], cut)
    if not no_report:
        from ..results import Results

        found["report"] = str(Results(found["path"]).report())
    if as_json:
        print_json(found)
    else:
        print(f"results: {shown_path(found['path'])}")
        if found["report"]:
            print(f"report: {shown_path(found['report'])}")
    if failed:
        fail(f"{plural(failed, 'cell')} failed (all reasons: optgrid status {shown_path(found['path'])})", 1)


def _failed(folder: str, cut: str) -> int:
    """How many cells failed, of a job that ended as failed; it ends here where that is not why."""
    from ..results import Results

    done = Results(folder).status()
    if done.missing or not done.counts["failed"]:
        fail(cut, 1)
    return done.counts["failed"]


def _show(text: str) -> None:
    """What the job prints is not this command's result."""
    sys.stderr.write(text)
    sys.stderr.flush()
