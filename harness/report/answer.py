"""The answer's tables as the template wants them: recommendations, the summary over workloads, claims."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from ..aggregates.words import why
from ..figures import PAGE, Item, ReportData
from ..figures.base.axes import number, percent
from ..figures.base.data import plural
from ..figures.base.frame import Frame
from ..figures.base.svg import swatch

_TONES = {"holds": ("good", "✓"), "does not hold": ("bad", "✗"), "undecided": ("open", "?")}


def sign(item: Item) -> Markup:
    """A legend's sign as inline SVG; the text beside it says what it is."""
    inside, width = swatch(item)
    return Markup(f'<svg viewBox="0 0 {width:g} 12" aria-hidden="true">{inside}</svg>')


def optimizer_sign(data: ReportData, optimizer: str) -> Markup:
    """The optimizer's line and marker."""
    look = data.looks.get(optimizer)
    if look is None:
        return Markup("")
    return sign(Item(optimizer, "look", look.colour(PAGE), look.marker, look.dash))


def unbroken(text: str) -> str:
    """No line may break between a figure and its percent sign."""
    return str(text).replace(" %", "\u00a0%")


def between(low: float, high: float, share: bool = False) -> str:
    """`80–95 %`, `120–340`; empty where there is no interval."""
    if low is None or high is None or np.isnan(low) or np.isnan(high):
        return ""
    if share:
        return f"{100 * low:.0f}–{percent(high)}"
    return f"{number(low)}–{number(high)}"


def meter(value: float, low: float, high: float) -> Markup:
    """A bar of a share with its interval as a line over it."""
    if np.isnan(value):
        return Markup("")
    text = f"{100 * value:.0f} percent, interval {100 * low:.0f} to {100 * high:.0f}"
    return Markup(
        f'<svg class="meter" viewBox="0 0 84 7" role="img" aria-label="{text}">'
        '<rect width="84" height="7" rx="3.5" fill="var(--faint)"/>'
        f'<rect width="{84 * value:.1f}" height="7" rx="3.5" fill="var(--good)"/>'
        f'<path d="M{84 * low:.1f} 3.5H{84 * high:.1f}" stroke="var(--ink)" stroke-width="1.6"/></svg>'
    )


def recommendations(data: ReportData) -> list[dict[str, Any]]:
    """One entry per workload, in the study's order."""
    return [_recommendation(data, row) for row in data.recommendations.to_dict("records")]


def _recommendation(data: ReportData, row: Mapping[str, Any]) -> dict[str, Any]:
    out = {
        "workload": row["workload"],
        "workload_short": data.short(row["workload"], 80),
        "optimizer": "",
        "why": unbroken(why(row, beside=True)),
    }
    if np.isnan(row["learning_rate"]):
        return out
    hits = round(row["success"] * row["n"])
    reached = np.isfinite(row["steps_to_target"])
    verdict, tone = "no other optimizer", "open"
    if row["runner_up"]:
        verdict, tone = ("resolved", "good") if row["resolved"] else ("not resolved", "open")
    return out | {
        "optimizer": row["optimizer"],
        "optimizer_short": data.short_optimizers[row["optimizer"]],
        "swatch": optimizer_sign(data, row["optimizer"]),
        "rate": number(row["learning_rate"]),
        "rate_value": row["learning_rate"],
        "success": f"{hits} of {row['n']}",
        "success_value": row["success"],
        "success_range": between(row["success_low"], row["success_high"], share=True),
        "meter": meter(row["success"], row["success_low"], row["success_high"]),
        "steps": number(row["steps_to_target"]) if reached else "most miss",
        "steps_value": row["steps_to_target"] if reached else "",
        "steps_range": between(row["steps_low"], row["steps_high"]) if reached else "",
        "runner": row["runner_up"],
        "runner_short": data.short_optimizers.get(row["runner_up"], ""),
        "runner_swatch": optimizer_sign(data, row["runner_up"]),
        "verdict": verdict,
        "tone": tone,
    }


