"""The whole compiler on one screen."""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import tvm

from relay_passes.choices import Choices
from schedules.apply import schedule
from schedules.rule import Rule
from stack import knobs
from stack.databases import reading
from stack.decide import Decisions, permitting
from stack.emit.emit import emit
from stack.emit.library_sources import NOTHING, Attached, find_tree
from stack.frontends.model import Signature
from stack.graph import read
from stack.library import Library, checked_threads
from stack.manifest import parse
from stack.trace import show_programs
from targets.registry import family_of, find
from targets.target import Family, Target

Progress = Callable[[str, int, int], None]


def compile(
    model: str | Path | bytes | onnx.ModelProto,
    target: str = "x86",
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    threads: int | None = None,
    cmsis_nn: str | Path | None = None,
    database: str | Path | None = None,
    untuned: bool = False,
    precision: str = "f32",
    on_progress: Progress | None = None,
) -> Library:
    """Compile a model, an ONNX or TFLite file or one in memory, into a library for one kind of machine.

    `target` is a name that `stackc targets` lists, or the path of a board's .toml. `shapes` fixes the inputs whose shapes the file leaves
    open. `threads` is how many the result computes with (default: all cores this process may use). `cmsis_nn` is Arm's source tree of that
    name: on Cortex-M each function is then its kernel or ours, whichever counts fewer instructions in QEMU. `database` is where
    `stack.tune` left its decisions, a file or a URL (default: what STACK_DATABASE names, or none); programs that it does not know get the
    decisions that ship with Stack, or each schedule's own default, as all of them do where `untuned` asks for it. `precision` "bf16" lets
    products of floats be computed in bfloat16. `on_progress` is called with (stage, done, total).
    StackError says what the caller can mend: a model that cannot be read, operators without support, a shape that is missing.

        >>> library = stack.compile("add.onnx", "x86", shapes={"x": (1, 4)})
        >>> print(*library.inputs, *library.outputs)
        x: float32[1, 4] y: float32[1, 4]
    """
    report = on_progress or (lambda stage, done, total: None)
    threads = checked_threads(threads)
    machine = permitting(find(target), precision)
    family = family_of(machine)
    tree = find_tree(Path(cmsis_nn), machine.family, machine.name) if cmsis_nn else None
    with reading(None if untuned else database or knobs.database()) as store:
        decisions = Decisions(machine, store, untuned, precision)
        report("import", 0, 1)
        graph = read(model, machine, family, shapes or {})  # file -> Relax
        choices = Choices(decisions.choices(graph.key))
        module = graph.programs(choices, lambda done, total: report("graph", done, total))  # Relax -> Relax that calls TensorIR
        signature, rules, attached = graph.signature, family.rules, NOTHING
        del graph  # it would keep the weights as they were before the passes
        if tree:
            from stack.choose_kernels import Network, choose  # with all that runs firmware

            rules, attached = choose(Network(module, signature, machine, family), tree, lambda done, total: report("count", done, total))
        return build(module, signature, machine, family, decisions, rules, attached, threads, report)


def build(
    module: tvm.IRModule,
    signature: Signature,
    target: Target,
    family: Family,
    decisions: Decisions,
    rules: Sequence[Rule],
    attached: Attached,
    threads: int,
    report: Progress,
    place: Mapping[str, str] | None = None,
) -> Library:
    """The second half: Relax that calls unscheduled TensorIR -> a library, which runs at `place`."""
    scheduled = schedule(module, rules, target.machine, lambda done, total: report("schedule", done, total), decisions)
    if family.container == "c":
        from stack.keep_arena import keep_arena

        scheduled = keep_arena(module, scheduled, signature, target, rules, decisions)
    module = decisions.label(module, scheduled)
    show_programs(module)
    attached = replace(attached, said={**attached.said, **decisions.said()})
    folder = Path(tempfile.mkdtemp(prefix="stack-"))
    try:
        emit(signature, module, target, family, folder, lambda done, total: report("build", done, total), attached)
        library = Library(folder, parse(folder), threads, place)
    except BaseException:
        shutil.rmtree(folder)
        raise
    weakref.finalize(library, shutil.rmtree, folder, ignore_errors=True)  # `save` makes a copy that stays
    return library
