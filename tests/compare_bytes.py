"""Compare random networks that ONNX Runtime's tool quantised with ONNX Runtime: `python -m tests.compare_bytes FIRST COUNT [TARGET...]`.

Outputs are compared in steps of the quantisation they went through. Signed activations are computed in integers by ONNX Runtime on request
only; in floats, as it does otherwise, results that lie between two steps are rounded by chance.

A softmax over very short rows is compared with ONNX Runtime's in floats: its softmax of bytes multiplies exponentials of up to
3.4e38 / (148 * length of the row) by 1 / the scale of the result, which is infinite for a row of one element, and stores 0 instead of 1.
"""

import faulthandler
import itertools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from tests.compare_networks import input_of
from tests.random_networks import random_network

CALIBRATION = 3
E_TO_THE_FIFTH = 148.4
MOST_STEPS, MOST_DIFFERENT = 3, 0.02  # of any output, and how many of a network's elements may be half a step off at all


def quantized_network(seed: int) -> onnx.ModelProto:
    """The random network `seed` in QDQ form: unsigned or signed activations, weights by tensor or by filter."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    model = random_network(seed)

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.drawn = iter([{"x": input_of(model, seed + k)} for k in range(CALIBRATION)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.drawn, None)

    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as scratch:
        plain, ready = Path(scratch) / "plain.onnx", Path(scratch) / "ready.onnx"
        onnx.save(model, plain)
        quantize_static(
            plain,
            ready,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=bool(rng.random() < 0.6),
            activation_type=QuantType.QInt8 if rng.random() < 0.3 else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(ready)


def steps_of(model: onnx.ModelProto) -> dict[str, float]:
    """By output, the scale of the dequantize that makes it; one ten-thousandth for one that is made otherwise."""
    values = {item.name: item for item in model.graph.initializer}
    made = {node.output[0]: node for node in model.graph.node}
    scales = {}
    for output in model.graph.output:
        node = made.get(output.name)
        known = node is not None and node.op_type == "DequantizeLinear" and node.input[1] in values
        scales[output.name] = float(numpy_helper.to_array(values[node.input[1]])) if known and node is not None else 1e-4
    return scales


def overflowing(model: onnx.ModelProto) -> list[str]:
    """The results in floats of each softmax that ONNX Runtime would compute with infinities, were it merged with its quantize."""
    values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    shapes = {item.name: item.type.tensor_type.shape.dim for item in onnx.shape_inference.infer_shapes(model).graph.value_info}
    reader = {node.input[0]: node for node in model.graph.node if node.op_type == "QuantizeLinear"}
    found = []
    for node in model.graph.node:
        result = node.output[0]
        if node.op_type == "Softmax" and result in reader and result in shapes:
            axis = next((item.i for item in node.attribute if item.name == "axis"), -1)
            if 1 / values[reader[result].input[1]] > E_TO_THE_FIFTH * shapes[result][axis].dim_value:
                found.append(result)
    return found


def reference(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    wanted = [output.name for output in model.graph.output]
    apart = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in overflowing(model)]
    if apart:  # no result of a network is merged with what follows
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        copy.graph.output.extend(apart)
        model = copy

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    return list(onnxruntime.InferenceSession(model.SerializeToString(), options).run(wanted, {"x": x}))


def compare(seed: int, target: str) -> tuple[float, float]:
    """The largest difference in steps, and the share of elements that differ."""
    import stack

    model = quantized_network(seed)
    x = input_of(model, seed + 100)
    outputs = stack.compile(model, target, threads=1).run({"x": x})
    worst, different, count = 0.0, 0, 0
    for (name, scale), expected in zip(steps_of(model).items(), reference(model, x), strict=True):
        off = np.abs(outputs[name].astype("float64") - expected) / scale
        worst, different, count = max(worst, float(off.max(initial=0.0))), different + int((off > 0.5).sum()), count + off.size
    return worst, different / max(count, 1)


def main(first: int, count: int, targets: Sequence[str]) -> int:
    wrong = 0
    exact = 0
    for seed, target in itertools.product(range(first, first + count), targets):
        faulthandler.dump_traceback_later(120, exit=True)
        print(f"\r{seed} on {target} ", end="", file=sys.stderr, flush=True)
        try:
            (worst, share), text = compare(seed, target), ""
        except Exception as failure:  # a fault of any type is counted, and the next network tried
            worst, share, text = float("inf"), 1.0, f"{type(failure).__name__}: {failure}"
        exact += share == 0
        if worst > MOST_STEPS + 0.01 or share > MOST_DIFFERENT:
            wrong += 1
            print(f"seed {seed} on {target}: {worst:.1f} steps, {share:.2%} differ {text[:600]}", flush=True)
    print(f"{count} networks from seed {first} on {', '.join(targets)}: {wrong} wrong, {exact} the same in every element")
    return wrong


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] or ["x86"])))
