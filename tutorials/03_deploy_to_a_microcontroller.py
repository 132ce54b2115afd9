"""From training data to firmware: a net that reads digits is trained, quantised, compiled for a Cortex-M4 and run on one, in QEMU.

Run it: python tutorials/03_deploy_to_a_microcontroller.py

It needs gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm (`stackc doctor` says what is missing), and from PyPI
onnxruntime, which quantises, and scikit-learn, which has the images. No board: QEMU executes the very firmware that a board would.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

import stack
from stack.bench_firmware import count

BOARD = "mps2-an386"  # Arm's MPS2 with a Cortex-M4; `stackc boards` lists the others


def show(title: str, *columns: str, rows: list[tuple[object, ...]]) -> None:
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    Console().print(table)


# 1. The data: 1797 scanned digits of 8 x 8 pixels. 300 of them are put aside: nothing below looks at them before step 6.
digits = load_digits()
rng = np.random.default_rng(0)
order = rng.permutation(len(digits.target))
images, labels = (digits.images[order, None] / 16).astype(np.float32), digits.target[order]
train_images, train_labels, test_images, test_labels = images[300:], labels[300:], images[:300], labels[:300]

# 2. The net: two convolutions of 3 x 3 with a pooling between them, and a dense layer. Any framework could train it; these 30 lines of
#    numpy need none. Weights lie as ONNX wants them: filters, channels, rows, columns.
shapes = {"filters1": (8, 1, 3, 3), "bias1": (8,), "filters2": (16, 8, 3, 3), "bias2": (16,), "classes": (256, 10), "bias3": (10,)}
fan_in = {"filters1": 9, "filters2": 72, "classes": 256}
weights = {
    name: rng.normal(0, (2 / fan_in[name]) ** 0.5, shape).astype(np.float32) if name in fan_in else np.zeros(shape, np.float32)
    for name, shape in shapes.items()
}


def windows(x: np.ndarray) -> np.ndarray:
    """Around each pixel the 3 x 3 that the filters see: [n, channels, rows, columns, 3, 3]."""
    return sliding_window_view(np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)]), (3, 3), axis=(2, 3))


def convolve(x: np.ndarray, filters: np.ndarray) -> np.ndarray:
    return np.einsum("nchwij,kcij->nkhw", windows(x), filters, optimize=True)


def twice(x: np.ndarray) -> np.ndarray:
    return x.repeat(2, 2).repeat(2, 3)


def forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    first = np.maximum(convolve(x, weights["filters1"]) + weights["bias1"][:, None, None], 0)
    pooled = first.reshape(len(x), 8, 4, 2, 4, 2).max(axis=(3, 5))
    second = np.maximum(convolve(pooled, weights["filters2"]) + weights["bias2"][:, None, None], 0)
    return first, pooled, second, second.reshape(len(x), -1) @ weights["classes"] + weights["bias3"]


def gradients(x: np.ndarray, label: np.ndarray) -> dict[str, np.ndarray]:
    """Of the cross-entropy, back through the layers."""
    first, pooled, second, scores = forward(x)
    error = np.exp(scores - scores.max(axis=1, keepdims=True))
    error = (error / error.sum(axis=1, keepdims=True) - np.eye(10, dtype=np.float32)[label]) / len(x)
    at_second = (error @ weights["classes"].T).reshape(second.shape) * (second > 0)
    at_pooled = convolve(at_second, weights["filters2"][:, :, ::-1, ::-1].swapaxes(0, 1))
    at_first = twice(at_pooled) * (first == twice(pooled)) * (first > 0)
    return {
        "filters1": np.einsum("nchwij,nkhw->kcij", windows(x), at_first, optimize=True),
        "bias1": at_first.sum(axis=(0, 2, 3)),
        "filters2": np.einsum("nchwij,nkhw->kcij", windows(pooled), at_second, optimize=True),
        "bias2": at_second.sum(axis=(0, 2, 3)),
        "classes": second.reshape(len(x), -1).T @ error,
        "bias3": error.sum(axis=0),
    }


speed = {name: np.zeros_like(weight) for name, weight in weights.items()}
for _epoch in range(15):
    for batch in np.array_split(rng.permutation(len(train_images)), len(train_images) // 32):
        for name, gradient in gradients(train_images[batch], train_labels[batch]).items():
            speed[name] = 0.9 * speed[name] - 0.05 * gradient  # stochastic gradient descent with momentum
            weights[name] += speed[name]

# 3. The trained net as an ONNX file, which is what your framework exports.
nodes = [
    helper.make_node("Conv", ["image", "filters1", "bias1"], ["conv1"], pads=[1, 1, 1, 1]),
    helper.make_node("Relu", ["conv1"], ["relu1"]),
    helper.make_node("MaxPool", ["relu1"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
    helper.make_node("Conv", ["pooled", "filters2", "bias2"], ["conv2"], pads=[1, 1, 1, 1]),
    helper.make_node("Relu", ["conv2"], ["relu2"]),
    helper.make_node("Flatten", ["relu2"], ["flat"]),
    helper.make_node("Gemm", ["flat", "classes", "bias3"], ["scores"]),
]
image = helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 1, 8, 8))
scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, (1, 10))
graph = helper.make_graph(nodes, "digits", [image], [scores], [numpy_helper.from_array(w, name) for name, w in weights.items()])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class TrainingImages(CalibrationDataReader):
    """200 training images, by which the quantiser sees how large the numbers between the layers become."""

    def __init__(self) -> None:
        self.feeds = iter([{"image": image[None]} for image in train_images[:200]])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


with tempfile.TemporaryDirectory() as work:
    float_file, prepared, file = Path(work, "float.onnx"), Path(work, "prepared.onnx"), Path(work, "digits.onnx")
    onnx.save(model, float_file)

    # 4. Quantise it: weights and activations become int8, with a scale for each filter. Ask for int8 weights: that is what the
    #    kernels for microcontrollers are written for. `stackc compile` warns of quantised layers that it computes in floats.
    quant_pre_process(float_file, prepared, skip_symbolic_shape=True)
    int8 = QuantType.QInt8
    quantize_static(
        prepared, file, TrainingImages(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=int8, weight_type=int8
    )

    # 5. Compile it for the board. On the command line: stackc compile digits.onnx -t mps2-an386 -o digits/
    library = stack.compile(file, BOARD)
    project = Path(work, "digits")
    library.save(project)
    print("the C project:", ", ".join(sorted(entry.name for entry in project.iterdir())))

    # 6. Run it. The first call builds the firmware and starts QEMU; each further one sends an image to the device and reads the scores
    #    that it computed. What the float model and ONNX Runtime say of the same images is beside it.
    reference = onnxruntime.InferenceSession(file)
    answers = {
        "float model, numpy": forward(test_images)[3],
        "int8 model, ONNX Runtime": np.concatenate([reference.run(None, {"image": x[None]})[0] for x in test_images]),
        "firmware, QEMU": np.concatenate([library.run({"image": x[None]})["scores"] for x in test_images]),
    }
    accuracy = {engine: float((answer.argmax(axis=1) == test_labels).mean()) for engine, answer in answers.items()}
    right = [(engine, f"{share:.1%}") for engine, share in accuracy.items()]
    show(f"right answers to {len(test_images)} test images", "engine", "right", rows=right)
    assert accuracy["float model, numpy"] >= 0.95
    assert abs(accuracy["firmware, QEMU"] - accuracy["float model, numpy"]) <= 0.015

    # Where ONNX Runtime rounds the last bit of a float, the firmware rounds an integer: a score may be off by a step of its scale.
    _, integers, firmware = answers.values()
    (step,) = (numpy_helper.to_array(each) for each in onnx.load(file).graph.initializer if each.name == "scores_scale")
    furthest = round(float(abs(firmware - integers).max() / step))
    print(f"{np.mean(firmware == integers):.1%} of the firmware's scores are ONNX Runtime's; steps that the furthest is off: {furthest}")

    # 7. What it costs, and what the float model would have. Instructions are counted, not timed: one image, one number.
    #    On the command line: stackc bench digits.onnx -t mps2-an386
    costs = [
        count(each, made, {"image": test_images[:1]}, seed=0)
        for each, made in ((file, library), (float_file, stack.compile(float_file, BOARD)))
    ]
    int8_cost, float_cost = costs
    show(
        f"one run on {BOARD}",
        *("", "int8", "float"),
        rows=[
            ("instructions", *(cost.instructions for cost in costs)),
            *((f"flash, bytes of {part}", *(cost.flash_bytes[part] for cost in costs)) for part in int8_cost.flash_bytes),
            *((f"RAM, bytes of {part}", *(cost.ram_bytes[part] for cost in costs)) for part in int8_cost.ram_bytes),
        ],
    )
    assert int8_cost.instructions < float_cost.instructions / 2
    assert int8_cost.flash_bytes["weights"] < float_cost.flash_bytes["weights"] / 3

    # 8. Where it goes, layer by layer. `stackc profile digits/` prints this, with the share of each.
    spent = library.profile({"image": test_images[:1]})
    steps = zip(library.manifest["operators"], spent, strict=True)
    layers = [(step["kernel"], step["shapes"], step["rule"], int(used)) for step, used in steps]
    show("one run, layer by layer", "function", "shapes", "rule", library.unit, rows=layers)

    # 9. Two more files are worth a look: model.h is all that your code includes, and report.html, for a browser, shows the arena over time.
    header = (project / "model.h").read_text()
    print(next(line for line in header.splitlines() if "digits_run(" in line))
    assert "digits_run(const float input[64], float output[10], void *arena)" in header
    assert "<html" in (project / "report.html").read_text()

# 10. On a board of yours it is the same with its name for -t, and then
#         stackc flash digits/ --board nucleo-f446re              what main.c in the project says, on the board
#         stackc export digits/ --format zephyr -o module/        or as a package of Zephyr, Arduino, PlatformIO or CMake
#     main.c is yours: when a net that was trained anew is compiled into the same folder, what you edited or added there stays.
#     A board that `stackc boards` does not list is one file: tutorials/04_add_a_board.py.
