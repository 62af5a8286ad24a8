"""`optgrid report`: the report of a results folder, from its rows alone."""

from __future__ import annotations

from typing import Annotated

import typer

from ._app import say
from ._output import print_json, shown_path

ORDER = 20


def register(app: typer.Typer) -> None:
    """Add `optgrid report`."""
    app.command("report")(report)


def report(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Results folder.")],
    out: Annotated[str | None, typer.Option("--out", help="Where to; DIR/report by default.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on standard output.")
    ] = False,
) -> None:
    """Write the report of a results folder.

    From its rows alone; also while a run goes on, or after it was cut.
    """
    from ..study import Results

    results = Results(folder)
    for problem in results.problems():
        say(f"warning: {problem}")
    page = results.report(out)
    if as_json:
        print_json({"path": folder, "report": str(page)})
    else:
        print(f"report: {shown_path(page)}")
