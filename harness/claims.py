"""What is commonly said of gradient descent, momentum and Adam, decided from the rows of a study.

How a claim is decided. Each has one or more parts; a part is a figure with a 95 % interval and a threshold.

- A part *holds* where its interval lies entirely on the claim's side of the threshold, *does not hold* where
  it lies entirely on the other side, and is *undecided* otherwise, or where there are fewer than 6 runs (or
  pairs of runs).
- A claim about optimizers in general is a conjunction: it holds where all parts hold, does not hold where
  one does not, and is undecided otherwise. Its figures are means over workloads, resampled over seeds and
  over workloads (`metrics.levels`).
- A claim that something happens on *some* problems holds where the part of one workload holds, and does not
  hold where none does and every one is decided against it; with m workloads, intervals are 1 - 0.05 / m wide.

Runs are compared on shared seeds, each optimizer at the rate that the other half of the seeds chose. Runs
that miss or diverge are data: they lose. Several variants of an optimizer: its default speaks for it, or,
where that was not run, the variant with the best mean rank. A study without the optimizers, workloads or
seeds that a claim needs leaves it undecided, and the evidence says what was missing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from .aggregates.evidence import Evidence, much_slower
from .aggregates.grid import Array, Cells, generator_of
from .aggregates.runs import generalisation_gap
from .aggregates.verdicts import Claim, Part, all_of, any_of
from .aggregates.words import number, share
from .metrics.bootstrap import CONFIDENCE, percentile_interval
from .metrics.levels import Estimate, contrast, pooled
from .metrics.order import mean, median
from .metrics.paired import median_difference
from .metrics.profiles import speed_up
from .metrics.success import expected_running_time
from .sentences import plural

GD, MOMENTUM, ADAM = "gradient_descent", "momentum", "adam"
EITHER = f"{GD} or {MOMENTUM}"
DEFAULT_RATE = 1e-3  # Adam's, in its paper and in the libraries
ROUNDING = 1e-6  # of a loss in single precision, and more
SMALL = 0.1  # a small rate is at most this share of the recommended one
CONVERGES = 0.9  # share of runs that has to stay stable for "converges"
WELL, ILL = 10.0, 100.0  # ratio of curvatures: at most, at least
STATEMENTS = {
    "gradient_descent_slow": "Gradient descent converges at small rates, but slowly.",
    "momentum_faster": "Momentum is faster than gradient descent.",
    "momentum_steadier": "Momentum is steadier, and gains most where curvatures differ.",
    "adam_fast": "Adam converges fast.",
    "adam_tolerant": "Adam tolerates larger learning rates, and a wider range of them.",
    "trajectories": "Momentum's paths are smooth, gradient descent's oscillate, Adam's are irregular.",
    "adam_generalises_worse": "Adam may generalise worse.",
    "adam_needs_tuning": "Adam needs tuning on some problems.",
}
COLUMNS = ["claim", "statement", "verdict", "evidence", "n", "workloads", "figures"]
General = tuple[list[Part], str]  # the parts, and what is told beside them
Some = tuple[list[str], list[Part]]  # workloads, and the part of each


def claims(
    cells: Cells,
    curves: pd.DataFrame | None = None,
    *,
    generator: np.random.Generator | None = None,
) -> pd.DataFrame:
    """The eight claims with their verdicts and figures; the module says how they are decided.

    Args:
        cells: the cells frame.
        curves: the curves frame, for figures told beside the evidence; no verdict depends on it.
        generator: where resamples come from; default: seeded with 0.

    Returns:
        claim, statement, verdict (holds, does not hold, undecided), evidence (a sentence with figures and
        intervals), n (runs or pairs of runs), workloads (number), figures (JSON of what decided it, to draw;
        empty where nothing did).
    """
    e = Evidence(cells, generator_of(generator))
    general: dict[str, tuple[list[str], Callable[[], General]]] = {
        "gradient_descent_slow": ([GD], lambda: _gradient_descent_slow(e)),
        "momentum_faster": ([MOMENTUM, GD], lambda: _momentum_faster(e)),
        "momentum_steadier": ([MOMENTUM, GD], lambda: _momentum_steadier(e)),
        "adam_fast": ([ADAM, "any"], lambda: _adam_fast(e)),
        "adam_tolerant": ([ADAM, EITHER], lambda: _adam_tolerant(e)),
        "trajectories": ([GD, MOMENTUM, ADAM], lambda: _trajectories(e, curves)),
    }
    some: dict[str, tuple[list[str], Callable[[], Some], str]] = {
        "adam_generalises_worse": (
            [ADAM, EITHER],
            lambda: _adam_generalises_worse(e),
            "No workload has a test loss for Adam and for the others on shared seeds.",
        ),
        "adam_needs_tuning": ([ADAM], lambda: _adam_needs_tuning(e), "No workload was run with Adam."),
    }
    found = [
        _missing(e, name, needs) or all_of(name, STATEMENTS[name], *decide())
        for name, (needs, decide) in general.items()
    ]
    found += [
        _missing(e, name, needs) or any_of(name, STATEMENTS[name], *decide(), nothing)
        for name, (needs, decide, nothing) in some.items()
    ]
    rows = [(c.name, c.statement, c.verdict, c.evidence, c.n, c.workloads, c.figures) for c in found]
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def _missing(e: Evidence, name: str, needs: list[str]) -> Claim | None:
    """An undecided claim where the study lacks an optimizer; "any" is any other than Adam."""
    ran = set(e.spokesmen)
    for need in needs:
        if need == "any" and not ran - {ADAM}:
            return Claim(
                name, STATEMENTS[name], "undecided", f"The study ran no other optimizer than {ADAM}."
            )
        if need != "any" and not ran & set(need.split(" or ")):
            return Claim(name, STATEMENTS[name], "undecided", f"The study did not run {need}.")
    return None


def _gradient_descent_slow(e: Evidence) -> General:
    """At small rates: runs do not diverge and their loss falls; they take over twice the steps."""
    g, (_, (own,)) = e.g, e.places(GD)
    best = np.take_along_axis(g.rates[own], np.maximum(g.choice.per_seed[own], 0), 1)
    small = g.rates[own][:, :, None] <= SMALL * (1 + 1e-9) * best[:, None, :]
    # The two are computed by different programs, which may round the same loss another way.
    initial = g.take("initial_loss")
    stable = (g.take("lost") == 0) & (g.take("best_loss") < initial - ROUNDING * np.abs(initial))
    stable = np.where(g.rows >= 0, stable.astype(float), np.nan)[own]
    steps, gap = g.take("reached")[own], g.take("gap")[own]
    at_best = [g.held_out(c)[own][:, None, :] for c in ("reached", "gap")]
    slow = much_slower(steps, gap, at_best[0], at_best[1])

    def over_small(values: Array) -> Estimate:
        per_seed = mean(np.where(small, values, np.nan).swapaxes(1, 2))
        return pooled(per_seed, e.generator)

    calm = "at a tenth of the recommended rate or less, {value} of runs stay stable and gain {span}"
    calm += f", where {share(CONVERGES)} is asked for"
    slower = "{value} of them take over twice the steps of the recommended rate {span}"
    return [Part(over_small(stable), CONVERGES, calm), Part(over_small(slow), 0.5, slower)], ""


def _momentum_faster(e: Evidence) -> General:
    says = "momentum beats gradient descent to the target on {value} of shared seeds {span}"
    return [Part(e.beats(MOMENTUM, GD), 0.5, says)], _speed(e, MOMENTUM, GD)


def _speed(e: Evidence, one: str, other: str) -> str:
    """How many times fewer steps one needs, over the workloads that both hit."""
    _, (i, j) = e.places(one, other)
    times = expected_running_time(e.g.held_out("reached"), e.g.held_out("budget"))
    ratio, n = speed_up(times[j], times[i])
    if not n:
        return "on no workload do both hit the target"
    return f"its speed-up in expected steps is {number(ratio)} over the {plural(n, 'workload')} that both hit"


def _momentum_steadier(e: Evidence) -> General:
    """It turns back less often; its speed-up on ill-conditioned problems is above that on others."""
    shared, gains = e.speed_gains(MOMENTUM, GD)
    ratio = np.array([e.curvature(w) for w in shared])
    ill, well = ratio >= ILL, ratio <= WELL
    steadier = "on {value} of shared seeds momentum turns back less often than gradient descent {span}"
    gain = "its speed-up is {value} times larger where curvatures differ than where not {span}"
    parts = [
        Part(e.lower("turn_backs", MOMENTUM, GD), 0.5, steadier),
        Part(contrast(gains[ill], gains[well], e.generator), 0.0, gain, lambda v: number(2.0**v)),
    ]
    if not ill.any() or not well.any():
        return parts, f"it takes workloads with curvature ratios up to {number(WELL)} and from {number(ILL)}"
    back = e.at_recommended("turn_backs")
    _, (i, j) = e.places(MOMENTUM, GD)
    calmer = mean(back[j]) - mean(back[i])
    return parts, (
        f"momentum turns back on {_more_or_fewer(calmer[ill])} of the steps than gradient descent where they "
        f"differ ({plural(int(ill.sum()), 'workload')} with a ratio of curvatures of {number(ILL)} or more), "
        f"on {_more_or_fewer(calmer[well])} where not ({int(well.sum())} with {number(WELL)} or less)"
    )


def _more_or_fewer(fewer: Array) -> str:
    """`12 % fewer`, `3 % more`: the mean over workloads."""
    known = fewer[~np.isnan(fewer)]
    mean_of = float(known.mean()) if known.size else float("nan")
    return f"{share(abs(mean_of))} {'more' if mean_of < 0 else 'fewer'}"


def _adam_fast(e: Evidence) -> General:
    says = "on {value} of seeds Adam takes at most twice the steps of the best of all other optimizers {span}"
    more = [f"against {o}, {_speed(e, ADAM, o)}" for o in (GD, MOMENTUM) if o in e.spokesmen]
    return [Part(e.within_twice_best_other(ADAM), 0.5, says)], "; ".join(more)


def _adam_tolerant(e: Evidence) -> General:
    others = [o for o in (GD, MOMENTUM) if o in e.spokesmen]
    named = " and ".join(others)
    wider = f"Adam's usable rates are wider than the widest of {named} by {{value}} decades {{span}}"
    larger = f"its highest stable rate is above that of {named} by {{value}} decades {{span}}"
    return [
        Part(e.widths(ADAM, others), 0.0, wider, number),
        Part(e.stable_rates(ADAM, others), 0.0, larger, number),
    ], ""


def _trajectories(e: Evidence, curves: pd.DataFrame | None) -> General:
    smooth = "momentum turns back less often than gradient descent on {value} of shared seeds {span}"
    swings = "gradient descent turns back more often than Adam on {value} {span}"
    wanders = "Adam's path is less straight than momentum's on {value} {span}"
    parts = [
        Part(e.lower("turn_backs", MOMENTUM, GD), 0.5, smooth),
        Part(e.lower("turn_backs", ADAM, GD), 0.5, swings),
        Part(e.lower("straightness", ADAM, MOMENTUM), 0.5, wanders),
    ]
    tails = {o: e.at_recommended("tail_std")[e.places(o)[1][0]] for o in (GD, MOMENTUM, ADAM)}
    known = {o: v[~np.isnan(v)] for o, v in tails.items()}
    told = ", ".join(f"{o} {number(float(np.median(v)))}" for o, v in known.items() if v.size)
    more = [f"median spread of the parameters over the last tenth: {told}"] if told else []
    return parts, "; ".join([*more, *_rises(e, curves)])


def _rises(e: Evidence, curves: pd.DataFrame | None) -> list[str]:
    """How often the recorded loss rises from one point to the next, at the recommended rates."""
    if curves is None or "cell_id" not in curves or "loss" not in curves:
        return []
    losses = pd.Series(curves["loss"].to_numpy(), index=curves["cell_id"].to_numpy())
    ids, rows = e.g.frame["cell_id"].to_numpy(), e.g.rows_at(e.g.choice)
    told = []
    for name in (GD, MOMENTUM, ADAM):
        at = rows[e.places(name)[1][0]].ravel()
        runs = losses[losses.index.isin(ids[at[at >= 0]])]
        steps = [np.diff(np.asarray(run, float)) > 0 for run in runs if run is not None and len(run) > 1]
        if steps:
            told.append(f"{name} {share(float(np.mean([s.mean() for s in steps])))}")
    return [f"recorded losses rise at a share of points: {', '.join(told)}"] if told else []


def _adam_generalises_worse(e: Evidence) -> Some:
    """Per workload: Adam's test loss less that of the better of gradient descent and momentum."""
    others = [e.spokesmen[o] for o in (GD, MOMENTUM) if o in e.spokesmen]
    columns = ["metric:test_loss", "metric:train_loss", "metric:test_accuracy"]
    compared = {}
    for w in e.places(ADAM)[0]:
        mine = e.best_of(w, [e.spokesmen[ADAM]], True, columns)
        theirs = e.best_of(w, others, True, columns)
        if (~np.isnan(mine[0]) & ~np.isnan(theirs[0])).any():
            compared[w] = (mine, theirs)
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(compared))
    parts = []
    for mine, theirs in compared.values():
        found = median_difference(mine[0], theirs[0], e.generator, confidence=confidence)
        n = int((~np.isnan(mine[0]) & ~np.isnan(theirs[0])).sum())
        says = "Adam's test loss minus that of the best of the others has the median {value} {span}"
        gaps = [generalisation_gap(v[0], v[1]) for v in (mine, theirs)]
        says += _beside("gap of test to train loss", *gaps) + _beside("test accuracy", mine[2], theirs[2])
        value, low, high = (float(v) for v in found)
        parts.append(Part(Estimate(value, low, high, n, 1), 0.0, says, number, confidence))
    return list(compared), parts


def _beside(label: str, mine: Array, theirs: Array) -> str:
    one, other = float(median(mine)), float(median(theirs))
    return "" if np.isnan(one) or np.isnan(other) else f", {label} {number(one)} against {number(other)}"


def _adam_needs_tuning(e: Evidence) -> Some:
    """Per workload: the share of the rates in Adam's own grid that are not usable."""
    workloads, own, usable, drawn = e.usable(ADAM)
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(workloads))
    low, high = percentile_interval(drawn, confidence)
    parts = []
    for k, p in enumerate(own):
        n, count = int(e.runs[p]), int(e.g.count[p])
        says = "{value} of the rates in its grid miss the target and end over 2 x above its best {span}"
        default = np.flatnonzero(np.isclose(e.g.rates[p], DEFAULT_RATE, rtol=0.1))
        if default.size:
            works = "among" if usable[k, default[0]] else "not among"
            says += f", its default {number(DEFAULT_RATE)} is {works} those that work"
        idle = Estimate(1 - usable[k].sum() / count, 1 - high[k] / count, 1 - low[k] / count, n, 1)
        parts.append(Part(idle, 0.5, says, share, confidence))
    return workloads, parts
