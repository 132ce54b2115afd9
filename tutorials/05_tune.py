"""Tune a model: measure schedules of its programs on this machine, keep what was learnt, and compile with it.

Run it: python tutorials/05_tune.py

Needs nothing but Stack. The same from a terminal:

    stackc tune network.onnx --trials 60 --database tuning.db --report
    stackc compile network.onnx --database tuning.db -o library/
    stackc profile library/                     # says of each operator where its schedule comes from
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import stack
from schedules.tuning.database import Database
from schedules.tuning.exchange import export, load

# 1. A model: two convolutions with their activations, and a product.
rng = np.random.default_rng(0)
weights = {
    "w1": rng.standard_normal((32, 16, 3, 3), np.float32) * 0.1,
    "w2": rng.standard_normal((64, 32, 1, 1), np.float32) * 0.2,
    "w3": rng.standard_normal((64, 10), np.float32) * 0.1,
}
nodes = [
    helper.make_node("Conv", ["image", "w1"], ["c1"], pads=[1, 1, 1, 1]),
    helper.make_node("Relu", ["c1"], ["r1"]),
    helper.make_node("Conv", ["r1", "w2"], ["c2"]),
    helper.make_node("Relu", ["c2"], ["r2"]),
    helper.make_node("GlobalAveragePool", ["r2"], ["pooled"]),
    helper.make_node("Flatten", ["pooled"], ["flat"]),
    helper.make_node("MatMul", ["flat", "w3"], ["scores"]),
]
graph = helper.make_graph(
    nodes,
    "network",
    [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 16, 28, 28))],
    [helper.make_tensor_value_info("scores", TensorProto.FLOAT, (1, 10))],
    [numpy_helper.from_array(array, name) for name, array in weights.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

with tempfile.TemporaryDirectory() as work:
    file, database = Path(work) / "network.onnx", Path(work) / "tuning.db"
    onnx.save(model, file)

    # 2. Tune it, here with few trials. Each candidate is built, its numbers are compared with the program's own, and it is timed. What was
    #    measured is in the database at once: stop whenever you like, and start the same command to go on.
    result = stack.tune(file, trials=20, database=database)
    for row in result.rows:
        default, best = (f"{1e6 * cost:.1f} us" if cost else "not measured" for cost in (row.default, row.best))
        print(f"{row.name:24} {row.rule:14} {row.points:5} points, {row.trials:2} measured: default {default}, best {best}")
    print(f"{result.trials} trials, stopped because {result.stopped}")

    # 3. Compile with it. A program that the database does not know gets what ships with Stack, or its schedule's own default.
    tuned = stack.compile(file, database=database, threads=1)
    for operator in tuned.manifest["operators"]:
        print(operator["kernel"], operator["decision"], operator.get("source", ""))

    # 4. The numbers stay the same, up to the order of sums.
    untuned = stack.compile(file, untuned=True, threads=1)
    picture = {"image": rng.standard_normal((1, 16, 28, 28), np.float32)}
    np.testing.assert_allclose(tuned.run(picture)["scores"], untuned.run(picture)["scores"], rtol=1e-3, atol=1e-4)

    # 5. What one machine learnt travels as lines of JSON. Two databases merge; what is known already adds nothing.
    ours, theirs = Database.open(database), Database.open(Path(work) / "another.db")
    print(export(ours, Path(work) / "tuning.jsonl"), "rows written")
    print(load(theirs, Path(work) / "tuning.jsonl"))
    assert len(theirs.records()) == len(ours.records()) >= result.trials
    ours.close()
    theirs.close()
