"""The loops of direct convolutions for the cost model: those in blocks of channels, and those over a flat plane."""

from collections.abc import Mapping, Sequence

import numpy as np
from tvm import tirx
from tvm.ir import TensorLoad
from tvm.s_tir import Schedule
from tvm.sym import detect_linear_equation

from schedules.loopnest import Column, Loop, LoopNest, Operand, dim

Knobs = Mapping[str, str | bool | Column]


def column(knobs: Knobs, name: str) -> Column:
    return np.asarray(knobs[name])


def blocks_by_name(sch: Schedule) -> dict[str, tirx.Stmt]:
    return {str(sch.get(block).name_hint): sch.get(block) for block in sch.get_child_blocks(sch.get_sblock("root"))}


def steps_of(index: tirx.Expr, axes: Sequence[tirx.Var]) -> list[int]:
    """How far `index` moves along each of `axes`; 1 where that is not constant."""
    parts = detect_linear_equation(index, list(axes))
    return [int(part) if isinstance(part, tirx.IntImm) else 1 for part in parts[:-1]] if parts else [1] * len(axes)


def pixel_of(body: tirx.BufferStore) -> TensorLoad:
    """The load of the image in `sums += image * weight`."""
    return body.value.b.a


def nests(program: tirx.PrimFunc, name: str, knobs: Knobs) -> Sequence[LoopNest]:
    """Tiles of rows and columns of pixels by blocks of filters; the copy with a border, where there is one."""
    blocks = blocks_by_name(Schedule(program))
    node = blocks[name]
    n, k, h, w, lanes, co, kernel_h, kernel_w, ci = (int(axis.dom.extent) for axis in node.iter_vars)
    _n, _k, row, across, _o, _co, r, s, _ci = (axis.var for axis in node.iter_vars)
    index = pixel_of(node.body).indices
    (row_h, row_r), (column_w, column_s) = steps_of(index[2], [row, r]), steps_of(index[3], [across, s])
    tile_k, tile_h, tile_w = column(knobs, "tile_k"), column(knobs, "tile_h"), column(knobs, "tile_w")
    rows, filters = Loop("ho", h // tile_h, "parallel"), Loop("ko", k // tile_k, "parallel")
    order = (rows, filters) if knobs["rows_outside"] else (filters, rows)
    image = Operand(
        "x",
        4,
        "read",
        (
            dim(n=1),
            dim(co=1),
            dim(ho=tile_h * row_h, hi=row_h, r=row_r),
            dim(wo=tile_w * column_w, wi=column_w, s=column_s),
            dim(ci=1),
        ),
    )
    weight = Operand("w", 4, "read", (dim(ko=tile_k, ki=1), dim(co=1), dim(r=1), dim(s=1), dim(ci=1), dim(lane=1)))
    out_dims = (dim(n=1), dim(ko=tile_k, ki=1), dim(ho=tile_h, hi=1), dim(wo=tile_w, wi=1), dim(lane=1))
    main = LoopNest(
        loops=(
            Loop("n", n, "parallel"),
            *order,
            Loop("wo", w // tile_w),
            Loop("co", co, reduces=True),
            Loop("r", kernel_h, reduces=True),
            Loop("s", kernel_w, reduces=True),
            Loop("ci", ci, reduces=True),
            Loop("hi", tile_h, "unrolled"),
            Loop("wi", tile_w, "unrolled"),
            Loop("ki", tile_k, "unrolled"),
            Loop("lane", lanes, "vector"),
        ),
        operands=(image, weight, Operand("y", 4, "accumulate", out_dims)),
        steps=1.0 * n * k * h * w * lanes * co * kernel_h * kernel_w * ci,
        numbers={"tail_blocks": float(len(blocks) - 1 - ("pad" in blocks))},
    )
    return [main, *padding(blocks)]


def padding(blocks: Mapping[str, tirx.Stmt]) -> list[LoopNest]:
    """The copy of the image with a border, none where there is none."""
    if "pad" not in blocks:
        return []
    extents = [int(axis.dom.extent) for axis in blocks["pad"].iter_vars]
    names = [f"i{place}" for place in range(len(extents))]
    dims = tuple(dim(**{name: 1}) for name in names)
    loops = [
        Loop(name, extent, "parallel" if place < 2 else "vector" if place == len(names) - 1 and extent <= 64 else "serial")
        for place, (name, extent) in enumerate(zip(names, extents, strict=True))
    ]
    return [
        LoopNest(
            loops=tuple(loops),
            operands=(Operand("x", 4, "read", dims), Operand("pad", 4, "write", dims)),
            steps=float(np.prod(extents)),
        )
    ]


def plane_nests(program: tirx.PrimFunc, name: str, lanes: int, knobs: Knobs) -> Sequence[LoopNest]:
    """Tiles of filters by vectors of pixels of a flat plane; the border; the copy that crops it."""
    blocks = blocks_by_name(Schedule(program))
    node = blocks[name]
    n, k, plane, channels, kernel_h, kernel_w = (int(axis.dom.extent) for axis in node.iter_vars)
    source = pixel_of(node.body).source
    row = int(source.shape[3])
    tile_k, tile_p = column(knobs, "tile_k"), column(knobs, "tile_p")
    groups = int(source.shape[1]) // channels
    image = Operand("x", 4, "read", (dim(n=1), dim(c=1), dim(po=tile_p * lanes, pi=lanes, lane=1, r=row, s=1)))
    if groups > 1:
        image = Operand("x", 4, "read", (dim(n=1), dim(ko=tile_k * groups / k * channels, c=1), image.dims[2]))
    main = LoopNest(
        loops=(
            Loop("n", n, "parallel"),
            Loop("ko", k // tile_k, "parallel"),
            Loop("po", plane // (tile_p * lanes)),
            Loop("c", channels, reduces=True),
            Loop("r", kernel_h, reduces=True),
            Loop("s", kernel_w, reduces=True),
            Loop("pi", tile_p, "unrolled"),
            Loop("ki", tile_k, "unrolled"),
            Loop("lane", lanes, "vector"),
        ),
        operands=(
            image,
            Operand("w", 4, "read", (dim(ko=tile_k, ki=1), dim(c=1), dim(r=1), dim(s=1))),
            Operand("y", 4, "accumulate", (dim(n=1), dim(ko=tile_k, ki=1), dim(po=tile_p * lanes, pi=lanes, lane=1))),
        ),
        steps=1.0 * n * k * plane * channels * kernel_h * kernel_w,
    )
    crop = LoopNest(
        loops=(Loop("n", n, "parallel"), Loop("k", k, "parallel"), Loop("p", plane // lanes), Loop("lane", lanes, "vector")),
        operands=(
            Operand("y", 4, "read", (dim(n=1), dim(k=1), dim(p=lanes, lane=1))),
            Operand("out", 4, "write", (dim(n=1), dim(k=1), dim(p=lanes, lane=1))),
        ),
        steps=1.0 * n * k * plane,
    )
    return [main, crop, *padding(blocks)]
