"""The profiler's part of a report: figures, verdicts, and a page of its own where there is no study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from ..figures import DARK, LIGHT
from ..figures.base import svg
from ..figures.base.axes import number
from ..figures.base.frame import Frame
from ..figures.kernels import KernelData, catalogue
from ..kernels.schema import PLACE, WORDS
from ..kernels.words import best_paths, noisy, verdict
from ..sentences import plural
from .provenance import Number
from .render import DARK_PAGE, TEMPLATES, figure_entry, write
from .tables import csv

SHOWN = 400  # rows of the verdict table; the CSV has all


def kernel_figures(kernels: Frame | None, folder: Path, place: int) -> list[dict[str, Any]]:
    """The kernel figures, drawn, in the form that the template takes; none where there are no rows.

    Args:
        place: number of figures before them on the page.
    """
    if kernels is None or kernels.empty:
        return []
    places = list(kernels.groupby(list(PLACE), sort=False))
    entries = []
    for nth, (where, rows) in enumerate(places, 1):
        data = KernelData(rows)
        for name, module in catalogue().items():
            key = f"kernels_{name}" + (f"_{nth}" if nth > 1 else "")
            entry = figure_entry(data, place + len(entries), key, module, folder)
            if len(places) > 1:
                entry["title"] = f"{entry['title']}: {place_words(*where)}"
            entries.append(entry)
    return entries


def place_words(device: str, name: str, threads: float) -> str:
    """Where rows were measured: `GPU:0, NVIDIA H100`, or a processor with its threads."""
    return f"{device}, {name}" + (f", {plural(int(threads), 'thread')}" if device.startswith("CPU") else "")


def verdict_table(kernels: Frame) -> dict[str, Any]:
    """Every measurement with its verdict, for the template."""
    rows = []
    several = len(kernels.groupby(list(PLACE))) > 1
    for row in KernelData(kernels).rows.head(SHOWN).to_dict("records"):
        rows.append(
            [
                row["optimizer"],
                *([place_words(*(row[key] for key in PLACE))] if several else []),
                WORDS.get(row["implementation"], row["implementation"]),
                row["dtype"],
                Number(f"{row['parameters']:,}"),
                Number(f"{row['tensors']:,}"),
                _figure(row["update_seconds"], 1e6),
                _figure(row["gigabytes_per_second"]),
                _figure(row["compile_seconds"]),
                _figure(row["temporary_bytes"]),
                _figure(row["state_bytes_per_parameter"]),
                verdict(row),
            ]
        )
    heads = [
        "Optimizer",
        *(["Where"] if several else []),
        "Implementation",
        "Type",
        "Parameters",
        "Tensors",
        "µs",
        "GB/s",
        "Compile s",
        "Temporary B",
        "State B/parameter",
        "Verdict",
    ]
    caption = (
        "Time is the median of windows; GB/s counts the fewest bytes that the rule must move; copy is an "
        "in-place copy over as many bytes, measured between. "
    )
    return {
        "key": "kernels",
        "title": "Kernels",
        "caption": (caption + noisy(kernels)).strip(),
        "heads": heads,
        "rows": rows,
        "file": "kernels",
    }


def render(kernels: Frame, steps: Frame, environment: Mapping[str, Any], out: Path) -> Path:
    """Write the page of a profile that belongs to no study.

    Args:
        kernels, steps: rows, as the store gives them.
        environment: what `kernels.json` holds.
        out: folder of the page.

    Returns:
        The path of `index.html`.
    """
    figures = kernel_figures(kernels, out, 0)
    best = best_paths(KernelData(kernels).rows)
    write(out / "tables" / "kernels.csv", csv(kernels.drop(columns="versions")))
    write(out / "tables" / "steps.csv", csv(steps))
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = templates.get_template("style.css").render(
        light=svg.variables(LIGHT),
        dark=svg.variables(DARK),
        dark_page=DARK_PAGE,
        fonts=svg.FONTS,
        figure_styles="",
    )
    text = templates.get_template("kernels.html.j2").render(
        headline=_headline(best),
        noise=noisy(kernels),
        facts=_facts(kernels, environment),
        figures=figures,
        tables=[t for t in (_best_table(best), _step_table(steps), verdict_table(kernels)) if t["rows"]],
        style=Markup(style),
        script=Markup((TEMPLATES / "script.js").read_text(encoding="utf-8")),
    )
    return write(out / "index.html", text)


def _headline(best: Frame) -> str:
    if best.empty:
        return "What an update costs"
    at = best[best["parameters"] == best["parameters"].max()]
    # One machine, one type, the fewest tensors: what differs for other reasons is in the table.
    first = at.iloc[0]
    for key in (*PLACE, "dtype"):
        at = at[at[key] == first[key]]
    at = at[at["tensors"] == at["tensors"].min()].sort_values("share")
    size = f"{int(at['parameters'].iloc[0]):,} parameters"
    low, high = float(at["share"].iloc[0]), float(at["share"].iloc[-1])
    if len(at) == 1:
        return f"{at['optimizer'].iloc[0]} runs at {high:.0%} of copy bandwidth at {size}"
    return f"Updates run at {low:.0%} to {high:.0%} of copy bandwidth at {size}"


def _facts(kernels: Frame, environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    measured = kernels[kernels["status"] == "measured"]
    versions = environment.get("versions", {})
    cpu = str(environment.get("device", "")).startswith("CPU")
    return [
        (f"{len(measured):,}", "measurements"),
        (str(environment.get("device", "")), str(environment.get("device_name", ""))),
        *([(str(environment.get("threads", "")), "threads inside an operation")] if cpu else []),
        (str(versions.get("tensorflow", "")), "TensorFlow"),
        (str(environment.get("created_at", ""))[:16].replace("T", " "), "UTC"),
    ]


def _best_table(best: Frame) -> dict[str, Any]:
    several = len(best.groupby(list(PLACE))) > 1
    rows = [
        [
            row["optimizer"],
            *([place_words(*(row[key] for key in PLACE))] if several else []),
            row["dtype"],
            Number(f"{row['parameters']:,}"),
            Number(f"{row['tensors']:,}"),
            row["ours"],
            Number(f"{row['share']:.0%}"),
            row["peer"] or "none",
            _figure(row["speed_up"]),
        ]
        for row in best.to_dict("records")
    ]
    heads = [
        "Optimizer",
        *(["Where"] if several else []),
        "Type",
        "Parameters",
        "Tensors",
        "Our best",
        "Of copy",
        "Fastest peer",
        "Times the peer",
    ]
    caption = "Above 1 in the last column: ours takes less time than the fastest of the others."
    return {
        "key": "best",
        "title": "Our best path",
        "caption": caption,
        "heads": heads,
        "rows": rows,
        "file": "",
    }


def _step_table(steps: Frame) -> dict[str, Any]:
    rows = [
        [
            row["workload"],
            row["optimizer"],
            row["part"],
            _figure(row["seconds"], 1e6),
            Number(f"{row['share']:.0%}"),
        ]
        for row in steps.to_dict("records")
    ]
    caption = (
        "Each part compiled by itself, less what a call costs; the step is the sum of forward and backward, "
        "update and batch."
    )
    heads = ["Workload", "Optimizer", "Part", "µs", "Of the step"]
    return {
        "key": "steps",
        "title": "A training step",
        "caption": caption,
        "heads": heads,
        "rows": rows,
        "file": "steps",
    }


def _figure(value: Any, scale: float = 1.0) -> Number:
    return Number("–" if value is None or pd.isna(value) else number(float(value) * scale))
