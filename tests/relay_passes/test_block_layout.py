from collections.abc import Callable, Sequence

import numpy as np
import pytest
import tvm
from tvm import relax

from relay_passes.block_layout import block_layout, room_for
from relay_passes.choices import Choices
from relay_passes.layout_cost import Layer
from relay_passes.lower_conv2d import lower_conv2d
from tests.relay_passes.network import FAST_BUILD, Input, const, network, operators, random_inputs

op, nn = relax.op, relax.op.nn
Body = Callable[..., relax.Expr]
LANES = 4  # small blocks make small networks


def usual(layer: Layer, _room_in: int, _room_out: int, lanes: int) -> Sequence[str]:
    """Whatever the estimate says of networks as small as these."""
    return ("blocked",) if layer.weight[0] > lanes // 2 else ("plain",)


block = block_layout(LANES, Choices(), usual)
IN = ["reshape", "permute_dims"]  # plain -> blocks
OUT = ["permute_dims", "reshape"]  # blocks -> plain
CUT = [*OUT, "strided_slice"]  # the same, without the padded channels


def conv(x: relax.Expr, filters: int, channels: int, *, size: int = 1, seed: int = 1, **attributes: object) -> relax.Expr:
    return nn.conv2d(x, const(filters, channels, size, size, seed=seed), **attributes)


def number(value: float) -> relax.Expr:
    return relax.const(value, "float32")


def calls(module: tvm.IRModule) -> list[relax.Call]:
    return [binding.value for binding in module["main"].body.blocks[0].bindings if isinstance(binding.value, relax.Call)]


def same_numbers(cases: dict[str, tuple[tvm.IRModule, tvm.IRModule]]) -> None:
    """Run every pair of modules, all built at once, on the same inputs."""
    functions = {}
    for index, pair in enumerate(cases.values()):
        for which, module in zip(("before", "after"), pair, strict=True):
            functions[f"{which}{index}"] = module["main"].with_attr("global_symbol", f"{which}{index}")
    module = relax.transform.LegalizeOps({"relax.nn.conv2d": lower_conv2d}, enable_warning=False)(tvm.IRModule(functions))
    machine = relax.VirtualMachine(tvm.compile(module, FAST_BUILD), tvm.cpu())
    for index, (name, (before, _after)) in enumerate(cases.items()):
        inputs = [tvm.runtime.tensor(array) for array in random_inputs(before)]
        expected, actual = (outputs(machine[f"{which}{index}"](*inputs)) for which in ("before", "after"))
        for one, other in zip(actual, expected, strict=True):
            assert np.isfinite(other).all(), f"{name}: choose operands that give finite numbers"
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4, err_msg=name)


def outputs(result: object) -> list[np.ndarray]:
    return [result.numpy()] if hasattr(result, "numpy") else [tensor.numpy() for tensor in result]


