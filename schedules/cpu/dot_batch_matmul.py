"""Products of two activations of bytes, one for each head or image: the right operand, signed, is packed into panels by the stage before.

    panels[b, p, k // 4, c, k % 4] = y[b, k, p * 16 + c]
    acc[b, m, n // 16, n % 16] += x[b, m, k] * panels[b, n // 16, k // 4, n % 16, k % 4]

The loops are those of a convolution whose filters are another image's each time (`dot_conv2d`).
"""

from tvm import tirx

from schedules.cpu.dot_conv2d import dot_space
from schedules.machine import Machine
from schedules.space import Space

BLOCK, PACK = "batch_matmul_dot", "pack_columns"


def dot_batch_matmul(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    return dot_space("dot_batch_matmul", program, machine, BLOCK, PACK)
