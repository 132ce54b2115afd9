"""Compile a model and run it. Needs nothing but Stack: the model, a small image classifier, is made here.

Run it: python tutorials/01_compile.py
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import stack

# 1. A model. Any ONNX file will do; this one has a convolution, its activation, an average over the image, and a classifier.
rng = np.random.default_rng(0)
weights = {
    "filters": rng.standard_normal((16, 3, 3, 3), np.float32) * 0.2,
    "bias": rng.standard_normal(16, np.float32) * 0.1,
    "classes": rng.standard_normal((16, 10), np.float32),
}
nodes = [
    helper.make_node("Conv", ["image", "filters", "bias"], ["features"], pads=[1, 1, 1, 1]),
    helper.make_node("Relu", ["features"], ["active"]),
    helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
    helper.make_node("Flatten", ["pooled"], ["flat"]),
    helper.make_node("MatMul", ["flat", "classes"], ["scores"]),
    helper.make_node("Softmax", ["scores"], ["probabilities"]),
]
image = helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 32, 32))
probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, (1, 10))
graph = helper.make_graph(nodes, "classifier", [image], [probabilities], [numpy_helper.from_array(w, n) for n, w in weights.items()])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

with tempfile.TemporaryDirectory() as work:
    file = Path(work) / "classifier.onnx"
    onnx.save(model, file)

    # 2. Compile it for this machine. The result is a library: machine code, weights, a C header and a manifest.
    library = stack.compile(file, "x86", threads=1)

    # 3. Run it. Inputs and outputs carry the model's own names.
    picture = rng.standard_normal((1, 3, 32, 32), np.float32)
    result = library.run({"image": picture})["probabilities"]
    print(f"class {result.argmax()} with probability {result.max():.3f}")

    # 4. Save it, and load it where there is neither TVM nor the model.
    library.save(Path(work) / "classifier")
    again = stack.load(Path(work) / "classifier").run({"image": picture})["probabilities"]
    assert np.array_equal(result, again)
    print("saved files:", ", ".join(sorted(entry.name for entry in (Path(work) / "classifier").iterdir())))

# 5. Compare with the definition of the operators, written in numpy.
padded = np.pad(picture[0], [(0, 0), (1, 1), (1, 1)])
patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
features = np.einsum("cyxrs,kcrs->kyx", patches, weights["filters"]) + weights["bias"][:, None, None]
scores = np.maximum(features, 0).mean(axis=(1, 2)) @ weights["classes"]
expected = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
np.testing.assert_allclose(result[0], expected, rtol=1e-4)
print("numpy agrees")
