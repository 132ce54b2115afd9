"""For each program our kernel or the library's, whichever takes fewer instructions: both are counted in QEMU, layer by layer.

in:  IRModule, Relax main that calls unscheduled integer programs, and CMSIS-NN's source tree
out: the rules that make this choice, and the library's files that it needs

Every output of a layer is compared as well, and a program whose library kernel computes anything else than ours keeps ours. Whether the
network as a whole is small enough for a board is asked with its final kernels.
"""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst

from schedules import integer
from schedules.apply import schedule
from schedules.integer import Convolution
from schedules.mcu.cmsis_nn import DENSE, HEADER, Call, cmsis_nn, functions_for, scratch_question
from schedules.rule import Rule
from stack.emit.c_network import read_network
from stack.emit.c_printer import print_kernels
from stack.emit.emit import emit
from stack.emit.library_sources import Attached, Tree
from stack.emit.placement import place_network
from stack.errors import DoesNotFit
from stack.frontends.model import Signature
from stack.manifest import parse, tensors
from stack.samples import draw
from targets.cortex_m.ask import ask, core_of
from targets.cortex_m.qemu import find_qemu
from targets.cortex_m.runner import open_runner
from targets.cortex_m.toolchain import find_newlib
from targets.runner import Array
from targets.target import Family, Target

RUNS = 3  # inputs on which outputs are compared
Calls = Mapping[Convolution, Call]


@dataclass(frozen=True)
class Trial:
    """What a network with some kernels did: instructions of each program and the operators that call it, and all outputs for each input."""

    counts: Mapping[object, int]
    places: Mapping[object, Sequence[int]]
    outputs: Sequence[Sequence[Array]]


@dataclass(frozen=True)
class Network:
    """One network on its way to one target."""

    module: tvm.IRModule
    signature: Signature
    target: Target
    family: Family

    def scheduled(self, calls: Calls, module: tvm.IRModule | None = None) -> tvm.IRModule:
        return schedule(module or self.module, [cmsis_nn(calls), *self.family.rules], self.target.machine)

    def layers(self) -> list[tuple[relax.Call, object]]:
        """The calls of programs that say what they compute, which are those with MACs, in order."""
        found: list[tuple[relax.Call, object]] = []
        for block in self.module["main"].body.blocks:
            for binding in block.bindings:
                value = binding.value
                if isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.GlobalVar) and (op := integer.read(self.module[value.op])):
                    found.append((value, op))
        return found


def choose(network: Network, tree: Tree, on_progress: Callable[[int, int], None]) -> tuple[Sequence[Rule], Attached]:
    """The rules, and what a project then needs of the library.

    `on_progress` gets (done, total). ToolMissing where nothing can be counted.
    """
    find_newlib()
    find_qemu()
    on_progress(0, 3)
    offered, lacking = offer(network, tree)
    ours = attempt(network, tree, {})
    on_progress(1, 3)
    calls, differing = dict(offered), []
    while wrong := first_difference(network, ours, theirs := attempt(network, tree, calls)):
        differing.append(wrong)
        del calls[wrong]
    on_progress(2, 3)
    gains = {op: ours.counts[op] - theirs.counts[op] for op in calls}
    taken = fitting(network, {op: calls[op] for op in calls if gains[op] > 0}, gains)
    said = {
        "counts": [
            {"layers": ours.places[op], "function": call.function, "ours": ours.counts[op], "theirs": theirs.counts[op]}
            for op, call in calls.items()
        ],
        "lacks": lacking,
        "differs": [ours.places[op] for op in differing],
    }
    files = tree.files(sorted({call.function for call in taken.values()})) if taken else {}
    on_progress(3, 3)
    return [cmsis_nn(taken), *network.family.rules], Attached(files, {"cmsis_nn": said})


