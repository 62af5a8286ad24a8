"""Where programs run: `tf.distribute` strategies, with XLA on under each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.runtime import tensorflow
from harness.types import UsageError

IN_USE = ("default", "one_device")


def require_supported(name: str, split: str) -> None:
    """Refuses what this version cannot run, before anything starts.

    Raises:
        UsageError: a strategy other than `default` and `one_device`, or a split batch.
    """
    if name not in IN_USE or split != "lanes":
        raise UsageError(
            f"strategy '{name}' with split '{split}' can be planned but not run by this version: "
            f"use {' or '.join(IN_USE)} with split 'lanes' (tiles then run on every device that is there)"
        )


class Placement:
    """A device that tiles run on, inside `strategy.run`.

    Args:
        name: the strategy's name in the rows.
        device: TensorFlow's name of the device, as `CPU:0`.
    """

    def __init__(self, name: str, device: str):
        tf = tensorflow()
        self.name, self.device = name, device
        self.strategy = (
            tf.distribute.get_strategy()
            if name == "default"
            else tf.distribute.OneDeviceStrategy(f"/device:{device}")
        )

    def run(self, fn: Callable[..., Any], *args: Any) -> Any:
        """`fn(*args)` on the device, in the strategy's replica context."""
        return self.strategy.run(fn, args=args)


def devices(wanted: list[str] | None) -> list[str]:
    """Devices that tiles may run on: the wanted ones, else every GPU, else the CPU.

    Raises:
        UsageError: a wanted device is not there; says what TensorFlow sees.
    """
    tf = tensorflow()
    seen = [d.name.removeprefix("/device:") for d in tf.config.list_logical_devices()]
    if wanted:
        missing = [d for d in wanted if d not in seen]
        if missing:
            raise UsageError(f"no device '{missing[0]}' here: TensorFlow sees {', '.join(seen)}")
        return list(wanted)
    gpus = [d for d in seen if d.startswith("GPU")]
    return gpus or ["CPU:0"]
