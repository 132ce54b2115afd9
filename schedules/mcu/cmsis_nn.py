"""Convolutions and dense layers by Arm's library CMSIS-NN: kernels that call its published functions with the constants of the layer.

    static void KERNEL(const int8_t *x, const int8_t *w, const int32_t *bias, ..., int8_t *y, void *scratch) {
      ... cmsis_nn_conv_params, cmsis_nn_dims ...
      arm_convolve_wrapper_s8(&context, &parameters, ...);
    }

Which programs take them is not for the rule to say: it is made from a table of those that shall, with the scratch memory that the library
asks for (it differs by core and by version of the library).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.s_tir import Schedule

from schedules import integer
from schedules.integer import Conv2D, Convolution, Depthwise
from schedules.machine import Machine
from schedules.mcu.kernel import Kernel, as_schedule
from schedules.rule import Rule
from schedules.space import Array, Point, Space

RULE = "cmsis_nn"
HEADER = "cmsis_nn/arm_nnfunctions.h"
CONVOLVE, DEPTHWISE, DENSE = "arm_convolve_wrapper_s8", "arm_depthwise_conv_wrapper_s8", "arm_fully_connected_s8"
SIZE_ARGUMENTS = {
    CONVOLVE: "&parameters, &in, &filter, &out",
    DEPTHWISE: "&parameters, &in, &filter, &out",
    DENSE: "&filter",
}
MOST = (1 << 15) - 1  # of an extent: some of the library's functions keep extents and places in int16_t


@dataclass(frozen=True)
class Call:
    """A function of the library, and the bytes of scratch memory that it asks for."""

    function: str
    scratch: int


def cmsis_nn(calls: Mapping[Convolution, Call]) -> Rule:
    """The rule that gives each program of `calls` to the library."""

    def rule(program: tirx.PrimFunc, machine: Machine) -> Space | None:
        op = integer.read(program)
        if not isinstance(op, Convolution) or op not in calls:
            return None
        call = calls[op]

        def apply(point: Point) -> Schedule:
            return as_schedule(program, kernel(op, call))

        def pack_point(point: Point, constants: Sequence[Array]) -> list[Array]:
            return pack(op, constants)

        return Space(RULE, {"function": call.function}, apply, {"function": [call.function]}, pack_point)

    return rule


def functions_for(op: Convolution, one_scale: bool) -> list[str]:
    """The library's functions that compute `op`, the best first; `one_scale` is whether all filters have one multiplier and shift."""
    if max(op.height, op.width, op.channels, op.filters, op.kernel_h * op.dilation[0], op.kernel_w * op.dilation[1]) > MOST:
        return []
    if isinstance(op, Depthwise):
        return [DEPTHWISE] if op.batch == 1 else []
    if op.kernel_h == op.kernel_w == 1 and op.padded:
        return []  # the library takes any such convolution for one without a border
    dense = one_scale and op.kernel_h == op.kernel_w == op.height == op.width == 1
    return [DENSE, CONVOLVE] if dense else [CONVOLVE]


def pack(op: Convolution, constants: Sequence[Array]) -> list[Array]:
    """The library subtracts the zero point of x itself, so `bias` is as it was before it was folded in."""
    w, bias, multiplier, shift = constants
    by_filter = w.reshape(op.filters, -1) if isinstance(op, Conv2D) else w.reshape(-1, op.filters).T
    plain = bias.astype(np.int64) + op.x_zero * by_filter.astype(np.int64).sum(axis=1)
    return [w, plain.astype(np.uint64).astype(np.uint32).astype(np.int32), multiplier, shift]


def kernel(op: Convolution, call: Call) -> Kernel:
    """The C function that calls `call.function`. The status that it returns is no news: arguments of a layer always fit together."""
    one_scale = call.function == DENSE
    lines = [
        *setup(op, call.function),
        f"const cmsis_nn_context context = {{{'scratch' if call.scratch else 'NULL'}, {call.scratch}}};",
        "const cmsis_nn_per_tensor_quant_params scale = {*multiplier, *shift};"
        if one_scale
        else "const cmsis_nn_per_channel_quant_params scale = {(int32_t *)multiplier, (int32_t *)shift};",
        f"(void){call.function}(&context, &parameters, &scale, &in, x, &filter, w, &biases, bias, &out, y);",
    ]
    parameters = "const int8_t *x, const int8_t *w, const int32_t *bias, const int32_t *multiplier, const int32_t *shift, int8_t *y"
    scratch = ", void *scratch" if call.scratch else ""
    body = "\n".join(f"  {line}" for line in lines)
    return Kernel(f"static void KERNEL({parameters}{scratch}) {{\n{body}\n}}\n", scratch=call.scratch, include=HEADER)


def setup(op: Convolution, function: str) -> list[str]:
    """C declarations of what the library calls the layer's parameters, and of its tensors' shapes."""
    offsets = f".input_offset = {-op.x_zero}, .output_offset = {op.y_zero}, .activation = {{.min = {op.low}, .max = {op.high}}}"
    by_depth = f"{offsets}, .ch_mult = {op.filters // op.channels}"
    windows = ", ".join(
        f".{title} = {{.h = {h}, .w = {w}}}"
        for title, (h, w) in {"stride": op.strides, "padding": op.pad[:2], "dilation": op.dilation}.items()
    )
    kind, values, filters = {
        DENSE: ("fc", offsets, (op.channels, 1, 1, op.filters)),
        CONVOLVE: ("conv", f"{offsets}, {windows}", (op.filters, op.kernel_h, op.kernel_w, op.channels)),
        DEPTHWISE: ("dw_conv", f"{by_depth}, {windows}", (1, op.kernel_h, op.kernel_w, op.filters)),
    }[function]
    shapes = {
        "in": (op.batch, op.height, op.width, op.channels),
        "filter": filters,
        "biases": (1, 1, 1, op.filters),
        "out": (op.batch, op.out_height, op.out_width, op.filters),
    }
    return [
        f"const cmsis_nn_{kind}_params parameters = {{{values}}};",
        *(f"const cmsis_nn_dims {title} = {{.n = {n}, .h = {h}, .w = {w}, .c = {c}}};" for title, (n, h, w, c) in shapes.items()),
    ]


def scratch_question(op: Convolution, function: str) -> str:
    """C statements that ask the library for the bytes of scratch memory and return them."""
    lines = [*setup(op, function), "(void)parameters, (void)in, (void)filter, (void)biases, (void)out;"]
    return "\n".join(f"  {line}" for line in [*lines, f"return {function}_get_buffer_size({SIZE_ARGUMENTS[function]});"])
