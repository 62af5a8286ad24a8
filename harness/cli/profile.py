"""`optgrid profile`: what one update costs, and how far that is from the hardware's limit."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..sentences import plural, unknown
from ..types import Component, UsageError
from ._app import ARGUMENTS, say
from ._kernels import compare_profiles, print_rows
from ._output import duration, print_json, shown_path
from ._signals import interruptible

if TYPE_CHECKING:
    from ..kernels.run import Plan
    from ..kernels.shapes import Layout

ORDER = 60
SIZES = "1e3,1e4,1e5,1e6,1e7,1e8"
QUICK_SIZES = "1e4,1e6"
SPLIT_AT = 1_000_000  # parameters; where neither sizes nor tensors are given, this size is split as well
SPLIT_INTO = 32  # a divisor: equal totals are what cost over tensors is compared at
PATIENCE = 3e7  # parameters; beyond, only what is compiled, unless --implementations says otherwise
DTYPES = ("float16", "bfloat16", "float32", "float64")

Optimizers = Annotated[
    list[str] | None,
    typer.Argument(help="name, name(beta_1=0.8), file.py:Class or module:Class; all by default."),
]
Sizes = Annotated[str | None, typer.Option("--sizes", help=f"Parameters in all; {SIZES} by default.")]
Tensors = Annotated[
    str | None, typer.Option("--tensors", help="Tensors that they are spread over, as 1,100.")
]
Dtypes = Annotated[str, typer.Option("--dtypes", help="float32, float64, bfloat16, float16.")]
Shapes = Annotated[
    str | None,
    typer.Option(
        "--shapes",
        help="uniform, network (few large, many small), a file of shapes, or a Keras model as resnet50.",
    ),
]
DeviceName = Annotated[
    str | None, typer.Option("--device", help="CPU:0, GPU:0, …; a GPU where there is one.")
]
Only = Annotated[
    str | None, typer.Option("--implementations", help="Which to measure, as xla_in_place,keras_jit.")
]
Workload = Annotated[
    list[str] | None, typer.Option("--workload", help="Split its training step; repeatable.")
]
Windows = Annotated[int | None, typer.Option("--windows", min=5, help="Windows measured per row, at most.")]
Quick = Annotated[bool, typer.Option("--quick", help="Fewer sizes and windows: under a minute or two.")]
Trace = Annotated[bool, typer.Option("--trace", help="Write a trace as well, for TensorBoard and Perfetto.")]
Out = Annotated[str, typer.Option("--out", help="Folder for rows and report; a study's own will do.")]
Compare = Annotated[
    tuple[str, str] | None,
    typer.Option(
        "--compare", metavar="OLD NEW", help="Compare two profiles; exit code 3 where one got slower."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be measured, and measure nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


def register(app: typer.Typer) -> None:
    """Add `optgrid profile`."""
    app.command("profile")(profile)


def profile(
    context: typer.Context,
    optimizers: Optimizers = None,
    sizes: Sizes = None,
    tensors: Tensors = None,
    dtypes: Dtypes = "float32",
    shapes: Shapes = None,
    device: DeviceName = None,
    implementations: Only = None,
    workload: Workload = None,
    windows: Windows = None,
    quick: Quick = False,
    trace: Trace = False,
    out: Out = "profile",
    compare: Compare = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Measure what one update costs.

    Every implementation of each optimizer, side by side, against this device's own copy bandwidth. Rows go to
    OUT/kernels, a page to OUT/report.
    """
    if compare is not None:
        compare_profiles(*compare, as_json)
        return
    chosen = _components(optimizers)
    kinds = _chosen("dtype", dtypes, DTYPES)
    names = _implementations(implementations, quick)
    layouts = _layouts(sizes, tensors, shapes, quick)
    with _quiet_import():
        from ..kernels.device import find, fuse_outputs

        target = find(device)
        fuse_outputs()  # before anything is compiled
    from ..kernels.measure import Pace
    from ..kernels.run import Plan
    from ..kernels.shapes import of_model

    if not layouts:
        layouts = [of_model(str(shapes))]
    pace = Pace(windows=windows or (9 if quick else Pace.windows), row_seconds=0.4 if quick else 1.5)
    patience = PATIENCE if implementations is None else float("inf")
    plan = Plan(tuple(chosen), tuple(layouts), tuple(kinds), tuple(names), pace, patience)
    say(_announcement(plan, target.name, target.model, target.threads))
    if dry_run:
        return
    given = context.meta.get(ARGUMENTS, sys.argv[1:])
    _measure(plan, target, workload or [], Path(out), trace, as_json, list(given))


def _measure(
    plan: Plan,
    target: Any,
    workloads: list[str],
    out: Path,
    trace: bool,
    as_json: bool,
    arguments: list[str],
) -> None:
    from ..kernels import store, tracing
    from ..kernels.run import environment
    from ..kernels.run import profile as rows_of
    from ..kernels.schema import frame, plain

    begun = time.perf_counter()
    writer = store.Writer(out, environment(target, plan, arguments))
    rows, steps = [], []
    with interruptible(), tracing.trace(out / "trace" if trace else None):
        for row in rows_of(plan, target, say):
            rows.append(row)
            writer.add(row)
        steps = _steps(plan, target, workloads)
    writer.finish(steps)
    kernels = frame(rows)
    page = draw(out)
    if as_json:
        print_json(
            {
                "path": str(out),
                "report": str(page),
                "seconds": time.perf_counter() - begun,
                "kernels": [plain(row) for row in rows],
                "steps": [plain(row) for row in steps],
            }
        )
    else:
        print_rows(kernels, steps)
        print(f"rows: {shown_path(out / 'kernels')}\nreport: {shown_path(page)}")
        if trace:
            print(f"trace: {shown_path(out / 'trace')} (tensorboard --logdir, or ui.perfetto.dev)")
        say(f"took {duration(time.perf_counter() - begun)}")
    if rows and not any(row.status == "measured" for row in rows):
        raise typer.Exit(1)


