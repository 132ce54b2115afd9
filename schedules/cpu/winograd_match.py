"""Which convolutions Winograd's transforms can compute: dense 3x3 with unit strides, channels in blocks of whole vectors."""

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cpu.convolution import loads, read_convolution, steps
from schedules.cpu.winograd import Conv3x3


def conv3x3(
    program: tirx.PrimFunc, sch: Schedule, block: SBlockRV, pad: SBlockRV | None, last: SBlockRV | None, lanes: int
) -> Conv3x3 | None:
    """The convolution `block` of `program` and its tail, None where it is another kind.

    In `sch` the tail is inlined into its block `last`, None where nothing follows.
    """
    node = sch.get(block)
    data, weight = (region.source for region in node.reads[:2])
    shape = [int(extent) for extent in weight.shape]
    if len(data.shape) != 5 or len(shape) != 6 or shape[2:] != [3, 3, lanes, lanes] or int(data.shape[1]) != shape[1]:
        return None
    _n, _k, h, w, _o, _c, r, s, _ci = (axis.var for axis in node.iter_vars)
    window = loads(node.body, data)[0].indices[2:4]
    if [steps(index, axes) for index, axes in zip(window, ((h, r), (w, s)), strict=True)] != [[1, 1, 0]] * 2:
        return None
    top = left = 0
    if pad is not None:
        padded = sch.get(pad)
        data = padded.reads[0].source
        axes = [axis.var for axis in padded.iter_vars]
        moved = [steps(index, [axis]) for index, axis in zip(loads(padded.body, data)[0].indices[2:4], axes[2:4], strict=True)]
        if any(move is None or move[0] != 1 or move[1] > 0 for move in moved):
            return None
        top, left = (-move[1] for move in moved if move is not None)
    conv = read_convolution(program, sch, block, last)
    if conv is None or data not in set(program.params):
        return None
    return Conv3x3(program, data, weight, conv.sums, conv.tail, conv.axes, conv.shape, top, left)
