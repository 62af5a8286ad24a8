"""The application: what all commands share, and how every error ends."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from ..types import Interrupted, OptgridError

ARGUMENTS = "optgrid.arguments"
INTERRUPTED = 130


class Commands(TyperGroup):
    """Ends every error with a sentence on standard error and its exit code."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        given = list(args)  # parsing empties it
        context = super().make_context(info_name, args, parent, **extra)
        context.meta[ARGUMENTS] = given
        return context

    def invoke(self, ctx: Any) -> Any:
        with sentences(debug=bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


@contextmanager
def sentences(debug: bool) -> Iterator[None]:
    """Turns what a command raises into a sentence and an exit code."""
    try:
        yield
    except Interrupted as error:
        fail(str(error) or "interrupted", Interrupted.exit_code, debug, "")
    except OptgridError as error:
        fail(str(error), error.exit_code, debug)
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED, debug, "")
    except BrokenPipeError:
        raise  # the reader of our output went away: the application ends quietly
    except OSError as error:
        name = f" '{error.filename}'" if error.filename else ""
        full = ": free some space, what is committed is kept" if error.errno == errno.ENOSPC else ""
        fail(f"{error.strerror or error}{name}{full}", 1, debug)
    except Exception as error:
        if isinstance(error, typer.Exit | typer.Abort) or hasattr(error, "format_message"):
            raise  # the application's own: an exit code, or a mistake in the flags
        kind = type(error).__name__
        hint = "this is a defect of OptGrid: report it with what 'optgrid --debug …' prints"
        fail(f"unexpected {kind}: {error} ({hint})", 1, debug)


def fail(sentence: str, code: int, debug: bool = False, prefix: str = "error: ") -> NoReturn:
    """Say what went wrong and leave with `code`; with `debug`, where it happened too."""
    if debug:
        traceback.print_exc()
    say(f"{prefix}{sentence}")
    raise typer.Exit(code)


def say(text: str = "") -> None:
    """A line on standard error: whatever is not a command's result."""
    print(text, file=sys.stderr, flush=True)


def new_app() -> typer.Typer:
    """The application without commands."""
    app = typer.Typer(
        name="optgrid",
        cls=Commands,
        help="Race optimizers over learning rates, seeds and workloads, and read the answer.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    return app


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"optgrid {version('optgrid')}")
        except PackageNotFoundError:
            print("optgrid (not installed)")
        raise typer.Exit


def _options(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="OPTGRID_DEBUG", help="Show the traceback of an error.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options that every command takes, before its name."""
