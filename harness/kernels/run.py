"""The profiler: every implementation of every optimizer on every layout, measured, as rows."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .. import catalog
from ..runtime import versions
from ..sentences import plural
from ..types import Component, OptgridError, canonical_json
from . import hlo, measure, ours, peers
from .cases import Case, NotApplicable, Prepared, least_bytes
from .device import Device, tensorflow
from .measure import Pace
from .schema import IMPLEMENTATIONS, OURS, Row
from .shapes import Layout

Say = Callable[[str], None]
READ_TENSORS = 300  # with more, compiling once again only to read the program takes too long
_SLOW = ("eager", "function", "keras")
_COMPILED = ("xla_in_place", "xla_fresh", "one_pass", "flat", "flat_one_pass", "keras_jit", "optax")


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Args:
        optimizers, layouts, dtypes: every combination of them.
        implementations: of `schema.IMPLEMENTATIONS`; peers only where there is one.
        patience: parameters beyond which what XLA does not compile is left out: it takes ten times as long.
    """

    optimizers: tuple[Component, ...]
    layouts: tuple[Layout, ...]
    dtypes: tuple[str, ...] = ("float32",)
    implementations: tuple[str, ...] = IMPLEMENTATIONS
    pace: Pace = field(default_factory=Pace)
    patience: float = float("inf")

    def chosen(self, layout: Layout) -> list[str]:
        """Implementations to measure on a layout."""
        patient = layout.parameters <= self.patience
        return [name for name in self.implementations if patient or name not in _SLOW]

    def combinations(self) -> list[tuple[Component, Layout, str]]:
        return [(o, s, d) for o in self.optimizers for d in self.dtypes for s in self.layouts]

    def estimate(self) -> float:
        """Seconds that it takes, about, on a machine that does nothing else."""
        total = 0.0
        for _, layout, _ in self.combinations():
            names = self.chosen(layout)
            read = 2 if layout.tensors <= READ_TENSORS else 1
            total += sum(name in _COMPILED for name in names) * read * (0.2 + 0.02 * layout.tensors)
            for name in [*names, "copy"]:
                update = 1e-4 + layout.parameters * (3e-9 if name in _SLOW else 1e-9)
                window = max(self.pace.window_seconds, update)
                measured = min(self.pace.windows * window, max(self.pace.row_seconds, 5 * window))
                total += 1.2 * measured + 6 * update + layout.parameters * 1e-8
        return total


def profile(plan: Plan, device: Device, say: Say = lambda _: None) -> Iterator[Row]:
    """Rows in the order of the plan, each as soon as its group of implementations is measured.

    What cannot be measured gives a row too, with its reason; the others go on.
    """
    versioned = canonical_json(versions())
    combinations = plan.combinations()
    for done, (component, layout, dtype) in enumerate(combinations, 1):
        size = f"{plural(layout.parameters, 'parameter')} in {plural(layout.tensors, 'tensor')}"
        say(f"{done}/{len(combinations)} {component.label}, {dtype}, {size}")
        for row in _profile_case(plan, device, component, layout, dtype):
            row.versions = versioned
            yield row


def _profile_case(
    plan: Plan, device: Device, component: Component, layout: Layout, dtype: str
) -> Iterator[Row]:
    empty = Row(
        optimizer=component.label,
        optimizer_params=canonical_json(component.resolved()),
        implementation="",
        device=device.name,
        device_name=device.model,
        dtype=dtype,
        layout=layout.name,
        parameters=layout.parameters,
        tensors=layout.tensors,
        threads=device.threads,
    )
    try:
        rule = catalog.build_optimizer(component)
        moved, state = least_bytes(rule, layout.shapes, dtype)
    except Exception as error:
        sentence = str(error) if isinstance(error, OptgridError) else measure.describe(error)
        for name in plan.chosen(layout):
            if name in OURS:
                yield replace(empty, implementation=name, status="failed", detail=sentence)
        return
    case = Case(component, rule, layout, dtype, device, moved, state)
    empty.bytes_moved, empty.state_bytes = moved, state
    empty.state_bytes_per_parameter = state / layout.parameters
    builders = {**ours.BUILDERS, **(peers.available(case) if set(plan.implementations) - set(OURS) else {})}
    chosen = {name: builders[name] for name in plan.chosen(layout) if name in builders}
    for batch in _batches(case, list(chosen)):
        yield from _profile_batch(plan, case, empty, {name: chosen[name] for name in batch})
        gc.collect()  # a traced function and its variables hold one another: gigabytes, at large sizes


def _batches(case: Case, names: Sequence[str]) -> Iterator[list[str]]:
    """Implementations that fit into memory together, with the copy's buffer."""
    free = case.device.free_bytes()
    room = (free - case.working_bytes) / 4 if free is not None else float("inf")
    batch: list[str] = []
    taken = 0
    for name in names:
        need = measure.needs_bytes(case, name)
        if batch and taken + need > room:
            yield batch
            batch, taken = [], 0
        batch.append(name)
        taken += need
    if batch:
        yield batch


