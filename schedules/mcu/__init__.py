"""Rules for microcontrollers: kernels written for the shape of one layer, in C. `RULES`: most specific first, the last takes everything."""

from schedules.mcu.dsp_conv2d import dsp_conv2d
from schedules.mcu.dsp_depthwise import dsp_depthwise
from schedules.mcu.fallback import fallback
from schedules.mcu.mve_conv2d import mve_conv2d
from schedules.mcu.mve_depthwise import mve_depthwise

RULES = [mve_conv2d, mve_depthwise, dsp_conv2d, dsp_depthwise, fallback]
