"""`optgrid run`: race a study, then report and recommend."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from ..sentences import plural
from ..types import Interrupted
from ._app import ARGUMENTS, INTERRUPTED, fail, say
from ._cluster import Address, Gather, Insecure, Patience, PerGpu, TileLimit, options
from ._output import cells, counts, duration, print_json, print_table, shown_path, size
from ._progress import view
from ._recommend import print_recommendations
from ._signals import interruptible
from ._tensorflow import import_tensorflow

if TYPE_CHECKING:
    from ..executors.ray_options import ClusterOptions
    from ..spec import StudySpec

ORDER = 10
DEFAULT_STUDY = "article"
NOT_OF_THE_GRID = {"name", "description", "out", "workers", "profile"}  # who makes the rows and where they go

Study = Annotated[
    str | None,
    typer.Argument(metavar="STUDY", help="File, or a built-in study's name; article by default."),
]
Workloads = Annotated[
    list[str] | None,
    typer.Option(
        "--workload", help="name, name(parameter=value), file.py:Class or module:Class; repeatable."
    ),
]
Optimizers = Annotated[
    list[str] | None,
    typer.Option("--optimizer", help="name, name(momentum=0.5), file.py:Class or module:Class; repeatable."),
]
Rates = Annotated[
    str | None,
    typer.Option("--lr", help="Learning rates: low:high:points as 1e-4:1e0:9, or a list with commas."),
]
Seeds = Annotated[str | None, typer.Option("--seeds", help="How many seeds, or a list as 0,1,2.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Budget of every run, in steps.")]
Target = Annotated[float | None, typer.Option("--target", help="Target of every workload; lower is better.")]
Stop = Annotated[str | None, typer.Option("--stop", help="budget: run it all; target: stop when reached.")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="float32, float64 or bfloat16.")]
Strategy = Annotated[
    str | None, typer.Option("--strategy", help="tf.distribute strategy: default, one_device, mirrored, …")
]
Name = Annotated[str | None, typer.Option("--name", help="Name of the study.")]
Out = Annotated[str | None, typer.Option("--out", help="Results folder; results/<name> by default.")]
Workers = Annotated[int | None, typer.Option("--workers", help="Workers; one per core or GPU by default.")]
Resume = Annotated[
    bool, typer.Option("--resume/--fresh", help="Keep the rows that are there, or start over.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would run, and run nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
NoReport = Annotated[bool, typer.Option("--no-report", help="Leave the report out.")]


def register(app: typer.Typer) -> None:
    """Add `optgrid run`."""
    app.command("run")(run)


def run(
    context: typer.Context,
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
    name: Name = None,
    out: Out = None,
    workers: Workers = None,
    address: Address = None,
    gather: Gather = False,
    insecure: Insecure = False,
    workers_per_gpu: PerGpu = None,
    patience: Patience = None,
    tile_limit: TileLimit = None,
    resume: Resume = True,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    no_report: NoReport = False,
) -> None:
    """Race optimizers, then report and recommend.

    Flags replace the study's fields. Without STUDY, --workload and --optimizer make a study of their own;
    what neither names is taken from the built-in study article, which is also what runs when nothing is
    given. A run that was cut goes on where it stopped when the same command is given again. Where a cell
    fails, the others go on, and the exit code is 1.
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
        "out": out,
        "workers": workers,
    }
    spec = chosen_study(study, {key: value for key, value in given.items() if value is not None})
    cluster = options(
        address,
        gather=gather,
        insecure=insecure,
        per_gpu=workers_per_gpu,
        patience=patience,
        tile_limit=tile_limit,
    )
    if dry_run:
        _plan(spec, as_json)
        return
    command = resume_command(context.meta.get(ARGUMENTS, ["run"]))
    with interruptible():
        try:
            _race(spec, cluster, fresh=not resume, report=not no_report, as_json=as_json)
        except Interrupted as interruption:
            _interrupted(str(interruption), command)
        except KeyboardInterrupt:
            _interrupted("interrupted: every row that was committed is kept", command)


