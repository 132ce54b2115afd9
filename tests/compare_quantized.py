"""Compare the C of random quantised networks with TFLite Micro: `python -m tests.compare_quantized FIRST COUNT [CORE...]`.

The C runs on this machine under the sanitizers, so that a byte read or written beyond an input, an output or the arena ends the run. The
arena holds something else before each run, and the caller's tensors lie outside of it and within it.
"""

import faulthandler
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import stack
from stack.library import Library
from tests.frontends.tflite.build import Micro, T
from tests.host_model import WARNINGS
from tests.random_quantized import random_quantized

CORES = ("cortex-m0", "cortex-m3", "cortex-m4")
BOARDS = ("cortex-m4", "cortex-m55")  # that QEMU runs
SANITIZERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-strict-aliasing")
FILLS = (0x00, 0xA5, 0xFF, 0x80, 0x7F, 0x33)  # what the arena holds before a run
Array = np.ndarray

MAIN = """#include "model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static void *room(size_t bytes) {{
  void *made;
  if (posix_memalign(&made, 16, bytes ? bytes : 1)) exit(2);
  return made;
}}
static void fill(void *to, size_t bytes) {{ if (bytes && fread(to, 1, bytes, stdin) != bytes) exit(3); }}
int main(void) {{
  static const size_t in[] = {{{in_bytes}}}, out[] = {{{out_bytes}}}, in_at[] = {{{in_at}}}, out_at[] = {{{out_at}}};
  enum {{ INPUTS = {inputs}, OUTPUTS = {outputs} }};
  char *arena = room({upper}_ARENA_BYTES), *x[INPUTS], *y[OUTPUTS];
  for (int before; (before = getchar()) != EOF;) {{
    int within = getchar();
    memset(arena, before, {upper}_ARENA_BYTES);
    for (int i = 0; i < INPUTS; i++) fill(x[i] = within ? arena + in_at[i] : room(in[i]), in[i]);
    for (int i = 0; i < OUTPUTS; i++) y[i] = within ? arena + out_at[i] : room(out[i]);
    if ({name}_run({arguments}, arena)) return 4;
    for (int i = 0; i < OUTPUTS; i++) fwrite(y[i], 1, out[i], stdout);
    for (int i = 0; i < INPUTS && !within; i++) free(x[i]);
    for (int i = 0; i < OUTPUTS && !within; i++) free(y[i]);
  }}
  free(arena);
  return 0;
}}
"""


class Wrong(Exception):
    """What a network's C did, in a line."""


def nbytes(entry: dict) -> int:
    return int(np.prod(entry["shape"])) * np.dtype(entry["dtype"]).itemsize


