"""What compiling costs, counted in programs: a network of equal layers is one program however deep it is."""

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import stack
from stack.emit.kernels import GROUP
from tests.models.build import model, tensor

COUNT = GROUP + 1  # more than one group of programs


def layers(count: int, different: bool) -> onnx.ModelProto:
    """Convolutions of other weights each; without padding each makes the image smaller, and so the next another program."""
    rng = np.random.default_rng(0)
    weights = {f"w{index}": rng.standard_normal((16, 16, 3, 3)).astype("float32") / 12 for index in range(count)}
    pads, nodes = [0 if different else 1] * 4, []
    for index in range(count):
        nodes.append(helper.make_node("Conv", [f"x{index}", f"w{index}"], [f"c{index}"], pads=pads))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"x{index + 1}"]))
    return model(nodes, [tensor("x0", (1, 16, 20, 20))], [f"x{count}"], weights)


@pytest.fixture(scope="module")
def compiled_layers() -> dict[bool, tuple[stack.Library, list[tuple[str, int, int]]]]:
    """For equal and for different layers the library, and what was reported meanwhile."""
    seen: dict[bool, list[tuple[str, int, int]]] = {False: [], True: []}

    def compiled(different: bool) -> stack.Library:
        return stack.compile(layers(COUNT, different), threads=1, on_progress=lambda *report: seen[different].append(report))

    return {different: (compiled(different), seen[different]) for different in seen}


@pytest.mark.parametrize(("different", "programs"), [(False, 1), (True, COUNT)])
def test_equal_layers_share_one_program_and_different_ones_do_not(compiled_layers, different, programs):
    kernels_called = [entry["kernel"] for entry in compiled_layers[different][0].manifest["operators"] if "conv2d" in entry["kernel"]]
    assert len(kernels_called) == COUNT
    assert len(set(kernels_called)) == programs


@pytest.mark.parametrize("different", [False, True])
def test_layers_compute_what_the_reference_does(compiled_layers, different):
    x = np.random.default_rng(1).standard_normal((1, 16, 20, 20)).astype("float32")
    (expected,) = ReferenceEvaluator(layers(COUNT, different)).run(None, {"x0": x})
    (computed,) = compiled_layers[different][0].run({"x0": x}).values()
    np.testing.assert_allclose(computed, expected, rtol=1e-4, atol=1e-5)


def test_progress_counts_programs_not_the_groups_that_they_are_built_in(compiled_layers):
    built = [(done, total) for stage, done, total in compiled_layers[True][1] if stage == "build"]
    assert built[-1][0] == built[-1][1] > COUNT
