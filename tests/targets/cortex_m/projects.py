"""Small C projects written by hand, in the form that the compiler gives them: what the harness and the runner need, and no more."""

import json
from pathlib import Path
from typing import Any

from stack import manifest as manifests

HEADER = """#ifndef TINY_MODEL_H
#define TINY_MODEL_H
#include <stdint.h>
#define TINY_ARENA_BYTES 48
#define TINY_ARENA_ALIGN 16
#define TINY_INPUT_OFFSET 0
#define TINY_OUTPUT_OFFSET 16
{state}
int tiny_run({parameter}const int8_t input[8], int32_t output[4], void *arena);
#endif
"""
STATE = "struct tiny_state { int32_t calls[1]; };\nvoid tiny_reset(struct tiny_state *state);"
SOURCE = """#include "model.h"
#ifdef STACK_PROFILE
void stack_profile_step(int step);
#define STEP(layer) stack_profile_step(layer)
#else
#define STEP(layer) (void)0
#endif
extern const int8_t tiny_w[32];
{reset}
int tiny_run({parameter}const int8_t input[8], int32_t output[4], void *arena) {{
  if (!input || !output || !arena) return 1;
  if ((uintptr_t)arena % 16) return 2;
  for (int o = 0; o < 4; o++) {{
    int32_t sum = 0;
    for (int i = 0; i < 8; i++) sum += tiny_w[8 * o + i] * input[i];
    output[o] = sum;
  }}
  STEP(0);
  {body}
  STEP(1);
  return 0;
}}
"""
WEIGHTS = "#include <stdint.h>\nextern const int8_t tiny_w[32];\nconst int8_t tiny_w[32] = {%s};\n"
VALUES = [(7 * i) % 61 - 30 for i in range(32)]


def write_project(folder: Path, core: str = "cortex-m4", fpu: bool = True, body: str = "", streaming: bool = False) -> dict[str, Any]:
    """A dense layer of 8 inputs and 4 outputs in `folder`, then `body`; returns its manifest. A streaming one adds its call's number."""
    folder.mkdir(parents=True, exist_ok=True)
    parameter = "struct tiny_state *state, " if streaming else ""
    if streaming:
        body += "state->calls[0]++; for (int o = 0; o < 4; o++) output[o] += state->calls[0];"
    reset = "void tiny_reset(struct tiny_state *state) { state->calls[0] = 0; }" if streaming else ""
    (folder / "model.h").write_text(HEADER.format(state=STATE if streaming else "", parameter=parameter))
    (folder / "model.c").write_text(SOURCE.format(reset=reset, parameter=parameter, body=body))
    (folder / "weights.c").write_text(WEIGHTS % ", ".join(map(str, VALUES)))
    return {
        "name": "tiny",
        "target": {"name": core, "family": "cortex_m", "features": [], "codegen": {"kind": "c", "mcpu": core}},
        "machine": {"fpu": fpu},
        "inputs": [{"name": "x", "shape": [1, 8], "dtype": "int8"}],
        "outputs": [{"name": "y", "shape": [1, 4], "dtype": "int32"}],
        "input_names": ["input"],
        "output_names": ["output"],
        "states": [{"name": "calls", "shape": [1], "dtype": "int32"}] if streaming else [],
        "arena_bytes": 48,
        "arenas": [{"parameter": "arena", "bytes": 48, "memory": None}],
        "weight_bytes": 32,
        "operators": [
            {"kernel": "dense", "rule": "hand", "shapes": "[1,8] -> [1,4]", "macs": 32},
            {"kernel": "body", "rule": "hand", "shapes": "", "macs": 0},
        ],
        "files": {},
    }


def save_project(folder: Path, **more: Any) -> Path:
    """As `write_project`, with the manifest that makes the folder a library."""
    manifest = write_project(folder, **more)
    files = {file.name: manifests.sha256(file) for file in folder.iterdir()}
    manifest = {"format": manifests.FORMAT, "container": "c", "versions": {"stack-compiler": "0"}, **manifest, "files": files}
    (folder / manifests.NAME).write_text(json.dumps(manifest))
    return folder
