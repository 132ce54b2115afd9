"""Rules for microcontrollers: kernels written for the shape of one layer, in C. `RULES`: most specific first, the last takes everything."""

from schedules.mcu.dsp_conv2d import dsp_conv2d
from schedules.mcu.dsp_depthwise import dsp_depthwise
from schedules.mcu.fallback import fallback
from schedules.mcu.float_tile import float_tile
from schedules.mcu.fused_rows import fused_rows
from schedules.mcu.mve_conv2d import mve_conv2d
from schedules.mcu.mve_depthwise import mve_depthwise
from schedules.mcu.mve_elementwise import mve_elementwise
from schedules.mcu.plain_conv import plain_conv
from schedules.mcu.plain_dense import plain_dense
from schedules.mcu.plain_depthwise import plain_depthwise

KERNELS = [mve_conv2d, mve_depthwise, mve_elementwise, dsp_conv2d, dsp_depthwise, plain_dense, plain_conv, plain_depthwise]
RULES = [fused_rows(KERNELS), *KERNELS, float_tile, fallback]
