"""The maths of one run, lifted over all lanes: where they stand, what they see there, and how they move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from harness import halves, lift, nodes
from harness.draws import of_step as draws_of_step
from harness.lanes_last import Lifting
from harness.segments import Moving, Stand
from harness.tiles import Tiles
from harness.types import Lanes, Program

Nest = Any


class Inputs(NamedTuple):
    """What the host sends with every call; leaves are [lanes] unless stated."""

    begin: Nest  # [lanes, ...] initial parameters of the run in each lane
    group_seeds: tf.Tensor  # [groups] int32
    learning_rate: tf.Tensor  # float64
    traced: tuple[tf.Tensor, ...]  # float64, one per traced hyperparameter; a scalar where all runs share it
    targets: tf.Tensor  # [LADDER, lanes]
    limit: tf.Tensor  # above it a run counts as diverged
    go: tf.Tensor  # bool, take part in this call
    drawn: Nest = ()  # of the call's steps, [groups, rows, ...], where that is done ahead
    given: Nest = ()  # the step's loss [lanes] and gradients [lanes, ...] where others computed them


def check_update(params: Nest, new_params: Nest, state: Nest, new_state: Nest) -> None:
    """An update must keep structure, shapes and dtypes; says which leaf does not."""
    for what, old, new in (("parameters", params, new_params), ("state", state, new_state)):
        try:
            tf.nest.assert_same_structure(old, new)
        except (TypeError, ValueError) as error:
            raise TypeError(f"update() changed the structure of the {what}.") from error
        for i, (a, b) in enumerate(zip(tf.nest.flatten(old), tf.nest.flatten(new), strict=True)):
            b = tf.convert_to_tensor(b)
            if a.dtype != b.dtype:
                raise TypeError(
                    f"update() returned {b.dtype.name} for leaf {i} of the {what}, expected {a.dtype.name}."
                )
            if not a.shape.is_compatible_with(b.shape):
                raise TypeError(
                    f"update() returned shape {tuple(b.shape)} for leaf {i} of the {what}, "
                    f"expected {tuple(a.shape)}."
                )


class LaneMaths:
    """What an optimizer and a workload compute, for one run and for all lanes of a program.

    Args:
        program: its `lanes` decide the shapes.
        workload: an instance, already in the program's dtype.
        build_optimizer: traced values (scalars, in `Component.traced()` order) → optimizer.
        jit: whether XLA compiles it.
    """

    def __init__(
        self,
        program: Program,
        workload: Any,
        build_optimizer: Callable[[Sequence[Any] | None], Any],
        *,
        jit: bool,
    ):
        self.workload, self.build_optimizer, self.jit = workload, build_optimizer, jit
        self.lanes: Lanes = program.lanes
        self.start = tf.nest.map_structure(tf.convert_to_tensor, workload.init(0))
        self.written_out = program.written_out and jit and program.lanes.count > 1
        self.parts = program.parts if self.written_out else 1
        self.trailing = lift.trailing_layout(self.start) or self.written_out
        self.lifting = Lifting(program.lanes.count)
        self.tiles = Tiles.where_compiled(jit and not self.trailing and program.split == "lanes")
        self.state = build_optimizer(None).init(self.start)
        self.real = tf.float64 if program.dtype == "float64" else tf.float32
        probe = workload.batch(0, 0)
        self.stochastic = probe is not None
        self.batch_spec = tf.nest.map_structure(
            lambda leaf: tf.TensorSpec(leaf.shape, leaf.dtype),
            tf.nest.map_structure(tf.convert_to_tensor, probe) if self.stochastic else (),
        )
        leaves = tf.nest.flatten(self.start)
        self.size = sum(leaf.shape.num_elements() for leaf in leaves)

    # -- one run -----------------------------------------------------------------------------------

    def differentiate(self, params: Nest, batch: Nest | None) -> tuple[tf.Tensor, Nest]:
        """Loss and gradients of a single run, in the structure of `params`."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(params)
            loss = self.workload.loss(params, batch)
        gradients = tape.gradient(loss, params, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return loss, tf.nest.map_structure(tf.convert_to_tensor, gradients)  # of rows that were picked, too

    def _look(self, traced: Any, params: Nest, state: Nest, *batch: Nest) -> Nest:
        """What a single run sees at its parameters; see `_seen`."""
        found = self.differentiate(params, batch[0] if self.stochastic else None)
        return self._seen(traced, params, state, found)

    def _seen(self, traced: Any, params: Nest, state: Nest, found: tuple[tf.Tensor, Nest]) -> Nest:
        """The loss, the value that targets are compared with (() where it is the loss), and gradients."""
        loss, gradients = found
        seen = self.build_optimizer(traced).eval_params(params, state)
        same = all(a is b for a, b in zip(tf.nest.flatten(seen), tf.nest.flatten(params), strict=True))
        value = None if same and not self.stochastic else self.workload.objective(seen)
        return tf.cast(loss, self.real), () if value is None else tf.cast(value, self.real), gradients

    def _move(self, traced: Any, params: Nest, gradients: Nest, state: Nest, rate: Any, step: Any) -> Nest:
        """One update of a single run."""
        new_params, new_state = self.build_optimizer(traced).update(params, gradients, state, rate, step)
        check_update(params, new_params, state, new_state)
        return new_params, new_state

    # -- all lanes ---------------------------------------------------------------------------------

    def with_traced(
        self, fn: Callable[..., Nest], traced: Sequence[tf.Tensor]
    ) -> tuple[Callable[..., Nest], list[tf.Tensor]]:
        """`fn(traced, ...)` as a function of those hyperparameters only that differ between lanes, and these.

        What all lanes share stays a scalar: what an optimizer makes of it is made once.
        """
        shared = [value.shape.rank == 0 for value in traced]

        def with_all(own: Sequence[tf.Tensor], *rest: Nest) -> Nest:
            lane = iter(own)
            return fn(tuple(v if s else next(lane) for v, s in zip(traced, shared, strict=True)), *rest)

        return with_all, [v for v, s in zip(traced, shared, strict=True) if not s]

    def lifted(
        self,
        fn: Callable[..., Nest],
        args: Sequence[Nest],
        batches: Nest | None = None,
        *,
        compiled: bool = True,
    ) -> Nest:
        """`fn` for every lane: leaves of `args` and of the result are in the memory layout, of `batches`, its
        last argument where there are any, [groups, ...]. What XLA does not compile cannot be written out."""
        if self.written_out and compiled:
            own, shared = [*args], []
            if batches is not None and self.lanes.groups == 1:
                shared = [tf.nest.map_structure(lambda leaf: leaf[0], batches)]
            elif batches is not None:
                each = tf.nest.map_structure(lambda leaf: tf.repeat(leaf, self.lanes.width, 0), batches)
                own.append(lift.store(each, True))
            return self.lifting(fn, own, shared)
        return lift.store(
            self._lanes_first(fn, [lift.load(n, self.trailing) for n in args], batches), self.trailing
        )

    def _lanes_first(self, fn: Callable[..., Nest], args: Sequence[Nest], batches: Nest | None) -> Nest:
        """`lifted` by TensorFlow's vectorizer; leaves of `args` and of the result are [lanes, ...]."""
        if self.lanes.count == 1:
            given = [*args] if batches is None else [*args, batches]
            return lift.map_one(fn, given, xla=self.jit, tiles=self.tiles)
        if batches is None:
            return lift.map_lanes(fn, args, self.tiles)
        return lift.map_groups(fn, args, batches, self.lanes.groups, self.lanes.width, self.tiles)

    @property
    def as_function(self) -> bool:
        """Whether a loop of what has been traced may become one function: all its products are made here."""
        if self.tiles is not None:
            return not self.tiles.foreign
        return self.trailing and not self.lifting.foreign

    def batches(self, live: tf.Tensor, step: tf.Tensor, inputs: Inputs) -> Nest:
        """The batches of this step, gathered once per seed: leaves are [groups, ...]."""
        return self._drawn_now(self.steps_of_groups(live, step), inputs)

    def steps_of_groups(self, live: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Where the lanes of each group stand that are live, [groups] int32, from a bool and a step of each
        lane."""
        step = tf.where(live, step, 0)
        return tf.reduce_max(tf.reshape(step, [self.lanes.groups, self.lanes.width]), 1)

    def _batches_at(self, at: Stand, inputs: Inputs) -> Nest:
        if not tf.nest.flatten(inputs.drawn):
            return self._drawn_now(at.groups, inputs)
        draws = draws_of_step(inputs.drawn, at.row)
        if self.lanes.groups > 1:
            try:
                return lift.map_lanes(self.workload.batch_of, [draws])
            except ValueError:  # it has no vectorised form, and need not have one
                return lift.map_in_turn(self.workload.batch_of, draws, self.batch_spec)
        one = self.workload.batch_of(tf.nest.map_structure(lambda leaf: leaf[0], draws))
        return tf.nest.map_structure(lambda leaf: tf.convert_to_tensor(leaf)[None], one)

    def _drawn_now(self, steps: tf.Tensor, inputs: Inputs) -> Nest:
        """The batches of each group's step, [groups]."""
        if self.lanes.groups == 1:
            one = self.workload.batch(inputs.group_seeds[0], steps[0])
            return tf.nest.map_structure(lambda leaf: tf.convert_to_tensor(leaf)[None], one)
        return lift.map_in_turn(
            lambda pair: self.workload.batch(pair[0], pair[1]), (inputs.group_seeds, steps), self.batch_spec
        )

    def observe(self, moving: Moving, at: Stand, inputs: Inputs) -> tuple[tf.Tensor, tf.Tensor, Nest]:
        """Loss, value ([lanes]) and gradients (in the memory layout) where the lanes stand."""
        look, own = self.with_traced(self._seen if inputs.given else self._look, inputs.traced)
        args = [own, moving.params, moving.state]
        if self.parts > 1:
            batch = tf.nest.map_structure(lambda leaf: leaf[0], self._batches_at(at, inputs))
            found = self._part_by_part(moving, batch, inputs)
        elif inputs.given:
            found = self.lifted(look, [*args, lift.store(inputs.given, self.trailing)])
        elif self.stochastic:
            found = self.lifted(look, args, self._batches_at(at, inputs))
        else:
            found = self.lifted(look, args)
        return self._found(found)

    def _found(self, found: Nest) -> tuple[tf.Tensor, tf.Tensor, Nest]:
        """What `observe` returns of what `_look` does."""
        loss, value, gradients = lift.materialize(found) if self.jit else found
        return loss, loss if isinstance(value, tuple) else value, gradients

    def in_halves(self, moving: Moving, inputs: Inputs) -> halves.Halves | None:
        """`observe` in two halves, traced; None where that is not worth it."""
        batch = tf.nest.flatten(self.batch_spec)
        if self.tiles is None or not batch or inputs.given or self.lanes.count == 1:
            return None
        if self.size * (batch[0].shape[0] if batch[0].shape.rank else 1) < halves.LEAST:
            return None
        look, args = self._looking(moving, inputs)
        made = halves.Halves(look, args, self.batch_spec, self.lanes, self.tiles)
        return made if made.worth else None

    def _looking(self, moving: Moving, inputs: Inputs) -> tuple[Callable[..., Nest], Nest]:
        """`_look`, and what it is given beside a batch."""
        look, own = self.with_traced(self._look, inputs.traced)
        return look, (own, moving.params, moving.state)

    def first_half(self, of: halves.Halves, moving: Moving, at: Stand, inputs: Inputs) -> tuple[Nest, Nest]:
        """The batches, [groups, ...], and what the second half reads of the first one."""
        batches = self._batches_at(at, inputs)
        return batches, of.first(self._looking(moving, inputs)[1], batches)

    def first_half_like(self, of: halves.Halves) -> tuple[Nest, Nest]:
        """Specifications of what `first_half` returns."""
        return halves.many(self.batch_spec, self.lanes.groups), of.between

    def second_half(
        self, of: halves.Halves, moving: Moving, inputs: Inputs, batches: Nest, between: Nest
    ) -> tuple[tf.Tensor, tf.Tensor, Nest]:
        """What `observe` returns."""
        return self._found(of.second(self._looking(moving, inputs)[1], batches, between))

    def _part_by_part(self, moving: Moving, batch: Nest, inputs: Inputs) -> Nest:
        """What `_look` returns, in the memory layout, the means over the batch taken a part after another.

        Args:
            batch: of all lanes, [examples, ...].
        """
        size = tf.nest.flatten(batch)[0].shape[0] // self.parts

        def one(params: Nest, batch: Nest) -> tuple[tf.Tensor, Nest]:
            loss, gradients = self.differentiate(params, batch)
            return tf.cast(loss, self.real), gradients

        def cut(leaf: tf.Tensor, k: tf.Tensor) -> tf.Tensor:
            return nodes.cut(leaf, [k * size] + [0] * (leaf.shape.rank - 1), [size, *leaf.shape[1:]])

        def part(k: tf.Tensor, sums: Nest) -> tuple[tf.Tensor, Nest]:
            some = tf.nest.map_structure(lambda leaf: cut(leaf, k), batch)
            traced = self.lifting.trace(one, [moving.params], [some])
            sums = self.lifting.run(traced, [moving.params], [some], onto=tf.nest.flatten(sums))
            k = lift.in_kernels(k) if self.lifting.foreign else k
            return k + 1, sums

        begin = tf.zeros([self.lanes.count], self.real), tf.nest.map_structure(tf.zeros_like, moving.params)
        _, sums = nodes.loop(lambda k, _: k < self.parts, part, (nodes.constant(0), begin))
        means = tf.nest.map_structure(lambda leaf: leaf / self.parts, sums)
        seen, own = self.with_traced(self._seen, inputs.traced)
        return self.lifting(seen, [own, moving.params, moving.state, means])

    def candidates(
        self, moving: Moving, gradients: Nest, step: Any, inputs: Inputs, going: tf.Tensor, before: Nest
    ) -> tuple[Nest, Nest]:
        """Parameters after an update of every lane, and the state of those that are `going` after it, of all
        others before it; in the memory layout.

        Args:
            step: a scalar, or [lanes].
            going: bool [lanes].
            before: the state before the update, as what stays is chosen from it (`lift.opaque`).
        """
        move, own = self.with_traced(self._move, inputs.traced)
        if self.written_out:
            return self._candidates_written_out(move, own, moving, gradients, step, inputs, going, before)
        args, shared = [own, moving.params, gradients, moving.state, inputs.learning_rate], []
        (args if step.shape.rank else shared).append(step)

        def chosen(*lane: Nest) -> Nest:
            *using, old, go = lane  # last, so that it is made last of what the update is made from
            params, state = move(*using, *shared)
            return params, lift.choose(go, state, old)

        return self.lifted(chosen, [*args, before, going])

    def _candidates_written_out(
        self,
        move: Callable[..., Nest],
        own: Nest,
        moving: Moving,
        gradients: Nest,
        step: Any,
        inputs: Inputs,
        going: tf.Tensor,
        before: Nest,
    ) -> tuple[Nest, Nest]:
        """As `candidates`. The state is chosen where it is made, and parameters are made of what was chosen:
        else XLA makes it once more for the parameters, of a copy of the whole state before the update."""
        args, shared = [own, moving.params, gradients, moving.state, inputs.learning_rate], []
        (args if step.shape.rank else shared).append(step)
        traced = self.lifting.trace(move, args, shared)
        old = tf.nest.flatten(before)

        def chosen(i: int) -> Callable[[tf.Tensor], tf.Tensor]:
            return lambda new: lift.select(going, new, old[i], True)

        places = range(len(traced.graph.outputs) - len(old), len(traced.graph.outputs))
        change = {place: chosen(i) for i, place in enumerate(places)}
        return self.lifting.run(traced, args, shared, change)

    def begin(self, inputs: Inputs) -> Nest:
        """The state of every lane at its run's start, in the memory layout."""

        def init(traced: Any, params: Nest) -> Nest:
            return self.build_optimizer(traced).init(params)

        make, own = self.with_traced(init, inputs.traced)
        return self.lifted(make, [own, lift.store(inputs.begin, self.trailing)], compiled=False)
