"""Frames in, a folder out: `index.html`, `figures/*.svg`, `tables/*.csv`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from ..figures import DARK, LIGHT, PAGE, Drawing, ReportData, catalogue
from ..figures.base import svg
from . import answer, words
from .provenance import provenance
from .tables import csv, tables

TEMPLATES = Path(__file__).parent / "templates"
DARK_PAGE = (
    "--wash:#1d2027;--line:#31353f;--accent:#9aa8ff;--amber:#f0c36a;--good-wash:#17302a;"
    "--alarm-wash:#3a2224;--amber-wash:#33291a;color-scheme:dark"
)


def render(
    cells: pd.DataFrame,
    curves: pd.DataFrame | Callable[[Sequence[str]], pd.DataFrame] | None,
    contours: pd.DataFrame | None,
    study: Mapping[str, Any],
    out: str | os.PathLike[str],
    *,
    kernels: pd.DataFrame | None = None,
    complete: bool | None = None,
    total_cells: int | None = None,
) -> Path:
    """Write the report of one study; whatever is missing from the rows is said, not invented.

    Args:
        cells, curves, contours: frames of a results folder (see DESIGN); any may be empty. Curves may also
            be a function that gets them by the cells' ids.
        study: what `study.json` holds.
        out: folder, made where it is not there; only the report's own files in it are replaced.
        kernels: the profiler's table, shown and stored as it is.
        complete: whether all cells are there; by default, whether there are `total_cells` of them.
        total_cells: cells of the whole study.

    Returns:
        The path of `index.html`.
    """
    folder = Path(out)
    data = ReportData(cells, curves, contours, study)
    frames = tables(data) | ({"kernels": kernels} if kernels is not None and len(kernels) else {})
    figures = [figure_entry(data, i, name, m, folder) for i, (name, m) in enumerate(catalogue().items())]
    from .kernels import kernel_figures  # it draws with what is defined here

    figures += kernel_figures(kernels, folder, len(figures))
    for name, frame in frames.items():
        write(folder / "tables" / f"{name}.csv", csv(frame))
    if "kernels" not in frames:  # an earlier report's table would contradict this page
        (folder / "tables" / "kernels.csv").unlink(missing_ok=True)
    page = _page(data, complete, total_cells)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = environment.get_template("style.css").render(
        light=svg.variables(LIGHT),
        dark=svg.variables(DARK),
        dark_page=DARK_PAGE,
        fonts=svg.FONTS,
        figure_styles="".join(f["style"] for f in figures),
    )
    text = environment.get_template("index.html.j2").render(
        page=page,
        style=Markup(style),
        script=Markup((TEMPLATES / "script.js").read_text(encoding="utf-8")),
        recommendations=answer.recommendations(data),
        summary=answer.summary(data),
        claims=answer.claims(data),
        figures=figures,
        rows=_paired(figures),
        provenance=provenance(data, kernels),
        tables=list(frames),
    )
    return write(folder / "index.html", text)


def _page(data: ReportData, complete: bool | None, total_cells: int | None) -> dict[str, Any]:
    partial = words.partial(len(data.cells), total_cells, complete)
    return {
        "name": str(data.study.get("name") or "study"),
        "headline": words.headline(data),
        "lede": words.lede(data),
        "facts": words.facts(data),
        "partial": partial,
        "partial_detail": (
            "What is missing is left out of every figure, never filled in; verdicts may still change."
        ),
        "recommendation_note": (
            "The optimizer and rate with the lowest expected number of steps to the workload's target. "
            "The rate was chosen on one half of the seeds and is reported on the other, both ways, so "
            "that luck in the choice does not count."
        ),
        "recommendation_caption": "Small figures are 95 % intervals: Wilson for shares, bootstrap for steps.",
        "claims_note": (
            "Each verdict is computed from this study's rows. A dot is a figure, the bar its 95 % interval, "
            "the dashed line the threshold of the claim: it holds, or does not hold, only where whole bars "
            "lie on one side."
        ),
        "no_claims": (
            "These rows have no runs that would decide what is said of gradient descent, momentum and Adam."
        ),
    }


def figure_entry(data: Any, place: int, name: str, module: ModuleType, folder: Path) -> dict[str, Any]:
    """Draw one figure, write its file, and give the template what it needs."""
    key = name.replace("_", "-")
    out: dict[str, Any] = {"key": key, "title": module.TITLE, "short": module.SHORT, "style": ""}
    path = folder / "figures" / f"{key}.svg"
    drawing: Drawing | None = module.draw(data, PAGE)
    if drawing is None:
        path.unlink(missing_ok=True)
        return out | {"panels": [], "reason": module.ABSENT, "half": False}
    bodies = [svg.body(panel.figure, f"f{place}p{i}") for i, panel in enumerate(drawing.panels)]
    write(path, svg.compose(drawing, bodies))
    panels = [Markup(svg.inline(panel, inside)) for panel, inside in zip(drawing.panels, bodies, strict=True)]
    legend = [{"before": i.before, "sign": answer.sign(i), "text": i.text} for i in drawing.legend]
    return out | {
        "title": drawing.title,
        "finding": answer.unbroken(drawing.finding),
        "caption": answer.unbroken(drawing.caption),
        "legend": legend,
        "columns": drawing.columns,
        "moving": drawing.moving,
        "half": drawing.half,
        "panels": panels[: drawing.more],
        "folded": panels[drawing.more :],
        "tables": module.TABLES,
        "style": drawing.style,
    }


def _paired(figures: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Figures in rows: two halves that follow each other share one."""
    rows: list[list[dict[str, Any]]] = []
    for figure in figures:
        before = rows[-1] if rows else []
        if figure["half"] and len(before) == 1 and before[0]["half"]:
            before.append(figure)
        else:
            rows.append([figure])
    return rows


def write(path: Path, text: str) -> Path:
    """Write a file at once: a reader sees the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    temporary.replace(path)
    return path
