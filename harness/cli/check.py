"""`optgrid check`: the contract suite on any optimizer or workload, a stranger's file included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..sentences import unknown
from ..types import UsageError
from ._output import print_json, print_table
from ._tensorflow import import_tensorflow

if TYPE_CHECKING:
    from ..types import Component

ORDER = 50
KINDS = ("optimizer", "workload")


def register(app: typer.Typer) -> None:
    """Add `optgrid check`."""
    app.command("check")(check)


def check(
    name: Annotated[str, typer.Argument(help="name, name(parameter=value), file.py:Class or module:Class.")],
    kind: Annotated[str | None, typer.Option("--kind", help="optimizer or workload, where in doubt.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on standard output.")
    ] = False,
) -> None:
    """Check an optimizer or a workload.

    Runs the whole contract suite on it, a stranger's file included; exit code 1 where a check fails.
    """
    family, components = parse(name, kind)
    import_tensorflow(f"checking {', '.join(c.label for c in components)}")
    results = {component.label: _suite(family, component) for component in components}
    passed = all(result.passed for suite in results.values() for result in suite)
    if as_json:
        print_json({"kind": family, "passed": passed, "results": {k: _plain(v) for k, v in results.items()}})
    else:
        for label, suite in results.items():
            rows = [["passed" if r.passed else "FAILED", r.name.replace("_", " "), r.detail] for r in suite]
            failed = sum(not r.passed for r in suite)
            print_table(
                f"{label}: {len(suite) - failed} passed, {failed} failed", ["", "check", "what"], rows
            )
    if not passed:
        raise typer.Exit(1)


def parse(name: str, kind: str | None) -> tuple[str, list[Component]]:
    """Whether an expression is of an optimizer or a workload, and its components."""
    from ..catalog import find_any
    from ..expressions import parse_optimizer, parse_workload

    if kind is None:
        entry = find_any(name.partition("(")[0].strip())
        kind = "workload" if entry.kind == "workload" else "optimizer"
    if kind not in KINDS:
        raise UsageError(unknown("kind", kind, KINDS))
    return kind, parse_workload(name) if kind == "workload" else parse_optimizer(name)


def _suite(family: str, component: Component) -> list[Any]:
    from .. import catalog

    if family == "optimizer":
        from ..checks.optimizer import check_optimizer

        return check_optimizer(catalog.build_optimizer(component))
    from ..checks.workload import check_workload

    return check_workload(catalog.build_workload(component))


def _plain(suite: list[Any]) -> list[dict[str, Any]]:
    return [{"name": r.name, "passed": r.passed, "detail": r.detail} for r in suite]
