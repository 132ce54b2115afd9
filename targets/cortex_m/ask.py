"""Questions to a C library, answered on the core itself, in QEMU: what it says there may differ from what it says elsewhere.

    ask(target, ["  return arm_..._get_buffer_size(...);", ...], "cmsis_nn/arm_nnfunctions.h", files) -> [1024, ...]

The questions are the body of a "network" without inputs, whose output are the answers.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from targets.cortex_m.board import board_of
from targets.cortex_m.runner import open_runner
from targets.target import Target

HEADER = """#ifndef ASK_MODEL_H
#define ASK_MODEL_H
#include <stdint.h>
#define ASK_ARENA_BYTES {bytes}
#define ASK_ARENA_ALIGN 16
#define ASK_OUTPUT_OFFSET 0
int ask_run(int32_t output[{count}], void *arena);
#endif
"""
RUN = """int ask_run(int32_t output[{count}], void *arena) {{
  (void)arena;
{calls}
  return 0;
}}
"""


def core_of(target: Target) -> Target:
    """`target` as QEMU can stand in for it: its core, without its memories."""
    return replace(target, name=board_of(target).core, memory=(), board={})


def ask(target: Target, questions: Sequence[str], include: str, files: Mapping[str, str]) -> list[int]:
    """The int32 that each of `questions`, the body of a C function, returns on the core of `target`; `files` are the library's."""
    count = len(questions)
    functions = [f"static int32_t question{index}(void) {{\n{body}\n}}" for index, body in enumerate(questions)]
    run = RUN.format(count=count, calls="\n".join(f"  output[{index}] = question{index}();" for index in range(count)))
    made = {
        "model.h": HEADER.format(bytes=-(-4 * count // 16) * 16, count=count),
        "model.c": "\n\n".join([f'#include "model.h"\n\n#include "{include}"', *functions, run]),
        "weights.c": "extern const char ask_nothing;\nconst char ask_nothing = 0;\n",
        **files,
    }
    with tempfile.TemporaryDirectory(prefix="stack-ask-") as work:
        for title, text in made.items():
            file = Path(work, title)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        runner = open_runner(Path(work), manifest(target, count, files))
        try:
            (answers,) = runner.run_many([[]])[0]
        finally:
            runner.close()
    return [int(answer) for answer in answers]


def manifest(target: Target, count: int, files: Mapping[str, str]) -> dict[str, Any]:
    """What the runner needs to know of that network."""
    core = core_of(target)
    return {
        "name": "ask",
        "target": {"name": core.name, "codegen": dict(core.codegen)},
        "machine": asdict(core.machine),
        "inputs": [],
        "outputs": [{"name": "answers", "shape": [count], "dtype": "int32"}],
        "input_names": [],
        "output_names": ["output"],
        "states": [],
        "arena_bytes": 4 * count,
        "arenas": [{"parameter": "arena", "bytes": 4 * count, "memory": None}],
        "operators": [],
        "library_sources": sorted(title for title in files if title.endswith(".c")),
        "files": {},
    }
