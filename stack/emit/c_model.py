"""The C text of a network: model.h, model.c and weights.c.

model.c holds one function a program, headed by the layers that it computes, and the function that calls them in order over one arena.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import tvm
from tvm import tirx

from schedules import integer
from schedules.mcu.intrinsics import used
from stack.emit.arena import ON_STACK, Buffer
from stack.emit.c_network import Held, Layer, Network, Operand, Weight
from stack.emit.native import C_TYPES, c_name
from stack.emit.placement import ARENA_ALIGN, Placement
from stack.frontends.model import Signature
from stack.manifest import Tensor

COLUMNS = 120  # of a line of weights.c


def count(tensor: Tensor) -> int:
    return int(np.prod(tensor.shape, dtype=np.int64))


def identifiers(tensors: Sequence[Tensor], kind: str) -> list[str]:
    """C names of inputs or outputs: `input` where there is one, otherwise their own names made distinct."""
    if len(tensors) == 1:
        return [kind]
    names = [c_name(tensor.name).lower() for tensor in tensors]
    return [name if names.count(name) == 1 else f"{kind}_{index}" for index, name in enumerate(names)]


def arena_names(placement: Placement) -> list[str]:
    """The parameters for arenas: `arena`, then one named after each further memory."""
    further = placement.rams[1 : len(placement.arenas)]
    return ["arena", *[f"arena_{c_name(ram.name).lower()}" for ram in further]]


def parameters(name: str, network: Network, placement: Placement) -> list[str]:
    """Of the run function: state, inputs, outputs, arenas."""
    made = [f"struct {name}_state *state"] if network.states else []
    pairs = zip(network.inputs, identifiers(network.inputs, "input"), strict=True)
    made += [f"const {C_TYPES[tensor.dtype]} {title}[{count(tensor)}]" for tensor, title in pairs]
    pairs = zip(network.outputs, identifiers(network.outputs, "output"), strict=True)
    made += [f"{C_TYPES[tensor.dtype]} {title}[{count(tensor)}]" for tensor, title in pairs]
    return [*made, *[f"void *{title}" for title in arena_names(placement)]]


def header(name: str, network: Network, placement: Placement, signature: Signature, target: str) -> str:
    upper = name.upper()
    guard = f"{upper}_MODEL_H"
    lines = [
        f"/* {name}, compiled by Stack for {target}. */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "#include <stdint.h>",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        *arena_sizes(upper, placement),
        f"#define {upper}_ARENA_ALIGN {ARENA_ALIGN}",
        "",
    ]
    for kind, tensors, buffers in (
        ("input", network.inputs, network.input_buffers),
        ("output", network.outputs, network.output_buffers),
    ):
        for tensor, title, buffer in zip(tensors, identifiers(tensors, kind), buffers, strict=True):
            label = f"{upper}_{title.upper()}"
            lines.append(f"/* {kind} '{tensor.name}': {C_TYPES[tensor.dtype]} {list(tensor.shape)} */")
            lines.append(f"#define {label}_SIZE {count(tensor)}")
            lines.append(f"#define {label}_OFFSET {buffer.offset} /* its place in the arena: pass that address, and nothing is copied */")
            if quantization := signature.quantization.get(tensor.name):
                lines.append(f"#define {label}_SCALE {np.float32(quantization.scale)!s}f /* real = (value - zero point) * scale */")
                lines.append(f"#define {label}_ZERO_POINT {quantization.zero_point}")
    if network.states:
        lines += ["", "/* What the network keeps from call to call. */", f"struct {name}_state {{"]
        for title, held in state_fields(network):
            lines.append(f"  {C_TYPES[str(held.initial.dtype)]} {title}[{max(held.initial.size, 1)}]; /* {held.name} */")
        lines += ["};", "", "/* Call it before the first run, and to start anew. */", f"void {name}_reset(struct {name}_state *state);"]
    lines += [
        "",
        f"enum {{ {upper}_OK = 0, {upper}_NULL_POINTER = 1, {upper}_ARENA_NOT_ALIGNED = 2 }};",
        "",
        "/* Runs the network once; returns one of the above. All memory it writes is the outputs, the arena"
        + (" and the state" if network.states else "")
        + ": it is reentrant. */",
        f"int {name}_run({', '.join(parameters(name, network, placement))});",
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "#endif",
    ]
    return "\n".join(lines) + "\n"


def arena_sizes(upper: str, placement: Placement) -> list[str]:
    lines = [f"#define {upper}_ARENA_BYTES {placement.arenas[0]} /* inputs and outputs included */"]
    for title, size, ram in zip(arena_names(placement)[1:], placement.arenas[1:], placement.rams[1:], strict=True):
        lines.append(f"#define {upper}_{title.upper()}_BYTES {size} /* for memory that is slower than the first arena's: {ram.name} */")
    return lines


def state_fields(network: Network) -> list[tuple[str, tvm.runtime.Object]]:
    return [(f"s{index}_{c_name(state.name).lower()}"[:60], state) for index, state in enumerate(network.states)]


def heading(program: tirx.PrimFunc, layers: list[tuple[int, Layer]]) -> str:
    """The comment above a function: which layers it computes, their shapes and work, and how it was scheduled."""
    numbers = ", ".join(str(index + 1) for index, _ in layers)
    text = f"layer{'s' if len(layers) > 1 else ''} {numbers}: {layers[0][1].shapes}"
    op = integer.read(program)
    for half in () if op is None else op.parts:
        window = f"{half.kernel_h}x{half.kernel_w} filters, strides {list(half.strides)}, padding {list(half.pad)}"
        text += f"\n   {window}, {half.macs:,} MACs"
    decision = str(program.attrs["stack.decision"])
    return f"/* {text}\n   rule {program.attrs['stack.rule']}{'' if decision == '{}' else f' {decision}'} */"


def place(operand: Operand, fields: Mapping[str, str]) -> str:
    if isinstance(operand, Weight):
        return operand.name
    if isinstance(operand, Held):
        return f"state->{fields[operand.state.name]}"
    if operand.memory == ON_STACK:
        return "(void *)scratch"
    return f"a{operand.memory or ''} + {operand.offset}"


def call(layer: Layer, fields: Mapping[str, str]) -> str:
    places = [place(operand, fields) for operand in layer.operands]
    if layer.kernel is None:
        _, to = layer.operands
        size = to.bytes if isinstance(to, (Buffer, Held)) else to.array.nbytes
        return f"memmove({places[1]}, {places[0]}, {size});"
    pointers = [f"(void *)({text})" if " + " in text else text for text in places]
    return f"{layer.kernel}({', '.join(pointers)});"


def source(name: str, network: Network, placement: Placement, programs: Mapping[str, tirx.PrimFunc], target: str) -> str:
    by_kernel: dict[str, list[tuple[int, Layer]]] = {}
    for index, layer in enumerate(network.layers):
        if layer.kernel:
            by_kernel.setdefault(layer.kernel, []).append((index, layer))
    definitions = {kernel: definition(kernel, programs[kernel]) for kernel in by_kernel}
    headers = sorted({str(programs[kernel].attrs["stack.include"]) for kernel in by_kernel if "stack.include" in programs[kernel].attrs})
    blocks = [
        f"/* {name}, compiled by Stack for {target}. Do not edit: made by `stackc compile`. */\n"
        '#include "model.h"\n\n#include <math.h>\n#include <stdbool.h>\n#include <stddef.h>\n#include <string.h>'
        + "".join(f'\n\n#include "{header}"' for header in headers),
        "#ifdef STACK_PROFILE\nvoid stack_profile_step(int step); /* called after each layer */\n"
        "#define STEP(layer) stack_profile_step(layer)\n#else\n#define STEP(layer) (void)0\n#endif",
    ]
    if network.weights:
        blocks.append("\n".join(f"extern {declaration(weight)};" for weight in network.weights))
    blocks += inline_functions(used(definitions.values()))
    for kernel, layers in by_kernel.items():
        blocks.append(heading(programs[kernel], layers) + "\n" + definitions[kernel])
    fields = {state.name: title for title, state in state_fields(network)}
    if network.states:
        blocks.append(reset(name, network))
    blocks.append(run_function(name, network, placement, fields))
    return "\n\n".join(blocks) + "\n"


def definition(kernel: str, program: tirx.PrimFunc) -> str:
    """The function of a program. Inlined, the variables of all layers would lie on the stack at once."""
    text = str(program.attrs["stack.c"]).replace("KERNEL", kernel).strip()
    return re.sub(rf"^static void (?={kernel}\w*\()", "__attribute__((noinline)) static void ", text, flags=re.MULTILINE)


def inline_functions(texts: Sequence[str]) -> list[str]:
    """The definitions of intrinsics. Some are called in portable branches alone, which is no reason to warn."""
    if not texts:
        return []
    return ["#define INLINE static inline __attribute__((unused))", *[text.replace("static inline", "INLINE") for text in texts]]


def reset(name: str, network: Network) -> str:
    lines = [f"void {name}_reset(struct {name}_state *state) {{"]
    for title, state in state_fields(network):
        values = np.asarray(state.initial).reshape(-1)
        if not values.any():
            lines.append(f"  memset(state->{title}, 0, sizeof state->{title});")
        elif (values == values[0]).all():
            lines.append(f"  for (size_t i = 0; i < {values.size}; i++) state->{title}[i] = {values[0]};")
        else:
            listed = ", ".join(map(str, values))
            lines.append(f"  static const {C_TYPES[str(values.dtype)]} {title}[] = {{{listed}}};")
            lines.append(f"  memcpy(state->{title}, {title}, sizeof {title});")
    return "\n".join([*lines, "}"])


def run_function(name: str, network: Network, placement: Placement, fields: Mapping[str, str]) -> str:
    inputs, outputs = identifiers(network.inputs, "input"), identifiers(network.outputs, "output")
    arenas = arena_names(placement)
    pointers = [*(["state"] if network.states else []), *inputs, *outputs, *arenas]
    unaligned = " || ".join(f"(uintptr_t){title} % {name.upper()}_ARENA_ALIGN" for title in arenas)
    lines = [
        f"int {name}_run({', '.join(parameters(name, network, placement))}) {{",
        f"  if ({' || '.join(f'!{pointer}' for pointer in pointers)}) return {name.upper()}_NULL_POINTER;",
        f"  if ({unaligned}) return {name.upper()}_ARENA_NOT_ALIGNED;",
        *[f"  char *a{index or ''} = {title};" for index, title in enumerate(arenas)],
    ]
    if placement.stack:
        lines.append(f"  uint64_t scratch[{-(-placement.stack // 8)}];")
    for title, buffer in zip(inputs, network.input_buffers, strict=True):
        here = place(buffer, fields)
        lines.append(f"  if ((const void *){title} != {here}) memmove({here}, {title}, {buffer.bytes});")
    for index, layer in enumerate(network.layers):
        lines.append(f"  {call(layer, fields)}")
        lines.append(f"  STEP({index});")
    for title, buffer in zip(outputs, network.output_buffers, strict=True):
        here = place(buffer, fields)
        lines.append(f"  if ((void *){title} != {here}) memmove({title}, {here}, {buffer.bytes});")
    return "\n".join([*lines, f"  return {name.upper()}_OK;", "}"])


def declaration(weight: Weight) -> str:
    return f"const {C_TYPES[str(weight.array.dtype)]} {weight.name}[{max(weight.array.size, 1)}]"


def weights(name: str, network: Network, placement: Placement) -> str:
    """weights.c: every constant, in flash; what is for a further flash in a section of that name."""
    blocks = [f"/* Constants of {name}, packed for its kernels. */\n#include <stdint.h>"]
    for weight in network.weights:
        section = f', section(".{c_name(placement.flashes[weight.memory].name)}")' if weight.memory else ""
        declared = declaration(weight)
        blocks.append(f"extern {declared};\n{declared} __attribute__((aligned(4){section})) = {{\n{values(weight.array)}\n}};")
    return "\n\n".join(blocks) + "\n"


def values(array: np.ndarray) -> str:
    """The elements in lines of equal length."""
    flat = array.reshape(-1)
    texts = [literal(value) for value in flat.tolist()] if array.dtype.kind != "f" else [repr(float(v)) + "f" for v in flat]
    width = max((len(text) for text in texts), default=1) + 1
    per_line = max(COLUMNS // width, 1)
    return ",\n".join(",".join(texts[start : start + per_line]) for start in range(0, len(texts), per_line))


def literal(value: int) -> str:
    """-2147483648 is no literal of C: it is the negation of one that no int holds."""
    return "(-2147483647-1)" if value == -(1 << 31) else str(int(value))
