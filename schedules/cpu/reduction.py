"""Programs with sums or maxima along axes, and whatever is fused around them: mean, softmax, normalisation, their scaled and shifted kin.

    for i, k: m[i] = max(m[i], x[i, k])                  for i in parallel:
    for i, k: e[i, k] = exp(x[i, k] - m[i])       ->         m = max of x[i, :]           (vectors of partial maxima, then across lanes)
    for i, k: s[i] += e[i, k]                                e[:] = exp(x[i, :] - m)      (stays in the first-level cache)
    for i, k: y[i, k] = e[i, k] / s[i]                       s = sum of e;  y[i, :] = e / s

All stages meet at the loops that they share. A reduction along contiguous memory gets as many partial results as `vectors` registers
hold; one across memory keeps `vectors` registers of neighbouring results. Sums are therefore added in another order than in the source.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV, ScheduleError

from schedules.cpu.access import accesses, blocks_of, calls, is_reduce_loop, is_reduction, trivial
from schedules.cpu.loops import extent, in_registers
from schedules.cpu.nest import CHOICE_WORK, MATH, PARALLEL_WORK, fusible, spread, work
from schedules.cpu.pad_reduction import pad_reduction
from schedules.cpu.stage_nest import by_work, stage_nest
from schedules.loopnest import Column, LoopNest
from schedules.machine import Machine
from schedules.space import Point, Space

ASSOCIATIVE = (tirx.Add, tirx.Mul, tirx.Max, tirx.Min)


def reduction(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    sch = Schedule(program)
    blocks = blocks_of(sch)
    if not all(trivial(sch, block) for block in blocks) or not any(is_reduction(sch, block) for block in blocks):
        return None
    if len(sch.get_output_blocks("root")) != 1 or not all(simple(sch, block) for block in blocks):
        return None
    default: Point = {"vectors": 4}
    try:
        apply(program, machine, default)
    except ScheduleError:  # stages that cannot meet at one loop
        return None
    inlined = sch.copy()
    inline_cheap(inlined)

    def nests(columns: Mapping[str, str | bool | Column]) -> Sequence[LoopNest]:
        vectors = np.asarray(columns["vectors"])
        return by_work([stage_nest(inlined, block, machine, total >= PARALLEL_WORK, vectors) for block in blocks_of(inlined)])

    total = sum(work(inlined, block) for block in blocks_of(inlined))
    knobs = {"vectors": (1, 2, 4, 8) if total >= CHOICE_WORK else (4,)}
    return Space(rule="reduction", knobs=knobs, default=default, apply=lambda point: apply(program, machine, point), nests=nests)


def simple(sch: Schedule, block: SBlockRV) -> bool:
    """Not a reduction, or one of a single value by one operator."""
    if not is_reduction(sch, block):
        return True
    node = sch.get(block)
    if len(node.writes) != 1 or not isinstance(node.body, tirx.BufferStore) or not isinstance(node.body.value, ASSOCIATIVE):
        return False
    spatial = [axis for axis in node.iter_vars if axis.iter_type == tirx.IterVar.DataPar]
    kinds = [axis.iter_type for axis in node.iter_vars]
    return kinds == sorted(kinds) and len(node.body.indices) >= len(spatial)


def apply(program: tirx.PrimFunc, machine: Machine, point: Point) -> Schedule:
    sch = Schedule(program)
    inline_cheap(sch)
    (last,) = sch.get_output_blocks("root")
    if is_reduction(sch, last):  # nothing is fused behind it
        last = sch.cache_write(last, 0, "global")
    sch = pad_odd(sch, machine)
    for block in blocks_of(sch):
        if not sch.get_loops(block):
            sch.add_unit_loop(block)  # `rfactor` fails where another block stands outside all loops
    (last,) = sch.get_output_blocks("root")
    amount = sum(work(sch, block) for block in blocks_of(sch))
    vectors = int(point["vectors"])
    shared = shared_loops(sch, last)
    for block in blocks_of(sch):
        if is_reduction(sch, block):
            to_lanes(sch, block, machine, vectors)
    loops = sch.get_loops(last)
    if shared == len(loops) and (tile := neighbours(sch, last, machine, vectors)) is not None:
        loops = [*loops[:-1], *sch.split(loops[-1], [None, tile])]
    rows = 1
    for loop in loops[:shared]:
        rows *= extent(sch, loop) or 1
    if rows == 1:
        for block in blocks_of(sch):
            stage(sch, block, 0, machine, vectors, cores=True)
        return sch
    row = sch.fuse(*loops[:shared]) if shared > 1 else loops[0]
    for block in reversed([block for block in blocks_of(sch) if sch.get_consumers(block)]):
        sch.compute_at(block, row, preserve_unit_loops=True)
    if amount >= PARALLEL_WORK and machine.cores > 1:
        sch.parallel(row)
    for block in sch.get_child_blocks(row):
        stage(sch, block, 1, machine, vectors, cores=False)
    return sch


def inline_cheap(sch: Schedule) -> None:
    """Inline stages without reductions, but neither work that would then be done twice nor what is the same for a whole row."""
    for block in blocks_of(sch):
        consumers = sch.get_consumers(block)
        if is_reduction(sch, block) or not consumers:
            continue
        size = instances(sch, block)
        costly = calls(sch, block, MATH) and len(consumers) > 1
        behind_reduction = any(is_reduction(sch, producer) for producer in sch.get_producers(block))
        per_row = behind_reduction and any(instances(sch, consumer) > size for consumer in consumers)
        if not costly and not per_row:
            sch.compute_inline(block)


def pad_odd(sch: Schedule, machine: Machine) -> Schedule:
    """Round the contiguous reductions of one axis up to whole vectors."""
    for block in blocks_of(sch):
        kinds = is_reduce_loop(sch, block)
        if kinds.count(True) != 1 or vector_loop(sch, block, reducing=False) is not None or vector_loop(sch, block, reducing=True) is None:
            continue
        length = extent(sch, sch.get_loops(block)[kinds.index(True)]) or 0
        lanes = machine.lanes(tvm.DataType(str(sch.get(block).writes[0].source.dtype)).itemsize)
        if length > 2 * lanes and length % lanes and isinstance(sch.get(block).init, tirx.BufferStore):
            sch = Schedule(pad_reduction(sch.mod["main"], str(sch.get(block).name_hint), lanes))
            return pad_odd(sch, machine)
    return sch


def instances(sch: Schedule, block: SBlockRV) -> int:
    count = 1
    for loop in sch.get_loops(block):
        count *= extent(sch, loop) or 1
    return count


def shared_loops(sch: Schedule, last: SBlockRV) -> int:
    """How many outer loops of `last` every stage can be computed under without computing anything twice."""
    extents = [extent(sch, loop) for loop in sch.get_loops(last)]
    shared = len(extents)
    for block in blocks_of(sch):
        for producer in sch.get_producers(block):
            (written,) = (region.source for region in sch.get(producer).writes)
            here = [extent(sch, loop) for loop in sch.get_loops(block)]
            for access in accesses(sch, block):
                if not access.buffer.same_as(written) or access.stored:
                    continue
                along = access.strides
                depth = next((i for i, stride in enumerate(along) if not stride and here[i] != 1), len(along))
                depth = next((i for i in range(min(depth, shared)) if here[i] != extents[i]), min(depth, shared))
                shared = min(shared, depth)
    return shared


def vector_loop(sch: Schedule, block: SBlockRV, reducing: bool) -> int | None:
    """Position of the last loop of more than one iteration, of that kind, if memory is contiguous along it."""
    loops = sch.get_loops(block)
    kinds = is_reduce_loop(sch, block)
    candidates = [i for i, loop in enumerate(loops) if kinds[i] == reducing and extent(sch, loop) != 1]
    if not candidates:
        return None
    position = candidates[-1]
    strides = [access.strides[position] for access in accesses(sch, block) if not (reducing and access.stored)]
    return position if all(stride in (0, 1) for stride in strides) and 1 in strides else None


def to_lanes(sch: Schedule, block: SBlockRV, machine: Machine, vectors: int) -> None:
    """Give a reduction along contiguous memory one partial result a lane, and sum those up pairwise: 64 -> 16 -> 4 -> 1."""
    if vector_loop(sch, block, reducing=False) is not None or vector_loop(sch, block, reducing=True) is None:
        return
    kinds = is_reduce_loop(sch, block)
    loops = sch.get_loops(block)
    reduce_loops = [loop for loop, reducing in zip(loops, kinds, strict=True) if reducing]
    found = accesses(sch, block, reduce_loops)
    while len(reduce_loops) > 1 and fusible(found, len(reduce_loops) - 2, len(reduce_loops) - 1, extent(sch, reduce_loops[-1]) or 0):
        reduce_loops[-2:] = [sch.fuse(*reduce_loops[-2:])]
        found = accesses(sch, block, reduce_loops)
    lanes = machine.lanes(tvm.DataType(str(sch.get(block).writes[0].source.dtype)).itemsize)
    length = extent(sch, reduce_loops[-1]) or 0
    if length < 2 * lanes or length % lanes:
        return
    vectors = max(v for v in (1, 2, 4, 8) if v <= vectors and length % (v * lanes) == 0)
    loop = reduce_loops[-1]
    widths = [lanes * vectors]
    if vectors > 1:
        widths.append(lanes)
    if lanes >= 8:
        widths.append(4)
    for width in widths:
        _, inner = sch.split(loop, [None, width])
        sch.rfactor(inner, len(sch.get(block).writes[0].source.shape))
        loop = sch.get_loops(block)[-1]


def neighbours(sch: Schedule, last: SBlockRV, machine: Machine, vectors: int) -> int | None:
    """How many neighbouring results to compute at once, if the reduction runs across memory."""
    loops = sch.get_loops(last)
    reductions = [block for block in blocks_of(sch) if is_reduction(sch, block)]
    if not all(vector_loop(sch, block, reducing=False) is not None for block in reductions):
        return None
    lanes = machine.lanes(tvm.DataType(str(sch.get(last).writes[0].source.dtype)).itemsize)
    length = extent(sch, loops[-1]) or 1
    if length <= lanes:
        return length
    vectors = max(v for v in (1, 2, 4, 8) if v <= vectors and (v == 1 or length >= v * lanes * machine.cores))
    return vectors * lanes


def stage(sch: Schedule, block: SBlockRV, skip: int, machine: Machine, vectors: int, cores: bool) -> None:
    """Schedule one stage below its first `skip` loops."""
    if not is_reduction(sch, block):
        spread(sch, block, machine, skip, cores)
        return
    loops, kinds = sch.get_loops(block), is_reduce_loop(sch, block)
    reduced = [loop for i, loop in enumerate(loops) if kinds[i] and i >= skip]
    position = vector_loop(sch, block, reducing=False)
    outer = [loop for i, loop in enumerate(loops) if not kinds[i] and i >= skip and i != position]
    if position is None or position < skip:
        sch.reorder(*outer, *reduced)
        if cores and outer and work(sch, block) >= PARALLEL_WORK and machine.cores > 1:
            sch.parallel(sch.fuse(*outer) if len(outer) > 1 else outer[0])
        sch.decompose_reduction(block, reduced[0])
        if len(reduced) == 1 and (extent(sch, reduced[0]) or 99) <= 4:
            sch.unroll(reduced[0])
        return
    lanes = machine.lanes(tvm.DataType(str(sch.get(block).writes[0].source.dtype)).itemsize)
    vector = loops[position]
    length = extent(sch, vector) or 1
    if length > vectors * lanes or outer:
        write = sch.cache_write(block, 0, "local")
        tile, vector = sch.split(vector, [None, min(vectors * lanes, length)])
        sch.reorder(*outer, tile, *reduced, vector)
        sch.reverse_compute_at(write, tile, preserve_unit_loops=True)
        if cores and work(sch, block) >= PARALLEL_WORK and machine.cores > 1:
            sch.parallel(sch.fuse(*outer, tile))
        in_lanes(sch, sch.get_loops(write)[-1], lanes)
    else:
        sch.reorder(*reduced, vector)
        sch.set_scope(block, 0, "local")
    inner = in_lanes(sch, vector, lanes)
    init = sch.decompose_reduction(block, reduced[0])
    in_registers(sch, sch.get_loops(init)[-len(inner) :])


def in_lanes(sch: Schedule, loop: LoopRV, lanes: int) -> list[LoopRV]:
    """Cut `loop` into vectors, unrolled."""
    length = extent(sch, loop) or 1
    inner = list(sch.split(loop, [None, lanes])) if length > lanes else [loop]
    in_registers(sch, inner)
    return inner
