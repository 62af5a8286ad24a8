"""What a work takes to compile and run, beside JAX: in new processes, in turns, several times.

A process that has raced before has traced much of what it compiles next, and a machine that others share
makes a single figure worth little.
"""

from __future__ import annotations

import contextlib

import pandas as pd

from benchmarks.sides import Remote
from benchmarks.works import Inputs, Work

SIDES = ("optgrid", "jax")


def measure(
    works: list[Work], inputs: dict[str, Inputs], variants: dict[str, str], repeats: int
) -> pd.DataFrame:
    """A row per work, side and repeat: `work`, `side`, `repeat`, `seconds` of compiling, `run_seconds`.

    Both sides of a repeat have a process of their own, in which each work is compiled and run once, the two
    sides one after the other. Whoever begins changes from work to work, and the first work from repeat to
    repeat.

    Args:
        inputs: of each work, by its key.
        variants: how JAX's program is written, by the work's key: the way that was the fastest to run.
    """
    rows = []
    for repeat in range(repeats):
        with contextlib.ExitStack() as stack:
            sides = {name: stack.enter_context(Remote(name)) for name in SIDES}
            for side in sides.values():
                side("start")
            for i in range(len(works)):
                work = works[(i + repeat) % len(works)]
                for name in SIDES if (i + repeat) % 2 == 0 else SIDES[::-1]:
                    cold = sides[name]("cold", work, inputs[work.key], variants[work.key])
                    took = {"seconds": cold.compile_seconds, "run_seconds": cold.run_seconds}
                    rows.append({"work": work.key, "side": name, "repeat": repeat, **took})
    return pd.DataFrame(rows)
