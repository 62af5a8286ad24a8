"""`optgrid cluster`: check a cluster's file, make its token, and what jobs on it need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..sentences import plural
from ._app import say
from ._output import print_json

ORDER = 80


def register(app: typer.Typer) -> None:
    """Add `optgrid cluster`."""
    group = typer.Typer(
        help="Check a Ray cluster's file, make its token.", no_args_is_help=True, rich_markup_mode=None
    )
    group.command("check")(check)
    group.command("token")(token)
    group.command("probe", hidden=True)(probe)
    group.command("export", hidden=True)(export)
    app.add_typer(group, name="cluster")


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="cluster.yaml, or a RayJob manifest.")],
    address: Annotated[
        str | None, typer.Option("--address", help="Dashboard of the cluster, once it is up: asks its nodes.")
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Ask a cluster without a token.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on standard output.")
    ] = False,
) -> None:
    """Say what is wrong with a cluster's file, a sentence per problem, before `ray up` is tried.

    With --address, a job also looks at each kind of node: versions, and whether TensorFlow sees its GPUs.
    Exit code 1 where something is wrong.
    """
    from ..cluster import check as checks

    found = checks.problems(file)
    if address is not None:
        from ..cluster import probe as nodes
        from ..cluster.submit import Remote

        found += nodes.problems(Remote(address, insecure), say, checks.worker_types(file))
    if as_json:
        print_json({"file": str(file), "problems": found})
    else:
        for sentence in found:
            print(f"- {sentence}")
        print(f"{file}: {plural(len(found), 'problem')}" if found else f"{file}: nothing is wrong")
    if found:
        raise typer.Exit(1)


def token() -> None:
    """Make the secret that a cluster asks for, readable by its owner only; prints where it is."""
    from ..tokens import ensure_token

    print(ensure_token())


def probe() -> None:
    """On a cluster: a line of JSON per kind of node."""
    from ..cluster import probe as nodes

    for line in nodes.report():
        print(f"{nodes.MARK}{json.dumps(line)}", flush=True)


def export(folder: Annotated[Path, typer.Argument(metavar="DIR", help="Results folder.")]) -> None:
    """On a head: a results folder as text, for `optgrid submit` to fetch."""
    from ..cluster import parcels

    print(parcels.pack(folder.expanduser()))
