"""Rules for microcontrollers: kernels written for the shape of one layer, in C. `RULES`: most specific first, the last takes everything."""

from schedules.mcu.dsp_conv2d import dsp_conv2d
from schedules.mcu.dsp_depthwise import dsp_depthwise

RULES = [dsp_conv2d, dsp_depthwise]
