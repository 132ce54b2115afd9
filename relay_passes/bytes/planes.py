"""A sum of two quantised tensors over real numbers, in two operations instead of six that lead to the same bytes.

    quantize(a * s + b * t, u)     ->     quantize(a * (s / u) + (b * (t / u) + shift), 1)          a, b: bytes less their zero points

As written, both products, the sum and the quotient are rounded one by one; here each product and sum is one fused operation. The results
are the same 256 x 256 whole numbers but where the quotient is almost halfway between two. A `shift` far below the distance between most of
them decides these as well; factors next to the ratios are tried too. Every pair of bytes is checked, and a sum that no factors
reproduce stays as it is written.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
import numpy.typing as npt
from tvm import relax

from relay_passes.bytes.fused import fused
from relay_passes.bytes.results import activations, bytes_of, in_units, set_limits
from relay_passes.bytes.sums import is_real_sum
from relay_passes.integers.island import Quantization, operand, quantized
from relay_passes.rewrite import Graph, op_name, rewrites

BYTE = "uint8"
ALL = np.arange(256)
NEAR = 1e-3  # of a step: what no shift moves over it needs no look
SHIFTS = np.concatenate([np.linspace(2e-7, 4e-5, 40), -np.linspace(2e-7, 4e-5, 40)]).astype("float32")  # not 0, which would be left out
MOST = 1000  # pairs that near to halfway: of more, the scales are in a whole ratio, and no shift serves all
NEXT = (0, 1, -1, 2, -2)  # float32 numbers away from a ratio
Plane = tuple[np.float32, np.float32, np.float32]


def plane(a: Quantization, b: Quantization, output: Quantization) -> Plane | None:
    """The factors of `a` and `b`, and the shift; None where there are none."""
    first, second = (np.float32(x.one_scale) for x in (a, b))
    unit, low, high = np.float32(output.one_scale), -output.one_zero, 255 - output.one_zero
    left, right = (grid.ravel() for grid in np.meshgrid(ALL - a.one_zero, ALL - b.one_zero, indexing="ij"))
    with np.errstate(over="ignore", invalid="ignore"):
        real = (left.astype("float32") * first + right.astype("float32") * second) / unit
    if not np.isfinite(real).all():
        return None
    wanted = np.clip(np.rint(real), low, high)
    close = np.flatnonzero((np.abs(real - np.floor(real) - 0.5) < NEAR) & (real > low - 1) & (real < high + 1))
    if close.size > MOST:
        return None

    def gives(at: npt.NDArray[np.int64] | slice, found: Plane) -> bool:
        total = fused(left[at], found[0], fused(right[at], found[1], found[2]))
        return bool(np.array_equal(np.clip(np.rint(total), low, high), wanted[at]))

    return next((found for found in candidates(first / unit, second / unit) if gives(close, found) and gives(slice(None), found)), None)


def candidates(first: np.float32, second: np.float32) -> Iterator[Plane]:
    for one, other in sorted(product(NEXT, NEXT), key=lambda steps: abs(steps[0]) + abs(steps[1])):
        for shift in SHIFTS:
            yield moved(first, one), moved(second, other), shift


def moved(number: np.float32, steps: int) -> np.float32:
    return np.float32((np.asarray(number).view("int32") + steps).view("float32"))


@rewrites("relax.quantize")
def real_sum_of_bytes(call: relax.Call, graph: Graph) -> relax.Expr | None:
    """Of two tensors that are computed, whose sum nothing else reads."""
    quantization = quantized(call, graph)
    if quantization is None or not graph.once(call.args[0]):
        return None
    real, output = quantization
    bounds, core = activations(real, graph)
    if op_name(core) != "relax.add" or not is_real_sum(core) or not output.uniform or set_limits(bounds, output):
        return None
    a, b = (operand(argument, graph) for argument in core.args)
    if a is None or b is None or not all(x.uniform and x.array is None and x.dtype == output.dtype == BYTE for x in (a, b)):
        return None
    found = plane(a, b, output)
    if found is None:
        return None
    one, other, shift = found
    return bytes_of(relax.op.add(in_units(a, one), relax.op.add(in_units(b, other), relax.const(float(shift), "float32"))), output)
