"""Fuse a depthwise convolution with the 1x1 convolution after it, where that makes the arena smaller.

in:  IRModule, Relax main that calls unscheduled programs
out: the same, with some pairs of calls as one; unchanged where no fusion lowers the peak

The graph asks the kernels: each candidate is scheduled and placed as the emitter will place it, and the bytes of its arena decide. Only the
pairs at work when the arena is fullest can matter, so a network takes one or two trials.

A fusion costs instructions, for it copies rows and reads weights for each band again. Where the board has room for the pair as it is, that
is a choice, `rows/0` ...: "fused", or "separate" for speed. There is none the other way: no pair was found to be quicker fused.
"""

from collections.abc import Sequence

import tvm

from relay_passes.choices import Choices
from relay_passes.integers.fuse_rows import Pair, calls, fuse, pairs
from schedules.apply import schedule
from schedules.machine import Machine
from schedules.rule import Rule
from stack.emit.c_network import Network, is_reshape, read_network
from stack.emit.c_printer import print_kernels
from stack.emit.placement import place_network
from stack.errors import DoesNotFit
from stack.frontends.model import Signature
from targets.target import Target

WORTH = 0.99  # of the arena before: a fusion costs instructions, so that it must save something


def lower_peak(module: tvm.IRModule, signature: Signature, target: Target, rules: Sequence[Rule], choices: Choices) -> tvm.IRModule:
    """`module` after the fusions that pay, one at a time, less those that were decided against."""
    machine = target.machine
    while candidates := pairs(module):
        network, size = placed(module, signature, rules, machine)
        busy = [pair for pair in candidates if at_peak(pair, module, network)]
        smaller = (fused for pair in busy if placed(fused := fuse(module, pair), signature, rules, machine)[1] < WORTH * size)
        found = next(smaller, None)
        if found is None or (has_room(network, target) and choices.choose("rows", ("fused", "separate")) == "separate"):
            return module  # the peak stays where it is, and no other fusion can lower it
        module = found
    return module


def has_room(network: Network, target: Target) -> bool:
    """Whether the target is a board whose quickest RAM holds the arena of `network`."""
    try:
        return bool(target.memory) and len(place_network(network, target.memory, target.name).arenas) == 1
    except DoesNotFit:
        return False


def placed(module: tvm.IRModule, signature: Signature, rules: Sequence[Rule], machine: Machine) -> tuple[Network, int]:
    """The network as it would be emitted for one memory of any size, and the bytes of its arena."""
    network = read_network(print_kernels(schedule(module, rules, machine)), signature, "model")
    return network, sum(place_network(network, [], "").arenas)


def at_peak(pair: Pair, module: tvm.IRModule, network: Network) -> bool:
    """Whether one of the pair runs while the highest bytes of the arena are in use."""
    top = max(network.buffers, key=lambda buffer: buffer.offset + buffer.bytes)
    kept = [index for index, call in enumerate(calls(module["main"])) if not is_reshape(call, module)]
    return any(top.first <= kept.index(position) <= top.last for position in (pair.first, pair.second))
