import numpy as np
import tvm
from tvm import relax

from relay_passes.integers.lower_integers import FLOAT_ISLANDS, lower_integers
from relay_passes.pipeline import to_programs
from schedules.integer import Conv2D, Depthwise, read
from tests.relay_passes.integers.host import Host
from tests.relay_passes.network import network, operators

op, nn = relax.op, relax.op.nn
INT8 = "int8"


def dequantize(x: relax.Expr, scale: object = 0.1, zero: object = 0, axis: int = -1, dtype: str = INT8) -> relax.Expr:
    return op.dequantize(x, relax.const(np.float32(scale)), relax.const(np.array(zero, dtype)), axis)


def quantize(x: relax.Expr, scale: float = 0.2, zero: int = 0, dtype: str = INT8) -> relax.Expr:
    return op.quantize(x, relax.const(np.float32(scale)), relax.const(np.array(zero, dtype)), -1, dtype)


def weights(*shape: int, low: int = -127) -> relax.Expr:
    return relax.const(np.random.default_rng(1).integers(low, 128, shape).astype(INT8))


def convolution(x: relax.Expr, **attributes: object) -> relax.Expr:
    given = {"padding": (1, 1, 1, 1), "data_layout": "NHWC", "kernel_layout": "OHWI", **attributes}
    return nn.conv2d(dequantize(x, 0.1, 3), dequantize(weights(4, 3, 3, 2), [0.01, 0.02, 0.03, 0.04], [0] * 4, 0), **given)


def description(module: tvm.IRModule) -> Conv2D | Depthwise:
    (found,) = [read(item) for item in module.functions.values() if isinstance(item, tvm.tirx.PrimFunc) and read(item)]
    assert found is not None
    return found


def test_an_island_becomes_one_call() -> None:
    module = lower_integers(network(lambda x: quantize(nn.relu(convolution(x)), 0.2, -5), ((1, 5, 6, 2), INT8)))
    assert operators(module) == ["conv2d"]
    assert list(module.attrs[FLOAT_ISLANDS]) == []
    op = description(module)
    assert (op.height, op.width, op.filters, op.pad, op.x_zero, op.y_zero) == (5, 6, 4, (1, 1, 1, 1), 3, -5)
    assert (op.low, op.high) == (-5, 127)
    assert op.right_shifts
    assert op.narrow


def test_alike_layers_share_a_program() -> None:
    def body(x: relax.Expr) -> relax.Expr:
        square = dequantize(weights(2, 1, 1, 2), 0.01)
        first = quantize(nn.conv2d(dequantize(x, 0.1, 3), square, data_layout="NHWC", kernel_layout="OHWI"), 0.1, 3)
        return quantize(nn.conv2d(dequantize(first, 0.1, 3), square, data_layout="NHWC", kernel_layout="OHWI"), 0.1, 3)

    module = lower_integers(network(body, ((1, 4, 4, 2), INT8)))
    assert operators(module) == ["conv2d", "conv2d"]
    assert sum(isinstance(item, tvm.tirx.PrimFunc) for item in module.functions.values()) == 1


def test_a_second_run_changes_nothing() -> None:
    once = lower_integers(network(lambda x: quantize(convolution(x)), ((1, 5, 6, 2), INT8)))
    tvm.ir.assert_structural_equal(lower_integers(once), once)


def test_floats_stay_floats() -> None:
    module = network(lambda x: nn.relu(op.add(x, x)), (1, 4))
    assert operators(lower_integers(module)) == operators(module)


def test_what_stays_in_floats_is_named() -> None:
    module = lower_integers(network(lambda x: quantize(op.acos(dequantize(x))), ((1, 4), INT8)))
    (entry,) = module.attrs[FLOAT_ISLANDS]
    assert str(entry).startswith("acos -> ")
    assert operators(module) == ["dequantize", "acos", "quantize"]


def test_weights_that_need_a_ninth_bit_for_their_zero_point_stay_integers() -> None:
    def body(x: relax.Expr) -> relax.Expr:
        return quantize(op.matmul(dequantize(x), dequantize(weights(6, 4, low=-128), [0.01] * 4, [100, 0, -100, 0], 1)), 0.7)

    host = Host(network(body, ((2, 6), INT8)))
    assert (host.float_islands, host.calls) == ([], ["dense"])
    x = np.random.default_rng(2).integers(-128, 128, (2, 6)).astype(INT8)
    centred = np.random.default_rng(1).integers(-128, 128, (6, 4)) - np.array([100, 0, -100, 0])
    assert np.abs(centred).max() > 128
    np.testing.assert_array_equal(host.run([x])[0], np.clip(np.rint(x.astype(int) @ centred * 0.001 / 0.7), -128, 127))


def test_the_passes_behind_leave_programs_and_descriptions_alone() -> None:
    module = network(lambda x: op.reshape(quantize(nn.relu(convolution(x))), (1, 120)), ((1, 5, 6, 2), INT8))
    lowered = lower_integers(module)
    for item in to_programs():
        lowered = item(lowered)
    assert description(lowered) == description(lower_integers(module))


def test_equal_scales_need_no_program() -> None:
    module = network(lambda x: quantize(op.permute_dims(dequantize(x, 0.1, 3), [1, 0]), 0.1, 3), ((2, 5), INT8))
    assert operators(lower_integers(module)) == ["permute_dims"]


def test_images_with_channels_first_are_turned_once_at_either_end() -> None:
    def body(x: relax.Expr) -> relax.Expr:
        for _ in range(2):
            x = quantize(nn.relu(nn.conv2d(dequantize(x), dequantize(weights(2, 2, 3, 3), 0.01), padding=(1, 1, 1, 1))))
        return quantize(nn.max_pool2d(dequantize(x, 0.2), (2, 2), (2, 2)))

    module = lower_integers(network(body, ((1, 2, 6, 6), INT8)))
    assert operators(module) == ["permute_dims", "conv2d", "conv2d", "max_pool", "permute_dims"]


def test_unsigned_bytes_are_computed_as_signed_ones() -> None:
    def body(x: relax.Expr) -> relax.Expr:
        return quantize(op.add(*[dequantize(x, 0.1, 130, dtype="uint8")] * 2), 0.2, 7, "uint8")

    module = network(body, ((1, 256), "uint8"))
    host = Host(module)
    assert host.float_islands == []
    x = np.arange(256, dtype="uint8")[None]
    expected = np.clip(np.round((x.astype("float64") - 130) * 0.2 / 0.2) + 7, 0, 255).astype("uint8")
    np.testing.assert_array_equal(host.run([x])[0], expected)


def test_a_float_bias_is_quantised() -> None:
    def body(x: relax.Expr) -> relax.Expr:
        bias = relax.const(np.array([1.0, -2.0, 0.5, 0.0], "float32"))
        return quantize(op.add(convolution(x), bias))

    module = lower_integers(network(body, ((1, 5, 6, 2), INT8)))
    assert operators(module) == ["conv2d"]


def test_a_bias_of_another_scale_stays_in_floats() -> None:
    def body(x: relax.Expr) -> relax.Expr:
        bias = dequantize(relax.const(np.arange(4, dtype="int32")), 0.5, dtype="int32")
        return quantize(op.add(convolution(x), bias))

    module = lower_integers(network(body, ((1, 5, 6, 2), INT8)))
    assert [str(item).split()[0] for item in module.attrs[FLOAT_ISLANDS]] == ["nn.conv2d", "add"]
