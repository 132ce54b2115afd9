"""Fuse a depthwise convolution with the 1x1 convolution after it, where that makes the arena smaller.

in:  IRModule, Relax main that calls unscheduled programs
out: the same, with some pairs of calls as one; unchanged where no fusion lowers the peak

The graph asks the kernels: each candidate is scheduled and placed as the emitter will place it, and the bytes of its arena decide. Only the
pairs at work when the arena is fullest can matter, so a network takes one or two trials.
"""

from collections.abc import Sequence

import tvm

from relay_passes.integers.fuse_rows import Pair, calls, fuse, pairs
from schedules.apply import schedule
from schedules.machine import Machine
from schedules.rule import Rule
from stack.emit.c_network import Network, is_reshape, read_network
from stack.emit.c_printer import print_kernels
from stack.emit.placement import place_network
from stack.frontends.model import Signature

WORTH = 0.99  # of the arena before: a fusion costs instructions, so that it must save something


def lower_peak(module: tvm.IRModule, signature: Signature, rules: Sequence[Rule], machine: Machine) -> tvm.IRModule:
    """`module` after the fusions that pay, one at a time."""
    while candidates := pairs(module):
        network, size = placed(module, signature, rules, machine)
        busy = [pair for pair in candidates if at_peak(pair, module, network)]
        smaller = (fused for pair in busy if placed(fused := fuse(module, pair), signature, rules, machine)[1] < WORTH * size)
        found = next(smaller, None)
        if found is None:
            return module
        module = found
    return module


def placed(module: tvm.IRModule, signature: Signature, rules: Sequence[Rule], machine: Machine) -> tuple[Network, int]:
    """The network as it would be emitted for one memory of any size, and the bytes of its arena."""
    network = read_network(print_kernels(schedule(module, rules, machine)), signature, "model")
    return network, sum(place_network(network, [], "").arenas)


def at_peak(pair: Pair, module: tvm.IRModule, network: Network) -> bool:
    """Whether one of the pair runs while the highest bytes of the arena are in use."""
    top = max(network.buffers, key=lambda buffer: buffer.offset + buffer.bytes)
    kept = [index for index, call in enumerate(calls(module["main"])) if not is_reshape(call, module)]
    return any(top.first <= kept.index(position) <= top.last for position in (pair.first, pair.second))
