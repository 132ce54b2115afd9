"""Inputs on which networks have something to say: crops of pictures, speech through a feature front end, spectrograms. Noise proves little.

Pictures ship with scikit-learn and scikit-image; speech is made by espeak-ng. What is not installed is skipped aloud.
"""

import shutil
import subprocess
import wave
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, np.dtype[Any]]
RATE = 16_000
VOICE = "en-us+f3"  # the one of espeak-ng's that all four wake-word networks hear
WORDS = ("alexa", "hey jarvis", "okay nabu", "hey mycroft", "good morning")


def photographs() -> list[Array]:
    """uint8 [height, width, 3]."""
    images = pytest.importorskip("skimage.data", reason="pip install scikit-image")
    datasets = pytest.importorskip("sklearn.datasets", reason="pip install scikit-learn")
    return [images.astronaut(), images.chelsea(), images.coffee(), images.rocket(), *datasets.load_sample_images().images]


def crops(size: int, count: int, seed: int = 0) -> Array:
    """int8 [count, size, size, 3], each a random square of a photograph, by the nearest pixel."""
    rng, found = np.random.default_rng(seed), []
    for image in (photographs() * count)[:count]:
        side = int(rng.integers(size, min(image.shape[:2]) + 1))
        top, left = (int(rng.integers(0, extent - side + 1)) for extent in image.shape[:2])
        steps = np.arange(size) * side // size
        found.append(image[top : top + side, left : left + side][steps][:, steps])
    return (np.stack(found).astype(np.int16) - 128).astype(np.int8)


def speech(words: str, folder: Path) -> Array:
    """int16 at 16 kHz."""
    if not shutil.which("espeak-ng"):
        pytest.skip("espeak-ng is not installed: apt-get install espeak-ng")
    file = folder / "speech.wav"
    subprocess.run(["espeak-ng", "-v", VOICE, "-w", str(file), "-s", "140", words], check=True)
    with wave.open(str(file)) as recorded:
        rate, samples = recorded.getframerate(), np.frombuffer(recorded.readframes(recorded.getnframes()), np.int16)
    places = np.arange(0, len(samples) - 1, rate / RATE)
    return np.interp(places, np.arange(len(samples)), samples).astype(np.int16)


def wake_word_features(samples: Array, scale: float, zero_point: int) -> Array:
    """int8 [steps, 40], 10 ms each, through the front end of the wake-word networks."""
    features = pytest.importorskip("pymicro_features", reason="pip install --no-deps pymicro-features")
    frontend, data, found = features.MicroFrontend(), samples.tobytes(), []
    for start in range(0, len(data) - 319, 320):
        result = frontend.process_samples(data[start : start + 320])
        if result.features:
            found.append(result.features)
    return np.clip(np.round(np.array(found) / scale) + zero_point, -128, 127).astype(np.int8)


def spectrograms(samples: Array, count: int, scale: float, zero_point: int) -> Array:
    """int8 [count, 640]: five frames of 128 bands of log power, as a machine's sound is shown to an anomaly detector."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64) / 32768, 1024)[::512]
    power = np.abs(np.fft.rfft(frames * np.hanning(1024))) ** 2
    edges = np.geomspace(4, 512, 129).astype(int)
    bands = np.stack([power[:, low : max(high, low + 1)].mean(axis=1) for low, high in pairwise(edges)], axis=1)
    decibels = 10 * np.log10(bands + 1e-10)
    windows = np.stack([decibels[start : start + 5].reshape(-1) for start in np.linspace(0, len(decibels) - 5, count).astype(int)])
    return np.clip(np.round(windows / scale) + zero_point, -128, 127).astype(np.int8)
