"""A depthwise convolution and the 1x1 convolution after it, over a band of rows at a time.

    for each band of rows:   copy the rows of x that it needs, x_zero beyond the border
                             depthwise convolution of the copy   ->   band of what lies between
                             1x1 convolution of that             ->   rows of y

Both are kernels of the other rules, for the shape of a band. What lies between is never whole, and y may lie over the rows of x that are
copied already.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from tvm import tirx
from tvm.s_tir import Schedule

from schedules.integer import Conv2D, Depthwise, FusedRows, describe, read
from schedules.loopnest import Column, Loop, LoopNest, Operand, dim
from schedules.machine import Machine
from schedules.mcu.kernel import Kernel, as_schedule
from schedules.mcu.room import images
from schedules.rule import Rule
from schedules.space import Array, Point, Space

MOST_ROWS = 8
ROWS = 4  # of a band by default


def fused_rows(kernels: Sequence[Rule]) -> Rule:
    """The rule, whose bands are computed by `kernels`."""

    def rule(program: tirx.PrimFunc, machine: Machine) -> Space | None:
        op = read(program)
        if not isinstance(op, FusedRows):
            return None
        rows = [count for count in range(1, MOST_ROWS + 1) if op.depthwise.out_height % count == 0]
        default = {"rows": max(count for count in rows if count <= ROWS)}

        def parts(point: Point) -> list[Space]:
            return [part_space(program, band, kernels, machine) for band in bands(op, int(point["rows"]))]

        def apply(point: Point) -> Schedule:
            return as_schedule(program, fuse(program, op, int(point["rows"]), parts(point)))

        def pack(point: Point, constants: Sequence[Array]) -> list[Array]:
            return [*packed(parts(point)[0], constants[:4]), *packed(parts(point)[1], constants[4:])]

        @cache
        def scratch(count: int) -> int:
            return int(apply({"rows": count}).mod["main"].attrs["stack.scratch"])

        def legal(point: Point) -> bool:
            whole = images(op.depthwise) - op.depthwise.out_height * op.depthwise.out_width * op.depthwise.filters
            return scratch(int(point["rows"])) <= max(whole + op.pointwise.pixels * op.pointwise.filters, scratch(default["rows"]))

        def nests_of(columns: Mapping[str, str | bool | Column]) -> Sequence[LoopNest]:
            return nests(op, np.asarray(columns["rows"]), lambda count: parts({"rows": count}))

        return Space("fused_rows", default, apply, {"rows": rows}, pack, legal=legal, nests=nests_of)

    return rule


def nests(op: FusedRows, rows: Column, parts: Callable[[int], Sequence[Space]]) -> list[LoopNest]:
    """Both convolutions as if they were whole, with the instructions of all their bands and of copying the rows in."""
    found = {count: [one_point(space) for space in parts(count)] for count in sorted({int(count) for count in rows.flat})}
    first, second = found[int(rows.flat[0])]
    instructions = {}
    for count, nests_of_bands in found.items():
        band = bands(op, count)[0]
        copied = band.height * band.width * band.channels
        each = sum(float(np.max(nest.numbers.get("instructions", nest.steps))) for nest in nests_of_bands)
        instructions[count] = op.depthwise.out_height // count * (each + copied)
    numbers = {"instructions": np.array([instructions[int(count)] for count in rows.flat]), "rows": rows}
    times = op.depthwise.out_height / int(rows.flat[0])
    return [replace(nest, steps=nest.steps * times, numbers=numbers) for nest in (second, first)]


def one_point(space: Space) -> LoopNest:
    """What a space's default computes most of its time."""
    if space.nests is None:
        return LoopNest((Loop("all", 1),), (Operand("y", 1, "write", (dim(all=1),)),), 1)
    columns = {name: value if isinstance(value, str | bool) else np.array([value]) for name, value in space.default.items()}
    return space.nests(columns)[0]


