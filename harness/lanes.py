"""How many runs share one program: a short ladder of sizes, chosen by working set and number of cells.

Bits depend on the lane count (XLA vectorises other loops at other sizes), so it is decided once per study
and kept in `study.json`. It never depends on the number of workers.
"""

from __future__ import annotations

from harness.types import Lanes

LADDER = tuple(sorted({2**k for k in range(15)} | {3 * 2**k for k in range(13)}))

# Measured on Adam × Rosenbrock: 4,096 lanes of about 200 bytes run 1.7 times faster than 16,384, whose
# working set no longer fits the second-level cache.
WORKING_SET_BYTES = 2**20
# What a step of all lanes of a point reads and writes: more are slower by 1.7 (Adam on 2 coordinates, with
# stability: 512 against 1,024 lanes) to 2.5 times (10 coordinates: 128 against 1,024).
LOOP_BYTES = 400_000
FUNCTION_LANES = 4096
# Networks: a call costs about 2 ms beside its steps, which more lanes share, and all rates of a seed in one
# program make the first layer one large product; but lanes that no longer fit the second-level cache together
# cost more than that gives. Milliseconds of a benchmark's grid on two cores, by lanes:
#   64-256-256-10, 3.2 MB a lane: 2,750 with 1, 2,410 with 2, 2,530 with 4, 2,810 with 8, 2,910 with 16
#   64-128-128-10, 1.2 MB: 1,640 with 2, 1,250 with 4, 1,170 with 8, 1,215 with 16, 1,530 with 48
#   CNN on 8 x 8, 1.1 MB: 1,105 with 2, 755 with 4, 680 with 8, 725 with 16, 1,500 with 32
#   64-32-10, 0.1 MB: 400 with 16, 365 to 400 with 32, 386 to 400 with 64
NETWORK_BYTES = 9 * 2**20
NETWORK_LANES = 64
# Networks so small that 16 lanes of them stay near the core with all that a step makes: their products are
# written out (`harness.products`), in vectors of 16 lanes. Milliseconds of 4 seeds on two cores where a
# library has as many lanes as there are rates, and written out:
#   64-32-10, 4 rates: 125 and 120; 8 rates: 240 and 118
#   CNN on 8 x 8, 2 rates: 200 and 170; 4 rates: 220 and 168
#   CNN on 28 x 28, 2 rates: 156 and 259; 4 rates: 320 and 262
# Vectors of 8 lanes were slower at 8 rates, but for the last one.
VECTOR = 16
LEAST_RATES = 4
# Several vectors, as far as they stay in the second-level cache; one, where it is not much larger.
# Milliseconds of 4 seeds of 16 rates, by a library and written out:
#   64-128-10 of a batch of 64, 7.6 MB: 188 and 130
#   64-64-64-10, 7.6 MB: 199 and 185
#   64-128-128-10, 19 MB: 490 and 695
VECTORS_BYTES = 4 * 2**20
WRITTEN_OUT_BYTES = 10 * 2**20
# Larger ones by a part of the batch after another, where they make more of a batch than they have to keep
# (64-64-64-10 of a batch of 256: 1,000 and 690; convolutions do): so much of a part for 16 lanes, of which a
# step that XLA has fused holds about a third at once.
PART_BYTES = 2_400_000
# Networks of wide layers are made in tiles (`harness.tiles`), with lanes first, where they do not stay nearer
# than that, and wherever fewer of a vector's lanes than this would be runs. Milliseconds of 4 seeds of 16
# rates, written out and in tiles:
#   64-32-10 of a batch of 64: 62 and 77; 64-64-10: 114 and 134; 64-128-10: 124 and 126
#   64-64-64-10: 149 and 127; 64-64-64-64-10: 236 and 205, of a batch of 256 in parts 413 and 275
NO_TILES_BYTES = 7 * 2**20
FULL = 0.8
# What lanes in tiles keep near the core; two of them up to `NETWORK_BYTES`, all rates of a seed up to that.
# Milliseconds by 2, 4 and 9 MB:
#   64-64-64-10: 161, 123, 123; 64-128-10: 146, 135, 122; 64-128-128-10: 221, 190, 200
#   64-32-10, 4 seeds together in the last: 76, 82, 166
#   64-256-256-10, 3.2 MB a lane: 1,843 with 1, 1,546 with 2, 1,568 with 4, 2,384 with 12
TILED_BYTES = 4 * 2**20
SEED_BYTES = 6 * 2**20
# Of a part, where it is of pictures: gradients by filters are then one sum of few terms where maps are
# small, and there is less to compile. Milliseconds by parts of 8 and of 4: 8 x 8 195 and 192, compiling 0.88
# of the time; with 8 and 8 filters (4 seeds) 74 and 70; 10 x 10 98 and 100. By parts of 2: 8 x 8 201.
IMAGES = (3, 4)
SHARE_ABOVE = 2048


