"""A study, run: the grid is planned, missing cells are executed, rows are committed as they come."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import catalog, grid
from harness.compaction import compact
from harness.executors.ray_options import ClusterOptions
from harness.kernels.study import profile_study
from harness.planning import Plan, plan
from harness.records import CONTOURS, Store
from harness.results import Results
from harness.spec import StudySpec, build_study, load_study
from harness.types import (
    SCHEMA_VERSION,
    Cell,
    Interrupted,
    Layout,
    Outcome,
    Progress,
    ProgressCallback,
    UsageError,
)

CONTOUR_POINTS = 121


class Study:
    """A grid of runs: workloads × optimizers × learning rates × seeds.

    Args:
        spec: a checked study, or a mapping of a study file's fields.
        fields: a study file's fields by name, over those of `spec`: `Study(workloads=["rosenbrock"],
            optimizers=["adam"], seeds=10)`.
    Raises:
        UsageError: a field is unknown or wrong, the grid is empty, or a run is in it twice.
    """

    def __init__(self, spec: StudySpec | dict[str, Any] | None = None, **fields: Any):
        if isinstance(spec, StudySpec):
            self.spec = spec
        else:
            self.spec = build_study({**(spec or {}), **fields})
        self._cells: list[Cell] | None = None

    @classmethod
    def load(cls, study: str | Path) -> Study:
        """A study file, or a built-in study by name."""
        return cls(load_study(study))

    @property
    def grid(self) -> list[Cell]:
        """Every cell, in the study's order."""
        if self._cells is None:
            self._cells = grid.cells(self.spec)
        return self._cells

    def layout(self, workers: int | None = None) -> Layout:
        """How programs are spread over devices."""
        chosen = self.spec.strategy
        return Layout(
            name=chosen.name,
            split=chosen.split,
            replicas=chosen.replicas or (chosen.parts if chosen.split == "batch" else None),
            devices=tuple(chosen.devices) if chosen.devices else None,
            drop_remainder=chosen.drop_remainder,
            workers=workers or self.spec.workers,
        )

    def plan(self, known: dict[str, Any] | None = None, done: frozenset[str] = frozenset()) -> Plan:
        """Programs, lanes and tiles of what is not done. Imports TensorFlow for the parameters' shapes.

        Args:
            known: `programs` of an earlier `study.json`; what decides their bits is kept.
            done: ids of cells that have rows.
        """
        from harness.feasibility import require_possible
        from harness.runtime import cpu_count, memory_bytes

        require_possible(self.layout(), self.grid)
        return plan(
            self.grid,
            points=self.spec.record.points,
            stability=self.spec.record.stability,
            curves=self.spec.record.curves,
            lanes=self.spec.lanes,
            known=known or {},
            memory_bytes=memory_bytes(),
            cores=self.spec.workers or cpu_count(),
            done=done,
        )

    def run(
        self,
        out: str | Path | None = None,
        *,
        workers: int | None = None,
        fresh: bool = False,
        resume: bool = True,
        progress: ProgressCallback | None = None,
        stop: threading.Event | None = None,
        cluster: str | ClusterOptions | None = None,
    ) -> Results:
        """Runs what is missing and returns the results.

        Args:
            out: results folder; the study's own by default.
            workers: threads, or processes of a cluster; one per core or GPU by default.
            fresh: forget the rows that are there.
            resume: go on with the rows that are there; off: it is an error that there are some.
            progress: called with the counters as they change.
            stop: set it from another thread to end the run; what is committed stays.
            cluster: a Ray cluster's address (`auto`, `host:port`, `local`) or options; None: this process.
        Raises:
            UsageError: the folder holds another study, or rows that must not be resumed.
            RunError: rows cannot be written, or the cluster cannot be used.
            Interrupted: Ctrl-C, or `stop` was set.
        """
        from harness.executors import local
        from harness.strategies import prepare, prepare_processes

        options = ClusterOptions(cluster) if isinstance(cluster, str) else cluster
        if options is not None:
            from harness.executors import ray

            ray.prepare(options)
        layout = self.layout(workers)
        if options is None:
            prepare_processes(layout) if layout.name == "multi_worker_mirrored" else prepare(layout)
        store = Store(str(out or self.spec.folder))
        earlier = self._earlier(store, fresh=fresh, resume=resume)
        done = self._done(store) if earlier else frozenset()
        planned = self.plan(known=(earlier or {}).get("programs"), done=done)
        if earlier is None:
            if fresh:
                store.clear()  # not before the plan stands: a mistake in the study must cost no rows
            store.write_json("study.json", self._describe(planned))
        if not store.read("contours", ["workload"])[0].num_rows:  # a disk that was full may have cost them
            self._write_contours(store)
        counters = _Counters(len(self.grid), len(done), len(planned.tiles), progress)
        stop = stop or threading.Event()
        job = local.Job(
            store=store,
            study=self.spec.name,
            layout=layout,
            workers=workers or self.spec.workers,
            curves=self.spec.record.curves,
            compiling=counters.compiling,
            changed=counters.change,
        )
        try:
            if not planned.tiles:
                outcomes: Iterable[Outcome] = ()
            elif options is None and layout.name == "multi_worker_mirrored":
                from harness.executors import processes

                outcomes = processes.execute(planned.tiles, job, stop, fingerprint=self._fingerprint())
            elif options is None:
                outcomes = local.execute(planned.tiles, job, stop)
            else:
                outcomes = ray.execute(
                    planned.tiles, job, stop, options=options, fingerprint=self._fingerprint()
                )
            for outcome in outcomes:
                counters.add(outcome)
            if options is not None:
                compact(store)
        except KeyboardInterrupt:
            stop.set()
        if stop.is_set() and counters.done < len(self.grid):
            raise Interrupted(
                f"stopped with {counters.done} of {len(self.grid)} cells in {store.address}; "
                "the same command goes on from there"
            )
        if self.spec.profile:
            counters.change(message="profiling the optimizers' kernels")
            counters.change(message=self._profile(store, options, job.workers))
        return Results(store.address)

    def _profile(self, store: Store, options: ClusterOptions | None, workers: int | None) -> str:
        """Kernels of the optimizers, here or on a node of each type; a sentence on what is missing."""
        if options is None:
            return profile_study(self.spec.optimizers, store)
        from harness.executors import ray

        return ray.profile(self.spec.optimizers, store, options, workers)

    # -- what is in the folder ---------------------------------------------------------------------

    def _earlier(self, store: Store, *, fresh: bool, resume: bool) -> dict[str, Any] | None:
        """The folder's `study.json` where this run goes on with it; None where it begins."""
        if not store.exists():
            store.refuse_foreign()
            return None
        if fresh:
            return None
        earlier = store.read_study()
        if earlier.get("fingerprint") != self._fingerprint():
            raise UsageError(
                f"{store.address} holds another study ('{earlier.get('name')}'): "
                "give another --out, or --fresh to delete its rows"
            )
        if not resume:
            raise UsageError(f"{store.address} already holds this study's rows: --resume or --fresh")
        return earlier

    def _done(self, store: Store) -> frozenset[str]:
        table, _ = store.read("cells", ["cell_id"])
        return frozenset(table.column("cell_id").to_pylist())

    def _fingerprint(self) -> str:
        """What makes two studies the same: their cells, and what is recorded of each."""
        from harness.types import digest

        record = self.spec.record.model_dump(mode="json")
        return digest([record, self.spec.lanes, *sorted(c.cell_id for c in self.grid)])

    def _describe(self, planned: Plan) -> dict[str, Any]:
        from harness import runtime

        workloads = {c.workload.label: c.workload for c in self.grid}
        optimizers = {c.optimizer.label: c.optimizer for c in self.grid}
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.spec.name,
            "description": self.spec.description,
            "fingerprint": self._fingerprint(),
            "cells": len(self.grid),
            "spec": self.spec.resolved(),
            "workloads": {k: self._describe_workload(v) for k, v in workloads.items()},
            "optimizers": {k: _describe_component("optimizer", v) for k, v in optimizers.items()},
            "learning_rates": {o.label: list(self.spec.rates_of(o)) for o in self.spec.optimizers},
            "seeds": list(self.spec.seeds),
            "programs": {
                key: {
                    "workload": p.workload.label,
                    "optimizer": p.optimizer.label,
                    "groups": p.lanes.groups,
                    "width": p.lanes.width,
                    "lanes": p.lanes.count,
                    "written_out": p.written_out,
                    "parts": p.parts,
                    "stride": p.stride,
                    "budget": p.budget,
                }
                for key, p in planned.programs.items()
            },
            "versions": runtime.versions(),
            "hardware": runtime.hardware(),
            "code": self._codes(),
            "created_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        }

    def _describe_workload(self, component: Any) -> dict[str, Any]:
        workload = catalog.build_workload(component)
        return _describe_component("workload", component) | {
            "target": float(workload.target),
            "target_metric": workload.target_metric,
            "steps": int(workload.steps),
            "optimum": workload.optimum,
            "minimizers": [list(m) for m in workload.minimizers],
            "domain": None if workload.domain is None else [list(side) for side in workload.domain],
            "family": "function" if workload.domain is not None else "learning",
        }

    def _codes(self) -> dict[str, str]:
        codes = {}
        for kind in ("optimizer", "workload"):
            for component in {getattr(c, kind).label: getattr(c, kind) for c in self.grid}.values():
                found = catalog.code_hash(catalog.entry_of(kind, component))
                if found:
                    codes[component.label] = found
        return codes

    def _write_contours(self, store: Store) -> None:
        """Values on a grid of each 2-D workload, so that the report needs no TensorFlow to draw them."""
        import pyarrow as pa

        tables = []
        for component in {c.workload.label: c.workload for c in self.grid}.values():
            found = _contour(component)
            if found is not None:
                tables.append(found)
        if tables:
            store.write_table("contours", "contours", pa.Table.from_pylist(tables, schema=CONTOURS))


def _describe_component(kind: Any, component: Any) -> dict[str, Any]:
    entry = catalog.entry_of(kind, component)
    return {"name": component.name, "params": component.resolved(), "description": entry.summary}


def _contour(component: Any) -> dict[str, Any] | None:
    import numpy as np

    from harness.runtime import tensorflow

    tf = tensorflow()
    workload = catalog.build_workload(component, "float64")
    if workload.domain is None or len(workload.domain) != 2:
        return None
    (left, right), (low, high) = workload.domain
    x, y = np.linspace(left, right, CONTOUR_POINTS), np.linspace(low, high, CONTOUR_POINTS)
    points = np.stack([c.reshape(-1) for c in np.meshgrid(x, y)], 1)
    try:
        values = tf.vectorized_map(workload.objective, tf.constant(points)).numpy()
    except (Exception, SystemExit):  # a plug-in's objective: its rows say why, and no contour is drawn
        return None
    return {
        "workload": component.label,
        "x": x.tolist(),
        "y": y.tolist(),
        "z": values.tolist(),
        "minimizers": [list(m) for m in workload.minimizers],
    }


class _Counters:
    """A running study's counters; `add` and `compiling` may be called from any thread."""

    def __init__(self, total: int, done: int, tiles: int, callback: ProgressCallback | None):
        self.callback, self.begin = callback, time.perf_counter()
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.state = Progress(cells_total=total, cells_done=done, tiles_total=tiles)

    @property
    def done(self) -> int:
        return self.state.cells_done

    def add(self, outcome: Outcome) -> None:
        self.counts.update(outcome.counts)
        self.change(
            cells_done=self.state.cells_done + outcome.cells,
            tiles_done=self.state.tiles_done + 1,
            steps_done=self.state.steps_done + outcome.steps,
            counts=dict(self.counts),
        )

    def compiling(self, change: int) -> None:
        self.change(compiling=self.state.compiling + change)

    def change(self, **fields: Any) -> None:
        """Sets fields of the state and hands it on."""
        with self.lock:
            self.state = replace(self.state, seconds=time.perf_counter() - self.begin, **fields)
            if self.callback is not None:
                self.callback(self.state)


__all__: Sequence[str] = ("Results", "Study")
