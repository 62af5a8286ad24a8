"""How long a program's calls are, and what each keeps of the points that are recorded in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import tensorflow as tf

from harness import tiling
from harness.segments import Recorded
from harness.tiling import RecordPlan

Nest = Any

MAX_STRIDES = 64
# Where runs are evaluated: a visit of the host's takes as long as fifteen steps of a small network, so that
# for a dozen points at once it is little.
MAX_STRIDES_EVALUATED = 16


@dataclass(frozen=True)
class Calls:
    """What a program's calls may be asked for.

    Args:
        plan: which steps are recorded.
        lanes: how many.
        real: dtype of points.
        quantities: of a recorded point; 0 where points are not kept.
        monitored: whether lanes are evaluated at every recorded point.
        drawn: bytes that are drawn ahead for a step of all lanes.
        viewed: the specification of what is evaluated there, of all lanes; () where a call cannot keep it,
            since runs may end at a point, or others advance the program.
    """

    plan: RecordPlan
    lanes: int
    real: tf.DType
    quantities: int
    monitored: bool
    drawn: int
    viewed: Nest

    @cached_property
    def views(self) -> Nest:
        """What is evaluated at a recorded point, where a call keeps it; () where the host sees to one point
        after another: also where two of a call's are too many. They are large, and a call's own cost is
        little then, or strides are long."""
        several = self.monitored and self._strides_in_trace > 1
        return self.viewed if several and _bytes(self.viewed) * 2 <= tiling.BYTES_OF_VIEWS else ()

    @property
    def _strides_in_trace(self) -> int:
        """The most strides of which a call's trace may hold all steps; 0 where one is too long."""
        return self._steps // self.plan.span // self.plan.rounds

    @property
    def _steps(self) -> int:
        """The most of which a call may hold values and draws."""
        drawn = tiling.BYTES_OF_DRAWS // self.drawn if self.drawn else tiling.VALUES_PER_CALL
        return min(tiling.VALUES_PER_CALL // self.lanes, drawn)

    @cached_property
    def spans(self) -> int:
        """The most that a call may be asked for; whole strides, unless one is longer than a call."""
        strides = min(self.plan.strides, self._strides_in_trace, MAX_STRIDES)
        if not strides:
            return max(1, self._steps // self.plan.span)
        if self.views:
            strides = min(strides, MAX_STRIDES_EVALUATED, tiling.BYTES_OF_VIEWS // _bytes(self.views))
        elif self.monitored:
            strides = 1
        return strides * self.plan.rounds

    @property
    def strides(self) -> int:
        """The most strides that are begun in a call."""
        return max(1, self.spans // self.plan.rounds)

    @property
    def rows(self) -> int:
        """Of a call's trace: its steps, and where all of a run is one call, what is seen at its end."""
        return self.spans * self.plan.span + 1

    @property
    def nowhere(self) -> int:
        """The slot of what is recorded that nobody asks for; see `recorded`."""
        return self.strides + 1

    @property
    def recorded(self) -> Recorded:
        """The specification of what is recorded in a call, [slots, ...]: a slot for the start of each stride,
        one for the end of the last, one for all that nobody asks for, and of points, [quantities, lanes], one
        for each early step."""
        slots = self.nowhere + 1

        def of_slots(spec: tf.TensorSpec) -> tf.TensorSpec:
            return tf.TensorSpec([slots, *spec.shape], spec.dtype)

        shape = [slots + len(self.plan.early), self.quantities, self.lanes]
        points = tf.TensorSpec(shape, self.real) if self.quantities else ()
        return Recorded(points, tf.nest.map_structure(of_slots, self.views))


def _bytes(specs: Nest) -> int:
    return sum(spec.dtype.size * spec.shape.num_elements() for spec in tf.nest.flatten(specs))