@pytest.mark.parametrize(
    ("body", "shape", "expected"),
    [
        pytest.param(
            lambda x: conv(nn.relu(conv(x, 8, 2)), 8, 8),
            (1, 2, 5, 5),
            ["nn.conv2d", "nn.relu", "nn.conv2d", *OUT],
            id="from a plain image to the end",
        ),
        pytest.param(lambda x: conv(x, 8, 8), (1, 8, 5, 5), [*IN, "nn.conv2d", *OUT], id="many channels are blocked first"),
        pytest.param(lambda x: conv(x, 8, 6), (1, 6, 5, 5), ["nn.pad", *IN, "nn.conv2d", *OUT], id="and padded"),
        pytest.param(lambda x: conv(x, 6, 8), (1, 8, 5, 5), [*IN, "nn.conv2d", *CUT], id="padded filters are cut back"),
        pytest.param(
            lambda x: conv(x, 8, 8), (2, 8, 1, 1), ["reshape", "nn.conv2d", "reshape"], id="an image of one pixel needs no transpose"
        ),
        pytest.param(
            lambda x: op.add(conv(x, 8, 2), const(1, 8, 1, 1)), (1, 2, 5, 5), ["nn.conv2d", "add", *OUT], id="a constant for each channel"
        ),
        pytest.param(
            lambda x: op.multiply(conv(x, 8, 2), const(8, 1, 1)), (1, 2, 5, 5), ["nn.conv2d", "multiply", *OUT], id="of three dimensions"
        ),
        pytest.param(lambda x: op.add(conv(x, 8, 2), number(2)), (1, 2, 5, 5), ["nn.conv2d", "add", *OUT], id="a number"),
        pytest.param(
            lambda x: op.concat([conv(x, 8, 2), conv(x, 4, 2, seed=2)], axis=1),
            (1, 2, 5, 5),
            ["nn.conv2d", "nn.conv2d", "concat", *OUT],
            id="concat",
        ),
        pytest.param(lambda x: nn.max_pool2d(conv(x, 8, 2), (2, 2)), (1, 2, 5, 5), ["nn.conv2d", "nn.max_pool2d", *OUT], id="pooling"),
        pytest.param(
            lambda x: op.mean(conv(x, 6, 2), axis=[2, 3], keepdims=True),
            (1, 2, 5, 5),
            ["nn.conv2d", "mean", "reshape", "strided_slice"],
            id="mean of the image",
        ),
        pytest.param(
            lambda x: op.add(conv(conv(x, 8, 2), 8, 8), conv(x, 8, 2, seed=3)),
            (1, 2, 5, 5),
            ["nn.conv2d", "nn.conv2d", "nn.conv2d", "add", *OUT],
            id="residual",
        ),
        pytest.param(
            lambda x: nn.conv2d(conv(x, 6, 2), const(6, 1, 3, 3), groups=6),
            (1, 2, 5, 5),
            ["nn.conv2d", "nn.conv2d", *CUT],
            id="depthwise behind blocks",
        ),
        pytest.param(lambda x: conv(x, 8, 4, groups=2), (1, 8, 5, 5), [*IN, "nn.conv2d", *OUT], id="groups of whole blocks"),
    ],
)
def test_stays_blocked(body: Body, shape: tuple[int, ...], expected: list[str]) -> None:
    before = network(body, shape)
    after = block(before)
    assert operators(after) == expected
    assert all(call.attrs.out_layout == "NCHW4c" for call in calls(after) if call.op.name == "relax.nn.conv2d")


def test_the_first_layer_reads_its_few_channels_as_they_are() -> None:
    first, *_ = calls(block(network(lambda x: conv(x, 8, 2, size=3), (1, 2, 5, 5))))
    assert (first.attrs.data_layout, first.attrs.kernel_layout) == ("NCHW", "OIHW2i4o")
    old, new = const(8, 2, 3, 3, seed=1).value.numpy(), first.args[1].value.numpy()
    assert new.shape == (2, 1, 3, 3, 2, 4)
    assert new[1, 0, 2, 0, 1, 3] == old[1 * 4 + 3, 1, 2, 0]


def test_weights_are_laid_in_blocks_with_zeros_behind_the_last_channel() -> None:
    (weight,) = [
        call.args[1].value.numpy() for call in calls(block(network(lambda x: conv(x, 6, 7), (1, 7, 5, 5)))) if "conv2d" in call.op.name
    ]
    old = const(6, 7, 1, 1, seed=1).value.numpy()
    assert weight.shape == (2, 2, 1, 1, 4, 4)
    plain = weight.transpose(0, 5, 1, 4, 2, 3).reshape(8, 8, 1, 1)
    np.testing.assert_array_equal(plain[:6, :7], old)
    assert not plain[6:].any()
    assert not plain[:, 7:].any()


