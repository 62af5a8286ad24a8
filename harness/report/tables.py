"""The report's numbers as CSV: every aggregate that a figure or a sentence stands on."""

from __future__ import annotations

from ..figures import ReportData
from ..figures.base.frame import Frame

# name of the file -> what it holds
TABLES = {
    "recommendations": "the optimizer and learning rate to use per workload, with the runner-up",
    "claims": "what is commonly said, with verdicts",
    "best_rates": "every optimizer at its own best rate, per workload",
    "summary": "how many runs there are and how they ended",
    "overall": "speed-up and share of the budget spent, over workloads",
    "ranks": "mean ranks over workloads with the critical difference",
    "improvement": "probability that one optimizer beats another",
    "paired": "differences on shared seeds, per workload",
    "algoperf": "AlgoPerf's score",
    "learning_rate_curve": "final loss by learning rate",
    "sensitivity": "usable width of the learning rate",
    "steps_heatmap": "steps to the target by learning rate",
    "loss_curves": "loss by step at the recommended rates",
    "ecdf": "runtime distribution",
    "profile": "performance profile",
    "initialisation": "what the seed alone changes",
    "stability": "parameter stability",
    "generalisation": "train, validation and test metrics",
    "tunability": "expected best of k random rates",
    "divergence": "share of runs that diverge",
}
DRAWN = "figures"  # what a claim's picture is drawn from; its numbers are in the evidence too


def tables(data: ReportData) -> dict[str, Frame]:
    """Table name -> frame, in the order of `TABLES`."""
    return {name: getattr(data, name).drop(columns=DRAWN, errors="ignore") for name in TABLES}


def csv(frame: Frame) -> str:
    """A frame as CSV: floats in full, `inf` where something never happened, empty where it is unknown."""
    return frame.to_csv(index=False, lineterminator="\n")