def offer(network: Network, tree: Tree) -> tuple[dict[Convolution, Call], dict[str, list[str]]]:
    """Which function of the library computes each program; and what the tree lacks of the functions that would."""
    scales: dict[Convolution, set[bool]] = defaultdict(set)
    for call, op in network.layers():
        if not isinstance(op, Convolution):
            continue
        _, _, multiplier, shift = (argument.value.numpy() for argument in call.args[:-1] if isinstance(argument, GenericConst))
        scales[op].add(len(np.unique(np.stack([multiplier, shift]), axis=1).T) == 1)
    candidates = [(op, function) for op, one in scales.items() for function in functions_for(op, one_scale=one == {True})]
    needed = {function: tree.lacks(function) + tree.lacks(f"{function}_get_buffer_size") for _, function in candidates}
    candidates = [(op, function) for op, function in candidates if not needed[function]]
    offered: dict[Convolution, Call] = {}
    if candidates:
        asked = [name for _, function in candidates for name in (function, f"{function}_get_buffer_size")]
        sizes = ask(network.target, [scratch_question(*candidate) for candidate in candidates], HEADER, tree.files(asked))
        for (op, function), scratch in zip(candidates, sizes, strict=True):
            if not (function == DENSE and scratch):  # newer versions want the sums of the weights there, computed before
                offered.setdefault(op, Call(function, scratch))
    return offered, {function: lacks for function, lacks in needed.items() if lacks}


def attempt(network: Network, tree: Tree, calls: Calls) -> Trial:
    """The network with `calls` of the library, run in QEMU."""
    watched, signature = watch(network)
    module = network.scheduled(calls, watched)
    files = tree.files(sorted({call.function for call in calls.values()})) if calls else {}
    with tempfile.TemporaryDirectory(prefix="stack-count-") as work:
        emit(signature, module, core_of(network.target), network.family, Path(work), lambda done, total: None, Attached(files))
        manifest = parse(Path(work))
        runner = open_runner(Path(work), manifest)
        try:
            counts: dict[object, int] = defaultdict(int)
            places: dict[object, list[int]] = defaultdict(list)
            every = []
            for seed in range(RUNS):
                outputs = [np.empty(entry["shape"], entry["dtype"]) for entry in manifest["outputs"]]
                spent = runner.profile(list(draw(tensors(manifest["inputs"]), seed).values()), outputs)
                every.append(outputs)
                if seed == 0:
                    of_layers = [index for index, operator in enumerate(manifest["operators"]) if operator["macs"]]
                    for (_, op), index in zip(network.layers(), of_layers, strict=True):
                        counts[op] += int(spent[index])
                        places[op].append(index + 1)
        finally:
            runner.close()
    return Trial(counts, places, every)


def watch(network: Network) -> tuple[tvm.IRModule, Signature]:
    """The network with the output of each layer among its outputs."""
    main = network.module["main"]
    results = [call.args[-1] for call, _ in network.layers()]
    tuples = {b.var: b.value for block in main.body.blocks for b in block.bindings if isinstance(b.value, relax.Tuple)}
    returned = tuples.get(main.body.body, main.body.body)
    fields = list(returned.fields) if isinstance(returned, relax.Tuple) else [returned]
    outputs = len(network.signature.output_names)
    body = relax.SeqExpr(main.body.blocks, relax.Tuple([*fields[:outputs], *results, *fields[outputs:]]))
    module = tvm.IRModule(dict(network.module.functions), attrs=network.module.attrs)
    module["main"] = relax.Function(main.params, body, main.ret_ty, main.is_pure, main.attrs)
    names = [f"result of layer {index + 1}" for index in range(len(results))]
    return module, replace(network.signature, output_names=[*network.signature.output_names, *names])


def first_difference(network: Network, ours: Trial, theirs: Trial) -> Convolution | None:
    """The program of the first layer whose outputs differ."""
    for index, (_, op) in enumerate(network.layers(), len(network.signature.output_names)):
        same = all(np.array_equal(a[index], b[index]) for a, b in zip(ours.outputs, theirs.outputs, strict=True))
        if isinstance(op, Convolution) and not same:
            return op
    return None


def fitting(network: Network, calls: Calls, gains: Mapping[Convolution, int]) -> Calls:
    """`calls`, without those that gain least where the network would not fit into the board's memories with all of them."""
    left = sorted(calls, key=lambda op: -gains[op]) if network.target.memory else []
    while left:
        chosen = {op: calls[op] for op in left}
        try:
            module = print_kernels(network.scheduled(chosen))
            place_network(read_network(module, network.signature, network.signature.name), network.target.memory, network.target.name)
            return chosen
        except DoesNotFit:
            left.pop()
    return {} if network.target.memory else calls
