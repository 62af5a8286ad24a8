"""Where programs run: `tf.distribute` strategies, with XLA on under each of them.

Two ways to use several devices. *Split lanes*: each replica runs tiles of its own, in its own replica
context, and none waits for another. *Split batch*: all replicas run one tile together, `harness.batchsplit`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from harness.runtime import cpu_count, tensorflow
from harness.types import Layout, RunError, UsageError

# A peer may compile for minutes before it comes to its part of the sum; a host that is gone without a word
# is noticed by heartbeats before that.
COLLECTIVE_SECONDS = 600.0


class Placement:
    """Where tiles run: one replica's device, or all replicas of a strategy together.

    Args:
        name: the strategy's name in the rows.
        devices: TensorFlow's names of this process's devices that take part, as `CPU:0`.
        strategy: the `tf.distribute` strategy; None: made from the name and the device.
        split: `lanes` or `batch`.
        replica: which replica of the strategy this is, where lanes are split.
        replicas: in all, for the rows.
        peers: processes that take part in a split batch.
        index: which of them this is.
    """

    def __init__(
        self,
        name: str,
        devices: Sequence[str],
        strategy: Any = None,
        *,
        split: str = "lanes",
        replica: int = 0,
        replicas: int = 1,
        peers: int = 1,
        index: int = 0,
    ):
        self.name, self.devices, self.split = name, tuple(devices), split
        self.strategy = strategy if strategy is not None else _strategy(name, self.devices)
        self.replica, self.replicas = replica, replicas
        self.peers, self.index = peers, index

    @property
    def device(self) -> str:
        """The devices, for the rows."""
        return ", ".join(self.devices)

    @property
    def local(self) -> tuple[str, ...]:
        """Full names of this process's devices: `CPU:0` alone may be another process's."""
        if self.name == "default":
            return tuple(f"/device:{d}" for d in self.devices)
        return tuple(self.strategy.extended.worker_devices)

    def run(self, fn: Callable[..., Any], *args: Any) -> Any:
        """`fn(*args)` on the device, in the strategy's replica context; for a split batch, on the first
        device and in cross-replica context: programs enter the replicas themselves.

        `strategy.run` gives every replica the same call at the same time, and has AutoGraph look at it.
        Replicas with lanes of their own have nothing to wait for, so each enters its context by itself.
        """
        tf = tensorflow()
        if self.split == "batch":
            with tf.device(self.local[0]):
                return fn(*args)
        if self.name == "default":  # its replica context is where every thread starts
            return fn(*args)
        with tf.distribute.ReplicaContext(self.strategy, self.replica), tf.device(self.local[self.replica]):
            return fn(*args)


@cache
def _strategy(name: str, devices: tuple[str, ...]) -> Any:
    """The strategy over devices of this process; one object for each choice.

    TensorFlow numbers collectives from the same start in every strategy of a process, and aborts them all
    where two strategies reduce tensors of other shapes: hence one object, and on CPUs no collectives.
    """
    tf = tensorflow()
    if name == "default":
        return tf.distribute.get_strategy()
    if name == "one_device":
        return tf.distribute.OneDeviceStrategy(f"/device:{devices[0]}")
    if name == "central_storage":
        return tf.distribute.experimental.CentralStorageStrategy(list(devices), "CPU:0")
    if name == "multi_worker_mirrored":
        return _multi_worker([], 0, devices)
    gpus = all(d.startswith("GPU") for d in devices)
    reduction = None if gpus else tf.distribute.ReductionToOneDevice(accumulation_fn=summed)
    return tf.distribute.MirroredStrategy(list(devices), reduction)


def summed(values: Sequence[Any]) -> Any:
    """The sum, in the replicas' order.

    TensorFlow's own `add_n` begins with whichever summand's memory it may write into, so that the bits of
    three or more summands' sum differ from run to run.
    """
    tf = tensorflow()
    return tf.reduce_sum(tf.stack(list(values)), 0)


def _multi_worker(peers: Sequence[str], index: int, devices: Sequence[str]) -> Any:
    """This process's part in a multi-worker strategy; waits until all peers have come.

    An explicit resolver does what TF_CONFIG does, and leaves the environment of later work alone.
    """
    tf = tensorflow()
    gpus = sum(d.startswith("GPU") for d in devices)
    kinds = tf.distribute.experimental.CommunicationImplementation
    # XLA aside: gRPC knows no faster way between CPUs than a ring, and GPUs have NCCL.
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=kinds.NCCL if gpus else kinds.RING, timeout_seconds=COLLECTIVE_SECONDS
    )
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(peers)} if peers else {}),
        task_type="worker" if peers else None,
        task_id=index if peers else None,
        rpc_layer="grpc",
        num_accelerators={"GPU": gpus},
    )
    return tf.distribute.MultiWorkerMirroredStrategy(resolver, options)


def placements(layout: Layout, names: Sequence[str]) -> list[Placement]:
    """Where the tiles of a study run in this process: a place per device, or one of all for a split batch."""
    if layout.split == "batch":
        return [Placement(layout.name, names, split="batch", replicas=layout.replicas or len(names))]
    if layout.name in ("mirrored", "central_storage"):
        strategy = _strategy(layout.name, tuple(names))
        return [
            Placement(layout.name, [name], strategy, replica=i, replicas=len(names))
            for i, name in enumerate(names)
        ]
    replicas = (layout.replicas or layout.workers or 1) if layout.mirrors else 1
    return [Placement(layout.name, [name], replicas=replicas) for name in names]


def joined(layout: Layout, names: Sequence[str], peers: Sequence[str], index: int) -> Placement:
    """This process's place in a split batch over several processes.

    Args:
        names: its own devices.
        peers: addresses of all processes, `host:port`, in the same order everywhere.
        index: which of them this is; 0 is the chief.
    """
    strategy = _multi_worker(peers, index, names)
    return Placement(
        layout.name,
        names,
        strategy,
        split="batch",
        replicas=strategy.num_replicas_in_sync,
        peers=len(peers),
        index=index,
    )


# -- devices -------------------------------------------------------------------------------------------


def prepare(layout: Layout) -> list[str]:
    """The devices of this process that a study runs on; on CPUs they are made, before TensorFlow starts.

    TensorFlow is not started: a process that joins others must not have.

    Raises:
        UsageError: there are not as many; says what TensorFlow sees.
    """
    wanted = list(layout.devices or ())
    gpus = [d for d in visible() if d.startswith("GPU")]
    on_cpus = any(d.startswith("CPU") for d in wanted) or not (wanted or gpus)
    count = _replicas_here(layout, on_cpus)
    if layout.name == "multi_worker_mirrored":
        if on_cpus and (count or 1) > 1:
            raise UsageError(
                f"multi_worker_mirrored has one replica per process on CPUs, not {count}: "
                "give as many 'workers' as 'replicas'"
            )
    elif on_cpus:
        named = [int(d.partition(":")[2] or 0) + 1 for d in wanted if d.startswith("CPU:")]
        _logical_cpus(max([*named, 1 if wanted else count or 1]))
    if not wanted and on_cpus:
        return [f"CPU:{i}" for i in range(count or 1)]
    names = devices(wanted or None)
    if count and count > len(names):
        raise UsageError(f"{count} replicas need as many devices: TensorFlow sees {', '.join(visible())}")
    return names[:count]


def physical_gpus() -> int:
    """GPUs of this machine, whether this process keeps its hands off them or not."""
    return len(tensorflow().config.list_physical_devices("GPU"))


def gpus_per_process(layout: Layout) -> int:
    """GPUs for each process of a multi-worker strategy on this machine; 0: they compute on CPUs."""
    if any(d.startswith("CPU") for d in layout.devices or ()):
        return 0
    asked = any(d.startswith("GPU") for d in layout.devices or ())
    return (layout.per_process if layout.split == "batch" else 1) if asked or physical_gpus() else 0


def prepare_processes(layout: Layout) -> None:
    """What must hold before processes of this machine run a multi-worker strategy.

    Raises:
        UsageError: more replicas than GPUs, or several replicas of a process on a CPU.
    """
    each = gpus_per_process(layout)
    wanted = each * (layout.processes if layout.split == "batch" else layout.replicas or 1)
    if wanted > physical_gpus():
        raise UsageError(
            f"{wanted} GPUs are needed on this machine: TensorFlow sees {', '.join(visible())}; "
            "on a cluster, give its --address"
        )
    if not each:
        prepare(layout)
    hands_off()  # its processes compute, this one only plans


def _replicas_here(layout: Layout, on_cpus: bool) -> int | None:
    """Replicas in this process; None: one per device."""
    if not layout.mirrors:
        return None
    if layout.name == "multi_worker_mirrored":
        return layout.per_process if layout.split == "batch" else None
    return layout.replicas or (cpu_count() if on_cpus and not layout.devices else None)


def _logical_cpus(count: int) -> None:
    """Makes sure that the CPU is at least `count` devices.

    Raises:
        UsageError: TensorFlow has started with fewer.
    """
    tf = tensorflow()
    cpu = tf.config.list_physical_devices("CPU")[0]
    if count <= _parts(cpu):
        return
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:
        raise UsageError(
            f"{count} CPU devices are needed and TensorFlow has started with {_parts(cpu)} in this process: "
            "run the study before anything else is computed, or by 'optgrid run'"
        ) from error


def _parts(device: Any) -> int:
    """Logical devices of a physical one."""
    return max(1, len(tensorflow().config.get_logical_device_configuration(device) or ()))


def visible() -> list[str]:
    """Devices of this process as TensorFlow sees them, `CPU:0` first; TensorFlow is not started."""
    config = tensorflow().config
    return [
        f"{kind}:{i}"
        for kind in ("CPU", "GPU")
        for i in range(sum(_parts(d) for d in config.get_visible_devices(kind)))
    ]


def devices(wanted: list[str] | None) -> list[str]:
    """Devices that tiles may run on: the wanted ones, else every GPU, else the CPU.

    Raises:
        UsageError: a wanted device is not there; says what TensorFlow sees.
    """
    seen = visible()
    if wanted:
        missing = [d for d in wanted if d not in seen]
        if missing:
            raise UsageError(f"no device '{missing[0]}' here: TensorFlow sees {', '.join(seen)}")
        return list(wanted)
    return [d for d in seen if d.startswith("GPU")] or ["CPU:0"]


def hands_off() -> None:
    """Keeps this process off the GPUs, which processes beside it use: TensorFlow takes all memory that it
    sees."""
    tf = tensorflow()
    with contextlib.suppress(RuntimeError):  # in use already, in a notebook: it keeps what it has
        tf.config.set_visible_devices([], "GPU")


class PeerLost(RunError):
    """Another process of a split batch is gone: this one cannot go on, and the tile is to be run again."""
