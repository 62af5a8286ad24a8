"""The shipped networks without metrics: what the peers of a race compute, who train and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from workloads.digits_cnn import DigitsCnn
from workloads.digits_mlp import DigitsMlp


class _TrainOnly:
    """Nothing at recorded points, and at the end the training loss, by which the sides are compared."""

    target_metric: ClassVar[str] = "loss"

    def monitor(self, params):
        return {}

    def measured(self, name):
        sets = super().measured(name)  # type: ignore[misc]
        return {part: examples for part, examples in sets.items() if part == "train"}

    def measure(self, params, batch):
        return {"loss": super().measure(params, batch)["loss"]}  # type: ignore[misc]


@dataclass(frozen=True)
class Mlp(_TrainOnly, DigitsMlp):
    """`digits_mlp`."""

    target: float = 0.15
    steps: int = 300


@dataclass(frozen=True)
class Cnn(_TrainOnly, DigitsCnn):
    """`digits_cnn`."""

    target: float = 0.15
    steps: int = 300