def chosen_study(study: str | None, flags: dict[str, Any]) -> StudySpec:
    """The study that an argument and flags ask for.

    A study whose grid the flags change gets a name of its own, made from what is different, so that the
    same command finds its rows again and another study's folder is left alone.
    """
    from ..spec import load_study, study_of_flags

    if study is None and "workloads" in flags and "optimizers" in flags:
        spec = study_of_flags(flags)
        words = [component.name for component in (*spec.workloads, *spec.optimizers)]
        base = re.sub(r"[^\w.+]+", "-", "-".join(words)).strip("-.")[:60]
    else:
        spec = load_study(study or DEFAULT_STUDY, flags)
        base = spec.name
        if not set(flags) - NOT_OF_THE_GRID or _grid(spec) == _grid(load_study(study or DEFAULT_STUDY)):
            return spec
    return spec if "name" in flags else spec.model_copy(update={"name": f"{base}-{_short(spec)}"})


def _grid(spec: StudySpec) -> dict[str, Any]:
    """What decides a study's rows."""
    return {key: value for key, value in spec.resolved().items() if key not in NOT_OF_THE_GRID}


def _short(spec: StudySpec) -> str:
    from ..types import digest

    return digest(_grid(spec), size=3)


def resume_command(arguments: list[str]) -> str:
    """The command that goes on where this one stops."""
    return shlex.join(["optgrid", *(word for word in arguments if word != "--fresh")])


def _interrupted(sentence: str, command: str) -> NoReturn:
    fail(f"{sentence}\nresume with: {command}", INTERRUPTED, prefix="")


def _plan(spec: StudySpec, as_json: bool) -> None:
    """`--dry-run`: the grid, the programs, and what they are expected to take."""
    import_tensorflow(f"plan of {spec.name}")
    from ..study import Study

    study = Study(spec)
    plan = study.plan()
    seconds = getattr(plan, "estimated_seconds", None)
    notes = list(getattr(plan, "notes", ()))
    if as_json:
        print_json(
            {
                "study": spec.name,
                "out": spec.folder,
                "spec": spec.resolved(),
                "strategy": study.layout().words(),
                "cells": plan.cells,
                "cell_steps": plan.cell_steps,
                "programs": len(plan.programs),
                "tiles": len(plan.tiles),
                "estimated_bytes": plan.estimated_bytes,
                "estimated_seconds": seconds,
                "notes": notes,
            }
        )
        return
    rows = [
        [w.label, o.label, len(spec.rates_of(o)), len(spec.seeds), spec.budget(w), spec.target_of(w)]
        for w in spec.workloads
        for o in spec.optimizers
    ]
    header = ["workload", "optimizer", "rates", "seeds", "steps", "target"]
    print_table(f"study {spec.name}", header, rows)
    programs, tiles = plural(len(plan.programs), "program"), plural(len(plan.tiles), "tile")
    print(f"{cells(plan.cells)} in {programs} and {tiles}, {plan.cell_steps:,} cell-steps")
    print(f"strategy: {study.layout().words()}")
    print(f"memory: {size(plan.estimated_bytes)} for the largest program")
    if seconds is not None:
        print(f"time: about {duration(seconds)}")
    print(f"results in {spec.folder}")
    for note in notes:
        print(f"note: {note}")


def _race(
    spec: StudySpec, cluster: ClusterOptions | None, *, fresh: bool, report: bool, as_json: bool
) -> None:
    """Run, report, recommend."""
    import_tensorflow(f"study {spec.name}")
    from ..study import Study

    with view(spec.name) as progress:
        results = Study(spec).run(
            out=spec.folder,
            workers=spec.workers,
            fresh=fresh,
            resume=not fresh,
            progress=progress,
            cluster=cluster,
        )
    from ..results import REPORTED

    rows = results.cells(REPORTED)
    by_status = {str(k): int(v) for k, v in rows["status"].value_counts().items()}
    folder = shown_path(spec.folder)
    say(f"{cells(len(rows))} in {folder}: {counts(by_status)}")
    for problem in results.problems():
        say(f"warning: {problem}")
    best = print_recommendations(rows, show=not as_json)
    page = None
    if report:
        say("writing the report")
        page = results.report(cells=rows)
    if as_json:
        print_json(
            {
                "study": spec.name,
                "path": str(spec.folder),
                "cells": len(rows),
                "status": by_status,
                "report": None if page is None else str(page),
                "recommendations": best,
            }
        )
    elif page is not None:
        print(f"report: {shown_path(page)}")
    failed = rows.loc[rows["status"] == "failed", "detail"].tolist()
    if failed:
        many = "every cell" if len(failed) == len(rows) else f"{len(failed):,} of {cells(len(rows))}"
        see = f"all reasons: optgrid status {shlex.quote(folder)}"
        fail(f"{many} failed, the first with '{failed[0]}' ({see})", 1)
