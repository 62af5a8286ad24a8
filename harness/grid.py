"""The grid: a study's cells, in an order that depends on nothing but the study."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from . import catalog, values
from .spec import StudySpec
from .types import Cell, Component, UsageError


def cells(spec: StudySpec) -> list[Cell]:
    """Every run of a study: workloads, then optimizers, learning rates and seeds, in their order.

    Raises:
        UsageError: two cells are the same run, written in two ways.
    """
    found: dict[str, Cell] = {}
    for cell in _product(spec):
        same = found.setdefault(cell.cell_id, cell)
        if same is not cell:
            raise UsageError(
                f"the same run is in the study twice: {cell.optimizer.label} on {cell.workload.label} "
                f"and {same.optimizer.label} on {same.workload.label}, both with learning rate "
                f"{cell.learning_rate:g}, seed {cell.seed} and {cell.budget} steps"
            )
    return list(found.values())


def resolve_workload(spec: StudySpec, workload: Component) -> Component:
    """The workload with the study's budget, target and dtype among its own parameters.

    So two ways of asking for one run (`rosenbrock(steps=300)`, or `steps: 300`) are one run, and the
    recorded parameters are those that were used. The label stays as it was written.
    """
    decided = {
        "steps": spec.budget(workload),
        "target": spec.target_of(workload),
        "dtype": spec.dtype_of(workload),
    }
    return replace(workload, params={k: decided.get(k, v) for k, v in workload.params.items()})


def resolve_optimizer(optimizer: Component, budget: int) -> Component:
    """The optimizer with every `steps=None`, its own and of what it wraps, set to the budget."""
    entry = catalog.entry_of("optimizer", optimizer)
    field = entry.field("steps")
    params = optimizer.params
    if field is not None and params.get("steps", 0) is None and values.fits(budget, field.annotation):
        params = {**params, "steps": budget}
    inner = tuple(resolve_optimizer(each, budget) for each in optimizer.inner)
    return replace(optimizer, params=params, inner=inner)


def plugin_hash(workload: Component, optimizer: Component) -> str:
    """Hash of the plug-in files that a run uses; empty where it uses the catalogue alone."""
    entries = [catalog.entry_of("workload", workload), *_entries(optimizer)]
    hashes = [code for entry in entries if (code := catalog.code_hash(entry))]
    return hashlib.sha256("".join(hashes).encode()).hexdigest() if hashes else ""


def _product(spec: StudySpec) -> Iterator[Cell]:
    # Only a split batch makes the number of replicas part of a result.
    split = spec.strategy.split == "batch"
    replicas = spec.strategy.parts if split else 1
    for written in spec.workloads:
        workload = resolve_workload(spec, written)
        budget, target, dtype = spec.budget(written), spec.target_of(written), spec.dtype_of(written)
        for chosen in spec.optimizers:
            optimizer = resolve_optimizer(chosen, budget)
            rates = spec.rates_of(chosen)
            first = Cell(
                workload=workload,
                optimizer=optimizer,
                learning_rate=rates[0],
                seed=spec.seeds[0],
                budget=budget,
                target=target,
                stop=spec.stop,
                dtype=dtype,
                code=plugin_hash(workload, optimizer),
                split=spec.strategy.split,
                replicas=replicas,
                drop_remainder=split and spec.strategy.drop_remainder,
            )
            yield from first.siblings(rates, spec.seeds)


def _entries(optimizer: Component) -> Iterator[catalog.Entry]:
    yield catalog.entry_of("optimizer", optimizer)
    for each in optimizer.inner:
        yield from _entries(each)
