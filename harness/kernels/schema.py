"""Rows of the profiler: what one row says, and frames of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

# A pandas frame. Pandas ships no stubs, and what pyright infers of its columns is mostly wrong.
Frame = Any

# What makes two rows of two runs the same measurement.
PLACE = ("device", "device_name", "threads")  # where: on a cluster, one per type of node
KEYS = ("optimizer", "implementation", *PLACE, "dtype", "layout", "parameters", "tensors")
OURS = ("eager", "function", "xla_in_place", "xla_fresh", "one_pass", "flat", "flat_one_pass")
PEERS = ("keras", "keras_jit", "fused_op", "optax")
IMPLEMENTATIONS = (*OURS, *PEERS)
BEST = ("one_pass", "flat_one_pass", "flat", "xla_in_place")  # what a user of ours would run
WORDS = {
    "eager": "eager Core API",
    "function": "tf.function",
    "xla_in_place": "XLA, variables in place",
    "xla_fresh": "XLA, fresh outputs",
    "one_pass": "XLA, one pass",
    "flat": "XLA, one flat buffer",
    "flat_one_pass": "XLA, flat, one pass",
    "keras": "Keras",
    "keras_jit": "Keras, jit",
    "fused_op": "TensorFlow's fused op",
    "optax": "Optax, jit, donated",
}


@dataclass
class Row:
    """One measurement: an optimizer, an implementation, a device, a dtype and the shapes of the parameters.

    Args:
        layout: `uniform` (tensors of one size), `network` (few large, many small), or whose shapes these are.
        status: `measured`, `skipped` (does not apply here) or `failed`; `detail` is the sentence.
        compile_seconds: first call less one update, tracing included.
        update_seconds, update_seconds_low, update_seconds_high: median and quartiles over windows.
        windows, calls: windows measured, and updates in each.
        noise: how far the median may lie from where another run would find it, as a share of it.
        copy_noise: the same of the time in copies, window by window beside the copy's: without what slows the
            machine as a whole. Comparisons judge by it.
        bytes_moved: fewest bytes that the rule must move: each input read once, each output written once.
        traffic_bytes: what the program's kernels read and write together.
        copy_gigabytes_per_second: an in-place copy over as many bytes, in windows between these.
        temporary_bytes: intermediate results at their most.
        passes: how often the program walks over all parameters; `kernel_names` are those that do.
        product_flops: operations in matrix products; matmul_gigaflops_per_second is what one large product
            reaches on the device, in the row's dtype, and matmul_share the update's own products against it.
        threads: inside an operation.
    """

    optimizer: str
    optimizer_params: str
    implementation: str
    device: str
    device_name: str
    dtype: str
    layout: str
    parameters: int
    tensors: int
    status: str = "measured"
    detail: str = ""
    compile_seconds: float | None = None
    update_seconds: float | None = None
    update_seconds_low: float | None = None
    update_seconds_high: float | None = None
    windows: int | None = None
    calls: int | None = None
    noise: float | None = None
    copy_noise: float | None = None
    nanoseconds_per_parameter: float | None = None
    bytes_moved: int | None = None
    flops: int | None = None
    gigabytes_per_second: float | None = None
    gigaflops_per_second: float | None = None
    copy_gigabytes_per_second: float | None = None
    copy_share: float | None = None
    product_flops: int | None = None
    matmul_gigaflops_per_second: float | None = None
    matmul_share: float | None = None
    traffic_bytes: int | None = None
    temporary_bytes: int | None = None
    state_bytes: int | None = None
    state_bytes_per_parameter: float | None = None
    kernels: int | None = None
    fusions: int | None = None
    passes: float | None = None
    kernel_names: list[str] = field(default_factory=list)
    threads: int | None = None
    versions: str = ""
    measured_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass
class StepRow:
    """How one part of a workload's training step takes its share of the whole."""

    workload: str
    optimizer: str
    device: str
    dtype: str
    parameters: int
    part: str  # "forward and backward", "update", "batch", "recording", "whole step"
    seconds: float
    seconds_low: float
    seconds_high: float
    windows: int
    share: float
    detail: str = ""
    measured_at: datetime = field(default_factory=lambda: datetime.now(UTC))


def table(rows: list[Row] | list[StepRow], schema: pa.Schema) -> pa.Table:
    """Rows as an Arrow table of an explicit schema."""
    import pyarrow as pa

    return pa.Table.from_pylist([asdict(row) for row in rows], schema=schema)


def frame(rows: list[Row]) -> Frame:
    """Rows as a pandas frame, as `Results.kernels()` gives them."""
    from harness.records import KERNELS

    return table(rows, KERNELS).to_pandas()


def plain(row: Row | StepRow) -> dict[str, Any]:
    """A row as JSON can hold it."""
    out = asdict(row)
    out["measured_at"] = row.measured_at.isoformat()
    return out
