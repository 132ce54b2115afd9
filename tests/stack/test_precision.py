"""A whole model whose user allows bfloat16: near float32 and yet not it, on machines with dot products in bfloat16 and without."""

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import stack
from stack import cli
from stack.decide import Decisions
from targets.registry import find
from targets.x86.detect import cpu_flags
from tests.models.build import model, tensor

WIDTH = 64


def network() -> onnx.ModelProto:
    """Convolutions, of which the last two are products, then attention over their pixels and a dense layer."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:] if len(shape) == 4 else shape[:1]))).astype("float32")

    constants = {
        "w0": weights(WIDTH, 3, 3, 3), "w1": weights(2 * WIDTH, WIDTH, 1, 1), "w2": weights(WIDTH, 2 * WIDTH, 1, 1),
        "q": weights(WIDTH, WIDTH), "k": weights(WIDTH, WIDTH), "v": weights(WIDTH, WIDTH), "last": weights(WIDTH, 33),
        "scale": np.float32(WIDTH**-0.5), "flat": np.array([1, WIDTH, 16]),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "w0"], ["c0"], pads=[1] * 4, strides=[2, 2]), node("Relu", ["c0"], ["r0"]),
        node("Conv", ["r0", "w1"], ["c1"]), node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2"], ["c2"]), node("Reshape", ["c2", "flat"], ["columns"]),
        node("Transpose", ["columns"], ["tokens"], perm=[0, 2, 1]),
        *(node("MatMul", ["tokens", name], [f"{name}s"]) for name in ("q", "k", "v")),
        node("Transpose", ["ks"], ["kt"], perm=[0, 2, 1]), node("MatMul", ["qs", "kt"], ["scores"]),
        node("Mul", ["scores", "scale"], ["scaled"]), node("Softmax", ["scaled"], ["shares"]),
        node("MatMul", ["shares", "vs"], ["mixed"]), node("MatMul", ["mixed", "last"], ["out"]),
    ]  # fmt: skip
    return model(nodes, [tensor("image", (1, 3, 8, 8))], ["out"], constants)


IMAGE = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype("float32")
TARGETS = [name for name in ("x86-avx2", "x86-avx512", "x86-avx512-bf16") if cpu_flags().issuperset(find(name).features)]


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    (array,) = ReferenceEvaluator(network()).run(None, {"image": IMAGE})
    return array


def error(library: stack.Library, expected: np.ndarray) -> float:
    """Of the largest value."""
    (computed,) = library.run({"image": IMAGE}).values()
    return float(np.abs(computed - expected).max() / np.abs(expected).max())


def test_float32_is_what_nobody_need_ask_for(expected):
    library = stack.compile(network(), TARGETS[-1], threads=1, untuned=True)
    assert error(library, expected) < 1e-5
    assert library.manifest["precision"] == "f32"


@pytest.mark.parametrize("target", TARGETS)
def test_bfloat16_is_near_float32_and_in_use_on_any_machine(target, expected):
    library = stack.compile(network(), target, threads=2, precision="bf16", untuned=True)
    assert 1e-4 < error(library, expected) < 2e-2
    assert library.manifest["precision"] == "bf16"


@pytest.mark.skipif("avx512_bf16" not in cpu_flags(), reason="this CPU has no AVX512-BF16")
def test_dot_products_of_the_cpu_are_near_float32_too(expected, monkeypatch):
    taken = []

    def dot_products(_self, _program, space):
        point = {**space.default, "precision": "bf16_dot"}
        taken.append(space.holds(point))
        return (point if space.holds(point) else space.default), "default"

    monkeypatch.setattr(Decisions, "decide", dot_products)
    library = stack.compile(network(), "x86-avx512-bf16", threads=2, precision="bf16")
    assert 1e-4 < error(library, expected) < 2e-2
    assert sum(taken) == 3  # a convolution, and the two different products


def test_the_command_line_allows_it_and_refuses_others(tmp_path, capsys):
    file = tmp_path / "network.onnx"
    onnx.save(network(), file)
    words = [str(file), "-t", "x86-avx2"]
    assert cli.main(["compile", *words, "--precision", "bf16", "-o", str(tmp_path / "out")]) == 0
    manifest = stack.load(tmp_path / "out").manifest
    assert manifest["precision"] == "bf16"
    taken = [operator["decision"].get("precision") for operator in manifest["operators"] if operator["rule"] == "packed_matmul"]
    assert taken == ["bf16"] * 4
    capsys.readouterr()
    for command in ("compile", "bench", "tune"):
        assert cli.main([command, str(file), "--precision", "half"]) == 2
        assert "argument --precision: invalid choice: 'half'" in capsys.readouterr().err
    assert cli.main(["compile", str(file), "-t", "cortex-m4", "--precision", "bf16", "-o", str(tmp_path / "c")]) == 2
    assert "nothing computes in bf16 for 'cortex-m4'" in capsys.readouterr().err
