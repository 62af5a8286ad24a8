"""`optgrid schema`: the JSON schema of study files, for editors."""

from __future__ import annotations

import typer

from ._output import print_json

ORDER = 60


def register(app: typer.Typer) -> None:
    """Add `optgrid schema`."""
    app.command("schema")(schema)


def schema() -> None:
    """Print the JSON schema of study files.

    An editor that is given it checks and completes study files while they are written.
    """
    from ..spec import study_schema

    print_json(study_schema())
