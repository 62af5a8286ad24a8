"""One batch over several replicas: compiled gradients, one all-reduce, compiled update, in one loop.

Every replica holds the same parameters and computes the gradient of its part of the batch, for all lanes at
once; the sum over replicas, each part weighted by its share of the batch, is the gradient of the whole. No
collective can be compiled by XLA (on CPUs; TensorFlow 2.21), so the two halves of a step are compiled
functions of tensors, and the loop around them is a `tf.function` without Python in it. It lies outside
`strategy.run`: TensorFlow cannot reduce over replicas from within a loop of theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from harness import lift, segments
from harness.bookkeeping import Ran
from harness.feasibility import batch_size
from harness.lanemaths import Inputs
from harness.program import LaneProgram
from harness.runtime import own_names
from harness.segments import Carry, Moving, Recorded
from harness.strategies import PeerLost, Placement, summed

Nest = Any
SUM = tf.distribute.ReduceOp.SUM
# What TensorFlow raises where another process of a collective is gone.
LOSSES = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)


class Part(NamedTuple):
    """A replica's rows of a batch: where they begin, how many, and their share of those that are used."""

    first: int
    size: int
    share: float


def parts(size: int | None, replicas: int, drop_remainder: bool = False) -> list[Part]:
    """How a batch is cut: contiguous parts whose sizes differ by one at most, larger ones first.

    Args:
        size: of the batch; None: it is one thing that cannot be cut, and the first replica has it.
        drop_remainder: leave out the last rows that make no whole part for every replica.
    """
    size = 1 if size is None else size
    used = size - size % replicas if drop_remainder and size >= replicas else size
    even, rest = divmod(used, replicas)
    sizes = [even + (i < rest) for i in range(replicas)]
    return [Part(sum(sizes[:i]), n, n / used) for i, n in enumerate(sizes)]


class ReplicasDiffer(Exception):
    """Replicas that must hold the same parameters do not: a defect."""


