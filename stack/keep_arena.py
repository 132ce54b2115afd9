"""Take back decisions for which a microcontroller has no room.

in:  Relax main that calls unscheduled programs, the same scheduled as was decided, and who decided
out: the latter, or where its arena is larger than with the defaults, and no board has room for that, scheduled again with fewer decisions

Decisions are made for speed alone, and a quicker kernel may ask for more scratch memory, or for its output to lie apart from its input.
Only such decisions are looked at, so that nothing is spent where there are none; those that ask for most go first.
"""

import json
from collections.abc import Mapping, Sequence
from math import inf

import tvm
from tvm import tirx

from schedules.apply import schedule
from schedules.rule import Rule, first_space
from stack.decide import Decisions
from stack.emit.c_network import read_network
from stack.emit.c_printer import print_kernel, print_kernels
from stack.emit.placement import place_network
from stack.errors import DoesNotFit
from stack.frontends.model import Signature
from targets.target import Target


def keep_arena(
    module: tvm.IRModule, scheduled: tvm.IRModule, signature: Signature, target: Target, rules: Sequence[Rule], decisions: Decisions
) -> tvm.IRModule:
    programs = by_extra(module, scheduled, target, rules, decisions)
    if not programs:
        return scheduled

    def again(kept: int) -> tvm.IRModule:
        decisions.withdrawn = set(programs[kept:])
        return schedule(module, rules, target.machine, decide=decisions)

    plain = again(0)
    most = needed(plain, signature, target)
    if needed(scheduled, signature, target) <= most:
        return again(len(programs))
    few, many = 0, len(programs)  # so many fit, so many do not
    while many - few > 1:
        middle = (few + many) // 2
        if needed(again(middle), signature, target) <= most:
            few = middle
        else:
            many = middle
    return again(few)


def by_extra(
    module: tvm.IRModule, scheduled: tvm.IRModule, target: Target, rules: Sequence[Rule], decisions: Decisions
) -> list[tirx.PrimFunc]:
    """The programs whose decided kernels ask for more memory than the default ones, those that ask for least first."""
    found: list[tuple[int, tirx.PrimFunc]] = []
    for name, program in module.functions.items():
        if not isinstance(program, tirx.PrimFunc) or decisions.taken[program][1] == "default":
            continue
        space = first_space(rules, program, target.machine)
        if decisions.taken[program][0] == space.default:
            continue
        kernel, default = demand(scheduled[name.name_hint]), demand(space.apply(space.default).mod["main"])
        if more := asks_more(*kernel, *default):
            found.append((more, program))
    return [program for _, program in sorted(found, key=lambda entry: entry[0])]


def demand(program: tirx.PrimFunc) -> tuple[int, Mapping[str, tuple[int, bool]]]:
    """Bytes of scratch memory, and how the output may lie over each input."""
    attributes = (program if "stack.c" in program.attrs else print_kernel(program, "a kernel")).attrs
    overlaps = {key: (int(distance), bool(exact)) for key, (distance, exact) in json.loads(str(attributes["stack.overlap"])).items()}
    return int(attributes["stack.scratch"]), overlaps


def asks_more(scratch: int, overlaps: Mapping[str, tuple[int, bool]], default: int, usual: Mapping[str, tuple[int, bool]]) -> int:
    """How many bytes more than the default's scratch memory, 1 where it only lets its output lie over less; 0 where neither is so."""
    apart = any(key not in overlaps or overlaps[key][0] > distance or overlaps[key][1] > exact for key, (distance, exact) in usual.items())
    return max(scratch - default, int(apart))


def needed(scheduled: tvm.IRModule, signature: Signature, target: Target) -> float:
    """Bytes of the arena; on a board how many of its memories it takes, infinite where it fits in none."""
    network = read_network(print_kernels(scheduled), signature, "model")
    try:
        arenas = place_network(network, target.memory, target.name).arenas
    except DoesNotFit:
        return inf
    return len(arenas) if target.memory else sum(arenas)
