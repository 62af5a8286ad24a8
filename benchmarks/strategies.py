"""What strategies cost and give on this machine: both ways to split, and the pieces of a split step.

    python benchmarks/strategies.py --out benchmarks/strategies.parquet

Every comparison is between pairs that alternate within one process, so that what else the machine does hits
both. Figures are ratios: medians over the pairs, with quartiles.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness import Study
from harness.runtime import tensorflow
from harness.strategies import Placement, placements, prepare
from harness.types import Layout, Tile

tf = tensorflow()
DEVICES = prepare(Layout("mirrored", replicas=2))  # before TensorFlow starts

from harness.batchsplit import BatchLoop  # noqa: E402
from harness.program import LaneProgram  # noqa: E402
from harness.tilerun import TileRun  # noqa: E402
from harness.worker import Programs, idle_inputs  # noqa: E402

Run = Callable[[], float]  # does its work once, returns seconds


def timed(fn: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    fn()
    return time.perf_counter() - begin


def alternate(what: str, one: tuple[str, Run], other: tuple[str, Run], pairs: int) -> list[dict[str, Any]]:
    """Rows of pairs that took turns, the first of each pair changing."""
    for _, run in (one, other):
        run()
    rows = []
    for pair in range(pairs):
        order = [one, other] if pair % 2 else [other, one]
        rows += [{"what": what, "side": name, "pair": pair, "seconds": run()} for name, run in order]
    return rows


# -- split: lanes --------------------------------------------------------------------------------------


def lanes(steps: int, pairs: int) -> list[dict[str, Any]]:
    """Two replicas with a tile each against one replica with both tiles, compiled beforehand."""
    study = Study(
        name="lanes", workloads=[f"rosenbrock(steps={steps})"], optimizers=["adam"], lanes=1024,
        learning_rates=[1e-3, 1e-2], seeds=1024, strategy={"name": "mirrored", "replicas": 2},
    )  # fmt: skip
    tiles = list(study.plan().tiles)
    places = placements(study.layout(), DEVICES)
    warm = [Programs(place) for place in places]
    for programs in warm:
        programs.get(tiles[0].program)

    def run(programs: Programs, mine: list[Tile]) -> None:
        for tile in mine:
            TileRun(programs.get(tile.program)[0], tile.cells, programs.placement.run, False).run()

    def two() -> None:
        threads = [
            threading.Thread(target=run, args=(programs, tiles[i::2])) for i, programs in enumerate(warm)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return alternate(
        "split: lanes, 2 replicas against 1",
        ("1 replica", lambda: timed(lambda: run(warm[0], tiles))),
        ("2 replicas", lambda: timed(two)),
        pairs,
    )


# -- split: batch --------------------------------------------------------------------------------------


def stepping(workload: str, place: Placement | None, replicas: int, steps: int) -> Run:
    """A program of one lane that is stepped on and on; without a place, the lanes' own loop in XLA."""
    from harness import catalog

    study = Study(name="batch", workloads=[workload], optimizers=["adam"], learning_rates=[1e-3], seeds=1)
    program = next(iter(study.plan().programs.values()))
    made = catalog.build_workload(program.workload, program.dtype)
    program = replace(program, replicas=replicas, split="batch" if place else "lanes", stride=steps)

    def build(traced: Any) -> Any:
        return catalog.build_optimizer(program.optimizer, traced)

    loop = (lambda lanes: BatchLoop(lanes, place)) if place else None
    lane = LaneProgram(replace(program, stability=False), made, build, loop=loop)
    one = tf.constant([True])
    real = lane.real.as_numpy_dtype
    idle = idle_inputs(lane)
    values = zip(idle.traced, program.optimizer.traced(), strict=True)
    inputs = idle._replace(
        begin=tf.nest.map_structure(lambda leaf: leaf[None], made.init(0)),
        learning_rate=tf.constant([1e-3], tf.float64),
        traced=tuple(tf.fill(tf.shape(of), tf.constant(value, tf.float64)) for of, value in values),
        limit=tf.constant([np.finfo(real).max]),
        targets=tf.fill([12, 1], tf.constant(-np.inf, lane.real)),
        go=one,
    )
    here = place or placements(Layout("one_device"), ["CPU:0"])[0]
    state = here.run(lane.seat, lane.empty(), inputs, one)

    def run() -> float:
        def advance() -> None:
            carry, spans = state, steps // lane.plan.span
            while spans:
                call = min(spans, lane.spans_per_call)
                ran, found = here.run(lane.advance, carry, inputs, call, lane.plan.span)
                carry, spans = lane.booked(carry, inputs, ran, found), spans - call
            assert int(carry.step[0]) == steps

        return timed(advance) / steps

    return run