class BatchLoop:
    """How a lanes' program advances when its batches are spread over a strategy's replicas.

    All that is kept per lane, and its meaning, stays that of `LaneProgram`; only where a step gets its
    gradients from differs. Where the strategy keeps parameters in one place (`central_storage`) the update
    is made there, once; else every replica makes the same one.

    Args:
        lanes: the program.
        place: the strategy and its devices in this process.
    """

    def __init__(self, lanes: LaneProgram, place: Placement):
        self.lanes, self.place = lanes, place
        self.strategy, self.devices = place.strategy, place.local
        program = lanes.program
        if self.strategy.num_replicas_in_sync != program.replicas:
            raise ValueError(
                f"'{place.name}' has {self.strategy.num_replicas_in_sync} replicas here, "
                f"and the study's batches are split into {program.replicas}."
            )
        self.size = batch_size(lanes.workload) if lanes.stochastic else None
        self.parts = parts(self.size, program.replicas, program.drop_remainder)
        # Replicas without examples have no part in the loss.
        cuts = [(part.first, part.size, part.share) for part in self.parts if part.size]
        self.examples = cuts if self.size is not None else []
        self.central = place.name == "central_storage"
        self.first = place.index * len(self.devices)  # this process's replicas, in the numbers of all
        self.numbers = lanes.lanes.count * (1 + lanes.maths.size)  # that a replica gives to the sum
        self.all_reduce_seconds = 0.0
        self.loop: Any = None

    def advance(self, carry: Carry, inputs: Inputs, spans: int, steps: int) -> tuple[Ran, tf.Tensor]:
        """What a call gives, and its trace.

        Raises:
            PeerLost: another process of the strategy is gone.
            ReplicasDiffer: a defect.
        """
        moving = segments.moving(carry)
        moving = moving._replace(going=np.asarray(carry.live) & np.asarray(inputs.go))
        asked = tf.nest.map_structure(tf.convert_to_tensor, (moving, carry.step, inputs._replace(begin=())))
        loop = self.loop if self.loop is not None else self._trace(*asked)
        try:
            found, trace, seconds, agree = loop(*asked, tf.constant(spans), tf.constant(steps))
            self.all_reduce_seconds += float(seconds)
            alike = bool(agree)
        except LOSSES as error:
            if self.place.peers == 1:
                raise
            raise PeerLost(f"a process of the split batch is gone: {type(error).__name__}") from error
        if not alike:
            raise ReplicasDiffer("replicas of one run hold different parameters")
        moving, points, made = found
        return Ran(moving, Recorded(points, ()), int(made)), trace

    def _trace(self, moving: Moving, step: tf.Tensor, inputs: Inputs) -> Any:
        """Traces both halves of a step here, outside the replicas' threads: names of what XLA compiles then
        depend on the program only, and its cache finds them again."""

        def compiled(fn: Callable[..., Any], *args: Any) -> Any:
            made = tf.function(fn, jit_compile=self.lanes.jit, autograph=False)
            return made.get_concrete_function(*args)

        mine = self.parts[self.first : self.first + len(self.devices)]
        first = tf.constant(0)
        # Parts of one size share a program: where a part begins is an input.
        by_size = {
            part.size: compiled(partial(self._weighted, part.size, part.share), first, moving, step, inputs)
            for part in mine
        }
        self.gradients = [partial(by_size[part.size], tf.constant(part.first)) for part in mine]
        total = tf.TensorSpec([self.numbers], self.lanes.real)
        self.update = compiled(self._updated, moving, step, inputs, total)
        self.bits = compiled(_fingerprint, moving.params, moving.state)
        loop = tf.function(self._advance, autograph=False)
        with own_names():
            self.loop = loop.get_concrete_function(moving, step, inputs, tf.constant(0), tf.constant(0))
        return self.loop

    # -- the compiled halves of a step -----------------------------------------------------------------

    def _weighted(
        self, size: int, share: float, first: tf.Tensor, moving: Moving, step: tf.Tensor, inputs: Inputs
    ) -> tf.Tensor:
        """A replica's summand, [lanes × (1 + parameters)]: loss and gradients of its part, by its share."""
        lanes = self.lanes
        if not size:
            return tf.zeros([self.numbers], lanes.real)
        if lanes.stochastic:
            batches = lanes.maths.batches(moving.going, step, inputs)
            if self.size is not None:
                batches = tf.nest.map_structure(
                    lambda leaf: tf.ensure_shape(
                        leaf[:, first : first + size], [leaf.shape[0], size, *leaf.shape[2:]]
                    ),
                    batches,
                )
            loss, gradients = lanes.maths.lifted(lanes.maths.differentiate, [moving.params], batches)
        else:
            loss, gradients = lanes.maths.lifted(
                lambda p: lanes.maths.differentiate(p, None), [moving.params]
            )
        gradients = tf.nest.flatten(lift.load(gradients, lanes.trailing))
        # One dtype for all: 16-bit gradients are summed in 32 bits.
        flat = [tf.reshape(tf.cast(leaf, lanes.real), [-1]) for leaf in (loss, *gradients)]
        return tf.concat(flat, 0) * tf.constant(share, lanes.real)

    def _updated(self, moving: Moving, step: tf.Tensor, inputs: Inputs, total: tf.Tensor) -> Any:
        """The update of all lanes from the summed gradients: what moves, what `step_given` says of the step,
        and whether any lane goes on."""
        start, count = self.lanes.start, self.lanes.lanes.count
        sizes = [count * leaf.shape.num_elements() for leaf in tf.nest.flatten(start)]
        loss, *pieces = tf.split(total, [count, *sizes])
        gradients = [
            tf.cast(tf.reshape(piece, [count, *leaf.shape]), leaf.dtype)
            for piece, leaf in zip(pieces, tf.nest.flatten(start), strict=True)
        ]
        given = loss, tf.nest.pack_sequence_as(start, gradients)
        moving, *seen = self.lanes.step_given(moving, step, inputs._replace(given=given))
        return moving, seen, tf.reduce_any(moving.going)

    # -- a step of all replicas ------------------------------------------------------------------------

    def _here(self) -> int:
        """Which of this process's replicas is being traced."""
        context = tf.distribute.get_replica_context()
        return int(tf.get_static_value(context.replica_id_in_sync_group)) - self.first

    def _mirrored(self, movings: Sequence[Moving], step: tf.Tensor, inputs: Sequence[Inputs]) -> Any:
        """Every replica updates its own copy."""

        def replica(movings: Sequence[Moving], step: tf.Tensor, inputs: Sequence[Inputs]) -> Any:
            here = self._here()
            summand = self.gradients[here](movings[here], step, inputs[here])
            begin = _now(summand) if here == 0 else tf.constant(0.0, tf.float64)
            total = tf.distribute.get_replica_context().all_reduce(SUM, summand)
            end = _now(total) if here == 0 else begin
            return self.update(movings[here], step, inputs[here], total), end - begin

        out = self.strategy.run(replica, args=(movings, step, inputs))
        each = [self._local(out, i) for i in range(len(self.devices))]
        (_, seen, alive), seconds = each[0]
        return tuple(moving for (moving, _, _), _ in each), seen, alive, seconds

    def _central(self, movings: Sequence[Moving], step: tf.Tensor, inputs: Sequence[Inputs]) -> Any:
        """The update is made once, where the parameters are."""

        def replica(moving: Moving, step: tf.Tensor, inputs: Sequence[Inputs]) -> tf.Tensor:
            here = self._here()
            return self.gradients[here](moving, step, inputs[here])

        summands = self.strategy.run(replica, args=(movings[0], step, inputs))
        begin = _now(self._local(summands, 0))
        with tf.device(self.devices[0]):
            total = summed(self.strategy.experimental_local_results(summands))
        moving, seen, alive = self.update(movings[0], step, inputs[0], total)
        return (moving,), seen, alive, _now(total) - begin

    def _local(self, values: Nest, replica: int) -> Nest:
        """What one replica of this process returned."""
        results = self.strategy.experimental_local_results
        return tf.nest.map_structure(lambda value: results(value)[replica], values)

    # -- the loop --------------------------------------------------------------------------------------

    def _advance(
        self, moving: Moving, step: tf.Tensor, inputs: Inputs, spans: tf.Tensor, steps: tf.Tensor
    ) -> Any:
        """What a call gives; then the seconds that the first replica of this process waited
        for sums, and whether all replicas hold the same bits."""
        devices = self.devices[:1] if self.central else self.devices
        movings, every_input = _copies(moving, devices), _copies(inputs, self.devices)
        one_step = self._central if self.central else self._mirrored
        lanes, plan, strides = self.lanes, self.lanes.plan, self.lanes.calls.strides
        early = np.full([plan.span + 1], strides, np.int32)  # `strides` is where what nobody asks for goes
        for number, at in enumerate(plan.early):
            early[at] = strides + 1 + number
        slots = strides + 1 + len(plan.early)
        records: Any = ()
        if lanes.program.curves:
            records = _array(slots, [3 + lanes.coordinates, lanes.lanes.count], lanes.real)

        def body(k: Any, alive: Any, movings: Any, trace: Any, records: Any, seconds: Any) -> Any:
            movings, (row, record), alive, waited = one_step(movings, step + k, every_input)
            if lanes.program.curves:
                stride = steps * plan.rounds
                within = tf.where(k < steps, tf.minimum(k, plan.span), plan.span)
                slot = tf.where(k % stride == 0, k // stride, tf.gather(early, within))
                records = records.write(slot, record)
            return k + 1, alive, movings, trace.write(k, row), records, seconds + waited

        trace = _array(lanes.calls.rows, [lanes.lanes.count], lanes.real)
        # The first step is always taken: it moves no lane that is idle, and compiles.
        begin = (tf.constant(0), tf.constant(True), movings, trace, records)
        count, _, movings, trace, records, seconds = tf.while_loop(
            lambda k, alive, *_: (k < spans * steps) & alive, body, (*begin, tf.constant(0.0, tf.float64))
        )
        points = records.stack() if lanes.program.curves else ()
        return (movings[0], points, count), trace.stack(), seconds, self._agree(movings)

    def _agree(self, movings: Sequence[Moving]) -> tf.Tensor:
        """Whether all replicas hold the same parameters and state, to the bit."""
        replicas = self.lanes.program.replicas
        if replicas == 1 or self.central:
            return tf.constant(True)

        def replica(movings: Sequence[Moving]) -> tf.Tensor:
            mine = self.bits(*movings[self._here()][:2])
            return tf.distribute.get_replica_context().all_reduce(SUM, mine) == replicas * mine

        same = self.strategy.run(replica, args=(movings,))
        return tf.reduce_all(tf.stack(self.strategy.experimental_local_results(same)))


def _array(size: int, row: list[int], dtype: tf.DType) -> tf.TensorArray:
    out = tf.TensorArray(dtype, size, element_shape=row, clear_after_read=False)
    return out.unstack(tf.zeros([size, *row], dtype))


def _copies(nest: Nest, devices: Sequence[str]) -> tuple[Nest, ...]:
    """One for each device, there."""
    found = []
    for device in devices:
        with tf.device(device):
            found.append(tf.nest.map_structure(tf.identity, nest))
    return tuple(found)


def _now(after: tf.Tensor) -> tf.Tensor:
    """The time when a tensor is there, in seconds; on the host, which waits for a GPU's."""
    with tf.device("CPU:0"):
        seen = tf.identity(after[:1])
        with tf.control_dependencies([seen]):
            return tf.timestamp()


def _fingerprint(params: Nest, state: Nest) -> tf.Tensor:
    """A sum over all bits, int64: equal replicas have equal ones."""
    total = tf.constant(0, tf.int64)
    for i, leaf in enumerate(tf.nest.flatten((params, state))):
        if leaf.dtype.is_floating:
            leaf = tf.bitcast(leaf, {2: tf.int16, 4: tf.int32, 8: tf.int64}[leaf.dtype.size])
        total += (i + 1) * tf.reduce_sum(tf.cast(leaf, tf.int64))
    return total
