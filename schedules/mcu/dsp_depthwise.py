"""Depthwise convolutions on cores with the DSP extension."""

from collections.abc import Mapping, Sequence

import numpy as np
from tvm import tirx
from tvm.s_tir import Schedule

from schedules import integer
from schedules.integer import Depthwise
from schedules.machine import Machine
from schedules.mcu import dsp_depthwise_any, dsp_depthwise_plane
from schedules.mcu.dsp_depthwise_copy import default_rows
from schedules.mcu.dsp_depthwise_scale import SCALES, Scale, suitable
from schedules.mcu.kernel import as_schedule
from schedules.space import Array, Point, Space, Value


def dsp_depthwise(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    """The rule: every depthwise convolution, where the machine has the DSP extension."""
    op = integer.read(program)
    if not machine.dsp or not isinstance(op, Depthwise):
        return None
    knobs: Mapping[str, Sequence[Value]] = {}
    if dsp_depthwise_plane.takes(op):
        rows = default_rows(op)
        smaller = [op.out_height, rows, -(-rows // 2)] if op.filters == op.channels else [rows]
        knobs = {"columns": [2, 4, 6], "rows": sorted(set(smaller)), "scale": suitable(op)}

    def apply(point: Point) -> Schedule:
        if not knobs:
            return as_schedule(program, dsp_depthwise_any.kernel(op))
        return as_schedule(program, dsp_depthwise_plane.kernel(op, SCALES[str(point["scale"])], int(point["columns"]), int(point["rows"])))

    def pack(point: Point, constants: Sequence[Array]) -> list[Array]:
        return pack_plane(op, SCALES[str(point["scale"])], constants) if knobs else dsp_depthwise_any.pack(op, constants)

    default: dict[str, Value] = {"columns": 6, "rows": default_rows(op), "scale": suitable(op)[0]} if knobs else {}
    otherwise = default | {"scale": suitable(op)[1]} if default.get("scale") == "line" else None  # for filters without a line
    return Space("dsp_depthwise", knobs=knobs, default=default, apply=apply, pack=pack, otherwise=otherwise)


def pack_plane(op: Depthwise, scale: Scale, constants: Sequence[Array]) -> list[Array]:
    """Filter by filter: bias, the words of weights, gain and offset."""
    w, *rest = constants
    taps = w.reshape(op.kernel_h * op.kernel_w, op.filters).T.astype(np.int64)
    scales, powers = scale.pack(op, taps, *rest)
    rows = (taps << powers[:, None]).reshape(-1, op.kernel_h, op.kernel_w)
    nothing = np.zeros_like(rows[..., 0])
    halves = [[rows[..., k] for k in pair] + [nothing] * (2 - len(pair)) for pair in dsp_depthwise_plane.weight_words(op)]
    words = np.stack([(high << 16) | (low & 0xFFFF) for low, high in halves], axis=-1).reshape(op.filters, -1)
    return [np.concatenate([scales[:, :1], words, scales[:, 1:]], axis=1).astype(np.int32)]
