"""Depthwise convolutions on cores with the DSP extension."""

from collections.abc import Mapping, Sequence

import numpy as np
from tvm import tirx
from tvm.s_tir import Schedule

from schedules import integer
from schedules.integer import Depthwise
from schedules.loopnest import Column, LoopNest
from schedules.machine import Machine
from schedules.mcu import dsp_depthwise_any, dsp_depthwise_plane, nests
from schedules.mcu.dsp_depthwise_copy import Plane, default_rows
from schedules.mcu.dsp_depthwise_scale import SCALES, Scale, suitable
from schedules.mcu.kernel import as_schedule
from schedules.mcu.room import within
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

    def scratch(point: Point) -> int:
        return 4 * Plane(op, int(point["rows"])).words if knobs else 0

    return Space(
        "dsp_depthwise",
        knobs=knobs,
        default=default,
        apply=apply,
        pack=pack,
        otherwise=otherwise,
        legal=within(op, scratch, default),
        nests=(lambda columns: [nest(op, columns)]) if knobs else None,
    )


def nest(op: Depthwise, columns: Mapping[str, str | bool | Column]) -> LoopNest:
    """Loads of two words, an instruction for each one or two products, and what an output's scale takes."""
    scale = {"line": 3, "rescale": 5}.get(str(columns["scale"]), 16)
    words = len(dsp_depthwise_plane.weight_words(op))

    def block(wide: int) -> int:
        steps = sum(
            len(list(dsp_depthwise_plane.macs(column * op.strides[1], op.kernel_w, dsp_depthwise_plane.weight_words(op))))
            for column in range(wide)
        )
        read = -(-((wide - 1) * op.strides[1] + op.kernel_w) // 4)
        return op.kernel_h * (-(-words // 2) + read + steps) + wide * scale + nests.LOOP if wide else 0

    def each(most: int, rows: int) -> tuple[float, int, int]:
        count, wide, rest = dsp_depthwise_plane.blocks(op, most)
        plane, bands = Plane(op, rows), -(-op.out_height // rows)
        copied = bands * 2 * (plane.height - plane.kept) * plane.pitch + (bands - 1) * plane.kept * plane.pitch
        return op.channels * copied + op.filters * op.out_height * (count * block(wide) + block(rest)), 4 * plane.words, max(wide, rest)

    found = [each(int(most), int(rows)) for most, rows in np.broadcast(columns["columns"], columns["rows"])]
    instructions, scratch, wide = (np.array(numbers) for numbers in zip(*found, strict=True))
    return nests.depthwise(op, np.asarray(columns["rows"]), wide, 2, op.batch * instructions, scratch)


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