def bands(op: FusedRows, rows: int) -> tuple[Depthwise, Conv2D]:
    """Both for `rows` rows of results, over a copy that has its border above and below."""
    first, second = op.depthwise, op.pointwise
    copied = (rows - 1) * first.strides[0] + (first.kernel_h - 1) * first.dilation[0] + 1
    pad = (0, first.pad[1], 0, first.pad[3])
    return replace(first, height=copied, out_height=rows, pad=pad), replace(second, height=rows, out_height=rows)


def part_space(program: tirx.PrimFunc, op: Depthwise | Conv2D, kernels: Sequence[Rule], machine: Machine) -> Space:
    """Of the first rule that has a kernel for one half."""
    described = describe(program, op)
    found = next((space for rule in kernels if (space := rule(described, machine)) is not None), None)
    assert found is not None, "no rule takes a plain convolution"
    return certain(found)


def packed(space: Space, constants: Sequence[Array]) -> list[Array]:
    return space.pack(space.default, constants) if space.pack else list(constants)


def certain(space: Space) -> Space:
    """The space at the point that takes any constants, since a band has no second try."""
    return replace(space, default=space.otherwise, otherwise=None) if space.otherwise is not None else space


def fuse(program: tirx.PrimFunc, op: FusedRows, rows: int, spaces: Sequence[Space]) -> Kernel:
    first, second = bands(op, rows)
    made = [space.apply(space.default).mod["main"].attrs for space in spaces]
    texts = [str(attributes["stack.c"]) for attributes in made]
    constants = [count_parameters(text) - 2 - (int(a["stack.scratch"]) > 0) for text, a in zip(texts, made, strict=True)]
    names = [f"c{index}" for index in range(sum(constants))]
    row_bytes = first.width * first.channels
    copy, between = aligned(first.height * row_bytes), aligned(rows * first.out_width * first.filters)
    work = max(int(attributes["stack.scratch"]) for attributes in made)
    calls = []
    for part, (text, attributes) in enumerate(zip(("depthwise", "pointwise"), made, strict=True)):
        mine = names[: constants[0]] if part == 0 else names[constants[0] :]
        places = ("band", "between") if part == 0 else ("between", f"y + row * {first.out_width * second.filters}")
        calls.append(f"KERNEL_{text}({', '.join([places[0], *mine, places[1], *(['work'] if int(attributes['stack.scratch']) else [])])});")
    parameters = ["const int8_t *x", *[f"const void *{name}" for name in names], "int8_t *y", "void *scratch"]
    unused = "" if work else "  (void)work;\n"
    source = f"""{texts[0].replace("KERNEL", "KERNEL_depthwise").strip()}

{texts[1].replace("KERNEL", "KERNEL_pointwise").strip()}

static void KERNEL({", ".join(parameters)}) {{
  int8_t *band = scratch, *between = band + {copy};
  void *work = between + {between};
{unused}  for (int row = 0; row < {op.depthwise.out_height}; row += {rows}) {{
    for (int i = 0; i < {first.height}; i++) {{
      int from = row * {first.strides[0]} + i - {op.depthwise.pad[0]};
      if (from < 0 || from >= {op.depthwise.height}) memset(band + i * {row_bytes}, {first.x_zero}, {row_bytes});
      else memcpy(band + i * {row_bytes}, x + from * {row_bytes}, {row_bytes});
    }}
    {calls[0]}
    {calls[1]}
  }}
}}
"""
    return Kernel(source, scratch=copy + between + work, overlap=overlap(op, rows))


def count_parameters(text: str) -> int:
    found = re.search(r"\bKERNEL\(([^)]*)\)\s*{", text)
    assert found, "a kernel defines KERNEL"
    return found[1].count(",") + 1


def aligned(count: int) -> int:
    return -(-count // 8) * 8


def overlap(op: FusedRows, rows: int) -> int:
    """The least distance of y below x: a band has copied its rows before it writes, and later bands begin with later rows."""
    first, row_bytes = op.depthwise, op.depthwise.width * op.depthwise.channels
    out_bytes = first.out_width * op.pointwise.filters
    starts = range(rows, first.out_height, rows)
    least = -first.height * row_bytes
    return max([least, *(start * out_bytes - max(start * first.strides[0] - first.pad[0], 0) * row_bytes for start in starts)])
