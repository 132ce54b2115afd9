"""Real networks on real inputs: the C that we emit gives what TFLite Micro gives, to the last bit, and says different things.

The C runs on this machine, where hundreds of inputs take a second, and a few inputs of each also as firmware on QEMU's cores.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import stack
from stack import knobs
from stack.library import Library
from tests.frontends.tflite.build import Micro
from tests.host_model import HostModel
from tests.real_inputs import WORDS, crops, spectrograms, speech, wake_word_features

WAKE_WORDS = ("alexa", "hey_jarvis", "hey_mycroft", "okay_nabu")
Array = np.ndarray


def mlperf(name: str) -> Path:
    file = knobs.models() / "mlperf_tiny" / name
    if not file.exists():
        pytest.skip(f"{file} is not there: see CONTRIBUTING.md on models for tests")
    return file


def wake_word(name: str) -> Path:
    found = find_spec("pymicro_wakeword")
    if found is None or found.origin is None:
        pytest.skip("pymicro-wakeword is not installed: pip install --no-deps pymicro-wakeword")
    return Path(found.origin).parent / "models" / f"{name}.tflite"


def chatter(folder: Path) -> Array:
    return np.concatenate([speech(words, folder) for words in WORDS])


@cache
def compiled(file: Path, core: str) -> Library:
    """Several tests run the same ones."""
    return stack.compile(file, core)


def inputs_of(name: str, library: Library, folder: Path) -> Array:
    """A hundred inputs, without the batch dimension."""
    if name == "kws":
        return np.load(mlperf("kws_inputs_500.npz"))["x"]
    if name == "ad":
        (meaning,) = (entry for title, entry in library.manifest["quantization"].items() if title == library.inputs[0].name)
        return spectrograms(chatter(folder), 100, meaning["scale"], meaning["zero_point"])
    return crops(library.inputs[0].shape[1], 100)


def expect_exact(file: Path, given: Array, host: HostModel, distinct: int) -> list[Array]:
    reference, seen, results = Micro(file.read_bytes()), set(), []
    for index, x in enumerate(given):
        (expected,), (got,) = reference.run([x]), host(x)
        np.testing.assert_array_equal(got.reshape(-1), expected.reshape(-1), err_msg=f"input {index}")
        seen.add(expected.tobytes())
        results.append(got)
    assert len(seen) >= distinct, f"{len(seen)} different outputs of {len(given)}: these inputs test little"
    return results


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4"])
@pytest.mark.parametrize(("name", "distinct"), [("ad", 60), ("kws", 200), ("ic", 60), ("vww", 30)])
def test_mlperf_tiny(name: str, distinct: int, core: str, tmp_path: Path) -> None:
    file = mlperf(f"{name}_int8.tflite")
    library = compiled(file, core)
    given = inputs_of(name, library, tmp_path)[:, None]
    results = expect_exact(file, given, HostModel(library, tmp_path), distinct)
    if name == "kws":
        recorded = np.load(mlperf("kws_inputs_500.npz"))
        np.testing.assert_array_equal(np.concatenate(results), recorded["tflm_output"])
        assert int((np.concatenate(results).argmax(axis=1) == recorded["label"]).sum()) == 452


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4"])
@pytest.mark.parametrize("name", WAKE_WORDS)
def test_streaming_wake_words(name: str, core: str, tmp_path: Path) -> None:
    """Fifty steps and more, each of three columns of features; the network hears its own word among them."""
    file = wake_word(name)
    library = compiled(file, core)
    meaning = library.manifest["quantization"][library.inputs[0].name]
    samples = np.concatenate([np.zeros(8000, np.int16), speech(name.replace("_", " "), tmp_path), np.zeros(8000, np.int16)])
    features = wake_word_features(samples, meaning["scale"], meaning["zero_point"])
    steps = features[: len(features) // 3 * 3].reshape(-1, 1, 3, 40)
    results = expect_exact(file, steps, HostModel(library, tmp_path), 10)
    assert len(steps) >= 50
    assert max(int(result.max()) for result in results) > 30


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"])
@pytest.mark.parametrize("name", ["ad", "kws", "ic", "vww"])
def test_firmware(name: str, core: str, tmp_path: Path) -> None:
    file = mlperf(f"{name}_int8.tflite")
    library = compiled(file, core)
    reference = Micro(file.read_bytes())
    seen = set()
    for x in inputs_of(name, library, tmp_path)[::25][:4]:
        (expected,) = reference.run([x[None]])
        (got,) = library.run({library.inputs[0].name: x[None]}).values()
        np.testing.assert_array_equal(got, expected)
        seen.add(expected.tobytes())
    assert len(seen) > 1


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m55"])
def test_a_streaming_network_keeps_its_state_on_the_device(core: str, tmp_path: Path) -> None:
    file = wake_word("okay_nabu")
    library = compiled(file, core)
    meaning = library.manifest["quantization"][library.inputs[0].name]
    features = wake_word_features(speech("okay nabu", tmp_path), meaning["scale"], meaning["zero_point"])
    reference = Micro(file.read_bytes())
    for step in features[:36].reshape(-1, 1, 3, 40):
        (expected,) = reference.run([step])
        (got,) = library.run({library.inputs[0].name: step}).values()
        np.testing.assert_array_equal(got, expected)
