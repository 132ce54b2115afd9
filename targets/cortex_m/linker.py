"""A linker script from a board's memories.

The program goes to the first memory of kind flash, variables to the first of kind ram, the stack to that one's end. The model's weights and
its arena have sections of their own, so that their sizes can be read from the ELF file. A variable with the attribute
`section(".NAME")` goes to the further memory NAME: constants where that is flash, variables that begin undefined where it is ram.
"""

from collections.abc import Sequence

from stack.errors import StackError
from targets.target import Memory

STACK_BYTES = 2048  # that a firmware must leave free at the end of its RAM

SCRIPT = """/* The memories of {board}, and what goes where. */
MEMORY
{{
{memories}
}}

ENTRY(Reset_Handler)

SECTIONS
{{
{first}    .text :
    {{
        KEEP(*(.vectors))
        *(EXCLUDE_FILE(*weights.o *weights.c.obj *weights.c.o) .text*)
        *(EXCLUDE_FILE(*weights.o *weights.c.obj *weights.c.o) .rodata*)
        KEEP(*(.init)) KEEP(*(.fini))
        . = ALIGN(4);
    }} > {flash}

    .weights : ALIGN(16)
    {{
        *(.rodata* .weights*)
        . = ALIGN(4);
    }} > {flash}

    .ARM.exidx : {{ *(.ARM.exidx*) }} > {flash}

    .data : ALIGN(4)
    {{
        stack_data_start = .;
        *(.data*)
        . = ALIGN(4);
        stack_data_end = .;
    }} > {ram} AT> {flash}
    stack_data_load = LOADADDR(.data);

    .bss (NOLOAD) : ALIGN(4)
    {{
        stack_bss_start = .;
        *(.bss*) *(COMMON)
        . = ALIGN(4);
        stack_bss_end = .;
    }} > {ram}

    .arena (NOLOAD) : ALIGN(16) {{ *(.arena*) . = ALIGN(8); }} > {ram}
    stack_limit = .;
    end = .;
    stack_top = ORIGIN({ram}) + LENGTH({ram});
    ASSERT(stack_top - stack_limit >= {stack}, "fewer than {stack} bytes are left for the stack")
{further}}}
"""


def script(board: str, memories: Sequence[Memory], first: str = "") -> str:
    """The script for `board`; `first` is a section at the very beginning of flash. StackError where it has no flash or no RAM."""
    flash = [memory for memory in memories if memory.kind == "flash"]
    ram = [memory for memory in memories if memory.kind == "ram"]
    if not (flash and ram):
        raise StackError(
            f"the board '{board}' has no memory of kind '{'ram' if flash else 'flash'}'",
            hint="its board file needs a [[memory]] of kind 'flash' and one of kind 'ram'",
        )
    attributes = {"flash": "rx", "ram": "rwx"}
    further = [f"    .{m.name} : ALIGN(16) {{ *(.{m.name}*) }} > {m.name}\n" for m in flash[1:]]
    further += [f"    .{m.name} (NOLOAD) : ALIGN(16) {{ *(.{m.name}*) }} > {m.name}\n" for m in ram[1:]]
    return SCRIPT.format(
        board=board,
        memories="\n".join(f"    {m.name} ({attributes[m.kind]}) : ORIGIN = {m.base:#010x}, LENGTH = {m.bytes}" for m in memories),
        flash=flash[0].name,
        ram=ram[0].name,
        stack=STACK_BYTES,
        first=first,
        further="".join(further),
    )
