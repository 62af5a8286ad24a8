"""From measured rounds to ratios, and from ratios to a Markdown table and the README."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pandas as pd

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
QUARTILES = (0.25, 0.5, 0.75)
OURS = {"optgrid", "metrics"}  # sides; the second is this project as studies run it, metrics and all


def ratios(rounds: pd.DataFrame) -> pd.DataFrame:
    """How many times faster this project is, per work and peer: quartiles over rounds.

    Args:
        rounds: a row per work, side and round with `seconds`, `evaluate_seconds` and `cell_steps`.

    Returns:
        work, peer, n (rounds), low, ratio (median), high: cell-steps per second of training, this project's
        over the peer's in the same round; `with_metrics`: the median where this project also takes the
        metrics that its studies record, which no peer does; NaN where a work has none.
    """
    keyed = rounds.set_index(["work", "side", "round"])
    speed = (keyed["cell_steps"] / keyed["seconds"]).unstack("side")
    whole = (keyed["cell_steps"] / (keyed["seconds"] + keyed["evaluate_seconds"])).unstack("side")
    rows = []
    no_metrics = pd.Series(np.nan, whole.index)
    for work in rounds["work"].unique():
        for peer in [side for side in rounds["side"].unique() if side not in OURS]:
            if peer not in speed or speed.loc[work, peer].isna().all():
                continue
            each = (speed.loc[work, "optgrid"] / speed.loc[work, peer]).dropna()
            low, middle, high = each.quantile(QUARTILES)
            counted = (whole.get("metrics", no_metrics).loc[work] / speed.loc[work, peer]).median()
            rows.append((work, peer, len(each), low, middle, high, counted))
    return pd.DataFrame(rows, columns=["work", "peer", "n", "low", "ratio", "high", "with_metrics"])


def times(value: float) -> str:
    """`2.6 ×`, `0.31 ×`, `12,000 ×`: two or three digits."""
    if not np.isfinite(value):
        return "–"
    digits = max(0, 1 - int(np.floor(np.log10(abs(value))))) if value else 0
    rounded = round(value, digits if value < 100 else -int(np.floor(np.log10(value))) + 1)
    return f"{rounded:,.{digits}f} ×"


def spread(low: float, high: float) -> str:
    """` (2.4 to 2.8)`."""
    return f" ({times(low).removesuffix(' ×')} to {times(high).removesuffix(' ×')})"


def work_table(
    rounds: pd.DataFrame, prepared: pd.DataFrame, bounds: pd.DataFrame, compiles: pd.DataFrame | None
) -> str:
    """A row per work: ratios to each peer with quartiles, share of the bound, compile time, end to end."""
    found = ratios(rounds).set_index(["work", "peer"])
    titles = prepared.drop_duplicates("work").set_index("work")["title"]
    training = rounds[rounds["side"] == "optgrid"].groupby("work")["seconds"].median()
    lines = [
        "| work | cell-steps/s | JAX | JAX, our metrics included | Keras, a trial at a time | eager loop "
        "| of the bound | compile | JAX, compile included |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    speed = rounds[rounds["side"] == "optgrid"].assign(v=lambda f: f["cell_steps"] / f["seconds"])
    for work, title in titles.items():
        cells = [str(title), f"{speed.loc[speed['work'] == work, 'v'].median():.2g}"]
        for peer in ("jax", "keras", "eager"):
            known = (work, peer) in found.index
            row = found.loc[(work, peer)] if known else None
            text = "–" if row is None else times(row["ratio"]) + spread(row["low"], row["high"])
            if peer == "jax":
                text += _convolved(prepared, work, training.get(work, np.nan))
            cells.append(
                f"**{text.partition(' (')[0]}** ({text.partition(' (')[2]}" if peer == "jax" else text
            )
            if peer == "jax":
                cells.append(times(row["with_metrics"]) if row is not None else "–")
        bound = bounds[bounds["work"] == work]
        cells.append("–" if bound.empty else f"{bound['share'].iloc[0]:.0%} of {bound['bound'].iloc[0]}")
        cells += _compiled(compiles, str(work))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _compiled(compiles: pd.DataFrame | None, work: str) -> tuple[str, str]:
    """What compiling takes, as medians and as a share of JAX's with its quartiles; and JAX's time over this
    project's for compiling and the first run."""
    if compiles is None:
        return "–", "–"
    of_work = compiles[compiles["work"] == work].assign(whole=lambda f: f["seconds"] + f["run_seconds"])
    by_side = of_work.pivot(index="repeat", columns="side", values=["seconds", "whole"])
    ours, jax = (by_side["seconds"][side] for side in ("optgrid", "jax"))
    low, middle, high = (ours / jax).quantile(QUARTILES)
    text = f"{ours.median():.1f} s, JAX {jax.median():.1f} s: {times(middle)}{spread(low, high)}"
    low, middle, high = (by_side["whole"]["jax"] / by_side["whole"]["optgrid"]).quantile(QUARTILES)
    return text, times(middle) + spread(low, high)


def _convolved(prepared: pd.DataFrame, work: str, ours: float) -> str:
    """How many times faster than JAX where it convolves as libraries of layers do; empty for other works.

    Args:
        ours: seconds of this project's run.
    """
    tried = prepared[(prepared["work"] == work) & (prepared["side"] == "jax")]["tried"]
    seconds = [s for text in tried for name, s in ast.literal_eval(text).items() if name.startswith("conv,")]
    return f"; {times(min(seconds) / ours)} with `lax.conv`" if seconds else ""


def shell_table(shell: pd.DataFrame) -> str:
    """The grid from the shell: seconds, and how many times this project's with a cold cache."""
    typical = shell.groupby("side", sort=False)["seconds"].median()
    ours = typical.get("optgrid, cold cache", np.nan)
    lines = ["| 270 cells from the shell, rows written | seconds | of optgrid's, cold |", "|---|---|---|"]
    for side, seconds in typical.items():
        part = shell[shell["side"] == side]
        scaled = f" (measured on {part['cells'].iloc[0]} trials and scaled)" if part["scaled"].any() else ""
        lines.append(f"| {side}{scaled} | {seconds:.0f} | {times(seconds / ours)} |")
    return "\n".join(lines)


def page(folder: Path) -> str:
    """All tables of a results folder, as Markdown.

    Raises:
        FileNotFoundError: nothing has been measured into the folder.
    """
    rounds = pd.read_parquet(folder / "rounds.parquet")
    prepared, bounds = (pd.read_parquet(folder / f"{name}.parquet") for name in ("prepared", "bounds"))
    compiles = folder / "compiles.parquet"  # only where JAX was a peer
    known = pd.read_parquet(compiles) if compiles.is_file() else None
    parts = [work_table(rounds, prepared, bounds, known)]
    if (folder / "shell.parquet").is_file():
        parts.append(shell_table(pd.read_parquet(folder / "shell.parquet")))
    return "\n\n".join(parts)


def write_readme(readme: Path, text: str) -> None:
    """Puts `text` between the README's markers.

    Raises:
        SystemExit: the README has no markers.
    """
    old = readme.read_text(encoding="utf-8")
    if BEGIN not in old or END not in old:
        raise SystemExit(f"{readme} has no '{BEGIN}' … '{END}' to write the table between")
    before, after = old.partition(BEGIN)[0], old.partition(END)[2]
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
