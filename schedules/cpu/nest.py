"""One nest without reductions: fewer and longer loops, the innermost a vector, the outermost shared out to the cores.

    for c, h, w: y[c, h, w] = x[c, h, w] + b[c]     ->     for c in parallel: for v: for lane in vectorized(16): ...     (h, w fused)

Loops are fused while every access stays linear in the fused loop. Where a load runs across memory (a transpose), both loops concerned are
tiled, so that each cache line is used whole before it is evicted.
"""

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Range
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV
from tvm.sym import Analyzer

from schedules.cpu.access import Access, accesses, block_realize, flat, substitute
from schedules.cpu.loops import extent
from schedules.machine import Machine

PARALLEL_WORK = 32768  # element operations: about 5 us on one core; starting and ending a parallel loop takes one
CHOICE_WORK = 4096  # element operations: under a microsecond, where the call itself counts for more than how the loops are cut
CALL_WORK = 8  # an exp or a division costs about as much as eight additions
MATH = frozenset(f"tirx.{name}" for name in ("exp", "log", "tanh", "sigmoid", "erf", "pow", "sqrt", "rsqrt", "sin", "cos", "log2", "exp2"))


def work(sch: Schedule, block: SBlockRV) -> int:
    """About how many element operations all instances of `block` take."""
    found: list[str] = []
    tvm_ffi.structural_walk(sch.get(block).body, (tvm.ir.Call, lambda call: found.append(getattr(call.op, "name", ""))))
    total = 1 + CALL_WORK * sum(name in MATH for name in found)
    for loop in sch.get_loops(block):
        total *= extent(sch, loop) or 1
    return total


