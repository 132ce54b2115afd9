"""The native container: a shared library of plain C functions, its weights, and the header to call it with. No TVM at run time.

kernels (LLVM objects) + model.c (made here: calls in order over one arena) + stack/runtime/*.c  ->  lib<name>.so
"""

import re
import subprocess
from pathlib import Path

from stack.emit.cc import find_cc
from stack.emit.program import Place, Program, Step
from stack.errors import StackError
from stack.manifest import Tensor

RUNTIME = Path(__file__).parents[1] / "runtime"
C_TYPES = {
    "float32": "float", "float64": "double", "float16": "uint16_t", "bfloat16": "uint16_t", "bool": "uint8_t",
    **{f"{sign}int{bits}": f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip


def c_name(text: str) -> str:
    """`text` as a C identifier."""
    name = re.sub(r"\W", "_", text, flags=re.ASCII)
    return name if re.match(r"[A-Za-z]", name) else f"m_{name}"


def c_parameters(program: Program) -> str:
    """The typed parameters of the run function, inputs first."""

    def one(tensor: Tensor, index: int, kind: str) -> str:
        const = "const " if kind == "in" else ""
        count = 1
        for extent in tensor.shape:
            count *= extent
        return f"{const}{C_TYPES[tensor.dtype]} *{kind}_{index} /* {tensor.name} {list(tensor.shape)}, {count} values */"

    lines = [one(tensor, index, "in") for index, tensor in enumerate(program.inputs)]
    lines += [one(tensor, index, "out") for index, tensor in enumerate(program.outputs)]
    return ",\n    ".join(lines)


def header(name: str, program: Program, target: str) -> str:
    guard = f"{name.upper()}_H"
    return f"""/* {name}, compiled by Stack for {target}. Link with lib{name}.so; needs pthread and nothing else. */
#ifndef {guard}
#define {guard}
#include <stdint.h>
#ifdef __cplusplus
extern "C" {{
#endif

typedef struct stack_model {name}_model;

/* Maps the weights file and starts `threads` - 1 workers. NULL on failure, errno says why. */
{name}_model *{name}_open(const char *weights_path, int threads);

/* Runs the network once; 0 on success. Arrays are dense and row-major. Any number of threads may call it at once on one model. */
int {name}_run(
    {name}_model *model,
    {c_parameters(program)});

/* Frees everything. No call may be running. */
void {name}_close({name}_model *model);

#ifdef __cplusplus
}}
#endif
#endif
"""


def pointer(place: Place) -> str:
    if place.kind == "in":
        return f"(void *)in[{place.index}]"
    if place.kind == "out":
        return f"out[{place.index}]"
    return f"(void *)({place.kind} + {place.index})"


def call(step: Step) -> str:
    arguments = [pointer(place) for place in step.arguments]
    if step.kernel is None:
        return f"memcpy({arguments[1]}, {arguments[0]}, {step.bytes}), 0"
    return f"{step.kernel}({', '.join(arguments)})"


def source(name: str, program: Program) -> str:
    """C that calls the kernels in order."""
    arity = {step.kernel: len(step.arguments) for step in program.steps if step.kernel}
    declarations = "\n".join(f"int32_t {kernel}({', '.join(['void *'] * count)});" for kernel, count in arity.items())
    cases = "\n".join(f"    case {index}: return {call(step)};" for index, step in enumerate(program.steps))
    names = [f"in_{i}" for i in range(len(program.inputs))], [f"out_{i}" for i in range(len(program.outputs))]
    return f"""#include "{name}.h"
#include "runtime.h"
#include <string.h>

{declarations}

static int step(int step, const char *weights, char *arena, const void *const *in, void *const *out) {{
  (void)weights, (void)arena, (void)in;
  switch (step) {{
{cases}
    default: return -1;
  }}
}}

static const struct stack_program program = {{{program.weight_bytes}ull, {program.arena_bytes}ull, {len(program.steps)}, step}};

{name}_model *{name}_open(const char *weights_path, int threads) {{ return stack_open(&program, weights_path, threads); }}
void {name}_close({name}_model *model) {{ stack_close(model); }}

int {name}_run(
    {name}_model *model,
    {c_parameters(program)}) {{
  const void *const in[] = {{{", ".join(names[0]) or "0"}}};
  void *const out[] = {{{", ".join(names[1])}}};
  return stack_run(model, in, out);
}}

/* The same over arrays of pointers, for callers that do not know the types when they are compiled. */
int {name}_call(struct stack_model *model, const void *const *in, void *const *out) {{ return stack_run(model, in, out); }}
int {name}_profile(struct stack_model *model, const void *const *in, void *const *out, double *seconds) {{
  return stack_profile(model, in, out, seconds);
}}
"""


def link(name: str, text: str, objects: list[Path], folder: Path, work: Path, runtime: Path = RUNTIME) -> Path:
    """Compile the C side and link everything into `folder`/lib`name`.so, exporting only what starts with `name`_."""
    compiler = str(find_cc())
    main, exports, library = work / f"{name}.c", work / "exports.map", folder / f"lib{name}.so"
    main.write_text(text)
    exports.write_text(f"{{ global: {name}_*; local: *; }};\n")
    command = [
        compiler, "-std=gnu11", "-O2", "-fPIC", "-shared", "-pthread", f"-I{runtime}", f"-I{folder}", "-o", str(library),
        str(main), *map(str, sorted(runtime.glob("*.c"))), *map(str, objects),
        f"-Wl,--version-script={exports}", "-Wl,--build-id=none", "-Wl,-z,noexecstack", "-s", "-lm",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=work)
    if done.returncode:
        raise StackError("the C compiler could not link the library", at=compiler, hint=done.stderr.strip()[-2000:])
    return library
