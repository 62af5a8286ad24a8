"""What a row means, in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from .schema import BEST, PEERS, PLACE, WORDS, Frame

BOUND = 0.85  # share of the copy's bandwidth from which an update counts as memory-bound
SMALL_SECONDS, SMALL_BYTES = 2e-4, 4e6  # a copy under either costs mostly its call
NOT_COMPILED = {
    "eager": "not compiled: every operation is a pass of its own",
    "function": "not compiled: every operation is a pass of its own",
    "keras": "not compiled: every operation is a pass of its own",
    "fused_op": "TensorFlow's own kernel",
}
QUIET = 0.05  # noise above this makes figures of one run uncertain


def verdict(row: Mapping[str, Any]) -> str:
    """One row's verdict: memory-bound at 93 % of copy; or 3 passes where 1 would do, here they are."""
    if row["status"] != "measured":
        return str(row["detail"])
    share, passes = float(row["copy_share"]), _number(row["passes"])
    at = f"{share:.0%} of copy"
    copied_seconds = float(row["update_seconds"]) * share
    if copied_seconds < SMALL_SECONDS or float(row["bytes_moved"]) < SMALL_BYTES:
        return "too small to tell: the call itself costs most"
    products = _number(row.get("matmul_share"))
    if products is not None:
        return f"matrix products at {products:.0%} of the peak of one large product ({at})"
    extra = passes is not None and passes >= 1.5
    if share >= BOUND:
        more = f", although in {shown_passes(passes)}: a cache holds what lies between" if extra else ""
        return f"memory-bound at {at}{more}"
    if extra:
        names = [str(name) for name in row["kernel_names"]]
        where = f": {', '.join(names[:6])}" + (" …" if len(names) > 6 else "") if names else ""
        return f"{shown_passes(passes)} where 1 would do ({at}){where}"
    if passes is None:
        return f"{at}; {NOT_COMPILED.get(str(row['implementation']), 'what it compiles to is not known')}"
    return f"one pass at {at}: computing, or launching, costs more than moving bytes"


def shown_passes(passes: float | None) -> str:
    """`1 pass`, `2.5 passes`."""
    if passes is None:
        return "an unknown number of passes"
    text = f"{passes:.1f}".removesuffix(".0")
    return f"{text} pass" if text == "1" else f"{text} passes"


def noisy(frame: Frame) -> str:
    """A sentence where the machine was too noisy to trust 5 %, of times or of shares; else empty."""
    known = [frame[name].dropna().median() for name in ("noise", "copy_noise") if name in frame]
    worst = max((float(value) for value in known if not math.isnan(value)), default=0.0)
    if worst <= QUIET:
        return ""
    return (
        f"This machine was noisy: half of the medians are uncertain by more than {worst:.0%}. "
        "Stop what else runs on it, or read the order of the rows and not their digits."
    )


def best_paths(frame: Frame) -> Frame:
    """A row per optimizer, place, dtype and layout: our fastest way and the fastest peer.

    Returns:
        Columns: keys, `ours`, `ours_seconds`, `share`, `peer`, `peer_seconds`, `speed_up` (> 1: we win).
    """
    keys = ["optimizer", *PLACE, "dtype", "layout", "parameters", "tensors"]
    rows = []
    measured = frame[frame["status"] == "measured"]
    for key, part in measured.groupby(keys, sort=False):
        ours = part[part["implementation"].isin(BEST)].sort_values("update_seconds").head(1)
        peer = part[part["implementation"].isin(PEERS)].sort_values("update_seconds").head(1)
        if ours.empty:
            continue
        mine = ours.iloc[0]
        other = peer.iloc[0] if len(peer) else None
        theirs = float(other["update_seconds"]) if other is not None else math.nan
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                "ours": WORDS[mine["implementation"]],
                "ours_seconds": mine["update_seconds"],
                "share": mine["copy_share"],
                "peer": WORDS[other["implementation"]] if other is not None else "",
                "peer_seconds": theirs,
                "speed_up": theirs / float(mine["update_seconds"]),
            }
        )
    columns = [*keys, "ours", "ours_seconds", "share", "peer", "peer_seconds", "speed_up"]
    return pd.DataFrame(rows, columns=columns)


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)
