"""The three rules for convolutions, on programs that the graph passes make: defaults on every shape, and every point of small spaces."""

import ctypes
import itertools
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
import tvm
from onnx import TensorProto, helper, numpy_helper
from tvm import relax, tirx

import stack
from relay_passes.choices import Choices
from relay_passes.pipeline import cpu_passes
from schedules.machine import Machine
from schedules.space import Point, Space
from stack.emit.kernels import build_together
from targets.registry import find
from targets.x86.detect import cpu_flags
from tests.relay_passes.network import FAST_BUILD, const, network
from tests.schedules.cpu.convolutions import CONVOLUTIONS, NONE, Conv, reference
from tests.schedules.cpu.programs import AVX2, AVX512, CODEGEN, MACHINES, aligned, pool, space

op, nn = relax.op, relax.op.nn
TARGETS = [name for name in ("x86-avx2", "x86-avx512") if cpu_flags().issuperset(find(name).features)]
RULES = ("conv2d", "conv2d_plane", "depthwise")


def values(shape: Sequence[int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model(convolutions: Sequence[Conv]) -> onnx.ModelProto:
    """All of them side by side, each with its own image."""
    nodes, weights = [], []
    for index, conv in enumerate(convolutions):
        weights.append(numpy_helper.from_array(values(conv.weight, index), f"w{index}"))
        attributes = {"strides": conv.strides, "pads": conv.padding, "dilations": conv.dilation, "group": conv.groups}
        nodes.append(helper.make_node("Conv", [f"x{index}", f"w{index}"], [f"y{index}"], **attributes))
    images = [helper.make_tensor_value_info(f"x{index}", TensorProto.FLOAT, conv.image) for index, conv in enumerate(convolutions)]
    outputs = [helper.make_tensor_value_info(f"y{index}", TensorProto.FLOAT, None) for index in range(len(convolutions))]
    graph = helper.make_graph(nodes, "convolutions", images, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("target", TARGETS)
def test_every_convolution_is_right_by_default(target: str) -> None:
    convolutions = CONVOLUTIONS if target == TARGETS[-1] else CONVOLUTIONS[::3]  # the other lanes, where the shape matters least
    library = stack.compile(model(convolutions), target, threads=2)
    images = {f"x{index}": values(conv.image, 100 + index) for index, conv in enumerate(convolutions)}
    results = library.run(images)
    for index, conv in enumerate(convolutions):
        expected = reference(images[f"x{index}"], values(conv.weight, index), conv)
        np.testing.assert_allclose(results[f"y{index}"], expected, rtol=1e-4, atol=1e-4, err_msg=str(conv))


class Writer:
    """An ONNX graph that grows."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.images: dict[str, tuple[int, ...]] = {}
        self.outputs: list[str] = []

    def constant(self, array: np.ndarray | float) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    def integers(self, *values: int) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values), name))
        return name

    def image(self, *shape: int) -> str:
        name = "x" + "_".join(map(str, shape))
        self.images[name] = shape
        return name

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def conv(self, x: str, conv: Conv) -> str:
        weight = self.constant(values(conv.weight, len(self.constants)))
        return self.node("Conv", x, weight, pads=conv.padding, strides=conv.strides, group=conv.groups)

    def model(self) -> onnx.ModelProto:
        images = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in self.images.items()]
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self.outputs]
        graph = helper.make_graph(self.nodes, "tails", images, outputs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def per_channel(g: Writer, k: int) -> str:
    return g.constant(values((1, k, 1, 1), k))


# What may follow in the same loops: takes the graph, the convolution's result, an image beside it, and how many channels both have.
TAILS: dict[str, Callable[[Writer, str, str, int], Sequence[str]]] = {
    "bias and relu": lambda g, y, x, k: [g.node("Relu", g.node("Add", y, per_channel(g, k)))],
    "residual": lambda g, y, x, k: [g.node("Relu", g.node("Add", g.node("Add", y, per_channel(g, k)), x))],
    "two residuals": lambda g, y, x, k: [g.node("Add", x, g.node("Sub", g.node("Relu", x), y))],
    "hard swish": lambda g, y, x, k: [g.node("HardSwish", g.node("Add", y, per_channel(g, k)))],
    "swish": lambda g, y, x, k: [g.node("Mul", y, g.node("Sigmoid", y))],
    "clip": lambda g, y, x, k: [g.node("Clip", y, g.constant(-0.5), g.constant(0.5))],
    "two results": lambda g, y, x, k: [y, g.node("Sigmoid", y)],
    "a result from the middle": lambda g, y, x, k: [z := g.node("Add", y, per_channel(g, k)), g.node("Tanh", g.node("Mul", z, x))],
    "a gate": lambda g, y, x, k: [g.node("Mul", y, g.node("Sigmoid", g.node("GlobalAveragePool", x)))],
    "a constant for each pixel": lambda g, y, x, k: [g.node("Mul", y, g.constant(values((5, 7), 3)))],
    "the mean": lambda g, y, x, k: [g.node("GlobalAveragePool", g.node("Relu", y))],
    "a border": lambda g, y, x, k: [g.node("Pad", g.node("Relu", y), g.integers(0, 0, 1, 1, 0, 0, 1, 1))],
    "other channels": lambda g, y, x, k: [g.node("Concat", y, x, axis=1)],
    "a turn": lambda g, y, x, k: [g.node("Transpose", g.node("Relu", y), perm=[0, 2, 3, 1])],
}
TAILED = {
    "first layer": Conv(3, 24, h=5, w=7),
    "blocks": Conv(24, 24, h=5, w=7, n=2),
    "pixels": Conv(112, 40, h=5, w=7, kernel=(1, 1), padding=NONE),
    "a prime width": Conv(16, 16, h=10, w=14, strides=(2, 2)),
    "depthwise": Conv(24, 24, h=5, w=7, groups=24),
    "plane": Conv(6, 6, h=10, w=14, n=2, strides=(2, 2), groups=2),
}


@pytest.mark.parametrize("target", TARGETS)
def test_whatever_follows_a_convolution_stays_right(target: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    g, titles = Writer(), []
    for kind, conv in TAILED.items():
        if target != TARGETS[-1] and kind != "blocks":
            continue  # once is enough
        x = g.image(*conv.image)
        beside = g.image(conv.n, conv.k, 5, 7)
        if kind == "depthwise":
            x = g.conv(x, Conv(conv.c, conv.c, kernel=(1, 1), padding=NONE))  # it joins blocks that are there
        for name, tail in TAILS.items():
            if kind in ("first layer", "a prime width") and name not in ("residual", "two results", "other channels", "a turn"):
                continue  # they differ from blocks in what they read, not in what they write
            results = tail(g, g.conv(x, conv), beside, conv.k)
            g.outputs += results
            titles += [f"{name} behind {kind}"] * len(results)
    images = {name: values(shape, 5) for name, shape in g.images.items()}
    results = stack.compile(g.model(), target, threads=2).run(images)
    expected = onnxruntime.InferenceSession(g.model().SerializeToString()).run(g.outputs, images)
    for title, output, other in zip(titles, g.outputs, expected, strict=True):
        np.testing.assert_allclose(results[output], other, rtol=1e-4, atol=1e-4, err_msg=title)


def programs(conv: Conv, machine: Machine) -> list[tirx.PrimFunc]:
    """The programs of the convolution and its bias, relu and residual that one of the three rules takes."""

    def body(x: relax.Var, y: relax.Var) -> relax.Expr:
        behind = nn.conv2d(x, const(conv.c, conv.c, 1, 1)) if conv.groups == conv.c else x
        result = nn.conv2d(behind, const(*conv.weight, seed=1), padding=conv.padding, strides=conv.strides, groups=conv.groups)
        return nn.relu(op.add(op.add(result, const(1, conv.k, 1, 1, seed=2)), y))

    height, width = ((size + 2 - 3) // step + 1 for size, step in zip((conv.h, conv.w), conv.strides, strict=True))
    module = network(body, conv.image, (conv.n, conv.k, height, width))
    for graph_pass in cpu_passes(machine, Choices()):
        module = graph_pass(module)
    return [f for f in module.functions.values() if isinstance(f, tirx.PrimFunc) and space(f, machine).rule in RULES]


def some_points(choices: Space, most: int = 5) -> list[Point]:
    """Every legal point of a small space, a sample of a large one; the default among them."""
    draw = np.random.default_rng(0)
    if choices.size > 20000:
        drawn = ({name: values[draw.integers(len(values))] for name, values in choices.knobs.items()} for _ in range(1000 * most))
        return [dict(choices.default), *itertools.islice(filter(choices.legal, drawn), most)]
    everything = [dict(zip(choices.knobs, point, strict=True)) for point in itertools.product(*choices.knobs.values())]
    everything = [point for point in everything if choices.legal(point)]
    if len(everything) > most:
        everything = [everything[index] for index in draw.choice(len(everything), most, replace=False)]
    return [dict(choices.default), *everything]


def packed(choices: Space, point: Point, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """`arrays` with the weights as `point` wants them."""
    if choices.pack is None:
        return list(arrays)
    (place,) = [place for place, array in enumerate(arrays) if array.ndim == 6]
    (new,) = choices.pack(point, [arrays[place]])
    ready = aligned(new.shape, "float32")
    ready[...] = new
    return [ready if other == place else array for other, array in enumerate(arrays)]


def run_all(
    functions: Sequence[tirx.PrimFunc], machine: Machine, operands: Sequence[Sequence[np.ndarray]], folder: Path
) -> Iterator[np.ndarray]:
    """What each of the scheduled functions, all built into one library, leaves in the last of its arrays."""
    target = tvm.target.Target({"kind": "llvm", "mcpu": CODEGEN[machine]})

    def build(index: int) -> Path:
        build_together([functions[index].with_attr("global_symbol", f"kernel{index}")], target, folder / f"{index}.o")
        return folder / f"{index}.o"

    with ThreadPoolExecutor(2) as workers:
        objects = list(workers.map(build, range(len(functions))))
    subprocess.run(["cc", "-shared", "-pthread", "-o", str(folder / "all.so"), *map(str, objects), str(pool()), "-lm"], check=True)
    library = ctypes.CDLL(str(folder / "all.so"))
    for index, arrays in enumerate(operands):
        arrays[-1][...] = np.nan
        assert library[f"kernel{index}"](*(ctypes.c_void_p(argument.ctypes.data) for argument in arrays)) == 0
        yield arrays[-1]


def check_points(program: tirx.PrimFunc, machine: Machine, choose: Callable[[Space], Sequence[Point]], folder: Path) -> None:
    """Whether the program computes at each of the chosen points of its space what it does without a schedule."""
    choices = space(program, machine)
    arrays = [aligned(tuple(int(extent) for extent in buffer.shape), "float32") for buffer in program.params]
    for index, array in enumerate(arrays):
        array[...] = values(array.shape, index)
    tensors = [tvm.runtime.tensor(array) for array in arrays]
    tvm.compile(tvm.IRModule({"main": program.with_attr("global_symbol", "main")}), FAST_BUILD)["main"](*tensors)
    points = choose(choices)
    functions = [choices.apply(point).mod["main"] for point in points]
    operands = [packed(choices, point, arrays) for point in points]
    for point, result in zip(points, run_all(functions, machine, operands, folder), strict=True):
        np.testing.assert_allclose(result, tensors[-1].numpy(), rtol=1e-4, atol=1e-4, err_msg=str(point))


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: f"{machine.lanes()} lanes")
@pytest.mark.parametrize(
    ("conv", "rule"),
    [
        pytest.param(Conv(16, 64, h=4, w=6), "conv2d", id="blocks"),
        pytest.param(Conv(3, 32, h=8, w=12, strides=(2, 2)), "conv2d", id="first layer"),
        pytest.param(Conv(32, 64, h=4, w=6, groups=2), "conv2d", id="groups of blocks"),
        pytest.param(Conv(16, 32, h=3, w=7, n=2), "conv2d", id="a width that is prime"),
        pytest.param(Conv(48, 80, h=5, w=7, kernel=(1, 1), padding=NONE), "conv2d", id="one pixel each"),
        pytest.param(Conv(32, 32, h=4, w=5, n=2, kernel=(1, 1), padding=NONE), "conv2d", id="one pixel each of two images"),
        pytest.param(
            Conv(32, 48, h=5, w=74, kernel=(1, 1), padding=NONE, strides=(2, 2)), "conv2d", id="every other pixel of a prime width"
        ),
        pytest.param(Conv(4, 4, h=6, w=9), "conv2d_plane", id="plane"),
        pytest.param(Conv(6, 6, h=7, w=7, n=2, groups=3, strides=(2, 2)), "conv2d_plane", id="plane in groups"),
        pytest.param(Conv(32, 32, h=6, w=8, groups=32), "depthwise", id="depthwise"),
        pytest.param(Conv(24, 24, h=7, w=13, n=2, groups=24, strides=(2, 2)), "depthwise", id="depthwise with strides of two"),
    ],
)
def test_every_point_is_right(conv: Conv, rule: str, machine: Machine, tmp_path: Path) -> None:
    (program,) = [program for program in programs(conv, machine) if space(program, machine).rule == rule]
    check_points(program, machine, some_points, tmp_path)


@pytest.mark.parametrize("machine", [AVX2, AVX512], ids=lambda machine: f"{machine.lanes()} lanes")
def test_defaults_fit_the_registers(machine: Machine) -> None:
    for conv in CONVOLUTIONS:
        if conv.kernel == (3, 3) and conv.padding == (1, 1, 1, 1) and conv.dilation == (1, 1):
            for program in programs(conv, machine):
                choices = space(program, machine)
                direct = choices.otherwise or choices.default
                sums = np.prod([value for name, value in direct.items() if name.startswith("tile_")])
                assert sums <= machine.vector_registers, f"{conv}: {choices}"


@pytest.mark.parametrize("rule", RULES)
def test_other_programs_are_declined(rule: str) -> None:
    from schedules.cpu import RULES as every

    (found,) = [candidate for candidate in every if candidate.__name__ == rule]
    module = relax.transform.LegalizeOps()(network(lambda x: op.exp(x), (1, 16, 4, 4)))
    (program,) = [function for function in module.functions.values() if isinstance(function, tirx.PrimFunc)]
    assert found(program, AVX512) is None