def test_many_blocks_become_an_even_number() -> None:
    assert [room_for(channels, 16) for channels in (1, 16, 24, 15 * 16, 16 * 16 + 1, 1000)] == [16, 16, 32, 240, 288, 1024]


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        pytest.param(lambda x: conv(x, 2, 8), [(1, 8, 5, 5)], id="few filters"),
        pytest.param(lambda x: conv(x, 6, 2, groups=3), [(1, 6, 5, 5)], id="groups that fill no block"),
        pytest.param(lambda x: nn.conv2d(x, const(8, 1, 3, 3), groups=8), [(1, 8, 5, 5)], id="depthwise on a plain image"),
        pytest.param(lambda x, w: nn.conv2d(x, w), [(1, 8, 5, 5), (8, 8, 1, 1)], id="weights that are computed"),
        pytest.param(lambda x: nn.conv2d(x, relax.const(np.ones((8, 8, 1, 1)), "float64")), [((1, 8, 5, 5), "float64")], id="float64"),
        pytest.param(
            lambda x: nn.conv2d(x, relax.const(np.ones((8, 8, 1, 1), "float16"), "float16")), [((1, 8, 5, 5), "float16")], id="float16"
        ),
        pytest.param(lambda x: conv(x, 8, 8, data_layout="NHWC"), [(1, 5, 5, 8)], id="channels last"),
        pytest.param(lambda x: nn.relu(nn.max_pool2d(x, (2, 2))), [(1, 8, 4, 4)], id="no convolution"),
        pytest.param(lambda x: op.add(op.mean(x, axis=[2, 3], keepdims=True), const(1, 8, 1, 1)), [(1, 8, 4, 4)], id="nor here"),
    ],
)
def test_left_alone(body: Body, inputs: list[Input]) -> None:
    before = network(body, *inputs)
    tidy = relax.transform.CanonicalizeBindings()  # the pass binds the result once more
    tvm.ir.assert_structural_equal(tidy(block(before)), tidy(before))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lambda x: op.divide(number(1), conv(x, 6, 2)), id="division by padding"),
        pytest.param(lambda x: op.log(conv(x, 6, 2)), id="logarithm"),
        pytest.param(lambda x: op.rsqrt(conv(x, 6, 2)), id="reciprocal of a root"),
        pytest.param(lambda x: op.power(conv(x, 6, 2), number(-1)), id="power"),
        pytest.param(lambda x: op.exp(conv(x, 6, 2)), id="exponential"),
        pytest.param(lambda x: op.concat([conv(x, 6, 2), conv(x, 8, 2)], axis=1), id="concat of a padded part"),
        pytest.param(lambda x: nn.softmax(conv(x, 8, 2), axis=1), id="softmax over channels"),
        pytest.param(lambda x: op.mean(conv(x, 8, 2), axis=[1], keepdims=True), id="mean over channels"),
        pytest.param(lambda x: op.mean(conv(x, 8, 2), axis=[2, 3]), id="a mean that drops its axes"),
        pytest.param(lambda x: op.add(conv(x, 8, 2), const(5)), id="a constant for each column"),
        pytest.param(lambda x: op.add(conv(x, 8, 2), const(1, 1, 1, 1, 1)), id="a number that adds a dimension"),
        pytest.param(lambda x: nn.prelu(conv(x, 8, 2), const(8), axis=1), id="an operator not in the list"),
    ],
)
def test_leaves_blocks_before(body: Body) -> None:
    names = operators(block(network(body, (1, 2, 5, 5))))
    where = names.index("permute_dims")
    assert "nn.conv2d" in names[:where]
    assert "nn.conv2d" not in names[where:]
    assert len(names) > where + (3 if "strided_slice" in names else 2), "the operator comes behind the conversion"


def test_keeps_blocks_beside_a_map_over_the_image() -> None:
    names = operators(block(network(lambda x, m: op.multiply(op.add(conv(x, 8, 2), const(1, 1, 5, 5)), m), (1, 2, 5, 5), (1, 1, 5, 5))))
    assert names.index("multiply") < names.index("permute_dims")


