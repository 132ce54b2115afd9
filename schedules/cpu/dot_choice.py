"""The knobs of integer products: the tile in registers, how far one pass over the weights reaches, and the point to start from.

A step of the reduction multiplies `pixels` x `blocks` vectors, two a cycle, and loads a vector of weights for each block and four bytes for
each pixel. `chunk` tiles of pixels share one pass over the weights: one, where all weights stay in the second level, since the pixels are
then those that this core wrote in the layer before; otherwise as many as leave room for their pixels there.
"""

from collections.abc import Mapping
from math import prod

import numpy as np

from schedules.cpu.dot_finish import BLOCK
from schedules.cpu.dot_tile import Product, ceil_div
from schedules.loopnest import Column, Loop, LoopNest, Number, Operand, dim
from schedules.machine import Machine
from schedules.space import Point

PARALLEL_STEPS = 1 << 21  # multiply-adds: about 6 us on one core, twice what starting a parallel loop costs
LATENCY = 5  # cycles of one dot product, of which two start each cycle


def knobs(product: Product, machine: Machine, fusible: bool) -> dict[str, tuple[int, ...] | tuple[bool, ...]]:
    vectors = BLOCK // machine.lanes()
    pixels = product.pixels * (prod(product.outer) if fusible else 1)
    most = (machine.vector_registers - 2) // vectors
    inner = max((extent for extent in product.depth[-1:] if extent > 1), default=max(product.depth))
    tiles = product.pixels * prod(product.outer)
    return {
        "pixels": tuple(p for p in (*range(1, 17), 20, 24, 28, 30) if p <= min(pixels, most)),
        "blocks": tuple(b for b in range(1, 9) if b <= min(product.blocks, most)),
        "unroll": tuple(u for u in (1, 2, 4, 8) if inner % u == 0),
        "chunk": tuple(1 << power for power in range(tiles.bit_length())),
        "fused": (False, True) if fusible else (False,),
    }


def legal(machine: Machine, point: Point) -> bool:
    """Whether the sums fit the registers beside a vector of weights and four bytes of a pixel."""
    return int(point["pixels"]) * int(point["blocks"]) * BLOCK // machine.lanes() <= machine.vector_registers - 2


def cycles(product: Product, machine: Machine, pixels: int, blocks: int, fused: bool) -> float:
    """About how long all tiles take on one core."""
    vectors = BLOCK // machine.lanes()
    row = product.pixels * (prod(product.outer) if fused else 1)
    rows = 1 if fused else prod(product.outer)
    tiles = rows * ceil_div(row, pixels) * ceil_div(product.blocks, blocks)
    sums = pixels * blocks * vectors
    spills = max(0, sums + blocks * vectors + 1 - machine.vector_registers)
    loads = (pixels + blocks * vectors + 2 * spills) / 2
    work = sums / 2 if machine.int8_dot else 2 * sums + 3 * blocks * vectors / 2 + pixels
    step = max(work, loads, LATENCY) + 0.5 + (spills / 2)
    stream = 2.0 * blocks * vectors * machine.vector_bytes / 64  # cycles to bring weights in from the second level
    packs = {0: 1.0, 2: 2.0}.get(blocks % 4, 3.0)
    return tiles * (prod(product.depth) * max(step, stream) + sums * (2.5 + packs / 2) + 20)


def default(product: Product, machine: Machine, choices: Mapping[str, tuple[int, ...] | tuple[bool, ...]]) -> Point:
    fused = choices["fused"][-1]
    shapes = [
        (p, b) for p in choices["pixels"] for b in choices["blocks"] if legal(machine, {"pixels": p, "blocks": b})
        if fused or p <= product.pixels
    ]  # fmt: skip
    pixels, blocks = min(shapes, key=lambda shape: (cycles(product, machine, shape[0], shape[1], bool(fused)), shape))
    weights = BLOCK * 4 * product.blocks * prod(product.depth)
    tile_bytes = pixels * 4 * product.depth[-1]
    room = 1 if weights <= machine.l2_bytes // 2 else max(1, machine.l2_bytes // 2 // tile_bytes)
    chunk = max(size for size in choices["chunk"] if size <= room)
    return {"pixels": pixels, "blocks": blocks, "unroll": 1, "chunk": chunk, "fused": fused}


def nests(product: Product, machine: Machine, parallel: bool, columns: Mapping[str, str | bool | Column]) -> list[LoopNest]:
    """The product with its tail, as loops over tiles; a tile's rows and its place in a row are one number."""
    pixels, blocks, unroll, chunk = (np.asarray(columns[name]) for name in ("pixels", "blocks", "unroll", "chunk"))
    fused = bool(columns["fused"])
    row, rows = (product.pixels * prod(product.outer), 1) if fused else (product.pixels, prod(product.outer))
    pixels, blocks = np.minimum(pixels, row), np.minimum(blocks, product.blocks)
    strips, groups = -(-row // pixels), -(-product.blocks // blocks)
    tiles = strips * rows
    chunk = np.minimum(chunk, tiles)
    chunks = -(-tiles // chunk)
    names = [f"k{index}" for index in range(len(product.depth))]
    reductions = [
        Loop(name, -(-extent // unroll) if name == names[-1] else extent, reduces=True)
        for name, extent in zip(names, product.depth, strict=True)
    ]
    lanes = machine.lanes()
    x_pixels = {"task": chunk * pixels, "tile": pixels, "p": 1}
    inner: dict[str, Number] = {names[-1]: 4 * unroll, "u": 4, "four": 1}
    window = {name: 1 for name in names[:-1]}
    steps = tiles * groups * pixels * blocks * BLOCK * prod(product.depth) * 4
    loops = (
        Loop("task", chunks, "parallel" if parallel else "serial"),
        Loop("group", groups),
        Loop("tile", chunk),
        *reductions,
        Loop("u", unroll, "unrolled", reduces=True),
        Loop("p", pixels, "unrolled"),
        Loop("b", blocks, "unrolled"),
        Loop("v", BLOCK // lanes, "unrolled"),
        Loop("lane", lanes, "vector"),
        Loop("four", 4, "vector", reduces=True),
    )
    tail = product.program.tail
    item = np.dtype(str(tail.store.buffer.dtype)).itemsize
    operands = (
        Operand("x", 1, "read", (dim(**x_pixels, **window), inner)),
        Operand("w", 1, "read", (dim(group=blocks, b=1), *(dim(**{name: 1}) for name in names[:-1]),
                                 {names[-1]: unroll, "u": 1}, dim(v=lanes, lane=1), dim(four=1))),
        Operand("y", item, "accumulate", (dim(**x_pixels), dim(group=blocks * BLOCK, b=BLOCK, v=lanes, lane=1))),
    )  # fmt: skip
    done = {
        "waste": steps / (prod(product.outer) * product.pixels * product.columns * prod(product.depth) * 4.0),
        "tail": float(len(tail.loads())),
    }
    return [LoopNest(loops, operands, steps, done)]
