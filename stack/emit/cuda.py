"""The CUDA container: machine code for one GPU architecture inside a shared library of plain C functions, its weights, and the header.

    kernels (nvcc) + tables (made here: launches in order over one arena) + stack/runtime/cuda/*.c  ->  lib<name>.so

The GPU's driver is looked for when the library is first opened: it compiles, links and loads where there is none. No TVM at run time.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tvm
from tvm import tirx

from stack.emit import native
from stack.emit.cuda_kernels import ALIGN, Kernels, Launch, build_kernels
from stack.emit.nvcc import compile_cubin
from stack.emit.program import Place, Program, Step
from stack.manifest import Tensor
from targets.target import Target

RUNTIME = native.RUNTIME / "cuda"
MOST_ARGUMENTS = 128  # as in device.h


@dataclass(frozen=True)
class Arena:
    """A call's device memory: intermediates first, then scratch, inputs and outputs; offsets in bytes."""

    scratch: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    bytes: int

    def place(self, place: Place) -> tuple[str, int]:
        """A place of the program as a base and an offset."""
        if place.kind == "weights":
            return "STACK_WEIGHTS", place.index
        offsets = {"in": self.inputs, "out": self.outputs}.get(place.kind)
        start = self.scratch if place.kind == "scratch" else 0
        return "STACK_ARENA", offsets[place.index] if offsets else start + place.index


