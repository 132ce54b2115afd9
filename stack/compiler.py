"""The whole compiler on one screen."""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx
import tvm

from relay_passes.choices import Choices
from schedules.apply import schedule
from stack.emit.emit import emit
from stack.emit.library_sources import NOTHING, find_tree
from stack.frontends.load import load
from stack.library import Library, checked_threads
from stack.manifest import parse
from stack.trace import instruments, show_programs
from targets.registry import family_of, find

Progress = Callable[[str, int, int], None]


def compile(
    model: str | Path | bytes | onnx.ModelProto,
    target: str = "x86",
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    threads: int | None = None,
    cmsis_nn: str | Path | None = None,
    on_progress: Progress | None = None,
) -> Library:
    """Compile a model, an ONNX or TFLite file or one in memory, into a library for one kind of machine.

    `target` is a name that `stackc targets` lists, or the path of a board's .toml. `shapes` fixes the inputs whose shapes the file leaves
    open. `threads` is how many the result computes with (default: all cores this process may use). `cmsis_nn` is Arm's source tree of that
    name: on Cortex-M each function is then its kernel or ours, whichever counts fewer instructions in QEMU. `on_progress` is called with
    (stage, done, total).
    StackError says what the caller can mend: a model that cannot be read, operators without support, a shape that is missing.

        >>> library = stack.compile("add.onnx", "x86", shapes={"x": (1, 4)})
        >>> print(*library.inputs, *library.outputs)
        x: float32[1, 4] y: float32[1, 4]
    """
    report = on_progress or (lambda stage, done, total: None)
    threads = checked_threads(threads)
    machine = find(target)
    family = family_of(machine)
    tree = find_tree(Path(cmsis_nn), machine.family, machine.name) if cmsis_nn else None
    report("import", 0, 1)
    network = load(model, shapes or {})  # file -> Relax
    module, signature = network.module, network.signature()
    del network  # it would keep the weights as they were before the passes
    passes = family.graph_passes(machine.machine, Choices())
    with tvm.transform.PassContext(instruments=instruments()):
        for done, graph_pass in enumerate(passes):  # Relax -> Relax that calls TensorIR
            report("graph", done, len(passes))
            module = graph_pass(module)
    rules, attached = family.rules, NOTHING
    if family.container == "c":
        from stack.lower_peak import lower_peak

        module = lower_peak(module, signature, rules, machine.machine)
    if tree:
        from stack.choose_kernels import Network, choose  # with all that runs firmware

        rules, attached = choose(Network(module, signature, machine, family), tree, lambda done, total: report("count", done, total))
    module = schedule(module, rules, machine.machine, lambda done, total: report("schedule", done, total))
    show_programs(module)
    folder = Path(tempfile.mkdtemp(prefix="stack-"))
    try:
        emit(signature, module, machine, family, folder, lambda done, total: report("build", done, total), attached)
        library = Library(folder, parse(folder), threads)
    except BaseException:
        shutil.rmtree(folder)
        raise
    weakref.finalize(library, shutil.rmtree, folder, ignore_errors=True)  # `save` makes a copy that stays
    return library
