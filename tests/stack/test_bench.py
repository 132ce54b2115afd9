import os
from pathlib import Path

import numpy as np
import pytest

from stack import bench
from stack.bench import Comparison, Result, choose_cores, compare, confined, difference, interleave
from stack.errors import StackError


def test_engines_take_turns(monkeypatch):
    monkeypatch.setattr(bench, "SECONDS", 0.0)
    calls = []
    runs = {name: lambda arrays, name=name: calls.append(name) for name in ("a", "b")}
    times = interleave(runs, {})
    turns = [name for index, name in enumerate(calls) if index == 0 or calls[index - 1] != name]
    assert turns == ["a", "b"] * 9  # once to see how long a run takes, then eight rounds
    assert len(times["a"]) == len(times["b"]) == 8 * 20


def test_median_minimum_and_spread():
    result = Result("e", [5.0, 1.0, 2.0, 3.0, 4.0], None, None)
    assert (result.median_ms, result.min_ms, result.spread_ms) == (3.0, 1.0, 3.0)


def test_the_ratio_is_ours_over_theirs():
    results = [Result(name, [ms] * 3, 0.0, 0.0) for name, ms in (("stack", 3.0), ("onnxruntime", 2.0), ("openvino", 6.0))]
    comparison = Comparison("m.onnx", "x86", 1, "here", results)
    assert comparison.ratio == {"onnxruntime": 1.5, "openvino": 0.5}
    assert comparison.json() == {
        "model": "m.onnx",
        "target": "x86",
        "threads": 1,
        "machine": "here",
        "results": [
            {"engine": "stack", "median_ms": 3.0, "min_ms": 3.0, "max_abs_error": 0.0},
            {"engine": "onnxruntime", "median_ms": 2.0, "min_ms": 2.0, "max_abs_error": 0.0},
            {"engine": "openvino", "median_ms": 6.0, "min_ms": 6.0, "max_abs_error": 0.0},
        ],
        "ratio": {"onnxruntime": 1.5, "openvino": 0.5},
    }


def test_the_difference_is_the_largest_over_all_outputs():
    ours = [np.array([1.0, 2.0]), np.array([-100], np.int64)]
    peer = [np.array([1.0, 2.5]), np.array([-104], np.int64)]
    assert difference(ours, peer) == (4.0, 0.2)
    assert difference(ours, None) == (None, None)


def test_equal_infinities_and_nans_differ_by_nothing_and_others_have_no_difference():
    peer = [np.array([1.0, np.inf, np.nan])]
    assert difference([np.array([1.5, np.inf, np.nan])], peer) == (0.5, 0.5)
    assert difference([np.array([1.0, 2.0, np.nan])], peer) == (None, None)


def test_outputs_of_different_shapes_are_an_error():
    with pytest.raises(StackError) as caught:
        difference([np.zeros((2, 3))], [np.zeros((3, 2))])
    assert str(caught.value) == "error: an output has shape (2, 3), and the peer gives (3, 2)\n  hint: fix the shapes with --shape"


def test_the_process_is_confined_and_set_free_again():
    before = os.sched_getaffinity(0)
    with confined(1):
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before


def test_more_threads_than_cores_get_all_cores():
    assert choose_cores([0], 4) == {0}


@pytest.mark.parametrize("peer", ["onnxruntime", "openvino"])
def test_a_peer_computes_the_same(peer, model_file, compiled, arrays, monkeypatch):
    pytest.importorskip(peer)
    monkeypatch.setattr(bench, "SECONDS", 0.01)
    comparison = compare(Path(model_file), compiled, arrays, {"image": (1, 3, 8, 8)}, [peer])
    assert [result.engine for result in comparison.results] == ["stack", peer]
    assert comparison.threads == compiled.threads
    assert comparison.results[0].max_abs_error < 1e-4
    assert comparison.results[0].max_rel_error < 1e-5
    assert comparison.results[1].max_abs_error == 0
