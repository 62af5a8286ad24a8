"""This project beside JAX, Keras, Ray Tune and the eager loop on the same grids, in one run.

    python -m benchmarks                  all of it: a quarter of an hour on two quiet cores
    python -m benchmarks --quick          fewer steps and rounds, to see that it works
    python -m benchmarks --works rosenbrock,mlp_small
    python -m benchmarks --readme         write the last run's table into README.md

Every side runs in a process of its own, warm, with all cores; rounds alternate, so that noise falls on all.
A round is a run, or as many as take a tenth of a second.
Writes `rounds.parquet` (a row per work, side and round), `prepared.parquet`, `bounds.parquet`,
`compiles.parquet` (a row per work, side and repeat; only where JAX is a peer), `shell.parquet`, `ratios.svg`
and `table.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import compiling, figure, shell, tables
from benchmarks.sides import Remote, Round
from benchmarks.works import Inputs, Work, chosen

ROOT = Path(__file__).resolve().parents[1]
# float32 sums in another order. Runs are hundreds of steps long and a few are chaotic, so that the median
# over cells must agree to rounding, and nine cells in ten to a hundredth.
AGREE_MEDIAN, AGREE_MOST = 1e-3, 1e-2
# Keras adds Adam's epsilon to the root of v before its bias is corrected: another rule in its first steps.
SLACK = {"keras": 10.0}
ROUND_SECONDS = 0.1  # of a side, at least


def disagreement(ours: np.ndarray, theirs: np.ndarray, slack: float = 1.0) -> np.ndarray:
    """Relative difference of two sides' losses, of the cells that both ran; [cells].

    Args:
        ours, theirs: [points, seeds], NaN for cells that were not run.
        slack: times the tolerances, for a peer whose rule is a little different.

    Raises:
        SystemExit: they ran no cell in common, or did not compute the same thing.
    """
    both = np.isfinite(ours) & np.isfinite(theirs)
    if not both.any():
        raise SystemExit("the two sides have no cell in common to compare")
    gap = np.abs(ours[both] - theirs[both]) / np.maximum(np.abs(ours[both]), 1e-6)
    if np.median(gap) > slack * AGREE_MEDIAN or np.quantile(gap, 0.9) > slack * AGREE_MOST:
        raise SystemExit(f"the two sides did not compute the same: median difference {np.median(gap):.2g}")
    return gap


def runs(side: Callable[[str], Round]) -> list[Round]:
    """What a side does in a round: a run, or as many as take `ROUND_SECONDS`. The first of a few milliseconds
    would mostly say how long threads take to wake and caches to fill after the others' runs."""
    made = [side("run")]
    while sum(each.seconds for each in made) < ROUND_SECONDS:
        made.append(side("run"))
    return made


def mean(made: Sequence[Round]) -> Round:
    """One run of these, on average."""
    seconds, evaluating = (fmean(getattr(r, k) for r in made) for k in ("seconds", "evaluate_seconds"))
    return Round(seconds, made[0].cell_steps, evaluating)


