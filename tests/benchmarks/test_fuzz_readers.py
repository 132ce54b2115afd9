"""Three hundred damaged files, the same each time: every one is read or refused with a StackError."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from stack import knobs
from tests.conftest import tiny_model
from tests.frontends.tflite.test_states import counter, lstm, svdf

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def fuzz() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")  # its processes import it by its name
        yield importlib.import_module("fuzz_readers")


def samples() -> list[tuple[str, bytes]]:
    made = [
        (".tflite", counter()),
        (".tflite", svdf(2, "int8")),
        (".tflite", lstm("int8", time=1)),
        (".onnx", tiny_model().SerializeToString()),
    ]
    real = [knobs.models() / "mlperf_tiny" / name for name in ("hello_world_int8.tflite", "kws_int8.tflite", "kws_qdq.onnx")]
    return made + [(file.suffix, file.read_bytes()) for file in real if file.exists()]


def test_damaged_files_are_refused(fuzz: ModuleType) -> None:
    found: dict[str, int] = {}
    for number, (suffix, data) in enumerate(fuzz.mutants(samples(), 300, seed=1)):
        result = fuzz.outcome(suffix, data)
        assert result in fuzz.EXPECTED, f"file {number}: {result}"
        found[result] = found.get(result, 0) + 1
    assert found["BadModel"] > 50
    assert found["read"] > 20


def test_a_reader_that_hangs_or_dies_is_replaced(fuzz: ModuleType) -> None:
    reader = fuzz.Reader(seconds=60)
    sound = (".tflite", counter())
    assert reader.read(sound) == "read"
    reader.process.kill()
    assert reader.read(sound).startswith("the process ended with")
    assert reader.read(sound) == "read"
    reader.seconds = 0
    assert reader.read(sound) == "no answer after 0 s"
    reader.process.kill()


def test_equal_seeds_give_equal_files(fuzz: ModuleType) -> None:
    assert list(fuzz.mutants(samples(), 20, seed=2)) == list(fuzz.mutants(samples(), 20, seed=2))
    assert list(fuzz.mutants(samples(), 20, seed=2)) != list(fuzz.mutants(samples(), 20, seed=3))
