"""Put the buffers and constants of a network into the memories of a board, the hot ones into the fast ones.

    rams [dtcm 64 KiB, sram 256 KiB], arena of 90 KiB   ->   arena 0 (dtcm): all but what is touched least a byte; arena 1 (sram): that

Where only the core is known there is one arena and one flash, of any size. A network that does not fit is refused here, before any compiler
runs, with the layer that needs most.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from stack.emit.arena import ON_STACK, Buffer, place
from stack.emit.c_network import Layer, Network, Operand, Weight
from stack.emit.c_report import peak_step
from stack.errors import DoesNotFit
from targets.target import Memory

ARENA_ALIGN = 16
STACK = 2048  # bytes kept free in each RAM, for the stack and the C library
SCRATCH = 512  # bytes of scratch memory that one kernel may have on the stack
CODE = 4096  # bytes kept free in the first flash, for start-up code and functions at the least


@dataclass(frozen=True)
class Placement:
    """`arenas` holds the bytes of each arena; `rams` and `flashes` the memories they and the constants are for, where those are known.

    `stack` is how many bytes of the stack kernels use as scratch memory.
    """

    arenas: Sequence[int]
    stack: int
    rams: Sequence[Memory] = field(default=())
    flashes: Sequence[Memory] = field(default=())


def place_network(network: Network, memories: Sequence[Memory], board: str) -> Placement:
    """Set memory and offset of every buffer, and the memory of every constant; DoesNotFit where the board called `board` is too small."""
    stack = scratch_on_stack(network)
    rams, flashes = (sorted((m for m in memories if m.kind == kind), key=lambda m: (-m.speed, -m.bytes)) for kind in ("ram", "flash"))
    if not rams:
        return Placement([arena(network, 0)], stack)
    arenas = place_buffers(network, rams, board)
    place_weights(network, flashes, board)
    return Placement(arenas, stack, rams[: len(arenas)], flashes)


def scratch_on_stack(network: Network) -> int:
    """Move small scratch buffers to the stack where that makes the arena smaller; the bytes they need there."""
    small = [buffer for buffer in network.buffers if buffer.scratch and buffer.bytes <= SCRATCH]
    before = arena(network, 0)
    for buffer in small:
        buffer.memory = ON_STACK
    if small and arena(network, 0) < before:
        return max(buffer.bytes for buffer in small)
    for buffer in small:
        buffer.memory = 0
    return 0


def arena(network: Network, memory: int) -> int:
    """Place all buffers of one memory; its bytes, rounded up so that arenas may follow each other."""
    here = [buffer for buffer in network.buffers if buffer.memory == memory]
    overlaps = [o for o in network.overlaps if o.over.memory == o.under.memory == memory]
    return -(-place(here, overlaps) // ARENA_ALIGN) * ARENA_ALIGN


def touches(network: Network, operand: Operand) -> float:
    """How often an average byte of `operand` is read or written: work of its layers over its size."""
    work = sum(max(layer.macs, 1) for layer in network.layers if any(other is operand for other in layer.operands))
    return work / max(operand.bytes if not isinstance(operand, Weight) else operand.array.nbytes, 1)


def place_buffers(network: Network, rams: Sequence[Memory], board: str) -> list[int]:
    """The arenas in order. What overflows one goes to the next: of the buffers alive at its peak, the one touched least a byte."""
    states = sum(state.initial.nbytes for state in network.states)
    arenas: list[int] = []
    for memory, ram in enumerate(rams):
        room = ram.bytes - STACK - (states if memory == 0 else 0)
        while (needed := arena(network, memory)) > room:
            coldest = min(alive_at_peak(network, memory), key=lambda buffer: touches(network, buffer))
            if memory + 1 == len(rams):
                there = sum(m.bytes - STACK for m in rams) - states
                raise does_not_fit("RAM", sum(arenas) + needed, there, board, blame(network, memory))
            coldest.memory = memory + 1
        arenas.append(needed)
        if not any(buffer.memory > memory for buffer in network.buffers):
            break
    return arenas


def alive_at_peak(network: Network, memory: int) -> list[Buffer]:
    here = [buffer for buffer in network.buffers if buffer.memory == memory]
    top = max(here, key=lambda buffer: buffer.offset + buffer.bytes)
    return [buffer for buffer in here if buffer.meets(top)]


def place_weights(network: Network, flashes: Sequence[Memory], board: str) -> None:
    """The constants with the most work a byte into the first flash, until it is full."""
    free = [flash.bytes - (CODE if index == 0 else 0) for index, flash in enumerate(flashes)]
    for weight in sorted(network.weights, key=lambda weight: -touches(network, weight)):
        weight.memory = next((index for index, room in enumerate(free) if weight.array.nbytes <= room), -1)
        if weight.memory < 0:
            layer = max(network.layers, key=lambda layer: layer.weight_bytes)
            needed = sum(weight.array.nbytes for weight in network.weights) + CODE
            largest = f"{title(network, layer)} has {layer.weight_bytes:,} bytes of weights"
            raise does_not_fit("flash", needed, sum(flash.bytes for flash in flashes), board, largest)
        free[weight.memory] -= weight.array.nbytes


def title(network: Network, layer: Layer) -> str:
    return f"layer {network.layers.index(layer) + 1}, {layer.kernel or 'copy'} {layer.shapes}".rstrip()


def blame(network: Network, memory: int) -> str:
    """The layer at the arena's peak, and what it holds."""
    here = [buffer for buffer in network.buffers if buffer.memory == memory]
    step = peak_step([asdict(buffer) for buffer in here], len(network.layers))
    live = sorted((buffer for buffer in here if buffer.first <= step <= buffer.last), key=lambda buffer: -buffer.bytes)
    parts = ", ".join(f"{buffer.name} {buffer.bytes:,}" for buffer in live)
    return f"{title(network, network.layers[step])} needs {parts}"


def does_not_fit(kind: str, needed: int, there: int, board: str, cause: str) -> DoesNotFit:
    return DoesNotFit(
        f"the model needs {needed:,} bytes of {kind}, and {board} has {there:,} for it",
        at=cause,
        hint="use a smaller model or input, or a board with more memory; `stackc boards` lists them",
    )
