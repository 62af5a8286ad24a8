"""Update kernels against their peers, and against copy bandwidth: the figures of KERNELS.md.

    python benchmarks/kernels.py            # some minutes on two cores
    python benchmarks/kernels.py --repeat   # twice, and how far the two runs agree

Prints one Markdown table: our best path, its share of copy bandwidth at the same size in the same run, and
the fastest peer. What is measured, and how, is `optgrid profile --help`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from harness.expressions import parse_optimizer
from harness.kernels import device, run
from harness.kernels.compare import compare
from harness.kernels.measure import Pace
from harness.kernels.schema import Frame, frame
from harness.kernels.shapes import Layout, uniform
from harness.kernels.words import best_paths, noisy

ELEMENTWISE = ("gradient_descent", "momentum", "adagrad", "rmsprop", "adam", "adamw", "nadam", "lion")
BEST = ("xla_in_place", "one_pass", "flat", "flat_one_pass", "keras_jit", "fused_op", "optax")
PACE = Pace(windows=41, row_seconds=3.0)


def measured() -> Frame:
    """Rows of every element-wise optimizer at 1e7 parameters, and of Adam in 1,000 tensors of 1e4."""
    rows = [*_rows(ELEMENTWISE, uniform(10_000_000, 1)), *_rows(("adam",), uniform(10_000_000, 1_000))]
    return frame(rows)


def _rows(names: tuple[str, ...], layout: Layout) -> Iterator:
    components = tuple(c for name in names for c in parse_optimizer(name))
    plan = run.Plan(components, (layout,), ("float32",), BEST, PACE)
    yield from run.profile(plan, device.find(None), print)


def markdown(rows: Frame) -> str:
    """Our best path against the fastest peer, as a table."""
    lines = [
        "| optimizer | tensors | our best | ms | of copy | fastest peer | ms | times the peer |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in best_paths(rows).to_dict("records"):
        lines.append(
            f"| {row['optimizer']} | {row['tensors']:,} | {row['ours']} | {row['ours_seconds'] * 1e3:.2f} | "
            f"{row['share']:.0%} | {row['peer']} | {row['peer_seconds'] * 1e3:.2f} | {row['speed_up']:.2f} |"
        )
    return "\n".join(lines)


def agreement(first: Frame, second: Frame) -> str:
    """How far the medians of two runs lie apart, in seconds and in copies."""
    table = compare(first, second).table
    apart = {"seconds": table["new_seconds"] / table["old_seconds"] - 1, "copies": table["change"]}
    parts = [
        f"in {unit} {int((change.abs() <= 0.05).sum())} of {len(change)} medians within 5 %, "
        f"median distance {change.abs().median():.1%}"
        for unit, change in apart.items()
    ]
    return f"Two runs: {'; '.join(parts)}."


def main() -> None:
    parser = argparse.ArgumentParser(description="Update kernels against their peers.")
    parser.add_argument("--repeat", action="store_true", help="measure twice and compare")
    repeat = parser.parse_args().repeat
    device.fuse_outputs()  # before anything is compiled
    rows = measured()
    print(markdown(rows))
    print(noisy(rows))
    if repeat:
        again = measured()
        print(markdown(again))
        print(noisy(again))
        print(agreement(rows, again))


if __name__ == "__main__":
    main()
