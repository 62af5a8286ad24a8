"""The report's own sentences: headline, lede, facts, and the banner of a partial run."""

from __future__ import annotations

from collections import Counter

import numpy as np

from ..figures import ReportData
from ..figures.base.data import listed, plural

NAMED = 3  # optimizers or workloads that a sentence names before it counts the others


def headline(data: ReportData) -> str:
    """One sentence that answers: which optimizer is first to the target, on how many workloads."""
    frame = data.recommendations
    if not data.workloads:
        return "No run has finished yet: there is nothing to compare."
    won = frame[np.isfinite(frame.steps_to_target)]
    total = len(data.workloads)
    if won.empty:
        return "No optimizer brings most seeds to the target on any workload."
    if len(data.optimizers) == 1:
        name = data.short_optimizers[data.optimizers[0]]
        return f"{name} brings most seeds to the target on {len(won)} of {plural(total, 'workload')}."
    counts = won.optimizer.value_counts()
    order = sorted(counts.index, key=lambda o: (-counts[o], data.optimizers.index(o)))
    names = [data.short_optimizers[o] for o in order]
    if total == 1:
        return f"Fastest to the target on {data.short(data.workloads[0], 50)}: {names[0]}."
    if len(order) == 1:
        where = f"on {'all ' if len(won) == total else ''}{len(won)}" + (
            f" of {total}" if len(won) < total else ""
        )
        return f"Fastest to the target: {names[0]}, {where} workloads."
    parts = [f"{names[0]} on {counts[order[0]]} of {plural(total, 'workload')}"]
    parts += [f"{name} on {counts[o]}" for name, o in zip(names[1:NAMED], order[1:NAMED], strict=True)]
    if len(order) > NAMED:
        parts.append(f"others on {sum(int(counts[o]) for o in order[NAMED:])}")
    return f"Fastest to the target: {listed(parts)}."


def lede(data: ReportData) -> str:
    """How sure that is, and where nobody gets there."""
    frame = data.recommendations
    if frame.empty:
        return ""
    said = []
    duels = frame[(frame.runner_up != "") & frame.learning_rate.notna()]
    if len(duels):
        count = int(duels.resolved.sum())
        said.append(
            f"The lead over the runner-up is resolved on {count} of {plural(len(duels), 'workload')}: "
            "there the 95 % interval of the difference on shared seeds lies above zero."
        )
    missed = frame[~np.isfinite(frame.steps_to_target)].workload.tolist()
    if missed and len(missed) < len(data.workloads):
        names = [data.short(w, 40) for w in missed[:NAMED]]
        names += [plural(len(missed) - NAMED, "more")[: -len("s")]] if len(missed) == NAMED + 1 else []
        names += [f"{len(missed) - NAMED} more"] if len(missed) > NAMED + 1 else []
        said.append(f"No optimizer brings most seeds to the target on {listed(names)}.")
    edges = frame[frame.edge.isin(["lowest", "highest"])]
    if len(edges):
        said.append(
            f"On {plural(len(edges), 'workload')} the recommended rate lies on the edge of its grid: a "
            "wider grid may do better."
        )
    return " ".join(said)


def facts(data: ReportData) -> list[tuple[str, str]]:
    """(number, what it counts) of the study."""
    cells = data.cells
    counts = Counter(cells.status)
    rates = cells.groupby("optimizer").learning_rate.nunique().max() if len(cells) else 0
    out = [
        (f"{len(cells):,}", "runs"),
        (f"{len(data.workloads):,}", "workloads"),
        (f"{len(data.optimizers):,}", "optimizers"),
        (f"{int(rates or 0):,}", "learning rates each"),
        (f"{int(cells.seed.nunique()) if len(cells) else 0:,}", "seeds"),
        (f"{int(cells.steps.sum()) if len(cells) else 0:,}", "steps"),
    ]
    singular = {"runs": "run", "workloads": "workload", "optimizers": "optimizer", "seeds": "seed"}
    out = [(n, singular.get(what, what) if n == "1" else what) for n, what in out]
    for status, what in (("converged", "reach the target"), ("diverged", "diverge"), ("failed", "fail")):
        if counts[status]:
            out.append((f"{counts[status]:,}", what))
    return out


def partial(done: int, total: int | None, complete: bool | None) -> str:
    """The banner's first words; empty where all cells are there."""
    if complete is None:
        complete = total is None or done >= total
    if complete:
        return ""
    return (
        f"Partial run: {done:,} of {plural(total, 'cell')}."
        if total is not None
        else f"Partial run: {plural(done, 'cell')} so far."
    )
