"""The knobs of integer products: the tile in registers, how far one pass over the weights reaches, and the point to start from.

A step of the reduction multiplies `pixels` x `blocks` vectors, two a cycle, and loads a vector of weights for each block and four bytes for
each pixel. `chunk` tiles of pixels share one pass over the weights. A network's weights seldom fit the second level, so each layer finds
its own in the third at best: with `prefetch` the tiles of a chunk fetch, each its part, the weights that the chunk needs next, and memory
is read at an even rate while sums are computed. So a chunk is best all the pixels of one core, most of which it wrote in the layer before.
"""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from schedules.cpu.dot_finish import BLOCK
from schedules.cpu.dot_tile import Product, ceil_div
from schedules.loopnest import Column, Loop, LoopNest, Number, Operand, dim
from schedules.machine import Machine
from schedules.space import Point

PARALLEL_STEPS = 1 << 21  # multiply-adds: about 6 us on one core, twice what starting a parallel loop costs
FEW = 4  # tiles for a core: with fewer, cores share the weights out and not the pixels
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
        "prefetch": (False, True) if product.blocks > 1 else (False,),
    }


def fits(machine: Machine, pixels: int, blocks: int) -> bool:
    """Whether the sums fit the registers beside a vector of weights and four bytes of a pixel."""
    return pixels * blocks * BLOCK // machine.lanes() <= machine.vector_registers - 2


def legal(product: Product, machine: Machine, point: Point) -> bool:
    """Whether the sums fit, and there are weights to fetch where any are to be."""
    blocks = int(point["blocks"])
    return fits(machine, int(point["pixels"]), blocks) and (blocks < product.blocks or not point["prefetch"])


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
        (p, b) for p in choices["pixels"] for b in choices["blocks"] if fits(machine, p, b) and (fused or p <= product.pixels)
    ]  # fmt: skip
    pixels, blocks = min(shapes, key=lambda shape: (cycles(product, machine, shape[0], shape[1], bool(fused)), shape))
    row, rows = (product.pixels * prod(product.outer), 1) if fused else (product.pixels, prod(product.outer))
    tiles = ceil_div(row, pixels) * rows
    chunk = share(product, machine, tiles, pixels * 4 * product.depth[-1], choices["chunk"])
    return {
        "pixels": pixels,
        "blocks": blocks,
        "unroll": 1,
        "chunk": chunk,
        "fused": fused,
        "prefetch": chunk > 1 and blocks < product.blocks,
    }


def share(product: Product, machine: Machine, tiles: int, tile_bytes: int, sizes: Sequence[int]) -> int:
    """How many of `tiles`, each of so many bytes, are to share one pass over the weights."""
    weights = BLOCK * 4 * product.blocks * prod(product.depth)
    room = max(1, machine.l2_bytes // 2 // tile_bytes)
    if weights <= machine.l1_bytes or (product.weights_vary and weights <= machine.l2_bytes // 2):
        return 1
    cores = machine.cores if product.steps >= PARALLEL_STEPS else 1
    own = ceil_div(tiles, cores) if tiles >= FEW * cores else tiles
    if own > room or product.weights_vary:
        return max(size for size in sizes if size <= room)
    return min((size for size in sizes if size >= own), default=sizes[-1])


def nests(product: Product, machine: Machine, parallel: bool, columns: Mapping[str, str | bool | Column]) -> list[LoopNest]:
    """The product with its tail, as loops over tiles; a tile's rows and its place in a row are one number."""
    pixels, blocks, unroll, chunk = (np.asarray(columns[name]) for name in ("pixels", "blocks", "unroll", "chunk"))
    fused = bool(columns["fused"])
    row, rows = (product.pixels * prod(product.outer), 1) if fused else (product.pixels, prod(product.outer))
    pixels, blocks = np.minimum(pixels, row), np.minimum(blocks, product.blocks)
    strips, groups = -(-row // pixels), -(-product.blocks // blocks)
    tiles = strips * rows
    chunks = -(-tiles // chunk)
    chunk = -(-tiles // chunks)
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
        "prefetch": float(bool(columns["prefetch"])),
    }
    return [LoopNest(loops, operands, steps, done)]
