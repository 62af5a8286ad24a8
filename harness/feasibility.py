"""What a study asks of its strategy, checked before anything starts. Needs none of the hardware."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from harness import catalog
from harness.types import Cell, Component, Layout, UsageError


def require_possible(layout: Layout, cells: Iterable[Cell]) -> None:
    """Refuses what no number of devices could run.

    Raises:
        UsageError: an optimizer needs per-example gradients; a workload forbids parts of unequal size and
            its batch makes none of equal size; processes that replicas cannot be shared out over.
    """
    if layout.split != "batch":
        return
    replicas = layout.replicas or len(layout.devices or ()) or 1
    if replicas % layout.processes:
        raise UsageError(f"{replicas} replicas cannot be shared out evenly over {layout.processes} workers")
    cells = list(cells)
    for optimizer in {c.optimizer.label: c.optimizer for c in cells}.values():
        for part in _parts(optimizer):
            if catalog.entry_of("optimizer", part).constants.get("per_example_gradients"):
                raise UsageError(
                    f"'{optimizer.label}' needs per-example gradients, and split: batch sums gradients over "
                    "replicas before the update: use split: lanes"
                )
    for cell in {(c.workload.label, c.dtype): c for c in cells}.values():
        _check_parts(cell, replicas, layout.drop_remainder)


def _parts(optimizer: Component) -> Iterator[Component]:
    yield optimizer
    for inner in optimizer.inner:
        yield from _parts(inner)


def _check_parts(cell: Cell, replicas: int, drop_remainder: bool) -> None:
    try:
        workload = catalog.build_workload(cell.workload, cell.dtype)
    except Exception:  # a plug-in's: its rows will say why
        return
    size = batch_size(workload)
    if size is None:
        return
    label, rest = cell.workload.label, size % replicas
    if drop_remainder and size < replicas:
        raise UsageError(
            f"'{label}': a batch of {size} leaves nothing for {replicas} replicas once the remainder is "
            "dropped: use fewer replicas or a larger batch"
        )
    if rest and not drop_remainder and getattr(workload, "equal_parts", False):
        raise UsageError(
            f"'{label}' needs parts of one size, and a batch of {size} cannot be cut into {replicas}: use a "
            f"batch of {size - rest or replicas} or {size - rest + replicas}, or 'drop_remainder: true'"
        )


def batch_size(workload: Any) -> int | None:
    """Examples in a batch, along the first axis of all its leaves, where the workload's loss is their mean.

    A workload says so by its `batch_size`. What else a batch may be (the noise of a step) is one thing that
    cannot be cut.
    """
    size = getattr(workload, "batch_size", None)
    return size if isinstance(size, int) and not isinstance(size, bool) else None


def mean_of_parts(workload: Any, params: Any, batch: Any, parts: int) -> bool:
    """Whether loss and gradients of a batch are, to rounding, the means of those of its equal parts: not
    where examples see each other, as when they are normalised together, and not where the loss takes
    no other number of them. Imports TensorFlow."""
    from harness.runtime import tensorflow

    tf = tensorflow()

    def look(batch: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            tape.watch(params)
            loss = workload.loss(params, batch)
        slopes = tape.gradient(loss, params, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [loss, *map(tf.convert_to_tensor, tf.nest.flatten(slopes))]

    def cut(k: int) -> Any:
        def of(leaf: Any) -> Any:
            size = len(leaf) // parts
            return leaf[k * size : (k + 1) * size]

        return tf.nest.map_structure(of, batch)

    whole = look(batch)
    try:
        some = [look(cut(k)) for k in range(parts)]
    except Exception:  # of the user's, whose loss of a whole batch is fine
        return False
    means = [sum(each) / parts for each in zip(*some, strict=True)]
    return all(_close(tf, a, b) for a, b in zip(whole, means, strict=True))


def _close(tf: Any, a: Any, b: Any) -> bool:
    scale = tf.reduce_max(tf.abs(a))
    return bool(tf.reduce_max(tf.abs(a - b)) <= 1e-4 * scale + 1e-12)
