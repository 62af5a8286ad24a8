"""TensorFlow, set up to time single kernels: all cores inside an operation, no cache of compiled programs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..importing import without
from ..runtime import FOR_OTHERS, cpu_count, memory_bytes
from ..sentences import listing
from ..types import UsageError

RESERVE = 0.85  # share of the free memory that a measurement may take


@dataclass(frozen=True)
class Device:
    """Where kernels are timed.

    Args:
        name: as TensorFlow calls it, `CPU:0` or `GPU:0`.
        model: the processor's or the card's own name.
        threads: inside an operation, on a CPU.
    """

    name: str
    model: str
    threads: int

    @property
    def is_cpu(self) -> bool:
        return self.name.startswith("CPU")

    def free_bytes(self) -> int | None:
        """Memory that measurements may take now; None where only trying tells."""
        if self.is_cpu:
            return int(memory_bytes() * RESERVE)
        tf = tensorflow()
        try:
            from tensorflow.python.client import device_lib

            found = [d for d in device_lib.list_local_devices() if d.name.endswith(self.name)]
            taken = tf.config.experimental.get_memory_info(self.name)["current"]
            return int((found[0].memory_limit - taken) * RESERVE) if found else None
        except (ImportError, ValueError, RuntimeError):
            return None

    def wait(self) -> None:
        """Until everything that was started on the device is done; a CPU's calls return when they are."""
        if not self.is_cpu:
            tensorflow().test.experimental.sync_devices()


@cache
def tensorflow() -> Any:
    """TensorFlow with a thread per core inside an operation, and with XLA's compile cache off.

    A compile time out of a cache would say nothing, and a grid's single thread per operation would hide
    half of the machine. Both are settled at import: where TensorFlow runs in this process already, its
    settings hold, and rows say with how many threads they were measured.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX shares the card
    with without(*FOR_OTHERS):
        import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    try:
        tf.config.threading.set_intra_op_parallelism_threads(cpu_count())
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        tf.config.list_logical_devices()  # settles the threads
    except RuntimeError:
        pass  # it is running: too late for settings
    return tf


_FUSED: list[bool] = []


def fuse_outputs() -> bool:
    """Let XLA write several arrays from one kernel, Keras' too, in this process; whether it does.

    For a process that only profiles: a grid's rows are to be the same to the bit in all processes.
    """
    tensorflow()
    from optimizers import fuse_outputs as asked

    _FUSED[:] = [asked()]
    return _FUSED[0]


def outputs_fused() -> bool:
    """Whether `fuse_outputs` was called here, in time."""
    return _FUSED == [True]


def find(name: str | None) -> Device:
    """The device of that name; by default the first GPU, else the CPU.

    Raises:
        UsageError: TensorFlow sees no such device.
    """
    tf = tensorflow()
    seen = [each.name.removeprefix("/device:") for each in tf.config.list_logical_devices()]
    gpus = [each for each in seen if each.startswith("GPU")]
    wanted = (name or (gpus[0] if gpus else "CPU:0")).upper().removeprefix("/DEVICE:")
    wanted = wanted if ":" in wanted else f"{wanted}:0"
    if wanted not in seen:
        raise UsageError(f"no device '{name}' here: TensorFlow sees {listing(seen, 'and')}")
    threads = tf.config.threading.get_intra_op_parallelism_threads() or cpu_count()
    return Device(wanted, _model(tf, wanted), threads if wanted.startswith("CPU") else 1)


def _model(tf: Any, name: str) -> str:
    if name.startswith("CPU"):
        from ..runtime import processor

        return processor()
    gpus = tf.config.list_physical_devices("GPU")
    index = int(name.rpartition(":")[2])
    details = tf.config.experimental.get_device_details(gpus[index]) if index < len(gpus) else {}
    return str(details.get("device_name", name))
