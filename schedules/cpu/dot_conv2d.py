"""Convolutions and dense layers of bytes: sums of unsigned activations times signed weights, requantised in the same loops.

    acc[n, h, w, f // 16, f % 16] += x[n, h + r, w + s, c] * w[f // 16, r, s, c // 4, f % 16, c % 4]
    y[n, h, w, f] = uint8(clip(round(float32(acc[n, h, w, f // 16, f % 16] + bias[f]) * scale[f]) + zero))

->  for chunk of tiles, blocks of filters, tile in parallel:
      acc[p, b, 0:16] = 0                                                                        a tile of pixels x blocks, in registers
      for r, s, c:  acc[p, b, 0:16] += dot(broadcast(x[p, 0:4]), w[b, r, s, c, 0:16, 0:4])
      y[p, b, 0:16] = ...                                                                        the tail, in vectors

A 1x1 convolution takes tiles of pixels that run on over the ends of rows (`fused`). The last tile of a row or of the filters overlaps the
one before, where the tile does not divide them: what is computed twice is the same both times. Each step may fetch weights of the next
blocks as well, ahead of time.
"""

from tvm import tirx
from tvm.s_tir import Schedule

from schedules.cpu import dot_choice, dot_tile
from schedules.cpu.dot_tail import read
from schedules.machine import Machine
from schedules.space import Point, Space

BLOCK = "conv2d_dot"


def dot_conv2d(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    return dot_space("dot_conv2d", program, machine, BLOCK, "pad")


def dot_space(rule: str, program: tirx.PrimFunc, machine: Machine, block: str, ahead: str) -> Space | None:
    """The space of a program that computes the products of `block` behind a stage `ahead`, if any; None for other programs."""
    found = read(program, block, {ahead})
    product = dot_tile.read_product(found) if found is not None else None
    if product is None or machine.vector_bytes not in (32, 64):
        return None
    choices = dot_choice.knobs(product, machine, dot_tile.fusible(product))
    parallel = machine.cores > 1 and product.steps >= dot_choice.PARALLEL_STEPS

    def apply(point: Point) -> Schedule:
        again = read(program, block, {ahead})
        fresh = dot_tile.read_product(again) if again is not None else None
        assert fresh is not None, "it was one before"
        return dot_tile.apply(fresh, machine, point, parallel)

    return Space(
        rule=rule,
        knobs=choices,
        default=dot_choice.default(product, machine, choices),
        apply=apply,
        legal=lambda point: dot_choice.legal(product, machine, point),
        nests=lambda columns: dot_choice.nests(product, machine, parallel, columns),
    )