def _profile_batch(
    plan: Plan, case: Case, empty: Row, builders: dict[str, Callable[[Case], Prepared]]
) -> Iterator[Row]:
    tf = tensorflow()
    timed: dict[str, measure.Timed] = {}
    failed: dict[str, Row] = {}
    programs: dict[str, hlo.Program | str] = {}
    with tf.device(f"/device:{case.device.name}"):
        for name, build in builders.items():
            reason = _too_large(case, name)
            if reason:
                failed[name] = replace(empty, implementation=name, status="skipped", detail=reason)
                continue
            try:
                timed[name] = measure.start(build(case), plan.pace)
            except NotApplicable as error:
                failed[name] = replace(empty, implementation=name, status="skipped", detail=str(error))
            except Exception as error:
                failed[name] = replace(
                    empty, implementation=name, status="failed", detail=measure.describe(error)
                )
        try:
            ceiling = (
                measure.start(measure.copy(case.device, case.working_bytes), plan.pace) if timed else None
            )
            if ceiling is not None:
                programs = _measure_group(case, timed, ceiling)
        except Exception as error:
            sentence = measure.describe(error)
            for name in timed:
                failed[name] = replace(empty, implementation=name, status="failed", detail=sentence)
            timed, ceiling = {}, None
        multiplies = any(isinstance(p, hlo.Program) and p.product_flops for p in programs.values())
        peak = measure.matmul_peak(case.device, case.dtype, plan.pace) if multiplies else None
        for name in builders:
            if name in failed:
                yield failed[name]
            elif ceiling is not None:
                row = _measured(case, replace(empty, implementation=name), timed[name], ceiling)
                yield described(row, programs.get(name), peak)


def _measure_group(
    case: Case, timed: dict[str, measure.Timed], ceiling: measure.Timed
) -> dict[str, hlo.Program | str]:
    """Take all windows, in sittings; read the programs between them, which takes seconds.

    Returns:
        By implementation what its program is, or a sentence on why it could not be read.
    """
    ceiling.rounds = max(each.rounds for each in timed.values())  # a copy in every turn
    programs: dict[str, hlo.Program | str] = {}
    for sitting in range(measure.SITTINGS):
        if sitting:  # one that is no luckier than those that it is compared with
            measure.renew(ceiling, measure.copy(case.device, case.working_bytes))
        measure.take_turns([*timed.values(), ceiling], sitting, measure.SITTINGS)
        for name, each in timed.items():
            few = case.layout.tensors <= READ_TENSORS or name in ("flat", "flat_one_pass")
            if sitting == 0 and few and each.prepared.hlo is not None:
                try:
                    programs[name] = hlo.read(each.prepared.hlo())
                except Exception as error:
                    programs[name] = f"its program could not be read: {measure.describe(error)}"
    return programs


def _too_large(case: Case, name: str) -> str:
    """Why there is no memory for it; empty where there is."""
    free = case.device.free_bytes()
    need = measure.needs_bytes(case, name) + case.working_bytes  # the copy has a buffer of its own
    if free is None or need <= free:
        return ""
    return (
        f"{case.layout.parameters:,} {case.dtype} parameters need {need / 1e9:.1f} GB with what they are "
        f"compared with, and {free / 1e9:.1f} GB are free: choose smaller --sizes"
    )


def _measured(case: Case, row: Row, timed: measure.Timed, ceiling: measure.Timed) -> Row:
    timing, copied = measure.summary(timed), measure.summary(ceiling)
    seconds = timing.median
    row.compile_seconds = timing.compile_seconds
    row.update_seconds, row.update_seconds_low, row.update_seconds_high = seconds, timing.low, timing.high
    row.windows, row.calls = timing.windows, timing.calls
    row.noise, row.copy_noise = timing.noise, measure.shared_noise(timed, ceiling)
    row.nanoseconds_per_parameter = seconds * 1e9 / case.layout.parameters
    if timed.prepared.state_bytes is not None:
        # Read: parameters, gradients, state; written: parameters, state. All peers' rules do all of it.
        width = tensorflow().as_dtype(case.dtype).size
        row.state_bytes = timed.prepared.state_bytes
        row.bytes_moved = 3 * width * case.layout.parameters + 2 * row.state_bytes
        row.state_bytes_per_parameter = row.state_bytes / case.layout.parameters
    assert row.bytes_moved is not None
    row.gigabytes_per_second = row.bytes_moved / seconds / 1e9
    row.copy_gigabytes_per_second = measure.copy_bytes(case.working_bytes) / copied.median / 1e9
    row.copy_share = row.gigabytes_per_second / row.copy_gigabytes_per_second
    return row


def described(row: Row, program: hlo.Program | str | None, peak: float | None = None) -> Row:
    """Fill in what the optimised program says: kernels, fusions, passes, FLOPs, temporary memory.

    Args:
        peak: operations per second of a large matrix product here; None where no program has products.
    """
    if program is None or isinstance(program, str):
        row.detail = program or row.detail
        return row
    row.kernels, row.fusions = len(program.kernels), program.fusions
    row.passes = program.passes(row.parameters)
    row.kernel_names = program.large(row.parameters, row.tensors)[:12]
    row.flops, row.temporary_bytes = program.flops, program.temporary_bytes
    row.traffic_bytes = program.traffic_bytes
    if row.update_seconds:
        row.gigaflops_per_second = program.flops / row.update_seconds / 1e9
    row.product_flops = program.product_flops
    if peak and row.update_seconds and program.product_flops:
        row.matmul_gigaflops_per_second = peak / 1e9
        row.matmul_share = program.product_flops / row.update_seconds / peak
    return row


def environment(device: Device, plan: Plan, arguments: Sequence[str]) -> dict[str, Any]:
    """What `kernels.json` holds: where and how the rows were measured."""
    from ..runtime import hardware

    return {
        "schema_version": 1,
        "arguments": list(arguments),
        "device": device.name,
        "device_name": device.model,
        "threads": device.threads,
        "pace": json.loads(json.dumps(plan.pace.__dict__)),
        "hardware": hardware(),
        "versions": versions(),
    }
