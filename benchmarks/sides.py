"""Sides of a comparison, each in a process of its own: its own threads, its own XLA, nothing shared.

The parent tells a side what to prepare and then asks for rounds, one side after the other, so that what
else the machine does falls on all of them alike.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np

from benchmarks.works import Inputs, Work


@dataclass(frozen=True)
class Prepared:
    """A program that is ready to run.

    Args:
        compile_seconds: tracing and compiling, cold.
        variant: what was kept where several ways were tried.
        tried: seconds of one run per variant.
    """

    compile_seconds: float
    variant: str = ""
    tried: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Round:
    """One timed run.

    Args:
        seconds: of training, on the wall clock.
        cell_steps: that were run in it.
        evaluate_seconds: on top, where a side also evaluates.
    """

    seconds: float
    cell_steps: int
    evaluate_seconds: float = 0.0


@dataclass(frozen=True)
class Cold:
    """A program that nothing of was there before.

    Args:
        compile_seconds: tracing and compiling, until it can run.
        run_seconds: of the first run, right behind it.
    """

    compile_seconds: float
    run_seconds: float


class Side(Protocol):
    """A way of running a grid."""

    def prepare(self, work: Work, inputs: Inputs) -> Prepared:
        """Builds and compiles the work's program."""
        ...

    def run(self) -> Round:
        """Runs it once, warm."""
        ...

    def losses(self) -> np.ndarray:
        """[points, seeds] what the runs ended at: the loss of a function, that of a network over all
        training images; NaN for cells that this side did not run."""
        ...


SIDES = {
    "optgrid": "benchmarks.ours:TrainOnly",
    "metrics": "benchmarks.ours:Ours",
    "jax": "benchmarks.jax_side:Jax",
    "keras": "benchmarks.keras_side:Keras",
    "eager": "benchmarks.eager_side:Eager",
    "bounds": "benchmarks.bounds:Bounds",
}


def make(name: str) -> Any:
    """The side of that name, in this process."""
    module, _, attribute = SIDES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)()


# As it was given to this process: this project sets flags of its own, which no other side shall inherit.
XLA_FLAGS = os.environ.get("XLA_FLAGS")


class Remote:
    """A side in another process; use as a context manager.

    Args:
        name: of `SIDES`.
    """

    def __init__(self, name: str):
        context = multiprocessing.get_context("spawn")
        self.name = name
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(name, theirs, XLA_FLAGS), daemon=True)
        self.process.start()
        theirs.close()

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *exception: object) -> None:
        self.pipe.close()
        self.process.join(timeout=30)
        if self.process.is_alive():
            self.process.kill()

    def __call__(self, method: str, *arguments: Any) -> Any:
        """Calls a method of the side.

        Raises:
            RuntimeError: it raised, with its traceback; or its process is gone.
        """
        try:
            self.pipe.send((method, arguments))
            well, answer = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError(
                f"the process of '{self.name}' ended (exit {self.process.exitcode})"
            ) from error
        if not well:
            raise RuntimeError(f"'{self.name}' failed in {method}:\n{answer}")
        return answer


def _serve(name: str, pipe: Connection, xla_flags: str | None) -> None:
    os.environ.pop("XLA_FLAGS", None)
    if xla_flags is not None:
        os.environ["XLA_FLAGS"] = xla_flags
    side = make(name)
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, getattr(side, method)(*arguments)))
        except Exception:
            pipe.send((False, traceback.format_exc()))
