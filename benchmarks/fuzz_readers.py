"""Damaged model files: every one must be refused with a StackError, or read; none may crash or hang.

    python benchmarks/fuzz_readers.py a.tflite b.onnx ... [--files 2000] [--seed 0] [--seconds 30]

Each file is mutated in turn: bits flipped, integers overwritten with values at the edge of their range, cut short, spliced with another
model or with a part of itself. Readers run in a process of their own, which is replaced where it dies or takes longer than `--seconds`.
What is wrong is written to the current folder as fuzz_<number>.<suffix>; the exit status is the number of such files, at most 1.
"""

import argparse
import collections
import multiprocessing
import sys
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

Sample = tuple[str, bytes]  # the suffix of its file, its content
EXPECTED = {"read", "no protobuf", "BadModel", "UnsupportedOp"}
EDGES = [0, 1, -1, 127, 128, 255, 32767, 65535, 1 << 24, (1 << 31) - 1, -(1 << 31), 0x7FFFFFF0]


def flip(data: bytearray, rng: np.random.Generator, _others: list[bytes]) -> bytearray:
    for position in rng.integers(0, len(data), int(rng.integers(1, 9))):
        data[position] ^= 1 << int(rng.integers(8))
    return data


def overwrite(data: bytearray, rng: np.random.Generator, _others: list[bytes]) -> bytearray:
    """Whole aligned integers, as offsets, lengths and dimensions are."""
    for _ in range(int(rng.integers(1, 4))):
        width = int(rng.choice([1, 2, 4, 8]))
        position = int(rng.integers(0, max(len(data) // width, 1))) * width
        value = int(rng.choice(EDGES)) if rng.random() < 0.7 else int(rng.integers(-(1 << 31), 1 << 31))
        data[position : position + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
    return data


def truncate(data: bytearray, rng: np.random.Generator, _others: list[bytes]) -> bytearray:
    return data[: int(rng.integers(0, len(data)))]


def splice(data: bytearray, rng: np.random.Generator, others: list[bytes]) -> bytearray:
    """A part of another model in the place of a part of this one."""
    other = others[int(rng.integers(len(others)))]
    size = int(rng.integers(1, max(min(len(other), len(data)) // 4, 2)))
    source, target = int(rng.integers(0, len(other))), int(rng.integers(0, len(data)))
    data[target : target + size] = other[source : source + size]
    return data


def shuffle_start(data: bytearray, rng: np.random.Generator, _others: list[bytes]) -> bytearray:
    """Where flatbuffers keep their tables: a few bytes among the first and the last kilobytes."""
    for _ in range(int(rng.integers(1, 6))):
        span = min(4096, len(data))
        position = int(rng.integers(span)) if rng.random() < 0.5 else len(data) - 1 - int(rng.integers(span))
        data[position] = int(rng.integers(256))
    return data


MUTATIONS = [flip, overwrite, overwrite, truncate, splice, shuffle_start, shuffle_start]


def mutants(samples: list[Sample], count: int, seed: int) -> Iterator[Sample]:
    """`count` damaged files; equal seeds give equal files."""
    rng = np.random.default_rng(seed)
    contents = [data for _, data in samples]
    for index in range(count):
        suffix, data = samples[index % len(samples)]
        mutation = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
        yield suffix, bytes(mutation(bytearray(data), rng, contents))


def outcome(suffix: str, data: bytes) -> str:
    """ "read", the type of the StackError, or the traceback of anything else."""
    import onnx
    from google.protobuf.message import DecodeError

    from stack.errors import StackError
    from stack.frontends.load import load

    try:
        if suffix == ".tflite":
            load(data, {})
        else:
            try:
                model = onnx.ModelProto.FromString(data)
            except DecodeError:
                return "no protobuf"
            load(model, {})
    except StackError as error:
        return type(error).__name__
    except Exception:  # what must not happen, of whatever type: it is what we look for
        return traceback.format_exc()
    return "read"


def serve(pipe: Connection) -> None:
    while True:
        pipe.send(outcome(*pipe.recv()))


class Reader:
    """A process that reads one file after the other."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.start()

    def start(self) -> None:
        self.pipe, end = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=serve, args=(end,), daemon=True)
        self.process.start()
        end.close()
        self.pipe.send((".tflite", b""))
        self.pipe.recv()  # the first one pays for the imports

    def read(self, sample: Sample) -> str:
        try:
            self.pipe.send(sample)
            if self.pipe.poll(self.seconds):
                return str(self.pipe.recv())
            found = f"no answer after {self.seconds:.0f} s"
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.process.join()
            found = f"the process ended with {self.process.exitcode}"
        self.process.kill()
        self.start()
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    samples = [(model.suffix, model.read_bytes()) for model in options.models]
    reader, wrong, slowest = Reader(options.seconds), 0, 0.0
    counts: collections.Counter[str] = collections.Counter()
    for number, sample in enumerate(mutants(samples, options.files, options.seed)):
        start = time.perf_counter()
        result = reader.read(sample)
        slowest = max(slowest, time.perf_counter() - start)
        counts[result if result in EXPECTED else "wrong"] += 1
        if result not in EXPECTED:
            wrong += 1
            file = Path(f"fuzz_{number}{sample[0]}")
            file.write_bytes(sample[1])
            print(f"{file}: {result}", flush=True)
    print(f"{options.files} files, the slowest {slowest:.1f} s: {', '.join(f'{count} {name}' for name, count in counts.most_common())}")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
