"""Depthwise convolutions on cores without the DSP extension."""

from collections.abc import Sequence

from tvm import tirx
from tvm.s_tir import Schedule

from schedules import integer
from schedules.machine import Machine
from schedules.mcu import dsp_depthwise_any
from schedules.mcu.kernel import as_schedule
from schedules.space import Array, Point, Space


def plain_depthwise(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    """The rule: every depthwise convolution, where the machine has no DSP extension."""
    op = integer.read(program)
    if machine.dsp or not isinstance(op, integer.Depthwise):
        return None

    def apply(point: Point) -> Schedule:
        return as_schedule(program, dsp_depthwise_any.kernel(op))

    def pack(point: Point, constants: Sequence[Array]) -> list[Array]:
        return dsp_depthwise_any.pack(op, constants)

    return Space("plain_depthwise", default={}, apply=apply, pack=pack)
