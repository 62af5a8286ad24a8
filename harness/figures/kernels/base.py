"""What kernel figures are drawn from: the profiler's rows, the latest of each measurement."""

from __future__ import annotations

from functools import cached_property

from ...kernels.schema import BEST, KEYS
from ..base.frame import Frame
from ..base.theme import Look, looks, shorten


class KernelData:
    """The profiler's rows, and the choices that all its figures share.

    Args:
        kernels: as `Results.kernels()` gives them.
    """

    def __init__(self, kernels: Frame) -> None:
        ordered = kernels.sort_values("measured_at", kind="stable")
        self.rows = ordered.drop_duplicates(list(KEYS), keep="last").reset_index(drop=True)

    @cached_property
    def measured(self) -> Frame:
        return self.rows[self.rows["status"] == "measured"]

    @cached_property
    def optimizers(self) -> list[str]:
        return list(dict.fromkeys(self.rows["optimizer"]))

    @cached_property
    def looks(self) -> dict[str, Look]:
        return looks(self.optimizers)

    @cached_property
    def short_optimizers(self) -> dict[str, str]:
        return shorten(self.optimizers, 34)

    @cached_property
    def dtype(self) -> str:
        """The dtype that figures of one dtype show: float32 where it was measured."""
        known = list(dict.fromkeys(self.measured["dtype"]))
        return "float32" if "float32" in known or not known else known[0]

    @cached_property
    def one_tensor(self) -> Frame:
        """Measured rows of the shown dtype with the fewest tensors that there are: one, nearly always."""
        part = self.measured[self.measured["dtype"] == self.dtype]
        return part[part["tensors"] == part["tensors"].min()]

    @cached_property
    def best(self) -> Frame:
        """Our fastest implementation per optimizer and size, of `one_tensor`."""
        ours = self.one_tensor[self.one_tensor["implementation"].isin(BEST)]
        return ours.sort_values("update_seconds").drop_duplicates(["optimizer", "parameters"])

    @cached_property
    def arithmetic(self) -> Frame:
        """`best` with the fewest FLOPs of any program of the rule: what it needs, not what is repeated."""
        fewest = self.one_tensor.groupby(["optimizer", "parameters"])["flops"].min().rename("fewest_flops")
        joined = self.best.join(fewest, on=["optimizer", "parameters"])
        flops = joined["fewest_flops"]
        known = joined.assign(flops=flops, gigaflops_per_second=flops / joined["update_seconds"] / 1e9)
        return known[known["flops"].fillna(0) > 0]

    @cached_property
    def large(self) -> int:
        """The largest size that any optimizer was measured at by one of our best implementations."""
        return int(self.best["parameters"].max()) if len(self.best) else 0

    def where(self) -> str:
        """Device and threads in words."""
        device = " and ".join(dict.fromkeys(self.measured["device_name"]))
        threads = self.measured.loc[self.measured["device"].str.startswith("CPU"), "threads"].max()
        return device + (f" ({int(threads)} threads)" if threads == threads else "")
