"""ONNX's own node tests: each one loads, or is refused as a user's mistake would be; never another exception."""

import functools
import warnings

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from stack.errors import StackError
from stack.frontends.onnx import load


@functools.cache
def cases() -> list[tuple[str, onnx.ModelProto, list[object]]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some cases overflow on purpose
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases(None)
    return [(case.name, case.model, list(case.data_sets[0][0])) for case in found if case.data_sets]


def loads(model: onnx.ModelProto, inputs: list[object], weights: int) -> bool:
    """Whether it loads when all inputs but the first are weights (`weights` = 1) or none is (`weights` = number of inputs)."""
    arrays = [numpy_helper.to_array(item) if isinstance(item, onnx.TensorProto) else item for item in inputs]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    shapes = {}
    for index, (item, array) in enumerate(zip(model.graph.input, arrays, strict=False)):
        if not isinstance(array, np.ndarray | np.generic):
            continue
        if index < weights:
            shapes[item.name] = np.shape(array)
        else:
            copy.graph.initializer.append(numpy_helper.from_array(np.asarray(array), item.name))
    try:
        load(copy, shapes)
    except StackError:
        return False
    return True


@pytest.mark.parametrize("weights", [1, 99], ids=["one input", "all inputs"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nothing_but_a_stack_error_escapes(weights: int) -> None:
    loaded = [name for name, model, inputs in cases() if loads(model, inputs, weights)]
    assert len(loaded) > len(cases()) / 2