def summary(data: ReportData) -> dict[str, Any] | None:
    """A row per optimizer over all workloads, best mean rank first; None with fewer than two optimizers."""
    if len(data.optimizers) < 2:
        return None
    ranks = data.ranks.set_index("optimizer")
    order = sorted(data.optimizers, key=lambda o: (_get(ranks, o, "value", np.inf), data.optimizers.index(o)))
    wins = data.recommendations
    wins = wins[np.isfinite(wins.steps_to_target)]
    overall = {m: part.set_index("optimizer") for m, part in data.overall.groupby("measure")}
    speed, spent = overall.get("speed_up", pd.DataFrame()), overall.get("budget_share", pd.DataFrame())
    score = data.algoperf.set_index("optimizer")
    width = data.sensitivity.groupby("optimizer").value.median()
    reference = next(iter(speed.reference), "") if len(speed) else ""
    rows = []
    for o in order:
        mine = wins[wins.optimizer == o]
        resolved = int(mine.resolved.sum())
        lead = f"{resolved} resolved" if len(mine) else ""
        cells = [
            {"text": f"{len(mine)}", "range": lead, "sort": len(mine)},
            _cell(ranks, o, digits=3),
            _cell(spent, o, share=True),
            _cell(speed, o, times=True)
            if o != reference
            else {"text": "1 ×", "range": "reference", "sort": 1},
            _cell(score, o, digits=2),
            {
                "text": number(float(width.get(o, np.nan)), 2),
                "range": "",
                "sort": float(width.get(o, np.nan)),
            },
        ]
        rows.append(
            {
                "optimizer": o,
                "short": data.short_optimizers[o],
                "swatch": optimizer_sign(data, o),
                "cells": cells,
            }
        )
    heads = [
        "Optimizer",
        "First on",
        "Mean rank",
        "Budget spent",
        "Speed-up",
        "AlgoPerf score",
        "Usable decades",
    ]
    critical = float(data.ranks.critical_difference.iloc[0]) if len(data.ranks) else np.nan
    caption = (
        "First on: workloads with the fewest expected steps. Mean rank: 1 is best"
        + (
            f"; ranks closer than {number(critical)} cannot be told apart (Friedman, Nemenyi)"
            if np.isfinite(critical)
            else ""
        )
        + ". Budget spent: interquartile mean over all seeds and workloads, a miss is 100 %. Speed-up: "
        f"geometric mean of expected steps against {reference or 'the first optimizer'}, where both reach "
        "the target. AlgoPerf score: 0 to 1. Usable decades: median width of the learning rates that "
        "work. Small figures are 95 % intervals."
    )
    return {"heads": heads, "rows": rows, "caption": caption}


def _get(frame: Frame, optimizer: str, column: str, default: float = np.nan) -> float:
    if optimizer not in frame.index:
        return default
    value = float(frame.loc[optimizer, column])  # type: ignore[arg-type]
    return default if np.isnan(value) else value


def _cell(
    frame: Frame, optimizer: str, digits: int = 3, share: bool = False, times: bool = False
) -> dict[str, Any]:
    value, low, high = (_get(frame, optimizer, c) for c in ("value", "low", "high"))
    if np.isnan(value):
        return {"text": "–", "range": "", "sort": ""}
    if share:
        return {"text": percent(value), "range": between(low, high, share=True), "sort": value}
    text = number(value, digits) + (" ×" if times else "")
    return {"text": text, "range": between(low, high), "sort": value}


def claims(data: ReportData) -> list[dict[str, Any]]:
    """One entry per claim, as decided from the rows; none where the rows say nothing about any of them."""
    out = []
    if not data.claims.n.any():
        return out
    for row in data.claims.to_dict("records"):
        tone, mark = _TONES.get(row["verdict"], ("open", "?"))
        row["evidence"] = unbroken(row["evidence"])
        drawn = json.loads(row["figures"]) if row.get("figures") else {"lead": "", "parts": [], "more": ""}
        parts = [
            {"where": data.short(p["where"], 60), "text": _sentence(p["sentence"]), "strip": strip(p)}
            for p in drawn["parts"]
        ]
        more = [_sentence(part) for part in drawn["more"].split("; ") if part]
        based = ""
        if row.get("n"):
            based = f"{plural(int(row['n']), 'run')} on {plural(int(row['workloads']), 'workload')}"
        told = {"lead": drawn["lead"], "parts": parts, "more": more, "based": based}
        out.append({**row, "tone": tone, "sign": mark, **told})
    return out


def _sentence(clause: str) -> str:
    return unbroken(clause[:1].upper() + clause[1:].rstrip(".") + ".")


def strip(part: Mapping[str, Any]) -> Markup:
    """A claim's figure drawn: a dot with its interval, on which side of the threshold it should lie."""
    value, low, high, threshold = (part[k] for k in ("value", "low", "high", "threshold"))
    if value is None or low is None or high is None:
        return Markup("")
    left, right = (0.0, 1.0) if part["share"] else (min(low, threshold), max(high, threshold))
    pad = 0.0 if part["share"] else 0.12 * ((right - left) or 1.0)
    place = {
        k: 100 * (v - left + pad) / (right - left + 2 * pad)
        for k, v in {"value": value, "low": low, "high": high, "threshold": threshold}.items()
    }
    tone = {"good": "good", "bad": "alarm", "open": "amber"}[_TONES[part["verdict"]][0]]
    at = place["threshold"]
    side = "end" if at > 60 else "start"
    shift = -5 if side == "end" else 5
    return Markup(
        '<svg class="strip" aria-hidden="true">'
        f'<rect x="{at:.1f}%" y="14" width="{100 - at:.1f}%" height="10" fill="var(--good-wash)"/>'
        '<line x1="0" x2="100%" y1="19" y2="19" stroke="var(--line)"/>'
        f'<line x1="{at:.1f}%" x2="{at:.1f}%" y1="4" y2="26" stroke="var(--muted)" stroke-dasharray="2 2"/>'
        f'<text x="{at:.1f}%" dx="{shift}" y="10" text-anchor="{side}">claimed: above '
        f"{escape(unbroken(part['at_threshold']))}</text>"
        f'<line x1="{place["low"]:.1f}%" x2="{place["high"]:.1f}%" y1="19" y2="19" '
        f'stroke="var(--{tone})" stroke-width="4" stroke-linecap="round" opacity=".55"/>'
        f'<circle cx="{place["value"]:.1f}%" cy="19" r="4.5" fill="var(--{tone})"/></svg>'
    )
