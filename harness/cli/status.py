"""`optgrid status`: what is done, missing, diverged and failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..sentences import plural
from ._app import say
from ._output import cells, counts, print_frame, print_json, shown_path

if TYPE_CHECKING:
    from ..results import StatusReport

ORDER = 30
REASONS = 5  # distinct reasons of failure that are printed


def register(app: typer.Typer) -> None:
    """Add `optgrid status`."""
    app.command("status")(status)


def status(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Results folder.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on standard output.")
    ] = False,
) -> None:
    """Say what a results folder holds and lacks.

    Also while a run goes on, or after it was cut. Exit code 1 where a file in it cannot be read.
    """
    from ..results import Results

    found = Results(folder).status()
    if as_json:
        _json(found)
    else:
        _text(found)
    for problem in found.problems:
        say(f"problem: {problem}")
    if found.problems:
        raise typer.Exit(1)


def _json(found: StatusReport) -> None:
    print_json(
        {
            "path": found.path,
            "cells": found.total,
            "done": found.done,
            "missing": found.missing,
            "status": found.counts,
            "table": found.table,
            "failures": found.failures,
            "problems": found.problems,
        }
    )


def _text(found: StatusReport) -> None:
    share = found.done / found.total if found.total else 1.0
    print_frame(shown_path(found.path), found.table)
    print(f"{found.done:,} of {cells(found.total)} done ({share:.0%}), {found.missing:,} missing")
    if found.done:
        print(counts(found.counts))
    for reason, number in list(found.failures.items())[:REASONS]:
        print(f"failed {plural(number, 'time')}: {reason}")
    if len(found.failures) > REASONS:
        print(f"and {plural(len(found.failures) - REASONS, 'other reason')} of failure")