def split_digits(sch: Schedule, block: SBlockRV, skip: int) -> None:
    """Split loops that an address takes apart: x[j // 64, j % 64] with j < 384 becomes x[jo, ji]. That is what a reshape leaves behind."""
    realize = block_realize(sch, block)
    around = sch.get_loops(block)
    nodes = {sch.get(loop).loop_var: loop for loop in around}
    values = {axis.var: value for axis, value in zip(realize.block.iter_vars, realize.iter_values, strict=True)}
    analyzer = Analyzer()
    for var, loop in nodes.items():
        analyzer.bind(var, Range.from_min_extent(0, sch.get(loop).extent))
    digits: dict[tirx.Var, set[int]] = {}

    def note(node: tirx.FloorDiv | tirx.FloorMod) -> None:
        if isinstance(node.a, tirx.Var) and node.a in nodes and isinstance(node.b, tirx.IntImm):
            digits.setdefault(node.a, set()).add(int(node.b))

    def load(node: tvm.ir.TensorLoad) -> None:
        address = analyzer.simplify(substitute(flat(node.source, node.indices), values))
        tvm_ffi.structural_walk(address, [(tirx.FloorDiv, note), (tirx.FloorMod, note)])

    tvm_ffi.structural_walk(realize.block.body, (tvm.ir.TensorLoad, load))
    for var, sizes in digits.items():
        loop = nodes[var]
        total = extent(sch, loop)
        if total is None or around.index(loop) < skip:
            continue
        factors, rest = [], total
        for size in sorted(sizes, reverse=True):
            if rest % size == 0 and 1 < size < rest:
                factors.append(rest // size)
                rest = size
        if factors:
            sch.split(loop, [*factors, rest])


def in_conditions(sch: Schedule, block: SBlockRV) -> set[int]:
    """Positions of the loops that conditions inside `block` depend on."""
    realize = block_realize(sch, block)
    values = {axis.var: value for axis, value in zip(realize.block.iter_vars, realize.iter_values, strict=True)}
    loops = [sch.get(loop).loop_var for loop in sch.get_loops(block)]
    used: set[int] = set()

    def variable(var: tirx.Var) -> None:
        used.update(position for position, loop in enumerate(loops) if loop.same_as(var))

    def condition(expr: tirx.Expr) -> None:
        tvm_ffi.structural_walk(substitute(expr, values), (tirx.Var, variable))

    def branch(node: tirx.Select | tirx.IfThenElse) -> None:
        condition(node.condition)

    def call(node: tvm.ir.Call) -> None:
        if getattr(node.op, "name", "") == "prim.if_then_else":
            condition(node.args[0])

    tvm_ffi.structural_walk(
        realize.block.body,
        [(tvm.ir.Call, call), (tirx.Select, branch), (tirx.IfThenElse, branch)],
    )
    return used


def fusible(found: list[Access], outer: int, inner: int, inner_extent: int) -> bool:
    """Whether loops at positions `outer` and `inner` = `outer` + 1 may become one without making any address less regular."""
    steps = [(access.strides[outer], access.strides[inner]) for access in found]
    return all(far is not None and near is not None and far == near * inner_extent for far, near in steps)


def fuse_loops(sch: Schedule, block: SBlockRV, skip: int) -> list[LoopRV]:
    """Fuse what can be among the loops of `block` after the first `skip`; returns them, outermost first."""
    loops = sch.get_loops(block)
    extents = [extent(sch, loop) or 0 for loop in loops]
    found, conditions = accesses(sch, block), in_conditions(sch, block)
    groups: list[list[int]] = []
    last_real = -1
    for position in range(skip, len(loops)):
        unit = extents[position] == 1 or (groups and all(extents[p] == 1 for p in groups[-1]))
        free = not {position, last_real} & conditions
        if groups and (unit or (free and fusible(found, last_real, position, extents[position]))):
            groups[-1].append(position)
        else:
            groups.append([position])
        if extents[position] != 1:
            last_real = position
    return [sch.fuse(*(loops[p] for p in group)) if len(group) > 1 else loops[group[0]] for group in groups]


def spread(sch: Schedule, block: SBlockRV, machine: Machine, skip: int = 0, cores: bool = True, vectors: int = 1) -> None:
    """Schedule a nest without reductions: its loops after the first `skip`, on all cores where `cores` and where the work is worth it.

    An iteration computes one vector, or `vectors` where that many divide the innermost loop.
    """
    amount = work(sch, block)
    split_digits(sch, block, skip)
    loops = fuse_loops(sch, block, skip)
    if not loops:
        return
    item = max(tvm.DataType(str(region.source.dtype)).itemsize for region in sch.get(block).writes)
    lanes = machine.lanes(item)
    *outer, inner = loops
    found = accesses(sch, block, loops)
    across = next((a for a in found if not a.stored and a.strides[-1] not in (0, 1, None) and 1 in a.strides[:-1]), None)
    length = extent(sch, inner) or 0
    if across is not None:
        position = across.strides.index(1)
        other = loops[position]
        other_out, other_in = sch.split(other, [None, min(lanes, extent(sch, other) or 1)])
        inner_out, inner = sch.split(inner, [None, min(lanes, length)])
        outer = [*outer[:position], other_out, *outer[position + 1 :], inner_out]
        sch.reorder(*outer, other_in, inner)
        sch.vectorize(inner)
        if len(outer) > 1:
            outer = [sch.fuse(*outer)]
    else:
        regular = all(access.strides[-1] in (0, 1) for access in found)
        if length > lanes and regular:
            middle, inner = sch.split(inner, [None, lanes])
            if vectors > 1 and length % (vectors * lanes) == 0:
                middle, several = sch.split(middle, [None, vectors])
                sch.unroll(several)
            rows = 1
            for loop in outer:
                rows *= extent(sch, loop) or 1
            if rows < 4 * machine.cores:
                outer.append(middle)
        if regular and length > 1:
            sch.vectorize(inner)
        if len(outer) > 1:
            outer = [sch.fuse(*outer)]
    if cores and outer and amount >= PARALLEL_WORK and machine.cores > 1 and (extent(sch, outer[0]) or 1) > 1:
        sch.parallel(outer[0])
