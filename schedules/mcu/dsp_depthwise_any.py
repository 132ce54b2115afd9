"""Depthwise convolution of any kernel, stride, dilation and multiplier: one filter after the other, pixel by pixel.

    for each filter: constants into registers
      for each output: acc = base + sum over the taps inside the image of (x - x_zero) * w;  y = clip(requantize(acc) + y_zero)

Taps beyond the border then add nothing, since `base` is the bias plus what a whole kernel of zero points would add.
"""

from collections.abc import Sequence

import numpy as np

from schedules.integer import Depthwise
from schedules.mcu.kernel import Kernel
from schedules.space import Array


def kernel(op: Depthwise) -> Kernel:
    """One loop nest for all shapes."""
    step_h, step_w = op.strides
    dilate_h, dilate_w = op.dilation
    top, left = op.pad[0], op.pad[1]
    skip = f"          if ((uint32_t)i >= {op.height}u) continue;\n" if op.pad[0] or op.pad[2] else ""
    inside = f"if ((uint32_t)j < {op.width}u) " if op.pad[1] or op.pad[3] else ""
    return Kernel(f"""\
static void KERNEL(const int8_t *x, const int8_t *w, const int32_t *constants, int8_t *y) {{
  for (int32_t f = 0; f < {op.filters}; f++, w += {op.kernel_h * op.kernel_w}, constants += 3) {{
    const int8_t *image = x + f / {op.filters // op.channels};
    int8_t *out = y + f;
    for (int32_t n = 0; n < {op.batch}; n++, image += {op.height * op.width * op.channels})
    for (int32_t row = {-top}; row < {op.out_height * step_h - top}; row += {step_h})
      for (int32_t column = {-left}; column < {op.out_width * step_w - left}; column += {step_w}, out += {op.filters}) {{
        int32_t acc = constants[0];
        const int8_t *tap = w;
        for (int32_t i = row; i < row + {op.kernel_h * dilate_h}; i += {dilate_h}, tap += {op.kernel_w}) {{
{skip}          const int8_t *line = image + i * {op.width * op.channels};
          for (int32_t k = 0; k < {op.kernel_w}; k++) {{
            int32_t j = column + k * {dilate_w};
            {inside}acc += (line[j * {op.channels}] - ({op.x_zero})) * tap[k];
          }}
        }}
        *out = (int8_t)stack_clip(stack_requantize(acc, constants[1], constants[2]) + ({op.y_zero}), {op.low}, {op.high});
      }}
  }}
}}
""")


def pack(op: Depthwise, constants: Sequence[Array]) -> list[Array]:
    """Weights filter by filter, and base, multiplier and shift of each filter side by side."""
    w, bias, multiplier, shift = constants
    taps = w.reshape(-1, op.filters).T
    base = bias.astype(np.int64) + op.x_zero * taps.astype(np.int64).sum(axis=1)
    wrapped = base.astype(np.uint64).astype(np.uint32).astype(np.int32)
    return [np.ascontiguousarray(taps), np.stack([wrapped, multiplier, shift], axis=1).astype(np.int32)]
