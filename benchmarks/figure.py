"""The comparison as a picture: how many times faster than each peer, per work."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.tables import ratios, times

NAMES = {
    "jax": "JAX vmap + scan + Optax",
    "keras": "Keras, a trial at a time",
    "eager": "eager Core-API loop",
}
COLOURS = {"jax": "#3b5bdb", "keras": "#e8590c", "eager": "#868e96"}
MARKERS = {"jax": "o", "keras": "s", "eager": "D"}


def draw(rounds: pd.DataFrame, titles: dict[str, str], path: Path) -> None:
    """Writes an SVG: a row per work, a point per peer (median over rounds, quartiles as a line).

    Args:
        rounds: as `tables.ratios` takes them.
        titles: of the works.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    matplotlib.rcParams["svg.fonttype"] = "none"
    import seaborn as sns

    found = ratios(rounds)
    works = list(dict.fromkeys(found["work"]))
    found = found.assign(peer=found["peer"].map(NAMES), work=found["work"].map(titles))
    with sns.axes_style("whitegrid", {"grid.color": "#e9ecef", "axes.edgecolor": "#ced4da"}):
        figure = Figure(figsize=(9.5, 1.6 + 0.62 * len(works)), layout="constrained")
        axes = figure.subplots()
    palette = {NAMES[k]: colour for k, colour in COLOURS.items()}
    markers = {NAMES[k]: marker for k, marker in MARKERS.items()}
    sns.scatterplot(
        found, x="ratio", y="work", hue="peer", style="peer", palette=palette, markers=markers, s=85,
        edgecolor="white", ax=axes, zorder=3,
    )  # fmt: skip
    for row in found.to_dict("records"):
        colour = palette[row["peer"]]
        axes.plot([row["low"], row["high"]], [row["work"]] * 2, color=colour, linewidth=2.2, zorder=2)
        axes.annotate(
            times(row["ratio"]), (row["ratio"], row["work"]), xytext=(0, 9), textcoords="offset points",
            ha="center", fontsize=8.5, color=colour,
        )  # fmt: skip
    axes.axvline(1, color="#212529", linewidth=1.2, zorder=1)
    axes.set(xscale="log", xlabel="times as many cell-steps per second as the peer, same round", ylabel="")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g} ×"))
    axes.set_ylim(len(works) - 0.5, -0.6)
    axes.margins(x=0.08)
    axes.set_title("OptGrid against its peers, both cores used by each", loc="left", fontsize=12)
    axes.tick_params(axis="y", length=0)
    sns.despine(figure, left=True)
    axes.legend(
        title=None, frameon=False, ncols=3, loc="upper left", bbox_to_anchor=(0, -0.16 - 0.4 / len(works))
    )
    figure.savefig(path)
