"""The C text that ties one model to the harness, and the smallest program that runs it.

Inputs and outputs lie in the arena, where the model has them anyway.
"""

from collections.abc import Mapping, Sequence
from typing import Any

GUARD = "0x5AFEC0DEu"


def labels(manifest: Mapping[str, Any], kind: str) -> list[str]:
    """How model.h begins the names of what it says of each input or output: KWS_INPUT, KWS_OUTPUT ..."""
    return [f"{manifest['name'].upper()}_{title.upper()}" for title in manifest[f"{kind}_names"]]


def arguments(manifest: Mapping[str, Any], arena: str) -> str:
    """What the run function is called with where its inputs and outputs lie in the arena."""
    tensors = [*labels(manifest, "input"), *labels(manifest, "output")]
    places = [f"(void *)({arena} + {label}_OFFSET)" for label in tensors]
    return ", ".join([*(["&state"] if manifest["states"] else []), *places, arena])


def binding(manifest: Mapping[str, Any]) -> str:
    """binding.c of the harness (harness.h says what is in it)."""
    name, upper, states = manifest["name"], manifest["name"].upper(), manifest["states"]
    lines = [
        f"/* {name}, as the harness sees it. */",
        '#include "harness.h"',
        '#include "model.h"',
        "",
        "static struct {",
        "    uint32_t before[4];",
        f"    uint8_t bytes[{upper}_ARENA_BYTES + 8] __attribute__((aligned({upper}_ARENA_ALIGN))); /* eight: the guard behind */",
        '} arena __attribute__((section(".arena")));',
        *([f"static struct {name}_state state;"] if states else []),
        "",
        f"const uint32_t model_operators = {len(manifest['operators'])};",
        *table("model_input", labels(manifest, "input"), manifest["inputs"]),
        *table("model_output", labels(manifest, "output"), manifest["outputs"]),
        "",
        f"int model_call(void) {{ return {name}_run({arguments(manifest, 'arena.bytes')}); }}",
        f"void model_restart(void) {{ {f'{name}_reset(&state);' if states else ''} }}",
        "",
        "static uint32_t *behind(void) {",
        f"    return (uint32_t *)(void *)(arena.bytes + (({upper}_ARENA_BYTES + 3) & ~3u));",
        "}",
        f"void model_guard(void) {{ arena.before[3] = *behind() = {GUARD}; }}",
        f"int model_guards_whole(void) {{ return arena.before[3] == {GUARD} && *behind() == {GUARD}; }}",
    ]
    return "\n".join(lines) + "\n"


def table(title: str, labels: Sequence[str], tensors: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [f"    {{arena.bytes + {label}_OFFSET, {tensor_bytes(tensor)}}}," for label, tensor in zip(labels, tensors, strict=True)]
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


def example(manifest: Mapping[str, Any]) -> str:
    """main.c: a program that runs the model over and over, for users to begin with."""
    name, upper, states = manifest["name"], manifest["name"].upper(), manifest["states"]
    lines = [
        f"/* Runs {name} again and again. Put what you measure at {labels(manifest, 'input')[0]}_OFFSET in the arena before each run,",
        f" * and read the result at {labels(manifest, 'output')[0]}_OFFSET after it; model.h says how to scale both. */",
        '#include "model.h"',
        "",
        f'static uint8_t arena[{upper}_ARENA_BYTES] __attribute__((aligned({upper}_ARENA_ALIGN), section(".arena")));',
        *([f"static struct {name}_state state;"] if states else []),
        "",
        "int main(void) {",
        *([f"  {name}_reset(&state);"] if states else []),
        "  for (;;) {",
        f"    if ({name}_run({arguments(manifest, 'arena')})) return 1;",
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"