class Race:
    """Runs works one after the other and keeps what was measured."""

    def __init__(self, sides: dict[str, Remote]):
        self.sides = sides
        self.rounds: list[dict[str, Any]] = []
        self.prepared: list[dict[str, Any]] = []
        self.bounds: list[dict[str, Any]] = []
        self.inputs: dict[str, Inputs] = {}

    def run(self, work: Work) -> None:
        """Prepares every side, alternates the rounds, and compares what the sides came to."""
        inputs = self.inputs[work.key] = self.sides["optgrid"]("inputs", work)
        no_racers = {"bounds", "metrics"} if work.family == "function" else {"bounds"}
        racers = {name: side for name, side in self.sides.items() if name not in no_racers}
        print(f"\n{work.title}", flush=True)
        for name, side in racers.items():
            ready = side("prepare", work, inputs)
            self.prepared.append(
                {
                    "work": work.key,
                    "title": work.title,
                    "side": name,
                    "compile_seconds": ready.compile_seconds,
                    "variant": ready.variant,
                    "tried": str(ready.tried),
                }
            )
            print(f"  {name}: {ready.variant}, compiled in {ready.compile_seconds:.2f} s", flush=True)
        for name in tables.OURS & racers.keys():
            racers[name]("run")  # the first run also makes buffers; JAX had three to choose its variant
        for number in range(work.rounds):
            # Whoever begins has the caches of the last one: turns change.
            order = list(racers.items()) if number % 2 == 0 else list(racers.items())[::-1]
            for name, side in order:
                took = mean(runs(side))
                self.rounds.append(
                    {
                        "work": work.key,
                        "side": name,
                        "round": number,
                        "seconds": took.seconds,
                        "evaluate_seconds": took.evaluate_seconds,
                        "cell_steps": took.cell_steps,
                    }
                )
        self._report(work, racers)
        self._bound(work)

    def _report(self, work: Work, racers: dict[str, Remote]) -> None:
        mine = pd.DataFrame([r for r in self.rounds if r["work"] == work.key])
        for row in tables.ratios(mine).to_dict("records"):
            spread = tables.spread(row["low"], row["high"])
            also = (
                "" if work.family == "function" else f", {tables.times(row['with_metrics'])} with our metrics"
            )
            print(f"  {tables.times(row['ratio'])} {row['peer']}{spread}{also}", flush=True)
        ours = racers["optgrid"]("losses")
        for name, side in racers.items():
            theirs = side("losses")
            if name not in tables.OURS and np.isfinite(theirs).any():
                gap = disagreement(ours, theirs, SLACK.get(name, 1.0))
                words = f"{len(gap)} losses agree with {name}'s"
                print(f"  {words}: median {np.median(gap):.1g}, 90 % within {np.quantile(gap, 0.9):.1g}")

    def _bound(self, work: Work) -> None:
        """The share of what the machine can do: sgemm for networks, copying the working set for functions."""
        mine = [r for r in self.rounds if r["work"] == work.key and r["side"] == "optgrid"]
        speed = float(np.median([r["cell_steps"] / r["seconds"] for r in mine]))
        if work.flops():
            peaks = self.sides["bounds"]("sgemm")
            kind, peak, reached = "sgemm peak", max(peaks.values()), speed * work.flops()
        else:
            size = work.bytes_moved() * work.cells
            kind, peak, reached = (
                "copy bandwidth",
                self.sides["bounds"]("copy", size),
                speed * work.bytes_moved(),
            )
        row = {"work": work.key, "bound": kind, "peak": peak, "reached": reached, "share": reached / peak}
        self.bounds.append(row)
        print(f"  {row['share']:.0%} of the {kind} ({reached:.3g} of {peak:.3g} a second)", flush=True)

    def compiles(self, works: list[Work], repeats: int) -> pd.DataFrame:
        """What compiling takes, with JAX's programs written in the way that was the fastest."""
        fastest = {row["work"]: row["variant"] for row in self.prepared if row["side"] == "jax"}
        return compiling.measure(works, self.inputs, fastest, repeats)

    def write(self, out: Path) -> None:
        """Parquet files and the figure."""
        out.mkdir(parents=True, exist_ok=True)
        rounds, prepared = pd.DataFrame(self.rounds), pd.DataFrame(self.prepared)
        rounds.to_parquet(out / "rounds.parquet")
        prepared.to_parquet(out / "prepared.parquet")
        pd.DataFrame(self.bounds).to_parquet(out / "bounds.parquet")
        titles = dict(zip(prepared["work"], prepared["title"], strict=True))
        figure.draw(rounds, titles, out / "ratios.svg")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--works", help="comma-separated keys; all by default, with the grid from the shell")
    parser.add_argument("--peers", default="jax,keras,eager", help="which of jax, keras, eager")
    parser.add_argument("--quick", action="store_true", help="a fifth of the steps, two rounds")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    parser.add_argument("--no-shell", action="store_true", help="leave the grid from the shell out")
    parser.add_argument("--readme", action="store_true", help="measure nothing: write README.md's table")
    given = parser.parse_args()
    if given.readme:
        tables.write_readme(ROOT / "README.md", tables.page(given.out))
        return
    begin = time.perf_counter()
    works = chosen(given.works.split(",") if given.works else None, given.quick)
    with contextlib.ExitStack() as stack:
        names = ["optgrid", "metrics", *given.peers.split(","), "bounds"]
        race = Race({name: stack.enter_context(Remote(name)) for name in names})
        for work in works:
            race.run(work)
            race.write(given.out)
    (given.out / "compiles.parquet").unlink(missing_ok=True)  # of an earlier run
    if "jax" in race.sides:  # whose processes are gone: nothing else is at work
        race.compiles(works, 1 if given.quick else 5).to_parquet(given.out / "compiles.parquet")
    if given.works is None and not given.no_shell:
        shell.measure(1 if given.quick else 3, given.quick).to_parquet(given.out / "shell.parquet")
    page = tables.page(given.out)
    (given.out / "table.md").write_text(page + "\n", encoding="utf-8")
    print(f"\n{page}\n\n{time.perf_counter() - begin:.0f} s; rows and figure in {given.out}")


if __name__ == "__main__":
    main()
