"""From cells to programs and tiles: what is compiled, how many lanes it has, what travels together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness import lanes as ladder
from harness.feasibility import batch_size, mean_of_parts
from harness.tiling import VALUES_PER_CALL, RecordPlan
from harness.types import Cell, Lanes, Program, Tile, digest

# Cells of a tile: enough calls to make a commit cheap, few enough for progress and for spreading.
TILE_ROUNDS = 16
MANY_TILES = 8  # enough for some workers: more only where seeds would be cut apart
TILE_LEAST = 16  # of networks too large for all rates of a seed to ride together
TILE_CELLS = 1024  # of functions: fewer where a worker would have none

# A network is evaluated at each recorded point, which costs as much as two or three steps.
MONITOR_STEPS = 10

# For estimates only. Measured on two cores: a program compiles in 1 to 3 s of one core; a step of a run
# takes 15 ns on a function, and on a network as long as moving its working set at 6 GB/s.
COMPILE_SECONDS = 1.5
STEP_SECONDS, STEP_BYTES_PER_SECOND = 1e-8, 6e9
FIXED_BYTES = 160  # of a lane: counts, best values, hits


@dataclass(frozen=True)
class Plan:
    """A study's programs and tiles.

    Args:
        programs: by key.
        tiles: in the order of the grid.
        estimated_bytes: device memory of the largest program.
        estimated_seconds: of what is not done, compiling included, on this machine's cores.
        cells: all cells of the study.
        notes: a sentence for each program whose maths could not be looked at.
    """

    programs: Mapping[str, Program]
    tiles: tuple[Tile, ...]
    estimated_bytes: int
    estimated_seconds: float
    cells: int
    notes: tuple[str, ...] = ()

    @property
    def cell_steps(self) -> int:
        return sum(t.program.budget * len(t.cells) for t in self.tiles)


@dataclass(frozen=True)
class Shape:
    """What planning needs to know of a program's maths: sizes only."""

    lane_bytes: int
    shared_batch: bool
    network: bool
    loop_bytes: int = 0  # a lane's, that a step reads and writes; 0 where lanes come first in memory
    parts: int = 1  # of a batch, so that a network's products can be written out
    part_bytes: int = 0  # a lane's, where a step looks at a part after another
    gpus: bool = False  # whether this process has any: a GPU wants more lanes than a vector of a CPU's
    tiled: bool = False  # products are as fast in tiles of registers, with lanes first (`harness.tiles`)


def measure(cell: Cell, stability: bool) -> Shape:
    """The sizes of a cell's parameters and state. Imports TensorFlow."""
    from harness import catalog
    from harness.runtime import tensorflow

    tf = tensorflow()
    from harness import lift

    workload = catalog.build_workload(cell.workload, cell.dtype)
    params = tf.nest.map_structure(tf.convert_to_tensor, workload.init(0))
    state = catalog.build_optimizer(cell.optimizer).init(params)

    def size(nest: Any) -> int:
        return sum(x.shape.num_elements() * x.dtype.size for x in tf.nest.flatten(nest))

    # Parameters, gradients and candidates; the last update and the tail's mean; the state and its candidate.
    copies = 5 if stability else 3
    fixed = copies * size(params) + 2 * size(tf.nest.map_structure(tf.convert_to_tensor, state)) + FIXED_BYTES
    network = lift.is_network(params)
    batch = workload.batch(0, 0)
    # Forward and backward each make about as much; half of both is there at once.
    made, patches, tiled = _looked_at(tf, workload, params, batch) if network else (0, 0, False)
    tiled = tiled and cell.dtype in ("float32", "float64") and cell.split == "lanes"
    parts = 1 if tiled or not network else _parts(workload, params, batch, fixed, made, convolves=patches > 0)
    total = fixed + made + patches
    return Shape(
        total,
        batch is not None,
        network,
        _loop_bytes(total, stability) if lift.trailing_layout(params) else 0,
        parts=parts,
        part_bytes=fixed + made // parts,
        gpus=bool(tf.config.list_physical_devices("GPU")),
        tiled=tiled,
    )


def _loop_bytes(lane_bytes: int, stability: bool) -> int:
    """About what a step of a lane reads and writes, each fusion for itself.

    Fitted to which loops XLA made one function of: Adam on 2, 5, 10 and 32 coordinates, with stability sums
    and without.
    """
    return 250 + 7 * (lane_bytes - FIXED_BYTES) if stability else 150 + 4 * (lane_bytes - FIXED_BYTES)