def at_least(count: int) -> int:
    """The smallest size of the ladder that holds `count`."""
    return next((size for size in LADDER if size >= count), LADDER[-1])


def at_most(count: int) -> int:
    """The largest size of the ladder that is not above `count`."""
    return max(size for size in LADDER if size <= max(1, count))


def choose(
    *,
    cells: int,
    per_seed: int,
    seeds: int,
    lane_bytes: int,
    loop_bytes: int = 0,
    shared_batch: bool,
    network: bool,
    stop_at_target: bool,
    memory_bytes: int,
    parts: int = 1,
    part_bytes: int = 0,
    tiled: bool = False,
) -> Lanes:
    """Lanes of a program.

    Args:
        cells: cells that the study has for it.
        per_seed: cells that share one seed, hence their batches.
        seeds: seeds of the study.
        lane_bytes: working set of one run, in bytes.
        loop_bytes: what a step of one run reads and writes, where loops become one function; or 0.
        shared_batch: the workload draws batches, which the runs of a seed share.
        network: parameters are matrices.
        stop_at_target: runs end at their target, so that lanes are refilled from a queue.
        memory_bytes: what may be used in all.
        parts: of a batch, where a step looks at one after another.
        part_bytes: working set of one run of a network whose products are written out; 0: they cannot be.
        tiled: a network's products are made in tiles where they are not written out.
    """
    vectors = -(-per_seed // VECTOR)
    least = vectors * VECTOR * FULL if tiled else LEAST_RATES
    fit = 0  # vectors of lanes
    if part_bytes and per_seed >= least:
        one = VECTOR * part_bytes
        near = max(VECTORS_BYTES // one, int(one <= (NO_TILES_BYTES if tiled else WRITTEN_OUT_BYTES)))
        fit = min(1 if parts > 1 else near, memory_bytes // 4 // one)
    if fit:
        return Lanes(1, VECTOR * min(vectors, fit))
    budget = min(NETWORK_BYTES if network else WORKING_SET_BYTES, memory_bytes // 4)
    if tiled and 2 * lane_bytes <= budget:
        near = SEED_BYTES if per_seed * lane_bytes <= SEED_BYTES else TILED_BYTES
        budget = min(budget, max(near, 2 * lane_bytes))
    cap = at_most(max(1, budget // max(1, lane_bytes)))
    if loop_bytes:
        cap = min(cap, at_most(LOOP_BYTES // loop_bytes))
    if not shared_batch:
        cap = min(cap, FUNCTION_LANES)
        wanted = cells
        if stop_at_target:
            wanted = max(min(cells, 64), cells // 16)
        elif cells > SHARE_ABOVE:
            wanted = -(-cells // 4)  # some tiles for every worker, whatever their number
        elif cells > cap:  # three tiles on two workers take as long as four that are smaller
            wanted = -(-cells // (4 * -(-cells // (4 * cap))))
        return Lanes(1, min(cap, at_least(wanted)))
    width = min(cap, at_least(per_seed))
    if tiled:
        cap = min(cap, TILED_BYTES // lane_bytes)
    most = max(1, min(NETWORK_LANES if network else FUNCTION_LANES, cap) // width)
    tiles = -(-seeds // most)
    if tiled and tiles > 1:
        tiles += tiles % 2  # three on two workers take as long as four that are smaller
    return Lanes(-(-seeds // tiles), width)  # as many tiles as needed, evenly filled
