"""Where the buffers of a program are in C: parameters, variables, small arrays on the stack, the rest in scratch memory.

acc = T.alloc_buffer((1,), "int32")        ->     int32_t acc;
acc = T.alloc_buffer((2, 2), "float32")    ->     float acc0, acc1, acc2, acc3;     (where all its indices are constant)
row = T.alloc_buffer((16,), "int16")       ->     int16_t row[16];
pad = T.alloc_buffer((20, 20), "int8")     ->     int8_t *pad = (int8_t *)scratch + 32;
"""

import math
from dataclasses import dataclass, field

import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad

from stack.emit.c_types import itemsize

STACK_BYTES = 256  # what the local arrays of one function may take together
MAX_SCALARS = 64  # more than the registers of any core: beyond it, an array reads better
ALIGNMENT = 8


@dataclass(frozen=True)
class Place:
    """`scalars` are the names of the elements, where each is a variable of its own; `offset` is the place in scratch memory."""

    name: str
    dtype: str
    elements: int
    scalars: tuple[str, ...] = ()
    offset: int | None = None


Places = dict[tirx.Expr, Place]


@dataclass
class Use:
    """What a program does with its buffers."""

    allocated: list[tirx.Expr] = field(default_factory=list)
    stored: set[tirx.Expr] = field(default_factory=set)
    indexed: set[tirx.Expr] = field(default_factory=set)  # by something that is not constant


def use(body: tirx.Stmt) -> Use:
    found = Use()

    def load(node: TensorLoad) -> None:
        if not all(isinstance(index, tirx.IntImm) for index in node.indices):
            found.indexed.add(node.source)

    def store(node: tirx.BufferStore) -> None:
        found.stored.add(node.buffer)
        if not all(isinstance(index, tirx.IntImm) for index in node.indices):
            found.indexed.add(node.buffer)

    tvm_ffi.structural_walk(
        body,
        [
            (TensorLoad, load),
            (tirx.BufferStore, store),
            (tirx.AllocBuffer, lambda node: found.allocated.append(node.buffer)),
        ],
    )
    return found


def elements(buffer: tirx.Expr) -> int:
    return math.prod(int(extent) for extent in buffer.shape)


def in_scratch(found: Use) -> tuple[dict[tirx.Expr, int], int]:
    """The offsets of those buffers that find no place on the stack, where small ones are served first, and the bytes of all."""
    offsets: dict[tirx.Expr, int] = {}
    arrays = [buffer for buffer in found.allocated if elements(buffer) > 1 and not are_scalars(buffer, found)]
    stack = scratch = 0
    for buffer in sorted(arrays, key=lambda buffer: elements(buffer) * itemsize(str(buffer.dtype))):
        size = elements(buffer) * itemsize(str(buffer.dtype))
        if stack + size <= STACK_BYTES:
            stack += size
        else:
            offsets[buffer] = scratch
            scratch += -(-size // ALIGNMENT) * ALIGNMENT
    return offsets, scratch


def are_scalars(buffer: tirx.Expr, found: Use) -> bool:
    """Whether each element is a variable of its own."""
    return elements(buffer) == 1 or (buffer not in found.indexed and elements(buffer) <= MAX_SCALARS)
