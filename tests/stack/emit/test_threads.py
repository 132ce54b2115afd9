"""What the thread pool of a library promises, on a model large enough that its loops are shared out."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import stack

SIZE = 1 << 18


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide")
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (SIZE,)) for name in "xy"]
    nodes = [helper.make_node("Exp", ["x"], ["e"]), helper.make_node("Softmax", ["e"], ["y"])]
    graph = helper.make_graph(nodes, "wide", tensors[:1], tensors[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "wide.onnx")
    stack.compile(folder / "wide.onnx").save(folder / "out")
    return folder / "out"


def inputs(seed: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal(SIZE, np.float32)}


def reference(x: np.ndarray) -> np.ndarray:
    e = np.exp(x.astype(np.float64))
    e = np.exp(e - e.max())
    return e / e.sum()


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_any_number_of_threads_gives_the_result(threads, folder):
    library = stack.load(folder, threads=threads)
    for seed in range(5):
        x = inputs(seed)
        np.testing.assert_allclose(library.run(x)["y"], reference(x["x"]), rtol=1e-4, atol=1e-9)


def test_python_threads_share_one_pool(folder):
    library = stack.load(folder, threads=2)
    arrays = [inputs(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for index, outputs in enumerate(pool.map(library.run, arrays * 10)):
            np.testing.assert_allclose(outputs["y"], reference(arrays[index % 4]["x"]), rtol=1e-4, atol=1e-9)


def test_a_forked_process_computes_alone(folder):
    """Threads do not survive a fork, so a child that waited for them would wait for ever."""
    code = f"""
import os, sys, numpy as np, stack
library = stack.load({str(folder)!r}, threads=2)
x = {{"x": np.linspace(-1, 1, {SIZE}, dtype=np.float32)}}
before = library.run(x)["y"]
child = os.fork()
if child == 0:
    same = np.allclose(library.run(x)["y"], before, rtol=1e-5)
    del library
    os._exit(0 if same else 1)
status = os.waitpid(child, 0)[1]
assert np.array_equal(library.run(x)["y"], before)
sys.exit(os.waitstatus_to_exitcode(status))
"""
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", code], check=True, timeout=60)


def test_threads_confined_to_one_core_end_and_spread_again_when_freed(folder):
    """Workers without a core stand aside, whether confined before the library opens or behind it."""
    code = f"""
import os, numpy as np, stack
cores = os.sched_getaffinity(0)
os.sched_setaffinity(0, {{min(cores)}})
library = stack.load({str(folder)!r}, threads=3)
x = {{"x": np.linspace(-1, 1, {SIZE}, dtype=np.float32)}}
first = library.run(x)["y"]
for allowed in (cores, {{max(cores)}}, cores, {{min(cores)}}):
    os.sched_setaffinity(0, allowed)
    for run in range(20):
        assert np.array_equal(library.run(x)["y"], first)
del library
"""
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", code], check=True, timeout=60)


def test_a_thread_of_higher_priority_leaves_its_workers_their_core(folder):
    """A real-time thread that only spun, or yielded to its equals, would wait for ever for an ordinary one on the same core."""
    code = f"""
import os, sys, numpy as np, stack
library = stack.load({str(folder)!r}, threads=2)
x = {{"x": np.linspace(-1, 1, {SIZE}, dtype=np.float32)}}
first = library.run(x)["y"]
try:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
except PermissionError:
    sys.exit(77)
core = {{max(os.sched_getaffinity(0))}}
for run in range(20):
    for thread in os.listdir("/proc/self/task") if run % 2 else ["0"]:
        os.sched_setaffinity(int(thread), core)
    assert np.array_equal(library.run(x)["y"], first)
"""
    done = subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", code], timeout=60)
    if done.returncode == 77:
        pytest.skip("no right to real-time priority")
    assert done.returncode == 0