def sanitized(library: Library, work: Path) -> Path:
    """A program that runs the model for each input on its standard input."""
    name, inputs, outputs = (library.manifest[key] for key in ("name", "inputs", "outputs"))
    offsets = re.findall(r"#define (\w+_OFFSET) ", (library.folder / "model.h").read_text())
    text = MAIN.format(
        name=name, upper=name.upper(), inputs=len(inputs), outputs=len(outputs), in_at=", ".join(offsets[: len(inputs)]),
        out_at=", ".join(offsets[len(inputs) :]), in_bytes=", ".join(str(nbytes(entry)) for entry in inputs),
        out_bytes=", ".join(str(nbytes(entry)) for entry in outputs),
        arguments=", ".join([f"(void *)x[{i}]" for i in range(len(inputs))] + [f"(void *)y[{i}]" for i in range(len(outputs))]),
    )  # fmt: skip
    (work / "main.c").write_text(text)
    sources = [work / "main.c", library.folder / "model.c", library.folder / "weights.c"]
    command = ["gcc", "-std=gnu99", *WARNINGS[1:], *SANITIZERS, "-I", library.folder, "-o", work / "main", *sources, "-lm"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise Wrong(f"does not build: {done.stderr[:1500]}")
    return work / "main"


def on_host(library: Library, given: Sequence[Sequence[Array]]) -> list[list[Array]]:
    """The outputs for each of `given`, in turn with the caller's tensors outside and inside the arena."""
    with tempfile.TemporaryDirectory() as work:
        program = sanitized(library, Path(work))
        runs = [bytes([FILLS[index % len(FILLS)], index % 2]) + b"".join(x.tobytes() for x in xs) for index, xs in enumerate(given)]
        data = b"".join(runs)
        done = subprocess.run([program], input=data, capture_output=True, env={"ASAN_OPTIONS": "detect_leaks=0"}, timeout=60)
    if done.returncode:
        raise Wrong(f"ends with {done.returncode}: {done.stderr.decode()[:1500]}")
    return unpack(done.stdout, library, len(given))


def unpack(data: bytes, library: Library, runs: int) -> list[list[Array]]:
    results, at = [], 0
    for _ in range(runs):
        results.append([])
        for entry in library.manifest["outputs"]:
            dtype, count = np.dtype(entry["dtype"]), int(np.prod(entry["shape"]))
            results[-1].append(np.frombuffer(data, dtype, count, at).reshape(entry["shape"]))
            at += nbytes(entry)
    assert at == len(data)
    return results


def draw(inputs: Sequence[T], seed: int, runs: int) -> list[list[Array]]:
    rng = np.random.default_rng([seed, 1])

    def one(tensor: T, wide: bool) -> Array:
        if tensor.dtype == "float32":
            return rng.standard_normal(tensor.shape).astype(np.float32)
        values = rng.integers(-128, 128, tensor.shape) if wide else rng.normal(tensor.zero_point, 30, tensor.shape).round().clip(-128, 127)
        return values.astype(np.int8)

    return [[one(tensor, wide=run % 2 == 0) for tensor in inputs] for run in range(runs)]


def expect_same(got: Sequence[Sequence[Array]], expected: Sequence[Sequence[Array]]) -> None:
    for run, pair in enumerate(zip(got, expected, strict=True)):
        for output, (y, want) in enumerate(zip(*pair, strict=True)):
            if y.shape != want.shape or y.dtype != want.dtype:
                raise Wrong(f"output {output} is {y.dtype}{y.shape}, not {want.dtype}{want.shape}")
            if y.tobytes() != want.tobytes():
                where = np.flatnonzero(y.reshape(-1) != want.reshape(-1))
                first = (y.reshape(-1)[where[0]], want.reshape(-1)[where[0]])
                raise Wrong(f"run {run}, output {output}: {len(where)} of {y.size} differ, first at {where[0]}: {first[0]}, not {first[1]}")


def compare(data: bytes, inputs: Sequence[T], seed: int, cores: Sequence[str], boards: Sequence[str] = (), runs: int = 4) -> int:
    """Raises Wrong where the C for one of `cores`, on this machine, or the firmware for one of `boards`, in QEMU, differs. Gives how many
    different outputs TFLite Micro had."""
    micro = Micro(data)
    given = draw(inputs, seed, runs)
    expected = [micro.run(arrays) for arrays in given]
    for core in [*cores, *(board for board in boards if board not in cores)]:
        library = stack.compile(data, core)
        try:
            if core in cores:
                expect_same(on_host(library, given), expected)
            if core in boards:
                runner = library.runner
                expect_same(runner.run_many(given[:2]), expected[:2])
                runner.close()
        except Wrong as wrong:
            raise Wrong(f"{core}: {wrong}") from None
        finally:
            shutil.rmtree(library.folder)
    return len({b"".join(y.tobytes() for y in ys) for ys in expected})


def main(first: int, count: int, cores: Sequence[str]) -> int:
    """Compare `count` networks, every tenth also in QEMU; a line for each that is wrong or does not compile."""
    wrong = same = 0
    for seed in range(first, first + count):
        faulthandler.dump_traceback_later(120, exit=True)
        print(f"\r{seed} ", end="", file=sys.stderr, flush=True)
        try:
            network = random_quantized(seed)
            same += compare(network.data, network.inputs, seed, cores, BOARDS if seed % 10 == 0 else ()) < 2
        except Exception as failure:  # a fault of any type is counted, and the next network tried
            wrong += 1
            print(f"seed {seed}: {type(failure).__name__}: {str(failure)[:1500]}", flush=True)
    print(f"{count} networks from seed {first} on {', '.join(cores)}: {wrong} wrong; outputs of {same} do not vary", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] or CORES)))
