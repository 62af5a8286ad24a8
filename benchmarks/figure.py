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
    # A title and its sizes on two lines: the room belongs to the points.
    lines = {work: title.replace(", ", ",\n", 1) for work, title in titles.items()}
    found = found.assign(peer=found["peer"].map(NAMES), work=found["work"].map(lines))
    with sns.axes_style("whitegrid", {"grid.color": "#e9ecef", "axes.edgecolor": "#ced4da"}):
        figure = Figure(figsize=(10, 1.7 + 0.66 * len(works)), layout="constrained")
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
            times(row["ratio"]), (row["ratio"], row["work"]), textcoords="offset points",
            xytext=(0, -10 if row["peer"] == NAMES["eager"] else 9),
            ha="center", va="center", fontsize=8.5, color=colour, zorder=2.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},  # the line at 1 ends before it
        )  # fmt: skip
    axes.axvline(1, color="#212529", linewidth=1.2, zorder=1)
    axes.set(
        xscale="log", xlabel="times as many cell-steps per second as the peer, in the same round", ylabel=""
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.15g}"))
    axes.set_ylim(len(works) - 0.4, -0.6)
    axes.margins(x=0.08)
    axes.tick_params(axis="y", length=0)
    sns.despine(figure, left=True)
    handles, labels = axes.get_legend_handles_labels()
    axes.get_legend().remove()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle("OptGrid against its peers, all cores used by each", x=0.01, ha="left", fontsize=12)
    figure.savefig(path)
