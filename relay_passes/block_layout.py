"""Keep images in blocks of channels, one vector register wide, from the first convolution to the last operator that can follow.

    y = conv2d(x, w)                 y = conv2d(x, w', NCHW -> NCHW16c)
    z = relu(y)                ->    z = relu(y)                            [N, C/16, H, W, 16]
    u = conv2d(z, v)                 u = conv2d(z, v', NCHW16c)
    return u                         return unblock(u)

Weights and per-channel constants are re-laid here, in numpy. Channels that do not fill their last block are padded with zero weights;
a padded value only passes through operators that keep zeros harmless, and is cut back where it leaves the blocked part.
Left alone: convolutions whose groups do not divide into blocks, other dtypes than float32, weights that are not constant, and convolutions
with few filters that are cheaper in plain layout. Others that may be are left alone where that was chosen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst
from tvm.ir.transform import Pass

from relay_passes.choices import Choices
from relay_passes.layout_cost import PLAIN, Layer
from relay_passes.rewrite import blank, constant

ELEMENTWISE = {
    "relax.nn.relu", "relax.nn.leakyrelu", "relax.clip", "relax.sigmoid", "relax.tanh", "relax.nn.silu", "relax.nn.gelu", "relax.negative",
    "relax.abs", "relax.erf", "relax.square", "relax.add", "relax.subtract", "relax.multiply", "relax.maximum", "relax.minimum",
}  # fmt: skip
IMAGE_OPERATORS = {"relax.nn.max_pool2d", "relax.nn.avg_pool2d", "relax.mean", "relax.max", "relax.concat"}
NEEDS_WHOLE_BLOCKS = {"relax.divide", "relax.exp", "relax.log", "relax.sqrt", "relax.rsqrt", "relax.power"}  # f(0) may not be finite

Ways = Callable[[Layer, int, int, int], Sequence[str]]


@dataclass(frozen=True)
class Blocked:
    """A value in blocks: `expr` has shape [N, blocks, H, W, lanes]; the first `channels` of blocks * lanes mean something."""

    expr: relax.Expr
    channels: int

    @property
    def shape(self) -> tuple[int, ...]:
        shape = shape_of(self.expr)
        assert shape is not None, "blocked values have static shapes"
        return shape

    @property
    def room(self) -> int:
        return self.shape[1] * self.shape[4]

    @property
    def padded(self) -> bool:
        return self.room != self.channels


def shape_of(expr: relax.Expr) -> tuple[int, ...] | None:
    """The static shape of a tensor, None for anything else."""
    if not isinstance(expr.ty, relax.TensorType) or not isinstance(expr.ty.shape, relax.ShapeExpr):
        return None
    return tuple(int(extent) for extent in expr.ty.shape)


def room_for(channels: int, lanes: int) -> int:
    """Channels rounded up to whole blocks. Many blocks are made even, so that tiles of two or four filters' blocks divide them."""
    blocks = -(-channels // lanes)
    return lanes * (blocks + blocks % 2 if blocks >= 16 else blocks)


def block_channels(array: np.ndarray, room: int, lanes: int) -> np.ndarray:
    """[N, C, H, W] -> [N, room / lanes, H, W, lanes], zeros behind the last channel."""
    n, channels, h, w = array.shape
    padded = np.pad(array, [(0, 0), (0, room - channels), (0, 0), (0, 0)])
    return np.ascontiguousarray(np.moveaxis(padded.reshape(n, room // lanes, lanes, h, w), 2, -1))


def block_weight(array: np.ndarray, filters: int, channels: int, block_in: int, block_out: int) -> np.ndarray:
    """OIHW -> [filters / block_out, channels / block_in, H, W, block_in, block_out], zeros where the weight has nothing."""
    height, width = array.shape[2:]
    padding = [(0, filters - array.shape[0]), (0, channels - array.shape[1]), (0, 0), (0, 0)]
    padded = np.pad(array, padding) if any(after for _, after in padding) else array
    split = padded.reshape(filters // block_out, block_out, channels // block_in, block_in, height, width)
    blocks = split.transpose(0, 2, 4, 5, 3, 1)
    result = blank(blocks.shape, array.dtype)
    result[:] = blocks
    return result


class Blocker:
    """Re-emits one straight-line function in order, remembering which variables also exist in blocks."""

    def __init__(self, lanes: int, choices: Choices, ways: Ways) -> None:
        self.lanes, self.choices, self.ways = lanes, choices, ways
        self.builder = relax.BlockBuilder()
        self.blocked: dict[relax.Var, Blocked] = {}
        self.plain: dict[relax.Var, relax.Expr] = {}
        self.wanted: set[relax.Var] = set()
        self.kept: set[relax.Var] = set()

    def function(self, old: relax.Function) -> relax.Function:
        self.plain.update({param: param for param in old.params})
        bindings = [binding for block in old.body.blocks for binding in block.bindings]
        self.wanted, self.kept = self.wanted_in_blocks(bindings), self.wanted_in_blocks(bindings, depthwise=True)
        with self.builder.function("main", list(old.params), attrs=dict(old.attrs or {})):
            with self.builder.dataflow():
                for block in old.body.blocks:
                    for binding in block.bindings:
                        self.binding(binding)
                result = self.builder.emit_output(self.in_plain(old.body.body))
            self.builder.emit_func_output(result)
        return self.builder.finalize()["main"]

    def wanted_in_blocks(self, bindings: list[relax.Binding], depthwise: bool = False) -> set[relax.Var]:
        """Variables that reach a dense convolution, or one of any kind, through operators that can stay in blocks."""
        wanted: set[relax.Var] = set()
        for binding in reversed(bindings):
            call = binding.value
            if not isinstance(call, relax.Call) or not isinstance(call.op, tvm.ir.Op):
                continue
            if call.op.name == "relax.nn.conv2d" and (depthwise or int(call.attrs.groups) == 1):
                wanted.add(call.args[0])
            elif binding.var in wanted and call.op.name in ELEMENTWISE | NEEDS_WHOLE_BLOCKS | IMAGE_OPERATORS:
                wanted.update(relax.analysis.free_vars(call))
        return wanted

    def binding(self, binding: relax.Binding) -> None:
        value = binding.value
        blocked = self.rewrite(value, binding.var in self.wanted, binding.var in self.kept) if isinstance(value, relax.Call) else None
        if blocked is not None:
            self.blocked[binding.var] = blocked
        else:
            self.plain[binding.var] = self.emit(self.in_plain(value))

    def in_plain(self, expr: relax.Expr) -> relax.Expr:
        """`expr` over the new variables, every one in plain layout."""
        if isinstance(expr, relax.Var):
            if expr not in self.plain:
                self.plain[expr] = self.as_plain(self.blocked[expr])
            return self.plain[expr]
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self.in_plain(field) for field in expr.fields])
        if isinstance(expr, relax.TupleGetItem):
            return relax.TupleGetItem(self.in_plain(expr.tuple_value), expr.index)
        if isinstance(expr, relax.Call):
            return relax.Call(expr.op, [self.in_plain(argument) for argument in expr.args], expr.attrs, expr.ty_args)
        return expr

    # What a variable is now: blocked, plain, or both once somebody needed the other form.

    def worth_blocks(self, channels: int) -> bool:
        return channels > self.lanes // 2

    def emit(self, expr: relax.Expr) -> relax.Expr:
        return self.builder.emit(expr)

    def as_blocked(self, value: relax.Expr) -> Blocked | None:
        """`value` in blocks, converted if it is not; None where it cannot be."""
        if value in self.blocked:
            return self.blocked[value]
        shape = shape_of(value)
        if shape is None or len(shape) != 4 or value.ty.dtype.dtype != "float32" or not self.worth_blocks(shape[1]):
            return None
        n, c, h, w = shape
        room = room_for(c, self.lanes)
        if isinstance(value, GenericConst):
            return Blocked(relax.const(block_channels(value.value.numpy(), room, self.lanes)), c)
        source = self.in_plain(value)
        if room != c:
            source = self.emit(relax.op.nn.pad(source, (0, 0, 0, room - c, 0, 0, 0, 0)))
        if (h, w) == (1, 1):
            moved = relax.op.reshape(source, (n, room // self.lanes, 1, 1, self.lanes))
        else:
            split = self.emit(relax.op.reshape(source, (n, room // self.lanes, self.lanes, h, w)))
            moved = relax.op.permute_dims(split, (0, 1, 3, 4, 2))
        result = Blocked(self.emit(moved), c)
        if isinstance(value, relax.Var):
            self.blocked[value] = result
        return result

    def as_plain(self, value: Blocked) -> relax.Expr:
        n, _blocks, h, w, _lanes = value.shape
        source = value.expr
        if (h, w) != (1, 1):
            source = self.emit(relax.op.permute_dims(source, (0, 1, 4, 2, 3)))
        flat = self.emit(relax.op.reshape(source, (n, value.room, h, w)))
        return self.emit(relax.op.strided_slice(flat, [1], [0], [value.channels])) if value.padded else flat

    # One method an operator: the blocked result, or None to leave it as it is.

    def rewrite(self, call: relax.Call, wanted: bool, kept: bool) -> Blocked | None:
        if not isinstance(call.op, tvm.ir.Op):
            return None
        name = call.op.name
        if name == "relax.nn.conv2d":
            return self.conv2d(call, kept)
        if name in ELEMENTWISE or name in NEEDS_WHOLE_BLOCKS:
            return self.elementwise(call, wanted)
        handlers: dict[str, Callable[[relax.Call], Blocked | None]] = {
            "relax.nn.max_pool2d": self.pool,
            "relax.nn.avg_pool2d": self.pool,
            "relax.mean": self.reduce_image,
            "relax.max": self.reduce_image,
            "relax.concat": self.concat,
        }
        return handlers[name](call) if name in handlers else None

    def way(self, call: relax.Call, image: tuple[int, ...], weight: tuple[int, ...], kept: bool) -> str:
        """Whether a dense convolution computes in blocks: by what was chosen, or a rough estimate."""
        result = shape_of(call)
        assert result is not None, "its operands have static shapes"
        held = self.blocked.get(call.args[0])
        few = held is None and not self.worth_blocks(image[1])
        room_in = held.room if held else image[1] if few else room_for(image[1], self.lanes)
        stride = (int(call.attrs.strides[0]), int(call.attrs.strides[1]))
        layer = Layer(image, weight, result, stride, held is not None, held is None and not few, kept)
        ways = self.ways(layer, room_in, room_for(weight[0], self.lanes), self.lanes)
        return self.choices.choose("layout", ways, layer.like) if len(ways) > 1 else ways[0]

    def conv2d(self, call: relax.Call, kept: bool) -> Blocked | None:
        """Blocked filters; the input blocked too unless it has few channels, as the first layer's image."""
        data, weight, attrs = call.args[0], call.args[1], call.attrs
        if attrs.data_layout != "NCHW" or attrs.kernel_layout != "OIHW" or not isinstance(weight, GenericConst):
            return None
        if weight.value.dtype != "float32":
            return None
        array = np.from_dlpack(weight.value)
        shape = shape_of(data)
        filters, groups, lanes = array.shape[0], int(attrs.groups), self.lanes
        if shape is None or (groups > 1 and not self.worth_blocks(filters)):
            return None
        depthwise = groups == shape[1] == filters
        if groups == 1 and self.way(call, shape, array.shape, kept) == PLAIN:
            return None
        if groups > 1 and not depthwise:
            held = self.blocked[data].room if data in self.blocked else room_for(shape[1], lanes)
            if filters // groups % lanes or array.shape[1] % lanes or held != shape[1]:
                return None
        source = self.blocked.get(data) if depthwise else self.as_blocked(data)  # depthwise is too little work to pay for a conversion
        data_layout, room = f"NCHW{lanes}c", room_for(filters, lanes)
        if depthwise and source is not None:
            array, kernel_layout, groups, room = block_weight(array, source.room, 1, 1, lanes), f"OIHW1i{lanes}o", source.room, source.room
        elif groups > 1:
            if source is None:
                return None
            array, kernel_layout = block_weight(array, filters, array.shape[1], lanes, lanes), f"OIHW{lanes}i{lanes}o"
        elif source is None:  # few channels: read them as they are
            channels = shape[1]
            array, data_layout, kernel_layout = block_weight(array, room, channels, channels, lanes), "NCHW", f"OIHW{channels}i{lanes}o"
        else:
            array, kernel_layout = block_weight(array, room, source.room, lanes, lanes), f"OIHW{lanes}i{lanes}o"
        new = relax.op.nn.conv2d(
            self.in_plain(data) if source is None else source.expr,
            constant(array),
            strides=attrs.strides,
            padding=attrs.padding,
            dilation=attrs.dilation,
            groups=groups,
            data_layout=data_layout,
            kernel_layout=kernel_layout,
            out_layout=f"NCHW{lanes}c",
        )
        return Blocked(self.emit(new), filters)

    def elementwise(self, call: relax.Call, wanted: bool) -> Blocked | None:
        """In blocks if an operand is. Operands in both layouts meet in the one that the result is `wanted` in."""
        tensors = [argument for argument in call.args if isinstance(argument.ty, relax.TensorType)]
        lead = next((self.blocked[value] for value in tensors if value in self.blocked), None)
        if lead is None or len(shape_of(call) or ()) != 4 or (lead.padded and call.op.name in NEEDS_WHOLE_BLOCKS):
            return None
        arguments: list[relax.Expr] = []
        for value in call.args:
            operand = self.operand(value, lead, wanted) if isinstance(value.ty, relax.TensorType) else value
            if operand is None:
                return None
            arguments.append(operand)
        return Blocked(self.emit(relax.Call(call.op, arguments, call.attrs)), lead.channels)

    def operand(self, value: relax.Expr, lead: Blocked, convert: bool) -> relax.Expr | None:
        """`value` so that it broadcasts against `lead` in blocks."""
        shape = shape_of(value)
        if shape is None or value.ty.dtype.dtype != "float32":
            return None
        if all(extent == 1 for extent in shape):
            return relax.op.reshape(self.in_plain(value), ()) if len(shape) > 0 else self.in_plain(value)
        if len(shape) == 4 and shape[1] == 1:  # the same for all channels, and so for all lanes: a map over the image
            return self.emit(relax.op.reshape(self.in_plain(value), (*shape, 1)))
        if isinstance(value, GenericConst):
            array = value.value.numpy()
            if array.ndim > 4 or array.ndim < 3 or array.shape[-3] != lead.channels:
                return None
            return relax.const(block_channels(array.reshape((1,) * (4 - array.ndim) + array.shape), lead.room, self.lanes))
        if len(shape) != 4 or shape[1] != lead.channels:
            return None
        small = shape[2:] == (1, 1)  # free to convert
        blocked = self.as_blocked(value) if convert or small else self.blocked.get(value)
        return blocked.expr if blocked is not None and blocked.room == lead.room else None

    def pool(self, call: relax.Call) -> Blocked | None:
        source, attrs = self.blocked.get(call.args[0]), call.attrs
        if source is None or attrs.layout != "NCHW":
            return None
        operator = relax.op.nn.max_pool2d if call.op.name == "relax.nn.max_pool2d" else relax.op.nn.avg_pool2d
        new = operator(
            source.expr,
            pool_size=attrs.pool_size,
            strides=attrs.strides,
            padding=attrs.padding,
            dilation=attrs.dilation,
            ceil_mode=bool(attrs.ceil_mode),
            count_include_pad=bool(attrs.count_include_pad),
            layout=f"NCHW{self.lanes}c",
        )
        return Blocked(self.emit(new), source.channels)

    def reduce_image(self, call: relax.Call) -> Blocked | None:
        """Mean or maximum over height and width with kept dimensions."""
        source, attrs = self.blocked.get(call.args[0]), call.attrs
        if source is None or attrs.axis is None or sorted(int(axis) % 4 for axis in attrs.axis) != [2, 3] or not attrs.keepdims:
            return None
        operator = relax.op.mean if call.op.name == "relax.mean" else relax.op.max
        return Blocked(self.emit(operator(source.expr, axis=[2, 3], keepdims=True)), source.channels)  # not -1: the lanes are last now

    def concat(self, call: relax.Call) -> Blocked | None:
        fields = call.args[0].fields if isinstance(call.args[0], relax.Tuple) else []
        parts = [self.blocked.get(field) for field in fields]
        if int(call.attrs.axis) != 1 or not parts or any(part is None or part.padded for part in parts):
            return None
        whole = [part for part in parts if part is not None]
        joined = relax.op.concat([part.expr for part in whole], axis=1)
        return Blocked(self.emit(joined), sum(part.channels for part in whole))


def block_layout(lanes: int, choices: Choices, ways: Ways = Layer.ways) -> Pass:
    """The pass for vectors of `lanes` float32. `ways` says where a dense convolution can go, the default first."""

    @tvm.transform.module_pass(opt_level=0, name="block_layout")
    def run(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        new = tvm.IRModule(dict(module.functions), attrs=module.attrs)
        for name, function in module.functions.items():
            if isinstance(function, relax.Function) and straight(function):
                new[name] = Blocker(lanes, choices, ways).function(function)
        return new

    return run


def straight(function: relax.Function) -> bool:
    """Whether the function is dataflow only: no branches, no calls of other functions."""
    values = [binding.value for block in function.body.blocks for binding in block.bindings]
    return all(isinstance(block, relax.DataflowBlock) for block in function.body.blocks) and not any(
        isinstance(value, relax.If) or (isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.GlobalVar)) for value in values
    )
