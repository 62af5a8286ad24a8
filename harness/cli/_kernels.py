"""What `optgrid profile` prints: rows with their verdicts, and what differs between two profiles."""

from __future__ import annotations

from typing import Any

import typer

from ..sentences import plural
from ..types import UsageError
from ._app import say
from ._output import jsonable, print_json, print_table

REGRESSED = 3


def print_rows(kernels: Any, steps: list[Any]) -> None:
    """A table per optimizer and size, then our best paths, then the split of training steps."""
    from ..kernels.words import WORDS, best_paths, noisy, verdict

    for key, part in kernels.groupby(["optimizer", "dtype", "parameters", "tensors"], sort=False):
        title = f"{key[0]}, {key[1]}, {key[2]:,} parameters in {plural(int(key[3]), 'tensor')}"
        lines = [
            [
                WORDS[row["implementation"]],
                jsonable(row["update_seconds"] * 1e6),
                jsonable(row["nanoseconds_per_parameter"]),
                jsonable(row["gigabytes_per_second"]),
                jsonable(row["compile_seconds"]),
                jsonable(row["passes"]),
                verdict(row),
            ]
            for row in kernels.loc[part.index].to_dict("records")
        ]
        print_table(title, ["implementation", "µs", "ns/parameter", "GB/s", "compile s", "passes", ""], lines)
    best = best_paths(kernels)
    lines = [
        [
            r["optimizer"],
            r["dtype"],
            r["parameters"],
            r["tensors"],
            r["ours"],
            r["share"],
            r["peer"],
            r["speed_up"],
        ]
        for r in best.to_dict("records")
    ]
    if lines:
        header = [
            "optimizer",
            "dtype",
            "parameters",
            "tensors",
            "our best",
            "of copy",
            "fastest peer",
            "× peer",
        ]
        print_table("Our best path against the fastest peer", header, lines)
    if steps:
        lines = [[s.workload, s.optimizer, s.part, s.seconds * 1e6, f"{s.share:.0%}"] for s in steps]
        print_table("A training step", ["workload", "optimizer", "part", "µs", "of the step"], lines)
    if note := noisy(kernels):
        say(note)


def compare_profiles(old: str, new: str, as_json: bool) -> None:
    """Print what became slower or faster; exit code 3 where something did, or takes more passes.

    Raises:
        UsageError: a folder has no profile, or the two have nothing in common.
    """
    from ..kernels import store
    from ..kernels.compare import compare
    from ..kernels.words import noisy

    before, after = store.read(old), store.read(new)
    found = compare(before, after)
    if found.table.empty:
        raise UsageError(
            f"'{old}' and '{new}' have no measurement in common: same optimizers, sizes and device?"
        )
    changed = found.table[found.table["verdict"] != "same"].sort_values("change", ascending=False)
    if as_json:
        print_json(
            {
                "compared": len(found.table),
                "regressions": found.regressions,
                "gains": found.gains,
                "only_old": found.only_old,
                "only_new": found.only_new,
            }
        )
    else:
        lines = [
            [
                r["verdict"],
                r["optimizer"],
                r["implementation"],
                r["dtype"],
                r["parameters"],
                r["tensors"],
                f"{r['change']:+.0%}",
                f"± {r['noise']:.0%}",
                f"{r['old_passes']:.1f} → {r['new_passes']:.1f}"
                if r["old_passes"] == r["old_passes"]
                else "",
            ]
            for r in changed.to_dict("records")
        ]
        title = f"{plural(len(found.table), 'measurement')} compared: "
        title += f"{len(found.regressions)} worse, {len(found.gains)} better"
        header = [
            "",
            "optimizer",
            "implementation",
            "dtype",
            "parameters",
            "tensors",
            "time",
            "noise",
            "passes",
        ]
        print_table(title, header, lines) if lines else print(title)
        for sentence in {noisy(before), noisy(after)} - {""}:
            say(sentence)
    if len(found.regressions):
        raise typer.Exit(REGRESSED)
