from collections.abc import Sequence

import numpy as np
import pytest
import tvm
from tvm import relax, tirx
from tvm.ir.transform import Pass

from relay_passes import block_layout as layouts
from relay_passes.choices import Choices
from relay_passes.layout_cost import Layer
from relay_passes.lower_conv2d import lower_conv2d
from tests.relay_passes.network import FAST_BUILD, network
from tests.schedules.cpu.convolutions import CONVOLUTIONS, Conv, reference

nn = relax.op.nn


def usual(layer: Layer, _room_in: int, _room_out: int, lanes: int) -> Sequence[str]:
    """Blocks wherever there are filters for them, whatever small images are worth."""
    return ("blocked",) if layer.weight[0] > lanes // 2 else ("plain",)


def block_layout(lanes: int) -> Pass:
    return layouts.block_layout(lanes, Choices(), usual)


def values(shape: Sequence[int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def convolution(conv: Conv, behind_blocks: bool = False) -> tvm.IRModule:
    """The convolution of an input, or of what a pointwise convolution leaves of it, which is the input itself."""

    def body(x: relax.Var) -> relax.Expr:
        if behind_blocks:
            x = nn.conv2d(x, relax.const(np.eye(conv.c, dtype="float32")[:, :, None, None]))
        weight = relax.const(values(conv.weight, 1))
        return nn.conv2d(x, weight, strides=conv.strides, padding=conv.padding, dilation=conv.dilation, groups=conv.groups)

    return network(body, conv.image)


def lowered(module: tvm.IRModule) -> tvm.IRModule:
    return relax.transform.LegalizeOps({"relax.nn.conv2d": lower_conv2d}, enable_warning=False)(module)


def block_names(module: tvm.IRModule) -> list[str]:
    """The blocks of all programs, without those inside others."""
    found = []
    for function in lowered(module).functions.values():
        if isinstance(function, tirx.PrimFunc):
            sch = tvm.s_tir.Schedule(function)
            found += [str(sch.get(block).name_hint) for block in sch.get_child_blocks(sch.get_sblock("root"))]
    return found


@pytest.mark.parametrize(
    ("conv", "lanes", "expected"),
    [
        pytest.param(Conv(16, 16), 16, ["conv2d_nchwc", "pad"], id="blocks"),
        pytest.param(Conv(3, 16), 16, ["conv2d_nchwc", "pad"], id="the first layer"),
        pytest.param(Conv(16, 16, groups=16), 16, ["conv2d_nchwc", "depthwise_conv2d_nchwc", "pad"], id="depthwise in blocks"),
        pytest.param(Conv(32, 32, groups=2), 16, ["conv2d_nchwc", "pad"], id="groups of blocks"),
        pytest.param(Conv(5, 3), None, ["conv2d_plane", "pad"], id="plain"),
        pytest.param(Conv(6, 9, groups=3), None, ["conv2d_plane", "pad"], id="groups that fill no block"),
        pytest.param(Conv(3, 4, strides=(2, 1)), None, ["conv2d_plane", "pad"], id="strides of two"),
    ],
)
def test_becomes_the_program_of_a_rule(conv: Conv, lanes: int | None, expected: list[str]) -> None:
    module = convolution(conv, behind_blocks=conv.groups == conv.c)
    names = block_names(block_layout(lanes)(module) if lanes else module)
    assert sorted(set(names) - {"T_reshape", "T_transpose", "crop"}) == expected


def test_larger_strides_stay_with_tvm() -> None:
    assert "conv2d_nchw" in block_names(convolution(Conv(3, 4, h=13, w=17, strides=(3, 3))))


def test_other_dtypes_stay_with_tvm() -> None:
    weight = relax.const(np.ones((4, 3, 3, 3)), "float64")
    assert "conv2d_nchw" in block_names(network(lambda x: nn.conv2d(x, weight), ((1, 3, 5, 5), "float64")))


def test_nothing_is_padded_where_nothing_is_needed() -> None:
    assert "pad" not in block_names(block_layout(16)(convolution(Conv(16, 16, h=4, w=8, kernel=(1, 1), padding=(0, 0, 0, 0)))))


@pytest.mark.parametrize("layout", ["plain", "8 lanes", "16 lanes", "16 lanes behind blocks"])
def test_numbers_are_those_of_a_convolution(layout: str) -> None:
    functions = {}
    for index, conv in enumerate(CONVOLUTIONS):
        module = convolution(conv, behind_blocks="behind" in layout)
        if layout != "plain":
            module = block_layout(int(layout.split()[0]))(module)
        functions[f"f{index}"] = module["main"].with_attr("global_symbol", f"f{index}")
    machine = relax.VirtualMachine(tvm.compile(lowered(tvm.IRModule(functions)), FAST_BUILD), tvm.cpu())
    for index, conv in enumerate(CONVOLUTIONS):
        x = values(conv.image, 2)
        result = machine[f"f{index}"](tvm.runtime.tensor(x)).numpy()
        np.testing.assert_allclose(result, reference(x, values(conv.weight, 1), conv), rtol=1e-4, atol=1e-4, err_msg=str(conv))