def batches(pairs: int, steps: int) -> list[dict[str, Any]]:
    """A large batch on two replicas, and what the loop costs where there is next to nothing to compute."""
    two = placements(Layout("mirrored", "batch", 2), DEVICES)[0]
    one = placements(Layout("one_device", "batch", 1), ["CPU:0"])[0]
    large = f"digits_mlp(hidden=[512, 512], batch_size=1024, steps={steps})"
    few = 10
    rows = alternate(
        "split: batch, 2 replicas against 1 (batch of 1,024, 300,000 parameters)",
        ("1 replica", stepping(large, one, 1, few)),
        ("2 replicas", stepping(large, two, 2, few)),
        pairs,
    )
    for label, small in (
        ("2 parameters", f"rosenbrock(noise=0.1, steps={steps})"),
        ("2,410 parameters", f"digits_mlp(batch_size=64, steps={steps})"),
    ):
        plain = ("plain step", stepping(small, one, 1, steps))
        rows += alternate(
            f"an all-reduced step against a plain one ({label})",
            plain,
            ("all-reduced step", stepping(small, two, 2, steps)),
            pairs,
        )
        rows += alternate(
            f"the same loop without a strategy ({label})",
            ("no strategy, one XLA program", stepping(small, None, 1, steps)),
            ("split: batch, 1 replica", stepping(small, one, 1, steps)),
            pairs,
        )
    return rows


# -- what came of it -----------------------------------------------------------------------------------


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Per comparison: seconds of both sides, and the ratio of a pair's, as medians with quartiles."""
    found = []
    for what, mine in rows.groupby("what", sort=False):
        one, other = sorted(
            mine["side"].unique(), key=lambda side: not side.startswith(("1 ", "plain", "no "))
        )
        wide = mine.pivot(index="pair", columns="side", values="seconds")
        # Of replicas the speed-up, of steps the cost.
        ratio = wide[one] / wide[other] if one.startswith("1 ") else wide[other] / wide[one]
        low, middle, high = ratio.quantile([0.25, 0.5, 0.75])
        found.append(
            {
                "what": what,
                "first": f"{one}: {wide[one].median() * 1e3:.4g} ms",
                "second": f"{other}: {wide[other].median() * 1e3:.4g} ms",
                "ratio": "times faster" if one.startswith("1 ") else "times as long",
                "median": middle,
                "low": low,
                "high": high,
                "pairs": len(wide),
            }
        )
    return pd.DataFrame(found)


def draw(rows: pd.DataFrame, path: Path) -> None:
    """A panel per comparison, a point per pair."""
    import matplotlib as mpl

    mpl.use("Agg")
    import seaborn as sns

    shown = rows.assign(milliseconds=rows["seconds"] * 1e3)
    grid = sns.catplot(
        shown, x="milliseconds", y="side", col="what", col_wrap=2, kind="box", sharex=False, sharey=False,
        height=2.4, aspect=2.6, color="#9ecae1", showfliers=False,
    )  # fmt: skip
    for (_, mine), axis in zip(shown.groupby("what", sort=False), grid.axes.flat, strict=True):
        sns.stripplot(mine, x="milliseconds", y="side", ax=axis, color="black", size=3)
        axis.set_ylabel("")
    grid.set_titles("{col_name}", size=9)
    grid.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("strategies.parquet"))
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--lane-steps", type=int, default=20000)
    parser.add_argument("--steps", type=int, default=400)
    given = parser.parse_args()
    rows = pd.DataFrame(lanes(given.lane_steps, given.pairs) + batches(given.pairs, given.steps))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(given.out)
    draw(rows, given.out.with_suffix(".png"))
    for row in summary(rows).to_dict("records"):
        spread = f"{row['median']:.2f} {row['ratio']} ({row['low']:.2f} to {row['high']:.2f})"
        print(f"{row['what']}: {row['first']}, {row['second']}; {spread}, {row['pairs']} pairs")


if __name__ == "__main__":
    main()