def _looked_at(tf: Any, workload: Any, params: Any, batch: Any) -> tuple[int, int, bool]:
    """Of one loss, from its graph: bytes of all that it computes on its way (fusions will keep less), those
    of the patches that convolutions are made of where they are not written out, and whether tiles suit it."""
    from harness import convolutions, tiles

    graph = tf.function(workload.loss, autograph=False).get_concrete_function(params, batch).graph
    operations = graph.get_operations()
    sizes = [
        (out.shape.num_elements() or 0) * out.dtype.size
        for op in operations
        if op.type not in ("Const", "Placeholder", "Reshape", "Identity", "NoOp")
        for out in op.outputs
    ]
    suited = tiles.here() and tiles.suit(operations)
    return sum(sizes), sum(map(convolutions.patch_bytes, operations)), suited


def _parts(workload: Any, params: Any, batch: Any, fixed: int, made: int, *, convolves: bool) -> int:
    """How many parts a batch is cut into, so that a vector of lanes stays near the core with all that a step
    makes of a part; 1 where it stays there anyway, cannot be made to, or the batch cannot be cut. Parts of
    pictures are smaller where that lets a batch be cut into as many as are the fastest (`lanes.IMAGES`).

    Args:
        fixed: bytes of a lane that do not depend on the batch.
        made: bytes that it makes of a whole batch.
        convolves: a single example need not stay there: patches of it would be larger still.
    """
    examples = batch_size(workload) or 1
    whole = (fixed + made) * ladder.VECTOR <= ladder.VECTORS_BYTES
    if whole or fixed * ladder.VECTOR > ladder.WRITTEN_OUT_BYTES or made < fixed:
        return 1
    most = ladder.PART_BYTES // ladder.VECTOR
    cuts = [parts for parts in range(2, examples + 1) if examples % parts == 0]
    small = [parts for parts in cuts if made // parts <= most or (convolves and parts == examples)]
    best = [parts for parts in small if convolves and examples // parts in ladder.IMAGES]
    tried = dict.fromkeys([*best[:1], *small[:1]])
    return next((parts for parts in tried if mean_of_parts(workload, params, batch, parts)), 1)


def by_program(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    groups: dict[str, list[Cell]] = {}
    keys: dict[tuple[int, int, int, float], str] = {}
    for cell in cells:
        # Cells made from the same components share the identity; hashing it once is enough.
        memo = (id(cell.workload), id(cell.optimizer), cell.budget, cell.target)
        if memo not in keys:
            keys[memo] = digest(cell.program_identity())
        groups.setdefault(keys[memo], []).append(cell)
    return groups


def plan(
    cells: Sequence[Cell],
    *,
    points: int,
    stability: bool,
    curves: bool = True,
    lanes: int | None,
    known: Mapping[str, Any],
    memory_bytes: int,
    cores: int = 1,
    done: frozenset[str] = frozenset(),
) -> Plan:
    """Programs and tiles of the cells that are not done.

    Args:
        points: recorded points of a whole run.
        curves: whether they are kept.
        lanes: asked for by the user; None: chosen.
        known: `programs` of the study's `study.json`, whose lanes are kept, and what else decides bits.
        memory_bytes: of the device.
        cores: that run tiles side by side; for the estimate of time only.
        done: ids of cells that have a row.
    """
    programs, tiles, notes, largest, seconds = {}, [], [], 0, 0.0
    for key, group in by_program(cells).items():
        first = group[0]
        try:
            shape = measure(first, stability)
        except (Exception, SystemExit) as error:  # a plug-in's: its rows will say why, the others' must run
            shape = Shape(1, shared_batch=False, network=False)
            notes.append(f"{first.optimizer.label} on {first.workload.label} will fail: {error}")
        kept = known.get(key)
        if kept is not None:
            chosen = Lanes(kept["groups"], kept["width"])
        else:
            chosen = _lanes(group, shape, lanes, memory_bytes)
        written_out, parts = _writes_out(first, shape, chosen), shape.parts
        if kept is not None:
            written_out, parts = kept.get("written_out", written_out), kept.get("parts", parts)
        program = Program(
            key=key,
            workload=first.workload,
            optimizer=first.optimizer,
            budget=first.budget,
            target=first.target,
            stop=first.stop,
            dtype=first.dtype,
            lanes=chosen,
            stride=RecordPlan.of(first.budget, points, MONITOR_STEPS if shape.network else 1).stride,
            stability=stability,
            curves=curves,
            shared=_shared(group),
            split=first.split,
            replicas=first.replicas,
            drop_remainder=first.drop_remainder,
            written_out=written_out,
            parts=parts if written_out else 1,
        )
        programs[key] = program
        lane_bytes = shape.part_bytes if program.parts > 1 else shape.lane_bytes
        trace = 8 * min(program.budget * chosen.count, VALUES_PER_CALL)  # at most
        largest = max(largest, lane_bytes * chosen.count + trace)
        left = [c for c in group if c.cell_id not in done]
        # Who asks for a number of lanes has a size of tiles in mind.
        tiles += _tiles(program, left, shape.shared_batch, one_round=lanes is not None)
        step = STEP_SECONDS + shape.lane_bytes / STEP_BYTES_PER_SECOND
        seconds += (COMPILE_SECONDS if left else 0.0) + len(left) * program.budget * step
    return Plan(programs, tuple(tiles), largest, seconds / cores, len(cells), tuple(notes))


def _shared(group: Sequence[Cell]) -> tuple[bool, ...]:
    """Per traced hyperparameter, whether it has one value: of all cells, done or not, so that a resumed run
    compiles the same program."""
    optimizers = {id(c.optimizer): c.optimizer for c in group}.values()
    return tuple(len(set(values)) == 1 for values in zip(*(o.traced() for o in optimizers), strict=True))


def _can_write_out(cell: Cell) -> bool:
    """Whether a program's sums can be written out: half precision would be summed in half precision."""
    return cell.dtype in ("float32", "float64") and cell.split == "lanes"


def _writes_out(cell: Cell, shape: Shape, lanes: Lanes) -> bool:
    whole = lanes.groups == 1 and lanes.count % ladder.VECTOR == 0
    most = ladder.NO_TILES_BYTES if shape.tiled else ladder.WRITTEN_OUT_BYTES
    small = shape.part_bytes * ladder.VECTOR <= most or shape.parts > 1
    return _can_write_out(cell) and (not shape.network or (whole and small))


def _lanes(group: Sequence[Cell], shape: Shape, lanes: int | None, memory_bytes: int) -> Lanes:
    seeds = len({c.seed for c in group})
    per_seed = -(-len(group) // seeds)
    if lanes is not None:
        return Lanes(1, lanes)
    return ladder.choose(
        cells=len(group),
        per_seed=per_seed,
        seeds=seeds,
        lane_bytes=shape.lane_bytes,
        loop_bytes=shape.loop_bytes,
        shared_batch=shape.shared_batch,
        network=shape.network,
        stop_at_target=group[0].stop == "target",
        memory_bytes=memory_bytes,
        parts=shape.parts,
        tiled=shape.tiled,
        part_bytes=shape.part_bytes if shape.network and not shape.gpus and _can_write_out(group[0]) else 0,
    )


def _tiles(program: Program, cells: Sequence[Cell], shared_batch: bool, *, one_round: bool) -> list[Tile]:
    """Cuts cells into tiles of a few rounds of lanes; where batches are shared, seeds stay whole."""
    ordered = sorted(cells, key=lambda c: c.seed) if shared_batch else list(cells)
    # A tile costs its commit, but every worker wants some.
    rounds = max(1, min(TILE_ROUNDS, len(cells) // (4 * program.lanes.count)))
    if program.stop == "budget":
        rounds = 1 if shared_batch or one_round else min(rounds, -(-TILE_CELLS // program.lanes.count))
    size = max(1, program.lanes.count * rounds)
    if shared_batch:
        whole = _whole_seeds(ordered, program.lanes, one_round=one_round) * rounds
        most = size // whole if one_round else min(size, len(cells) // MANY_TILES) // whole
        size = whole * max(1, most)
    return [Tile(program, tuple(ordered[i : i + size])) for i in range(0, len(ordered), size)]


def _whole_seeds(cells: Sequence[Cell], lanes: Lanes, *, one_round: bool) -> int:
    """Cells of as many whole seeds as there are groups, so that no tile cuts a seed's rates apart; of a seed
    with more rates than lanes, a few rounds of them."""
    if not cells:
        return 1
    per_seed = max(1, round(len(cells) / len({c.seed for c in cells})))
    if per_seed <= lanes.width:
        return per_seed * lanes.groups
    return lanes.count if one_round else lanes.count * max(1, min(per_seed, TILE_LEAST) // lanes.count)
