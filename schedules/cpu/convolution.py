"""A convolution in blocks of channels and its elementwise tail, taken apart so that a rule can write the loops anew."""

from collections.abc import Sequence
from dataclasses import dataclass

import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV
from tvm.sym import detect_linear_equation

from schedules.cpu.access import trivial
from schedules.cpu.raw_loops import replace_loads, substitute
from schedules.space import Array, CannotPack


@dataclass(frozen=True)
class Convolution:
    """What there is to compute. `tail` is the store of one element: out[...] = f(sums[n, k, h, w, lane])."""

    program: tirx.PrimFunc
    data: tirx.Buffer  # [n, c / lanes, height, width, lanes]
    weight: tirx.Buffer  # [k / lanes, c / lanes, kernel height, kernel width, lanes, lanes]
    sums: tirx.Buffer
    tail: tirx.BufferStore
    axes: tuple[tirx.Var, ...]  # n, k, h, w, lane of the tail
    shape: tuple[int, ...]  # of the output, by the same axes

    @property
    def lanes(self) -> int:
        return self.shape[-1]

    @property
    def c_blocks(self) -> int:
        return int(self.weight.shape[1])

    def store(self, index: Sequence[tirx.Expr], value: tirx.Expr) -> tirx.Stmt:
        """The tail at one element, whose sum is `value`."""
        values = dict(zip(self.axes, index, strict=True))
        result = replace_loads(substitute(self.tail.value, values), self.sums, value)
        return tirx.BufferStore(self.tail.buffer, result, [substitute(at, values) for at in self.tail.indices])

    def place_of_weights(self, constants: Sequence[Array]) -> int:
        shape = tuple(int(extent) for extent in self.weight.shape)
        places = [place for place, array in enumerate(constants) if array.shape == shape]
        if len(places) != 1:
            raise CannotPack(f"{len(places)} constants could be the weights")
        return places[0]


def read_convolution(program: tirx.PrimFunc, sch: Schedule, block: SBlockRV, last: SBlockRV | None) -> Convolution | None:
    """The convolution `block` of `program` and its tail, which in `sch` is inlined into its block `last`, None where nothing follows."""
    data, weight = (region.source for region in sch.get(block).reads[:2])
    sums = sch.get(block).writes[0].source
    if last is None:
        axes = [axis.var for axis in sch.get(block).iter_vars][:5]
        tail = tirx.BufferStore(sums, sums[tuple(axes)], axes)
        extents = [int(extent) for extent in sums.shape]
    else:
        final = sch.get(last)
        if not trivial(sch, last) or len(final.iter_vars) != 5 or not isinstance(final.body, tirx.BufferStore):
            return None
        axes, tail = [axis.var for axis in final.iter_vars], final.body
        extents = [int(axis.dom.extent) for axis in final.iter_vars]
        if not all(same(load.indices, axes) for load in loads(tail, sums)):
            return None
    if not {tail.buffer, weight} <= set(program.params) or len(sch.get_output_blocks("root")) != 1:
        return None
    return Convolution(program, data, weight, sums, tail, tuple(axes), tuple(extents))


def loads(statement: tirx.Stmt, buffer: tirx.Buffer) -> list[TensorLoad]:
    found: list[TensorLoad] = []
    tvm_ffi.structural_walk(statement, (TensorLoad, lambda load: found.append(load) if load.source.same_as(buffer) else None))
    return found


def same(indices: Sequence[tirx.Expr], axes: Sequence[tirx.Var]) -> bool:
    return all(index.same_as(axis) for index, axis in zip(indices, axes, strict=True))


def steps(index: tirx.Expr, axes: Sequence[tirx.Var]) -> list[int] | None:
    """How far `index` moves along each of `axes`, and where it begins; None where it is not linear in them or has more to it."""
    parts = detect_linear_equation(index, list(axes))
    return [int(part) for part in parts] if parts and all(isinstance(part, tirx.IntImm) for part in parts) else None
