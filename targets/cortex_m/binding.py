"""The C text that ties one model to the harness, and the smallest program that runs it.

Inputs and outputs lie in the arena, where the model has them anyway; where it has several arenas, beside them.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from targets.cortex_m.board import Board

GUARD = "0x5AFEC0DEu"


def labels(manifest: Mapping[str, Any], kind: str) -> list[str]:
    """How model.h begins the names of what it says of each input or output: KWS_INPUT, KWS_OUTPUT ..."""
    return [f"{manifest['name'].upper()}_{title.upper()}" for title in manifest[f"{kind}_names"]]


def tensors(manifest: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """Of each input, then each output: its label, where it lies in memory, and its bytes."""
    sizes = [tensor_bytes(tensor) for kind in ("inputs", "outputs") for tensor in manifest[kind]]
    titles = [*labels(manifest, "input"), *labels(manifest, "output")]
    own = len(manifest["arenas"]) > 1
    return [(title, title.lower() if own else f"arena + {title}_OFFSET", size) for title, size in zip(titles, sizes, strict=True)]


def variables(manifest: Mapping[str, Any], board: Board) -> list[str]:
    """The caller's memory: arenas, each in the memory that it was planned for; a state; inputs and outputs that lie in no arena."""
    name, align = manifest["name"], f"aligned({manifest['name'].upper()}_ARENA_ALIGN)"
    further = {memory.name for memory in board.memories("ram")[1:]}
    made = []
    for arena in manifest["arenas"]:
        section = f".{arena['memory']}" if arena["memory"] in further else ".arena"
        size = f"{name.upper()}_{arena['parameter'].upper()}_BYTES"
        made.append(f'static uint8_t {arena["parameter"]}[{size} + SPARE] __attribute__(({align}, section("{section}")));')
    if manifest["states"]:
        made.append(f"static struct {name}_state state;")
    if len(made) - len(manifest["states"][:1]) > 1:
        made += [f"static uint8_t {place}[{size}] __attribute__(({align}));" for _, place, size in tensors(manifest)]
    return made


def call(manifest: Mapping[str, Any]) -> str:
    """The run function, called."""
    places = [f"(void *)({place})" for _, place, _ in tensors(manifest)]
    arenas = [arena["parameter"] for arena in manifest["arenas"]]
    return f"{manifest['name']}_run({', '.join([*(['&state'] if manifest['states'] else []), *places, *arenas])})"


def binding(manifest: Mapping[str, Any], board: Board) -> str:
    """binding.c of the harness (harness.h says what is in it)."""
    name, upper = manifest["name"], manifest["name"].upper()
    behind = [f"{arena['parameter']} + {upper}_{arena['parameter'].upper()}_BYTES" for arena in manifest["arenas"]]
    places = tensors(manifest)
    inputs, outputs = places[: len(manifest["inputs"])], places[len(manifest["inputs"]) :]
    lines = [
        f"/* {name}, as the harness sees it. */",
        "#include <string.h>",
        "",
        '#include "harness.h"',
        '#include "model.h"',
        "",
        "#define SPARE 16 /* bytes behind each arena that the model may not touch */",
        *variables(manifest, board),
        "",
        f"const uint32_t model_identity = {identity(manifest):#x}u;",
        f"const uint32_t model_operators = {len(manifest['operators'])};",
        *table("model_input", inputs),
        *table("model_output", outputs),
        "",
        f"int model_call(void) {{ return {call(manifest)}; }}",
        f"void model_restart(void) {{ {f'{name}_reset(&state);' if manifest['states'] else ''} }}",
        "",
        f"static uint8_t *const guards[] = {{{', '.join(behind)}}};",
        f"static const uint32_t guard[4] = {{{', '.join([GUARD] * 4)}}};",
        "void model_guard(void) {",
        "    for (uint32_t i = 0; i < sizeof guards / sizeof *guards; i++)",
        "        memcpy(guards[i], guard, sizeof guard);",
        "}",
        "int model_guards_whole(void) {",
        "    int whole = 1;",
        "    for (uint32_t i = 0; i < sizeof guards / sizeof *guards; i++)",
        "        whole &= !memcmp(guards[i], guard, sizeof guard);",
        "    return whole;",
        "}",
    ]
    return "\n".join(lines) + "\n"


def identity(manifest: Mapping[str, Any]) -> int:
    """A number by which a device says which model it has, so that a firmware of an older one is not taken for it."""
    hashes = [digest for name, digest in sorted(manifest["files"].items()) if name in ("model.h", "model.c", "weights.c")]
    return zlib.crc32("".join(hashes).encode())


def table(title: str, tensors: Sequence[tuple[str, str, int]]) -> list[str]:
    rows = [f"    {{{place}, {size}}}," for _, place, size in tensors]
    return [f"const struct buffer {title}s[] = {{", *rows, "};", f"const uint32_t {title}_count = {len(rows)};"]


def tensor_bytes(tensor: Mapping[str, Any]) -> int:
    size = ITEM_BYTES[tensor["dtype"]]
    for extent in tensor["shape"]:
        size *= extent
    return size


ITEM_BYTES = {
    **dict.fromkeys(("bool", "int8", "uint8"), 1),
    **dict.fromkeys(("int16", "uint16", "float16"), 2),
    **dict.fromkeys(("int32", "uint32", "float32"), 4),
    **dict.fromkeys(("int64", "uint64", "float64"), 8),
}


def example(manifest: Mapping[str, Any], board: Board) -> str:
    """main.c: a program that runs the model over and over, for users to begin with."""
    name = manifest["name"]
    places = [place for _, place, _ in tensors(manifest)]
    first_input, first_output = places[0], places[len(manifest["inputs"])]
    lines = [
        f"/* Runs {name} again and again. Put what you measure at {first_input} before each run, and read the result at",
        f" * {first_output} after it; model.h says how to scale both. */",
        '#include "model.h"',
        "",
        *[line.replace(" + SPARE]", "]") for line in variables(manifest, board)],
        "",
        "int main(void) {",
        *([f"  {name}_reset(&state);"] if manifest["states"] else []),
        "  for (;;) {",
        f"    if ({call(manifest)}) return 1;",
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"