def lay_out(program: Program, scratch_bytes: int) -> Arena:
    end = 0

    def take(size: int) -> int:
        nonlocal end
        start, end = end, -(-(end + size) // ALIGN) * ALIGN
        return start

    take(program.arena_bytes)
    scratch = take(scratch_bytes)
    inputs = tuple(take(tensor_bytes(tensor)) for tensor in program.inputs)
    outputs = tuple(take(tensor_bytes(tensor)) for tensor in program.outputs)
    return Arena(scratch, inputs, outputs, end)


def tensor_bytes(tensor: Tensor) -> int:
    return int(np.prod(tensor.shape, dtype=np.int64)) * ((tvm.DataType(tensor.dtype).bits + 7) // 8)


def launches_of(step: Step, kernels: Kernels) -> Iterable[tuple[Launch | None, list[Place]]]:
    """The launches of one step with their arguments as places of the program; None for a copy."""
    if step.kernel is None:
        yield None, list(step.arguments)
        return
    for launch in kernels.launches[step.kernel]:
        yield launch, [step.arguments[place.index] if place.kind == "parameter" else place for place in launch.arguments]


def header(name: str, program: Program, target: str) -> str:
    guard = f"{name.upper()}_H"
    return f"""/* {name}, compiled by Stack for {target}. Link with lib{name}.so; needs an NVIDIA GPU and its driver when it runs. */
#ifndef {guard}
#define {guard}
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {{
#endif

typedef struct stack_model {name}_model;

/* Loads the kernels and weights onto GPU number `device`, counted from 0. NULL on failure, {name}_error says why. */
{name}_model *{name}_open(const char *weights_path, int device);

/* Runs the network once; 0 on success, else {name}_error says why. Arrays are in host memory, dense and row-major. Any number of threads
   may call it at once on one model. */
int {name}_run(
    {name}_model *model,
    {native.c_parameters(program)});

/* Frees everything. No call may be running. */
void {name}_close({name}_model *model);

/* The last failure on this thread: a sentence, and a code, which above 0 is the CUDA driver's own. */
int {name}_error(const char **text);

/* The machine code inside the library, for tools such as cuobjdump and nvdisasm. */
const void *{name}_cubin(size_t *bytes);

#ifdef __cplusplus
}}
#endif
#endif
"""


def source(name: str, program: Program, kernels: Kernels, capability: int) -> str:
    """C tables of the launches in order, and the functions of the header."""
    arena = lay_out(program, kernels.scratch_bytes)
    symbols = sorted({launch.kernel for launches in kernels.launches.values() for launch in launches})
    arguments: list[str] = []
    launches: list[str] = []
    steps: list[str] = []
    for step in program.steps:
        first = len(launches)
        for launch, places in launches_of(step, kernels):
            kernel, grid, block, shared = (-1, (1, 1, 1), (1, 1, 1), 0) if launch is None else (
                symbols.index(launch.kernel), launch.grid, launch.block, launch.shared_bytes)  # fmt: skip
            size = step.bytes if launch is None else 0
            assert len(places) <= MOST_ARGUMENTS, f"{step.kernel} takes {len(places)} arrays"
            launches.append(f"{{{kernel}, {braces(grid)}, {braces(block)}, {shared}, {len(arguments)}, {len(places)}, {size}}}")
            arguments += [braces(arena.place(place)) for place in places]
        steps.append(f"{{{first}, {len(launches) - first}}}")
    ends = [
        [braces((offset, tensor_bytes(tensor))) for offset, tensor in zip(offsets, tensors, strict=True)]
        for offsets, tensors in ((arena.inputs, program.inputs), (arena.outputs, program.outputs))
    ]
    names = [f"in_{i}" for i in range(len(program.inputs))], [f"out_{i}" for i in range(len(program.outputs))]
    return f"""#include "{name}.h"
#include "device.h"

__asm__(".section .rodata\\n.balign 64\\nstack_cubin:\\n.incbin \\"kernels.cubin\\"\\nstack_cubin_end:\\n.previous");
extern const unsigned char stack_cubin[] __attribute__((visibility("hidden")));
extern const unsigned char stack_cubin_end[] __attribute__((visibility("hidden")));

{table("char *const", "kernel_names", [f'"{symbol}"' for symbol in symbols])}
{table("struct stack_place", "arguments", arguments)}
{table("struct stack_launch", "launches", launches)}
{table("struct stack_step", "steps", steps)}
{table("struct stack_tensor", "inputs", ends[0])}
{table("struct stack_tensor", "outputs", ends[1])}
static const struct stack_program program = {{
  {program.weight_bytes}ull, {arena.bytes}ull, {capability}, stack_cubin,
  {len(symbols)}, {len(steps)}, {len(program.inputs)}, {len(program.outputs)},
  kernel_names, arguments, launches, steps, inputs, outputs,
}};

{name}_model *{name}_open(const char *weights_path, int device) {{ return stack_open(&program, weights_path, device); }}
void {name}_close({name}_model *model) {{ stack_close(model); }}
int {name}_error(const char **text) {{ return stack_error(text); }}

const void *{name}_cubin(size_t *bytes) {{
  *bytes = (size_t)(stack_cubin_end - stack_cubin);
  return stack_cubin;
}}

int {name}_run(
    {name}_model *model,
    {native.c_parameters(program)}) {{
  const void *const in[] = {{{", ".join(names[0]) or "0"}}};
  void *const out[] = {{{", ".join(names[1])}}};
  return stack_profile(model, in, out, 0);
}}

/* The same over arrays of pointers, for callers that do not know the types when they are compiled. */
int {name}_call(struct stack_model *model, const void *const *in, void *const *out) {{ return stack_profile(model, in, out, 0); }}
int {name}_profile(struct stack_model *model, const void *const *in, void *const *out, double *seconds) {{
  return stack_profile(model, in, out, seconds);
}}
"""


def braces(values: Iterable[object]) -> str:
    return "{" + ", ".join(map(str, values)) + "}"


def table(kind: str, name: str, rows: Sequence[str]) -> str:
    """A constant array; never of length 0, which C forbids."""
    body = ",\n".join(f"  {row}" for row in rows)
    return f"static const {kind} {name}[{max(1, len(rows))}] = {{\n{body}\n}};" if rows else f"static const {kind} {name}[1];"


def write(
    name: str,
    program: Program,
    programs: Sequence[tirx.PrimFunc],
    target: Target,
    folder: Path,
    work: Path,
    on_progress: Callable[[int, int], None],
) -> None:
    """Write the header and the shared library into `folder`; `work` is for what is only needed meanwhile."""
    kernels = build_kernels(programs, target, on_progress)
    cubin = compile_cubin(kernels.source, str(target.codegen["arch"]), work)
    assert all(launch.kernel.encode() in cubin for launches in kernels.launches.values() for launch in launches), "nvcc dropped a kernel"
    (folder / f"{name}.h").write_text(header(name, program, target.name))
    native.link(name, source(name, program, kernels, target.machine.compute_capability), [], folder, work, RUNTIME)
    on_progress(len(programs) + 1, len(programs) + 1)
