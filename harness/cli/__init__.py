"""The command line: `optgrid`.

This folder is the catalogue of commands. A file with `register(app)` adds one (or a group of them, by
`app.add_typer`); `ORDER` says where it stands in the help; files that begin with `_` add none.
Nothing here imports TensorFlow, Ray or pandas before a command needs it.
"""

from __future__ import annotations

import importlib
import io
import pkgutil
import sys
from collections.abc import Sequence

import typer

from ._app import new_app

__all__ = ["build", "main"]


def build() -> typer.Typer:
    """The application with every command of this folder."""
    app = new_app()
    names = [m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    for module in sorted(modules, key=lambda m: getattr(m, "ORDER", 100)):
        module.register(app)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `optgrid`; ends the process with its exit code.

    Args:
        arguments: without the program's name; the process's own by default.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without θ or × shows ? and goes on
    build()(args=None if arguments is None else list(arguments), prog_name="optgrid")
