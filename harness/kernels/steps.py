"""Where the time of a training step goes: forward and backward, update, batch, recording."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from .. import catalog
from ..types import Component
from . import measure
from .cases import LEARNING_RATE, Prepared
from .device import Device, tensorflow
from .measure import Pace, Timing
from .schema import StepRow

PARTS = ("forward and backward", "update", "batch", "recording")
LEAST = 0.01  # of a part's seconds that is its own at least, where the call is nearly all
NOTABLE = 0.10  # share of the step from which an update is worth a sentence


def profile_step(workload: Component, optimizer: Component, device: Device, pace: Pace) -> Iterator[StepRow]:
    """Seconds of each part of one run's training step, each compiled by XLA by itself, and of the whole.

    What a call of an empty program costs is taken off each part: in a real step, parts are not called one by
    one. A share is the part's seconds over the sum of forward and backward, update and batch; recording is
    said beside them, since it runs only at recorded points. The whole step, compiled as one program, may
    still take less than its parts.
    """
    tf = tensorflow()
    with tf.device(f"/device:{device.name}"):
        prepared = _parts(workload, optimizer, device)
        timed = {part: measure.start(each, pace) for part, each in prepared.items()}
        measure.take_turns(list(timed.values()))
    timings = {part: measure.summary(each) for part, each in timed.items()}
    call = timings.pop("call").median
    timings = {part: _without(timing, call) for part, timing in timings.items()}
    step = sum(
        timings[part].median for part in ("forward and backward", "update", "batch") if part in timings
    )
    model = catalog.build_workload(workload)
    leaves = tf.nest.flatten(model.init(0))
    for part, timing in timings.items():
        yield StepRow(
            workload=workload.label,
            optimizer=optimizer.label,
            device=device.name,
            dtype=leaves[0].dtype.name,
            parameters=sum(int(tf.size(leaf)) for leaf in leaves),
            part=part,
            seconds=timing.median,
            seconds_low=timing.low,
            seconds_high=timing.high,
            windows=timing.windows,
            share=timing.median / step,
            detail=f"less {call * 1e6:.0f} µs of the call itself",
        )


def _without(timing: Timing, call: float) -> Timing:
    """What is left without the call; never nothing, so that shares stay defined."""
    median, low, high = (max(x - call, LEAST * x) for x in (timing.median, timing.low, timing.high))
    return replace(timing, median=median, low=low, high=high)


def sentence(rows: list[StepRow]) -> str:
    """What the split says: whether the update takes a share worth work."""
    update = next((row for row in rows if row.part == "update"), None)
    if update is None:
        return ""
    where = f"{update.optimizer} on {update.workload}: the update is {update.share:.0%} of a step"
    if update.share > NOTABLE:
        return f"{where}, more than {NOTABLE:.0%}: a faster update would show"
    return f"{where}: gradients and batches take the rest"


def _parts(workload: Component, optimizer: Component, device: Device) -> dict[str, Prepared]:
    tf = tensorflow()
    model, rule = catalog.build_workload(workload), catalog.build_optimizer(optimizer)
    params = tf.nest.map_structure(tf.convert_to_tensor, model.init(0))
    state = rule.init(params)
    first = model.batch(0, 0)
    rate = tf.constant(LEARNING_RATE, tf.float64)

    def gradients(params: Any, batch: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(params)
            loss = model.loss(params, batch)
        slopes = tape.gradient(loss, params, unconnected_gradients="zero")
        return loss, tf.nest.map_structure(tf.convert_to_tensor, slopes)

    def whole(params: Any, state: Any, step: Any) -> Any:
        _, grads = gradients(params, model.batch(0, step) if first is not None else None)
        return rule.update(params, grads, state, rate, step)

    def compiled(function: Any, *arguments: Any) -> Prepared:
        program = tf.function(function, autograph=False, jit_compile=True)
        return Prepared(lambda: program(*arguments), device.wait)

    zero = tf.constant(0)
    _, grads = gradients(params, first)
    parts = {
        "forward and backward": compiled(gradients, params, first)
        if first is not None
        else compiled(lambda p: gradients(p, None), params),
        "update": compiled(lambda p, g, s: rule.update(p, g, s, rate, zero), params, grads, state),
    }
    if first is not None:
        parts["batch"] = compiled(lambda step: model.batch(0, step), zero)
    if model.monitor(params):
        parts["recording"] = compiled(model.monitor, params)
    parts["call"] = compiled(lambda step: step + 1, zero)
    parts["whole step"] = compiled(whole, params, state, zero)
    return parts