def test_a_second_run_changes_nothing() -> None:
    once = block(network(lambda x: conv(nn.relu(conv(x, 8, 2)), 6, 8), (1, 2, 5, 5)))
    tidy = relax.transform.CanonicalizeBindings()
    tvm.ir.assert_structural_equal(tidy(block(once)), tidy(once))


def whole(x: relax.Expr, seed: int = 1) -> relax.Expr:
    return conv(x, 8, 3, size=3, seed=seed, padding=1)


def part(x: relax.Expr, seed: int = 1) -> relax.Expr:
    return conv(x, 6, 3, size=3, seed=seed, padding=1)


def positive(x: relax.Expr) -> relax.Expr:
    return op.add(op.abs(x), number(0.5))


def gate(x: relax.Expr, channels: int) -> relax.Expr:
    squeezed = op.mean(x, axis=[2, 3], keepdims=True)
    return op.sigmoid(conv(nn.relu(conv(squeezed, 4, channels, seed=7)), channels, 4, seed=8))


FUNCTIONS: dict[str, Body] = {
    "relu": lambda x, c: nn.relu(x),
    "leaky relu": lambda x, c: nn.leakyrelu(x, 0.1),
    "prelu": lambda x, c: nn.prelu(x, const(c, seed=3), axis=1),
    "clip": lambda x, c: op.clip(x, 0.25, 0.75),
    "maximum": lambda x, c: op.maximum(x, number(0.25)),
    "minimum": lambda x, c: op.minimum(const(1, c, 1, 1, seed=3), x),
    "swish": lambda x, c: op.multiply(x, op.sigmoid(x)),
    "number over x": lambda x, c: op.divide(number(1), positive(x)),
    "x over x": lambda x, c: op.divide(x, positive(x)),
    "log": lambda x, c: op.log(positive(x)),
    "root": lambda x, c: op.sqrt(op.abs(x)),
    "reciprocal root": lambda x, c: op.rsqrt(positive(x)),
    "power": lambda x, c: op.power(positive(x), number(-1.5)),
    "sum of exponentials": lambda x, c: op.sum(op.exp(x), axis=[1], keepdims=True),
    "softmax": lambda x, c: nn.softmax(x, axis=1),
    "mean of channels": lambda x, c: op.mean(op.sigmoid(x), axis=[1], keepdims=True),
    "mean of the image": lambda x, c: op.mean(op.sigmoid(x), axis=[2, 3], keepdims=True),
    "mean of axes counted from the end": lambda x, c: op.mean(x, axis=[-1, -2], keepdims=True),
    "maximum of axes counted from the end": lambda x, c: op.max(op.negative(op.abs(x)), axis=[-2, -1], keepdims=True),
    "maximum of channels": lambda x, c: op.max(op.negative(positive(x)), axis=[1], keepdims=True),
    "minimum of the image": lambda x, c: op.min(op.negative(positive(x)), axis=[2, 3], keepdims=True),
    "where": lambda x, c: op.where(op.greater(x, number(0)), x, op.multiply(x, number(0.1))),
    "chosen by a constant": lambda x, c: op.where(op.less(x, const(1, c, 1, 1)), number(0), x),
    "average that counts its border": lambda x, c: nn.avg_pool2d(x, (3, 3), (2, 2), (1, 1, 1, 1), count_include_pad=True),
    "a map over the image": lambda x, c: op.multiply(x, op.mean(x, axis=[1], keepdims=True)),
    "average that does not": lambda x, c: nn.avg_pool2d(x, (3, 3), (2, 2), (1, 1, 1, 1)),
    "average rounded up": lambda x, c: nn.avg_pool2d(x, (2, 2), (2, 2), ceil_mode=True),
    "maximum of windows rounded up": lambda x, c: nn.max_pool2d(op.negative(positive(x)), (3, 2), (2, 2), (1, 0, 1, 0), ceil_mode=True),
    "dilated maximum": lambda x, c: nn.max_pool2d(x, (2, 2), (1, 1), dilation=(2, 2)),
    "gated": lambda x, c: op.multiply(x, gate(x, c)),
    "gated from the left": lambda x, c: op.multiply(gate(x, c), x),
    "gated by pixel": lambda x, c: op.multiply(x, op.sigmoid(op.max(x, axis=[1], keepdims=True))),
    "depthwise": lambda x, c: nn.conv2d(op.sigmoid(x), const(c, 1, 3, 3), padding=1, groups=c),
    "depthwise with a multiplier": lambda x, c: nn.conv2d(x, const(2 * c, 1, 3, 3), groups=c),
    "grouped": lambda x, c: nn.conv2d(x, const(8, c // 2, 1, 1), groups=2),
    "blocked padding that is not zero": lambda x, c: conv(op.sigmoid(x), 4, c),
    "used plain and in blocks": lambda x, c: relax.Tuple([op.permute_dims(x, [0, 2, 3, 1]), conv(nn.relu(x), 4, c), x]),
    "halves": lambda x, c: op.add(op.split(x, 2, axis=1)[0], op.split(x, 2, axis=1)[1]),
}  # fmt: skip

OPERANDS: dict[str, tuple[Body, list[Input]]] = {
    "a channel": (lambda x: op.add(part(x), const(1, 6, 1, 1)), [(2, 3, 5, 7)]),
    "a channel of three dimensions": (lambda x: op.subtract(const(6, 1, 1), part(x)), [(2, 3, 5, 7)]),
    "a pixel": (lambda x: op.add(whole(x), const(1, 1, 5, 7)), [(2, 3, 5, 7)]),
    "a column": (lambda x: op.add(whole(x), const(7)), [(2, 3, 5, 7)]),
    "a channel and column": (lambda x: op.add(part(x), const(6, 1, 7)), [(2, 3, 5, 7)]),
    "everything": (lambda x: op.multiply(part(x), const(1, 6, 5, 7)), [(2, 3, 5, 7)]),
    "a constant for each image": (lambda x: op.add(part(x), const(2, 6, 1, 1)), [(2, 3, 5, 7)]),
    "a constant with more images": (lambda x: op.add(part(x), const(4, 6, 1, 1)), [(1, 3, 5, 7)]),
    "a constant as wide as a pixel is not": (lambda x: op.add(conv(x, 6, 3, size=1), const(1, 6, 5, 7)), [(1, 3, 1, 1)]),
    "a number that adds a dimension": (lambda x: op.add(part(x), const(1, 1, 1, 1, 1)), [(1, 3, 5, 7)]),
    "a number that is computed": (lambda x, s: op.add(part(x), s), [(2, 3, 5, 7), (1, 1, 1, 1)]),
    "more images": (lambda x, y: op.add(part(x), part(y, seed=2)), [(1, 3, 5, 7), (4, 3, 5, 7)]),
    "fewer images": (lambda x, y: op.add(part(x), part(y, seed=2)), [(4, 3, 5, 7), (1, 3, 5, 7)]),
    "plain input": (lambda x, y: conv(op.add(part(x), y), 4, 6), [(2, 3, 5, 7), (2, 6, 5, 7)]),
    "plain input first": (lambda x, y: op.subtract(y, part(x)), [(2, 3, 5, 7), (2, 6, 5, 7)]),
    "plain input of three dimensions": (lambda x, y: op.add(part(x), y), [(2, 3, 5, 7), (6, 5, 7)]),
    "plain input of one channel": (lambda x, y: op.add(part(x), y), [(2, 3, 5, 7), (2, 1, 5, 7)]),
    "one number an image": (lambda x, y: op.multiply(part(x), y), [(2, 3, 5, 7), (2, 1, 1, 1)]),
    "concat of padded parts": (lambda x: conv(op.concat([part(x), part(x, 2), whole(x, 3)], axis=1), 6, 20), [(2, 3, 5, 7)]),
    "concat of whole parts": (lambda x: conv(op.concat([whole(x), whole(x, 2)], axis=1), 6, 16), [(2, 3, 5, 7)]),
    "concat from the end": (lambda x: op.concat([whole(x), whole(x, 2)], axis=-3), [(2, 3, 5, 7)]),
    "concat of rows": (lambda x: op.concat([whole(x), whole(x, 2)], axis=2), [(2, 3, 5, 7)]),
    "concat with an input": (lambda x, y: op.concat([whole(x), y], axis=1), [(2, 3, 5, 7), (2, 8, 5, 7)]),
    "an odd number of blocks, joined": (
        lambda x, y: conv(op.add(op.concat([conv(x, 64, 3), conv(x, 4, 3, seed=2)], axis=1), y), 4, 68),
        [(1, 3, 3, 3), (1, 68, 3, 3)],
    ),
    "an odd number of groups": (lambda x: conv(nn.relu(conv(x, 68, 4, groups=17)), 4, 68), [(1, 68, 3, 3)]),
    "an odd number of blocks, depthwise": (lambda x: nn.conv2d(conv(x, 68, 3), const(68, 1, 3, 3), groups=68), [(1, 3, 3, 3)]),
    "outputs from the middle": (
        lambda x: relax.Tuple([middle := nn.relu(part(x)), conv(middle, 4, 6), op.mean(middle, axis=[2, 3], keepdims=True), x]),
        [(2, 3, 5, 7)],
    ),
    "a result that is used twice": (lambda x: relax.Tuple([y := part(x), op.add(y, y), y]), [(2, 3, 5, 7)]),
}


def test_numbers_stay_whatever_follows() -> None:
    """Behind whole blocks and behind padded ones."""
    cases = {}
    for make, channels, image in ((whole, 8, (2, 3, 5, 7)), (part, 6, (1, 3, 6, 5))):
        for name, function in FUNCTIONS.items():
            module = network(lambda x, function=function, make=make, channels=channels: function(make(x), channels), image)
            cases[f"{name} behind a {make.__name__}"] = module, block(module)
    same_numbers(cases)


def test_numbers_stay_whatever_the_other_operand() -> None:
    modules = {name: network(body, *inputs) for name, (body, inputs) in OPERANDS.items()}
    same_numbers({name: (module, block(module)) for name, module in modules.items()})


def either(_layer: Layer, _room_in: int, _room_out: int, _lanes: int) -> Sequence[str]:
    return ("blocked", "plain")


def few_in_between(x: relax.Expr) -> relax.Expr:
    return conv(nn.relu(conv(nn.relu(conv(x, 8, 3, size=3, padding=1)), 3, 8, size=3, seed=2, padding=1)), 8, 3, seed=3)


def test_layers_that_are_alike_go_the_same_way_and_transforms_follow() -> None:
    def body(x: relax.Expr) -> relax.Expr:
        return conv(conv(conv(x, 8, 8), 8, 8, seed=2), 8, 8, seed=3)

    before = network(body, (1, 8, 5, 5))
    asked = Choices()
    assert operators(block_layout(LANES, asked, either)(before)) == [*IN, *3 * ["nn.conv2d"], *OUT]
    place = "layout/1x8x5x5 to 8x8x1x1"
    assert asked.places == {place: ("blocked", "plain")}
    assert operators(block_layout(LANES, Choices({place: "plain"}), either)(before)) == 3 * ["nn.conv2d"]


def test_numbers_stay_whichever_way_each_layer_goes() -> None:
    before = network(few_in_between, (2, 3, 7, 5))
    asked = Choices()
    cases = {"blocked": (before, block_layout(LANES, asked, either)(before))}
    assert len(asked.places) == 3
    for place in asked.places:
        after = block_layout(LANES, Choices({place: "plain"}), either)(before)
        assert {call.attrs.out_layout for call in calls(after) if call.op.name == "relax.nn.conv2d"} == {"NCHW", "NCHW4c"}
        cases[place] = before, after
    same_numbers(cases)