def draw(folder: Path) -> Path:
    """Draw the page of a profile, or the report of the study whose folder this is; returns its path."""
    from ..kernels import store
    from ..records import Store
    from ..report.kernels import render
    from ..results import Results

    if (folder / "study.json").is_file():
        return Results(folder).report()
    environment = json.loads((folder / "kernels.json").read_text(encoding="utf-8"))
    steps = Store(str(folder)).read("steps")[0].to_pandas()
    return render(store.read(str(folder)), steps, environment, folder / "report")


def _steps(plan: Plan, target: Any, workloads: list[str]) -> list[Any]:
    from ..expressions import parse_workload
    from ..kernels.measure import describe
    from ..kernels.steps import profile_step, sentence

    out = []
    for workload in [w for text in workloads for w in parse_workload(text)]:
        for optimizer in plan.optimizers:
            try:
                found = list(profile_step(workload, optimizer, target, plan.pace))
            except Exception as error:
                say(f"{optimizer.label} on {workload.label} was left out: {describe(error)}")
                continue
            say(sentence(found))
            out += found
    return out


def _components(given: list[str] | None) -> list[Component]:
    from ..catalog import entries
    from ..expressions import parse_optimizer

    wanted = given or list(entries("optimizer"))
    return [component for text in wanted for component in parse_optimizer(text)]


def _chosen(what: str, text: str, known: tuple[str, ...]) -> list[str]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        if name not in known:
            raise UsageError(unknown(what, name, known))
    if not names:
        raise UsageError(f"no {what} given: known are {', '.join(known)}")
    return list(dict.fromkeys(names))


def _implementations(text: str | None, quick: bool) -> list[str]:
    from ..kernels.schema import IMPLEMENTATIONS

    if text is not None:
        return _chosen("implementation", text, IMPLEMENTATIONS)
    slow = ("eager", "function", "keras") if quick else ()
    return [name for name in IMPLEMENTATIONS if name not in slow]


def _layouts(sizes: str | None, tensors: str | None, shapes: str | None, quick: bool) -> list[Layout]:
    """Layouts of the options; none where they are those of a Keras model, which needs TensorFlow first."""
    from ..kernels.shapes import from_file, network, uniform

    if shapes not in (None, "uniform", "network"):
        if sizes or tensors:
            raise UsageError(f"--shapes {shapes} says the sizes itself: leave --sizes and --tensors out")
        path = Path(str(shapes))
        if path.suffix in (".json", ".yaml", ".yml") or path.is_file():
            return [from_file(path)]
        return []
    make = network if shapes == "network" else uniform
    counts = _numbers("--tensors", tensors or ("100" if shapes == "network" else "1"))
    wanted = _numbers("--sizes", sizes or (QUICK_SIZES if quick else SIZES))
    pairs = [(size, count) for size in wanted for count in counts if count <= size]
    if not pairs:
        raise UsageError("more --tensors than parameters: every tensor needs one at least")
    if sizes is None and tensors is None and shapes is None and not quick:
        pairs.append((SPLIT_AT, SPLIT_INTO))
    return [make(size, count) for size, count in pairs]


def _numbers(option: str, text: str) -> list[int]:
    found = []
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            raise UsageError(f"{option}: '{part.strip()}' is no number; write 1e4,1e6 or 1000") from None
        if not (1 <= value <= 1e12) or value != int(value):
            raise UsageError(f"{option}: {part.strip()} is not a whole number from 1 to 1e12")
        found.append(int(value))
    return list(dict.fromkeys(found))


class _quiet_import:  # noqa: N801 - a context manager
    """TensorFlow's start-up chatter goes nowhere unless its import fails."""

    def __enter__(self) -> None:
        import os

        say("importing TensorFlow")
        self.chatter = tempfile.TemporaryFile()
        self.kept = os.dup(2)
        os.dup2(self.chatter.fileno(), 2)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        import os
        import shutil

        os.dup2(self.kept, 2)
        os.close(self.kept)
        if kind is not None and not issubclass(kind, UsageError):
            self.chatter.seek(0)
            shutil.copyfileobj(self.chatter, sys.stderr.buffer)
        self.chatter.close()


def _announcement(plan: Plan, device: str, model: str, threads: int) -> str:
    of = f" with {plural(threads, 'thread')}" if device.startswith("CPU") else ""
    return (
        f"{plural(len(plan.optimizers), 'optimizer')}, {plural(len(plan.layouts), 'layout')}, "
        f"{', '.join(plan.dtypes)}, {plural(len(plan.implementations), 'implementation')} "
        f"on {device} ({model}){of}: about {duration(plan.estimate())}"
    )
