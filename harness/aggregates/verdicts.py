"""How a claim is decided: parts with intervals and thresholds, and how they make a verdict."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..metrics.bootstrap import CONFIDENCE
from ..metrics.levels import Estimate
from ..metrics.paired import ENOUGH_PAIRS
from ..sentences import plural
from .words import share

Verdict = Literal["holds", "does not hold", "undecided"]


@dataclass(frozen=True)
class Part:
    """One figure of a claim, and on which side of its threshold the claim says that it is.

    Attributes:
        estimate: the figure and its interval.
        threshold: the claim says that the figure is above it.
        says: a clause with {value} and {span} in it.
        show: how the figure is written.
        confidence: of the interval.
    """

    estimate: Estimate
    threshold: float
    says: str
    show: Callable[[float], str] = share
    confidence: float = CONFIDENCE

    @property
    def verdict(self) -> Verdict:
        """See the module's rule."""
        low, high = self.estimate.low, self.estimate.high
        if self.estimate.n < ENOUGH_PAIRS or np.isnan(low) or np.isnan(high):
            return "undecided"
        return "holds" if low > self.threshold else "does not hold" if high < self.threshold else "undecided"

    @property
    def sentence(self) -> str:
        """The clause with its figures, or why there are none."""
        e = self.estimate
        if e.n == 0:
            return "nothing to compare: no workload has the runs that this needs"
        level = f"{100 * self.confidence:.3g} % interval"
        span = f"({level} {self.show(e.low)} to {self.show(e.high)})" if e.n > 1 else "(no interval)"
        few = f"; only {plural(e.n, 'run')}, {ENOUGH_PAIRS} are needed" if e.n < ENOUGH_PAIRS else ""
        return self.says.format(value=self.show(e.value), span=span) + few

    def figure(self, where: str = "") -> dict[str, Any]:
        """What a picture of it needs; figures that are not known are null."""
        e = self.estimate
        value, low, high = (float(v) if np.isfinite(v) else None for v in (e.value, e.low, e.high))
        return {
            "where": where,
            "sentence": self.sentence,
            "verdict": self.verdict,
            "value": value,
            "low": low,
            "high": high,
            "threshold": self.threshold,
            "at_threshold": self.show(self.threshold),
            "share": self.show is share,
        }


@dataclass(frozen=True)
class Claim:
    """A claim with what decides it; `figures` is JSON: `lead`, `parts` (see `Part.figure`) and `more`."""

    name: str
    statement: str
    verdict: Verdict
    evidence: str
    n: int = 0
    workloads: int = 0
    figures: str = ""


def all_of(name: str, statement: str, parts: Sequence[Part], more: str = "") -> Claim:
    """A claim that holds where all parts hold."""
    verdicts = [part.verdict for part in parts]
    verdict: Verdict = "undecided"
    if "does not hold" in verdicts:
        verdict = "does not hold"
    elif all(v == "holds" for v in verdicts):
        verdict = "holds"
    evidence = "; ".join(part.sentence for part in parts) + (f"; {more}" if more else "")
    n, workloads = (max(getattr(p.estimate, k) for p in parts) for k in ("n", "workloads"))
    figures = _json("", [part.figure() for part in parts], more)
    return Claim(name, statement, verdict, evidence[0].upper() + evidence[1:] + ".", n, workloads, figures)


def any_of(name: str, statement: str, workloads: Sequence[str], parts: Sequence[Part], nothing: str) -> Claim:
    """A claim that holds where the part of one workload holds; `nothing` says why there are no parts."""
    if not parts:
        return Claim(name, statement, "undecided", nothing)
    verdicts = [part.verdict for part in parts]
    verdict: Verdict = "undecided"
    if "holds" in verdicts:
        verdict = "holds"
    elif all(v == "does not hold" for v in verdicts):
        verdict = "does not hold"
    ranked = sorted(
        zip(verdicts, workloads, parts, strict=True), key=lambda v: (v[0] != "holds", -_excess(v[2]), v[1])
    )
    told = "; ".join(f"{w}: {part.sentence}" for _, w, part in ranked[:3])
    lead = f"Resolved on {verdicts.count('holds')} of {plural(len(parts), 'workload')}."
    n = sum(p.estimate.n for p in parts)
    figures = _json(lead, [part.figure(w) for _, w, part in ranked[:3]], "")
    return Claim(name, statement, verdict, f"{lead} {told}.", n, len(parts), figures)


def _json(lead: str, parts: list[dict[str, Any]], more: str) -> str:
    return json.dumps({"lead": lead, "parts": parts, "more": more})


def _excess(part: Part) -> float:
    return float(np.nan_to_num(part.estimate.value - part.threshold, nan=-np.inf))
